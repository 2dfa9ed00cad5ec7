"""The full Hessian of a logistic regression with 200 weights.

By hand it is one product: `x.T @ (slopes * x)` with one slope for each observation. A compiler
finds that if it moves all 200 directions through the gradient at once, and sees that the product of
the matrix with the unit directions is the matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from by_hand import hand_entry, kernel, vector_math
from logistic_regression import loss
from peers import JAX, TORCH
from remote import pytensor_entry
from runner import NUMPY, OURS, Entry, Workload, generator, main

import tracegrad as tg

SIZES = ((1_000, 20), (10_000, 200))


def by_numpy(w: np.ndarray, x: np.ndarray, labels: np.ndarray) -> Any:
    decay = np.exp(-np.abs(labels * (x @ w)))
    slopes = labels**2 * decay / (1 + decay) ** 2 / len(labels)
    return (x.T @ (slopes[:, None] * x),)


(exp,) = vector_math(np.float64, "exp")


@kernel
def by_hand(w, x, labels):
    n, m = x.shape
    products = np.dot(x, w)
    scaled = np.empty_like(x)
    for i in range(n):
        decay = exp(-abs(labels[i] * products[i]))
        products[i] = labels[i] * labels[i] * decay / ((1.0 + decay) * (1.0 + decay) * n)
    for i in range(n):
        for j in range(m):
            scaled[i, j] = products[i] * x[i, j]
    return (np.dot(x.T, scaled),)


HESSIAN = tg.hessian(loss)


def ours(*arguments: Any) -> Any:
    return (HESSIAN(*arguments),)


@jax.jit
def in_jax(*arguments: Any) -> Any:
    def loss(w: Any, x: Any, labels: Any) -> Any:
        return jnp.mean(jnp.logaddexp(0, -labels * (x @ w)))

    return (jax.hessian(loss)(*arguments),)


def in_torch(w: Any, x: Any, labels: Any) -> Any:
    def loss(w: Any) -> Any:
        return torch.nn.functional.softplus(-labels * (x @ w)).mean()

    return (torch.func.hessian(loss)(w),)


def workloads() -> Iterator[Workload]:
    for n, m in SIZES:
        rng = generator()
        x = rng.normal(size=(n, m))
        yield Workload(
            f"Hessian of a logistic regression {n}x{m} float64",
            (rng.normal(size=m) / m**0.5, x, np.where(rng.random(n) < 0.5, 1.0, -1.0)),
            by_numpy,
            (
                Entry("tracegrad", OURS, ours),
                hand_entry(by_hand),
                Entry("NumPy by hand", NUMPY, by_numpy),
                Entry("jax.jit", JAX, in_jax),
                Entry("PyTorch func", TORCH, in_torch),
                pytensor_entry("logistic_hessian"),
            ),
        )


if __name__ == "__main__":
    main(workloads())
