"""NumPy's functions around indexing: take, put, add.at, choose, compress and their relatives.

    np.take_along_axis(x, idx, 1)   ->   x[arange(n)[:, None], idx]

What changes its argument in place (`put`, `copyto`, `np.add.at`) assigns to it, `a[...] = ...`.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from tracegrad.errors import UnsupportedError
from tracegrad.ir.dims import Size, holds, same
from tracegrad.ops.arithmetic import ADD, NEGATIVE
from tracegrad.ops.comparison import EQUAL, LOGICAL_AND
from tracegrad.ops.constant import ARANGE, astype
from tracegrad.ops.gathering import SCATTER_ADD, gathered_shape
from tracegrad.ops.indexing import getitem, setitem
from tracegrad.ops.keys import checked, lookup, operand_of, places
from tracegrad.ops.nonzero import flatnonzero
from tracegrad.ops.op import PUBLIC, Bindable, as_operand, bind, public, sample, type_of
from tracegrad.ops.reduction import broadcast_to, size_value
from tracegrad.ops.regions import region_shape
from tracegrad.ops.selection import where
from tracegrad.ops.shape import normal_axis, reshape
from tracegrad.ops.slicing import PLACE


@public(np.take)
def take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    """The elements of `a` at `indices` along `axis` (None: of the flattened array).

    Out of bounds `mode` says "raise" (IndexError), "clip" to the ends, or "wrap" around.
    """
    a = as_operand(a)
    if axis is None:
        a, axis = reshape(a, -1), 0
    axis = normal_axis(axis, type_of(a).rank)
    index = operand_of(indices)
    if type_of(index).dtype.kind == "b":  # False and True are the places 0 and 1, no mask
        index = astype(index, np.int64)
    if mode != "raise":
        index = _bounded(index, type_of(a).shape[axis], mode)
    return getitem(a, (*[slice(None)] * axis, index))


def _bounded(index: Any, size: Size, mode: str) -> Any:
    last = size_value(size - 1)
    if mode == "clip":
        return PUBLIC["clip"](index, 0, last)
    if mode != "wrap":
        raise ValueError(f"mode must be one of 'clip', 'raise', or 'wrap' (got {mode!r})")
    return PUBLIC["remainder"](index, size_value(size))


@public(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    """Along `axis` the elements at `indices`, chosen for each position on the other axes."""
    arr, indices, axis = _along(arr, indices, axis)
    return getitem(arr, _key_along(arr, indices, axis))


@public(np.put_along_axis)
def put_along_axis(arr: Any, indices: Any, values: Any, axis: Any) -> None:
    """Write `values` into `arr` where `take_along_axis` would read."""
    flat, indices, along = _along(arr, indices, axis)
    new = setitem(flat, _key_along(flat, indices, along), values)
    arr[...] = reshape(new, type_of(arr).shape)


def _along(arr: Any, indices: Any, axis: Any) -> tuple[Any, Any, int]:
    arr, indices = as_operand(arr), operand_of(indices)
    if type_of(indices).dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    if axis is None:
        arr, axis = reshape(arr, -1), 0
    rank = type_of(arr).rank
    if type_of(indices).rank != rank:
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    return arr, indices, normal_axis(axis, rank)


def _key_along(arr: Any, indices: Any, axis: int) -> tuple[Any, ...]:
    """Counting on every axis but one, so that the indices on that one may differ."""
    shape, rank = type_of(arr).shape, type_of(arr).rank
    return tuple(
        indices if at == axis else counting(size, at, rank) for at, size in enumerate(shape)
    )


def counting(size: Size, axis: int, rank: int) -> Any:
    """`0, 1, ..., size - 1` along an axis of an array of that rank."""
    return reshape(bind(ARANGE, size=size), tuple(size if at == axis else 1 for at in range(rank)))


@public(name="add_at")
def add_at(a: Any, indices: Any, b: Any) -> None:
    """`np.add.at(a, indices, b)`: add in place; where an index is repeated, every addend counts."""
    a[...] = ADD(a, _scattered(a, indices, b))


@public(name="subtract_at")
def subtract_at(a: Any, indices: Any, b: Any) -> None:
    """`np.subtract.at(a, indices, b)`."""
    add_at(a, indices, NEGATIVE(b))


def _scattered(a: Any, indices: Any, b: Any) -> Any:
    """Zeros like `a` with `b` added at the indices: the adjoint of reading there."""
    type = type_of(a)
    found = lookup(type, indices)
    found = places(found)
    b = astype(b, type.dtype)
    if not found.chosen:
        values = broadcast_to(b, found.shape)
    else:
        if found.first:
            raise UnsupportedError("np.add.at: index arrays separated by a slice; transpose first")
        types = tuple(type_of(array) for array in found.arrays)
        values = broadcast_to(b, gathered_shape(found.shape, types, found.axes))
        values = bind(SCATTER_ADD, values, *found.arrays, axes=found.axes, shape=found.shape)
    values = reshape(values, region_shape(type.shape, found.region))
    return bind(PLACE, values, at=found.region, shape=type.shape)


@public(np.copyto)
def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    """`dst[...] = src`, where `where` holds."""
    if not isinstance(dst, Bindable):
        raise UnsupportedError("np.copyto into a NumPy array: its elements cannot be traced values")
    kind = type_of(src)
    if not kind.weak and not np.can_cast(kind.dtype, type_of(dst).dtype, casting):  # type: ignore[arg-type]
        raise TypeError(
            f"Cannot cast array data from {kind.dtype!r} to {type_of(dst).dtype!r} according to "
            f"the rule {casting!r}"
        )
    dst[...] = src if where is True else PUBLIC["where"](where, src, dst)  # type: ignore[index]


@public(np.put)
def put(a: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    """Write `v` at the flat indices `ind`: a number, or as many values as indices."""
    type = type_of(a)
    index = operand_of(ind)
    if mode != "raise":
        index = _bounded(index, type.size, mode)
    a[...] = reshape(setitem(reshape(a, -1), index, v), type.shape)


@public(np.putmask)
def putmask(a: Any, mask: Any, values: Any) -> None:
    """`a[mask] = values[mask]`, for values of the shape of `a` or one number."""
    kind = type_of(values)
    if kind.rank and len(kind.shape) != type_of(a).rank:
        raise UnsupportedError("np.putmask: values of another shape are repeated; use np.where")
    a[...] = where(mask, values, a)


@public(np.fill_diagonal)
def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    """`a[i, i, ...] = val` in place: a number, or as many values as the diagonal has."""
    shape, rank = type_of(a).shape, type_of(a).rank
    if rank < 2:
        raise ValueError("array must be at least 2-d")
    if rank > 2 and not all(same(size, shape[0]) for size in shape):
        raise ValueError("All dimensions of input must be of equal length")
    if wrap and not holds(shape[0], "<=", shape[1] + 1):
        raise UnsupportedError("np.fill_diagonal: wrap=True on a tall matrix; use a[i, j] = value")
    length = shape[0] if holds(shape[0], "<=", shape[1]) else shape[1]
    if type_of(val).rank:
        diagonal = bind(ARANGE, size=length)
        a[(diagonal,) * rank] = getitem(val, slice(0, length))
        return
    row = counting(shape[0], 0, rank)
    on = [EQUAL(row, counting(size, axis, rank)) for axis, size in enumerate(shape) if axis]
    a[...] = where(reduce(LOGICAL_AND, on), val, a)


def _diagonal_filled(a: Any, val: Any) -> Any:
    filled = a.copy()
    np.fill_diagonal(filled, val)
    return filled


@public(np.choose)
def choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    """`choices[a[i]][i]`: an integer array chooses among arrays that broadcast against it."""
    index, count = operand_of(a), len(choices)
    index = checked(index, count, 0) if mode == "raise" else _bounded(index, count, mode)
    result = choices[-1]
    for number in reversed(range(max(count - 1, 1))):
        result = where(EQUAL(index, number), choices[number], result)
    return result


@public(np.compress)
def compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    """The slices of `a` along `axis` (None: of the flattened array) where `condition` holds."""
    return take(a, flatnonzero(condition), axis)


@public(np.extract)
def extract(condition: Any, arr: Any) -> Any:
    """The elements of the flattened `arr` where `condition` holds."""
    return take(arr, flatnonzero(condition))


@public(np.ix_)
def ix_(*args: Any) -> tuple[Any, ...]:
    """Index arrays that together choose a block: each along an axis of its own."""
    arrays = [operand_of(arg) for arg in args]
    found = []
    for axis, array in enumerate(arrays):
        if type_of(array).dtype.kind == "b":
            array = flatnonzero(array)
        size = type_of(array).shape[0]
        found.append(reshape(array, tuple(size if at == axis else 1 for at in range(len(arrays)))))
    return tuple(found)


sample(lambda x: _diagonal_filled(x, 2.5), (2, 3))
sample(lambda x, v: _diagonal_filled(x, v), (3, 2), (2,))
sample(lambda x: _diagonal_filled(x, -1), (2, 2, 2))
sample(lambda x: np.take(x, [2, 0, 2], axis=1), (2, 3))
sample(lambda x: np.take(x, [[5, -1], [0, 0]]), (2, 3))
sample(lambda x: np.take(x, [7, -9], mode="clip") + np.take(x, [7, -9], mode="wrap"), (5,))
sample(lambda x: np.take_along_axis(x, np.array([[1, 1], [0, 2], [1, 0]]), axis=1), (3, 3))
sample(
    lambda x, i: np.take_along_axis(x, np.abs(i).astype(int), axis=0), (3, 2), (4, 2), smooth=False
)
sample(lambda x: np.choose(np.array([0, 1, 1]), [x, 2 * x]), (3,))
sample(lambda x: np.compress([True, False, True], x, axis=1), (2, 3))
sample(lambda x: np.extract(np.array([True, False, True]), x * x), (3,))


def _accumulated(x: Any) -> Any:
    y = x * 2
    np.add.at(y, np.array([0, 2, 0]), x[:3] * x[:3])
    return y


def _put_along(x: Any) -> Any:
    y = x * 2
    np.put_along_axis(y, np.array([[0], [2]]), x[:, :1] * 3, axis=1)
    return y


sample(_accumulated, (4,))
sample(_put_along, (2, 3))
