"""Reductions, many elements combined into one along axes, and the adjoint of the sum, broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from codegen.expr import Expr
from tracegrad.errors import ShapeError
from tracegrad.ir.dims import Size, product, same
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.broadcast import Shape, aligned, broadcast_extent
from tracegrad.ops.constant import SIZE, astype
from tracegrad.ops.op import as_operand, bind, public, register, type_of
from tracegrad.ops.shape import RESHAPE, as_shape, normal_axes, shape_text

Reader = Callable[..., Expr]

Axes = tuple[int, ...]


class Reduction(Op):
    """`combine` over `axis` (all given, sorted, kept axes stay in order), starting from `identity`.

    Lowered by the driver: one loop per axis of the operand, accumulating into the result's element.
    """

    combine = "add"
    short = "sum"
    """What the accumulator is called in generated code: `row_sum`."""
    weight = 1

    def identity(self, dtype: np.dtype) -> Any:
        raise NotImplementedError

    def infer(self, x: ArrayType, *, axis: Axes) -> ArrayType:
        return x.with_shape(tuple(size for at, size in enumerate(x.shape) if at not in axis))

    def reference(self, x: np.ndarray, *, axis: Axes) -> Any:
        return getattr(np, self.name)(x, axis=axis)

    def text(self, x: str, *, axis: Axes) -> str:
        return f"np.{self.name}({x}, axis={axis[0] if len(axis) == 1 else axis})"


class Sum(Reduction):
    """`y = sum of x over axis`  =>  `d_x = d_y spread over axis`."""

    name = "sum"
    linear = (0,)

    def identity(self, dtype: np.dtype) -> Any:
        return 0

    def reference(self, x: np.ndarray, *, axis: Axes) -> Any:
        return np.sum(x, axis=axis, dtype=x.dtype)

    def transpose(self, ct: Array, x: Array, *, axis: Axes) -> tuple[Array | None, ...]:
        return (spread(ct, x.type, axis),)


class BroadcastTo(Op):
    """`y[..., i] = x[i]`  =>  `d_x = ` the sum of `d_y` over the new and the stretched axes."""

    name = "broadcast_to"
    linear = (0,)

    def infer(self, x: ArrayType, *, shape: Shape) -> ArrayType:
        padded = (1,) * (len(shape) - x.rank) + x.shape
        if len(padded) != len(shape) or any(
            broadcast_extent(a, b) is None or not (a == b or same(b, broadcast_extent(a, b) or 0))
            for a, b in zip(padded, shape, strict=False)
        ):
            raise ShapeError(f"cannot broadcast {x} to shape {shape_text(shape)}")
        return x.with_shape(shape)

    def reference(self, x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(x, shape)

    def text(self, x: str, *, shape: Shape) -> str:
        return f"np.broadcast_to({x}, {shape_text(shape)})"

    def transpose(self, ct: Array, x: Array, *, shape: Shape) -> tuple[Array | None, ...]:
        return (unbroadcast(ct, x.type),)

    def element(self, read: Reader, index: tuple[Expr, ...], node: Any) -> Expr:
        return read(0, aligned(index, node.inputs[0].type.shape))


SUM = register(Sum())
BROADCAST_TO = register(BroadcastTo())


def spread(y: Array, type: ArrayType, axis: Axes) -> Array:
    """A reduced value repeated along the axes it was reduced over."""
    kept = with_axes(y, type, axis)
    return kept if kept.type.shape == type.shape else bind(BROADCAST_TO, kept, shape=type.shape)


def with_axes(y: Array, type: ArrayType, axis: Axes) -> Array:
    """A reduced value with extent 1 where `type` was reduced (`keepdims`)."""
    wanted: tuple[Size, ...] = tuple(1 if at in axis else s for at, s in enumerate(type.shape))
    if not y.type.rank or not axis:
        return y
    return y if y.type.shape == wanted else bind(RESHAPE, y, shape=wanted)


def unbroadcast(ct: Array, type: ArrayType) -> Array:
    """The adjoint of broadcasting a value of `type` to the shape of `ct`."""
    extra = ct.type.rank - type.rank
    stretched = tuple(
        axis
        for axis in range(ct.type.rank)
        if axis < extra or (type.shape[axis - extra] == 1 and ct.type.shape[axis] != 1)
    )
    if not stretched:
        return ct
    total = bind(SUM, ct, axis=stretched)
    return total if total.type.shape == type.shape else bind(RESHAPE, total, shape=type.shape)


def reduce(op: Op, x: Any, axis: Any, keepdims: bool) -> Any:
    x = as_operand(x)
    type = type_of(x)
    axes = normal_axes(axis, type.rank)
    result = bind(op, x, axis=axes) if axes else x
    if not keepdims:
        return result
    wanted = tuple(1 if at in axes else size for at, size in enumerate(type.shape))
    return result if type_of(result).shape == wanted else bind(RESHAPE, result, shape=wanted)


@public(np.sum, name="sum")
def sum_(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False):
    """The sum of `a` over `axis` (an int, a tuple, or None for all)."""
    a = as_operand(a)
    if dtype is None:
        dtype = np.add.reduce(np.zeros(1, type_of(a).dtype)).dtype
    return reduce(SUM, astype(a, dtype), axis, keepdims)


@public(np.mean)
def mean(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False):
    """The mean of `a` over `axis`: the sum divided by the number of elements."""
    a = as_operand(a)
    type = type_of(a)
    if dtype is None:
        dtype = type.dtype if type.is_float else np.float64
    total = reduce(SUM, astype(a, dtype), axis, keepdims)
    return total / size_value(product(tuple(type.shape[at] for at in normal_axes(axis, type.rank))))


@public(np.broadcast_to)
def broadcast_to(x: Any, shape: Any) -> Any:
    """`x` repeated along new leading axes and along axes of extent 1, to `shape`."""
    x = as_operand(x)
    wanted = as_shape(shape)
    return x if type_of(x).shape == wanted else bind(BROADCAST_TO, x, shape=wanted)


def size_value(size: Size) -> Any:
    """An extent as an operand."""
    return size if isinstance(size, int) else bind(SIZE, size=size)

