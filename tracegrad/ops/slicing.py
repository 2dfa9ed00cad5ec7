"""Slices and their adjoints: a region of an array read, placed into zeros, or written.

A region says for each axis of an array: `None`, all of it; a size, that position (the axis is
dropped); `(start, length, step)`, the positions `start, start + step, ...`. Negative indices and
missing bounds were resolved before (in `indexing`), so

    x[1:, 3]   is   slice(x, at=((1, n - 1, 1), 3))   =>   d_x = place(d_y, same region, shape of x)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.expr import Call, Const, Expr, Select
from codegen.loops import Accumulate, Store
from tracegrad.ir.dims import Dim, Quotient, Size
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.broadcast import Shape
from tracegrad.ops.extent import extent
from tracegrad.ops.op import as_operand, bind, register, sample, type_of
from tracegrad.ops.reduction import broadcast_to
from tracegrad.ops.shape import shape_text

Reader = Callable[..., Expr]
Span = tuple[Size, Size, int]
Region = tuple[Span | Size | None, ...]


class Slice(Op):
    """`y[i] = x[start + step*i]` along each axis  =>  `d_x` is zero outside of the region."""

    name = "slice"
    linear = (0,)

    def infer(self, x: ArrayType, *, at: Region) -> ArrayType:
        return x.with_shape(region_shape(x.shape, at))

    def reference(self, x: np.ndarray, *, at: Region) -> np.ndarray:
        return x[(*python_index(at), ...)]  # a view, even of a single element

    def text(self, x: str, *, at: Region) -> str:
        return x + region_text(at)

    def transpose(self, ct: Array, x: Array, *, at: Region) -> tuple[Array | None, ...]:
        return (bind(PLACE, ct, at=at, shape=x.type.shape),)

    def put(self, base: Array, value: Array, *, at: Region) -> Array:
        return bind(UPDATE, base, value, at=at)

    def strides(self, strides: Shape, x: ArrayType, *, at: Region) -> Shape:
        return tuple(
            stride * part[2] if isinstance(part, tuple) else stride
            for stride, part in zip(strides, at, strict=True)
            if part is None or isinstance(part, tuple)
        )

    def element(self, read: Reader, index: tuple[Expr, ...], node: Any) -> Expr:
        return read(0, inside(index, node.attributes["at"]))


class Place(Op):
    """Zeros of `shape` with `x` in a region; the adjoint of the slice, and it of this."""

    name = "place"
    linear = (0,)
    weight = 1

    def infer(self, x: ArrayType, *, at: Region, shape: Shape) -> ArrayType:
        return x.with_shape(shape)

    def reference(self, x: np.ndarray, *, at: Region, shape: tuple[int, ...]) -> np.ndarray:
        result = np.zeros(shape, np.asarray(x).dtype)
        result[python_index(at)] = x
        return result

    def text(self, x: str, *, at: Region, shape: Shape) -> str:
        return f"place({x}, {region_text(at)}, {shape_text(shape)})"

    def lines(self, target: str, x: str, *, at: Region, shape: Shape) -> list[str]:
        zeros = f"{target} = np.zeros_like({x}, shape={shape_text(shape)})"
        return [zeros, f"{target}{region_text(at)} = {x}"]

    def transpose(
        self, ct: Array, x: Array, *, at: Region, shape: Shape
    ) -> tuple[Array | None, ...]:
        return (bind(SLICE, ct, at=at),)

    def element(self, read: Reader, index: tuple[Expr, ...], node: Any) -> Expr:
        attrs, dtype = node.attributes, node.type.dtype
        condition, position = covered(index, attrs["at"], attrs["shape"])
        if condition is None:
            return read(0, position)
        return Select(condition, read(0, position, True), Const(dtype.type(0).item(), dtype), dtype)


class Update(Op):
    """`base` with `value` written into a region: `y[1:3] = v`, as a value.

    d_base = d_y with zeros written there,  d_value = d_y[region]
    """

    name = "update"
    linear = (0, 1)
    overwrites = 0

    def infer(self, base: ArrayType, value: ArrayType, *, at: Region) -> ArrayType:
        return ArrayType(base.dtype, base.shape)

    def reference(self, base: np.ndarray, value: np.ndarray, *, at: Region) -> np.ndarray:
        result = np.array(base)
        result[python_index(at)] = value
        return result

    def text(self, base: str, value: str, *, at: Region) -> str:
        return f"update({base}, {region_text(at)}, {value})"

    def lines(self, target: str, base: str, value: str, *, at: Region) -> list[str]:
        return [f"{target} = np.copy({base})", f"{target}{region_text(at)} = {value}"]

    def transpose(self, ct: Array, base: Array, value: Array, *, at: Region):
        d_value = bind(SLICE, ct, at=at)
        return bind(UPDATE, ct, zeros(d_value.type), at=at), d_value

    def jvp(self, tangents: tuple[Array | None, ...], out: Array, base: Array, value: Array, *, at):
        t_base, t_value = tangents
        if t_base is None:
            return bind(PLACE, t_value, at=at, shape=base.type.shape)
        return bind(UPDATE, t_base, zeros(value.type) if t_value is None else t_value, at=at)

    def kernel(self, lowering: Any, node: Any) -> None:
        array = lowering.overwrite(node)
        value = node.inputs[1]
        with lowering.nest(value.type.shape) as index:
            element = lowering.value(value, index)
            target = inside(index, node.attributes["at"])
            lowering.append(Store(array, target, element, lowering.comment(node)))


class AddAt(Op):
    """`base` with `value` added in a region: `y[1:3] += v`, as a value. Sums of placements become it.

    d_base = d_y,  d_value = d_y[region]
    """

    name = "add_at"
    linear = (0, 1)
    overwrites = 0

    def infer(self, base: ArrayType, value: ArrayType, *, at: Region) -> ArrayType:
        return ArrayType(base.dtype, base.shape)

    def reference(self, base: np.ndarray, value: np.ndarray, *, at: Region) -> np.ndarray:
        result = np.array(base)
        result[python_index(at)] += value
        return result

    def text(self, base: str, value: str, *, at: Region) -> str:
        return f"add_at({base}, {region_text(at)}, {value})"

    def lines(self, target: str, base: str, value: str, *, at: Region) -> list[str]:
        return [f"{target} = np.copy({base})", f"{target}{region_text(at)} += {value}"]

    def transpose(self, ct: Array, base: Array, value: Array, *, at: Region):
        return ct, bind(SLICE, ct, at=at)

    def jvp(self, tangents: tuple[Array | None, ...], out: Array, base: Array, value: Array, *, at):
        t_base, t_value = tangents
        if t_base is None:
            return bind(PLACE, t_value, at=at, shape=base.type.shape)
        return t_base if t_value is None else bind(ADD_AT, t_base, t_value, at=at)

    def kernel(self, lowering: Any, node: Any) -> None:
        array, dtype = lowering.overwrite(node), node.type.dtype
        value = node.inputs[1]
        with lowering.nest(value.type.shape) as index:
            element = lowering.value(value, index)
            target = inside(index, node.attributes["at"])
            comment = lowering.comment(node)
            lowering.append(Accumulate(array, target, "add", element, dtype, comment))


SLICE = register(Slice())
PLACE = register(Place())
UPDATE = register(Update())
ADD_AT = register(AddAt())


def slices(x: Any, spans: Mapping[int, tuple[Any, Any, int]]) -> Any:
    """`x` with `(start, length, step)` taken along the axes given (non-negative)."""
    x = as_operand(x)
    at = region(type_of(x).shape, spans)
    return bind(SLICE, x, at=at) if any(part is not None for part in at) else x


def region(shape: Shape, spans: Mapping[int, tuple[Any, Any, int]]) -> Region:
    """The spans of all axes; one that covers its axis in order is `None`."""
    return tuple(
        None if spans.get(axis, (0, size, 1)) == (0, size, 1) else spans[axis]
        for axis, size in enumerate(shape)
    )


def is_thin(at: Region) -> bool:
    """Whether a region is a single position along some axis: little beside the whole array."""
    return any(
        part is not None and (not isinstance(part, tuple) or _is(part[1], 1)) for part in at
    )


def zeros(type: ArrayType) -> Any:
    return broadcast_to(np.zeros((), type.dtype)[()], type.shape)


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


sample(lambda x: x[1:] * x[:-1], (5,))
sample(lambda x: x[::-1] - x[::2][0], (5,))
sample(lambda x: x[1:4:2, ::-2], (6, 5))
sample(lambda x: x[3:1:-1, -1:] + x[:2], (4, 3))
