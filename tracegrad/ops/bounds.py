"""Bounds of index arrays: `checked(index, size)` is the index itself, or an IndexError at run time.

x[idx]   ->   gather(x, checked(idx, n)); the check is a loop of its own, ahead of all others
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.expr import Call, Cast, Const, Expr, Var
from codegen.loops import Accumulate, Assign, Check, Store
from tracegrad.ir.dims import Size
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.constant import ARANGE, CONSTANT
from tracegrad.ops.extent import extent
from tracegrad.ops.op import bind, register

Reader = Callable[..., Expr]


class Within(Op):
    """An index that tracing knows to be `0 <= index < size`: the counter of a loop, or near it."""

    name = "within"

    def infer(self, index: ArrayType, *, size: Size, axis: int) -> ArrayType:
        return ArrayType(index.dtype, index.shape)

    def reference(self, index: np.ndarray, *, size: int, axis: int) -> Any:
        index = np.asarray(index)
        wrong = index[(index < -size) | (index >= size)]
        if wrong.size:
            raise IndexError(out_of_bounds(str(wrong.flat[0]), axis, size))
        return index[()]

    def text(self, index: str, *, size: Size, axis: int) -> str:
        return index

    def batch(self, mapped: tuple[bool, ...], index: Array, *, size: Size, axis: int) -> Array:
        return bind(CHECKED, index, size=size, axis=axis)

    def element(self, read: Reader, index: tuple[Expr, ...], node: Any) -> Expr:
        return read(0, index)


class Checked(Within):
    """An index array as it is, after checking that `-size <= index < size` everywhere."""

    name = "checked"
    precondition = True

    def kernel(self, lowering: Any, node: Any) -> None:
        """Only the check: the value is that of the operand, by `element`."""
        (operand,), size = node.inputs, extent(node.attributes["size"])
        fits = Var(lowering.namer.unique("in_bounds"), ex.BOOL)
        lowering.append(Assign(fits, Const(True, ex.BOOL), lowering.comment(node)))
        with lowering.nest(operand.type.shape) as index:
            entry = as_integer(lowering.value(operand, index))
            inside: Expr = Call("less", (entry, size), ex.BOOL)
            if not is_nonnegative(operand):
                low = Call("less_equal", (Call("negative", (size,), ex.INT), entry), ex.BOOL)
                inside = Call("logical_and", (low, inside), ex.BOOL)
            lowering.append(Accumulate(fits.name, None, "logical_and", inside, ex.BOOL))
        message = out_of_bounds("an entry", node.attributes["axis"], node.attributes["size"])
        lowering.append(Check(fits, "IndexError", message))
        if not operand.type.rank:
            lowering.scalars[node] = lowering.value(operand, ())
        elif operand in lowering.arrays:
            lowering.arrays[node] = lowering.arrays[operand]
        elif any(reader.op.stored for reader in lowering.graph.uses[node]):
            array = lowering.allocate(node)
            with lowering.nest(node.type.shape) as index:
                value = lowering.value(operand, index)
                lowering.append(Store(array, index, value, lowering.comment(node)))


WITHIN = register(Within())
CHECKED = register(Checked())


def as_integer(entry: Expr) -> Expr:
    return entry if entry.dtype == ex.INT else Cast(entry, ex.INT)


def is_nonnegative(node: Any) -> bool:
    """Whether an index array surely has no negative entry."""
    if node.op is WITHIN:
        return True
    if node.op is CHECKED:
        return is_nonnegative(node.inputs[0])
    if node.op is CONSTANT:
        return bool((node.attributes["value"].array >= 0).all())
    if node.op.name == "nonzero":
        return True
    return node.type.dtype.kind == "u" or node.op is ARANGE


def out_of_bounds(index: str, axis: int, size: Size) -> str:
    """NumPy's words."""
    what = f"index {index}" if index.lstrip("-").isdigit() else f"{index} of an index array"
    return f"{what} is out of bounds for axis {axis} with size {size}"
