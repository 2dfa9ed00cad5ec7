"""Hessian-vector product of the loss of a 784-256-128-10 network with cross-entropy, float32.

By hand: Pearlmutter's R-operator (Fast exact multiplication by the Hessian, 1994): every value of
the forward and of the backward with its tangent, each activation read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import torch
from by_hand import hand_entry, kernel, vector_math
from mlp import WIDTHS, jax_loss, loss, torch_loss
from peers import JAX, TORCH
from remote import pytensor_entry
from runner import NUMPY, OURS, Entry, Workload, generator, main

import tracegrad as tg

BATCHES = (32, 128, 1024)
PARAMETERS = 6


def by_numpy(*arguments: Any) -> Any:
    w1, b1, w2, b2, w3, b3, x, targets, v1, c1, v2, c2, v3, c3 = arguments
    first = x @ w1 + b1
    t_first = (x @ v1 + c1) * (first > 0)
    first = np.maximum(first, 0)
    second = first @ w2 + b2
    t_second = (t_first @ w2 + first @ v2 + c2) * (second > 0)
    second = np.maximum(second, 0)
    scores = second @ w3 + b3
    t_scores = t_second @ w3 + second @ v3 + c3
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p *= targets.sum(axis=1, keepdims=True) / p.sum(axis=1, keepdims=True)
    d3 = (p - targets) / len(x)
    mean = (p * t_scores).sum(axis=1, keepdims=True) / p.sum(axis=1, keepdims=True)
    t_d3 = p * (t_scores - mean) / len(x)
    d2 = (d3 @ w3.T) * (second > 0)
    t_d2 = (t_d3 @ w3.T + d3 @ v3.T) * (second > 0)
    t_d1 = (t_d2 @ w2.T + d2 @ v2.T) * (first > 0)
    return (
        x.T @ t_d1,
        t_d1.sum(axis=0),
        t_first.T @ d2 + first.T @ t_d2,
        t_d2.sum(axis=0),
        t_second.T @ d3 + second.T @ t_d3,
        t_d3.sum(axis=0),
    )


def hand_written(dtype: Any) -> Any:
    (exp,) = vector_math(dtype, "exp")
    zero, one = dtype(0), dtype(1)

    @kernel
    def activate(hidden, tangent, more, bias, t_bias):
        """Both with their bias, in place, where the unit is active; `more` is added."""
        for i in range(hidden.shape[0]):
            for j in range(hidden.shape[1]):
                h = hidden[i, j] + bias[j]
                t = tangent[i, j] + more[i, j] + t_bias[j]
                tangent[i, j] = t if h > zero else zero
                hidden[i, j] = max(h, zero)

    @kernel
    def first_activate(hidden, tangent, bias, t_bias):
        for i in range(hidden.shape[0]):
            for j in range(hidden.shape[1]):
                h = hidden[i, j] + bias[j]
                t = tangent[i, j] + t_bias[j]
                tangent[i, j] = t if h > zero else zero
                hidden[i, j] = max(h, zero)

    @kernel
    def back(d, more, hidden):
        """The sum of both where the unit was active, in place, and its sum over the batch."""
        total = np.zeros(hidden.shape[1], hidden.dtype)
        for i in range(hidden.shape[0]):
            for j in range(hidden.shape[1]):
                d[i, j] = d[i, j] + more[i, j] if hidden[i, j] > zero else zero
                total[j] += d[i, j]
        return total

    @kernel
    def mask(d, hidden):
        for i in range(hidden.shape[0]):
            for j in range(hidden.shape[1]):
                d[i, j] = d[i, j] if hidden[i, j] > zero else zero

    @kernel
    def rows(scores, t_scores, more, b3, c3, targets, t_b3):
        """Scores and their tangents become the cotangent and its tangent, in place."""
        n, classes = targets.shape
        share = one / dtype(n)
        for i in range(n):
            largest = dtype(-np.inf)
            for j in range(classes):
                scores[i, j] += b3[j]
                t_scores[i, j] += more[i, j] + c3[j]
                largest = max(largest, scores[i, j])
            total, met, mass = zero, zero, zero
            for j in range(classes):
                scores[i, j] = exp(scores[i, j] - largest)
                total += scores[i, j]
                met += scores[i, j] * t_scores[i, j]
                mass += targets[i, j]
            for j in range(classes):
                p = scores[i, j] * (mass / total)
                scores[i, j] = (p - targets[i, j]) * share
                t_scores[i, j] = p * (t_scores[i, j] - met / total) * share
                t_b3[j] += t_scores[i, j]

    @kernel
    def add(a, b):
        for i in range(a.shape[0]):
            for j in range(a.shape[1]):
                a[i, j] += b[i, j]

    @kernel
    def by_hand(w1, b1, w2, b2, w3, b3, x, targets, v1, c1, v2, c2, v3, c3):
        first, t_first = np.dot(x, w1), np.dot(x, v1)
        first_activate(first, t_first, b1, c1)
        second, t_second, more = np.dot(first, w2), np.dot(t_first, w2), np.dot(first, v2)
        activate(second, t_second, more, b2, c2)
        scores, t_scores, last = np.dot(second, w3), np.dot(t_second, w3), np.dot(second, v3)
        t_b3 = np.zeros_like(b3)
        rows(scores, t_scores, last, b3, c3, targets, t_b3)
        t_w3, part3 = np.dot(t_second.T, scores), np.dot(second.T, t_scores)
        add(t_w3, part3)
        d2, t_d2 = np.dot(scores, w3.T), np.dot(t_scores, w3.T)
        np.dot(scores, v3.T, more)
        mask(d2, second)
        t_b2 = back(t_d2, more, second)
        t_w2, part2 = np.dot(t_first.T, d2), np.dot(first.T, t_d2)
        add(t_w2, part2)
        t_d1, more1 = np.dot(t_d2, w2.T), np.dot(d2, v2.T)
        t_b1 = back(t_d1, more1, first)
        return np.dot(x.T, t_d1), t_b1, t_w2, t_b2, t_w3, t_b3

    return by_hand


def ours(*arguments: Any) -> Any:
    return PRODUCT(*arguments[: PARAMETERS + 2], arguments[PARAMETERS + 2 :])


PRODUCT = tg.hvp(loss, argnums=tuple(range(PARAMETERS)))


@jax.jit
def in_jax(*arguments: Any) -> Any:
    """Forward over reverse, as JAX's own documentation has it."""
    parameters, data = arguments[:PARAMETERS], arguments[PARAMETERS : PARAMETERS + 2]

    def gradient(*values: Any) -> Any:
        return jax.grad(jax_loss, argnums=tuple(range(PARAMETERS)))(*values, *data)

    return jax.jvp(gradient, parameters, arguments[PARAMETERS + 2 :])[1]


