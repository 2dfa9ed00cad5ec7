"""Value and gradient of `mean(2 * (x + 1) * (x + 1))`: what a call costs, then memory bandwidth.

python benchmarks/two_line.py --only "(2, 3)"
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import autograd.numpy as anp
import jax.numpy as jnp
import numba
import numpy as np
import torch
from peers import autograd_entry, jax_entry, our_entry, torch_entry
from remote import pytensor_entry
from runner import BY_HAND, NUMPY, Entry, Workload, generator, main

SHAPES = ((2, 3), (100, 100), (1000, 1000), (4096, 4096))
PARALLEL_FROM = 200_000
"""Elements from which two threads pay."""


def loss(x: np.ndarray) -> Any:
    return np.mean(2 * (x + 1) * (x + 1))


def by_numpy(x: np.ndarray) -> Any:
    y = x + 1
    return np.mean(2 * y * y), 4 * y / x.size


@numba.njit(error_model="numpy", nogil=True, fastmath={"reassoc", "nsz", "contract"})
def by_hand(x):
    n, m = x.shape
    scale = 1.0 / (n * m)
    total = 0.0
    gradient = np.empty_like(x)
    for i in range(n):
        for j in range(m):
            y = x[i, j] + 1.0
            total += 2.0 * y * y
            gradient[i, j] = 4.0 * y * scale
    return total * scale, gradient


@numba.njit(error_model="numpy", parallel=True, fastmath={"reassoc", "nsz", "contract"})
def by_hand_parallel(x):
    n, m = x.shape
    scale = 1.0 / (n * m)
    total = 0.0
    gradient = np.empty_like(x)
    for i in numba.prange(n):
        part = 0.0
        for j in range(m):
            y = x[i, j] + 1.0
            part += 2.0 * y * y
            gradient[i, j] = 4.0 * y * scale
        total += part
    return total * scale, gradient


def workloads() -> Iterator[Workload]:
    for shape in SHAPES:
        x = generator().normal(size=shape)
        hand = by_hand_parallel if x.size >= PARALLEL_FROM else by_hand
        yield Workload(
            f"two lines, {shape} float64",
            (x,),
            by_numpy,
            (
                our_entry(loss),
                Entry("numba by hand", BY_HAND, hand),
                Entry("NumPy by hand", NUMPY, by_numpy),
                jax_entry(lambda x: jnp.mean(2 * (x + 1) * (x + 1))),
                torch_entry(lambda x: torch.mean(2 * (x + 1) * (x + 1))),
                pytensor_entry("two_lines"),
                autograd_entry(lambda x: anp.mean(2 * (x + 1) * (x + 1))),
            ),
        )


if __name__ == "__main__":
    main(workloads())
