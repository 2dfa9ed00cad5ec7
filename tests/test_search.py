"""`argmax` and `argmin` over all elements: block by block, as NumPy's in every position.

Lengths stand around one and two blocks; the best, equal ones and NaNs stand in the first block, in
a later one, and in what is left over after the whole ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from codegen.library import portable
from tracegrad.ops import search
from tracegrad.ops.search import BLOCK

LENGTHS = (1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 7)


def ends(x: np.ndarray) -> Any:
    return np.argmax(x), np.argmin(x)


def placed(length: int) -> Iterator[list[int]]:
    """One, two or three places, near the borders of blocks among them."""
    random = np.random.default_rng(length)
    near = [0, BLOCK - 1, BLOCK, 2 * BLOCK - 1, 2 * BLOCK, 3 * BLOCK, length - 1]
    inside = [place for place in near if place < length]
    for count in (1, 2, 3):
        for _ in range(4):
            yield [int(at) for at in random.choice(inside, count)]


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "u1", "?"])
def test_the_first_of_equal_ones(dtype: str) -> None:
    function = tg.trace(ends)
    for length in LENGTHS:
        middle = np.random.default_rng(length).integers(3, 6, length).astype(dtype)
        for places in placed(length):
            for value in (0, 9):
                x = middle.copy()
                x[places] = value
                assert function(x) == ends(x), (length, places, value)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_the_first_nan(dtype: str) -> None:
    function = tg.trace(ends)
    for length in LENGTHS:
        for filled in (np.inf, -np.inf, 1.0):
            for places in placed(length):
                x = np.full(length, filled, dtype)
                assert function(x) == ends(x) == (0, 0)
                x[places[0]] = -filled
                assert function(x) == ends(x), (length, places, filled)
                x[places] = np.nan
                assert function(x) == ends(x), (length, places, filled)


@pytest.mark.parametrize("dtype", ["f8", "f4", "i4"])
def test_rows_of_several_blocks(dtype: str) -> None:
    """The first of equal ones in other blocks, a NaN behind a NaN, rows of infinities only."""
    random = np.random.default_rng(0)
    for columns in (255, 256, 257, 1100):
        x = random.integers(-4, 5, (60, columns)).astype(dtype)
        if x.dtype.kind == "f":
            x[10:30][random.random((20, columns)) < 0.003] = np.nan
            x[30:33], x[33:36], x[36:40, -1] = -np.inf, np.inf, np.nan
        x[40:, :-1], x[40:, -1] = 0, random.integers(-1, 2, 20)
        for find in (np.argmax, np.argmin):
            rows = tg.trace(lambda x, find=find: (find(x, axis=1), find(2 * x, axis=1)))
            for got, of in zip(rows(x), (x, 2 * x), strict=True):
                np.testing.assert_array_equal(got, find(of, axis=1))
            over = np.repeat(x, 9, axis=1)  # long rows go by eight at a time
            columnwise = tg.trace(lambda x, find=find: find(x, axis=0))
            np.testing.assert_array_equal(columnwise(over), find(over, axis=0))


@pytest.mark.parametrize("dtype", ["f8", "f4", "i2"])
@pytest.mark.parametrize("shape", [(23, 5), (3, 17, 4), (2, 1, 3)])
def test_eras_of_rows(shape: tuple[int, ...], dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than narrow numbers count: five of them make an era here."""
    monkeypatch.setattr(search, "ERA", 5)
    x = np.random.default_rng(3).integers(-3, 4, shape).astype(dtype)
    if dtype != "i2":
        x[..., -4:-2, 1], x[..., 0], x[..., -1, 2] = np.nan, -np.inf, np.nan
    for find in (np.argmax, np.argmin):
        for axis in range(len(shape) - 1):
            function = tg.trace(lambda x, find=find, axis=axis: find(x, axis=axis))
            np.testing.assert_array_equal(function(x), find(x, axis=axis))
            assert ", 5)" in function.source(x)


def test_zeros_of_both_signs_are_equal() -> None:
    x = np.zeros(2 * BLOCK + 3)
    x[::2] = -0.0
    assert tg.trace(ends)(x) == (0, 0)
    assert tg.trace(ends)(-x) == (0, 0)


@pytest.mark.parametrize("shape", [(70, 50), (5, 17, 41), (1, 4000), (4000, 1)])
def test_places_in_row_major_order(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).normal(size=shape)
    assert tg.trace(ends)(x) == ends(x)
    assert tg.trace(lambda x: ends(np.sin(x.T)))(x) == ends(np.sin(x.T))


def test_on_several_threads() -> None:
    """More than is searched on one thread, and the best in every one of its parts."""
    function = tg.trace(ends)
    x = np.random.default_rng(2).normal(size=500_001)
    for place in (0, 123_456, 250_000, 499_999, 500_000):
        y = x.copy()
        y[[place, -1]] = 9.0
        y[[place // 2, -2]] = -9.0
        assert function(y) == ends(y)
    assert "parallel(" in function.source(x)


def test_no_elements() -> None:
    with pytest.raises(ValueError, match="n"):
        tg.trace(ends)(np.zeros((3, 0)))


def rows_of(columns: int, dtype: str) -> np.ndarray:
    """Rows with equal ones, NaN behind NaN, infinities only, the best at either end."""
    random = np.random.default_rng(columns)
    x = random.integers(0, 20, (40, columns)).astype(dtype)
    if x.dtype.kind == "f":
        x[:20][random.random((20, columns)) < 0.05] = np.nan
        x[20], x[21], x[22], x[23, -1] = -np.inf, np.inf, np.nan, np.nan
    x[30, 0] = x[31, -1] = x[32, 0] = x[32, -1] = 30
    return x


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "i4", "u8", "u4", "u1"])
def test_short_rows(dtype: str) -> None:
    """One to eight vectors, whole ones and parts of one."""
    both = tg.trace(lambda x: (np.argmax(x, axis=-1), np.argmin(x, axis=-1)))
    for columns in (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 130):
        x = rows_of(columns, dtype)
        for rows in (x, x.reshape(5, 8, columns), x[:, ::-1]):
            for found, find in zip(both(rows), (np.argmax, np.argmin), strict=True):
                np.testing.assert_array_equal(found, find(rows, axis=-1), strict=True)


def test_short_rows_by_a_loop() -> None:
    """As stand-alone modules do it."""
    for columns in (1, 5, 64):
        x = rows_of(columns, "f8")
        for function, find in (
            (portable.first_largest, np.argmax),
            (portable.first_smallest, np.argmin),
        ):
            found = [function(x.ravel(), row * columns, columns) for row in range(len(x))]
            np.testing.assert_array_equal(found, find(x, axis=1))


def test_rows_of_a_known_length() -> None:
    """No loop over longer rows stands beside; one vector alone is a row too."""
    x = rows_of(9, "f4")
    rows = tg.trace(lambda x: np.argmax(np.reshape(x, (120, 3)), axis=1))
    np.testing.assert_array_equal(rows(x), np.argmax(np.reshape(x, (120, 3)), axis=1))
    assert "first_largest" in rows.source(x) and "running_max" not in rows.source(x)
    one = tg.trace(lambda x: np.argmin(np.reshape(x, 360)[:50]))
    assert one(x) == np.argmin(x.ravel()[:50])
