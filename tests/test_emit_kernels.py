"""Kernels as functions of their caller's module: whether BLAS is called in their blocks is seen
through calls and through what is linked in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
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
