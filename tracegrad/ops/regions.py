"""Regions: which elements a slice names, as index arithmetic and as text.

A region says for each axis of an array: `None`, all of it; a size, that position (the axis is
dropped); `(start, length, step)`, the positions `start, start + step, ...`. Negative indices and
missing bounds were resolved before (in `keys`), so `x[1:, 3]` is the region `((1, n - 1, 1), 3)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codegen import expr as ex
from codegen.expr import Call, Expr
from tracegrad.ir.dims import Dim, Quotient, Size
from tracegrad.ops.broadcast import Shape
from tracegrad.ops.extent import extent

Span = tuple[Size, Size, int]
Region = tuple[Span | Size | None, ...]


def region(shape: Shape, spans: Mapping[int, tuple[Any, Any, int]]) -> Region:
    """The spans of all axes; one that covers its axis in order is `None`."""
    return tuple(
        None if spans.get(axis, (0, size, 1)) == (0, size, 1) else spans[axis]
        for axis, size in enumerate(shape)
    )


def is_thin(at: Region) -> bool:
    """Whether a region is a single position along some axis: little beside the whole array."""
    return any(part is not None and (not isinstance(part, tuple) or _is(part[1], 1)) for part in at)


def region_shape(shape: Shape, at: Region) -> Shape:
    return tuple(
        size if part is None else part[1]
        for size, part in zip(shape, at, strict=True)
        if part is None or isinstance(part, tuple)
    )


def inside(index: tuple[Expr, ...], at: Region) -> tuple[Expr, ...]:
    """Where the region's element `index` lies in the array."""
    positions = iter(index)
    found: list[Expr] = []
    for part in at:
        match part:
            case None:
                found.append(next(positions))
            case (start, _, step):
                found.append(_along(next(positions), start, step))
            case _:
                found.append(extent(part))
    return tuple(found)


def _along(i: Expr, start: Size, step: int) -> Expr:
    distance = ex.multiply(ex.integer(abs(step)), i)
    return ex.subtract(extent(start), distance) if step < 0 else ex.add(distance, extent(start))


def covered(
    index: tuple[Expr, ...], at: Region, shape: Shape
) -> tuple[Expr | None, tuple[Expr, ...]]:
    """Whether the array's element `index` lies in the region (None: surely), and where in it."""
    conditions: list[Expr] = []
    position: list[Expr] = []
    for i, part, size in zip(index, at, shape, strict=True):
        match part:
            case None:
                position.append(i)
            case (start, 1, _):
                conditions.append(_compare("equal", i, extent(start)))
                position.append(ex.integer(0))
            case (start, length, step):
                found, offset = _in_span(i, start, length, step, size)
                conditions += found
                position.append(offset)
            case _:
                conditions.append(_compare("equal", i, extent(part)))
    return all_of(conditions), tuple(position)


def all_of(conditions: Sequence[Expr]) -> Expr | None:
    if not conditions:
        return None
    total = conditions[0]
    for condition in conditions[1:]:
        total = Call("logical_and", (total, condition), ex.BOOL)
    return total


def _in_span(i: Expr, start: Size, length: Size, step: int, size: Size) -> tuple[list[Expr], Expr]:
    """The conditions under which `i` is one of the span's positions, and its number among them."""
    first, stop = extent(start), start + length * step
    conditions: list[Expr] = []
    if step > 0:
        offset = ex.subtract(i, first)
        if not _is(start, 0):
            conditions.append(_compare("less_equal", first, i))
        if not _reaches(stop, size, step):
            conditions.append(_compare("less", i, extent(stop)))
    else:
        offset = ex.subtract(first, i)
        if start != size - 1:
            conditions.append(_compare("less_equal", i, first))
        if not (isinstance(stop, int) and stop < 0):
            conditions.append(_compare("less", extent(stop), i))
    stride = ex.integer(abs(step))
    if abs(step) > 1:
        conditions.append(_compare("equal", ex.remainder(offset, stride), ex.integer(0)))
    return conditions, ex.floor_divide(offset, stride)


def _is(size: Size, number: int) -> bool:
    return isinstance(size, int) and size == number


def _reaches(last: Size, size: Size, step: int) -> bool:
    """Whether the next element after the region would lie outside of an axis of extent `size`."""
    gap = last - size
    return (isinstance(gap, int) and gap >= 0) or (step > 1 and _is_rounded_up(last, size, step))


def _is_rounded_up(last: Size, size: Size, step: int) -> bool:
    """Whether `last` is `start + step*ceil((size - start)/step)`."""
    ceiling = _ceiling(last, step)
    return ceiling is not None and ceiling == size


def _ceiling(last: Size, step: int) -> Size | None:
    """From `start + step*((size - start + step - 1)//step)` the size; None for other forms."""
    if not isinstance(last, Dim):
        return None
    for monomial, factor in last.terms:
        match monomial:
            case (Quotient(numerator, int() as denominator),) if factor == denominator == step:
                start = last - Dim(((monomial, factor),))
                return numerator + start - step + 1
    return None


def _compare(relation: str, a: Expr, b: Expr) -> Expr:
    return Call(relation, (a, b), ex.BOOL)


def python_index(at: Region) -> tuple[Any, ...]:
    """The region as an index of NumPy, for known sizes."""
    return tuple(
        slice(None) if part is None else _python_slice(*part) if isinstance(part, tuple) else part
        for part in at
    )


def _python_slice(start: Any, length: Any, step: int) -> slice:
    stop = start + length * step
    return slice(start, stop if stop >= 0 else None, step) if length else slice(0, 0)


def region_text(at: Region) -> str:
    """`[1:n, :, ::2]`; a reversed axis may need a second subscript, `[1:n:2][::-1]`."""
    forward, backward = zip(*(_part_text(part) for part in at), strict=True)
    text = f"[{', '.join(_trimmed(forward))}]"
    kept = tuple(part for part in backward if part)
    return text + f"[{', '.join(_trimmed(kept))}]" if any(p != ":" for p in kept) else text


def _trimmed(parts: tuple[str, ...]) -> tuple[str, ...]:
    count = max([number for number, part in enumerate(parts) if part != ":"], default=0)
    return parts[: count + 1]


def _part_text(part: Span | Size | None) -> tuple[str, str]:
    """One axis of the subscript, and of the one that reverses the result."""
    if part is None:
        return ":", ":"
    if not isinstance(part, tuple):
        return str(part), ""
    start, length, step = part
    stop = start + length * step
    if step > 0:
        first = "" if _is(start, 0) else str(start)
        end = stop if step == 1 else _ceiling(stop, step) or stop
        return f"{first}:{end}" + ("" if step == 1 else f":{step}"), ":"
    if isinstance(stop, int):
        return (f"{start}:{stop}:{step}" if stop >= 0 else f"{start}::{step}"), ":"
    low, high = stop - step, start + 1
    return f"{low}:{high}" + ("" if step == -1 else f":{-step}"), "::-1"
