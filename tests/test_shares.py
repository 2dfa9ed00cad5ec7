"""Softmax and its kin: what their derivatives keep and compute, and that it is right."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracegrad as tg

Program = Callable[..., Any]


def softmax_rows(x: Any, w: Any) -> Any:
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    return np.sum(e / np.sum(e, axis=1, keepdims=True) * w)


def softmax_columns(x: Any, w: Any) -> Any:
    e = np.exp(x - x.max(axis=0))
    return np.sum(e / e.sum(axis=0) * w)


def softmax_all(x: Any, w: Any) -> Any:
    e = np.exp(x - x.max())
    return np.sum((e / e.sum()) ** 2 * w)


def shift_of_all(x: Any, w: Any) -> Any:
    """The largest of the whole matrix is subtracted, the sums are those of rows."""
    e = np.exp(x - x.max())
    return np.sum(e / e.sum(axis=1)[:, None] * w)


def shift_of_all_columns(x: Any, w: Any) -> Any:
    e = np.exp(x - x.max())
    return np.sum(np.log(e / e.sum(axis=0)) * w)


def temperature(x: Any, w: Any) -> Any:
    z = (x - x.max(axis=1, keepdims=True)) / 0.7
    p = np.exp(z) / np.sum(np.exp(z), axis=1, keepdims=True)
    return np.sum(np.log(p + 1e-3) * w)


def log_softmax(x: Any, w: Any) -> Any:
    z = x - x.max(axis=1, keepdims=True)
    return -np.mean(np.sum((z - np.log(np.exp(z).sum(axis=1, keepdims=True))) * w, axis=1))


def logsumexp(x: Any, w: Any) -> Any:
    largest = x.max(axis=1)
    total = np.sum(np.exp(x - largest[:, None]), axis=1)
    return np.sum((largest + np.log(total)) * w[:, 0])


def entropy(x: Any, w: Any) -> Any:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    return -np.sum(p * np.log(p) * w)


def smallest(x: Any, w: Any) -> Any:
    e = np.exp(x.min(axis=1, keepdims=True) - x)
    return np.sum(e / e.sum(axis=1, keepdims=True) * w)


def weighted(x: Any, w: Any) -> Any:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return np.sum(e / np.sum(e * w * w, axis=1, keepdims=True) * w)


INVARIANT = (
    softmax_rows,
    softmax_columns,
    softmax_all,
    shift_of_all,
    shift_of_all_columns,
    temperature,
    log_softmax,
    logsumexp,
    entropy,
    smallest,
    weighted,
)


def not_normalised(x: Any, w: Any) -> Any:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return np.sum(e / (1e-2 + e.sum(axis=1, keepdims=True)) * w)


def largest_used(x: Any, w: Any) -> Any:
    largest = x.max(axis=1, keepdims=True)
    e = np.exp(x - largest)
    return np.sum(e / e.sum(axis=1, keepdims=True) * w * largest)


def other_axis(x: Any, w: Any) -> Any:
    """Rows are shifted each by its own, and columns summed: the shifts matter."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return np.sum(e / e.sum(axis=0) * w)


DEPENDENT = (not_normalised, largest_used, other_axis)


def arguments(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(5, 7)) * 2, random.uniform(0.5, 2.0, size=(5, 7))


@pytest.mark.parametrize("program", (*INVARIANT, *DEPENDENT), ids=lambda p: p.__name__)
def test_derivatives(program: Program) -> None:
    """Both modes and both orders agree with finite differences, ours with NumPy's value."""
    x, w = arguments()
    traced = tg.trace(program)
    np.testing.assert_allclose(traced(x, w), program(x, w), rtol=1e-13)
    tg.testing.check_grads(traced, (x, w), order=2, modes=("fwd", "rev"))


@pytest.mark.parametrize("program", INVARIANT, ids=lambda p: p.__name__)
def test_shift_has_no_derivative(program: Program) -> None:
    """The gradient does not ask which element is the largest."""
    traced = tg.trace(program)
    assert " == " not in traced.dump(*arguments()) + traced.dump(*arguments(), which="backward")


