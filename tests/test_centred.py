"""Sums that vanish because something is centred are not taken, and derivatives are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracegrad as tg

Program = Callable[..., Any]


def variance(x: Any, w: Any) -> Any:
    return np.var(x)


def deviations(x: Any, w: Any) -> Any:
    return np.sum(np.std(x, axis=0) * w[0])


def unbiased(x: Any, w: Any) -> Any:
    return np.sum(np.var(x, axis=1, ddof=1) * w[:, 0])


def standardised(x: Any, w: Any) -> Any:
    return np.sum(((x - x.mean(0)) / x.std(0)) ** 3 * w)


def layer_norm(x: Any, w: Any) -> Any:
    centred = x - np.mean(x, axis=1, keepdims=True)
    scale = np.sqrt(np.mean(centred**2, axis=1, keepdims=True) + 1e-5)
    return np.sum(np.tanh(centred / scale * w[0] + w[1]))


def correlation(x: Any, w: Any) -> Any:
    a, b = x - x.mean(), w - w.mean()
    return np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b))


def of_all_but_rows(x: Any, w: Any) -> Any:
    """Centred as a whole, so that sums of rows do not vanish."""
    centred = x - x.mean()
    return np.sum(np.sum(centred * centred * w, axis=1) ** 2)


def used_elsewhere(x: Any, w: Any) -> Any:
    mean = x.mean(axis=0)
    centred = x - mean
    return np.sum(centred**2) * np.sum(mean * w[0]) + np.sum(x * w)


def centred_on_other(x: Any, w: Any) -> Any:
    """With weights that are those of no mean."""
    centred = x - np.sum(x * w, axis=1, keepdims=True)
    return np.sum(centred**2)


PROGRAMS = (
    variance,
    deviations,
    unbiased,
    standardised,
    layer_norm,
    correlation,
    of_all_but_rows,
    used_elsewhere,
    centred_on_other,
)


def arguments() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    return random.normal(3.0, 2.0, size=(6, 5)), random.uniform(0.5, 2.0, size=(6, 5))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_derivatives(program: Program) -> None:
    x, w = arguments()
    traced = tg.trace(program)
    np.testing.assert_allclose(traced(x, w), program(x, w), rtol=1e-13)
    tg.testing.check_grads(traced, (x, w), order=2, modes=("fwd", "rev"))


@pytest.mark.parametrize("program", [variance, deviations, unbiased])
def test_backward_takes_no_sum(program: Program) -> None:
    x, w = arguments()
    dump = tg.trace(lambda x: program(x, w)).dump(x, which="backward")
    assert "np.sum(" not in "".join(line.partition("#")[0] for line in dump.splitlines())


def test_value_and_gradient_read_twice() -> None:
    """The sum, then the sum of squares beside the gradient."""
    x = np.random.default_rng(0).normal(size=1000)
    source = tg.trace(lambda x: np.var(x)).value_and_grad.source(x)
    assert source.count("for i in range(i_block") == 2, source


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_far_from_zero(dtype: str) -> None:
    """Rounding does not enter through the mean: the gradient sums to zero better than before."""
    x = (np.random.default_rng(1).normal(size=(40, 30)) + 1000).astype(dtype)
    gradient = tg.trace(lambda x: np.sum(np.var(x, axis=1))).grad(x)
    exact = x.astype(float)
    wanted = 2 / 30 * (exact - exact.mean(axis=1, keepdims=True))
    assert gradient.dtype == dtype
    error = 4 * 1000 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(gradient, wanted, atol=error)


def test_nan_stays_in_its_row() -> None:
    x, w = arguments()
    clean = tg.trace(layer_norm).grad(x, w)
    x[2, 3], x[4, 0] = np.nan, np.inf
    gradient = tg.trace(layer_norm).grad(x, w)
    assert np.isnan(gradient[[2, 4]]).all()
    np.testing.assert_array_equal(gradient[[0, 1, 3, 5]], clean[[0, 1, 3, 5]])


def test_forward_code_is_left_as_written() -> None:
    """What a program sums itself is summed: rounding errors and infinities are NumPy's."""

    def program(x: Any) -> Any:
        centred = x - np.mean(x)
        return centred - np.mean(centred)

    x = np.array([1.0, np.inf, 2.0])
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(tg.trace(program)(x), program(x))
    x = np.random.default_rng(0).normal(1e3, 1.0, 50)
    np.testing.assert_allclose(tg.trace(program)(x), program(x), atol=1e-12)
