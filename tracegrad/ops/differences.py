"""Differences of neighbours, slopes, and the integral by the trapezoidal rule: slices composed.

diff(x)   is   x[1:] - x[:-1]           trapezoid(y)   is   sum((y[1:] + y[:-1]) / 2)
gradient(y, h)   is   (y[2:] - y[:-2]) / (2*h), and at the ends (y[1] - y[0]) / h
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.ir.dims import must_be_same, required
from tracegrad.ops.axes import ravel
from tracegrad.ops.comparison import EQUAL
from tracegrad.ops.computed import as_extent
from tracegrad.ops.constant import astype
from tracegrad.ops.joining import concatenate
from tracegrad.ops.op import PUBLIC, as_operand, public, sample, type_of
from tracegrad.ops.picking import counting
from tracegrad.ops.rearrange import roll
from tracegrad.ops.reduction import broadcast_to, sum_
from tracegrad.ops.selection import where
from tracegrad.ops.shape import normal_axis, reshape
from tracegrad.ops.slicing import slices


@public(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """The differences of neighbours along `axis`, taken `n` times."""
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    a = as_operand(a)
    if type_of(a).rank == 0:
        raise ValueError("diff requires input that is at least one dimensional")
    axis = normal_axis(axis, type_of(a).rank)
    ends = [None if end is None else _as_end(end, a, axis) for end in (prepend, append)]
    if any(end is not None for end in ends):
        a = concatenate([part for part in (ends[0], a, ends[1]) if part is not None], axis)
    for _ in range(n):
        a = _differences(a, axis)
    return a


def _differences(a: Any, axis: int) -> Any:
    earlier, later = _neighbours(a, axis)
    return later != earlier if type_of(a).dtype == bool else later - earlier


def _neighbours(a: Any, axis: int) -> tuple[Any, Any]:
    """All elements along the axis but the last one, and all but the first one."""
    count = as_extent(type_of(a).shape[axis] - 1)
    if count == 0:
        nothing = slices(a, {axis: (0, 0, 1)})
        return nothing, nothing
    return slices(a, {axis: (0, count, 1)}), slices(a, {axis: (1, count, 1)})


def _as_end(end: Any, a: Any, axis: int) -> Any:
    end = as_operand(end)
    if type_of(end).rank:
        return end
    shape = type_of(a).shape
    return broadcast_to(end, (*shape[:axis], 1, *shape[axis + 1 :]))


@public(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    """The differences of neighbours of the flattened array, with `to_begin` and `to_end` around."""
    inner = diff(ravel(ary))
    ends = [
        None if end is None else astype(ravel(end), type_of(inner).dtype)
        for end in (to_begin, to_end)
    ]
    parts = [part for part in (ends[0], inner, ends[1]) if part is not None]
    return concatenate(parts) if len(parts) > 1 else inner


@public(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    """The integral of `y` along `axis` by the trapezoidal rule, at points `x` or `dx` apart."""
    y = as_operand(y)
    rank = type_of(y).rank
    axis = normal_axis(axis, rank)
    if x is None:
        widths = dx
    else:
        x = as_operand(x)
        widths = diff(x) if type_of(x).rank == 1 else diff(x, axis=axis)
        if type_of(x).rank == 1:
            widths = reshape(widths, (-1, *(1 for _ in range(rank - axis - 1))))
    earlier, later = _neighbours(y, axis)
    return sum_(widths * (later + earlier) / 2.0, axis)


@public(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """The slopes of `f` along each axis (or `axis`): differences of the second order inside.

    `varargs`: nothing, one distance for all axes, or for each axis a distance or the vector of its
    points (formula of second order for points at unequal distances: Quarteroni, Sacco, Saleri,
    Numerical Mathematics, 2007, section 10.10). At the ends of order `edge_order`, 1 or 2. One
    array, or a tuple of one for each axis. Raises ValueError for less than `edge_order + 1` points.
    """
    f = as_operand(f)
    type = type_of(f)
    f = f if type.is_float else astype(f, np.float64)
    axes = range(type.rank) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = [normal_axis(at, type.rank) for at in axes]
    if len(varargs) not in (0, 1, len(axes)):
        raise TypeError("invalid number of arguments")
    spaces = varargs * len(axes) if len(varargs) == 1 else varargs or (1.0,) * len(axes)
    if edge_order not in (1, 2):
        raise ValueError("'edge_order' greater than 2 not supported")
    found = [
        astype(_slopes(f, at, as_operand(space), edge_order), type_of(f).dtype)
        for at, space in zip(axes, spaces, strict=True)
    ]
    return found[0] if len(found) == 1 else tuple(found)


def _slopes(f: Any, axis: int, space: Any, order: int) -> Any:
    size = type_of(f).shape[axis]
    if not required(order + 1, "<=", size):
        raise ValueError(
            "Shape of array too small to calculate a numerical gradient, at least (edge_order + 1) "
            "elements are required."
        )
    steps = _steps(f, axis, space)

    def points(start: Any, count: Any) -> Any:
        return slices(f, {axis: (start, count, 1)})

    low = _slope_at_end(points, 0, 1, steps, order, size)
    high = _slope_at_end(points, size - 1, -1, steps, order, size)
    before, here, after = (points(at, size - 2) for at in (0, 1, 2))
    a, b = steps(0, size - 2), steps(1, size - 2)
    if type_of(space).rank == 0:
        middle = (after - before) / (2.0 * space)
    else:
        middle = -b / (a * (a + b)) * before + (b - a) / (a * b) * here + a / (b * (a + b)) * after
    return concatenate((low, middle, high), axis)


def _steps(f: Any, axis: int, space: Any) -> Any:
    """`steps(start, count)`: the distances between points from `start` on, as they broadcast."""
    rank = type_of(f).rank
    if type_of(space).rank == 0:
        return lambda start, count: space
    if type_of(space).rank != 1:
        raise ValueError("distances must be either scalars or 1d")
    if not must_be_same(type_of(space).shape[0], type_of(f).shape[axis]):
        raise ValueError("when 1d, distances must match the length of the corresponding dimension")
    distances = diff(space if type_of(space).is_float else astype(space, np.float64))
    distances = reshape(distances, (-1, *(1 for _ in range(rank - axis - 1))))
    at = type_of(distances).rank - (rank - axis)
    return lambda start, count: slices(distances, {at: (start, count, 1)})


def _slope_at_end(points: Any, end: Any, way: int, steps: Any, order: int, size: Any) -> Any:
    """Forwards from the first point (`way` 1), or backwards from the last one (-1)."""
    here, next_ = points(end, 1), points(end + way, 1)
    near = steps(0 if way > 0 else size - 2, 1)
    if order == 1:
        return way * (next_ - here) / near
    far, third = steps(1 if way > 0 else size - 3, 1), points(end + 2 * way, 1)
    a = -(2.0 * near + far) / (near * (near + far))
    b, c = (near + far) / (near * far), -near / (far * (near + far))
    return way * (a * here + b * next_ + c * third)


@public(np.unwrap)
def unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: Any = 2 * np.pi) -> Any:
    """`p`, jumps of at least `discont` (half a `period`) along `axis` undone by whole periods."""
    p = as_operand(p)
    axis = normal_axis(axis, type_of(p).rank)
    p = p if type_of(p).is_float else astype(p, np.float64)
    half = period / 2
    shape = type_of(p).shape
    is_first = counting(shape[axis], axis, len(shape)) == 0
    steps = where(is_first, 0, p - roll(p, 1, axis))
    small = (steps + half) % period - half
    small = where(EQUAL(small, -half) & (steps > 0), half, small)
    jumps = where(PUBLIC["abs"](steps) < (half if discont is None else discont), 0, small - steps)
    return where(is_first, p, p + PUBLIC["cumsum"](jumps, axis))


sample(lambda x: np.diff(x)[1:] * np.diff(x, axis=0)[:, :1], (3, 4))
sample(lambda x: (np.diff(x, 2), np.diff(x, 5), np.diff(x, 0)), (4,))
sample(lambda x: np.diff(x, axis=0, prepend=0.0, append=x[:1]), (3, 2))
sample(lambda x: np.ediff1d(x, to_end=x[0], to_begin=[1.0, 2.0]), (2, 2))
sample(lambda x: np.diff(x > 0), (5,), smooth=False)
sample(lambda y: np.trapezoid(y, dx=0.5), (2, 5))
sample(lambda y, x: np.trapezoid(y, x, axis=0), (4, 2), (4,))
sample(lambda y, x: np.trapezoid(y, x), (2, 4), (2, 4))
sample(lambda y: (np.gradient(y), np.gradient(y, 0.5, axis=0)), (3, 4))
sample(lambda y: np.gradient(y, 0.5, edge_order=2) ** 2, (5,))
sample(lambda y: np.gradient(y, 2.0, [0.0, 1.0, 3.0, 3.5], edge_order=2), (3, 4))
sample(lambda y, x: np.gradient(y, np.cumsum(np.abs(x) + 0.1), axis=0), (4, 2), (4,))
sample(lambda y: np.gradient(y), (2,))
sample(lambda y: np.gradient(y, 2), (5,), kinds="i", smooth=False)
sample(lambda x: np.unwrap(4 * x), (9,))
sample(lambda x: (np.unwrap(x * 3, axis=0, period=2.0), np.unwrap(x[:, :1])), (4, 3))
