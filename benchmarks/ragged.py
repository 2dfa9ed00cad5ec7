"""Logistic regression on 100 different sizes, once each: total seconds, all compiles included.

A library that compiles for every size pays 100 times; one version of ours serves all.

    python benchmarks/ragged.py --json ragged.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from logistic_regression import by_hand, by_numpy, loss
from peers import JAX, TORCH, flat_jax, flat_torch, our_entry
from remote import PYTENSOR, Remote
from runner import BY_HAND, NUMPY, Entry, generator
from surroundings import machine, pytensor_version, write_bytecode

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

    def run(*arguments: np.ndarray) -> tuple[Any, float]:
        held = tuple(map(entry.library.native, arguments))
        start = time.perf_counter()
        results = entry.library.wait(entry.function(*held))
        return results, time.perf_counter() - start

    return summed(run, entry.library.back, data)


def summed(
    run: Callable[..., tuple[Any, float]], back: Any, data: list[tuple[np.ndarray, ...]]
) -> float:
    seconds = 0.0
    for arguments in data:
        results, once = run(*arguments)
        seconds += once
        for found, right in zip(results, by_numpy(*arguments), strict=True):
            np.testing.assert_allclose(back(found), right, rtol=1e-9, atol=1e-12)
    return seconds


def total_of_pytensor(data: list[tuple[np.ndarray, ...]]) -> float:
    held = Remote("logistic", data[0], (0,))
    try:
        _, compiling = held.first()
        return compiling + summed(held.call_with, PYTENSOR.back, data[1:])
    finally:
        held.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, help="write the seconds here")
    options = parser.parse_args()
    write_bytecode()
    print("  ".join(f"{key} {value}" for key, value in machine().items()), end="\n\n")
    print(f"### {COUNT} sizes, 10 to {10 * COUNT} rows of {COLUMNS}, once each\n")
    print("| implementation | total s |\n|---|---:|")
    data, found = batches(), {}
    for entry in entries():
        found[entry.name] = total(entry, data)
        print(f"| {entry.name} | {found[entry.name]:.3f} |", flush=True)
    if pytensor_version():
        found["PyTensor"] = total_of_pytensor(data)
        print(f"| PyTensor | {found['PyTensor']:.3f} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "seconds": found}))


if __name__ == "__main__":
    main()
