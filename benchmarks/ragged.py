"""Logistic regression on 100 different sizes, once each: total seconds, all compiles included.

A library that compiles for every size pays 100 times; one version of ours serves all.

    python benchmarks/ragged.py
"""

from __future__ import annotations

import time
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from logistic_regression import by_hand, by_numpy, loss
from peers import JAX, TORCH, flat_jax, flat_torch, our_entry
from runner import BY_HAND, NUMPY, Entry, generator
from surroundings import machine

COUNT = 100
COLUMNS = 50


def entries() -> list[Entry]:
    return [
        our_entry(loss),
        Entry("numba by hand", BY_HAND, by_hand),
        Entry("NumPy by hand", NUMPY, by_numpy),
        Entry(
            "jax.jit",
            JAX,
            flat_jax(lambda w, x, t: jnp.mean(jnp.logaddexp(0, -t * (x @ w))), (0,)),
        ),
        Entry(
            "PyTorch eager",
            TORCH,
            flat_torch(lambda w, x, t: torch.nn.functional.softplus(-t * (x @ w)).mean(), (0,)),
        ),
    ]


def batches() -> list[tuple[np.ndarray, ...]]:
    rng = generator()
    rows = rng.permutation(np.arange(10, 10 + 10 * COUNT, 10))
    w = rng.normal(size=COLUMNS) / COLUMNS**0.5
    return [
        (w, rng.normal(size=(n, COLUMNS)), np.where(rng.random(n) < 0.5, 1.0, -1.0)) for n in rows
    ]


def total(entry: Entry, data: list[tuple[np.ndarray, ...]]) -> float:
    """Seconds for all sizes; every result is compared with NumPy's."""
    seconds = 0.0
    for arguments in data:
        held = tuple(map(entry.library.native, arguments))
        start = time.perf_counter()
        results: Any = entry.library.wait(entry.function(*held))
        seconds += time.perf_counter() - start
        for found, right in zip(results, by_numpy(*arguments), strict=True):
            np.testing.assert_allclose(entry.library.back(found), right, rtol=1e-9, atol=1e-12)
    return seconds


def main() -> None:
    print("  ".join(f"{key} {value}" for key, value in machine().items()), end="\n\n")
    print(f"### {COUNT} sizes, 10 to {10 * COUNT} rows of {COLUMNS}, once each\n")
    print("| implementation | total s |\n|---|---:|")
    data = batches()
    for entry in entries():
        print(f"| {entry.name} | {total(entry, data):.3f} |", flush=True)


if __name__ == "__main__":
    main()
