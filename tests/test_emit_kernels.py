"""Kernels as functions of their caller's module: whether BLAS is called in their blocks is seen
through calls and through what is linked in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from codegen import shortcuts
from codegen.emit import kernels

ITEMS = 1000


def product(a: Any, x: Any) -> Any:
    """Written in the module itself."""
    return tg.while_loop(lambda c: np.sum(c * c) > 1.0, lambda c: a @ c, x)


def solution(a: Any, x: Any) -> Any:
    """Linked in."""
    return tg.while_loop(lambda c: np.sum(c * c) > 1.0, lambda c: np.linalg.solve(a, c), x)


def neither(a: Any, x: Any) -> Any:
    return tg.while_loop(lambda c: np.sum(c * c) > 1.0, lambda c: c * a[0, 0], x)


@pytest.mark.parametrize(
    ("function", "factor", "expected"),
    [(product, 0.25, True), (solution, 4.0, True), (neither, 0.25, False)],
)
def test_a_launch_knows_whether_blas_is_called(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, function: Any, factor: float, expected: bool
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found: list[bool] = []

    def seen(*given: Any) -> bool:
        found.append(real(*given))
        return found[-1]

    real = kernels.calls_blas
    monkeypatch.setattr(kernels, "calls_blas", seen)
    a = np.broadcast_to(factor * np.eye(30), (ITEMS, 30, 30)).copy()
    x = np.ones((ITEMS, 30, 30))
    result = tg.vmap(function)(a, x)
    assert found == [expected]
    # 900 / 16**k falls below 1 at k = 3; powers of two are exact.
    np.testing.assert_array_equal(result, np.full((ITEMS, 30, 30), 4.0**-3))


def test_calls_of_nests_that_cannot_fail_are_not_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor are the bytes of arrays of one shape computed and checked for each of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    failing: list[bool] = []
    counted: list[Any] = []

    def seen(function: Any) -> bool:
        failing.append(can_fail(function))
        return failing[-1]

    def counting(builder: Any, shape: Any, *given: Any) -> Any:
        counted.append(tuple(map(str, shape)))
        return byte_count(builder, shape, *given)

    def deep(weights: Any, x: Any) -> Any:
        for w in weights:
            y = np.tanh(x @ w)
            x = x + np.exp(-y * y) / (1 + np.sqrt(np.abs(y) + 1e-3))
        return np.mean(x * x)

    can_fail, byte_count = kernels.can_fail, shortcuts.byte_count
    monkeypatch.setattr(kernels, "can_fail", seen)
    monkeypatch.setattr(shortcuts, "byte_count", counting)
    random = np.random.default_rng(4)
    weights, x = [random.normal(size=(7, 7)) / 3 for _ in range(6)], random.normal(size=(5, 7))
    value, slopes = tg.value_and_grad(deep)(weights, x)
    assert value == pytest.approx(deep(weights, x), rel=1e-13)
    step = [1e-6 * random.normal(size=(7, 7)) for _ in weights]
    up, down = ([w + sign * s for w, s in zip(weights, step, strict=True)] for sign in (1, -1))
    change = (deep(up, x) - deep(down, x)) / 2
    assert sum(np.sum(d * s) for d, s in zip(slopes, step, strict=True)) == pytest.approx(change)
    assert failing and not any(failing)
    assert len(counted) == len(set(counted))
