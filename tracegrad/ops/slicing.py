"""Slices and their adjoints: a region of an array read, placed into zeros, written, added to.

x[1:]   is   slice(x, at=((1, n - 1, 1),))   =>   d_x = place(d_y, same region, shape of x)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from codegen.expr import Const, Expr, Select
from codegen.loops import Accumulate, Store
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.batched import Mapped, everywhere
from tracegrad.ops.broadcast import Shape
from tracegrad.ops.op import as_operand, bind, register, sample, type_of
from tracegrad.ops.reduction import broadcast_to
from tracegrad.ops.regions import (
    Region,
    covered,
    inside,
    is_thin,
    python_index,
    region,
    region_shape,
    region_text,
)
from tracegrad.ops.shape import shape_text

Reader = Callable[..., Expr]


class Slice(Op):
    """`y[i] = x[start + step*i]` along each axis  =>  `d_x` is zero outside of the region."""

    name = "slice"
    moves = by_reference = True
    linear = (0,)

    def infer(self, x: ArrayType, *, at: Region) -> ArrayType:
        return x.with_shape(region_shape(x.shape, at))

    def reference(self, x: np.ndarray, *, at: Region) -> np.ndarray:
        return x[(*python_index(at), ...)]  # a view, even of a single element

    def text(self, x: str, *, at: Region) -> str:
        return x + region_text(at)

    def transpose(self, ct: Array, x: Array, *, at: Region) -> tuple[Array | None, ...]:
        return (bind(PLACE, ct, at=at, shape=x.type.shape),)

    def batch(self, mapped: Mapped, x: Array, *, at: Region) -> Array:
        return bind(SLICE, x, at=(None, *at))

    def put(self, base: Array, value: Array, *, at: Region) -> Array:
        whole = all(part is None for part in at)
        return value if whole else bind(UPDATE, base, value, at=at)

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
    moves = by_reference = True
    linear = (0,)
    weight = 1
    conditional = True

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

    def batch(self, mapped: Mapped, x: Array, *, at: Region, shape: Shape) -> Array:
        return bind(PLACE, x, at=(None, *at), shape=(x.type.shape[0], *shape))

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
    moves = by_reference = True
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

    def batch(self, mapped: Mapped, *inputs: Array, at: Region) -> Array:
        return bind(UPDATE, *everywhere(mapped, inputs), at=(None, *at))

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
    """`base` with `value` added in a region: `y[1:3] += v`, as a value.

    Sums of thin placements become it.

    d_base = d_y,  d_value = d_y[region]
    """

    name = "add_at"
    by_reference = True
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

    def batch(self, mapped: Mapped, *inputs: Array, at: Region) -> Array:
        return bind(ADD_AT, *everywhere(mapped, inputs), at=(None, *at))

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


def zeros(type: ArrayType) -> Any:
    return broadcast_to(np.zeros((), type.dtype)[()], type.shape)


sample(lambda x: x[1:] * x[:-1], (5,))
sample(lambda x: x[::-1] - x[::2][0], (5,))
sample(lambda x: x[1:4:2, ::-2], (6, 5))
sample(lambda x: x[3:1:-1, -1:] + x[:2], (4, 3))

__all__ = ["ADD_AT", "PLACE", "SLICE", "UPDATE", "is_thin", "region", "slices", "zeros"]
