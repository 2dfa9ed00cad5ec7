"""Stencils over one to three axes: NumPy's own bits at every border, whatever the extents, on one
thread and on several; and the transposed stencil in their gradients."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import tracegrad as tg


def padded(u: np.ndarray) -> np.ndarray:
    """Weights 1 to 5 on 3 by 3 neighbours (3 in a row) in the first two axes, zero outside."""
    around = np.pad(u, [(1, 1)] * min(u.ndim, 2) + [(0, 0)] * max(u.ndim - 2, 0))
    result = 0.0 * u
    for at in product(range(3), repeat=min(u.ndim, 2)):
        window = tuple(slice(k, k + size) for k, size in zip(at, u.shape, strict=False))
        result = result + (1.0 + sum(at)) * around[window]
    return result


STENCILS: dict[str, Callable[[np.ndarray], Any]] = {
    "rolled rows": lambda u: np.roll(u, 1, 0) - 2.0 * u,
    "rolled columns": lambda u: np.roll(u, -1, u.ndim - 1) - 2.0 * u,
    "rolled along each axis": lambda u: (
        sum(np.roll(u, step, axis) for axis in range(u.ndim) for step in (1, -1)) - 2.0 * u
    ),
    "rolled far": lambda u: u - np.roll(u, 2, 0) * np.roll(u, -3, u.ndim - 1),
    "padded": padded,
}
SHAPES = {
    1: [(3,), (4,), (9,), (40_000,)],
    2: [(3, 3), (3, 7), (8, 3), (6, 9), (220, 130)],
    3: [(3, 3, 3), (4, 3, 5), (5, 6, 4), (33, 31, 32)],
}


@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("what", STENCILS)
def test_every_border_is_numpys(what: str, rank: int) -> None:
    stencil = STENCILS[what]
    function = tg.trace(stencil)
    for shape in SHAPES[rank]:
        u = np.random.default_rng(1).normal(size=shape)
        np.testing.assert_array_equal(function(u), stencil(u), err_msg=str(shape))


@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("what", ["rolled along each axis", "padded"])
def test_the_gradient_is_the_transposed_stencil(what: str, rank: int) -> None:
    """`<ct, f(t)> = <f^T ct, t>` for these linear ones: up to 10 terms of weights up to 5 in each
    of `t.size` elements, with integers: exact."""
    gradient = tg.grad(lambda u, ct: np.sum(ct * STENCILS[what](u)))
    for shape in SHAPES[rank]:
        t, ct = np.random.default_rng(2).integers(-4, 5, (2, *shape)).astype(float)
        assert np.sum(gradient(t, ct) * t) == np.sum(ct * STENCILS[what](t)), shape


def test_the_middle_asks_nothing() -> None:
    function = tg.trace(STENCILS["rolled along each axis"])
    for shape in ((30, 30), (300, 300)):
        text = function.source(np.ones(shape), which="primal")
        middle = text.rsplit("for j in range(", 1)[1].split("return")[0]
        assert middle.startswith("j_low, j_high)") and " if " not in middle


def bent(u: Any) -> Any:
    return np.roll(u, 1, 0) + np.roll(u, -1, 0) + 2 * np.roll(u, 1, 1) - 3 * u


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (2, 3), (3, 2), (4, 5), (5, 4), (9, 300)])
def test_the_gradient_of_a_nonlinear_stencil(shape: tuple[int, int]) -> None:
    """It reads rolled arrays rolled once more: integers, so that NumPy's adjoint is exact."""
    u = np.random.default_rng(3).integers(-4, 5, shape).astype(float)
    w = 2 * bent(u)
    expected = np.roll(w, -1, 0) + np.roll(w, 1, 0) + 2 * np.roll(w, -1, 1) - 3 * w
    value, gradient = ENERGY(u)
    assert value == np.sum(bent(u) ** 2)
    np.testing.assert_array_equal(gradient, expected)


ENERGY = tg.value_and_grad(lambda u: np.sum(bent(u) ** 2))


def test_what_is_left_to_ask_when_a_border_is_settled_is_settled_too() -> None:
    source = ENERGY.source(np.ones((9, 300)))
    middle = source.rpartition("for j in range(j_block")[2].partition("y_lost")[0]
    assert " if " not in middle and "x[i + 2, j]" in middle.replace("u[", "x["), middle
