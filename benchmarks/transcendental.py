"""A chain of 15 elementwise operations, most of them transcendental, and a sum, with its gradient.

Memory is touched once if the chain is fused; what is left is the speed of the vector math.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import autograd.numpy as anp
import jax.numpy as jnp
import numba
import numpy as np
import torch
from peers import autograd_entry, jax_entry, our_entry, torch_entry
from runner import BY_HAND, NUMPY, Entry, Workload, generator, main

SIZES = (1_000, 1_000_000, 20_000_000)
PARALLEL_FROM = 20_000


def chain(xp: Any) -> Any:
    """The same program in any library with NumPy's names."""

    def loss(x: Any) -> Any:
        a = xp.tanh(x) + xp.exp(-x * x)
        b = xp.sin(3 * x) * a + xp.log1p(a * a)
        return xp.sum(xp.sqrt(b * b + 1) / (1 + xp.exp(-x)))

    return loss


def by_numpy(x: np.ndarray) -> Any:
    t, e, s, c = np.tanh(x), np.exp(-x * x), np.sin(3 * x), np.cos(3 * x)
    a = t + e
    b = s * a + np.log1p(a * a)
    root, g = np.sqrt(b * b + 1), 1 / (1 + np.exp(-x))
    d_a = 1 - t * t - 2 * x * e
    d_b = 3 * c * a + s * d_a + 2 * a / (1 + a * a) * d_a
    return np.sum(root * g), b / root * d_b * g + root * g * (1 - g)


@numba.njit(error_model="numpy", nogil=True, fastmath={"reassoc", "nsz", "contract"})
def part(x, gradient, start, stop):
    total = 0.0
    for i in range(start, stop):
        v = x[i]
        t, e, s, c = math.tanh(v), math.exp(-v * v), math.sin(3.0 * v), math.cos(3.0 * v)
        a = t + e
        b = s * a + math.log1p(a * a)
        root, g = math.sqrt(b * b + 1.0), 1.0 / (1.0 + math.exp(-v))
        d_a = 1.0 - t * t - 2.0 * v * e
        d_b = 3.0 * c * a + s * d_a + 2.0 * a / (1.0 + a * a) * d_a
        total += root * g
        gradient[i] = b / root * d_b * g + root * g * (1.0 - g)
    return total


@numba.njit(error_model="numpy", nogil=True)
def by_hand(x):
    gradient = np.empty_like(x)
    return part(x, gradient, 0, x.size), gradient


@numba.njit(error_model="numpy", parallel=True)
def by_hand_parallel(x):
    gradient = np.empty_like(x)
    parts = numba.get_num_threads()
    totals = np.zeros(parts)
    for k in numba.prange(parts):
        totals[k] = part(x, gradient, k * x.size // parts, (k + 1) * x.size // parts)
    return totals.sum(), gradient


def workloads() -> Iterator[Workload]:
    for dtype in (np.float64, np.float32):
        for n in SIZES:
            x = generator().normal(size=n).astype(dtype)
            entries = [
                our_entry(chain(np)),
                Entry("NumPy by hand", NUMPY, by_numpy),
                jax_entry(chain(jnp)),
                torch_entry(chain(torch)),
                autograd_entry(chain(anp)),
            ]
            if dtype is np.float64:
                hand = by_hand_parallel if n >= PARALLEL_FROM else by_hand
                entries.insert(1, Entry("numba by hand (libm)", BY_HAND, hand))
            yield Workload(f"transcendental chain n={n} {x.dtype}", (x,), by_numpy, tuple(entries))


if __name__ == "__main__":
    main(workloads())
