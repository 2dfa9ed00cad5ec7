"""Axes added, dropped and moved: compositions of reshape and transpose, views as NumPy's are.

moveaxis(x, 0, -1)   is   transpose(x, (1, 2, 0))      squeeze(x)   is   reshape(x, (n, m))
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.errors import ShapeError
from tracegrad.ir.dims import Size, holds, must_be_same
from tracegrad.ops.broadcast import broadcast_shapes
from tracegrad.ops.op import PUBLIC, Bindable, as_operand, public, sample, type_of
from tracegrad.ops.reduction import broadcast_to
from tracegrad.ops.shape import copy, normal_axes, normal_axis, reshape, transpose


@public(np.ravel)
def ravel(a: Any, order: str = "C") -> Any:
    """The elements in row-major order as a vector; a view where they lie so in memory."""
    a = as_operand(a)
    if isinstance(a, Bindable) and not a.contiguous:
        a = copy(a)
    return reshape(a, (-1,) if type_of(a).rank != 1 else type_of(a).shape, order)


@public()
def flatten(a: Any, order: str = "C") -> Any:
    """The elements in row-major order as a vector of its own."""
    return copy(ravel(a, order))


@public(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> Any:
    """`a` with an axis of extent 1 at each position `axis` of the result."""
    a = as_operand(a)
    type = type_of(a)
    count = len(axis) if isinstance(axis, tuple | list) else 1
    if not count:
        return a
    places = normal_axes(axis, type.rank + count)
    sizes = iter(type.shape)
    shape = tuple(1 if at in places else next(sizes) for at in range(type.rank + count))
    return reshape(a, shape)


@public(np.squeeze)
def squeeze(a: Any, axis: Any = None) -> Any:
    """`a` without its axes of extent 1, or without those given (which must have extent 1)."""
    a = as_operand(a)
    type = type_of(a)
    places = () if type.rank == 0 and axis in (0, -1) else normal_axes(axis, type.rank)
    is_unit = _is_one if axis is None else must_be_same
    units = tuple(at for at in places if is_unit(type.shape[at], 1))
    if axis is not None and units != places:
        raise ShapeError(
            "cannot select an axis to squeeze out which has size not equal to one: "
            f"{axis} of {type.in_figures()}"
        )
    return reshape(a, tuple(size for at, size in enumerate(type.shape) if at not in units))


def _is_one(size: Size, one: Size) -> bool:
    return holds(size, "==", one)


@public(np.swapaxes)
def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    """`a` with two axes exchanged."""
    a = as_operand(a)
    rank = type_of(a).rank
    order = list(range(rank))
    first, second = normal_axis(axis1, rank), normal_axis(axis2, rank)
    order[first], order[second] = second, first
    return transpose(a, order)


@public(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    """`a` with the axes `source` moved to the positions `destination`; the others keep order."""
    a = as_operand(a)
    rank = type_of(a).rank
    sources, places = _positions(source, rank), _positions(destination, rank)
    if len(sources) != len(places):
        raise ValueError(
            "`source` and `destination` arguments must have the same number of elements"
        )
    order = [axis for axis in range(rank) if axis not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return transpose(a, order)


def _positions(axis: Any, rank: int) -> list[int]:
    """Axes in the order given, without repeats."""
    items = axis if isinstance(axis, tuple | list) else (axis,)
    normal_axes(tuple(items), rank)
    return [normal_axis(item, rank) for item in items]


@public(np.rollaxis)
def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    """`a` with `axis` moved to before the axis `start`."""
    a = as_operand(a)
    rank = type_of(a).rank
    axis = normal_axis(axis, rank)
    start = start + rank if start < 0 else start
    if not 0 <= start <= rank:
        raise np.exceptions.AxisError(f"'start' must be from {-rank} to {rank}, got {start}")
    return moveaxis(a, axis, start - 1 if axis < start else start)


@public(np.matrix_transpose)
def matrix_transpose(x: Any, /) -> Any:
    """`x` with its last two axes exchanged."""
    x = as_operand(x)
    if type_of(x).rank < 2:
        given = type_of(x).in_figures()
        raise ShapeError(f"matrix_transpose needs two axes or more, {given} has fewer")
    return swapaxes(x, -1, -2)


def _at_least(arrays: tuple[Any, ...], one: Any) -> Any:
    found = tuple(one(as_operand(array)) for array in arrays)
    return found[0] if len(found) == 1 else found


def _one_axis(a: Any) -> Any:
    return a if type_of(a).rank else reshape(a, (1,))


def _two_axes(a: Any) -> Any:
    rank = type_of(a).rank
    return a if rank > 1 else expand_dims(a, tuple(range(2 - rank)))


def _three_axes(a: Any) -> Any:
    rank = type_of(a).rank
    return a if rank > 2 else expand_dims(a, [(0, 1, 2), (0, 2), (2,)][rank])


@public(np.atleast_1d)
def atleast_1d(*arys: Any) -> Any:
    """Each argument with one axis or more; several come back as a tuple."""
    return _at_least(arys, _one_axis)


@public(np.atleast_2d)
def atleast_2d(*arys: Any) -> Any:
    """Each argument with two axes or more; new ones come first."""
    return _at_least(arys, _two_axes)


@public(np.atleast_3d)
def atleast_3d(*arys: Any) -> Any:
    """Each argument with three axes or more: (n,) becomes (1, n, 1), (n, m) becomes (n, m, 1)."""
    return _at_least(arys, _three_axes)


@public(np.broadcast_arrays)
def broadcast_arrays(*args: Any) -> tuple[Any, ...]:
    """The arguments broadcast to their common shape."""
    arrays = [as_operand(arg) for arg in args]
    shape = broadcast_shapes("broadcast", *(type_of(array) for array in arrays))
    return tuple(broadcast_to(array, shape) for array in arrays)


PUBLIC["permute_dims"] = transpose

sample(lambda x: x.reshape(np.array([4, -1])) * np.reshape(x, np.array(x.shape)[::-1]), (3, 4))
sample(lambda x: np.transpose(x, np.array([1, 0])) + x.transpose(np.array([1, 0])), (3, 4))
sample(lambda x: np.reshape(x, (2, -1)) * x.reshape(2, 6), (3, 4))
sample(lambda x: x.reshape(-1, 1, 2) + x.reshape((6, 1)), (3, 2))
sample(lambda x: np.reshape(x, ()) + x.reshape(1, 1), (1,))
sample(lambda x: np.reshape(x, (3, 0)), (0, 5))
sample(lambda x: x.T * x.reshape(4, 3), (3, 4))
sample(lambda x: np.transpose(x, (2, 0, 1)) + x.transpose(-1, 0, 1), (2, 3, 4))
sample(lambda x: np.copy(x) + x.copy() * 2, (3,))
sample(lambda x: (x.ravel() ** 2, x.T.ravel(), x.flatten()), (3, 4))
sample(lambda x: np.expand_dims(x, 1) * np.expand_dims(x, (0, -1))[0], (3,))
sample(lambda x: np.squeeze(x) * x.squeeze(axis=(0, -1)), (1, 3, 1))
sample(lambda x: np.squeeze(x) + 1, (1, 1))
sample(lambda x: np.swapaxes(x, 0, -1) * x.swapaxes(2, 0), (2, 3, 4))
sample(lambda x: np.moveaxis(x, 0, -1) + np.moveaxis(x, (2, 1), (1, 0)), (2, 3, 4))
sample(lambda x: np.rollaxis(x, 2) * np.rollaxis(x, -1, 0), (2, 3, 4))
sample(lambda x: np.matrix_transpose(x) * x.mT, (2, 3, 4))
sample(lambda x: np.atleast_1d(x) + np.atleast_2d(x) + np.atleast_3d(x), ())
sample(lambda x: np.atleast_3d(x) * np.atleast_2d(x), (3,))
sample(lambda x, y: np.broadcast_arrays(x, y, 2.0), (3, 1), (4,))
