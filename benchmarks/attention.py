"""One attention head: three projections, softmax of scaled scores, squared error; gradients by the
projections."""

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

SIZES = ((64, 16), (512, 64))
"""Positions, features."""
WANTED = (0, 1, 2)


def program(softmax: Any, mean: Any) -> Any:
    def loss(wq: Any, wk: Any, wv: Any, x: Any, target: Any) -> Any:
        q, k, v = x @ wq, x @ wk, x @ wv
        weights = softmax(q @ k.T / q.shape[1] ** 0.5)
        return mean((weights @ v - target) ** 2)

    return loss


def by_numpy(wq: Any, wk: Any, wv: Any, x: Any, target: Any) -> Any:
    q, k, v = x @ wq, x @ wk, x @ wv
    scale = q.shape[1] ** -0.5
    scores = q @ k.T * scale
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    error = p @ v - target
    d_out = 2 / error.size * error
    d_p = d_out @ v.T
    d_scores = (d_p - (d_p * p).sum(axis=1, keepdims=True)) * p * scale
    d_q, d_k, d_v = d_scores @ k, d_scores.T @ q, p.T @ d_out
    return np.mean(error * error), x.T @ d_q, x.T @ d_k, x.T @ d_v


def by_hand(dtype: Any) -> Any:
    (exp,) = vector_math(dtype, "exp")
    zero, one, two = (dtype(v) for v in (0, 1, 2))

    @kernel
    def head(wq, wk, wv, x, target):
        n, d = target.shape
        q, k, v = np.empty_like(target), np.empty_like(target), np.empty_like(target)
        np.dot(x, wq, q)
        np.dot(x, wk, k)
        np.dot(x, wv, v)
        p, d_p = np.empty((n, n), x.dtype), np.empty((n, n), x.dtype)
        np.dot(q, k.T, p)
        scale = one / np.sqrt(dtype(d))
        for i in range(n):
            largest = p[i, 0]
            for j in range(n):
                largest = max(largest, p[i, j])
            total = zero
            for j in range(n):
                p[i, j] = exp((p[i, j] - largest) * scale)
                total += p[i, j]
            inverse = one / total
            for j in range(n):
                p[i, j] *= inverse
        out = np.empty_like(target)
        np.dot(p, v, out)
        value, share = zero, one / dtype(n * d)
        for i in range(n):
            for j in range(d):
                error = out[i, j] - target[i, j]
                value += error * error
                out[i, j] = two * share * error
        d_q, d_k, d_v = np.empty_like(target), np.empty_like(target), np.empty_like(target)
        np.dot(p.T, out, d_v)
        np.dot(out, v.T, d_p)
        for i in range(n):
            common = zero
            for j in range(n):
                common += d_p[i, j] * p[i, j]
            for j in range(n):
                d_p[i, j] = (d_p[i, j] - common) * p[i, j] * scale
        np.dot(d_p, k, d_q)
        np.dot(d_p.T, q, d_k)
        d_wq, d_wk, d_wv = np.empty_like(wq), np.empty_like(wk), np.empty_like(wv)
        np.dot(x.T, d_q, d_wq)
        np.dot(x.T, d_k, d_wk)
        np.dot(x.T, d_v, d_wv)
        return value * share, d_wq, d_wk, d_wv

    return head


def workloads() -> Iterator[Workload]:
    for dtype in (np.float32, np.float64):
        for n, d in SIZES:
            rng = generator()
            weights = [rng.normal(size=(d, d)) / d**0.5 for _ in range(3)]
            data = [rng.normal(size=(n, d)) for _ in range(2)]
            rows = program(lambda x: tg.softmax(x, axis=1), np.mean)
            in_torch = program(lambda x: torch.softmax(x, 1), torch.mean)
            yield Workload(
                f"attention head {n}x{d} {np.dtype(dtype)}",
                tuple(a.astype(dtype) for a in (*weights, *data)),
                by_numpy,
                (
                    our_entry(rows, WANTED),
                    hand_entry(by_hand(dtype)),
                    Entry("NumPy by hand", NUMPY, by_numpy),
                    jax_entry(program(jax.nn.softmax, jnp.mean), WANTED),
                    torch_entry(in_torch, WANTED),
                    compiled_torch_entry(in_torch, WANTED),
                    pytensor_entry("attention", WANTED),
                ),
            )


if __name__ == "__main__":
    main(workloads())
