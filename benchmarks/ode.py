"""An adaptive ODE solver: Dormand and Prince's pair of orders 5 and 4 on Van der Pol's oscillator,
gradient of the final state's energy by the initial state and the damping.

The step size follows the estimated error, so nobody knows the number of steps ahead: ours is a
`tg.while_loop` differentiated in reverse, by hand there is a tape that grows. Every accepted and
rejected step is differentiated, the choice of the step size included. JAX cannot reverse its
`while_loop`; what its users write is a `scan` of a bounded number of steps, those after the end
skipped by `cond`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numba import njit
from peers import JAX
from runner import BY_HAND, OURS, Entry, Workload, main

import tracegrad as tg

DAMPINGS = (5.0, 50.0)
END, RELATIVE, ABSOLUTE = 20.0, 1e-8, 1e-10
MOST = {5.0: 1024, 50.0: 4096}
"""Steps at which JAX's scan ends."""

# Dormand and Prince, A family of embedded Runge-Kutta formulae (1980), table 2.
A = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
E = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""Weights of the fifth order minus those of the fourth."""


def solver(np: Any) -> Callable[..., Any]:
    """One step `(t, h, y, k1) -> (t, h, y, k1)`, in NumPy's or JAX's functions; the state is a pair
    of numbers in an array, `k1` its slope, which is the last slope of an accepted step."""

    def slope(y: Any, mu: Any) -> Any:
        return np.stack([y[1], mu * (1 - y[0] * y[0]) * y[1] - y[0]])

    def step(t: Any, h: Any, y: Any, k1: Any, mu: Any) -> Any:
        h = np.minimum(h, END - t)
        slopes, new = [k1], y
        for row in A:
            new = y + h * sum(a * k for a, k in zip(row, slopes, strict=True) if a)
            slopes.append(slope(new, mu))
        error = h * sum(e * k for e, k in zip(E, slopes, strict=True) if e)
        scale = ABSOLUTE + RELATIVE * np.maximum(np.abs(y), np.abs(new))
        norm = np.sqrt(np.mean((error / scale) ** 2))
        accepted = norm <= 1
        factor = np.clip(0.9 * np.maximum(norm, 1e-10) ** -0.2, 0.2, 5.0)
        return (
            np.where(accepted, t + h, t),
            h * factor,
            np.where(accepted, new, y),
            np.where(accepted, slopes[-1], k1),
        )

    def start(y: Any, mu: Any) -> Any:
        return 0.0 * mu, 0.001 + 0.0 * mu, y, slope(y, mu)

    return start, step


def ours(y: Any, mu: Any) -> Any:
    start, step = solver(np)
    state = tg.while_loop(
        lambda state: state[0] < END, lambda state: step(*state, mu), start(y, mu)
    )
    return np.sum(state[2] ** 2)


def in_jax(most: int) -> Callable[..., Any]:
    def energy(y: Any, mu: Any) -> Any:
        start, step = solver(jnp)

        def bounded(state: Any, _: Any) -> Any:
            going = state[0] < END
            return jax.lax.cond(going, lambda s: step(*s, mu), lambda s: s, state), ()

        (_, _, y, _), _ = jax.lax.scan(bounded, start(y, mu), None, length=most)
        return jnp.sum(y * y)

    return jax.jit(jax.value_and_grad(energy, argnums=(0, 1)))


@njit(error_model="numpy")
def forward(y0, y1, mu):
    """The final state, the tape and its length; a row of the tape: `t, h, y, k1` before a step."""
    tape, count = np.empty((64, 6)), 0
    t, h, k0, k1 = 0.0, 0.001, y1, mu * (1 - y0 * y0) * y1 - y0
    k = np.empty((7, 2))
    while t < END:
        if count == len(tape):
            longer = np.empty((2 * count, 6))
            longer[:count] = tape
            tape = longer
        tape[count, 0], tape[count, 1] = t, h
        tape[count, 2], tape[count, 3], tape[count, 4], tape[count, 5] = y0, y1, k0, k1
        count += 1
        h = min(h, END - t)
        new0, new1 = stages(y0, y1, k0, k1, h, mu, k)
        e0, e1 = errors(k, h)
        s0 = ABSOLUTE + RELATIVE * max(abs(y0), abs(new0))
        s1 = ABSOLUTE + RELATIVE * max(abs(y1), abs(new1))
        norm = np.sqrt(0.5 * ((e0 / s0) ** 2 + (e1 / s1) ** 2))
        if norm <= 1:
            t, y0, y1, k0, k1 = t + h, new0, new1, k[6, 0], k[6, 1]
        h *= min(max(0.9 * max(norm, 1e-10) ** -0.2, 0.2), 5.0)
    return y0, y1, tape, count


WEIGHTS = np.zeros((7, 6))
for _row, _weights in enumerate(A):
    WEIGHTS[_row + 1, : len(_weights)] = _weights
ERRORS = np.array(E)


@njit(error_model="numpy")
def stages(y0, y1, k0, k1, h, mu, k):
    """Fills the seven slopes; the new state."""
    k[0, 0], k[0, 1] = k0, k1
    new0, new1 = y0, y1
    for i in range(1, 7):
        s0, s1 = 0.0, 0.0
        for j in range(i):
            s0 += WEIGHTS[i, j] * k[j, 0]
            s1 += WEIGHTS[i, j] * k[j, 1]
        new0, new1 = y0 + h * s0, y1 + h * s1
        k[i, 0], k[i, 1] = new1, mu * (1 - new0 * new0) * new1 - new0
    return new0, new1


@njit(error_model="numpy")
def errors(k, h):
    e0, e1 = 0.0, 0.0
    for i in range(7):
        e0 += ERRORS[i] * k[i, 0]
        e1 += ERRORS[i] * k[i, 1]
    return h * e0, h * e1


@njit(error_model="numpy")
def by_hand(y, mu):
    y0, y1, tape, count = forward(y[0], y[1], mu)
    value = y0 * y0 + y1 * y1
    d_t, d_h, d_y0, d_y1, d_k0, d_k1, d_mu = 0.0, 0.0, 2 * y0, 2 * y1, 0.0, 0.0, 0.0
    k, d = np.empty((7, 2)), np.empty((7, 2))
    for step in range(count - 1, -1, -1):
        t, given = tape[step, 0], tape[step, 1]
        y0, y1 = tape[step, 2], tape[step, 3]
        h = min(given, END - t)
        new0, new1 = stages(y0, y1, tape[step, 4], tape[step, 5], h, mu, k)
        e0, e1 = errors(k, h)
        s0 = ABSOLUTE + RELATIVE * max(abs(y0), abs(new0))
        s1 = ABSOLUTE + RELATIVE * max(abs(y1), abs(new1))
        r0, r1 = e0 / s0, e1 / s1
        norm = np.sqrt(0.5 * (r0 * r0 + r1 * r1))
        large = max(norm, 1e-10)
        power = 0.9 * large**-0.2
        factor = min(max(power, 0.2), 5.0)
        # h' = h * factor(norm)
        d_norm = 0.0
        if 0.2 <= power <= 5.0 and norm > 1e-10:
            d_norm = d_h * h * -0.2 * power / large
        d_step = d_h * factor
        d[:] = 0.0
        d_new0, d_new1 = 0.0, 0.0
        if norm <= 1:
            d_step += d_t
            d_new0, d_new1, d[6, 0], d[6, 1] = d_y0, d_y1, d_k0, d_k1
            d_y0, d_y1, d_k0, d_k1 = 0.0, 0.0, 0.0, 0.0
        d_r0, d_r1 = 0.5 * d_norm * r0 / norm, 0.5 * d_norm * r1 / norm
        d_e0, d_e1 = d_r0 / s0, d_r1 / s1
        d_s0, d_s1 = -d_r0 * r0 / s0 * RELATIVE, -d_r1 * r1 / s1 * RELATIVE
        if abs(new0) > abs(y0):
            d_new0 += d_s0 * np.sign(new0)
        else:
            d_y0 += d_s0 * np.sign(y0)
        if abs(new1) > abs(y1):
            d_new1 += d_s1 * np.sign(new1)
        else:
            d_y1 += d_s1 * np.sign(y1)
        d_step += (d_e0 * e0 + d_e1 * e1) / h
        for i in range(7):
            d[i, 0] += h * ERRORS[i] * d_e0
            d[i, 1] += h * ERRORS[i] * d_e1
        for i in range(6, 0, -1):
            u0, u1 = 0.0, 0.0
            for j in range(i):
                u0 += WEIGHTS[i, j] * k[j, 0]
                u1 += WEIGHTS[i, j] * k[j, 1]
            x0, x1 = y0 + h * u0, y1 + h * u1
            g0 = d[i, 1] * (-2 * mu * x0 * x1 - 1) + (d_new0 if i == 6 else 0.0)
            g1 = d[i, 0] + d[i, 1] * mu * (1 - x0 * x0) + (d_new1 if i == 6 else 0.0)
            d_mu += d[i, 1] * (1 - x0 * x0) * x1
            d_y0 += g0
            d_y1 += g1
            d_step += g0 * u0 + g1 * u1
            for j in range(i):
                d[j, 0] += h * WEIGHTS[i, j] * g0
                d[j, 1] += h * WEIGHTS[i, j] * g1
        d_k0 += d[0, 0]
        d_k1 += d[0, 1]
        if given < END - t:
            d_h = d_step
        else:
            d_h = 0.0
            d_t -= d_step
    y0, y1 = y
    d_y0 += d_k1 * (-2 * mu * y0 * y1 - 1)
    d_y1 += d_k0 + d_k1 * mu * (1 - y0 * y0)
    d_mu += d_k1 * (1 - y0 * y0) * y1
    return value, np.array([d_y0, d_y1]), d_mu


def flat(both: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        value, gradients = both(*arguments)
        return value, *gradients

    return run


def by_python(y: Any, mu: Any) -> Any:
    """The value by the same program step by step; the gradient by the hand-written adjoint."""
    start, step = solver(np)
    state = start(y, mu)
    while state[0] < END:
        state = step(*state, mu)
    return np.sum(state[2] ** 2), *by_hand(y, mu)[1:]


def workloads() -> Iterator[Workload]:
    for mu in DAMPINGS:
        yield Workload(
            f"adaptive ODE, Van der Pol, mu={mu:g}, float64",
            (np.array([2.0, 0.0]), np.float64(mu)),
            by_python,
            (
                Entry("tracegrad", OURS, flat(tg.value_and_grad(ours, (0, 1)))),
                Entry("numba by hand", BY_HAND, by_hand),
                Entry("jax.jit, bounded scan", JAX, flat(in_jax(MOST[mu]))),
            ),
            tolerance=1e-6,
        )


if __name__ == "__main__":
    main(workloads())
