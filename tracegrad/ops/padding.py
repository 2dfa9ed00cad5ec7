"""`pad`: borders of a constant, or of what the array itself holds.

    pad(x, (1, 2))   is   place(x, at=((1, n, 1),), shape=(n + 3,))      =>      d_x = d_y[1:n+1]

The other modes lay borders made of slices around the array, one axis after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracegrad.errors import UnsupportedError
from tracegrad.ir.dims import Size, holds, knows, of_data, required
from tracegrad.ops.constant import astype
from tracegrad.ops.joining import concatenate
from tracegrad.ops.op import as_operand, bind, public, sample, type_of
from tracegrad.ops.reduction import broadcast_to
from tracegrad.ops.shape import as_size, copy
from tracegrad.ops.slicing import PLACE, region, slices

Borders = tuple[tuple[Size, Size], ...]
Pair = tuple[Any, Any]


@public(np.pad)
def pad(array: Any, pad_width: Any, mode: str = "constant", **options: Any) -> Any:
    """`array` with borders: `pad_width` is one width, (before, after), or such a pair per axis.

    Modes: constant (`constant_values`), edge, reflect, symmetric, wrap.
    """
    array = as_operand(array)
    rank = type_of(array).rank
    borders = tuple((as_size(a), as_size(b)) for a, b in _pairs(pad_width, rank))
    if any(not required(0, "<=", width) for pair in borders for width in pair):
        raise ValueError("index can't contain negative values")
    if mode == "constant":
        values = options.pop("constant_values", 0)
        _no_more(mode, options)
        return _constant(array, borders, values)
    if mode not in _BORDERS:
        known = ", ".join(("constant", *_BORDERS))
        raise UnsupportedError(f"pad: mode {mode!r} is not supported; there are {known}")
    if options.pop("reflect_type", "even") != "even":
        raise UnsupportedError("pad: only reflect_type='even' is supported")
    _no_more(mode, options)
    result = array
    for axis, (before, after) in enumerate(borders):
        result = _bordered(result, axis, before, after, mode)
    return copy(array) if result is array else result


def _no_more(mode: str, options: dict[str, Any]) -> None:
    if options:
        raise ValueError(f"unsupported keyword arguments for mode '{mode}': {set(options)}")


def _pairs(given: Any, rank: int) -> list[Pair]:
    """NumPy's short forms: one value, (before, after), ((before, after),), or a pair per axis."""
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if isinstance(given, dict):
        return [_pair(given.get(axis, given.get(axis - rank, 0))) for axis in range(rank)]
    items = list(given) if isinstance(given, tuple | list) else [given]
    nested = [isinstance(item, tuple | list) for item in items]
    if not any(nested) and len(items) <= 2:
        return [_pair(tuple(items))] * rank
    if all(nested) and len(items) == 1:
        return [_pair(items[0])] * rank
    if all(nested) and len(items) == rank:
        return [_pair(item) for item in items]
    raise ValueError(f"pad: {given} is not a value, a pair, or a pair for each of {rank} axes")


def _pair(given: Any) -> Pair:
    items = tuple(given) if isinstance(given, tuple | list) else (given,)
    if len(items) not in (1, 2):
        raise ValueError(f"pad: {given} is not a pair (before, after)")
    return items[0], items[-1]


def _constant(array: Any, borders: Borders, values: Any) -> Any:
    """Zeros around `array` by one placement; other values are laid around axis by axis."""
    type = type_of(array)
    pairs = _pairs(values, type.rank)
    if not all(isinstance(value, int | float) and value == 0 for pair in pairs for value in pair):
        result = array
        for axis, (widths, fills) in enumerate(zip(borders, pairs, strict=True)):
            result = _filled_around(result, axis, widths, fills)
        return copy(array) if result is array else result
    shape = tuple(a + size + b for size, (a, b) in zip(type.shape, borders, strict=True))
    spans = {axis: (borders[axis][0], size, 1) for axis, size in enumerate(type.shape)}
    if shape == type.shape:
        return copy(array)
    return bind(PLACE, array, at=region(shape, spans), shape=shape)


def _filled_around(array: Any, axis: int, widths: tuple[Size, Size], fills: Pair) -> Any:
    type = type_of(array)
    parts = [array]
    for width, fill, at in zip(widths, fills, (0, 2), strict=True):
        if isinstance(width, int) and width == 0:
            continue
        value = astype(as_operand(fill), type.dtype)
        shape = (*type.shape[:axis], width, *type.shape[axis + 1 :])
        parts.insert(at, broadcast_to(value, shape))
    return concatenate(parts, axis) if len(parts) > 1 else array


