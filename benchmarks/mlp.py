"""One training step's gradients of a 784-256-128-10 network with cross-entropy, float32."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from by_hand import hand_entry, kernel, vector_math
from peers import compiled_torch_entry, jax_entry, our_entry, torch_entry
from remote import pytensor_entry
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


def hand_written(dtype: Any) -> Any:
    exp, log = vector_math(dtype, "exp", "log")
    zero, one = dtype(0), dtype(1)

    @kernel
    def activate(hidden, bias):
        for i in range(hidden.shape[0]):
            for j in range(hidden.shape[1]):
                hidden[i, j] = max(hidden[i, j] + bias[j], zero)

    @kernel
    def back(d_hidden, hidden):
        """The gradient where the unit was active, in place, and its sum over the batch."""
        d_bias = np.zeros(hidden.shape[1], hidden.dtype)
        for i in range(hidden.shape[0]):
            for j in range(hidden.shape[1]):
                d_hidden[i, j] = d_hidden[i, j] if hidden[i, j] > zero else zero
                d_bias[j] += d_hidden[i, j]
        return d_bias

    @kernel
    def by_hand(w1, b1, w2, b2, w3, b3, x, targets):
        n, classes = targets.shape
        first, second = np.empty((n, b1.size), x.dtype), np.empty((n, b2.size), x.dtype)
        scores, d_b3 = np.empty_like(targets), np.zeros_like(b3)
        np.dot(x, w1, first)
        activate(first, b1)
        np.dot(first, w2, second)
        activate(second, b2)
        np.dot(second, w3, scores)
        value, share = zero, one / dtype(n)
        for i in range(n):
            largest = dtype(-np.inf)
            for j in range(classes):
                scores[i, j] += b3[j]
                largest = max(largest, scores[i, j])
            total, met, mass = zero, zero, zero
            for j in range(classes):
                z = scores[i, j] - largest
                mass += targets[i, j]
                met += targets[i, j] * z
                scores[i, j] = exp(z)
                total += scores[i, j]
            value -= met - mass * log(total)
            for j in range(classes):
                scores[i, j] = (scores[i, j] * (mass / total) - targets[i, j]) * share
                d_b3[j] += scores[i, j]
        d_w1, d_w2, d_w3 = np.empty_like(w1), np.empty_like(w2), np.empty_like(w3)
        d_first, d_second = np.empty_like(first), np.empty_like(second)
        np.dot(second.T, scores, d_w3)
        np.dot(scores, w3.T, d_second)
        d_b2 = back(d_second, second)
        np.dot(first.T, d_second, d_w2)
        np.dot(d_second, w2.T, d_first)
        d_b1 = back(d_first, first)
        np.dot(x.T, d_first, d_w1)
        return value * share, d_w1, d_b1, d_w2, d_b2, d_w3, d_b3

    return by_hand


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
                hand_entry(hand_written(np.float32)),
                Entry("NumPy by hand", NUMPY, by_numpy),
                jax_entry(jax_loss, wanted),
                torch_entry(torch_loss, wanted),
                compiled_torch_entry(torch_loss, wanted),
                pytensor_entry("mlp", wanted),
            ),
        )


if __name__ == "__main__":
    main(workloads())
