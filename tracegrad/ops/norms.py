"""Norms of vectors and matrices, without those that need singular values.

norm(x)   is   sqrt(sum(x * x))      =>      d_x = d_y * x / y,  and 0 where y = 0
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.errors import ShapeError
from tracegrad.ops.axes import ravel
from tracegrad.ops.constant import astype
from tracegrad.ops.extremes import max_, min_
from tracegrad.ops.op import PUBLIC, as_operand, public, sample, type_of
from tracegrad.ops.reduction import keep, sum_
from tracegrad.ops.selection import where
from tracegrad.ops.shape import normal_axes, normal_axis
from tracegrad.ops.statistics import ROOT

MATRIX = ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)


@public(np.linalg.norm, name="linalg.norm")
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """The norm of a vector or a matrix, or of those along `axis`; by default the Euclidean one.

    ord: vectors any number or infinity; matrices "fro", "nuc", 1, -1, 2, -2, inf, -inf.
    """
    x = _floating(x)
    rank = type_of(x).rank
    if axis is None and ord is None:
        flat = ROOT(sum_(ravel(x) * ravel(x)))
        return keep(flat, type_of(x), tuple(range(rank)), keepdims)
    axes = tuple(range(rank)) if axis is None else _in_order(axis, rank)
    if len(axes) == 1:
        return _vector(x, 2 if ord is None else ord, axes, keepdims)
    if len(axes) == 2:
        return _matrix(x, "fro" if ord is None else ord, axes, keepdims)
    raise ShapeError(f"Improper number of dimensions to norm: {type_of(x)} along {axes}")


@public(np.linalg.vector_norm, name="linalg.vector_norm")
def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    """The norm of all elements of `x`, or of the vectors along `axis`."""
    x = _floating(x)
    return _vector(x, ord, normal_axes(axis, type_of(x).rank), keepdims)


@public(np.linalg.matrix_norm, name="linalg.matrix_norm")
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """The norm of the matrices in the last two axes."""
    return norm(x, ord, (-2, -1), keepdims)


def _floating(x: Any) -> Any:
    x = as_operand(x)
    return x if type_of(x).is_float else astype(x, np.float64)


def _in_order(axis: Any, rank: int) -> tuple[int, ...]:
    items = axis if isinstance(axis, tuple | list) else (axis,)
    normal_axes(tuple(items), rank)
    return tuple(normal_axis(item, rank) for item in items)


def _vector(x: Any, order: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if isinstance(order, str):
        raise ValueError(f"Invalid norm order '{order}' for vectors")
    if order == 2:
        return ROOT(sum_(x * x, axes, keepdims=keepdims))
    size = PUBLIC["abs"](x)
    if order == np.inf:
        return max_(size, axes, keepdims=keepdims)
    if order == -np.inf:
        return min_(size, axes, keepdims=keepdims)
    if order == 0:
        return sum_(astype(x != 0, type_of(x).dtype), axes, keepdims=keepdims)
    if order == 1:
        return sum_(size, axes, keepdims=keepdims)
    total = sum_(size ** float(order), axes, keepdims=keepdims)
    positive = total > 0
    return where(positive, where(positive, total, 1) ** (1.0 / order), total ** (1.0 / order))


def _matrix(x: Any, order: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if order not in MATRIX:
        raise ValueError("Invalid norm order for matrices.")
    if order in ("nuc", 2, -2):
        return _by_singular_values(x, order, axes, keepdims)
    if order == "fro":
        return ROOT(sum_(x * x, tuple(sorted(axes)), keepdims=keepdims))
    along, across = axes if order in (1, -1) else axes[::-1]
    sums = sum_(PUBLIC["abs"](x), along, keepdims=True)
    found = (max_ if order > 0 else min_)(sums, across, keepdims=True)
    wanted = tuple(size for at, size in enumerate(type_of(found).shape) if at not in axes)
    return found if keepdims else PUBLIC["reshape"](found, wanted)


def _by_singular_values(x: Any, order: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    """The sum, the largest or the smallest of the singular values."""
    s = PUBLIC["linalg.svdvals"](PUBLIC["moveaxis"](x, axes, (-2, -1)))
    found = sum_(s, -1) if order == "nuc" else s[..., 0 if order == 2 else -1]
    for axis in sorted(axes) if keepdims else ():
        found = PUBLIC["expand_dims"](found, axis)
    return found


sample(lambda x: np.linalg.norm(x) * np.linalg.norm(x, None, (0, 1), True), (3, 4))
sample(lambda x: np.linalg.norm(x, axis=1) + np.linalg.norm(x, 2, 1, keepdims=True)[:, 0], (3, 4))
sample(
    lambda x: (np.linalg.norm(x, 1), np.linalg.norm(x, np.inf), np.linalg.norm(x, -np.inf)), (4,)
)
sample(lambda x: np.linalg.norm(x, 3) + np.linalg.norm(x, 1.5), (4,), domain=(0.3, 2.0))
sample(lambda x: np.linalg.norm(x, 0), (4,), smooth=False)
sample(lambda x: (np.linalg.norm(x, "fro"), np.linalg.norm(x, 1), np.linalg.norm(x, -1)), (3, 4))
sample(
    lambda x: np.linalg.norm(x, np.inf, axis=(0, 2)) + np.linalg.norm(x, -np.inf, (2, 0)), (2, 3, 4)
)
sample(lambda x: np.linalg.vector_norm(x, axis=(0, 1)) * np.linalg.matrix_norm(x), (3, 4))
sample(lambda x: (np.linalg.norm(x, 2), np.linalg.norm(x, "nuc", None, True)), (3, 4))
sample(lambda x: np.linalg.norm(x, -2, axis=(2, 0)), (2, 3, 4))
sample(lambda x: np.linalg.norm(x * 0) + np.linalg.norm(x), (3,))
sample(lambda x: np.linalg.norm(x, axis=0), (3, 4), kinds="i", smooth=False)


@public(np.linalg.cond, name="linalg.cond")
def cond(x: Any, p: Any = None) -> Any:
    """The condition number of matrices in the norm `p` (None, 2: by singular values)."""
    if p in (None, 2, -2):
        values = PUBLIC["linalg.svdvals"](x)
        largest, smallest = values[..., 0], values[..., -1]
        return smallest / largest if p == -2 else largest / smallest
    return norm(x, p, axis=(-2, -1)) * norm(PUBLIC["linalg.inv"](x), p, axis=(-2, -1))


sample(lambda x: np.linalg.cond(x + 3 * np.eye(3)), (2, 3, 3))
sample(lambda x: np.linalg.cond(x + 3 * np.eye(3), "fro") + np.linalg.cond(x[:2, :2], -2), (3, 3))
