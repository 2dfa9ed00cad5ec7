"""Linear equations between tensors, by those between matrices; and the rank of a matrix.

tensorsolve(a, b)   is   solve(a as a matrix, b as a vector), in the shape of the unknown
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracegrad.ir.dims import required
from tracegrad.ops.axes import moveaxis
from tracegrad.ops.constant import astype
from tracegrad.ops.op import PUBLIC, as_operand, public, sample, type_of
from tracegrad.ops.reduction import size_value, sum_
from tracegrad.ops.shape import reshape
from tracegrad.ops.solving import inv, solve
from tracegrad.ops.svd import svdvals


@public(np.linalg.tensorsolve, name="linalg.tensorsolve")
def tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    """The `x` with `tensordot(a, x, x.ndim) == b`.

    `a` has the axes of `b`, then those of `x`; `axes` of it are moved to its end first. Raises
    LinAlgError if it is singular.
    """
    a, b = as_operand(a), as_operand(b)
    rank = type_of(a).rank
    if axes is not None:
        axes = [axis % rank for axis in axes]
        a = moveaxis(a, axes, tuple(range(rank - len(axes), rank)))
    shape = type_of(a).shape[type_of(b).rank :]
    rows = math.prod(type_of(a).shape[: type_of(b).rank])
    if not required(rows, "==", math.prod(shape)):
        raise np.linalg.LinAlgError(
            "Input arrays must satisfy the requirement prod(a.shape[b.ndim:]) == "
            "prod(a.shape[:b.ndim])"
        )
    found = solve(reshape(a, (rows, rows)), reshape(b, (rows,)))
    return reshape(found, shape)


@public(np.linalg.tensorinv, name="linalg.tensorinv")
def tensorinv(a: Any, ind: int = 2) -> Any:
    """The inverse of `a` with respect to `tensordot(a, x, ind)`.

    The first `ind` axes are those of what it makes. Raises LinAlgError if it is singular.
    """
    a = as_operand(a)
    if ind <= 0:
        raise ValueError("Invalid ind argument.")
    shape = type_of(a).shape
    rows = math.prod(shape[ind:])
    if not required(rows, "==", math.prod(shape[:ind])):
        raise np.linalg.LinAlgError("tensorinv: the first axes have another size than the others")
    return reshape(inv(reshape(a, (rows, rows))), (*shape[ind:], *shape[:ind]))


@public(np.linalg.matrix_rank, name="linalg.matrix_rank")
def matrix_rank(a: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    """How many singular values of each matrix are above `tol`.

    By default that is `rtol` times the largest of them, and `rtol` the machine epsilon times the
    larger extent. Of a vector 1, if it is not zero.
    """
    if tol is not None and rtol is not None:
        raise ValueError("`tol` and `rtol` can't be both set.")
    a = as_operand(a)
    if type_of(a).rank < 2:
        return astype(PUBLIC["any"](a != 0), np.int64)
    values = svdvals(a)
    if tol is None:
        size = PUBLIC["maximum"](*map(size_value, type_of(a).shape[-2:]))
        limit = size * np.finfo(type_of(values).dtype).eps if rtol is None else rtol
        tol = PUBLIC["max"](values, axis=-1, keepdims=True) * as_column(limit)
    else:
        tol = as_column(tol)
    return sum_(values > tol, -1)


def as_column(limit: Any) -> Any:
    """One number for each matrix, against its singular values."""
    return limit[..., None] if type_of(limit).rank else limit


sample(lambda a, b: np.linalg.tensorsolve(_regular(a), b), (2, 3, 6), (2, 3))
sample(lambda a, b: np.linalg.tensorsolve(_moved(a), b, axes=(0,)), (6, 2, 3), (2, 3))
sample(lambda a: np.linalg.tensorinv(_regular(a)), (2, 3, 6))
sample(lambda a: np.linalg.tensorinv(_regular(a).reshape(6, 3, 2), ind=1), (2, 3, 6))
sample(lambda a: a * np.linalg.matrix_rank(a), (3, 2))
sample(lambda a: np.linalg.matrix_rank(a[..., :1] * a[..., :1].mT, rtol=0.1), (2, 3, 3), kinds="f")
sample(lambda a: np.float64(1) * np.linalg.matrix_rank(a[0]) + a, (2, 3))


def _regular(a: Any) -> Any:
    return a + 5 * np.eye(6).reshape(2, 3, 6)


def _moved(a: Any) -> Any:
    return a + 5 * np.eye(6).reshape(6, 2, 3)
