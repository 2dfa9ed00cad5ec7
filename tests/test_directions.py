"""Jacobians through matrices: all directions go through a product at once."""

from __future__ import annotations

import numpy as np
import pytest

import tracegrad as tg


def logistic(w, x, labels):
    return np.mean(np.logaddexp(0, -labels * (x @ w)))


def data(n=40, m=12, dtype=np.float64):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, m)).astype(dtype)
    return rng.normal(size=m).astype(dtype), x, np.sign(rng.normal(size=n)).astype(dtype)


def true_hessian(w, x, labels):
    p = 1 / (1 + np.exp(labels * (x @ w)))
    return x.T @ ((p * (1 - p) / len(x))[:, None] * x)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_hessian_of_a_linear_model_is_one_product(dtype):
    hessian = tg.hessian(logistic)
    arguments = data(dtype=dtype)
    found = hessian(*arguments)
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found, true_hessian(*arguments), rtol=0, atol=16 * np.finfo(dtype).eps
    )
    text = hessian.dump(*arguments)
    assert "for " not in text and "np.eye" not in text and "arange" not in text
    assert "what is multiplied by x" in " ".join(str(hessian.explain(*arguments)).split())


def test_one_version_serves_every_size():
    hessian = tg.hessian(lambda *arguments: logistic(*arguments))
    for n, m in ((40, 12), (70, 9), (8, 30)):
        arguments = data(n, m)
        np.testing.assert_allclose(hessian(*arguments), true_hessian(*arguments), atol=1e-15)
    assert len(hessian.versions) == 1


def network(weights, x):
    first, second = weights
    return np.tanh(np.tanh(x @ first) @ second)


@pytest.mark.parametrize("transform", [tg.jacfwd, tg.jacrev])
def test_parameters_of_two_axes(transform):
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(9, 8)), rng.normal(size=(8, 3))
    x = rng.normal(size=(12, 9))
    found = transform(network)(weights, x)
    for number, (part, weight) in enumerate(zip(found, weights, strict=True)):
        assert part.shape == (12, 3, *weight.shape)
        direction = rng.normal(size=weight.shape)
        tangents = [np.zeros_like(w) for w in weights]
        tangents[number] = direction
        _, right = tg.jvp(lambda w: network(w, x), (weights,), (tuple(tangents),))
        np.testing.assert_allclose(np.tensordot(part, direction, 2), right, atol=1e-13)


def test_both_modes_agree_on_a_layer_and_name_the_matrix():
    rng = np.random.default_rng(2)
    w, x = rng.normal(size=(10, 20)), rng.normal(size=20)
    by_hand = (1 - np.tanh(w @ x) ** 2)[:, None] * w
    for transform in (tg.jacfwd, tg.jacrev, tg.jacobian):
        jacobian = transform(lambda x, w: np.tanh(w @ x))
        np.testing.assert_allclose(jacobian(x, w), by_hand, rtol=1e-14)
        assert "for " not in jacobian.dump(x, w)


def test_without_a_matrix_directions_go_one_by_one():
    jacobian = tg.jacfwd(lambda x: np.cumsum(np.sin(x)))
    x = np.linspace(0, 1, 7)
    np.testing.assert_allclose(jacobian(x), np.tril(np.cos(x)), rtol=1e-15)
    assert "multiplied by no matrix" in " ".join(str(jacobian.explain(x)).split())


def test_a_recurrence_with_a_shared_matrix():
    rng = np.random.default_rng(3)
    w, h = rng.normal(size=(9, 9)) / 3, rng.normal(size=9)

    def last(h, w):
        return tg.scan(lambda h, _: (np.tanh(w @ h), ()), h, length=5)[0]

    found = tg.jacfwd(last)(h, w)
    np.testing.assert_allclose(found, tg.jacrev(last)(h, w), atol=1e-14)
    step = 1e-6
    for k in range(3):
        e = np.eye(9)[k] * step
        slope = (last(h + e, w) - last(h - e, w)) / (2 * step)
        np.testing.assert_allclose(found[:, k], slope, atol=1e-8)


def test_the_hessian_is_differentiable():
    w, x, labels = data(30, 9)
    gradient = tg.grad(lambda w: np.sum(tg.hessian(logistic)(w, x, labels) ** 2))(w)
    step = 1e-6
    for k in range(3):
        e = np.eye(9)[k] * step
        high, low = (np.sum(true_hessian(w + s * e, x, labels) ** 2) for s in (1, -1))
        np.testing.assert_allclose(gradient[k], (high - low) / (2 * step), atol=1e-8)