@pytest.mark.parametrize("program", DEPENDENT, ids=lambda p: p.__name__)
def test_derivative_of_the_largest_is_kept(program: Program) -> None:
    traced = tg.trace(program)
    assert " == " in traced.dump(*arguments()) + traced.dump(*arguments(), which="backward")


def test_ties_of_the_largest() -> None:
    x, w = arguments()
    x[:, 3] = x[:, 5] = x.max(axis=1)
    p = np.exp(x - x.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    wanted = p * (w - np.sum(p * w, axis=1, keepdims=True))
    gradient = tg.trace(softmax_rows).grad(x, w)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_large_scores(dtype: str) -> None:
    """Exponentials of 0 beside some that underflow, and scores of which all are far away."""
    x, w = (a.astype(dtype) for a in arguments())
    x[0, 0], x[1, :], x[2, 3], x[3, 1] = 1e4, -3e4, -np.inf, 80
    for program in (softmax_rows, lambda x, w: np.sum(tg.softmax(x, axis=1) * w)):
        gradient = tg.trace(program).grad(x, w)
        p = np.exp(x.astype(float) - x.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        wanted = p * (w - np.sum(p * w, axis=1, keepdims=True))
        assert gradient.dtype == dtype
        np.testing.assert_allclose(
            gradient, wanted, rtol=1e-4, atol=20 * float(np.finfo(dtype).eps)
        )


def test_nan_and_infinity() -> None:
    """A row with a NaN or a positive infinity has no derivative, the other rows have theirs."""
    x, w = arguments()
    clean = tg.trace(softmax_rows).grad(x, w)
    x[1, 2], x[3, 4] = np.nan, np.inf
    gradient = tg.trace(softmax_rows).grad(x, w)
    assert np.isnan(gradient[[1, 3]]).all()
    np.testing.assert_array_equal(gradient[[0, 2, 4]], clean[[0, 2, 4]])


@pytest.mark.parametrize(
    "program", [softmax_rows, lambda x, w: np.sum(tg.softmax(x, axis=1) * w)], ids=["hand", "ours"]
)
def test_keeps_probabilities_alone(program: Program) -> None:
    """One array is kept for the backward, and no exponential is computed there."""
    dump = tg.trace(program).dump(*arguments(), which="backward")
    (uses,) = [line for line in dump.splitlines() if line.startswith("#   uses")]
    assert re.fullmatch(r"#   uses     w \(argument\), \w+ \(kept\)", uses), uses
    assert "np.exp(" not in "".join(line.partition("#")[0] for line in dump.splitlines())


def test_attention_keeps_no_exponentials() -> None:
    def attention(q: Any, k: Any, v: Any) -> Any:
        return np.sum(tg.softmax(q @ k.T, axis=1) @ v)

    random = np.random.default_rng(0)
    given = [random.normal(size=(6, 4)) for _ in range(3)]
    traced = tg.trace(attention)
    dump = traced.dump(*given, which="backward")
    header = dump.partition("->")[0]
    assert header.count("f64[n, p]") == 1, header
    tg.testing.check_grads(traced, tuple(given), order=2, modes=("fwd", "rev"))


def test_tensor_agrees() -> None:
    x, w = arguments()
    tensor = tg.tensor(x, requires_grad=True)
    softmax_rows(tensor, tg.tensor(w)).backward()
    assert tensor.grad is not None
    np.testing.assert_allclose(tensor.grad.numpy(), tg.trace(softmax_rows).grad(x, w), atol=1e-15)


def test_forward_code_is_left_as_written() -> None:
    """What a program computes itself keeps its infinities: nothing is cancelled there."""

    def program(x: Any, y: Any) -> Any:
        largest = np.max(x)
        return x + (x == largest).astype(x.dtype) * (y - y)

    x, y = np.array([1.0, 2.0]), np.array([np.inf, np.inf])
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(tg.trace(program)(x, y), program(x, y))
