"""One epoch of examples/digits.py, beside the same model and optimiser in PyTorch and JAX.

A "call" is an epoch: fresh copies of the same first parameters, the same batches in the same order;
compared are the mean loss and every parameter at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from peers import JAX, TORCH
from runner import NUMPY, OURS, SEED, Entry, Workload, generator, main
from sklearn.datasets import load_digits

import tracegrad as tg

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from digits import CLASSES, HIDDEN, MOMENTUM, RATE, batches, loss, train

NAMES = ("w1", "b1", "w2", "b2")


def order(images: Any) -> Iterator[np.ndarray]:
    return batches(len(images), np.random.default_rng(SEED))


def by_tensors(*arguments: np.ndarray) -> Any:
    """The example itself: traced loss on Tensors, `backward()`, updates under `no_grad`."""
    *values, images, targets = arguments
    params = {
        name: tg.tensor(value, requires_grad=True)
        for name, value in zip(NAMES, values, strict=True)
    }
    velocity = {name: np.zeros(param.shape) for name, param in params.items()}
    mean = train(params, velocity, images, targets, np.random.default_rng(SEED))
    return mean, *(param.detach().numpy() for param in params.values())


def by_arrays(*arguments: np.ndarray) -> Any:
    """The same loss through `value_and_grad`, on plain arrays."""
    *values, images, targets = arguments
    params = dict(zip(NAMES, map(np.copy, values), strict=True))
    velocity = {name: np.zeros(param.shape) for name, param in params.items()}
    losses = []
    for batch in order(images):
        value, gradients = loss.value_and_grad(params, images[batch], targets[batch])
        for name, param in params.items():
            velocity[name] = MOMENTUM * velocity[name] - RATE * gradients[name]
            param += velocity[name]
        losses.append(value)
    return np.mean(losses), *params.values()


def by_torch(*arguments: torch.Tensor) -> Any:
    *values, images, targets = arguments
    w1, b1, w2, b2 = params = [value.clone().requires_grad_() for value in values]
    optimiser = torch.optim.SGD(params, lr=RATE, momentum=MOMENTUM)
    losses = []
    for batch in order(images):
        hidden = torch.relu(torch.addmm(b1, images[batch], w1))
        scores = torch.addmm(b2, hidden, w2)
        value = torch.nn.functional.cross_entropy(scores, targets[batch])
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    return np.mean(losses), *params


def jax_loss(params: Any, images: Any, targets: Any) -> Any:
    w1, b1, w2, b2 = params
    scores = jax.nn.relu(images @ w1 + b1) @ w2 + b2
    return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(scores, axis=1), axis=1))


@jax.jit
def jax_step(params: Any, velocity: Any, images: Any, targets: Any) -> Any:
    value, gradients = jax.value_and_grad(jax_loss)(params, images, targets)
    velocity = jax.tree.map(lambda v, g: MOMENTUM * v - RATE * g, velocity, gradients)
    return value, jax.tree.map(jnp.add, params, velocity), velocity


def by_jax(*arguments: Any) -> Any:
    """Batches are cut by NumPy, which is faster for JAX too; the update is part of its step."""
    *values, images, targets = arguments
    images, targets = np.asarray(images), np.asarray(targets)
    params, velocity = values, [jnp.zeros_like(value) for value in values]
    losses = []
    for batch in order(images):
        value, params, velocity = jax_step(params, velocity, images[batch], targets[batch])
        losses.append(float(value))
    return np.mean(losses), *params


def by_numpy(*arguments: np.ndarray) -> Any:
    *values, images, targets = arguments
    params = [np.copy(value) for value in values]
    velocity = [np.zeros_like(param) for param in params]
    losses = []
    for batch in order(images):
        value, gradients = numpy_gradients(params, images[batch], targets[batch])
        for v, g, param in zip(velocity, gradients, params, strict=True):
            v *= MOMENTUM
            v -= RATE * g
            param += v
        losses.append(value)
    return np.mean(losses), *params


def numpy_gradients(params: Any, images: Any, targets: Any) -> Any:
    w1, b1, w2, b2 = params
    hidden = np.maximum(images @ w1 + b1, 0)
    scores = hidden @ w2 + b2
    scores = scores - scores.max(axis=1, keepdims=True)
    logarithm = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    d2 = (np.exp(logarithm) - targets) / len(images)
    d1 = (d2 @ w2.T) * (hidden > 0)
    value = -(targets * logarithm).sum(axis=1).mean()
    return value, (images.T @ d1, d1.sum(axis=0), hidden.T @ d2, d2.sum(axis=0))


def workloads() -> Iterator[Workload]:
    rng = generator()
    images, labels = load_digits(return_X_y=True)
    pixels = images.shape[1]
    values = (
        rng.normal(scale=(2 / pixels) ** 0.5, size=(pixels, HIDDEN)),
        np.zeros(HIDDEN),
        rng.normal(scale=(2 / HIDDEN) ** 0.5, size=(HIDDEN, CLASSES)),
        np.zeros(CLASSES),
    )
    yield Workload(
        "digits, one epoch of 57 batches, float64",
        (*values, images / 16, np.eye(CLASSES)[labels]),
        by_numpy,
        (
            Entry("tracegrad, Tensors", OURS, by_tensors),
            Entry("tracegrad, arrays", OURS, by_arrays),
            Entry("NumPy by hand", NUMPY, by_numpy),
            Entry("PyTorch eager", TORCH, by_torch),
            Entry("jax.jit", JAX, by_jax),
        ),
        tolerance=1e-9,
    )


if __name__ == "__main__":
    main(workloads())
