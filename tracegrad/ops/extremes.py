"""Largest and smallest elements, and the tests `any` and `all`.

    y = max(x, axis)  =>  t_y = the mean of t_x over the elements that attain y

so that ties share a gradient evenly (design, section 3). NaN beats every number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracegrad.errors import ShapeError
from tracegrad.ir.dims import product, required
from tracegrad.ir.op import Array
from tracegrad.ir.types import ArrayType
from tracegrad.ops.constant import astype
from tracegrad.ops.op import PUBLIC, as_operand, bind, public, register, sample, type_of
from tracegrad.ops.reduction import (
    SUM,
    Axes,
    Reduction,
    no_out,
    only_where,
    reduce,
    reduced_axes,
    spread,
    sum_,
)


def lowest(dtype: np.dtype) -> Any:
    """The value that no other of this dtype is below."""
    match dtype.kind:
        case "f":
            return -np.inf
        case "b":
            return False
    return int(np.iinfo(dtype).min)


def highest(dtype: np.dtype) -> Any:
    match dtype.kind:
        case "f":
            return np.inf
        case "b":
            return True
    return int(np.iinfo(dtype).max)


class Extreme(Reduction):
    """The largest or the smallest element over `axis`."""

    def __init__(self, name: str, combine: str, limit: Callable[[np.dtype], Any]) -> None:
        self.name = self.short = name
        self.combine, self.limit = combine, limit

    def identity(self, dtype: np.dtype) -> Any:
        return self.limit(dtype)

    def reference(self, x: np.ndarray, *, axis: Axes) -> Any:
        find: Callable[..., Any] = np.max if self.name == "max" else np.min
        return find(x, axis=axis, initial=None if x.size else self.identity(x.dtype))

    def jvp(self, tangents: tuple[Array | None, ...], out: Array, x: Array, *, axis: Axes) -> Array:
        """`t_y = sum(t_x * [x == y]) / sum([x == y])`."""
        attained = astype(x == spread(out, x.type, axis), x.type.dtype)
        return bind(SUM, tangents[0] * attained, axis=axis) / bind(SUM, attained, axis=axis)


class Quantifier(Reduction):
    """Whether any, or all, of the booleans over `axis` are true."""

    def __init__(self, name: str, combine: str, empty: bool) -> None:
        self.name = self.short = name
        self.combine, self.empty = combine, empty

    def identity(self, dtype: np.dtype) -> Any:
        return self.empty


MAX = register(Extreme("max", "maximum", lowest))
MIN = register(Extreme("min", "minimum", highest))
ANY = register(Quantifier("any", "logical_or", False))
ALL = register(Quantifier("all", "logical_and", True))


def _extreme(op: Extreme, word: str, binary: str, options: tuple[Any, ...]) -> Any:
    a, axis, out, keepdims, initial, where = options
    no_out(out)
    a = as_operand(a)
    type = type_of(a)
    if where is not True and initial is None:
        raise ValueError(
            f"reduction operation '{word}' does not have an identity, so to use a where mask one "
            "has to specify 'initial'"
        )
    if initial is None:
        _not_empty(type, reduced_axes(axis, type.rank), f"reduction operation {word}")
    found = reduce(op, only_where(a, where, op.identity(type.dtype)), axis, keepdims)
    return found if initial is None else PUBLIC[binary](found, astype(initial, type.dtype))


def _not_empty(type: ArrayType, axes: Axes, what: str) -> None:
    """Nothing has no largest element."""
    if axes and not required(product(tuple(type.shape[axis] for axis in axes)), "!=", 0):
        raise ShapeError(
            f"zero-size array to {what} which has no identity: the array is {type.in_figures()}"
        )


@public(np.max, np.amax, name="max")
def max_(
    a: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """The largest element over `axis`; NaN if there is one. Ties share the gradient evenly.

    Of 0.0 and -0.0 either is found, as in NumPy, where it depends on how many elements there are.
    """
    return _extreme(MAX, "maximum", "maximum", (a, axis, out, keepdims, initial, where))


@public(np.min, np.amin, name="min")
def min_(
    a: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """The smallest element over `axis`; NaN if there is one. Ties share the gradient evenly.

    Of 0.0 and -0.0 either is found, as in NumPy, where it depends on how many elements there are.
    """
    return _extreme(MIN, "minimum", "minimum", (a, axis, out, keepdims, initial, where))


PUBLIC["amax"], PUBLIC["amin"] = max_, min_


@public(np.any, name="any")
def any_(
    a: Any, axis: Any = None, out: Any = None, keepdims: bool = False, *, where: Any = True
) -> Any:
    """Whether any element over `axis` is not zero."""
    no_out(out)
    return reduce(ANY, only_where(astype(a, bool), where, False), axis, keepdims)


@public(np.all, name="all")
def all_(
    a: Any, axis: Any = None, out: Any = None, keepdims: bool = False, *, where: Any = True
) -> Any:
    """Whether all elements over `axis` are not zero."""
    no_out(out)
    return reduce(ALL, only_where(astype(a, bool), where, True), axis, keepdims)


@public(np.count_nonzero)
def count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """How many elements over `axis` are not zero."""
    return sum_(astype(a, bool), axis, keepdims=keepdims)


sample(lambda x: np.max(x), (3, 4))
sample(lambda x: x.max(axis=0) - x.min(axis=-1, keepdims=True), (3, 4))
sample(lambda x: np.min(x, axis=(0, 2)), (2, 3, 4))
sample(lambda x: np.amax(x * x, axis=1), (2, 3, 4))
sample(lambda x: np.amin(x), (1,))
sample(lambda x: np.max(x, axis=1), (0, 3))
sample(lambda x: np.max(x), ())
sample(lambda x: np.max(x, initial=0.3, where=x > 0), (3, 4))
sample(lambda x: np.maximum.reduce(x) + np.minimum.reduce(x, axis=1)[0], (3, 4))
sample(lambda x: (np.max(x, 0), np.min(x)), (3, 4), kinds="iub", smooth=False)
sample(
    lambda x: (np.any(x > 1, axis=0), np.all(x > -1), np.any(x), x.all(axis=1)),
    (3, 4),
    smooth=False,
)
sample(lambda x: (np.any(x, keepdims=True), np.all(x)), (0,), smooth=False)
sample(lambda x: (np.any(x, 0), np.all(x, (0, 1))), (3, 4), kinds="iub", smooth=False)
sample(lambda x: np.count_nonzero(x > 0, axis=1), (3, 4), smooth=False)
