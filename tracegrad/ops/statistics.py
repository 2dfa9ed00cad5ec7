"""Variance, standard deviation, averages, and reductions that leave NaN out: compositions.

    var(x)   is   sum((x - mean(x))**2) / (n - ddof)        (two passes: no cancellation)
    nanmean(x)   is   sum(x where it is a number) / count of numbers

The standard deviation and norms have the derivative 0 where they are 0, as in PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.errors import ShapeError, UnsupportedError
from tracegrad.ir.dims import knows, product
from tracegrad.ops.axes import atleast_2d, squeeze
from tracegrad.ops.comparison import EQUAL
from tracegrad.ops.constant import astype
from tracegrad.ops.cumulative import cumprod, cumsum, prod
from tracegrad.ops.diagonals import diagonal
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.extremes import all_, max_, min_
from tracegrad.ops.joining import concatenate
from tracegrad.ops.op import PUBLIC, as_operand, public, register, sample, type_of
from tracegrad.ops.reduction import broadcast_to, mean, no_out, reduced_axes, size_value, sum_
from tracegrad.ops.selection import clip, where
from tracegrad.ops.shape import normal_axis, reshape, transpose

where_ = where
ROOT = register(
    Elementwise(
        "root",
        np.sqrt,
        [lambda x, y: 0.5 / where_(EQUAL(y, 0), np.inf, y)],
        scalar="sqrt",
        text="np.sqrt",
        weight=4,
        domain=((0.1, 4.0),),
        kinds="f",
    )
)
"""The square root of a sum of squares: its derivative at 0 is taken to be 0."""


def _floating(a: Any, dtype: Any = None) -> Any:
    a = as_operand(a)
    kept = type_of(a).dtype if type_of(a).is_float else np.float64
    return astype(a, kept if dtype is None else dtype)


def _freedom(a: Any, axis: Any, ddof: Any, chosen: Any, keepdims: bool) -> Any:
    """How many elements are averaged less `ddof`, and not less than 0."""
    type = type_of(a)
    if chosen is not True:
        taken = broadcast_to(astype(chosen, bool), type.shape)
        number = sum_(taken, axis, keepdims=keepdims) - ddof
        return PUBLIC["maximum"](number, 0)
    count = product(tuple(type.shape[at] for at in reduced_axes(axis, type.rank)))
    if isinstance(ddof, int):
        known = knows(ddof, "<=", count)
        if known is not None:
            return size_value(count - ddof) if known else 0
    return PUBLIC["maximum"](size_value(count) - ddof, 0)


@public(np.var)
def var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: bool = False,
    *,
    where: Any = True,
    correction: Any = None,
) -> Any:
    """The mean squared distance from the mean over `axis`; divides by n - ddof."""
    no_out(out)
    a = _floating(a, dtype)
    centred = a - mean(a, axis, keepdims=True, where=where)
    total = sum_(centred * centred, axis, keepdims=keepdims, where=where)
    ddof = ddof if correction is None else correction
    return total / astype(_freedom(a, axis, ddof, where, keepdims), type_of(total).dtype)


@public(np.std)
def std(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: bool = False,
    *,
    where: Any = True,
    correction: Any = None,
) -> Any:
    """The square root of the variance; the derivative of 0 is 0."""
    return ROOT(var(a, axis, dtype, out, ddof, keepdims, where=where, correction=correction))


@public(np.average)
def average(
    a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False
) -> Any:
    """The mean over `axis` with `weights` (in the shape of `a`, or a vector along `axis`)."""
    a = as_operand(a)
    if weights is None:
        found = mean(a, axis, keepdims=keepdims)
        count = size_value(
            product(tuple(type_of(a).shape[at] for at in reduced_axes(axis, type_of(a).rank)))
        )
        scale = broadcast_to(astype(count, type_of(found).dtype), type_of(found).shape)
        return (found, scale) if returned else found
    weights = _weights(a, as_operand(weights), axis)
    scale = sum_(broadcast_to(weights, type_of(a).shape), axis, keepdims=keepdims)
    found = sum_(a * weights, axis, keepdims=keepdims) / scale
    return (found, astype(scale, type_of(found).dtype)) if returned else found


def _weights(a: Any, weights: Any, axis: Any) -> Any:
    rank = type_of(a).rank
    if type_of(weights).rank == rank:
        return weights
    if axis is None:
        raise TypeError("Axis must be specified when shapes of a and weights differ.")
    if type_of(weights).rank != 1 or not isinstance(axis, int):
        raise ShapeError(
            "Shape of weights must be consistent with shape of a along specified axis."
        )
    return reshape(weights, (-1, *(1 for _ in range(rank - 1 - normal_axis(axis, rank)))))


@public(np.ptp)
def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    """The largest element less the smallest one over `axis`."""
    no_out(out)
    return max_(a, axis, keepdims=keepdims) - min_(a, axis, keepdims=keepdims)


def _numbers(a: Any, instead: float) -> tuple[Any, Any]:
    """`a` with `instead` in the place of NaN, and where there was a number."""
    a = as_operand(a)
    if not type_of(a).is_float:
        return a, True
    good = a == a
    return where(good, a, type_of(a).dtype.type(instead)), good


@public(np.nansum)
def nansum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False):
    """The sum of the elements that are not NaN."""
    return sum_(_numbers(a, 0)[0], axis, dtype, out, keepdims)


@public(np.nanprod)
def nanprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False):
    """The product of the elements that are not NaN."""
    return prod(_numbers(a, 1)[0], axis, dtype, out, keepdims)


@public(np.nancumsum)
def nancumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Running sums that skip NaN."""
    return cumsum(_numbers(a, 0)[0], axis, dtype, out)


