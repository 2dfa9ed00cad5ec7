"""Short extents are taken as numbers where loops over them are then written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tracegrad.testing import check_grads

RNG = np.random.default_rng(7)


def pull(x: Any, mass: Any) -> Any:
    apart = x[None, :, :] - x[:, None, :]
    square = np.sum(apart * apart, axis=2) + 1.0
    return np.sum(apart * (mass / (square * np.sqrt(square)))[:, :, None], axis=1)


def orbits(x: Any, mass: Any) -> Any:
    def step(state: Any, _: Any) -> Any:
        x, v = state
        v = v + 0.1 * pull(x, mass)
        return (x + 0.1 * v, v), np.sum(v * v, axis=0)

    (x, v), speeds = tg.scan(step, (x, x * 0), length=2)
    return np.sum(x * x) + np.sum(v) + np.sum(np.sin(speeds))


def spread_out(x: Any, mass: Any) -> Any:
    centred = x - np.mean(x, axis=0)
    return np.sum(mass * np.sqrt(np.sum(centred * centred, axis=1)))


def turned(x: Any, mass: Any) -> Any:
    axis = np.sum(mass[:, None] * x, axis=0)
    along = np.sum(x * axis, axis=1, keepdims=True) * axis
    return np.sum(np.where(along > 0, np.exp(-along * along), x - along))


def points(count: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    return RNG.normal(size=(count, width)), RNG.uniform(0.5, 1, count)


@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("program", [orbits, spread_out, turned])
def test_as_the_version_for_all(program: Callable[..., Any], width: int) -> None:
    arguments = points(17, width)
    gradient = tg.grad(lambda x, mass: program(x, mass), argnums=(0, 1))
    found = gradient(*arguments)
    assert gradient.latest.short
    every = gradient.compiled(*arguments).primal(*arguments)
    assert not gradient.latest.short
    for a, b in zip(found, every, strict=True):
        # Sums of at most 17 * 17 terms in another order, two steps.
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
    check_grads(program, arguments, order=2 if width == 3 else 1)


def test_values_do_not_depend_on_threads() -> None:
    arguments = points(700, 3)
    gradient = tg.value_and_grad(lambda x, m: np.sum(pull(x, m) ** 2))
    threads = tg.get_num_threads()
    try:
        tg.set_num_threads(1)
        one = gradient(*arguments)
        tg.set_num_threads(2)
        two = gradient(*arguments)
    finally:
        tg.set_num_threads(threads)
    assert one[0] == two[0]
    np.testing.assert_array_equal(one[1], two[1])


def test_many_extents_share_one_version() -> None:
    traced = tg.trace(lambda x, m: spread_out(x, m))
    for width in (3, 2, 4, 5, 9, 3, 2):
        x, m = points(20, width)
        np.testing.assert_allclose(traced(x, m), spread_out(x, m), rtol=1e-13)
        assert traced.latest.short == (width == 3)
    assert len(traced.versions) == 2


@pytest.mark.parametrize(
    "program",
    [lambda x: np.sum(np.sin(x) * x), lambda x: x[:, 0] * x[:, 2], lambda x: x @ np.ones((3, 5))],
)
def test_only_where_it_matters(program: Callable[..., Any]) -> None:
    traced = tg.trace(program)
    traced(RNG.normal(size=(30, 3)))
    assert not traced.latest.short


def test_few_points_are_no_reason() -> None:
    traced = tg.trace(lambda x: np.sum(x * x, axis=1))
    traced(np.ones((2, 3)))
    assert not traced.latest.short


def test_code_for_others_is_for_all_extents() -> None:
    traced = tg.trace(spread_out)
    x, m = points(20, 3)
    traced(x, m)
    other = points(20, 6)
    np.testing.assert_allclose(traced.compiled(x, m).primal(*other), spread_out(*other))
    embedded = tg.njit_value_and_grad(spread_out, x, m)
    np.testing.assert_allclose(embedded(*other)[0], spread_out(*other))


def test_the_explanation_says_so() -> None:
    traced = tg.trace(spread_out)
    traced(*points(20, 3))
    assert "x.shape[1] == 3: loops over it are written out" in str(traced.explain())