def _bordered(array: Any, axis: int, before: Size, after: Size, mode: str) -> Any:
    """`array` with borders along one axis, laid on in rounds where they are wider than it is."""
    size = type_of(array).shape[axis]
    if before == 0 and after == 0:
        return array
    if not required(size, "!=", 0):
        if holds(before + after, "==", 0):
            return array
        raise ValueError(f"can't extend empty axis {axis} using modes other than 'constant'")
    parts = [array]
    for width, from_start in ((before, True), (after, False)):
        if not (isinstance(width, int) and width == 0):
            pieces = _BORDERS[mode](array, axis, width, from_start)
            parts = [*pieces[::-1], *parts] if from_start else [*parts, *pieces]
    return concatenate(parts, axis) if len(parts) > 1 else array


def _edge(array: Any, axis: int, width: Size, before: bool) -> list[Any]:
    """The first or last element, `width` times."""
    shape = type_of(array).shape
    line = slices(array, {axis: (0 if before else shape[axis] - 1, 1, 1)})
    return [broadcast_to(line, (*shape[:axis], width, *shape[axis + 1 :]))]


def _periodic(array: Any, axis: int, width: Size, before: bool, piece: Callable[..., Any]):
    """Borders that repeat: whole periods from the array outwards, then a part of one. Where data
    decides how long a period is it has to be as long as the border.
    """
    found: list[Any] = []
    number = 0
    while not holds(width, "<=", 0):
        period, part = piece(array, axis, before, number)
        if of_data(period):
            required(width, "<=", period)
        if knows(period, "<=", width):
            found.append(part(period))
            width = width - period
        else:
            found.append(part(width))
            break
        number += 1
    return found


def _wrap(array: Any, axis: int, width: Size, before: bool) -> list[Any]:
    """The other end of the array, as if it went round in a circle."""

    def piece(array: Any, axis: int, before: bool, number: int) -> Any:
        size = type_of(array).shape[axis]

        def part(length: Size) -> Any:
            return slices(array, {axis: (size - length if before else 0, length, 1)})

        return size, part

    return _periodic(array, axis, width, before, piece)


def _mirrored(skip: int) -> Callable[[Any, int, Size, bool], list[Any]]:
    """Reflections at the border; `skip` 1 does not repeat the element at the border itself."""

    def piece(array: Any, axis: int, before: bool, number: int) -> Any:
        size = type_of(array).shape[axis]
        period = size - skip

        def part(length: Size) -> Any:
            """The `length` elements that come next, seen from the array outwards."""
            towards_end = before == (number % 2 == 0)
            near = skip if towards_end else size - 1 - skip
            if before:
                # Outwards is downwards: what is read upwards from the start is laid reversed.
                last = near + length - 1 if towards_end else near - (length - 1)
                return slices(array, {axis: (last, length, -1 if towards_end else 1)})
            return slices(array, {axis: (near, length, 1 if towards_end else -1)})

        return period, part

    def border(array: Any, axis: int, width: Size, before: bool) -> list[Any]:
        size = type_of(array).shape[axis]
        if knows(skip, "<", size) is False:
            return _edge(array, axis, width, before)  # nothing to reflect but the border itself
        return _periodic(array, axis, width, before, piece)

    return border


_BORDERS: dict[str, Callable[[Any, int, Size, bool], list[Any]]] = {
    "edge": _edge,
    "reflect": _mirrored(1),
    "symmetric": _mirrored(0),
    "wrap": _wrap,
}

sample(lambda x: np.pad(x, 1) * 2, (3,))
sample(lambda x: np.pad(x, ((1, 0), (0, 2))) ** 2, (2, 3))
sample(lambda x: np.pad(x, (1, 2), constant_values=(0.5, x[0, 0])), (2, 3))
sample(lambda x: np.pad(x, 0) + np.pad(x, (0, 0), mode="edge"), (3,))
sample(lambda x: np.pad(x, ((2, 1), (0, 3)), mode="edge"), (2, 3))
sample(lambda x: np.pad(x, (2, 1), mode="reflect"), (3, 4))
sample(lambda x: np.pad(x, (9, 8), mode="reflect"), (4,))
sample(lambda x: np.pad(x, (9, 7), mode="symmetric"), (3,))
sample(lambda x: np.pad(x, ((2, 2), (1, 3)), mode="symmetric"), (2, 3))
sample(lambda x: np.pad(x, (7, 8), mode="wrap"), (3,))
sample(lambda x: np.pad(x, ((1, 2), (0, 1)), "wrap"), (2, 3))
sample(lambda x: np.pad(x, 3, mode="reflect") + np.pad(x, 3, mode="symmetric"), (1,))
sample(lambda x: (np.pad(x, 2), np.pad(x, 1, mode="edge")), (3,), kinds="iub", smooth=False)
sample(lambda x: np.pad(x, 2), (0,))
