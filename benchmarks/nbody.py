"""Gravity among bodies, leapfrog steps: the gradient of the final energy by the initial state.

Ours in two spellings: `tg.scan`, and a plain Python loop that is rolled while it is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numba import njit
from peers import JAX
from runner import BY_HAND, OURS, Entry, Workload, generator, main

import tracegrad as tg

SIZES = ((32, 1000), (128, 100))
"""Bodies, steps."""
DT, SOFTENING = 1e-3, 1e-2


def acceleration(x: Any, mass: Any) -> Any:
    apart = x[None, :, :] - x[:, None, :]
    square = np.sum(apart * apart, axis=2) + SOFTENING
    pull = mass / (square * np.sqrt(square))
    return np.sum(apart * pull[:, :, None], axis=1)


def energy(x: Any, v: Any, mass: Any) -> Any:
    apart = x[None, :, :] - x[:, None, :]
    distance = np.sqrt(np.sum(apart * apart, axis=2) + SOFTENING)
    kinetic = 0.5 * np.sum(mass * np.sum(v * v, axis=1))
    return kinetic - 0.5 * np.sum(mass[:, None] * mass / distance)


def looped(steps: int) -> Callable[..., Any]:
    def final_energy(x: Any, v: Any, mass: Any) -> Any:
        a = acceleration(x, mass)
        for _ in range(steps):
            v = v + 0.5 * DT * a
            x = x + DT * v
            a = acceleration(x, mass)
            v = v + 0.5 * DT * a
        return energy(x, v, mass)

    return final_energy


def scanned(steps: int) -> Callable[..., Any]:
    def final_energy(x: Any, v: Any, mass: Any) -> Any:
        def step(state: Any, _: Any) -> Any:
            x, v, a = state
            v = v + 0.5 * DT * a
            x = x + DT * v
            a = acceleration(x, mass)
            return (x, v + 0.5 * DT * a, a), ()

        (x, v, _), _ = tg.scan(step, (x, v, acceleration(x, mass)), length=steps)
        return energy(x, v, mass)

    return final_energy


def jax_scanned(steps: int) -> Callable[..., Any]:
    def pulls(x: Any, mass: Any) -> Any:
        apart = x[None, :, :] - x[:, None, :]
        square = jnp.sum(apart * apart, axis=2) + SOFTENING
        return jnp.sum(apart * (mass / (square * jnp.sqrt(square)))[:, :, None], axis=1)

    def final_energy(x: Any, v: Any, mass: Any) -> Any:
        def step(state: Any, _: Any) -> Any:
            x, v, a = state
            v = v + 0.5 * DT * a
            x = x + DT * v
            a = pulls(x, mass)
            return (x, v + 0.5 * DT * a, a), ()

        (x, v, _), _ = jax.lax.scan(step, (x, v, pulls(x, mass)), None, length=steps)
        apart = x[None, :, :] - x[:, None, :]
        distance = jnp.sqrt(jnp.sum(apart * apart, axis=2) + SOFTENING)
        kinetic = 0.5 * jnp.sum(mass * jnp.sum(v * v, axis=1))
        return kinetic - 0.5 * jnp.sum(mass[:, None] * mass / distance)

    return final_energy


@njit(error_model="numpy")
def pull_all(x, mass, a):
    """`a[i] = sum_j m_j (x_j - x_i) / |x_j - x_i|^3`, each pair once."""
    a[:] = 0.0
    for i in range(len(x)):
        for j in range(i):
            dx, dy, dz = x[j, 0] - x[i, 0], x[j, 1] - x[i, 1], x[j, 2] - x[i, 2]
            square = dx * dx + dy * dy + dz * dz + SOFTENING
            s = 1.0 / (square * np.sqrt(square))
            a[i, 0] += mass[j] * s * dx
            a[i, 1] += mass[j] * s * dy
            a[i, 2] += mass[j] * s * dz
            a[j, 0] -= mass[i] * s * dx
            a[j, 1] -= mass[i] * s * dy
            a[j, 2] -= mass[i] * s * dz


@njit(error_model="numpy")
def pull_back(x, mass, w, d_x):
    """Adds the transposed Jacobian of `pull_all` times `w` to `d_x`."""
    for i in range(len(x)):
        for j in range(i):
            dx, dy, dz = x[j, 0] - x[i, 0], x[j, 1] - x[i, 1], x[j, 2] - x[i, 2]
            square = dx * dx + dy * dy + dz * dz + SOFTENING
            s = 1.0 / (square * np.sqrt(square))
            ux = mass[j] * w[i, 0] - mass[i] * w[j, 0]
            uy = mass[j] * w[i, 1] - mass[i] * w[j, 1]
            uz = mass[j] * w[i, 2] - mass[i] * w[j, 2]
            along = 3.0 * s / square * (dx * ux + dy * uy + dz * uz)
            gx, gy, gz = s * ux - along * dx, s * uy - along * dy, s * uz - along * dz
            d_x[i, 0] -= gx
            d_x[i, 1] -= gy
            d_x[i, 2] -= gz
            d_x[j, 0] += gx
            d_x[j, 1] += gy
            d_x[j, 2] += gz


@njit(error_model="numpy")
def by_hand(x, v, mass, steps):
    n = len(x)
    x, v, a = x.copy(), v.copy(), np.empty((n, 3))
    path = np.empty((steps + 1, n, 3))
    path[0] = x
    pull_all(x, mass, a)
    for t in range(steps):
        for i in range(n):
            for k in range(3):
                v[i, k] += 0.5 * DT * a[i, k]
                x[i, k] += DT * v[i, k]
        pull_all(x, mass, a)
        path[t + 1] = x
        for i in range(n):
            for k in range(3):
                v[i, k] += 0.5 * DT * a[i, k]
    value = 0.0
    d_x, d_v, d_a = np.zeros((n, 3)), np.empty((n, 3)), np.zeros((n, 3))
    for i in range(n):
        for k in range(3):
            value += 0.5 * mass[i] * v[i, k] * v[i, k]
            d_v[i, k] = mass[i] * v[i, k]
        for j in range(n):
            square = SOFTENING
            for k in range(3):
                square += (x[j, k] - x[i, k]) ** 2
            value -= 0.5 * mass[i] * mass[j] / np.sqrt(square)
            for k in range(3):
                d_x[i, k] -= mass[i] * mass[j] * (x[j, k] - x[i, k]) / (square * np.sqrt(square))
    for t in range(steps, 0, -1):
        for i in range(n):
            for k in range(3):
                d_a[i, k] += 0.5 * DT * d_v[i, k]
        pull_back(path[t], mass, d_a, d_x)
        for i in range(n):
            for k in range(3):
                d_v[i, k] += DT * d_x[i, k]
                d_a[i, k] = 0.5 * DT * d_v[i, k]
    pull_back(path[0], mass, d_a, d_x)
    return value, d_x, d_v


def flat(both: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        value, gradients = both(*arguments)
        return value, *gradients

    return run


def workloads() -> Iterator[Workload]:
    for bodies, steps in SIZES:
        rng = generator()
        arguments = (
            rng.normal(size=(bodies, 3)),
            0.1 * rng.normal(size=(bodies, 3)),
            rng.uniform(0.5, 1.5, bodies) / bodies,
        )
        in_jax = jax.jit(jax.value_and_grad(jax_scanned(steps), argnums=(0, 1)))
        yield Workload(
            f"{bodies} bodies, {steps} steps",
            arguments,
            lambda *a, steps=steps: by_hand(*a, steps),
            (
                Entry("tracegrad, scan", OURS, flat(tg.value_and_grad(scanned(steps), (0, 1)))),
                Entry("tracegrad, loop", OURS, flat(tg.value_and_grad(looped(steps), (0, 1)))),
                Entry("numba by hand", BY_HAND, lambda *a, steps=steps: by_hand(*a, steps)),
                Entry("jax.jit, scan", JAX, flat(in_jax)),
            ),
            tolerance=1e-8,
        )


if __name__ == "__main__":
    main(workloads())
