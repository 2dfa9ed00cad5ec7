"""`x[key]` and `x[key] = value` with NumPy's rules, in terms of slices, gathers and selections.

    x[1:, None, idx]   ->   gather(reshape(slice(x, ...)), idx, axes=(2,))

Bounds with symbolic extents are clamped as NumPy clamps them; where the extent decides (`x[1:]` of an
empty axis), the trace assumes what holds for this call (`1 <= n`).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracegrad.errors import ShapeError, UnsupportedError
from tracegrad.ir.dims import Size, holds, in_figures, quotient, same
from tracegrad.ir.types import ArrayType
from tracegrad.ops.broadcast import Shape, broadcast_shapes
from tracegrad.ops.constant import astype
from tracegrad.ops.gathering import (
    CHECKED,
    GATHER,
    GATHER_AT,
    SCATTER_SET,
    gathered_shape,
    out_of_bounds,
    place_of,
)
from tracegrad.ops.op import Bindable, SizeValue, as_operand, bind, public, type_of
from tracegrad.ops.reduction import broadcast_to
from tracegrad.ops.selection import where
from tracegrad.ops.shape import RESHAPE, as_size, reshape, shape_text, transpose
from tracegrad.ops.slicing import SLICE, UPDATE, Region, Span, region_shape

VALID = (
    "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or boolean "
    "arrays are valid indices"
)


@dataclass(frozen=True)
class Chosen:
    """An integer array in the place of an axis, or a mask in the place of its axes."""

    array: Any
    rank: int = 1

    @property
    def is_mask(self) -> bool:
        return type_of(self.array).dtype.kind == "b"


@dataclass(frozen=True)
class NewAxis:
    """`None` in a key."""


Entry = Span | Size | None | Chosen | NewAxis
"""One part of a key, resolved: `None` is a whole axis."""


@dataclass(frozen=True)
class Lookup:
    """A key taken apart: a region of the base, `shape` with new axes, then arrays along axes of that.

    `first` says that the axes of the index arrays come first in the result, wherever they stand.
    """

    region: Region
    shape: Shape
    chosen: tuple[tuple[int, Chosen], ...] = ()
    first: bool = False

    @property
    def axes(self) -> tuple[int, ...]:
        return tuple(axis for axis, _ in self.chosen)

    @property
    def arrays(self) -> tuple[Any, ...]:
        return tuple(part.array for _, part in self.chosen)

    @property
    def mask(self) -> tuple[int, Chosen] | None:
        return next((found for found in self.chosen if found[1].is_mask), None)


@public(name="getitem")
def getitem(x: Any, key: Any) -> Any:
    """`x[key]`. Raises IndexError as NumPy does; for an index array when the compiled code runs."""
    x = as_operand(x)
    found = lookup(type_of(x), key)
    middle = bind(SLICE, x, at=found.region)
    if type_of(middle).shape != found.shape:
        middle = bind(RESHAPE, middle, shape=found.shape)
    if not found.chosen:
        return middle
    if found.mask is not None:
        raise UnsupportedError(
            f"{type_of(x)}[mask] with a computed mask: how many elements it has depends on the data; "
            "use np.where(mask, x, 0), or a mask that is a constant of the program"
        )
    arrays = found.arrays
    op = GATHER_AT if all(type_of(array).rank == 0 for array in arrays) else GATHER
    return _moved(bind(op, middle, *arrays, axes=found.axes), found)


@public(name="setitem")
def setitem(x: Any, key: Any, value: Any) -> Any:
    """`x` with `value`, converted to its dtype, written at `x[key]`: a new array."""
    x = as_operand(x)
    type = type_of(x)
    found = lookup(type, key)
    value = astype(value, type.dtype)
    if not found.chosen:
        middle = _fitted(value, found.shape, type)
    elif found.mask is not None:
        middle = _where_masked(_middle(x, found), found, value, type)
    else:
        middle = _scattered(_middle(x, found), found, value, type)
    if all(part is None for part in found.region) and len(found.shape) == type.rank:
        return middle
    middle = reshape(middle, region_shape(type.shape, found.region))
    if all(part is None for part in found.region):
        return middle
    return bind(UPDATE, x, middle, at=found.region)


def _middle(x: Any, found: Lookup) -> Any:
    return reshape(bind(SLICE, x, at=found.region), found.shape)


def _scattered(middle: Any, found: Lookup, value: Any, type: ArrayType) -> Any:
    types = [type_of(array) for array in found.arrays]
    shape = gathered_shape(found.shape, tuple(types), found.axes)
    if found.first:
        index_rank = len(broadcast_shapes("index with", *types))
        at = place_of(found.axes)
        wanted = shape[at : at + index_rank] + shape[:at] + shape[at + index_rank :]
        order = (*range(index_rank, index_rank + at), *range(index_rank))
        value = transpose(_fitted(value, wanted, type), (*order, *range(len(order), len(shape))))
    else:
        value = _fitted(value, shape, type)
    unique = _is_unique(found.arrays)
    return bind(SCATTER_SET, middle, value, *found.arrays, axes=found.axes, unique=unique)


def _moved(gathered: Any, found: Lookup) -> Any:
    """The index arrays' axes moved to the front, where NumPy wants them there."""
    at = place_of(found.axes)
    if not found.first or at == 0:
        return gathered
    rank = type_of(gathered).rank
    index_rank = rank - (len(found.shape) - len(found.axes))
    order = (*range(at, at + index_rank), *range(at), *range(at + index_rank, rank))
    return transpose(gathered, order)


