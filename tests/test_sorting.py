"""Sorting, quantiles, tables and convolutions beyond the samples: sizes, ties, NaN, errors."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from codegen.library import ordering, ranking, sorting
from codegen.library.sorting import searchsorted

VALUES = np.random.default_rng(0)


FUNCTIONS = pytest.mark.parametrize("library", [ordering, sorting], ids=["ordering", "alone"])
"""Those of compiled code, and those of stand-alone modules."""


def order_of(library: Any, x: np.ndarray) -> np.ndarray:
    """Of each row, by the function that compiled code calls."""
    order = np.empty(x.size, np.int64)
    library.argsort(x.ravel(), x.shape[-1], order)
    return order.reshape(x.shape)


def sorted_by(library: Any, x: np.ndarray) -> np.ndarray:
    out = np.empty(x.size, x.dtype)
    library.sort(x.ravel(), x.shape[-1], out)
    return out.reshape(x.shape)


@FUNCTIONS
@pytest.mark.parametrize("size", [0, 1, 2, 15, 16, 17, 31, 33, 100, 1000, 4097])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8, np.uint64, np.bool_])
def test_order_is_numpys_stable_one(library: Any, size: int, dtype: Any) -> None:
    x = VALUES.integers(0, 50, (3, size)).astype(dtype)
    if x.dtype.kind == "f":
        x[x == 7] = np.nan
        x[x == 9] = -0.0
        x[x == 11] = -np.inf
    assert np.array_equal(order_of(library, x), np.argsort(x, axis=-1, kind="stable"))
    assert np.array_equal(sorted_by(library, x), np.sort(x), equal_nan=x.dtype.kind == "f")


@FUNCTIONS
@pytest.mark.parametrize("pattern", ["sorted", "reversed", "equal", "saw"])
def test_order_of_patterns(library: Any, pattern: str) -> None:
    base = np.arange(1000.0)
    x = {"sorted": base, "reversed": base[::-1].copy(), "equal": base * 0, "saw": base % 37}[
        pattern
    ]
    assert np.array_equal(order_of(library, x), np.argsort(x, kind="stable"))
    assert np.array_equal(sorted_by(library, x), np.sort(x))


@pytest.mark.parametrize("library", [ranking, sorting], ids=["ranking", "alone"])
@pytest.mark.parametrize("size", [1, 2, 100, 2048, 2049, 9000])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8, np.uint64, np.bool_])
@pytest.mark.parametrize("kind", ["normal", "ties", "sorted", "equal", "holes", "none"])
def test_places_of_ranks_are_those_of_the_stable_order(
    library: Any, size: int, dtype: Any, kind: str
) -> None:
    x = 20 + 10 * VALUES.normal(size=(2, size))
    made = {
        "normal": x,
        "ties": np.round(x / 10),
        "sorted": np.sort(x)[:, ::-1],
        "equal": np.zeros_like(x),
        "holes": np.where(x < 17, np.nan, np.where(x > 30, np.inf, x)),
        "none": np.full_like(x, np.nan),
    }[kind]
    x = (made if np.dtype(dtype).kind == "f" else np.nan_to_num(made, posinf=30)).astype(dtype)
    wanted = np.array([size - 1, (size - 1) // 2, size // 2, 0, *VALUES.integers(0, size, 3)])
    found = np.empty((2, len(wanted)), np.int64)
    library.argselect(x.ravel(), size, wanted, found.ravel())
    assert np.array_equal(found, np.argsort(x, axis=-1, kind="stable")[:, wanted])


def test_a_period_in_the_data_is_no_bad_luck() -> None:
    """Columns of a matrix, one after the other in memory: the sample is of all of them."""
    x = (VALUES.normal(size=(64, 64)) + 100 * np.arange(64)).ravel()
    keys = np.empty(x.size + 1)
    below, count = ranking.sort_near(x, 0, x.size, x.size, 2000, keys)
    assert below <= 2000 < below + count < below + x.size // 2
    assert keys[2000 - below] == np.sort(x)[2000]


def test_gradients_of_long_quantiles() -> None:
    """They go to the elements that are interpolated, with the weights of that."""
    x = VALUES.normal(size=5001)
    order = np.argsort(x)
    wanted = np.zeros(5001)
    wanted[order[2500]] = 3.0
    wanted[order[[1000, 1001]]] += (0.25, 0.75)
    program = tg.trace(lambda x: 3 * np.median(x) + np.quantile(x, 1000.75 / 5000))
    np.testing.assert_allclose(program.grad(x), wanted, atol=1e-9)
    assert program(x) == pytest.approx(3 * np.median(x) + np.quantile(x, 1000.75 / 5000), 1e-14)
    assert "argselect" in program.source(x)


def test_sorted_elements_need_no_order() -> None:
    """Unless a derivative reads it, or the program."""
    x = VALUES.normal(size=(6, 9))
    for axis in (0, 1):
        traced = tg.trace(lambda x, axis=axis: np.exp(np.sort(x, axis=axis)))
        np.testing.assert_allclose(traced(x), np.exp(np.sort(x, axis=axis)), rtol=1e-15)
        assert "= np.sort(" in traced.dump(x, which="primal")
    both = tg.trace(lambda x: (np.sort(x, axis=1), np.argsort(x, axis=1)))
    values, order = both(x)
    assert np.array_equal(values, np.sort(x)) and np.array_equal(order, np.argsort(x))
    assert "= np.sort(" not in both.dump(x, which="primal")
    other = tg.trace(lambda x, y: np.take_along_axis(y, np.argsort(x, axis=1), axis=1))
    assert np.array_equal(other(x, -x), -np.sort(x))


def test_the_code_of_a_sort_is_found_on_disk() -> None:
    """By a process that has not registered NumPy's functions yet."""
    program = (
        "import numpy as np, tracegrad as tg\n"
        "f = tg.trace(lambda x: (np.sort(x), np.argsort(-x)))\n"
        "print(f(np.array([3.0, 1.0, 2.0])))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout == "(array([1., 2., 3.]), array([0, 2, 1]))\n"


def test_places_among_ties_and_nan() -> None:
    a = np.array([-np.inf, 0.0, 0.0, 1.0, np.inf, np.nan, np.nan])
    for value in (*a, -1.0, 0.5, 2.0):
        for right in (False, True):
            want = np.searchsorted(a, value, "right" if right else "left")
            assert searchsorted(a, value, right) == want


def test_derivative_of_a_sort_returns_to_where_the_elements_were() -> None:
    x, weights = VALUES.normal(size=200), VALUES.normal(size=200)
    found = tg.grad(lambda x: np.sum(np.sort(x) * weights))(x)
    want = np.empty(200)
    want[np.argsort(x)] = weights
    assert np.array_equal(found, want)


def test_sort_in_place() -> None:
    @tg.trace
    def lowest(x: Any) -> Any:
        y = x.copy()
        y.sort()
        return y[:2]

    assert np.array_equal(lowest(np.array([3.0, 1.0, 2.0])), [1.0, 2.0])
    with pytest.raises(tg.UnsupportedError, match="changes x in NumPy"):
        tg.tensor([2.0, 1.0]).sort()


def test_one_version_serves_all_sizes() -> None:
    median = tg.trace(lambda x: np.median(x))
    for size in (4, 5, 6, 100, 101):
        x = VALUES.normal(size=size)
        assert median(x) == np.median(x)
    assert np.isnan(median(np.array([1.0, np.nan, 2.0])))


def test_quantile_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"Quantiles must be in the range \[0, 1\]"):
        tg.trace(lambda x: np.quantile(x, 1.5))(np.ones(3))
    with pytest.raises(ValueError, match=r"Percentiles must be in the range \[0, 100\]"):
        tg.trace(lambda x: np.percentile(x, -1))(np.ones(3))
    with pytest.raises(ValueError, match="'middle' is not a valid method"):
        tg.trace(lambda x: np.quantile(x, 0.5, method="middle"))(np.ones(3))
    quantile = tg.trace(lambda x, q: np.quantile(x, q, axis=0))
    x, q = VALUES.normal(size=(5, 2)), np.array([0.2, 1.5, 1.0])
    want = np.quantile(x, [0.2, 1.0], axis=0)
    found = quantile(x, q)
    np.testing.assert_allclose(found[[0, 2]], want, rtol=1e-14)
    assert np.isnan(found[1]).all()


