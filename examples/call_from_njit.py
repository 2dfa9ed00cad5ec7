"""Call compiled gradients from your own `@numba.njit` code: a whole optimiser without Python.

`f.compiled(x)` has three numba dispatchers: `value_and_grad`, and the two halves `forward` and
`backward`, with which the caller holds what the forward keeps for the backward.
"""

from __future__ import annotations

import time

import numpy as np
from numba import njit

import tracegrad as tg


@tg.trace
def energy(x):
    """A chain of springs of length 1, and a weak pull to the origin."""
    lengths = np.sqrt((x[1:] - x[:-1]) ** 2 + 1e-12)
    return np.sum((lengths - 1) ** 2) + 0.01 * np.sum(x * x)


x0 = np.linspace(-1.0, 2.0, 12)
value_and_grad = energy.compiled(x0).value_and_grad


@njit
def descend(x, rate, steps):
    """Gradient descent with the heavy-ball momentum of B. T. Polyak (1964)."""
    velocity = np.zeros_like(x)
    for _ in range(steps):
        _, gradient = value_and_grad(x)
        velocity = 0.9 * velocity - rate * gradient
        x = x + velocity
    return x


def main() -> None:
    found = descend(x0, 0.05, 1)  # compiles
    start = time.perf_counter()
    found = descend(x0, 0.05, 2000)
    seconds = time.perf_counter() - start
    value, gradient = energy.value_and_grad(found)
    print(f"2000 steps in {seconds * 1e3:.1f} ms: energy {energy(x0):.4f} -> {value:.4f}")
    print("positions", np.round(found, 3))
    assert np.max(np.abs(gradient)) < 1e-8


if __name__ == "__main__":
    main()
