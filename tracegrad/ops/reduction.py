"""Reductions (many elements combined into one) and the adjoint of the sum, broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from codegen.expr import Expr
from tracegrad.errors import ShapeError, UnsupportedError
from tracegrad.ir.dims import Size, in_figures, must_be_same, of_data, product, same
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.batched import Mapped, leading
from tracegrad.ops.broadcast import Shape, aligned, broadcast_extent
from tracegrad.ops.constant import ASTYPE, SIZE, astype
from tracegrad.ops.op import PUBLIC, as_operand, bind, public, register, sample, type_of
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

    def batch(self, mapped: Mapped, x: Array, *, axis: Axes) -> Array:
        return bind(self, x, axis=tuple(at + 1 for at in axis))

    def work(self, node: Any) -> tuple[float, Size]:
        return self.weight, node.inputs[0].type.size


class Sum(Reduction):
    """`y = sum of x over axis`  =>  `d_x = d_y spread over axis`."""

    name = "sum"
    by_reference = True
    linear = (0,)

    def identity(self, dtype: np.dtype) -> Any:
        return 0

    def reference(self, x: np.ndarray, *, axis: Axes) -> Any:
        return np.add.reduce(x, axis=axis, dtype=x.dtype)

    def transpose(self, ct: Array, x: Array, *, axis: Axes) -> tuple[Array | None, ...]:
        return (spread(ct, x.type, axis),)


class BroadcastTo(Op):
    """`y[..., i] = x[i]`  =>  `d_x = ` the sum of `d_y` over the new and the stretched axes."""

    name = "broadcast_to"
    moves = by_reference = True
    linear = (0,)

    def infer(self, x: ArrayType, *, shape: Shape) -> ArrayType:
        padded = (1,) * (len(shape) - x.rank) + x.shape
        if len(padded) != len(shape) or any(
            not (a == b or _reaches(broadcast_extent(a, b), b))
            for a, b in zip(padded, shape, strict=False)
        ):
            given, wanted = x.in_figures(), shape_text(tuple(in_figures(size) for size in shape))
            raise ShapeError(f"cannot broadcast {given} to shape {wanted}")
        return x.with_shape(shape)

    def reference(self, x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(x, shape)

    def text(self, x: str, *, shape: Shape) -> str:
        return f"np.broadcast_to({x}, {shape_text(shape)})"

    def transpose(self, ct: Array, x: Array, *, shape: Shape) -> tuple[Array | None, ...]:
        return (unbroadcast(ct, x.type),)

    def batch(self, mapped: Mapped, x: Array, *, shape: Shape) -> Array:
        count = x.type.shape[0]
        return bind(BROADCAST_TO, leading(x, True, len(shape)), shape=(count, *shape))

    def element(self, read: Reader, index: tuple[Expr, ...], node: Any) -> Expr:
        return read(0, aligned(index, node.inputs[0].type.shape))


def _reaches(common: Size | None, wanted: Size) -> bool:
    """Whether broadcasting ends at the extent that is asked for."""
    return common is not None and must_be_same(common, wanted)


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
        if axis < extra or is_stretched(type.shape[axis - extra], ct.type.shape[axis])
    )
    if not stretched:
        return ct
    total = bind(SUM, ct, axis=stretched)
    return total if total.type.shape == type.shape else bind(RESHAPE, total, shape=type.shape)


def is_stretched(extent: Size, to: Size) -> bool:
    """Whether broadcasting repeats along an axis; what `extent` equals was settled by it."""
    if isinstance(extent, int) and extent == 1:
        return to != 1
    if extent == to:
        return False
    if of_data(to) and not of_data(extent) and same(extent, 1):
        return True
    return not must_be_same(extent, to)


def reduce(op: Op, x: Any, axis: Any, keepdims: bool) -> Any:
    """`op` over `axis` as the user gives it; a value of its own even where nothing is reduced."""
    x = as_operand(x)
    type = type_of(x)
    axes = reduced_axes(axis, type.rank)
    return keep(bind(op, x, axis=axes) if axes else strong(x), type, axes, keepdims)


def reduced_axes(axis: Any, rank: int) -> Axes:
    """As `normal_axes`; a 0-d array may be reduced over axis 0 or -1, as in NumPy."""
    if rank == 0 and isinstance(axis, int) and axis in (0, -1):
        return ()
    return normal_axes(axis, rank)


def keep(result: Any, type: ArrayType, axes: Axes, keepdims: bool) -> Any:
    """A reduced value, under `keepdims` with extent 1 where `type` was reduced."""
    wanted = tuple(1 if at in axes else size for at, size in enumerate(type.shape))
    if not keepdims or type_of(result).shape == wanted:
        return result
    return bind(RESHAPE, result, shape=wanted)


def strong(x: Any) -> Any:
    """A copy of `x` that has its dtype for good, also where it was a Python number."""
    return bind(ASTYPE, x, dtype=type_of(x).dtype)


def no_out(out: Any) -> None:
    if out is not None:
        raise UnsupportedError("out= is not supported: use the returned value, y[...] = result")


def only_where(x: Any, where: Any, neutral: Any) -> Any:
    """`x`, with what `where` leaves out replaced by a value that changes no result."""
    if where is True:
        return x
    return PUBLIC["where"](where, x, type_of(x).dtype.type(neutral))


@cache
def sum_dtype(dtype: np.dtype) -> np.dtype:
    """Small integers and booleans are added and multiplied in 64 bits."""
    return np.add.reduce(np.zeros(1, dtype)).dtype


@public(np.sum, name="sum")
def sum_(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """The sum of `a` over `axis` (an int, a tuple, or None for all)."""
    no_out(out)
    a = as_operand(a)
    a = astype(a, sum_dtype(type_of(a).dtype) if dtype is None else dtype)
    total = reduce(SUM, only_where(a, where, 0), axis, keepdims)
    return total if initial is None else total + astype(initial, type_of(a).dtype)


@public(np.mean)
def mean(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    *,
    where: Any = True,
) -> Any:
    """The mean of `a` over `axis`: the sum divided by the number of elements."""
    no_out(out)
    a = as_operand(a)
    type = type_of(a)
    if dtype is None:
        dtype = type.dtype if type.is_float else np.float64
    total = reduce(SUM, only_where(astype(a, dtype), where, 0), axis, keepdims)
    return total / counted(type, axis, where, keepdims, type_of(total).dtype)


def counted(type: ArrayType, axis: Any, where: Any, keepdims: bool, dtype: np.dtype) -> Any:
    """How many elements a reduction over `axis` combines: a number, or one per result."""
    if where is True:
        axes = reduced_axes(axis, type.rank)
        return size_value(product(tuple(type.shape[at] for at in axes)))
    chosen = broadcast_to(astype(where, bool), type.shape)
    return reduce(SUM, astype(chosen, dtype), axis, keepdims)


@public(np.broadcast_to)
def broadcast_to(x: Any, shape: Any) -> Any:
    """`x` repeated along new leading axes and along axes of extent 1, to `shape`."""
    x = as_operand(x)
    wanted = as_shape(shape)
    return x if type_of(x).shape == wanted else bind(BROADCAST_TO, x, shape=wanted)


def size_value(size: Size) -> Any:
    """An extent as an operand."""
    return size if isinstance(size, int) else bind(SIZE, size=size)


sample(lambda x: np.sum(x), (3, 4))
sample(lambda x: x.sum(axis=0) * np.sum(x, axis=-1, keepdims=True), (3, 4))
sample(lambda x: np.sum(x * x, axis=(0, 2)), (2, 3, 4))
sample(lambda x: np.sum(x, axis=(2, -2), keepdims=True), (2, 3, 4))
sample(lambda x: np.sum(x, axis=1), (3, 0))
sample(lambda x: np.sum(x), (0, 3))
sample(lambda x: np.sum(x, axis=()) * np.sum(x), ())
sample(lambda x: np.sum(x, axis=0), (3,), kinds="iub", smooth=False)
sample(lambda x: np.sum(x, axis=0, initial=2.0, where=x > 0.1), (3, 4))
sample(lambda x: np.add.reduce(x), (3, 4))
sample(lambda x: np.mean(x), (3, 4))
sample(lambda x: x.mean(axis=0), (3, 1))
sample(lambda x: np.mean(x, axis=(0, 1), keepdims=True), (2, 3, 4))
sample(lambda x: np.mean(x, 0), (3, 4), kinds="iub", smooth=False)
sample(lambda x: np.mean(x, 1, where=x > -1.5), (3, 4))
sample(lambda x: np.broadcast_to(x, (2, 3, 4)) ** 2, (3, 1))
sample(lambda x: np.broadcast_to(x, (2, 0)), ())
