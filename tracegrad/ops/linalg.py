"""What functions of matrices share: which operands they take, and compositions of matrix products.

Matrices are the last two axes; leading axes count them. Integers are computed with in float64.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from tracegrad.errors import MatrixError, ShapeError
from tracegrad.ir.dims import Size, in_figures, must_be_same
from tracegrad.ir.types import ArrayType
from tracegrad.ops.axes import expand_dims, matrix_transpose
from tracegrad.ops.broadcast import broadcast_shapes
from tracegrad.ops.constant import astype
from tracegrad.ops.diagonals import diagonal, trace
from tracegrad.ops.grids import eye
from tracegrad.ops.matmul import matmul
from tracegrad.ops.op import NUMPY, PUBLIC, as_operand, public, sample, type_of
from tracegrad.ops.reduction import broadcast_to

FLOAT = np.dtype(np.float64)


def check_square(type: ArrayType) -> None:
    """Raises MatrixError, which is NumPy's LinAlgError too, with NumPy's words."""
    if type.rank < 2:
        raise MatrixError(
            f"{type.rank}-dimensional array given. Array must be at least two-dimensional"
        )
    if not must_be_same(type.shape[-1], type.shape[-2]):
        raise MatrixError(
            f"Last 2 dimensions of the array must be square: the matrix is {type.in_figures()}"
        )


def computed_dtype(*operands: Any) -> np.dtype:
    """float32 if every operand has it, else float64. Raises TypeError for other kinds."""
    dtypes = {type_of(x).dtype for x in operands}
    for dtype in dtypes:
        if dtype.kind not in "biuf" or dtype == np.float16:
            raise TypeError(f"array type {dtype} is unsupported in linalg")
    return np.dtype(np.float32) if dtypes == {np.dtype(np.float32)} else FLOAT


def square(a: Any) -> Any:
    """A matrix, or a stack of them, in the dtype to compute in."""
    a = as_operand(a)
    check_square(type_of(a))
    return astype(a, computed_dtype(a))


def system(a: Any, b: Any) -> tuple[Any, Any, bool]:
    """`a @ x = b` in one dtype and with the same leading axes; whether x is to lose its last one.

    `b` is a vector only if it has one axis, as in NumPy 2: the same for each matrix of a stack.
    """
    a, b = as_operand(a), as_operand(b)
    check_square(type_of(a))
    rank = type_of(b).rank
    if not rank:
        raise ShapeError("the right-hand side is a scalar: it needs at least one axis")
    dtype = computed_dtype(a, b)
    a, b = astype(a, dtype), astype(b, dtype)
    left, right = type_of(a), type_of(b)
    rows = right.shape[0] if rank == 1 else right.shape[-2]
    if not must_be_same(left.shape[-1], rows):
        raise ShapeError(
            f"cannot solve {left.in_figures()} @ x = {right.in_figures()}: the right-hand side has "
            f"{in_figures(rows)} rows, not {in_figures(left.shape[-1])}"
        )
    if rank == 1 and left.rank == 2:
        return a, b, False
    if rank == 1:
        b = expand_dims(b, -1)
    return (*_stacked(a, b), rank == 1)


def _stacked(a: Any, b: Any) -> tuple[Any, Any]:
    left, right = type_of(a), type_of(b)
    if left.rank == right.rank == 2:
        return a, b
    batch = broadcast_shapes(
        "solve with stacks of", left.with_shape(left.shape[:-2]), right.with_shape(right.shape[:-2])
    )
    return (
        broadcast_to(a, (*batch, *left.shape[-2:])),
        broadcast_to(b, (*batch, *right.shape[-2:])),
    )


def check_fit(a: ArrayType, b: ArrayType) -> None:
    """Raises unless `b` is a right-hand side for `a`: a stack as long, or a vector for a matrix."""
    check_square(a)
    vector = b.rank == 1 and a.rank == 2
    rows = b.shape if vector else b.shape[:-1]
    if not all(map(must_be_same, rows, a.shape[:-1])) or a.dtype != b.dtype:
        raise ShapeError(f"cannot solve {a.in_figures()} @ x = {b.in_figures()}")


def eye_like(a: Any) -> Any:
    """The unit matrix for each of the matrices `a`."""
    type = type_of(a)
    return broadcast_to(eye(type.shape[-1], dtype=type.dtype), type.shape)


def outer(a: Any, b: Any) -> Any:
    """`a @ b.T` of matrices or of vectors."""
    if type_of(a).rank == 1:
        return expand_dims(a, 1) * b
    return matmul(a, matrix_transpose(b))


def matrices(type: ArrayType) -> Size:
    """How many matrices there are."""
    count: Size = 1
    for size in type.shape[:-2]:
        count = size * count
    return count


@public(np.linalg.matrix_power, name="linalg.matrix_power")
def matrix_power(a: Any, n: Any) -> Any:
    """`a @ a @ ... @ a`, `n` times (a Python int); of the inverse for negative `n`."""
    a = as_operand(a)
    check_square(type_of(a))
    try:
        n = operator.index(n)
    except TypeError:
        raise TypeError("exponent must be an integer") from None
    if n == 0:
        return eye_like(a)
    if n < 0:
        a, n = PUBLIC["linalg.inv"](a), -n
    result = None
    while n:
        if n & 1:
            result = a if result is None else matmul(result, a)
        n >>= 1
        a = matmul(a, a) if n else a
    return result


def _trace_of_last(x: Any, /, *, offset: Any = 0, dtype: Any = None) -> Any:
    return trace(x, offset, -2, -1, dtype)


def _diagonal_of_last(x: Any, /, *, offset: Any = 0) -> Any:
    return diagonal(x, offset, -2, -1)


NUMPY.update({np.linalg.trace: _trace_of_last, np.linalg.diagonal: _diagonal_of_last})
NUMPY[np.linalg.matrix_transpose] = matrix_transpose
NUMPY[np.linalg.matmul] = matmul

sample(lambda x: np.linalg.matrix_power(x, 5), (3, 3))
sample(lambda x: (np.linalg.matrix_power(x, 0), np.linalg.matrix_power(x, 1)), (2, 3, 3))
sample(lambda x: np.linalg.matrix_power(x @ x.T + 3 * np.eye(3), -2), (3, 3))
sample(lambda x: np.linalg.matrix_power(x, 3), (2, 2), kinds="i", smooth=False)
sample(lambda x: np.linalg.trace(x) * np.linalg.diagonal(x, offset=1)[:, 0], (2, 3, 3))