@public(np.nancumprod)
def nancumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Running products that skip NaN."""
    return cumprod(_numbers(a, 1)[0], axis, dtype, out)


@public(np.nanmean)
def nanmean(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False):
    """The mean of the elements that are not NaN; NaN where there are none."""
    numbers, good = _numbers(a, 0)
    return mean(numbers, axis, dtype, out, keepdims, where=good)


@public(np.nanvar)
def nanvar(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: bool = False,
) -> Any:
    """The variance of the elements that are not NaN; NaN where not more than `ddof` are."""
    numbers, good = _numbers(a, 0)
    found = var(numbers, axis, dtype, out, ddof, keepdims, where=good)
    enough = _freedom(numbers, axis, ddof, good, keepdims)
    return where(enough > 0, found, type_of(found).dtype.type(np.nan))


@public(np.nanstd)
def nanstd(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: bool = False,
) -> Any:
    """The standard deviation of the elements that are not NaN."""
    return ROOT(nanvar(a, axis, dtype, out, ddof, keepdims))


def _nan_extreme(find: Any, a: Any, axis: Any, out: Any, keepdims: bool, beaten: float) -> Any:
    numbers, good = _numbers(a, beaten)
    found = find(numbers, axis, out, keepdims)
    if good is True:
        return found
    return where(all_(~good, axis, keepdims=keepdims), type_of(found).dtype.type(np.nan), found)


@public(np.nanmax)
def nanmax(a: Any, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    """The largest element that is not NaN; NaN where there is none."""
    return _nan_extreme(max_, a, axis, out, keepdims, -np.inf)


@public(np.nanmin)
def nanmin(a: Any, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    """The smallest element that is not NaN; NaN where there is none."""
    return _nan_extreme(min_, a, axis, out, keepdims, np.inf)


@public(np.cov)
def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: Any = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Any:
    """The covariances of variables, one per row (`rowvar`), observed in the columns."""
    if fweights is not None or aweights is not None:
        raise UnsupportedError("cov: fweights and aweights are not supported")
    dtype = np.float64 if dtype is None else dtype
    data = _variables(m, rowvar, dtype)
    if y is not None:
        data = concatenate((data, _variables(y, rowvar, dtype)), 0)
    centred = data - mean(data, 1, keepdims=True)
    free = _freedom(data, 1, (0 if bias else 1) if ddof is None else ddof, True, False)
    products = PUBLIC["matmul"](centred, transpose(centred))
    return squeeze(products / astype(free, type_of(products).dtype))


def _variables(m: Any, rowvar: bool, dtype: Any) -> Any:
    m = astype(as_operand(m), dtype)
    if type_of(m).rank > 2:
        raise ShapeError("m has more than 2 dimensions")
    return transpose(m) if not rowvar and type_of(m).rank == 2 else atleast_2d(m)


@public(np.corrcoef)
def corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    """The correlations of variables: covariances divided by both standard deviations."""
    c = cov(x, y, rowvar, dtype=dtype)
    if type_of(c).rank == 0:
        return c / c
    deviation = PUBLIC["sqrt"](diagonal(c))
    return clip(c / reshape(deviation, (-1, 1)) / deviation, -1, 1)


sample(lambda x: np.var(x) + x.std(), (3, 4))
sample(lambda x: (np.var(x, axis=0, ddof=1), x.std(axis=-1, keepdims=True)), (3, 4))
sample(lambda x: np.std(x, axis=(0, 2), correction=1), (2, 3, 4))
sample(lambda x: np.var(x, axis=1, where=x > -1.5), (3, 4))
sample(lambda x: (np.var(x, 0), np.std(x)), (3, 4), kinds="iub", smooth=False)
sample(lambda x: np.std(x * 0 + 3.0) + np.var(x), (3,))
sample(lambda x: (np.average(x), np.average(x, axis=0, weights=[1.0, 2.0, 3.0])), (3, 4))
sample(lambda x, w: np.average(x, weights=w, returned=True), (3, 4), (3, 4), domain=(0.5, 2.0))
sample(lambda x, w: np.average(x, 1, w, keepdims=True), (3, 4), (4,), domain=(0.5, 2.0))
sample(lambda x: np.ptp(x) + np.ptp(x, axis=0), (3, 4))
sample(lambda x: np.nansum(np.where(x > 0, x, np.nan), axis=0), (3, 4))
sample(lambda x: np.nanprod(np.where(x > 0, x, np.nan), axis=1), (3, 4))
sample(lambda x: np.nanmean(np.where(x > -1, x, np.nan), axis=0), (5, 4))
sample(lambda x: (np.nanmax(x, 0), np.nanmin(np.where(x > -1, x, np.nan))), (3, 4))
sample(lambda x: np.nanvar(np.where(x > -1, x, np.nan)) + np.nanstd(x, axis=1, ddof=1), (3, 4))
sample(lambda x: (np.nancumsum(x), np.nancumprod(np.where(x > 0, x, np.nan))), (4,))
sample(lambda x: (np.nansum(x), np.nanmean(x, 0), np.nanmax(x)), (3, 4), kinds="iub", smooth=False)
sample(lambda x: np.cov(x), (3, 4))
sample(lambda x, y: np.cov(x, y, bias=True), (5,), (5,))
sample(lambda x: np.cov(x) * np.cov(x.reshape(-1, 1), rowvar=False, ddof=0), (5,))
sample(lambda x: np.corrcoef(x), (3, 6))