def _where_masked(middle: Any, found: Lookup, value: Any, type: ArrayType) -> Any:
    """`middle[mask] = value` for a value that does not depend on which elements are chosen."""
    assert found.mask is not None
    axis, mask = found.mask
    if len(found.chosen) > 1:
        raise UnsupportedError("a computed mask together with other index arrays: use np.where")
    after = len(found.shape) - axis - mask.rank
    given = type_of(value)
    if given.rank > after and not (given.rank == after + 1 and same(given.shape[0], 1)):
        raise UnsupportedError(
            f"{type}[mask] = {given} with a computed mask: the values must be one number, or the same for "
            "every chosen element; use np.where(mask, values, x)"
        )
    condition = mask.array
    if after:
        condition = reshape(condition, type_of(condition).shape + (1,) * after)
    return where(condition, _fitted(value, found.shape, type), middle)


def _fitted(value: Any, shape: Shape, target: ArrayType) -> Any:
    """`value` broadcast to `shape`; leading axes of extent 1 that are too many are dropped."""
    given = type_of(value)
    extra = given.rank - len(shape)
    if extra > 0 and all(same(size, 1) for size in given.shape[:extra]):
        value = reshape(value, given.shape[extra:])
    try:
        return broadcast_to(value, shape)
    except ShapeError as error:
        raise ShapeError(
            f"could not broadcast input array from shape {shape_text(given.in_figures().shape)} "
            f"into shape {shape_text(tuple(in_figures(size) for size in shape))}: cannot write "
            f"{given.in_figures()} into that part of {target.in_figures()}"
        ) from error


def lookup(type: ArrayType, key: Any) -> Lookup:
    """The key resolved against the extents of `type`."""
    parts = [operand_of(part) for part in (key if isinstance(key, tuple) else (key,))]
    entries = _resolved(type, _expanded(type, parts))
    region: list[Span | Size | None] = []
    shape: list[Size] = []
    chosen: list[tuple[int, Chosen]] = []
    for entry in entries:
        match entry:
            case NewAxis():
                shape.append(1)
            case Chosen(_, rank):
                chosen.append((len(shape), entry))
                base = type.shape[len(region) : len(region) + rank]
                region += [None] * rank
                shape += base
            case _:
                size = type.shape[len(region)]
                region.append(entry)
                shape += region_shape((size,), (entry,))
    return Lookup(tuple(region), tuple(shape), tuple(chosen), bool(chosen) and _is_split(entries))


def _is_split(entries: list[Entry]) -> bool:
    """Whether integers and index arrays are separated by slices: their axes come first then."""
    places = [
        number
        for number, entry in enumerate(entries)
        if isinstance(entry, Chosen) or not (entry is None or isinstance(entry, tuple | NewAxis))
    ]
    return places[-1] - places[0] + 1 != len(places)


def operand_of(part: Any) -> Any:
    """A part of a key: slices, None and Ellipsis as they are, numbers as ints or sizes, arrays."""
    if part is None or part is Ellipsis or isinstance(part, slice):
        return part
    if isinstance(part, SizeValue):
        return as_size(part)
    if isinstance(part, bool | np.bool_):
        raise UnsupportedError(
            "True and False as indices are not supported: use x[None] or np.where"
        )
    if isinstance(part, list | tuple):
        part = as_operand(part) if len(part) else np.zeros(0, np.int64)
    if isinstance(part, Bindable):
        part = part if part.known() is None else part.known()
    if isinstance(part, np.ndarray | Bindable):
        kind = type_of(part).dtype.kind
        if kind not in "biu":
            raise IndexError(VALID)
        if kind == "b" and type_of(part).rank == 0:
            raise UnsupportedError("a mask without axes is not supported: use np.where")
        whole = isinstance(part, np.ndarray) and part.ndim == 0
        return operator.index(part[()]) if whole else part
    try:
        return operator.index(part)
    except TypeError:
        raise IndexError(VALID) from None


