"""Ops that run along an axis: sums, products, and the linear recurrence that differentiates them.

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
from tracegrad.ops.batched import Mapped, everywhere
from tracegrad.ops.op import bind, register


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

    def first(self, dtype: np.dtype) -> Any:
        """The state before the first element."""
        return self.start

    def infer(self, *types: ArrayType, axis: int, reverse: bool) -> ArrayType:
        return types[0]

    def batch(self, mapped: Mapped, *inputs: Array, axis: int, reverse: bool) -> Array:
        return bind(self, *everywhere(mapped, inputs), axis=axis + 1, reverse=reverse)

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
            first = Const(self.first(dtype), dtype)
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
    by_reference = True
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


CUMSUM = register(CumSum())
PRODUCT_BEFORE = register(ProductBefore())
RECURRENCE = register(Recurrence())