def test_digitize_wants_known_bins() -> None:
    with pytest.raises(tg.UnsupportedError, match=r"use np\.searchsorted"):
        tg.trace(lambda x, bins: np.digitize(x, bins))(np.ones(3), np.arange(2.0))
    with pytest.raises(ValueError, match="monotonically"):
        tg.trace(lambda x: np.digitize(x, [0, 2, 1]))(np.ones(3))


def test_kth_out_of_bounds() -> None:
    with pytest.raises(ValueError, match=r"kth\(=3\) out of bounds"):
        tg.trace(lambda x: np.partition(x, 3))(np.ones(3))


@pytest.mark.parametrize("sizes", [(1, 1), (5, 1), (1, 5), (3000, 7), (7, 3000), (1100, 1100)])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_convolution_of_any_lengths(sizes: tuple[int, int], mode: Any) -> None:
    a, v = (VALUES.normal(size=size) for size in sizes)
    found = tg.trace(lambda a, v: np.convolve(a, v, mode))(a, v)
    bound = 4 * min(sizes) * np.finfo(float).eps * np.convolve(np.abs(a), np.abs(v), mode)
    assert np.all(np.abs(found - np.convolve(a, v, mode)) <= bound)


def test_convolution_of_nothing() -> None:
    with pytest.raises(ValueError, match="v cannot be empty"):
        tg.trace(lambda a, v: np.convolve(a, v))(np.ones(3), np.ones(0))
    with pytest.raises(ValueError, match="mode must be one of"):
        tg.trace(lambda a: np.convolve(a, a, "half"))(np.ones(3))


