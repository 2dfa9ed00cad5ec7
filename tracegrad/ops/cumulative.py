"""Running sums and products along an axis, and the product over axes.

    y = prod(x)      =>      d_x[i] = d_y * (the product of all x before i) * (that of all after i)

Nothing is divided, so derivatives of all orders are exact, also where factors are zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.ir.op import Array
from tracegrad.ops.axes import ravel
from tracegrad.ops.constant import astype
from tracegrad.ops.joining import concatenate
from tracegrad.ops.op import PUBLIC, as_operand, bind, public, register, sample, type_of
from tracegrad.ops.reduction import (
    SUM,
    Axes,
    Reduction,
    no_out,
    only_where,
    reduce,
    strong,
    sum_dtype,
)
from tracegrad.ops.running import CUMSUM, PRODUCT_BEFORE
from tracegrad.ops.shape import normal_axis, reshape, transpose


class Product(Reduction):
    """`y = the product of x over axis`; the derivative in x[i] is the product of all others.

    It is what comes before x[i] times what comes after it, so that zeros need no care.
    """

    name = short = "prod"
    by_reference = True
    combine = "multiply"

    def identity(self, dtype: np.dtype) -> Any:
        return 1

    def reference(self, x: np.ndarray, *, axis: Axes) -> Any:
        return np.prod(x, axis=axis, dtype=x.dtype)

    def jvp(self, tangents: tuple[Array | None, ...], out: Array, x: Array, *, axis: Axes) -> Array:
        x, tangent = _merged(x, axis), _merged(tangents[0], axis)
        at = min(axis) if len(axis) == 1 else x.type.rank - 1
        before = bind(PRODUCT_BEFORE, x, axis=at, reverse=False)
        after = bind(PRODUCT_BEFORE, x, axis=at, reverse=True)
        return bind(SUM, tangent * (before * after), axis=(at,))


def _merged(x: Array, axis: Axes) -> Array:
    """`x` with several axes made one, the last; a single one stays where it is."""
    if len(axis) == 1:
        return x
    kept = tuple(at for at in range(x.type.rank) if at not in axis)
    shape = tuple(x.type.shape[at] for at in kept)
    return reshape(transpose(x, kept + axis), (*shape, -1) if shape else (-1,))


PROD = register(Product())


@public(np.prod)
def prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """The product of `a` over `axis` (an int, a tuple, or None for all)."""
    no_out(out)
    a = as_operand(a)
    a = astype(a, sum_dtype(type_of(a).dtype) if dtype is None else dtype)
    total = reduce(PROD, only_where(a, where, 1), axis, keepdims)
    return total if initial is None else total * astype(initial, type_of(a).dtype)


def _line(a: Any, axis: Any, dtype: Any) -> tuple[Any, int]:
    """The operand of a running operation, and the axis along which it runs; None flattens."""
    a = as_operand(a)
    wide = sum_dtype(type_of(a).dtype)
    a = strong(a) if type_of(a).weak else a
    a = astype(a, wide if dtype is None else dtype)
    if axis is None or type_of(a).rank == 0:
        if axis not in (None, 0, -1):
            normal_axis(axis, 0)
        return ravel(a), 0
    return a, normal_axis(axis, type_of(a).rank)


@public(np.cumsum)
def cumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """The sums of the elements up to each one along `axis` (None: of the flattened array)."""
    no_out(out)
    line, along = _line(a, axis, dtype)
    return bind(CUMSUM, line, axis=along, reverse=False)


@public(np.cumprod)
def cumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """The products of the elements up to each one along `axis` (None: of the flattened array)."""
    no_out(out)
    line, along = _line(a, axis, dtype)
    return bind(PRODUCT_BEFORE, line, axis=along, reverse=False) * line


def _from_start(x: Any, axis: Any) -> int:
    """The axis of the array API's functions, which is optional only for vectors."""
    rank = type_of(as_operand(x)).rank
    if axis is None and rank != 1:
        raise ValueError("axis is required: the array has more than one axis")
    return normal_axis(0 if axis is None else axis, rank)


@public(np.cumulative_sum)
def cumulative_sum(
    x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial=False
) -> Any:
    """As `cumsum`; with `include_initial` a zero stands before them."""
    found, axis = cumsum(x, _from_start(x, axis), dtype, out), _from_start(x, axis)
    return _led(found, 0, axis) if include_initial else found


@public(np.cumulative_prod)
def cumulative_prod(
    x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial=False
) -> Any:
    """As `cumprod`; with `include_initial` a one stands before them."""
    found, axis = cumprod(x, _from_start(x, axis), dtype, out), _from_start(x, axis)
    return _led(found, 1, axis) if include_initial else found


def _led(x: Any, value: int, axis: int) -> Any:
    """`value` in front of `x` along `axis`."""
    shape = type_of(x).shape
    first = PUBLIC["broadcast_to"](
        type_of(x).dtype.type(value), (*shape[:axis], 1, *shape[axis + 1 :])
    )
    return concatenate((first, x), axis)


sample(lambda x: np.cumsum(x) * x.cumsum(), (5,))
sample(lambda x: (np.cumsum(x, axis=0), np.cumsum(x, axis=-1) ** 2, np.cumsum(x)), (3, 4))
sample(lambda x: np.cumsum(x, axis=1) ** 2, (2, 3, 4))
sample(lambda x: (np.cumsum(x), np.cumprod(x, axis=0)), (0, 3))
sample(lambda x: np.cumsum(x) + np.cumprod(x), ())
sample(lambda x: (np.cumsum(x), np.cumprod(x, 0), np.prod(x)), (3, 2), kinds="iub", smooth=False)
sample(lambda x: np.cumprod(x), (5,))
sample(lambda x: (x.cumprod(axis=0), np.cumprod(x, axis=1)), (3, 4))
sample(lambda x: np.cumprod(np.where(x > 0, x, 0), axis=1), (2, 3, 4))
sample(lambda x: np.prod(x), (5,))
sample(lambda x: (x.prod(axis=0), np.prod(x, axis=-1, keepdims=True)), (3, 4))
sample(lambda x: np.prod(x, axis=(0, 2)) * np.prod(x), (2, 3, 2))
sample(lambda x: np.prod(np.where(x > -1, x, 0), axis=0), (4, 5))
sample(lambda x: np.prod(x * np.array([1.0, 0.0, 1.0])), (3,))
sample(lambda x: np.prod(x * np.array([0.0, 0.0, 1.0, 1.0])), (4,))
sample(lambda x: np.prod(x, axis=0, initial=2.0, where=x > 0), (3, 4))
sample(lambda x: (np.prod(x), np.prod(x, axis=1)), (3, 0))
sample(lambda x: np.multiply.reduce(x), (3, 4))
sample(lambda x: np.cumulative_sum(x, include_initial=True), (4,))
sample(lambda x: np.cumulative_prod(x, axis=1, include_initial=True), (2, 3))
