"""Running sums and products along an axis, and the linear recurrence that differentiates products.

    y = cumsum(x)                            =>  d_x = the running sum of d_y from the end
    s = recurrence(a, b): s[i+1] = a[i]*s[i] + b[i], s[0] = 0
                                             =>  d_b = the same recurrence of d_s, backwards

The derivative of a product of x is a recurrence with the coefficients x; that of a recurrence is
again one. So derivatives of all orders are exact, also where factors are zero: nothing is divided.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.expr import Call, Const, Expr, Load, Var
from codegen.loops import Alloc, Assign, Store
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.axes import ravel
from tracegrad.ops.constant import astype
from tracegrad.ops.joining import concatenate
from tracegrad.ops.op import PUBLIC, as_operand, bind, public, register, sample, type_of
from tracegrad.ops.reduction import (
    SUM,
    Axes,
    Reduction,
    no_out,
    only_where,
    reduce,
    strong,
    sum_dtype,
)
from tracegrad.ops.shape import normal_axis, reshape, transpose


class Running(Op):
    """What each element leaves behind for the next one along `axis` (from the end: `reverse`).

    A subclass says how the state before an element and the element make the state after it; the
    result holds the state before (`exclusive`) or after each element.
    """

    exclusive = False
    start = 0
    weight = 1

    def step(self, state: Expr, operands: tuple[Expr, ...], dtype: np.dtype) -> Expr:
        raise NotImplementedError

    def infer(self, *types: ArrayType, axis: int, reverse: bool) -> ArrayType:
        return types[0]

    def kernel(self, lowering: Any, node: Any) -> None:
        """Row by row along `axis`, with the states of the row's elements in `carry`."""
        axis, dtype = node.attributes["axis"], node.type.dtype
        shape = node.type.shape
        array = lowering.allocate(node)
        inner = shape[axis + 1 :]
        carry = lowering.namer.unique(f"{node.name}_so_far")
        if inner:
            sizes = tuple(lowering.size(size) for size in inner)
            lowering.append(Alloc(carry, sizes, dtype))
        with lowering.nest(shape[:axis]) as outer:
            first = Const(self.start, dtype)
            if inner:
                with lowering.nest(inner) as at:
                    lowering.append(Store(carry, at, first))
            else:
                lowering.append(Assign(Var(carry, dtype), first))
            with lowering.nest((shape[axis],), (0,)) as (i,), lowering.nest(inner) as at:
                last = ex.subtract(lowering.size(shape[axis]), ex.integer(1))
                place = ex.subtract(last, i) if node.attributes["reverse"] else i
                self._advance(lowering, node, array, carry, ((*outer, place, *at), at))

    def _advance(
        self, lowering: Any, node: Any, array: str, carry: str, where: tuple[Any, Any]
    ) -> None:
        index, at = where
        dtype = node.type.dtype
        state = Load(carry, at, dtype) if at else Var(carry, dtype)
        old = Var(lowering.namer.unique(f"{node.name}_before"), dtype)
        new = Var(lowering.namer.unique(f"{node.name}_after"), dtype)
        operands = tuple(lowering.value(operand, index) for operand in node.inputs)
        lowering.append(Assign(old, state))
        lowering.append(Assign(new, self.step(old, operands, dtype), lowering.comment(node)))
        lowering.append(Store(array, index, old if self.exclusive else new))
        lowering.append(Store(carry, at, new) if at else Assign(Var(carry, dtype), new))


class CumSum(Running):
    """`y[i] = x[0] + ... + x[i]`  =>  `d_x[i] = d_y[i] + ... + d_y[-1]`."""

    name = "cumsum"
    linear = (0,)

    def step(self, state: Expr, operands: tuple[Expr, ...], dtype: np.dtype) -> Expr:
        return Call("add", (state, operands[0]), dtype)

    def reference(self, x: np.ndarray, *, axis: int, reverse: bool) -> np.ndarray:
        return (
            np.flip(np.cumsum(np.flip(x, axis), axis, x.dtype), axis)
            if reverse
            else (np.cumsum(x, axis, x.dtype))
        )

    def text(self, x: str, *, axis: int, reverse: bool) -> str:
        if reverse:
            return f"np.flip(np.cumsum(np.flip({x}, {axis}), axis={axis}), {axis})"
        return f"np.cumsum({x}, axis={axis})"

    def transpose(
        self, ct: Array, x: Array, *, axis: int, reverse: bool
    ) -> tuple[Array | None, ...]:
        return (bind(CUMSUM, ct, axis=axis, reverse=not reverse),)


