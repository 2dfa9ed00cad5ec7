"""Products of arrays other than `@`: all of them matrix products or sums of products.

np.tensordot(a, b, axes=([1], [0]))   ->   a and b with these axes moved, reshaped, a @ b
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from tracegrad.errors import ShapeError
from tracegrad.ir.dims import Size, in_figures, must_be_same, product
from tracegrad.ir.types import ArrayType
from tracegrad.ops.arithmetic import MULTIPLY, SUBTRACT
from tracegrad.ops.axes import expand_dims, moveaxis, ravel
from tracegrad.ops.broadcast import Shape
from tracegrad.ops.indexing import getitem
from tracegrad.ops.joining import stack
from tracegrad.ops.matmul import common_dtype, likely, matmul
from tracegrad.ops.op import NUMPY, as_operand, public, sample, type_of
from tracegrad.ops.reduction import sum_
from tracegrad.ops.shape import normal_axis, reshape, transpose


@public(np.dot)
def dot(a: Any, b: Any, out: Any = None) -> Any:
    """The sum over the last axis of `a` and the last but one of `b` (of a vector, its only one)."""
    a, b = as_operand(a), as_operand(b)
    left, right = type_of(a).rank, type_of(b).rank
    if not left or not right:
        return MULTIPLY(a, b)
    if right <= 2:
        return matmul(a, b)
    return tensordot(a, b, axes=([left - 1], [right - 2]))


@public(np.inner)
def inner(a: Any, b: Any, /) -> Any:
    """The sum over the last axes of both."""
    a, b = as_operand(a), as_operand(b)
    left, right = type_of(a).rank, type_of(b).rank
    if not left or not right:
        return MULTIPLY(a, b)
    return tensordot(a, b, axes=([left - 1], [right - 1]))


@public(np.vdot)
def vdot(a: Any, b: Any, /) -> Any:
    """The inner product of all elements of `a` and of `b`, both flattened."""
    return matmul(ravel(as_operand(a)), ravel(as_operand(b)))


@public(np.outer)
def outer(a: Any, b: Any, out: Any = None) -> Any:
    """`a[i] * b[j]` for all elements of both, flattened."""
    return MULTIPLY(expand_dims(ravel(as_operand(a)), 1), ravel(as_operand(b)))


def _outer_of_vectors(x1: Any, x2: Any, /) -> Any:
    """`np.linalg.outer`, which takes vectors only."""
    ranks = [type_of(as_operand(x)).rank for x in (x1, x2)]
    if ranks != [1, 1]:
        raise ValueError(
            "Input arrays must be one-dimensional, but they are "
            f"x1.ndim={ranks[0]} and x2.ndim={ranks[1]}."
        )
    return outer(x1, x2)


@public(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """The sum over pairs of axes: the last `axes` of `a` and the first of `b`, or those given."""
    a, b = common_dtype(np.matmul, as_operand(a), as_operand(b))
    left, right = type_of(a), type_of(b)
    summed_a, summed_b = _pairs(axes, left, right)
    for i, j in zip(summed_a, summed_b, strict=True):
        if not must_be_same(left.shape[i], right.shape[j]):
            raise ShapeError(
                f"shape-mismatch for sum: tensordot of {left} and {right}: axis {i} of the left is "
                f"{left.shape[i]}, axis {j} of the right is {right.shape[j]}"
            )
    kept_a = tuple(axis for axis in range(left.rank) if axis not in summed_a)
    kept_b = tuple(axis for axis in range(right.rank) if axis not in summed_b)
    if not summed_a:
        spread = reshape(a, left.shape + (1,) * right.rank)
        return MULTIPLY(spread, b)
    flat = matmul(folded(a, kept_a, summed_a), folded(b, summed_b, kept_b))
    return reshape(flat, _sizes(left, kept_a) + _sizes(right, kept_b))


def _pairs(axes: Any, a: ArrayType, b: ArrayType) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if isinstance(axes, tuple | list):
        first, second = (_axes(part, type.rank) for part, type in zip(axes, (a, b), strict=True))
        if len(first) != len(second):
            raise ValueError("shape-mismatch for sum: tensordot needs as many axes of either array")
        return first, second
    count = operator.index(axes)
    if count > min(a.rank, b.rank):
        raise IndexError(
            f"tensordot of {a.in_figures()} and {b.in_figures()} over {count} axes: there are not "
            "so many"
        )
    return tuple(range(a.rank - count, a.rank)), tuple(range(count))


def _axes(part: Any, rank: int) -> tuple[int, ...]:
    items = part if isinstance(part, tuple | list | np.ndarray) else (part,)
    return tuple(normal_axis(axis, rank) for axis in items)


def _sizes(type: ArrayType, axes: tuple[int, ...]) -> Shape:
    return tuple(type.shape[axis] for axis in axes)


def folded(x: Any, first: tuple[int, ...], second: tuple[int, ...]) -> Any:
    """`x` as a matrix of two groups of its axes (a vector, where one group is empty).

    Where the groups only have to change places, the matrix is transposed: products read that as it
    is.
    """
    sizes = [product(_sizes(type_of(x), axes)) for axes in (first, second) if axes]
    if second + first == tuple(range(type_of(x).rank)) and len(sizes) == 2:
        return transpose(reshape(x, tuple(sizes[::-1])))
    return reshape(transpose(x, first + second), tuple(sizes))


@public(np.vecdot)
def vecdot(x1: Any, x2: Any, /, axis: int = -1) -> Any:
    """The sum of `x1 * x2` over an axis, the others broadcast."""
    a, b = common_dtype(np.multiply, as_operand(x1), as_operand(x2))
    if axis != -1:
        a, b = moveaxis(a, axis, -1), moveaxis(b, axis, -1)
    _check_equal("vecdot", a, b, -1, -1)
    return sum_(MULTIPLY(a, b), axis=-1, dtype=type_of(a).dtype)


@public(np.matvec)
def matvec(x1: Any, x2: Any, /) -> Any:
    """Matrices times vectors, stacks of both broadcast."""
    a, v = as_operand(x1), as_operand(x2)
    if type_of(v).rank == 1:
        return matmul(a, v)
    return getitem(matmul(a, expand_dims(v, -1)), (Ellipsis, 0))


@public(np.vecmat)
def vecmat(x1: Any, x2: Any, /) -> Any:
    """Vectors times matrices, stacks of both broadcast."""
    v, b = as_operand(x1), as_operand(x2)
    if type_of(v).rank == 1:
        return matmul(v, b)
    return getitem(matmul(expand_dims(v, -2), b), (Ellipsis, 0, slice(None)))


def _check_equal(name: str, a: Any, b: Any, i: int, j: int) -> None:
    left, right = type_of(a), type_of(b)
    if not must_be_same(left.shape[i], right.shape[j]):
        raise ShapeError(
            f"{name} of {left.in_figures()} and {right.in_figures()}: the summed axes have "
            f"{in_figures(left.shape[i])} and {in_figures(right.shape[j])} elements"
        )


@public(np.kron)
def kron(a: Any, b: Any) -> Any:
    """The Kronecker product: blocks `a[i, j] * b`."""
    a, b = as_operand(a), as_operand(b)
    rank = max(type_of(a).rank, type_of(b).rank)
    left = (1,) * (rank - type_of(a).rank) + type_of(a).shape
    right = (1,) * (rank - type_of(b).rank) + type_of(b).shape
    outer_shape = tuple(size for pair in zip(left, (1,) * rank, strict=True) for size in pair)
    inner_shape = tuple(size for pair in zip((1,) * rank, right, strict=True) for size in pair)
    blocks = MULTIPLY(reshape(a, outer_shape), reshape(b, inner_shape))
    return reshape(blocks, tuple(product(pair) for pair in zip(left, right, strict=True)))


@public(np.cross)
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None):
    """The vector product in three dimensions, along an axis of extent 3."""
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = moveaxis(as_operand(a), axisa, -1), moveaxis(as_operand(b), axisb, -1)
    for x in (a, b):
        if not must_be_same(type_of(x).shape[-1], 3):
            raise ValueError(
                f"cross of {type_of(a).in_figures()} and {type_of(b).in_figures()}: both must be "
                "3-dimensional vectors, or arrays of such"
            )
    x, y = ([getitem(v, (Ellipsis, k)) for k in range(3)] for v in (a, b))
    parts = [
        SUBTRACT(MULTIPLY(x[i], y[j]), MULTIPLY(x[j], y[i])) for i, j in ((1, 2), (2, 0), (0, 1))
    ]
    return moveaxis(stack(parts, axis=-1), -1, axisc)


@public(np.linalg.multi_dot, name="linalg.multi_dot")
def multi_dot(arrays: Any, *, out: Any = None) -> Any:
    """The product of several matrices (the first and the last may be vectors), in the best order.

    The order is the cheapest for the sizes of the traced call (Cormen et al., Introduction to
    Algorithms, 15.2); it is right for all.
    """
    operands = [as_operand(array) for array in arrays]
    if len(operands) < 2:
        raise ValueError("multi_dot: expecting at least two arrays")
    shapes = [type_of(x).shape for x in operands]
    first: Size = 1 if len(shapes[0]) == 1 else shapes[0][0]
    sizes = [
        first,
        *(shape[0] for shape in shapes[1:]),
        1 if len(shapes[-1]) == 1 else shapes[-1][1],
    ]
    return _chain(operands, _splits([likely(size) for size in sizes]), 0, len(operands) - 1)


def _splits(sizes: list[int]) -> dict[tuple[int, int], int]:
    """After which matrix to split each run of matrices, `sizes[i]` x `sizes[i + 1]`."""
    count = len(sizes) - 1
    cost = {(i, i): 0 for i in range(count)}
    split: dict[tuple[int, int], int] = {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            cost[i, j], split[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )
    return split


def _chain(operands: list[Any], split: dict[tuple[int, int], int], i: int, j: int) -> Any:
    if i == j:
        return operands[i]
    k = split[i, j]
    return matmul(_chain(operands, split, i, k), _chain(operands, split, k + 1, j))


NUMPY[np.linalg.outer] = _outer_of_vectors
NUMPY[np.linalg.cross] = lambda x1, x2, /, *, axis=-1: cross(x1, x2, axis=axis)

sample(lambda a, b: np.dot(a, b), (3, 4), (2, 4, 5))
sample(lambda a, b: np.dot(a, b), (3,), (3,))
sample(lambda a, b: np.inner(a, b), (2, 3), (4, 3))
sample(lambda a, b: np.vdot(a, b), (2, 3), (3, 2))
sample(lambda a, b: np.outer(a, b), (3,), (2, 2))
sample(lambda a, b: np.tensordot(a, b, axes=([1, 0], [0, 2])), (2, 3, 4), (3, 5, 2))
sample(lambda a, b: np.tensordot(a, b, axes=0), (2,), (3,))
sample(lambda a, b: np.tensordot(a, b), (2, 3), (2, 3))
sample(lambda a, b: np.vecdot(a, b), (4, 3), (3,))
sample(lambda a, b: np.matvec(a, b), (2, 3, 4), (2, 4))
sample(lambda a, b: np.vecmat(a, b), (2, 3), (2, 3, 4))
sample(lambda a, b: np.kron(a, b), (2, 3), (3, 2))
sample(lambda a, b: np.kron(a, b), (2,), (2, 3))
sample(lambda a, b: np.cross(a, b), (4, 3), (3,))
sample(lambda a, b: np.linalg.multi_dot([a, b, a]), (3, 4), (4, 3))
sample(lambda a, b: np.linalg.outer(a, b) + np.linalg.cross(a, b), (3,), (3,))
