"""Index keys: what stands between the brackets of `x[...]`, resolved against the extents of `x`.

    x[1:, None, idx] of f64[n, m]   ->   the region (1:n, :), then a new axis, then idx along axis 2

Bounds with symbolic extents are clamped as NumPy clamps them; where the extent decides (`x[1:]` of
an empty axis), the trace assumes what holds for this call (`1 <= n`).
"""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.errors import ShapeError, UnsupportedError
from tracegrad.ir.dims import Size, holds, in_figures, knows, must_be_same, of_data, quotient
from tracegrad.ir.types import ArrayType
from tracegrad.ops.bounds import CHECKED, WITHIN, out_of_bounds
from tracegrad.ops.broadcast import Shape, broadcast_shapes
from tracegrad.ops.computed import as_value, is_computed, sliced
from tracegrad.ops.nonzero import nonzero
from tracegrad.ops.op import Bindable, SizeValue, as_operand, bind, type_of
from tracegrad.ops.regions import Region, Span, region_shape
from tracegrad.ops.shape import as_size, shape_text

OBJECT = np.dtype(object)
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
    """A key taken apart: a region of the base, `shape` with new axes, arrays along axes of that.

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
    def masks_alone(self) -> bool:
        """Whether a computed mask for the first axes is all that chooses."""
        return len(self.chosen) == 1 and self.mask is not None and self.mask[0] == 0

    @property
    def mask(self) -> tuple[int, Chosen] | None:
        return next((found for found in self.chosen if found[1].is_mask), None)


def places(found: Lookup) -> Lookup:
    """The same with index arrays for each computed mask: the places that it chooses."""
    chosen = [
        (axis + number, Chosen(index))
        for axis, part in found.chosen
        for number, index in enumerate(nonzero(part.array) if part.is_mask else (part.array,))
    ]
    return replace(found, chosen=tuple(chosen))


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
    _check_shapes([entry.array for _, entry in chosen if not entry.is_mask])
    return Lookup(tuple(region), tuple(shape), tuple(chosen), bool(chosen) and _is_split(parts))


def _check_shapes(arrays: list[Any]) -> None:
    """Index arrays have to broadcast. Raises IndexError."""
    types = [type_of(array) for array in arrays]
    try:
        broadcast_shapes("index with", *types)
    except ShapeError:
        shapes = " ".join(shape_text(type.in_figures().shape) for type in types)
        raise IndexError(
            f"shape mismatch: indexing arrays could not be broadcast together with shapes {shapes}"
        ) from None


def _is_split(parts: list[Any]) -> bool:
    """Whether integers and index arrays are separated by slices, `None` or `...` (one of no axes
    too): their axes come first then.
    """
    between = [part is None or part is Ellipsis or isinstance(part, slice) for part in parts]
    places = [number for number, other in enumerate(between) if not other]
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
    if isinstance(part, list | tuple | range) or getattr(part, "dtype", None) is OBJECT:
        part = as_operand(part) if len(part) else np.zeros(0, np.int64)
    if isinstance(part, Bindable):
        part = part if part.known() is None else part.known()
    if isinstance(part, np.ndarray | Bindable):
        kind = type_of(part).dtype.kind
        if kind not in "biu":
            raise IndexError(VALID)
        if kind == "b" and type_of(part).rank == 0:
            raise UnsupportedError("a mask without axes is not supported: use np.where")
        return part
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
        elif _is_open(part, size):
            place = np.int64(part) if isinstance(part, int) else as_value(part)
            entries.append(Chosen(bind(CHECKED, place, size=size, axis=axis)))
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
        if not must_be_same(size, extent):
            raise IndexError(
                f"boolean index did not match indexed array along axis {axis + number}; size of "
                f"axis is {in_figures(size)} but size of corresponding boolean axis is "
                f"{in_figures(extent)}"
            )
    if isinstance(part, np.ndarray):
        return [Chosen(index) for index in np.nonzero(part)]
    return [Chosen(part, kind.rank)]


def checked(index: Any, size: Size, axis: int) -> Any:
    """An index array that is in bounds: constants now, computed ones when the code runs."""
    if not isinstance(index, np.ndarray | np.generic):
        if isinstance(index, Bindable) and index.is_within(size):
            return bind(WITHIN, index, size=size, axis=axis)
        found = bind(CHECKED, index, size=size, axis=axis)
        counts = isinstance(index, Bindable) and index.is_count()
        return bind(WITHIN, found, size=size, axis=axis) if counts else found
    if index.size:
        low, high = int(index.min()), int(index.max())
        if high >= 0 and not holds(high, "<", size):
            raise IndexError(out_of_bounds(str(high), axis, in_figures(size)))
        if low < 0 and not holds(-low, "<=", size):
            raise IndexError(out_of_bounds(str(low), axis, in_figures(size)))
    return index


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
    if part.start is None and part.stop is None and part.step is None:
        return None
    step = 1 if part.step is None else operator.index(part.step)
    if step == 0:
        raise ValueError("slice step cannot be zero")
    if step > 0 and _data_decides(part, size):
        return sliced(part.start, part.stop, step, size)
    low, high = (0, size) if step > 0 else (-1, size - 1)
    start = _bound(part.start, low if step > 0 else high, low, high, size)
    stop = _bound(part.stop, high if step > 0 else low, low, high, size)
    distance = stop - start if step > 0 else start - stop
    if holds(distance, "<", 0):
        return (0, 0, 1)
    length = distance if abs(step) == 1 else quotient(distance + abs(step) - 1, abs(step))
    return None if (start, length, step) == (0, size, 1) else (start, length, step)


def _data_decides(part: slice, size: Size) -> bool:
    """Whether data decides how long a slice is."""
    bounds = [value for value in (part.start, part.stop) if value is not None]
    return any(map(is_computed, bounds)) or (
        bool(bounds) and any(of_data(value) for value in (size, *map(as_size, bounds)))
    )


def _is_open(position: Size, size: Size) -> bool:
    """Whether data decides if a position is one of an axis."""
    if not (of_data(size) or of_data(position)):
        return False
    inside = knows(position, "<", size), knows(-size, "<=", position)
    return None in inside or knows(position, "<", 0) is None


def _bound(value: Any, default: Size, low: Size, high: Size, size: Size) -> Size:
    if value is None:
        return default
    if isinstance(value, Bindable) and not isinstance(value, SizeValue):
        raise UnsupportedError(
            "a computed number as the bound of a slice with a negative step: slice first, then "
            "reverse, x[start:stop][::-1]"
        )
    position = as_size(value)
    if holds(position, "<", 0):
        position = position + size
        return position if holds(low, "<=", position) else low
    return position if holds(position, "<=", high) else high
