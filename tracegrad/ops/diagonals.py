"""Diagonals read and placed: diagonal, diag, diagflat, and the trace of a matrix.

    y = diagonal(x)   is   y[i] = x[i, i]                    =>      d_x = place_diagonal(d_y)
    y = place_diagonal(x)   is   y[i, j] = x[i] if i == j else 0     =>      d_x = diagonal(d_y)

A diagonal with an offset starts at (row, column), one of which is 0; it is the result's last axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.expr import Call, Const, Expr, Select
from tracegrad.errors import ShapeError
from tracegrad.ir.dims import Size, holds
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.axes import moveaxis, ravel
from tracegrad.ops.extent import extent
from tracegrad.ops.op import as_operand, bind, public, register, sample, type_of
from tracegrad.ops.reduction import no_out, sum_
from tracegrad.ops.shape import as_size, copy, normal_axis

Reader = Callable[..., Expr]


class Diagonal(Op):
    """`y[..., k] = x[..., row + k, column + k]` for `length` values of k."""

    name = "diagonal"
    moves = by_reference = True
    linear = (0,)

    def infer(self, x: ArrayType, *, row: Size, column: Size, length: Size) -> ArrayType:
        return x.with_shape((*x.shape[:-2], length))

    def reference(self, x: np.ndarray, *, row: int, column: int, length: int) -> np.ndarray:
        return np.diagonal(x, column - row, -2, -1)

    def text(self, x: str, *, row: Size, column: Size, length: Size) -> str:
        return f"np.diagonal({x}, {column - row}, -2, -1)"

    def transpose(
        self, ct: Array, x: Array, *, row: Size, column: Size, length: Size
    ) -> tuple[Array | None, ...]:
        rows, columns = x.type.shape[-2:]
        return (bind(PLACE_DIAGONAL, ct, row=row, column=column, shape=(rows, columns)),)

    def batch(self, mapped: tuple[bool, ...], x: Array, **attrs: Any) -> Array:
        return bind(DIAGONAL, x, **attrs)

    def element(self, read: Reader, index: tuple[Expr, ...], node: Any) -> Expr:
        k, attrs = index[-1], node.attributes
        row, column = extent(attrs["row"]), extent(attrs["column"])
        return read(0, (*index[:-1], ex.add(k, row), ex.add(k, column)))


class PlaceDiagonal(Op):
    """Zeros of `shape` but for `y[..., row + k, column + k] = x[..., k]`."""

    name = "place_diagonal"
    moves = by_reference = True
    linear = (0,)
    weight = 1
    conditional = True

    def infer(self, x: ArrayType, *, row: Size, column: Size, shape: tuple[Size, Size]):
        return x.with_shape((*x.shape[:-1], *shape))

    def reference(self, x: np.ndarray, *, row: int, column: int, shape: tuple[int, int]):
        result = np.zeros((*x.shape[:-1], *shape), x.dtype)
        k = np.arange(x.shape[-1])
        result[..., row + k, column + k] = x
        return result

    def lines(
        self, target: str, x: str, *, row: Size, column: Size, shape: tuple[Size, Size]
    ) -> list[str]:
        rows, columns = shape
        k = f"np.arange({x}.shape[-1])"
        return [
            f"{target} = np.zeros({x}.shape[:-1] + ({rows}, {columns}), {x}.dtype)",
            f"{target}[..., {row} + {k}, {column} + {k}] = {x}",
        ]

    def text(self, x: str, *, row: Size, column: Size, shape: tuple[Size, Size]) -> str:
        return f"place_diagonal({x}, {row}, {column}, {shape})"

    def transpose(
        self, ct: Array, x: Array, *, row: Size, column: Size, shape: tuple[Size, Size]
    ) -> tuple[Array | None, ...]:
        return (bind(DIAGONAL, ct, row=row, column=column, length=x.type.shape[-1]),)

    def batch(self, mapped: tuple[bool, ...], x: Array, **attrs: Any) -> Array:
        return bind(PLACE_DIAGONAL, x, **attrs)

    def element(self, read: Reader, index: tuple[Expr, ...], node: Any) -> Expr:
        i, j = index[-2:]
        row, column = extent(node.attributes["row"]), extent(node.attributes["column"])
        k, dtype = ex.subtract(i, row), node.type.dtype
        here: Expr = Call("equal", (ex.subtract(j, column), k), ex.BOOL)
        rows, columns = node.attributes["shape"]
        if node.attributes["row"] != 0 or node.attributes["column"] != 0 or rows != columns:
            length = extent(node.inputs[0].type.shape[-1])
            low = Call("less_equal", (ex.integer(0), k), ex.BOOL)
            high = Call("less", (k, length), ex.BOOL)
            inside = Call("logical_and", (low, high), ex.BOOL)
            here = Call("logical_and", (here, inside), ex.BOOL)
        return Select(
            here, read(0, (*index[:-2], k), True), Const(dtype.type(0).item(), dtype), dtype
        )


DIAGONAL = register(Diagonal())
PLACE_DIAGONAL = register(PlaceDiagonal())


def _start(offset: Any) -> tuple[Size, Size]:
    """Row and column of the first element of a diagonal."""
    offset = as_size(offset)
    return (0, offset) if holds(0, "<=", offset) else (-offset, 0)


def _room(size: Size, start: Size) -> Size:
    return size - start if holds(start, "<=", size) else 0


@public(np.diagonal, np.linalg.diagonal)
def diagonal(a: Any, offset: Any = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The elements of `a` whose column (`axis2`) is their row (`axis1`) plus `offset`.

    They become the last axis of the result.
    """
    a = as_operand(a)
    rank = type_of(a).rank
    if rank < 2:
        raise ValueError("diag requires an array of at least two dimensions")
    first, second = normal_axis(axis1, rank), normal_axis(axis2, rank)
    if first == second:
        raise ValueError("axis1 and axis2 cannot be the same")
    a = moveaxis(a, (first, second), (-2, -1))
    rows, columns = type_of(a).shape[-2:]
    row, column = _start(offset)
    down, right = _room(rows, row), _room(columns, column)
    length = down if holds(down, "<=", right) else right
    return bind(DIAGONAL, a, row=row, column=column, length=length)


