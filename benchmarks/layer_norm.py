"""Layer norm, a linear layer and softmax cross-entropy, float32, gradients by all parameters."""

from __future__ import annotations

from collections.abc import Iterator
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

SIZES = ((32, 64, 10), (512, 256, 100), (4096, 512, 1000))
"""Rows, features, classes."""
EPS = 1e-5


def loss(x: Any, gain: Any, bias: Any, w: Any, targets: Any) -> Any:
    centred = x - np.mean(x, axis=1, keepdims=True)
    scale = np.sqrt(np.mean(centred * centred, axis=1, keepdims=True) + EPS)
    scores = (centred / scale * gain + bias) @ w
    return -np.mean(np.sum(targets * tg.log_softmax(scores, axis=1), axis=1))


def jax_loss(x: Any, gain: Any, bias: Any, w: Any, targets: Any) -> Any:
    centred = x - jnp.mean(x, axis=1, keepdims=True)
    scale = jnp.sqrt(jnp.mean(centred * centred, axis=1, keepdims=True) + EPS)
    scores = (centred / scale * gain + bias) @ w
    return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(scores, axis=1), axis=1))


def torch_loss(x: Any, gain: Any, bias: Any, w: Any, targets: Any) -> Any:
    hidden = torch.nn.functional.layer_norm(x, gain.shape, gain, bias, EPS)
    return torch.nn.functional.cross_entropy(hidden @ w, targets)


def by_numpy(x: Any, gain: Any, bias: Any, w: Any, targets: Any) -> Any:
    n = len(x)
    centred = x - x.mean(axis=1, keepdims=True)
    scale = np.sqrt((centred * centred).mean(axis=1, keepdims=True) + EPS)
    normal = centred / scale
    hidden = normal * gain + bias
    scores = hidden @ w
    scores = scores - scores.max(axis=1, keepdims=True)
    logarithm = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    d_scores = (np.exp(logarithm) - targets) / n
    d_hidden = d_scores @ w.T
    d_normal = d_hidden * gain
    d_x = d_normal - d_normal.mean(axis=1, keepdims=True)
    d_x = (d_x - normal * (d_normal * normal).mean(axis=1, keepdims=True)) / scale
    value = -(targets * logarithm).sum(axis=1).mean()
    gradients = (d_x, (d_hidden * normal).sum(axis=0), d_hidden.sum(axis=0), hidden.T @ d_scores)
    return value, *gradients


def hand_written(dtype: Any) -> Any:
    exp, log = vector_math(dtype, "exp", "log")
    zero, one, eps = dtype(0), dtype(1), dtype(EPS)

    @kernel
    def by_hand(x, gain, bias, w, targets):
        (n, m), classes = x.shape, w.shape[1]
        hidden = np.empty_like(x)
        mean, inverse = np.empty(n, x.dtype), np.empty(n, x.dtype)
        for i in range(n):
            total = zero
            for j in range(m):
                total += x[i, j]
            mean[i] = total / dtype(m)
            total = zero
            for j in range(m):
                total += (x[i, j] - mean[i]) ** 2
            inverse[i] = one / np.sqrt(total / dtype(m) + eps)
            for j in range(m):
                hidden[i, j] = (x[i, j] - mean[i]) * inverse[i] * gain[j] + bias[j]
        scores = np.empty((n, classes), x.dtype)
        np.dot(hidden, w, scores)
        value, share = zero, one / dtype(n)
        for i in range(n):
            largest = scores[i, 0]
            for j in range(classes):
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
        d_x, d_w = np.empty_like(x), np.empty_like(w)
        np.dot(scores, w.T, d_x)
        np.dot(hidden.T, scores, d_w)
        d_gain, d_bias = np.zeros_like(gain), np.zeros_like(bias)
        for i in range(n):
            first, second = zero, zero
            for j in range(m):
                z = (x[i, j] - mean[i]) * inverse[i]
                d_gain[j] += d_x[i, j] * z
                d_bias[j] += d_x[i, j]
                first += d_x[i, j] * gain[j]
                second += d_x[i, j] * gain[j] * z
            first, second = first / dtype(m), second / dtype(m)
            for j in range(m):
                z = (x[i, j] - mean[i]) * inverse[i]
                d_x[i, j] = (d_x[i, j] * gain[j] - first - z * second) * inverse[i]
        return value * share, d_x, d_gain, d_bias, d_w

    return by_hand


def workloads() -> Iterator[Workload]:
    for n, m, classes in SIZES:
        rng = generator()
        x, w = rng.normal(size=(n, m)), rng.normal(size=(m, classes)) / m**0.5
        gain, bias = rng.normal(size=m), rng.normal(size=m)
        targets = np.eye(classes)[rng.integers(classes, size=n)]
        arguments = tuple(a.astype(np.float32) for a in (x, gain, bias, w, targets))
        wanted = (0, 1, 2, 3)
        yield Workload(
            f"layer norm, linear, cross-entropy {n}x{m}x{classes} float32",
            arguments,
            by_numpy,
            (
                our_entry(loss, wanted),
                hand_entry(hand_written(np.float32)),
                Entry("NumPy by hand", NUMPY, by_numpy),
                jax_entry(jax_loss, wanted),
                torch_entry(torch_loss, wanted),
                compiled_torch_entry(torch_loss, wanted),
                pytensor_entry("layer_norm", wanted),
            ),
        )


if __name__ == "__main__":
    main(workloads())
