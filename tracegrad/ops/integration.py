"""Integrals of samples, as `scipy.integrate` has them: Simpson's rule, and running trapezoids.

simpson(y)   is   (y[0] + 4*y[1] + 2*y[2] + 4*y[3] + y[4]) / 3       cumulative_trapezoid(y)   is
cumsum((y[1:] + y[:-1]) / 2)

Both are slices composed, so that derivatives follow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.ir.dims import holds
from tracegrad.ops.cumulative import cumsum
from tracegrad.ops.differences import diff, trapezoid
from tracegrad.ops.joining import concatenate
from tracegrad.ops.op import PUBLIC, as_operand, public, sample, type_of
from tracegrad.ops.reduction import size_value, sum_
from tracegrad.ops.selection import where
from tracegrad.ops.shape import normal_axis, reshape


def _sampled(y: Any, x: Any, dx: Any, axis: int) -> tuple[Any, Any, int]:
    """The samples, the distances between them (that broadcast against them), and the axis."""
    y = as_operand(y)
    rank = type_of(y).rank
    axis = normal_axis(axis, rank)
    if x is None:
        return y, dx, axis
    x = as_operand(x)
    if type_of(x).rank == 1:
        return y, reshape(diff(x), (-1, *(1 for _ in range(rank - axis - 1)))), axis
    if type_of(x).rank != rank:
        raise ValueError("If given, shape of `x` must be 1-D or the same as `y`.")
    return y, diff(x, axis=axis), axis


def _part(values: Any, axis: int, part: slice | int) -> Any:
    """Elements along an axis; numbers are the same everywhere."""
    if not type_of(values).rank:
        return values
    behind = type_of(values).rank - axis - 1
    return values[(..., part, *(slice(None) for _ in range(behind)))]


@public(name="cumulative_trapezoid")
def cumulative_trapezoid(
    y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1, initial: Any = None
) -> Any:
    """The integral of `y` up to each point along `axis` by the trapezoidal rule, at points `x` or
    `dx` apart: one value fewer than `y` has, or as many with `initial=0` in front.

    Raises ValueError for another `initial`, and for `x` of another shape.

    >>> import tracegrad as tg
    >>> tg.cumulative_trapezoid([1.0, 2.0, 3.0], initial=0)
    array([0. , 1.5, 4. ])
    """
    if initial is not None and not (isinstance(initial, int | float) and initial == 0):
        raise ValueError("`initial` parameter must be 0.")
    y, widths, axis = _sampled(y, x, dx, axis)
    earlier, later = _part(y, axis, slice(None, -1)), _part(y, axis, slice(1, None))
    found = cumsum(widths * (later + earlier) / 2.0, axis)
    if initial is None:
        return found
    ahead = PUBLIC["zeros_like"](_part(y, axis, slice(0, 1)), dtype=type_of(found).dtype)
    return concatenate([ahead, found], axis)


@public(name="simpson")
def simpson(y: Any, x: Any = None, *, dx: Any = 1.0, axis: int = -1) -> Any:
    """The integral of `y` along `axis` by Simpson's rule, at points `x` or `dx` apart.

    An even number of points leaves an interval over at the end, which takes the parabola through
    the last three points (Cartwright 2017, "Simpson's rule cumulative integration with MS Excel
    and irregularly-spaced data", equation 8), as in SciPy.

    >>> import tracegrad as tg
    >>> float(tg.simpson([0.0, 1.0, 4.0, 9.0]))
    9.0
    """
    y, widths, axis = _sampled(y, x, dx, axis)
    count = type_of(y).shape[axis]
    if not holds(3, "<=", count):
        return trapezoid(y, x, dx, axis)
    spaced = type_of(widths).rank > 0
    at = axis - type_of(y).rank + type_of(widths).rank if spaced else 0
    # The same slices for an odd and an even number: the last interval of an even one is left over.
    first, middle, last = (
        _part(y, axis, part) for part in (slice(None, -2, 2), slice(1, -1, 2), slice(2, None, 2))
    )
    h0, h1 = (
        _part(widths, at, part) if spaced else widths
        for part in (slice(None, -1, 2), slice(1, None, 2))
    )
    both = h0 + h1
    parabolas = first * (2 - h1 / h0) + middle * (both * both / (h0 * h1)) + last * (2 - h0 / h1)
    total = sum_(both * parabolas / 6, axis)
    h0, h1 = (_part(widths, at, part) if spaced else widths for part in (-2, -1))
    before, inner, end = (_part(y, axis, part) for part in (-3, -2, -1))
    left_over = (
        end * (h1 * (2 * h1 + 3 * h0) / (6 * (h0 + h1)))
        + inner * (h1 * (h1 + 3 * h0) / (6 * h0))
        - before * (h1**3 / (6 * h0 * (h0 + h1)))
    )
    if isinstance(count, int):
        return total if count % 2 else total + left_over
    return total + where(size_value(count) % 2 == 0, left_over, 0)


def _points(x: Any) -> Any:
    """Ascending points."""
    return np.cumsum(1 + 0.1 * x, axis=-1)


sample(lambda y: PUBLIC["simpson"](y, dx=0.5), (5,))
sample(lambda y: PUBLIC["simpson"](y, axis=0), (4, 2))
sample(lambda y, x: PUBLIC["simpson"](y, _points(x)), (2, 6), (6,))
sample(lambda y, x: PUBLIC["simpson"](y, x=_points(x)), (2, 5), (2, 5))
sample(lambda y: PUBLIC["simpson"](y), (2,))
sample(lambda y: PUBLIC["cumulative_trapezoid"](y, dx=0.5, axis=0), (4, 2))
sample(lambda y, x: PUBLIC["cumulative_trapezoid"](y, _points(x), initial=0), (2, 5), (5,))
sample(lambda y, x: PUBLIC["cumulative_trapezoid"](y, _points(x)), (3, 1), (3, 1))
