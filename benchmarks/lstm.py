"""An LSTM over a sequence, float32: value and gradients by all weights, forward and backward.

Ours in two spellings: `tg.scan`, and a plain Python loop that is rolled while it is traced.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from numba import njit
from peers import TORCH, jax_entry, our_entry
from runner import BY_HAND, NUMPY, Entry, Workload, generator, main

import tracegrad as tg

SIZES = ((100, 16, 64), (50, 32, 128))
"""Steps, batch, hidden (and input) features."""


def cell(h: Any, c: Any, x: Any, w: Any, u: Any, b: Any) -> Any:
    n = h.shape[1]
    gates = x @ w + h @ u + b
    i, f = tg.sigmoid(gates[:, :n]), tg.sigmoid(gates[:, n : 2 * n])
    g, o = np.tanh(gates[:, 2 * n : 3 * n]), tg.sigmoid(gates[:, 3 * n :])
    c = f * c + i * g
    return o * np.tanh(c), c


def looped(w: Any, u: Any, b: Any, xs: Any, h: Any) -> Any:
    c, total = h, 0.0
    for x in xs:
        h, c = cell(h, c, x, w, u, b)
        total = total + np.sum(h * h)
    return total


def scanned(w: Any, u: Any, b: Any, xs: Any, h: Any) -> Any:
    def step(state: Any, x: Any) -> Any:
        h, c = cell(*state, x, w, u, b)
        return (h, c), np.sum(h * h)

    return np.sum(tg.scan(step, (h, h), xs)[1])


def jax_scanned(w: Any, u: Any, b: Any, xs: Any, h: Any) -> Any:
    def step(state: Any, x: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(x @ w + h @ u + b, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), jnp.sum(h * h)

    return jnp.sum(jax.lax.scan(step, (h, h), xs)[1])


def torch_entry(size: int) -> Entry:
    """`nn.LSTM`, whose kernels are written for this; its weights are set from the arguments."""
    layer = torch.nn.LSTM(size, size)

    def run(w: Any, u: Any, b: Any, xs: Any, h: Any) -> Any:
        parameters = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0]
        with torch.no_grad():
            for own, given in zip(parameters, (w.T, u.T, b), strict=True):
                own.copy_(given)
            layer.bias_hh_l0.zero_()
        ys, _ = layer(xs, (h[None], h[None]))
        value = torch.sum(ys * ys)
        d_w, d_u, d_b = torch.autograd.grad(value, parameters)
        return value.detach(), d_w.T, d_u.T, d_b

    return Entry("PyTorch nn.LSTM", TORCH, run)


def by_numpy(w: Any, u: Any, b: Any, xs: Any, h: Any) -> Any:
    steps, batch, n = xs.shape
    one = w.dtype.type(1)
    gates = (xs.reshape(-1, n) @ w).reshape(steps, batch, 4 * n) + b
    hs, cs = np.empty((steps + 1, batch, n), w.dtype), np.empty((steps + 1, batch, n), w.dtype)
    hs[0] = cs[0] = h
    for t in range(steps):
        z = gates[t]
        z += hs[t] @ u
        z[:, 2 * n : 3 * n] = np.tanh(z[:, 2 * n : 3 * n])
        for k in (0, 1, 3):
            part = z[:, k * n : (k + 1) * n]
            part[:] = one / (one + np.exp(-part))
        i, f, g, o = (z[:, k * n : (k + 1) * n] for k in range(4))
        cs[t + 1] = f * cs[t] + i * g
        hs[t + 1] = o * np.tanh(cs[t + 1])
    d_h, d_c = np.zeros_like(h), np.zeros_like(h)
    for t in range(steps - 1, -1, -1):
        z = gates[t]
        i, f, g, o = (z[:, k * n : (k + 1) * n].copy() for k in range(4))
        d_h = d_h + 2 * hs[t + 1]
        squashed = np.tanh(cs[t + 1])
        d_c = d_c + d_h * o * (one - squashed * squashed)
        z[:, :n] = d_c * g * i * (one - i)
        z[:, n : 2 * n] = d_c * cs[t] * f * (one - f)
        z[:, 2 * n : 3 * n] = d_c * i * (one - g * g)
        z[:, 3 * n :] = d_h * squashed * o * (one - o)
        d_h, d_c = z @ u.T, d_c * f
    flat = gates.reshape(-1, 4 * n)
    d_w = xs.reshape(-1, n).T @ flat
    return np.sum(hs[1:] ** 2), d_w, hs[:-1].reshape(-1, n).T @ flat, flat.sum(axis=0)


@njit(error_model="numpy", fastmath={"nsz", "contract", "reassoc"})
def by_hand(w, u, b, xs, h):
    steps, batch, n = xs.shape
    one, half = np.float32(1), np.float32(0.5)
    flat = np.dot(xs.reshape(-1, n), w)
    gates = flat.reshape(steps, batch, 4 * n)
    hs, cs = (
        np.empty((steps + 1, batch, n), np.float32),
        np.empty((steps + 1, batch, n), np.float32),
    )
    ts = np.empty((steps, batch, n), np.float32)
    hs[0] = h
    cs[0] = h
    z = np.empty((batch, 4 * n), np.float32)
    value = np.float32(0)
    for t in range(steps):
        np.dot(hs[t], u, z)
        for r in range(batch):
            for k in range(4 * n):
                gate = gates[t, r, k] + z[r, k] + b[k]
                if 2 * n <= k < 3 * n:
                    gates[t, r, k] = np.tanh(gate)
                else:
                    gates[t, r, k] = half * np.tanh(half * gate) + half
            for k in range(n):
                c = gates[t, r, n + k] * cs[t, r, k] + gates[t, r, k] * gates[t, r, 2 * n + k]
                cs[t + 1, r, k] = c
                ts[t, r, k] = np.tanh(c)
                hs[t + 1, r, k] = gates[t, r, 3 * n + k] * ts[t, r, k]
                value += hs[t + 1, r, k] * hs[t + 1, r, k]
    d_h, d_c = np.zeros((batch, n), np.float32), np.zeros((batch, n), np.float32)
    d_b = np.zeros(4 * n, np.float32)
    turned = np.ascontiguousarray(u.T)
    for t in range(steps - 1, -1, -1):
        for r in range(batch):
            for k in range(n):
                i, f = gates[t, r, k], gates[t, r, n + k]
                g, o = gates[t, r, 2 * n + k], gates[t, r, 3 * n + k]
                d = d_h[r, k] + np.float32(2) * hs[t + 1, r, k]
                dc = d_c[r, k] + d * o * (one - ts[t, r, k] * ts[t, r, k])
                gates[t, r, k] = dc * g * i * (one - i)
                gates[t, r, n + k] = dc * cs[t, r, k] * f * (one - f)
                gates[t, r, 2 * n + k] = dc * i * (one - g * g)
                gates[t, r, 3 * n + k] = d * ts[t, r, k] * o * (one - o)
                d_c[r, k] = dc * f
            for k in range(4 * n):
                d_b[k] += gates[t, r, k]
        np.dot(gates[t], turned, d_h)
    d_w = np.dot(xs.reshape(-1, n).T, flat)
    return value, d_w, np.dot(hs[:-1].reshape(-1, n).T, flat), d_b


def named(name: str, entry: Entry) -> Entry:
    return Entry(name, entry.library, entry.function)


def workloads() -> Iterator[Workload]:
    for steps, batch, size in SIZES:
        rng = generator()
        arrays = (
            rng.normal(size=(size, 4 * size)) / size**0.5,
            rng.normal(size=(size, 4 * size)) / size**0.5,
            0.1 * rng.normal(size=4 * size),
            rng.normal(size=(steps, batch, size)),
            np.zeros((batch, size)),
        )
        wanted = (0, 1, 2)
        entries: list[Entry] = [
            named("tracegrad, scan", our_entry(scanned, wanted)),
            named("tracegrad, loop", our_entry(looped, wanted)),
            Entry("numba by hand", BY_HAND, by_hand),
            Entry("NumPy by hand", NUMPY, by_numpy),
            named("jax.jit, scan", jax_entry(jax_scanned, wanted)),
            torch_entry(size),
        ]
        yield Workload(
            f"LSTM {steps} steps, batch {batch}, hidden {size} float32",
            tuple(a.astype(np.float32) for a in arrays),
            by_numpy,
            tuple(entries),
            tolerance=1e-4,
        )


if __name__ == "__main__":
    main(workloads())
