"""The programs of the golden files, which hold their line numbers: add new ones at the end."""

from __future__ import annotations

from typing import Any

import numpy as np

import tracegrad as tg

RNG = np.random.default_rng(7)
PROGRAMS: dict[str, tuple[tg.Function, tuple[Any, ...]]] = {}


def program(*args: Any) -> Any:
    """Trace the function and keep it with its example arguments."""

    def add(function: Any) -> tg.Function:
        traced = tg.trace(function)
        PROGRAMS[traced.name] = traced, args
        return traced

    return add


@program(RNG.random((2, 3)))
def loss(x):
    return np.mean(2 * (x + 1) * (x + 1))


@program({"w": RNG.random(3), "b": RNG.random(3), "v": RNG.random((2, 3))}, RNG.random((4, 2, 3)))
def gate(p, x):
    hidden = np.tanh(p["w"] * x + p["b"])
    return np.sum(np.exp(hidden) * p["v"])


@program(RNG.random((5, 4)), RNG.random((5, 4)))
def cross_entropy(logits, target):
    shifted = logits - np.max(logits, axis=1, keepdims=True)
    log_sum = np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    return -np.mean(np.sum(target * (shifted - log_sum), axis=1))


@program(RNG.random((6, 4)), RNG.random(8))
def folded(x, scale):
    rows = x.reshape(-1, 8)
    return np.sum(rows * scale, axis=0)


@program(RNG.random((3, 16)).astype(np.float32))
def weighted(x):
    window = np.linspace(0, 1, 16).astype(np.float32)
    return np.sum(x * window)


@program(RNG.random(9))
def shifted(x):
    y = np.zeros_like(x)
    y[1:] = x[:-1] * 2
    y[0] = x[0]
    return np.sum(y * x)


@program(np.arange(12).reshape(3, 4))
def squares(k):
    return np.sum(k * k, axis=1) // 2


@program(
    {
        "w1": RNG.normal(0, 0.05, (784, 256)),
        "b1": np.zeros(256),
        "w2": RNG.normal(0, 0.05, (256, 10)),
        "b2": np.zeros(10),
    },
    RNG.random((32, 784)),
    np.eye(10)[RNG.integers(0, 10, 32)],
)
def network(params, images, labels):
    hidden = np.maximum(images @ params["w1"] + params["b1"], 0)
    logits = hidden @ params["w2"] + params["b2"]
    shifted = logits - np.max(logits, axis=1, keepdims=True)
    log_probs = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    return -np.mean(np.sum(log_probs * labels, axis=1))
