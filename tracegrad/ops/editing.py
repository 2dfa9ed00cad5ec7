"""Arrays with parts put in, left out, repeated or seen through a window; functions by pieces.

np.insert(x, 2, 0.0)             ->   concatenate((x[:2], [0.0], x[2:]))
sliding_window_view(x, 3)[i, j]  =    x[i + j]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tracegrad.errors import UnsupportedError
from tracegrad.ir.dims import Size, product, required
from tracegrad.ops.comparison import LOGICAL_NOT, LOGICAL_OR
from tracegrad.ops.constant import ARANGE
from tracegrad.ops.indexing import getitem, setitem
from tracegrad.ops.joining import concatenate
from tracegrad.ops.keys import operand_of
from tracegrad.ops.op import PUBLIC, as_operand, bind, public, sample, type_of
from tracegrad.ops.picking import counting, take
from tracegrad.ops.reduction import broadcast_to, size_value
from tracegrad.ops.shape import as_shape, normal_axis, reshape


def _along(arr: Any, axis: int | None) -> tuple[Any, int, Size]:
    """The array, flattened for no axis; the axis and its size."""
    arr = as_operand(arr) if axis is not None else reshape(as_operand(arr), -1)
    axis = normal_axis(0 if axis is None else axis, type_of(arr).rank)
    return arr, axis, type_of(arr).shape[axis]


def _part(arr: Any, axis: int, start: Any, stop: Any) -> Any:
    return getitem(arr, (*(slice(None),) * axis, slice(start, stop)))


def _place(obj: Any, what: str) -> int:
    if isinstance(obj, int | np.integer) and not isinstance(obj, bool):
        return int(obj)
    raise UnsupportedError(
        f"{what} at places other than one int or a list of ints known while tracing: join the "
        "parts with np.concatenate, or choose with x[indices]"
    )


@public(np.insert)
def insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Any:
    """`arr` with `values` before index `obj` (one int) of `axis` (None: flattened)."""
    arr, axis, size = _along(arr, axis)
    at, values = _place(obj, "np.insert"), as_operand(values)
    if not (required(at, "<=", size) and required(-size, "<=", at)):
        raise IndexError(f"index {at} is out of bounds for axis {axis} with size {size}")
    shape, rank = type_of(arr).shape, type_of(values).rank
    values = reshape(values, (*(1,) * (len(shape) - rank), *type_of(values).shape))
    values = PUBLIC["moveaxis"](values, 0, axis)  # as NumPy has it, for one index
    count = type_of(values).shape[axis]
    values = broadcast_to(values, (*shape[:axis], count, *shape[axis + 1 :]))
    before, after = _part(arr, axis, None, at), _part(arr, axis, at, None)
    return concatenate((before, PUBLIC["astype"](values, type_of(arr).dtype), after), axis)


@public(np.delete)
def delete(arr: Any, obj: Any, axis: int | None = None) -> Any:
    """`arr` without index `obj` of `axis` (None: flattened): an int, or a list of ints >= 0."""
    arr, axis, size = _along(arr, axis)
    if isinstance(size, int) and not isinstance(obj, int):
        return take(arr, np.delete(np.arange(size), obj), axis)
    if isinstance(obj, slice) and obj.step in (None, 1) and (obj.start or 0) >= 0:
        stop = obj.stop
        if stop is None or stop >= (obj.start or 0):
            kept = [_part(arr, axis, None, obj.start or 0)]
            kept += [] if stop is None else [_part(arr, axis, stop, None)]
            return concatenate(kept, axis)
    many = isinstance(obj, list | tuple) or (isinstance(obj, np.ndarray) and obj.dtype.kind == "i")
    each: Any = obj if many else (obj,)
    at = sorted({_place(k, "np.delete") for k in each})
    if many and at and at[0] < 0:
        _place(None, "np.delete")
    if at and not (required(at[-1] + 1, "<=", size) and required(-size, "<=", at[0])):
        raise IndexError(f"index {at[-1]} is out of bounds for axis {axis} with size {size}")
    ends = [-1, *at] if many or at[0] >= 0 else [-1, at[0] + size]
    parts = [_part(arr, axis, a + 1, b) for a, b in pairwise(ends)]
    return concatenate((*parts, _part(arr, axis, ends[-1] + 1, None)), axis)


@public(np.resize)
def resize(a: Any, new_shape: Any) -> Any:
    """The elements of `a` in a new shape, repeated from the first as often as needed."""
    flat = reshape(as_operand(a), -1)
    shape = as_shape(new_shape)
    return take(flat, reshape(bind(ARANGE, size=product(shape)), shape), mode="wrap")


@public(np.lib.stride_tricks.sliding_window_view)
def sliding_window_view(
    x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False, writeable: bool = False
) -> Any:
    """The windows of that shape along the axes (None: all of them), as last axes: a copy."""
    del subok
    if writeable:
        raise UnsupportedError("sliding_window_view: its windows cannot be written to")
    x, windows = as_operand(x), as_shape(window_shape)
    rank = type_of(x).rank
    axes = range(rank) if axis is None else (axis if isinstance(axis, tuple) else (axis,))
    if len(windows) != len(axes):
        raise ValueError("Must provide matching length window_shape and axis")
    for at, window in zip(axes, windows, strict=True):
        at = normal_axis(at, rank)
        size = type_of(x).shape[at]
        if not required(window, "<=", size):
            raise ValueError("window shape cannot be larger than input array shape")
        places = counting(size - window + 1, 0, 2) + counting(window, 1, 2)
        x = PUBLIC["moveaxis"](take(x, places, at), at + 1, -1)
    return x


@public(np.piecewise)
def piecewise(x: Any, condlist: Any, funclist: Sequence[Any], *args: Any, **kw: Any) -> Any:
    """What the function, or number, of the last condition that holds makes of each element; one
    more function than conditions is for elements that none holds for."""
    x = as_operand(x)
    several = isinstance(condlist, list | tuple) and not isinstance(condlist[0], bool)
    if not several and type_of(operand_of(condlist)).rank > 1:
        raise UnsupportedError("np.piecewise: conditions as one array; give a list of them")
    masks = [operand_of(mask) for mask in (condlist if several else [condlist])]
    functions = list(funclist)
    if len(functions) == len(masks) + 1:
        any_holds = masks[0]
        for mask in masks[1:]:
            any_holds = LOGICAL_OR(any_holds, mask)
        masks.append(LOGICAL_NOT(any_holds))
    if len(functions) != len(masks):
        raise ValueError(f"with {len(masks)} condition(s), either that many functions, or one more")
    found = PUBLIC["zeros_like"](x)
    for mask, function in zip(masks, functions, strict=True):
        found = setitem(found, mask, _piece(x, mask, function, args, kw))
    return found


def _piece(
    x: Any, mask: Any, function: Callable[..., Any] | Any, args: Any, kw: dict[str, Any]
) -> Any:
    return function(getitem(x, mask), *args, **kw) if callable(function) else function


@public(name="linalg.block_diag")
def block_diag(*arrs: Any) -> Any:
    """Matrices along the diagonal of a matrix of zeros; vectors count as rows."""
    blocks = [PUBLIC["atleast_2d"](as_operand(a)) for a in arrs]
    width = [type_of(block).shape[1] for block in blocks]
    rows = []
    for k, block in enumerate(blocks):
        left, right = sum(width[:k]), sum(width[k + 1 :])
        rows.append(PUBLIC["pad"](block, ((0, 0), (left, right))))
    return concatenate(rows, 0)


@public(name="linalg.toeplitz")
def toeplitz(c: Any, r: Any = None) -> Any:
    """The matrix of first column `c` and first row `r` (None: `c`) with constant diagonals."""
    column = reshape(as_operand(c), -1)
    row = column if r is None else reshape(as_operand(r), -1)
    n, m = type_of(column).shape[0], type_of(row).shape[0]
    values = concatenate((getitem(column, slice(None, None, -1)), getitem(row, slice(1, None))))
    return getitem(values, counting(m, 1, 2) - counting(n, 0, 2) + (size_value(n) - 1))


sample(lambda x: np.insert(x, 1, 5.0), (4,))
sample(lambda x, v: (np.insert(x, -1, v, axis=1), np.insert(x, 0, v[0])), (2, 3), (2,))
sample(lambda x: (np.delete(x, 1, axis=1), np.delete(x, -1), np.delete(x, [0, 2], 1)), (2, 3))
sample(lambda x: (np.delete(x, slice(2)), np.delete(x, slice(1, 2)), np.delete(x, [])), (3,))
sample(lambda x: (np.resize(x, (2, 4)), np.resize(x, 2)), (3,))
sample(lambda x: np.lib.stride_tricks.sliding_window_view(x, 3) ** 2, (5,))
sample(lambda x: np.lib.stride_tricks.sliding_window_view(x, (2, 3)), (3, 4))
sample(lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, axis=-1), (3, 4))
sample(lambda x: np.piecewise(x, [x < 0, x > 1], [lambda v: v * v, 3.0, lambda v: -v]), (7,))
sample(lambda x: np.piecewise(x, x > 0, [lambda v, a: a * v, 0], 2.0), (5,))
