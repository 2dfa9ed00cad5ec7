"""Values without operands: constants, sizes as values, counting; and the conversion of dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from codegen.expr import Cast, Const, Expr
from tracegrad.ir.dims import Size
from tracegrad.ir.graph import Literal
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.extent import extent
from tracegrad.ops.op import (
    WEAK,
    SizeValue,
    as_operand,
    bind,
    public,
    register,
    supported_dtype,
    type_of,
)


class Input(Op):
    """An argument of the graph; its type is given, not inferred."""

    name = "input"

    def __init__(self, type: ArrayType | None = None) -> None:
        self.type = type

    def infer(self) -> ArrayType:
        assert self.type is not None
        return self.type


class Constant(Op):
    """A number or an array that is part of the program."""

    name = "constant"

    def infer(self, *, value: Literal, weak: bool = False) -> ArrayType:
        return ArrayType(value.array.dtype, value.array.shape, weak)

    def reference(self, *, value: Literal, weak: bool = False) -> np.ndarray:
        return value.array

    def text(self, *, value: Literal, weak: bool = False) -> str:
        array = value.array
        if array.ndim == 0:
            return scalar_text(array)
        data = np.array2string(
            array, separator=", ", threshold=int(array.size) + 1, floatmode="unique"
        )
        return f"np.array({' '.join(data.split())}, dtype=np.{array.dtype.name})"

    def element(self, read: Callable[..., Expr], index: tuple[Expr, ...], node: Any) -> Expr:
        array = node.attributes["value"].array
        if array.ndim == 0:
            return Const(array.item(), array.dtype)
        raise AssertionError("constant arrays are loaded from the module")


def scalar_text(array: np.ndarray) -> str:
    """A literal of this value: floats by `repr`, other dtypes than Python's spelled out."""
    value = array.item()
    if array.dtype.kind == "f":
        text = {np.inf: "np.inf", -np.inf: "-np.inf"}.get(value, "np.nan" if value != value else "")
        return text or (repr(value) if array.dtype == np.float64 else str(array[()]))
    return repr(value)


class SizeOf(Op):
    """An extent as a number: `x.shape[0]` where a value is needed, of its own `dtype` or weak."""

    name = "size"

    def infer(self, *, size: Size, dtype: np.dtype | None = None) -> ArrayType:
        return ArrayType(WEAK[int], (), weak=True) if dtype is None else ArrayType(dtype)

    def reference(self, *, size: int, dtype: np.dtype | None = None) -> Any:
        return np.asarray(size, dtype or WEAK[int])[()]

    def text(self, *, size: Size, dtype: np.dtype | None = None) -> str:
        text = str(size)
        return text if text.isidentifier() or text.isdigit() else f"({text})"

    def element(self, read: Callable[..., Expr], index: tuple[Expr, ...], node: Any) -> Expr:
        value = extent(node.attributes["size"])
        return value if node.type.dtype == WEAK[int] else Cast(value, node.type.dtype)


class Astype(Op):
    """`y = x.astype(dtype)`; between floats it is linear, `d_x = d_y.astype(x.dtype)`.

    `weak`: what was a Python number stays one, as in `x.shape[0] / 2`.
    """

    name = "astype"
    pointwise = True
    weight = 0.5
    linear = (0,)

    def infer(self, x: ArrayType, *, dtype: np.dtype, weak: bool = False) -> ArrayType:
        return ArrayType(supported_dtype(dtype), x.shape, weak)

    def reference(self, x: np.ndarray, *, dtype: np.dtype, weak: bool = False) -> Any:
        return np.asarray(x).astype(dtype)[()]

    def text(self, x: str, *, dtype: np.dtype, weak: bool = False) -> str:
        return f"np.asarray({x}).astype(np.{dtype.name})"

    def transpose(self, ct: Array, x: Array, **attrs: Any) -> tuple[Array | None, ...]:
        return (astype(ct, x.type.dtype),) if x.type.is_float else (None,)

    def batch(self, mapped: tuple[bool, ...], x: Array, **attrs: Any) -> Array:
        return bind(ASTYPE, x, **attrs)

    def element(self, read: Callable[..., Expr], index: tuple[Expr, ...], node: Any) -> Expr:
        return Cast(read(0, index), node.type.dtype)


class Arange(Op):
    """`0, 1, ..., size - 1` as int64."""

    name = "arange"

    def infer(self, *, size: Size) -> ArrayType:
        return ArrayType(np.dtype(np.int64), (size,))

    def reference(self, *, size: int) -> np.ndarray:
        return np.arange(size, dtype=np.int64)

    def text(self, *, size: Size) -> str:
        return f"np.arange({size})"

    def element(self, read: Callable[..., Expr], index: tuple[Expr, ...], node: Any) -> Expr:
        return index[0]


class Bound(Op):
    """A value that is an extent from now on: `symbol` in the types of what depends on it.

    It is `most` at the largest, if that is known.
    """

    name = "bound"
    binds = True

    def infer(self, x: ArrayType, *, symbol: Size, most: Size | None = None) -> ArrayType:
        return ArrayType(WEAK[int], ())

    def reference(self, x: Any, *, symbol: Size, most: Size | None = None) -> Any:
        return x

    def lines(self, target: str, x: str, *, symbol: Size, most: Size | None = None) -> list[str]:
        return [f"{target} = {symbol} = int({x})"]

    def element(self, read: Callable[..., Expr], index: tuple[Expr, ...], node: Any) -> Expr:
        return read(0, ())

    def kernel(self, lowering: Any, node: Any) -> None:
        lowering.bind_size(node)


INPUT = Input()
BOUND = register(Bound())
CONSTANT = register(Constant())
SIZE = register(SizeOf())
ASTYPE = register(Astype())
ARANGE = register(Arange())


@public(name="astype")
def astype(x: Any, dtype: Any, *, copy: bool = True) -> Any:
    """`x` converted to `dtype` (a no-op if it has it). Shape as `x`."""
    del copy
    dtype = supported_dtype(dtype)
    x = as_operand(x)
    type = type_of(x)
    if isinstance(x, SizeValue) or type.dtype != dtype:
        if isinstance(x, bool | int | float):
            return _python_scalar(x, dtype)
        return bind(ASTYPE, x, dtype=dtype) if not (type.weak and type.dtype == dtype) else x
    if isinstance(x, int) and not -(2**63) <= x < 2**63:  # OverflowError, as NumPy
        return _python_scalar(x, dtype)
    return x


def _python_scalar(value: bool | int | float, dtype: np.dtype) -> np.generic:
    """A Python number in the dtype of its partner; too large an integer is an OverflowError."""
    return np.asarray(value, dtype=dtype)[()]  # type: ignore[return-value]
