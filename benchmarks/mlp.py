"""One training step's gradients of a 784-256-128-10 network with cross-entropy, float32."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from peers import jax_entry, our_entry, torch_entry
from runner import NUMPY, Entry, Workload, generator, main

import tracegrad as tg

BATCHES = (32, 128, 1024)
WIDTHS = (784, 256, 128, 10)


def loss(w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any, x: Any, targets: Any) -> Any:
    hidden = np.maximum(x @ w1 + b1, 0)
    hidden = np.maximum(hidden @ w2 + b2, 0)
    return -np.mean(np.sum(targets * tg.log_softmax(hidden @ w3 + b3, axis=1), axis=1))


def jax_loss(w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any, x: Any, targets: Any) -> Any:
    hidden = jax.nn.relu(x @ w1 + b1)
    hidden = jax.nn.relu(hidden @ w2 + b2)
    scores = hidden @ w3 + b3
    return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(scores, axis=1), axis=1))


def torch_loss(w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any, x: Any, targets: Any) -> Any:
    hidden = torch.relu(torch.addmm(b1, x, w1))
    hidden = torch.relu(torch.addmm(b2, hidden, w2))
    return torch.nn.functional.cross_entropy(torch.addmm(b3, hidden, w3), targets)


def by_numpy(w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any, x: Any, targets: Any) -> Any:
    first = np.maximum(x @ w1 + b1, 0)
    second = np.maximum(first @ w2 + b2, 0)
    scores = second @ w3 + b3
    scores = scores - scores.max(axis=1, keepdims=True)
    logarithm = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    d3 = (np.exp(logarithm) - targets) / len(x)
    d2 = (d3 @ w3.T) * (second > 0)
    d1 = (d2 @ w2.T) * (first > 0)
    value = -(targets * logarithm).sum(axis=1).mean()
    biases = d1.sum(axis=0), d2.sum(axis=0), d3.sum(axis=0)
    return value, x.T @ d1, biases[0], first.T @ d2, biases[1], second.T @ d3, biases[2]


def workloads() -> Iterator[Workload]:
    for batch in BATCHES:
        rng = generator()
        parameters = []
        for inputs, outputs in pairwise(WIDTHS):
            parameters.append(rng.normal(size=(inputs, outputs)) * (2 / inputs) ** 0.5)
            parameters.append(rng.normal(size=outputs) * 0.1)
        x = rng.random((batch, WIDTHS[0]))
        targets = np.eye(WIDTHS[-1])[rng.integers(WIDTHS[-1], size=batch)]
        arguments = tuple(a.astype(np.float32) for a in (*parameters, x, targets))
        wanted = tuple(range(6))
        yield Workload(
            f"MLP 784-256-128-10, batch {batch}, float32",
            arguments,
            by_numpy,
            (
                our_entry(loss, wanted),
                Entry("NumPy by hand", NUMPY, by_numpy),
                jax_entry(jax_loss, wanted),
                torch_entry(torch_loss, wanted),
            ),
        )


if __name__ == "__main__":
    main(workloads())
