"""Extents that the program computes: lengths of slices and ranges whose bounds data decides on.

    y[1:] of f64[k], k computed     ->     p = max(k - 1, 0), a symbol of its own; f64[p]

A bound is a `Size`, or an integer of the program where data decides on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.ir.dims import Size, knows, quotient
from tracegrad.ops.constant import SIZE, astype
from tracegrad.ops.op import PUBLIC, Bindable, SizeValue, bind, bound, type_of
from tracegrad.ops.shape import as_size

Bound = Any
"""A `Size`, or a value with an integer."""


def is_computed(value: Any) -> bool:
    """Whether it is an integer without a value yet, other than an extent."""
    return (
        isinstance(value, Bindable)
        and not isinstance(value, SizeValue)
        and value.known() is None
        and not type_of(value).rank
        and type_of(value).dtype.kind in "iu"
    )


def as_value(size: Bound) -> Any:
    """A bound as an operand."""
    if is_computed(size):
        return astype(size, np.int64)
    return size if isinstance(size, int) else bind(SIZE, size=size)


def as_extent(value: Bound, most: Size | None = None) -> Size:
    """A bound as an extent: 0 where it is negative."""
    if not is_computed(value):
        known = knows(0, "<=", value)
        if known is not None:
            return value if known else 0
    return bound(PUBLIC["maximum"](as_value(value), 0), most)[1]


def distance(start: Bound, stop: Bound, most: Size | None = None) -> Size:
    """`stop - start`, 0 where it is negative."""
    if is_computed(start) or is_computed(stop):
        return as_extent(as_value(stop) - as_value(start), most)
    return as_extent(stop - start, most)


def sliced(start: Any, stop: Any, step: int, size: Size) -> tuple[Size, Size, int]:
    """A slice with a positive step as `(start, length, step)`, as NumPy clamps it."""
    first = 0 if start is None else _from_front(start, size)
    last = size if stop is None else _at_most(_from_front(stop, size), size)
    first = _not_negative(first, size)
    length = distance(first, last, size)
    length = length if step == 1 else quotient(length + (step - 1), step)
    first = _at_most(first, size)
    return (bound(first, size)[1] if is_computed(first) else first), length, step


def _from_front(value: Any, size: Size) -> Bound:
    """A position counted from the end as one from the start; it may still be negative."""
    if not is_computed(value):
        position = as_size(value)
        negative = knows(position, "<", 0)
        if negative is not None:
            return position + size if negative else position
        value = as_value(position)
    value = as_value(value)
    return PUBLIC["where"](value < 0, value + as_value(size), value)


def _at_most(position: Bound, size: Size) -> Bound:
    inside = None if is_computed(position) else knows(position, "<=", size)
    if inside is None:
        return PUBLIC["minimum"](as_value(position), as_value(size))
    return position if inside else size


def _not_negative(position: Bound, size: Size) -> Bound:
    known = None if is_computed(position) else knows(0, "<=", position)
    if known is None:
        return PUBLIC["maximum"](as_value(position), 0)
    return position if known else 0
