"""Interpolation in tables: `interp`, a composition of a search and four gathers.

    y = interp(x, xp, fp)   is   fp[j] + (fp[j+1] - fp[j]) / (xp[j+1] - xp[j]) * (x - xp[j])

where `xp[j] <= x < xp[j+1]`; the derivative at a point of the table is the one to its right.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.errors import ShapeError
from tracegrad.ir.dims import Size, holds, must_be_same, of_data, required
from tracegrad.ops.bounds import WITHIN
from tracegrad.ops.constant import astype
from tracegrad.ops.gathering import GATHER
from tracegrad.ops.joining import concatenate
from tracegrad.ops.op import PUBLIC, as_operand, bind, public, sample, type_of
from tracegrad.ops.reduction import size_value
from tracegrad.ops.selection import clip, where
from tracegrad.ops.slicing import slices
from tracegrad.ops.sorting import argsort, searchsorted


@public(np.interp)
def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None):
    """Piecewise linear interpolation of the points `(xp, fp)` at `x`, in float64.

    `xp` ascends (that is not checked, as in NumPy). Outside of it the value is `left`, `right`, or
    that at the end; with `period` everything repeats. Raises ValueError for empty tables and
    `ShapeError` if the lengths differ.
    """
    x, xp, fp = (astype(as_operand(value), np.float64) for value in (x, xp, fp))
    _check(type_of(xp), type_of(fp))
    if period is not None:
        x, xp, fp = _repeated(x, xp, fp, period)
        left = right = None
    size = type_of(xp).shape[0]
    first, last = (_entry(xp, 0), _entry(fp, 0)), (_entry(xp, size - 1), _entry(fp, size - 1))
    many = of_data(size) or holds(2, "<=", size)
    inner = _inside(x, xp, fp, size) if many else where(x == x, first[1], x)
    low = first[1] if left is None else left
    high = last[1] if right is None else right
    return where(x < first[0], low, where(x > last[0], high, inner))


def _check(xp: Any, fp: Any) -> None:
    if xp.rank != 1 or fp.rank != 1:
        raise ValueError(f"interp: the points have to be vectors, not {xp} and {fp}")
    if not must_be_same(xp.shape[0], fp.shape[0]):
        raise ShapeError(
            f"fp and xp are not of the same length: {xp.in_figures()} and {fp.in_figures()}"
        )
    if not required(1, "<=", xp.shape[0]):
        raise ValueError("array of sample points is empty")


def _repeated(x: Any, xp: Any, fp: Any, period: Any) -> tuple[Any, Any, Any]:
    """One period of the points in order, with one more at each side."""
    if isinstance(period, int | float) and period == 0:
        raise ValueError("period must be a non-zero value")
    period = PUBLIC["abs"](as_operand(period))
    x, xp = x % period, xp % period
    order = argsort(xp)
    xp, fp = (PUBLIC["take"](values, order) for values in (xp, fp))
    size = type_of(xp).shape[0]
    ends = [slices(values, {0: (at, 1, 1)}) for values in (xp, fp) for at in (size - 1, 0)]
    return (
        x,
        concatenate((ends[0] - period, xp, ends[1] + period)),
        concatenate((ends[2], fp, ends[3])),
    )


def _entry(values: Any, at: Size) -> Any:
    return PUBLIC["squeeze"](slices(values, {0: (at, 1, 1)}), 0)


def _inside(x: Any, xp: Any, fp: Any, size: Size) -> Any:
    """The line through the two points around `x`; from the nearer end at the last point. A table
    whose size data decides on may have one point only, which then is both.
    """
    place, last = searchsorted(xp, x, "right") - 1, size_value(size - 1)
    many = not of_data(size)
    at = clip(place, 0, last - 1 if many else PUBLIC["maximum"](last - 1, 0))
    after = at + 1 if many else PUBLIC["minimum"](at + 1, last)
    (x_low, x_high), (y_low, y_high) = (
        [bind(GATHER, values, _within(index, size), axes=(0,)) for index in (at, after)]
        for values in (xp, fp)
    )
    width = x_high - x_low
    slope = (y_high - y_low) / (width if many else where(after == at, 1, width))
    low, high = slope * (x - x_low) + y_low, slope * (x - x_high) + y_high
    found = where(x == x_high, high, low)
    return where(found == found, found, where(x == x_low, y_low, high))


def _within(index: Any, size: Size) -> Any:
    return bind(WITHIN, index, size=size, axis=0)


sample(lambda x, y: np.interp(x, np.array([-3.0, -0.5, 0.1, 2.5]), y), (3, 4), (4,))
sample(lambda x, p: np.interp(x / 5 + 0.5, np.arange(5) + 0.2 * np.tanh(p), p**2), (1,), (5,))
sample(lambda p: np.interp([-9, 0.5, 1.4, 2.5, 9], np.arange(4) + 0.2 * np.sin(p), p), (4,))
sample(lambda x, y: np.interp(x, np.arange(-1.0, 2.0), y, left=-5.0, right=y[0]), (9,), (3,))
sample(lambda x, y: np.interp(x / 30 + [-7, 0, 0.7], [0.2, 0.9, 0.5], y, period=1.3), (3,), (3,))
sample(lambda x, y: np.interp(x, np.array([0.3]), y), (4,), (1,), smooth=False)
sample(lambda x: np.interp(x, [-1, 0, 1], [3, 1, 2]), (5,), kinds="fi", smooth=False)
sample(lambda x: np.interp(np.where(x > 1, np.nan, x), [-1, 0, 1], [3, 1, 2]), (9,), smooth=False)
sample(lambda x: np.interp(x[0], [-1, 0, 1], [3, 1, 2]) * x[1], (2,))
