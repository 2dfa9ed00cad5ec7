"""Matrices with a pattern: eye, tri, tril, triu, and the coordinates of grids.

    y = tril(x)   is   y[i, j] = x[i, j] if i >= j else 0      =>      d_x = tril(d_y)

A pattern is a comparison of row and column numbers, computed where it is used: it takes no memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.errors import ShapeError
from tracegrad.ir.dims import fixed, must_be_same
from tracegrad.ops.axes import broadcast_arrays
from tracegrad.ops.constant import astype
from tracegrad.ops.creation import FLOAT, counting, given
from tracegrad.ops.op import as_operand, public, sample, type_of
from tracegrad.ops.reduction import size_value
from tracegrad.ops.selection import where
from tracegrad.ops.shape import as_size, reshape
from tracegrad.ops.shape import copy as duplicate


def _rows_and_columns(n: Any, m: Any) -> tuple[Any, Any]:
    rows, columns = as_size(n), as_size(n if m is None else m)
    return reshape(counting(rows), (rows, 1)), counting(columns)


@public(np.eye)
def eye(
    N: Any,
    M: Any = None,
    k: Any = 0,
    dtype: Any = None,
    order: str = "C",
    *,
    requires_grad: bool = False,
    device: Any = None,
) -> Any:
    """Ones on the `k`-th diagonal of zeros (N, M)."""
    row, column = _rows_and_columns(N, M)
    return given(astype(_shifted(row, k) == column, dtype or FLOAT), requires_grad)


@public(np.identity)
def identity(n: Any, dtype: Any = None) -> Any:
    """Ones on the diagonal of zeros (n, n)."""
    return eye(n, dtype=dtype)


@public(np.tri)
def tri(N: Any, M: Any = None, k: Any = 0, dtype: Any = None) -> Any:
    """Ones on and below the `k`-th diagonal of zeros (N, M)."""
    return given(astype(_below(N, M, k), dtype or FLOAT), False)


def _shifted(row: Any, k: Any) -> Any:
    k = as_size(k)
    return row if isinstance(k, int) and k == 0 else row + size_value(k)


def _below(n: Any, m: Any, k: Any) -> Any:
    row, column = _rows_and_columns(n, m)
    return _shifted(row, k) >= column


def _part(m: Any, k: Any, lower: bool) -> Any:
    """What lies on and below the `k`-th diagonal of matrices, or what does not."""
    m = as_operand(m)
    type = type_of(m)
    if type.rank < 2:
        raise ShapeError(f"tril and triu take matrices or stacks of them, not {type}")
    rows, columns = type.shape[-2:]
    below, zero = _below(rows, columns, k), type.dtype.type(0)
    return where(below, m, zero) if lower else where(below, zero, m)


@public(np.tril)
def tril(m: Any, k: Any = 0) -> Any:
    """`m` on and below its `k`-th diagonal, zeros above. Works on the last two axes."""
    return _part(m, k, lower=True)


@public(np.triu)
def triu(m: Any, k: Any = 0) -> Any:
    """`m` on and above its `k`-th diagonal, zeros below. Works on the last two axes."""
    return _part(m, as_size(k) - 1, lower=False)


@public(np.meshgrid)
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    """Coordinate arrays of the grid over the vectors `xi`, as a tuple."""
    if indexing not in ("xy", "ij"):
        raise ValueError("Valid values for `indexing` are 'xy' and 'ij'.")
    order = list(range(len(xi)))
    if indexing == "xy" and len(xi) > 1:
        order[:2] = [1, 0]
    axes = []
    for x, at in zip(xi, order, strict=True):
        shape = tuple(-1 if place == at else 1 for place in range(len(xi)))
        axes.append(reshape(x, shape))
    found = tuple(axes) if sparse else broadcast_arrays(*axes)
    return tuple(duplicate(x) for x in found) if copy else tuple(found)


@public(np.diag_indices_from)
def diag_indices_from(arr: Any) -> tuple[Any, ...]:
    """The index arrays of the diagonal of `arr`, whose extents are equal."""
    shape = type_of(as_operand(arr)).shape
    if len(shape) < 2:
        raise ValueError("input array must be at least 2-d")
    if not all(must_be_same(size, shape[0]) for size in shape[1:]):
        raise ValueError("All dimensions of input must be of equal length")
    return (counting(shape[0]),) * len(shape)


@public(np.tril_indices_from)
def tril_indices_from(arr: Any, k: int = 0) -> tuple[Any, Any]:
    """The index arrays of what lies on and below the `k`-th diagonal; the extents become fixed."""
    rows, columns = _fixed_extents(arr)
    return np.tril_indices(rows, k, columns)


@public(np.triu_indices_from)
def triu_indices_from(arr: Any, k: int = 0) -> tuple[Any, Any]:
    """The index arrays of what lies on and above the `k`-th diagonal; the extents become fixed."""
    rows, columns = _fixed_extents(arr)
    return np.triu_indices(rows, k, columns)


def _fixed_extents(arr: Any) -> tuple[int, int]:
    shape = type_of(as_operand(arr)).shape
    if len(shape) != 2:
        raise ValueError("input array must be 2-d")
    return fixed(shape[0]), fixed(shape[1])


sample(lambda x: x * np.arange(len(x)) + np.eye(3)[0], (3,))
sample(lambda x: np.tril(x) - np.triu(x, 1) * np.tril(x, k=-1).T, (3, 3))
sample(lambda x: (np.tril(x, 1), np.triu(x, -1)), (2, 3, 4))
sample(lambda x: x * np.tri(3, 4) + np.identity(4)[:3], (3, 4))
sample(lambda x: x[np.diag_indices_from(x)] * x[0], (3, 3))
sample(lambda x: (x[np.triu_indices_from(x)], x[np.tril_indices_from(x, -1)]), (3, 4))
sample(lambda x, y: np.meshgrid(x, y), (3,), (4,))
sample(lambda x, y, z: np.meshgrid(x, y, z, indexing="ij"), (2,), (3,), (1,))
sample(lambda x, y: np.meshgrid(x, y, sparse=True), (2,), (3,))
