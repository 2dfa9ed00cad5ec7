"""Differences of neighbours, and the integral by the trapezoidal rule: compositions of slices.

diff(x)   is   x[1:] - x[:-1]           trapezoid(y)   is   sum((y[1:] + y[:-1]) / 2)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.ir.dims import holds
from tracegrad.ops.axes import ravel
from tracegrad.ops.constant import astype
from tracegrad.ops.joining import concatenate
from tracegrad.ops.op import as_operand, public, sample, type_of
from tracegrad.ops.reduction import broadcast_to, sum_
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
    size = type_of(a).shape[axis]
    later = slices(a, {axis: (1, size - 1, 1)}) if _is_long(size) else slices(a, {axis: (0, 0, 1)})
    earlier = slices(a, {axis: (0, size - 1, 1)}) if _is_long(size) else later
    return later != earlier if type_of(a).dtype == bool else later - earlier


def _is_long(size: Any) -> bool:
    return holds(1, "<=", size)


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
    size = type_of(y).shape[axis]
    if not holds(1, "<=", size):
        return sum_(y, axis) / 2.0
    if x is None:
        widths = dx
    else:
        x = as_operand(x)
        widths = diff(x) if type_of(x).rank == 1 else diff(x, axis=axis)
        if type_of(x).rank == 1:
            widths = reshape(widths, (-1, *(1 for _ in range(rank - axis - 1))))
    later = slices(y, {axis: (1, size - 1, 1)})
    earlier = slices(y, {axis: (0, size - 1, 1)})
    return sum_(widths * (later + earlier) / 2.0, axis)


sample(lambda x: np.diff(x)[1:] * np.diff(x, axis=0)[:, :1], (3, 4))
sample(lambda x: (np.diff(x, 2), np.diff(x, 5), np.diff(x, 0)), (4,))
sample(lambda x: np.diff(x, axis=0, prepend=0.0, append=x[:1]), (3, 2))
sample(lambda x: np.ediff1d(x, to_end=x[0], to_begin=[1.0, 2.0]), (2, 2))
sample(lambda x: np.diff(x > 0), (5,), smooth=False)
sample(lambda y: np.trapezoid(y, dx=0.5), (2, 5))
sample(lambda y, x: np.trapezoid(y, x, axis=0), (4, 2), (4,))
sample(lambda y, x: np.trapezoid(y, x), (2, 4), (2, 4))
