"""Rosenbrock's valley, value and gradient, n = 2 .. 1000: small vectors, where calls cost most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import autograd.numpy as anp
import numba
import numpy as np
from peers import autograd_entry, jax_entry, our_entry, torch_entry
from remote import pytensor_entry
from runner import BY_HAND, NUMPY, Entry, Workload, generator, main

SIZES = (2, 10, 100, 1000)


def loss(x: Any) -> Any:
    """Written with operators and methods alone, so that every library here takes it."""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def by_numpy(x: np.ndarray) -> Any:
    rise, slack = x[1:] - x[:-1] ** 2, 1 - x[:-1]
    gradient = np.zeros_like(x)
    gradient[1:] = 200 * rise
    gradient[:-1] -= 400 * rise * x[:-1] + 2 * slack
    return np.sum(100 * rise**2 + slack**2), gradient


@numba.njit(error_model="numpy", nogil=True, fastmath={"reassoc", "nsz", "contract"})
def by_hand(x):
    n = x.size
    total = 0.0
    gradient = np.empty_like(x)
    gradient[n - 1] = 200.0 * (x[n - 1] - x[n - 2] * x[n - 2])
    before = 0.0
    for i in range(n - 1):
        rise, slack = x[i + 1] - x[i] * x[i], 1.0 - x[i]
        total += 100.0 * rise * rise + slack * slack
        gradient[i] = before - 400.0 * rise * x[i] - 2.0 * slack
        before = 200.0 * rise
    return total, gradient


def workloads() -> Iterator[Workload]:
    for n in SIZES:
        yield Workload(
            f"Rosenbrock n={n} float64",
            (generator().normal(size=n),),
            by_numpy,
            (
                our_entry(loss),
                Entry("numba by hand", BY_HAND, by_hand),
                Entry("NumPy by hand", NUMPY, by_numpy),
                jax_entry(loss),
                torch_entry(loss),
                pytensor_entry("rosenbrock"),
                autograd_entry(lambda x: anp.sum(loss(x))),
            ),
        )


if __name__ == "__main__":
    main(workloads())