def _expanded(type: ArrayType, parts: list[Any]) -> list[Any]:
    """The ellipsis, and what is missing at the end, as whole axes."""
    used = sum(_consumed(part) for part in parts)
    if used > type.rank:
        raise IndexError(
            f"too many indices for array: array is {type.rank}-dimensional, but {used} were indexed"
        )
    ellipses = [number for number, part in enumerate(parts) if part is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    at = ellipses[0] if ellipses else len(parts)
    whole = [slice(None)] * (type.rank - used)
    return parts[:at] + whole + parts[at + 1 :]


def _consumed(part: Any) -> int:
    if part is None or part is Ellipsis:
        return 0
    if isinstance(part, np.ndarray | Bindable):
        kind = type_of(part)
        return kind.rank if kind.dtype.kind == "b" else 1
    return 1


def _resolved(type: ArrayType, parts: list[Any]) -> list[Entry]:
    entries: list[Entry] = []
    axis = 0
    for part in parts:
        if part is None:
            entries.append(NewAxis())
            continue
        size = type.shape[axis]
        if isinstance(part, slice):
            entries.append(resolved_slice(part, size))
        elif isinstance(part, np.ndarray | Bindable):
            entries += _chosen(part, type, axis)
        else:
            entries.append(resolved_position(part, size, axis))
        axis += _consumed(part)
    return entries


def _chosen(part: Any, type: ArrayType, axis: int) -> list[Entry]:
    kind = type_of(part)
    if kind.dtype.kind != "b":
        return [Chosen(checked(part, type.shape[axis], axis))]
    for number, extent in enumerate(kind.shape):
        size = type.shape[axis + number]
        if not same(size, extent):
            raise IndexError(
                f"boolean index did not match indexed array along axis {axis + number}; size of axis is "
                f"{in_figures(size)} but size of corresponding boolean axis is {in_figures(extent)}"
            )
    if isinstance(part, np.ndarray):
        return [Chosen(index) for index in np.nonzero(part)]
    return [Chosen(part, kind.rank)]


def checked(index: Any, size: Size, axis: int) -> Any:
    """An index array that is in bounds: constants now, computed ones when the code runs."""
    if not isinstance(index, np.ndarray | np.generic):
        return bind(CHECKED, index, size=size, axis=axis)
    if index.size:
        low, high = int(index.min()), int(index.max())
        if high >= 0 and not holds(high, "<", size):
            raise IndexError(out_of_bounds(str(high), axis, in_figures(size)))
        if low < 0 and not holds(-low, "<=", size):
            raise IndexError(out_of_bounds(str(low), axis, in_figures(size)))
    return index


def _is_unique(arrays: tuple[Any, ...]) -> bool:
    """Whether the index arrays surely name no element twice."""
    if all(type_of(array).rank == 0 for array in arrays):
        return True
    if not all(isinstance(array, np.ndarray | np.generic) for array in arrays):
        return False
    if any((array < 0).any() and (array >= 0).any() for array in arrays):
        return False
    rows = np.stack([array.ravel() for array in np.broadcast_arrays(*arrays)])
    return np.unique(rows, axis=1).shape[1] == rows.shape[1]


def resolved_position(index: Size, size: Size, axis: int) -> Size:
    """An integer as a position from the start. Raises IndexError."""
    if holds(index, "<", 0):
        if holds(0, "<=", index + size):
            return index + size
    elif holds(index, "<", size):
        return index
    raise IndexError(out_of_bounds(str(in_figures(index)), axis, in_figures(size)))


def resolved_slice(part: slice, size: Size) -> Span | None:
    """A slice as `(start, length, step)`; None if it is the whole axis in order."""
    step = 1 if part.step is None else operator.index(part.step)
    if step == 0:
        raise ValueError("slice step cannot be zero")
    low, high = (0, size) if step > 0 else (-1, size - 1)
    start = _bound(part.start, low if step > 0 else high, low, high, size)
    stop = _bound(part.stop, high if step > 0 else low, low, high, size)
    distance = stop - start if step > 0 else start - stop
    if holds(distance, "<", 0):
        return (0, 0, 1)
    length = distance if abs(step) == 1 else quotient(distance + abs(step) - 1, abs(step))
    return None if (start, length, step) == (0, size, 1) else (start, length, step)


def _bound(value: Any, default: Size, low: Size, high: Size, size: Size) -> Size:
    if value is None:
        return default
    if isinstance(value, Bindable) and not isinstance(value, SizeValue):
        raise UnsupportedError(
            "a computed number as the bound of a slice: the length of the result would depend on the data; use "
            "a slice of constant length, x[start + np.arange(length)], or np.where"
        )
    position = as_size(value)
    if holds(position, "<", 0):
        position = position + size
        return position if holds(low, "<=", position) else low
    return position if holds(position, "<=", high) else high