class ProductBefore(Running):
    """`y[i] = x[0] * ... * x[i-1]`, `y[0] = 1`  =>  `t_y = recurrence(x, t_x * y)`."""

    name = "product_before"
    exclusive = True
    start = 1

    def step(self, state: Expr, operands: tuple[Expr, ...], dtype: np.dtype) -> Expr:
        return Call("multiply", (state, operands[0]), dtype)

    def reference(self, x: np.ndarray, *, axis: int, reverse: bool) -> np.ndarray:
        x = np.moveaxis(x, axis, 0)
        rows = x[:0:-1] if reverse else x[:-1]
        found = np.cumprod(np.concatenate([np.ones_like(x[:1]), rows]), axis=0, dtype=x.dtype)
        return np.moveaxis(found[::-1] if reverse else found, 0, axis)

    def lines(self, target: str, x: str, *, axis: int, reverse: bool) -> list[str]:
        along, back = ":, " * axis, "::-1"
        rows, last = (f"{along}:0:-1", f"{along}{back}") if reverse else (f"{along}:-1", "")
        ones = f"np.ones_like({x}[{along}:1])"
        product = f"np.cumprod(np.concatenate(({ones}, {x}[{rows}]), axis={axis}), axis={axis})"
        return [f"{target} = {product}" + (f"[{last}]" if last else "")]

    def text(self, x: str, *, axis: int, reverse: bool) -> str:
        return self.lines("", x, axis=axis, reverse=reverse)[0].removeprefix(" = ")

    def jvp(
        self, tangents: tuple[Array | None, ...], out: Array, x: Array, *, axis: int, reverse: bool
    ) -> Array:
        return bind(RECURRENCE, x, tangents[0] * out, axis=axis, reverse=reverse)


class Recurrence(Running):
    """`s[i+1] = a[i] * s[i] + b[i]`, `s[0] = 0`; linear in b.

    t_s = recurrence(a, t_a * s + t_b)
    """

    name = "recurrence"
    exclusive = True
    weight = 2

    def step(self, state: Expr, operands: tuple[Expr, ...], dtype: np.dtype) -> Expr:
        a, b = operands
        return Call("add", (Call("multiply", (a, state), dtype), b), dtype)

    def reference(self, a: np.ndarray, b: np.ndarray, *, axis: int, reverse: bool) -> np.ndarray:
        a, b = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
        found = np.zeros_like(b)
        order = range(len(b) - 1, 0, -1) if reverse else range(len(b) - 1)
        for i in order:
            found[i + (-1 if reverse else 1)] = a[i] * found[i] + b[i]
        return np.moveaxis(found, 0, axis)

    def lines(self, target: str, a: str, b: str, *, axis: int, reverse: bool) -> list[str]:
        along, size = ":, " * axis, f"{b}.shape[{axis}]"
        order, after = (
            (f"range({size} - 1, 0, -1)", "i - 1") if reverse else (f"range({size} - 1)", "i + 1")
        )
        at = f"[{along}i]"
        return [
            f"{target} = np.zeros_like({b})",
            f"for i in {order}:",
            f"    {target}[{along}{after}] = {a}{at} * {target}{at} + {b}{at}",
        ]

    def text(self, a: str, b: str, *, axis: int, reverse: bool) -> str:
        return f"recurrence({a}, {b}, axis={axis}, reverse={reverse})"

    def vjp(
        self,
        wanted: tuple[bool, ...],
        ct: Array,
        out: Array,
        a: Array,
        b: Array,
        *,
        axis: int,
        reverse: bool,
    ) -> tuple[Array | None, ...]:
        d_b = bind(RECURRENCE, a, ct, axis=axis, reverse=not reverse)
        return (d_b * out if wanted[0] else None), d_b

    def jvp(
        self,
        tangents: tuple[Array | None, ...],
        out: Array,
        a: Array,
        b: Array,
        *,
        axis: int,
        reverse: bool,
    ) -> Array:
        t_a, t_b = tangents
        drive = t_b if t_a is None else t_a * out if t_b is None else t_a * out + t_b
        return bind(RECURRENCE, a, drive, axis=axis, reverse=reverse)


class Product(Reduction):
    """`y = the product of x over axis`; the derivative in x[i] is the product of all others.

    It is what comes before x[i] times what comes after it, so that zeros need no care.
    """

    name = short = "prod"
    combine = "multiply"

    def identity(self, dtype: np.dtype) -> Any:
        return 1

    def reference(self, x: np.ndarray, *, axis: Axes) -> Any:
        return np.prod(x, axis=axis, dtype=x.dtype)

    def jvp(self, tangents: tuple[Array | None, ...], out: Array, x: Array, *, axis: Axes) -> Array:
        x, tangent = _merged(x, axis), _merged(tangents[0], axis)
        at = min(axis) if len(axis) == 1 else x.type.rank - 1
        before = bind(PRODUCT_BEFORE, x, axis=at, reverse=False)
        after = bind(PRODUCT_BEFORE, x, axis=at, reverse=True)
        return bind(SUM, tangent * (before * after), axis=(at,))


def _merged(x: Array, axis: Axes) -> Array:
    """`x` with several axes made one, the last; a single one stays where it is."""
    if len(axis) == 1:
        return x
    kept = tuple(at for at in range(x.type.rank) if at not in axis)
    shape = tuple(x.type.shape[at] for at in kept)
    return reshape(transpose(x, kept + axis), (*shape, -1) if shape else (-1,))