def test_table_errors() -> None:
    with pytest.raises(tg.ShapeError, match="fp and xp are not of the same length"):
        tg.trace(lambda x, p: np.interp(x, p, p[1:]))(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="array of sample points is empty"):
        tg.trace(lambda x, p: np.interp(x, p, p))(np.ones(2), np.ones(0))


def test_batches() -> None:
    x = VALUES.normal(size=(4, 9))
    rows = tg.vmap(lambda row: np.median(row) + np.sort(row)[0])(x)
    np.testing.assert_allclose(rows, np.median(x, axis=1) + x.min(axis=1), rtol=1e-14)
    kernel = VALUES.normal(size=3)
    smooth = tg.vmap(lambda row: np.convolve(row, kernel))(x)
    np.testing.assert_allclose(smooth, [np.convolve(row, kernel) for row in x], atol=1e-14)


def test_polynomials_with_many_terms() -> None:
    with pytest.raises(tg.UnsupportedError, match="257 terms"):
        tg.trace(lambda p: np.polyval(p, 2.0))(np.ones(257))


def test_slopes_of_too_few_points() -> None:
    with pytest.raises(ValueError, match="Shape of array too small"):
        tg.trace(lambda y: np.gradient(y, edge_order=2))(np.ones(2))


@pytest.mark.parametrize(
    "program",
    [np.median, np.nanmedian, lambda y: np.quantile(y, 0.3), lambda y: np.sum(np.sort(y)[:2])],
)
def test_order_of_what_a_mask_selects(program: Any) -> None:
    x = VALUES.normal(size=51)
    found = tg.trace(lambda x: program(x[x > 0]))
    for values in (x, x + 0.5, np.abs(x)):
        np.testing.assert_allclose(found(values), program(values[values > 0]), rtol=1e-14)
    tg.testing.check_grads(lambda x: program(x[x > 0]), (x,), order=1)


def test_median_of_nothing_that_a_mask_selects() -> None:
    for program in (np.median, np.nanmedian, lambda y: np.quantile(y, 0.3)):
        found = tg.trace(lambda x, program=program: program(x[x > 9]))
        with pytest.raises(ValueError, match="sizes that data decides on"):
            found(np.ones(3))
    assert np.isnan(tg.trace(np.median)(np.ones(0)))
    with pytest.raises(ValueError, match="no quantile of nothing"):
        tg.trace(lambda x: np.quantile(x, 0.5))(np.ones(0))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.bool_, np.int64])
def test_the_middle_of_integers_has_room(dtype: Any) -> None:
    """NumPy takes the mean of the two in the middle in float64: 100 + 100 is no int8."""
    most = 1 if dtype is np.bool_ else np.iinfo(dtype).max
    x = np.array([most, 0, most, most - 1, most, most]).astype(dtype)
    for program in (np.median, np.nanmedian):
        found = tg.trace(program)(x)
        assert found == program(x) and found.dtype == program(x).dtype, program


@pytest.mark.parametrize("value", [0.0, 2.5, np.nan])
def test_places_in_one_number(value: float) -> None:
    def places(x: Any) -> Any:
        return np.argsort(x), np.argsort(x, axis=None), np.argwhere(x), np.argwhere(x > 1)

    for found, wanted in zip(tg.trace(places)(value), places(np.asarray(value)), strict=True):
        assert found.dtype == wanted.dtype
        assert found.shape == wanted.shape
        np.testing.assert_array_equal(found, wanted)
    with pytest.raises(np.exceptions.AxisError):
        tg.trace(lambda x: np.argsort(x, axis=1))(value)
