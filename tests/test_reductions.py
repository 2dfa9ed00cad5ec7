"""Reductions are fast over every axis, and are what NumPy's are."""

import math
from typing import Any

import numpy as np
import pytest

import tracegrad as tg

SHAPES = [(1, 2048), (3, 2048), (4, 2500), (17, 2051), (6, 70), (0, 3000)]
"""Rows that go by four or eight at a time, with and without some left; short ones; none."""

OVER_ROWS = [
    lambda x: np.sum(x, axis=0),
    lambda x: np.mean(x * x, axis=0),
    lambda x: np.prod(x, axis=0),
    lambda x: np.any(x > 1, axis=0),
    lambda x: np.linalg.norm(x, axis=0),
    lambda x: np.sum(x[1:-1], axis=0),
    lambda x: (x + 1, np.sum(x + 1, axis=0)),
]
ORDER = [
    lambda x: np.max(x, axis=0),
    lambda x: np.min(x, axis=0),
    lambda x: np.argmax(x, axis=0),
    lambda x: np.argmin(x, axis=0),
]


def matrix(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.5, 1.5, shape).astype(dtype)


# NumPy warns of means of nothing; so the numbers are compared.
@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered")
@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_over_rows(shape: tuple[int, int], dtype: str) -> None:
    x = matrix(shape, dtype)
    programs = OVER_ROWS + (ORDER if shape[0] else [])
    for program in programs:
        got, want = tg.trace(program)(x), program(x)
        pairs = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
        for mine, other in pairs:  # one rounding for each of the rows
            np.testing.assert_allclose(mine, other, rtol=(shape[0] + 2) * np.finfo(dtype).eps)


def test_rows_together_have_the_bits_of_one_by_one() -> None:
    """The order of the updates of an element does not depend on how long the rows are."""
    x = matrix((11, 5000), "f4")
    total = tg.trace(lambda x: np.sum(x, axis=0))
    parts = [total(np.ascontiguousarray(x[:, k : k + 100])) for k in range(0, 5000, 100)]
    assert np.concatenate(parts).tobytes() == total(x).tobytes()


def test_rows_together_gradient() -> None:
    x = matrix((7, 2100), "f8")
    loss = tg.trace(lambda x: np.sum(np.sum(x * x, axis=0) ** 2))
    np.testing.assert_allclose(loss.grad(x), 4 * x * np.sum(x * x, axis=0), rtol=1e-14)


def test_source_tells_of_rows_together() -> None:
    source = tg.trace(lambda x: np.sum(x, axis=0)).source(matrix((4, 5), "f8"))
    assert "i_rest = max(0, n - n % 4) if m >= 2048 else 0" in source
    assert "y_j += x[i + 3, j]" in source
    source = tg.trace(lambda x: np.max(x, axis=0)).source(matrix((4, 5), "f8"))
    assert "y_j = running_max(y_j, x[i + 7, j])" in source


def test_recurrences_of_rows_together() -> None:
    """A loop whose rows depend on the row before keeps their order."""

    @tg.trace
    def decayed(x):
        return tg.scan(lambda h, row: (0.5 * h + row, None), np.zeros_like(x[0]), x)[0]

    x = matrix((19, 2100), "f8")
    want = np.zeros(2100)
    for row in x:
        want = 0.5 * want + row
    np.testing.assert_allclose(decayed(x), want, rtol=1e-15)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_order_of_special_values(dtype: str) -> None:
    """NaN wins, infinities and zeros of both signs are numbers like others."""
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0], dtype)
    rows = np.array(np.meshgrid(special, special, special)).reshape(3, -1).T.copy()
    wide = np.tile(rows, (1, 30))
    for x in (rows, wide, wide.T.copy()):
        for reduce in (np.max, np.min):
            for axis in (0, 1, None):
                got = tg.trace(lambda x, reduce=reduce, axis=axis: reduce(x, axis=axis))(x)
                np.testing.assert_array_equal(got, reduce(x, axis=axis))
        with np.errstate(all="ignore"):
            want = np.prod(x, axis=1)
            np.testing.assert_array_equal(tg.trace(lambda x: np.prod(x, axis=1))(x), want)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_long_products(dtype: str) -> None:
    """A product of n factors has n - 1 roundings in any order."""
    x = np.exp(np.random.default_rng(1).uniform(-1, 1, 3001) / 10).astype(dtype)
    want = np.prod(x.astype(np.longdouble))
    got = tg.trace(np.prod)(x)
    assert abs(got - want) <= len(x) * np.finfo(dtype).eps * want
    assert got.tobytes() == tg.trace(np.prod)(np.repeat(x, 2)[::2]).tobytes()


@pytest.mark.parametrize("columns", [1, 10, 255, 256, 257, 513, 700])
def test_sums_of_rows_inside_a_sum_over_all(columns: int) -> None:
    """The first block of a row stands apart from the others; of the sum over all rows it is one
    block of many, with the same bits however many threads there are."""

    def f(x: Any, w: Any) -> Any:
        return np.sum(x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + 1e-5) * w)

    random = np.random.default_rng(columns)
    x, w = random.normal(size=(300, columns)), random.normal(size=columns)
    traced = tg.trace(f).value_and_grad
    value, slope = traced(x, w)
    size = np.mean(x * x, axis=1, keepdims=True) + 1e-5
    shares = np.sum(x * w, axis=1, keepdims=True) / (size**1.5 * columns)
    # some 20 roundings of each term, of terms of up to this size
    scale = 20 * np.finfo(float).eps
    assert abs(value - math.fsum((x / np.sqrt(size) * w).ravel())) <= scale * np.sum(np.abs(x * w))
    wanted = w / np.sqrt(size) - x * shares
    bound = scale * (np.abs(w) / np.sqrt(size) + np.abs(x) * np.sum(np.abs(x * w)) / size**1.5)
    assert np.all(np.abs(slope - wanted) <= bound)
    before = tg.get_num_threads()
    tg.set_num_threads(1)
    try:
        again, slope_again = traced(x, w)
    finally:
        tg.set_num_threads(before)
    assert value == again and np.array_equal(slope, slope_again)
