"""A chain of 15 elementwise operations, most of them transcendental, and a sum, with its gradient.

Memory is touched once if the chain is fused; what is left is the speed of the vector math.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import autograd.numpy as anp
import jax.numpy as jnp
import numba
import numpy as np
import torch
from by_hand import hand_entry, kernel, vector_math
from peers import autograd_entry, compiled_torch_entry, jax_entry, our_entry, torch_entry
from remote import pytensor_entry
from runner import NUMPY, Entry, Workload, generator, main
from surroundings import cpu_count

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


def part(dtype: Any) -> Any:
    """Value and gradient over a range of elements, in one loop."""
    exp, tanh, sin, cos, log1p = vector_math(dtype, "exp", "tanh", "sin", "cos", "log1p")
    zero, one, two, three = (dtype(v) for v in (0, 1, 2, 3))

    @kernel
    def chain_part(x, gradient, start, stop):
        total = zero
        for i in range(start, stop):
            v = x[i]
            t, e, s, c = tanh(v), exp(-v * v), sin(three * v), cos(three * v)
            a = t + e
            b = s * a + log1p(a * a)
            root, g = np.sqrt(b * b + one), one / (one + exp(-v))
            d_a = one - t * t - two * v * e
            d_b = three * c * a + s * d_a + two * a / (one + a * a) * d_a
            total += root * g
            gradient[i] = b / root * d_b * g + root * g * (one - g)
        return total

    return chain_part


def by_hand(dtype: Any) -> Any:
    chain_part = part(dtype)

    @numba.njit(error_model="numpy", nogil=True)
    def whole(x):
        gradient = np.empty_like(x)
        return chain_part(x, gradient, 0, x.size), gradient

    return whole


def by_hand_parallel(dtype: Any) -> Any:
    chain_part = part(dtype)

    @numba.njit(error_model="numpy", parallel=True)
    def whole(x):
        gradient = np.empty_like(x)
        parts = numba.get_num_threads()
        totals = np.zeros(parts, x.dtype)
        for k in numba.prange(parts):
            totals[k] = chain_part(x, gradient, k * x.size // parts, (k + 1) * x.size // parts)
        return totals.sum(), gradient

    return whole


def workloads() -> Iterator[Workload]:
    for dtype in (np.float64, np.float32):
        for n in SIZES:
            x = generator().normal(size=n).astype(dtype)
            hand = by_hand_parallel if n >= PARALLEL_FROM and cpu_count() > 1 else by_hand
            entries = (
                our_entry(chain(np)),
                hand_entry(hand(dtype)),
                Entry("NumPy by hand", NUMPY, by_numpy),
                jax_entry(chain(jnp)),
                torch_entry(chain(torch)),
                compiled_torch_entry(chain(torch)),
                pytensor_entry("chain"),
                autograd_entry(chain(anp)),
            )
            yield Workload(f"transcendental chain n={n} {x.dtype}", (x,), by_numpy, entries)


if __name__ == "__main__":
    main(workloads())