CUMSUM = register(CumSum())
PRODUCT_BEFORE = register(ProductBefore())
RECURRENCE = register(Recurrence())
PROD = register(Product())


@public(np.prod)
def prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """The product of `a` over `axis` (an int, a tuple, or None for all)."""
    no_out(out)
    a = as_operand(a)
    a = astype(a, sum_dtype(type_of(a).dtype) if dtype is None else dtype)
    total = reduce(PROD, only_where(a, where, 1), axis, keepdims)
    return total if initial is None else total * astype(initial, type_of(a).dtype)


def _line(a: Any, axis: Any, dtype: Any) -> tuple[Any, int]:
    """The operand of a running operation, and the axis along which it runs; None flattens."""
    a = as_operand(a)
    wide = sum_dtype(type_of(a).dtype)
    a = strong(a) if type_of(a).weak else a
    a = astype(a, wide if dtype is None else dtype)
    if axis is None or type_of(a).rank == 0:
        if axis not in (None, 0, -1):
            normal_axis(axis, 0)
        return ravel(a), 0
    return a, normal_axis(axis, type_of(a).rank)


@public(np.cumsum)
def cumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """The sums of the elements up to each one along `axis` (None: of the flattened array)."""
    no_out(out)
    line, along = _line(a, axis, dtype)
    return bind(CUMSUM, line, axis=along, reverse=False)


@public(np.cumprod)
def cumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """The products of the elements up to each one along `axis` (None: of the flattened array)."""
    no_out(out)
    line, along = _line(a, axis, dtype)
    return bind(PRODUCT_BEFORE, line, axis=along, reverse=False) * line


def _from_start(x: Any, axis: Any) -> int:
    """The axis of the array API's functions, which is optional only for vectors."""
    rank = type_of(as_operand(x)).rank
    if axis is None and rank != 1:
        raise ValueError("axis is required: the array has more than one axis")
    return normal_axis(0 if axis is None else axis, rank)


@public(np.cumulative_sum)
def cumulative_sum(
    x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial=False
) -> Any:
    """As `cumsum`; with `include_initial` a zero stands before them."""
    found, axis = cumsum(x, _from_start(x, axis), dtype, out), _from_start(x, axis)
    return _led(found, 0, axis) if include_initial else found


@public(np.cumulative_prod)
def cumulative_prod(
    x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial=False
) -> Any:
    """As `cumprod`; with `include_initial` a one stands before them."""
    found, axis = cumprod(x, _from_start(x, axis), dtype, out), _from_start(x, axis)
    return _led(found, 1, axis) if include_initial else found


def _led(x: Any, value: int, axis: int) -> Any:
    """`value` in front of `x` along `axis`."""
    shape = type_of(x).shape
    first = PUBLIC["broadcast_to"](
        type_of(x).dtype.type(value), (*shape[:axis], 1, *shape[axis + 1 :])
    )
    return concatenate((first, x), axis)


sample(lambda x: np.cumsum(x) * x.cumsum(), (5,))
sample(lambda x: (np.cumsum(x, axis=0), np.cumsum(x, axis=-1) ** 2, np.cumsum(x)), (3, 4))
sample(lambda x: np.cumsum(x, axis=1) ** 2, (2, 3, 4))
sample(lambda x: (np.cumsum(x), np.cumprod(x, axis=0)), (0, 3))
sample(lambda x: np.cumsum(x) + np.cumprod(x), ())
sample(lambda x: (np.cumsum(x), np.cumprod(x, 0), np.prod(x)), (3, 2), kinds="iub", smooth=False)
sample(lambda x: np.cumprod(x), (5,))
sample(lambda x: (x.cumprod(axis=0), np.cumprod(x, axis=1)), (3, 4))
sample(lambda x: np.cumprod(np.where(x > 0, x, 0), axis=1), (2, 3, 4))
sample(lambda x: np.prod(x), (5,))
sample(lambda x: (x.prod(axis=0), np.prod(x, axis=-1, keepdims=True)), (3, 4))
sample(lambda x: np.prod(x, axis=(0, 2)) * np.prod(x), (2, 3, 2))
sample(lambda x: np.prod(np.where(x > -1, x, 0), axis=0), (4, 5))
sample(lambda x: np.prod(x * np.array([1.0, 0.0, 1.0])), (3,))
sample(lambda x: np.prod(x * np.array([0.0, 0.0, 1.0, 1.0])), (4,))
sample(lambda x: np.prod(x, axis=0, initial=2.0, where=x > 0), (3, 4))
sample(lambda x: (np.prod(x), np.prod(x, axis=1)), (3, 0))
sample(lambda x: np.multiply.reduce(x), (3, 4))
sample(lambda x: np.cumulative_sum(x, include_initial=True), (4,))
sample(lambda x: np.cumulative_prod(x, axis=1, include_initial=True), (2, 3))
