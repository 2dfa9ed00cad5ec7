"""Logistic regression, mean negative log-likelihood of labels -1 and 1, gradient by the weights.

By hand the matrix is read once: the margins of some rows, then their share of the gradient while
the rows are in cache. Libraries that keep product and transposed product apart read it twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import autograd.numpy as anp
import jax.numpy as jnp
import numba
import numpy as np
import torch
from by_hand import kernel, vector_math
from peers import autograd_entry, jax_entry, our_entry, torch_entry
from remote import pytensor_entry
from runner import BY_HAND, NUMPY, Entry, Workload, generator, main
from surroundings import cpu_count

SIZES = ((100, 10), (1_000, 50), (10_000, 100), (100_000, 200))
PARALLEL_FROM = 20_000
"""Elements of the matrix from which two threads pay."""


def loss(w: np.ndarray, x: np.ndarray, labels: np.ndarray) -> Any:
    return np.mean(np.logaddexp(0, -labels * (x @ w)))


def by_numpy(w: np.ndarray, x: np.ndarray, labels: np.ndarray) -> Any:
    margins = labels * (x @ w)
    slope = -labels / (1 + np.exp(margins)) / len(labels)
    return np.mean(np.logaddexp(0, -margins)), slope @ x


exp, log1p = vector_math(np.float64, "exp", "log1p")


@kernel
def rows(start, stop, w, x, labels, gradient):
    """Sum of losses and of gradients over some rows, in blocks that stay in cache: products, then
    vector math, then the rows again."""
    total, slopes = 0.0, np.empty(128)
    for first in range(start, stop, 128):
        count = min(128, stop - first)
        for i in range(count):
            product = 0.0
            for j in range(w.size):
                product += x[first + i, j] * w[j]
            slopes[i] = product
        for i in range(count):
            label = labels[first + i]
            margin = label * slopes[i]
            decay = exp(-abs(margin))
            total += max(-margin, 0.0) + log1p(decay)
            slopes[i] = -label * (decay if margin > 0 else 1.0) / (1.0 + decay)
        for i in range(count):
            for j in range(w.size):
                gradient[j] += slopes[i] * x[first + i, j]
    return total


@numba.njit(error_model="numpy", nogil=True)
def by_hand(w, x, labels):
    n = labels.size
    gradient = np.zeros_like(w)
    total = rows(0, n, w, x, labels, gradient)
    return total / n, gradient / n


@numba.njit(error_model="numpy", parallel=True)
def by_hand_parallel(w, x, labels):
    n, parts = labels.size, numba.get_num_threads()
    gradients = np.zeros((parts, w.size))
    totals = np.zeros(parts)
    for k in numba.prange(parts):
        totals[k] = rows(k * n // parts, (k + 1) * n // parts, w, x, labels, gradients[k])
    return totals.sum() / n, gradients.sum(axis=0) / n


def workloads() -> Iterator[Workload]:
    for n, m in SIZES:
        rng = generator()
        x = rng.normal(size=(n, m))
        w = rng.normal(size=m) / m**0.5
        labels = np.where(rng.random(n) < 0.5, 1.0, -1.0)
        parallel = x.size >= PARALLEL_FROM and cpu_count() > 1
        hand = by_hand_parallel if parallel else by_hand
        yield Workload(
            f"logistic regression {n}x{m} float64",
            (w, x, labels),
            by_numpy,
            (
                our_entry(loss),
                Entry("numba by hand", BY_HAND, hand),
                Entry("NumPy by hand", NUMPY, by_numpy),
                jax_entry(lambda w, x, t: jnp.mean(jnp.logaddexp(0, -t * (x @ w)))),
                torch_entry(lambda w, x, t: torch.nn.functional.softplus(-t * (x @ w)).mean()),
                pytensor_entry("logistic"),
                autograd_entry(lambda w, x, t: anp.mean(anp.logaddexp(0, -t * (x @ w)))),
            ),
        )


if __name__ == "__main__":
    main(workloads())