def in_torch(*arguments: Any) -> Any:
    """Reverse over reverse: the gradient of the gradient's product with the vector."""
    leaves = arguments[:PARAMETERS]
    for leaf in leaves:
        if not leaf.requires_grad:
            leaf.requires_grad_()
    value = torch_loss(*arguments[: PARAMETERS + 2])
    gradients = torch.autograd.grad(value, leaves, create_graph=True)
    return torch.autograd.grad(gradients, leaves, arguments[PARAMETERS + 2 :])


def workloads() -> Iterator[Workload]:
    for batch in BATCHES:
        rng = generator()
        parameters, vector = [], []
        for inputs, outputs in pairwise(WIDTHS):
            parameters.append(rng.normal(size=(inputs, outputs)) * (2 / inputs) ** 0.5)
            parameters.append(rng.normal(size=outputs) * 0.1)
            vector += [rng.normal(size=(inputs, outputs)), rng.normal(size=outputs)]
        x = rng.random((batch, WIDTHS[0]))
        targets = np.eye(WIDTHS[-1])[rng.integers(WIDTHS[-1], size=batch)]
        yield Workload(
            f"Hessian-vector product of the MLP's loss, batch {batch}, float32",
            tuple(a.astype(np.float32) for a in (*parameters, x, targets, *vector)),
            by_numpy,
            (
                Entry("tracegrad", OURS, ours),
                hand_entry(hand_written(np.float32)),
                Entry("NumPy by hand", NUMPY, by_numpy),
                Entry("jax.jit", JAX, in_jax),
                Entry("PyTorch eager", TORCH, in_torch),
                pytensor_entry("mlp_product", tuple(range(PARAMETERS))),
            ),
        )


if __name__ == "__main__":
    main(workloads())