@public(np.trace, name="linalg.trace")
def trace(
    a: Any, offset: Any = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None
) -> Any:
    """The sum along the diagonal of `a`."""
    no_out(out)
    return sum_(diagonal(a, offset, axis1, axis2), -1, dtype)


@public(np.diag)
def diag(v: Any, k: Any = 0) -> Any:
    """Of a matrix its `k`-th diagonal; of a vector the matrix that has it there."""
    v = as_operand(v)
    match type_of(v).rank:
        case 1:
            row, column = _start(k)
            side = type_of(v).shape[0] + row + column
            return bind(PLACE_DIAGONAL, v, row=row, column=column, shape=(side, side))
        case 2:
            return copy(diagonal(v, k))
    raise ShapeError(f"Input must be 1- or 2-d: diag of {type_of(v)}")


@public(np.diagflat)
def diagflat(v: Any, k: Any = 0) -> Any:
    """The matrix with the flattened `v` on its `k`-th diagonal."""
    return diag(ravel(v), k)


sample(lambda x: np.diagonal(x) ** 2, (3, 3))
sample(lambda x: (x.diagonal(1), np.diagonal(x, -2), np.diagonal(x, 9)), (3, 4))
sample(lambda x: np.diagonal(x, 1, 2, 0) * np.diagonal(x, -1, 0, -1), (3, 2, 3))
sample(lambda x: np.diagonal(x, axis1=1, axis2=2), (2, 3, 4))
sample(lambda x: np.trace(x) * x.trace(1), (3, 4))
sample(lambda x: np.trace(x, offset=-1, axis1=1, axis2=2), (2, 3, 3))
sample(lambda x: np.trace(x), (0, 3))
sample(lambda x: np.diag(x) * np.diag(x, 0), (3,))
sample(lambda x: np.diag(x, 2) + np.diag(x, -2) ** 2, (3,))
sample(lambda x: np.diag(x, 1) * np.diag(np.diag(x, -1))[0, 0], (3, 3))
sample(lambda x: np.diagflat(x, 1), (2, 2))
sample(lambda x: (np.trace(x), np.diag(x), np.diag(np.diag(x))), (3, 3), kinds="iub", smooth=False)
