"""Broadcasting: the shape that operands share, and which element of each a result element reads."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.expr import Expr, integer
from tracegrad.errors import ShapeError
from tracegrad.ir.dims import Size, in_figures, must_be_same, of_data, same
from tracegrad.ir.types import ArrayType

Shape = tuple[Size, ...]


def broadcast_shapes(verb: str, *types: ArrayType) -> Shape:
    """NumPy's rule; whether two symbolic extents are equal, or one is 1, is decided by the
    trace.
    """
    result: Shape = ()
    for type in types:
        result = _broadcast_pair(verb, result, type.shape, types)
    return result


def _broadcast_pair(verb: str, left: Shape, right: Shape, types: Sequence[ArrayType]) -> Shape:
    if left == right:
        return left
    rank = max(len(left), len(right))
    padded_left = (1,) * (rank - len(left)) + left
    padded_right = (1,) * (rank - len(right)) + right
    result: list[Size] = []
    for axis, (a, b) in enumerate(zip(padded_left, padded_right, strict=True)):
        extent = broadcast_extent(a, b)
        if extent is None:
            raise ShapeError(_mismatch(verb, types, axis, a, b))
        result.append(extent)
    return tuple(result)


def broadcast_extent(a: Size, b: Size) -> Size | None:
    """The common extent of `a` and `b`; None if there is none. One that data decides on is no 1
    that would be stretched: what it meets has to be equal to it.
    """
    if _is(a, 1) or a is b or a == b:
        return b
    if _is(b, 1):
        return a
    if of_data(a) != of_data(b):  # the other one may be 1, which is known
        known, other = (b, a) if of_data(a) else (a, b)
        if same(known, 1):
            return other
    if must_be_same(a, b):
        return a
    if same(a, 1):
        return b
    return a if same(b, 1) else None


def _is(size: Size, number: int) -> bool:
    return isinstance(size, int) and size == number


def _mismatch(verb: str, types: Sequence[ArrayType], axis: int, a: Size, b: Size) -> str:
    operands = " and ".join(str(type.in_figures()) for type in types)
    left, right = in_figures(a), in_figures(b)
    return f"cannot {verb} {operands}: axis {axis} is {left} on the left and {right} on the right"


def aligned(index: tuple[Expr, ...], operand: Shape) -> tuple[Expr, ...]:
    """The operand's element that broadcasting puts at `index` of the result."""
    tail = index[len(index) - len(operand) :]
    return tuple(
        integer(0) if _is(extent, 1) else position
        for position, extent in zip(tail, operand, strict=True)
    )
