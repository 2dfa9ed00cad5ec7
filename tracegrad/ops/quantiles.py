"""Median, quantiles and percentiles: compositions of a sort and an interpolation.

    median(x)        is   (s[(n - 1) // 2] + s[n // 2]) / 2           with s = sort(x)
    quantile(x, q)   is   s[j] + g * (s[j + 1] - s[j])                with j + g = v(q, n)

Of `s` only the elements that are wanted are found, unless they are many, or their places depend on
how many NaN a row has.

`v` and what becomes of `g` are those of the nine definitions of Hyndman & Fan 1996 ("Sample
quantiles in statistical packages", The American Statistician 50) and NumPy's four further ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracegrad.errors import UnsupportedError
from tracegrad.ir.dims import knows, product, required
from tracegrad.ops.axes import expand_dims, moveaxis, squeeze
from tracegrad.ops.bounds import WITHIN
from tracegrad.ops.constant import astype
from tracegrad.ops.gathering import GATHER
from tracegrad.ops.op import PUBLIC, Bindable, as_operand, bind, public, sample, type_of
from tracegrad.ops.reduction import broadcast_to, keep, no_out, reduced_axes, size_value, sum_
from tracegrad.ops.rounding import FLOOR
from tracegrad.ops.selection import clip, where
from tracegrad.ops.shape import reshape, transpose
from tracegrad.ops.slicing import slices
from tracegrad.ops.sorting import chosen_last, selected_last, sorted_last

CONTINUOUS = {
    "interpolated_inverted_cdf": (0.0, 1.0),
    "hazen": (0.5, 0.5),
    "weibull": (0.0, 0.0),
    "linear": (1.0, 1.0),
    "median_unbiased": (1 / 3, 1 / 3),
    "normal_unbiased": (3 / 8, 3 / 8),
}
"""Methods that interpolate at `n*q + alpha + q*(1 - alpha - beta) - 1`: alpha and beta."""

Weigh = Callable[[Any, Any], Any]
HALVES: dict[str, tuple[bool, Weigh]] = {
    "averaged_inverted_cdf": (False, lambda j, g: where(g > 0, 1.0, 0.5)),
    "midpoint": (True, lambda j, g: where(g > 0, 0.5, 0.0)),
}
"""Methods that take an element or the middle between two: whether the place is `(n - 1)*q`, or
`n*q - 1`, and the weight of the upper one, given the lower one's place and what is left."""

STEPS: dict[str, tuple[float, bool, Weigh]] = {
    "inverted_cdf": (0.0, False, lambda j, g: g > 0),
    "closest_observation": (0.5, False, lambda j, g: (g > 0) | (j % 2 == 0)),
    "lower": (0.0, True, lambda j, g: g > 2),
    "higher": (0.0, True, lambda j, g: g > 0),
    "nearest": (0.0, True, lambda j, g: (g > 0.5) | ((g == 0.5) & (j % 2 == 1))),
}
"""Methods that take one of two elements: what is subtracted from the place, whether that is
`(n - 1)*q`, and whether the upper one is taken."""

SELECTED = 16
"""Quantiles up to which elements are looked for instead of all being sorted."""
Pick = Callable[[Any, Any], tuple[Any, Any]]
METHODS: tuple[Any, ...] = (*CONTINUOUS, *HALVES, *STEPS)


@public(np.median)
def median(
    a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False
) -> Any:
    """The middle of the sorted elements over `axis`, the mean of two of them; NaN if any is.

    The derivative goes to the elements in the middle.
    """
    del overwrite_input
    line, type, axes = _lines(a, axis, out)
    size = type_of(line).shape[-1]
    if _is_empty(size):
        return keep(_nan(line), type, axes, keepdims)
    places = [as_operand(size_value(at)) for at in ((size - 1) // 2, size // 2, size - 1)]
    found = selected_last(line, PUBLIC["stack"](places))
    low, high, last = (_at(found, at) for at in range(3))
    return keep(_unless_nan(last, _middle(low, high)), type, axes, keepdims)


@public(np.nanmedian)
def nanmedian(
    a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False
) -> Any:
    """As `median`, of the elements that are not NaN; NaN where there are none."""
    del overwrite_input
    line, type, axes = _lines(a, axis, out)
    if _is_empty(type_of(line).shape[-1]):
        return keep(_nan(line), type, axes, keepdims)
    ordered = sorted_last(line)
    count = _numbers(ordered)
    low = _at_each(ordered, PUBLIC["maximum"](count - 1, 0) // 2)
    high = _at_each(ordered, PUBLIC["minimum"](count // 2, size_value(_size(ordered) - 1)))
    return keep(_middle(low, high), type, axes, keepdims)


@public(np.quantile)
def quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    """The `q`-th quantiles over `axis`, of several `q` along leading axes; NaN if any element is.

    All of NumPy's methods are known, weights are not. Raises ValueError for a `q` outside [0, 1];
    for a computed one the result is NaN there.
    """
    del overwrite_input
    _unweighted(weights)
    line, type, axes = _lines(a, axis, out)
    if _is_empty(type_of(line).shape[-1]):
        raise ValueError(f"there is no quantile of nothing: the array is {type.in_figures()}")
    asked = product(type_of(as_operand(q)).shape)
    few = isinstance(asked, int) and asked <= SELECTED
    found, last = (_selected if few else _ordered)(line, q, method)
    return _kept(_unless_nan(last, found), q, type, axes, keepdims)


def _ordered(line: Any, q: Any, method: str) -> tuple[Any, Any]:
    """The quantiles of rows, and the largest element of each."""
    ordered, size = sorted_last(line), _size(line)
    pick = _picking(ordered, type_of(as_operand(q)).rank)
    found = _quantiles(pick, type_of(line), q, size_value(size), method)
    return found, _at(ordered, size - 1)


def _selected(line: Any, q: Any, method: str) -> tuple[Any, Any]:
    """The same for few of them, without sorting all."""
    places, largest, size = type_of(as_operand(q)).shape, [], _size(line)

    def pick(low: Any, high: Any) -> tuple[Any, Any]:
        end = PUBLIC["stack"]([as_operand(size_value(size - 1))])
        flat = [reshape(at, (product(places),)) for at in (low, high)]
        found = moveaxis(selected_last(line, PUBLIC["concatenate"]([*flat, end])), -1, 0)
        count, rows = product(places), type_of(found).shape[1:]
        largest.append(reshape(slices(found, {0: (2 * count, 1, 1)}), rows))
        first, second = (slices(found, {0: (at, count, 1)}) for at in (0, count))
        return reshape(first, places + rows), reshape(second, places + rows)

    found = _quantiles(pick, type_of(line), q, size_value(size), method)
    return found, largest[0]


@public(np.nanquantile)
def nanquantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    """As `quantile`, of the elements that are not NaN; NaN where there are none."""
    del overwrite_input
    _unweighted(weights)
    line, type, axes = _lines(a, axis, out)
    if _is_empty(type_of(line).shape[-1]):
        raise ValueError(f"there is no quantile of nothing: the array is {type.in_figures()}")
    ordered = sorted_last(line)
    pick = _picking(ordered, type_of(as_operand(q)).rank)
    found = _quantiles(pick, type_of(line), q, _numbers(ordered), method)
    return _kept(found, q, type, axes, keepdims)


@public(np.percentile)
def percentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    """`quantile(a, q / 100)`."""
    q = _parts(q)
    return quantile(a, q, axis, out, overwrite_input, method, keepdims, weights=weights)


@public(np.nanpercentile)
def nanpercentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    """`nanquantile(a, q / 100)`."""
    q = _parts(q)
    return nanquantile(a, q, axis, out, overwrite_input, method, keepdims, weights=weights)


def _parts(q: Any) -> Any:
    q = as_operand(q)
    if not _is_between(q, 100):
        raise ValueError("Percentiles must be in the range [0, 100]")
    return q / 100


def _is_between(q: Any, most: int) -> bool:
    """Whether the elements are in [0, `most`], as far as they are known."""
    given = q.known() if isinstance(q, Bindable) else q
    return given is None or bool(np.all((np.asarray(given) >= 0) & (np.asarray(given) <= most)))


def _unweighted(weights: Any) -> None:
    if weights is not None:
        raise UnsupportedError("quantiles with weights are not supported")


def _lines(a: Any, axis: Any, out: Any) -> tuple[Any, Any, tuple[int, ...]]:
    """The elements to sort along a last axis, the type of `a`, and the axes."""
    no_out(out)
    a = as_operand(a)
    type = type_of(a)
    axes = reduced_axes(axis, type.rank)
    kept = tuple(at for at in range(type.rank) if at not in axes)
    shape = (*(type.shape[at] for at in kept), product(tuple(type.shape[at] for at in axes)))
    return reshape(transpose(a, kept + axes), shape), type, axes


def _kept(found: Any, q: Any, type: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    """The reduced axes as 1, behind the axes of `q`."""
    if not keepdims:
        return found
    rank = type_of(as_operand(q)).rank
    return expand_dims(found, tuple(at + rank for at in axes))


def _is_empty(size: Any) -> bool:
    """Whether there is nothing; where data decides, compiled code raises ValueError if so."""
    return bool(knows(size, "==", 0)) or not required(1, "<=", size)


def _size(line: Any) -> Any:
    return type_of(line).shape[-1]


def _nan(line: Any) -> Any:
    type = type_of(line)
    dtype = type.dtype if type.is_float else np.dtype(np.float64)
    return broadcast_to(dtype.type(np.nan), type.shape[:-1])


def _unless_nan(last: Any, found: Any) -> Any:
    """`found`, NaN where `last`, the largest element, is."""
    return where(last == last, found, last) if type_of(last).is_float else found


def _numbers(ordered: Any) -> Any:
    """How many elements of each row are numbers."""
    return sum_(ordered == ordered, -1)


def _middle(low: Any, high: Any) -> Any:
    """The mean of two: of integers and booleans as float64, in which their sum has room."""
    if not type_of(low).is_float:
        low, high = astype(low, np.float64), astype(high, np.float64)
    return (low + high) / 2


def _at(ordered: Any, at: Any) -> Any:
    """The column `at`, a size."""
    last = type_of(ordered).rank - 1
    return squeeze(slices(ordered, {last: (at, 1, 1)}), last)


def _at_each(ordered: Any, index: Any) -> Any:
    """From each row the element at its `index`, which is in bounds."""
    return squeeze(chosen_last(ordered, expand_dims(index, -1)), -1)


def _quantiles(pick: Pick, type: Any, q: Any, count: Any, method: str) -> Any:
    """Those of rows of which `count` elements are numbers, q's axes first; `type` is that of the
    rows, and `pick` takes two elements of each, by their places in ascending order."""
    q = as_operand(q)
    if not _is_between(q, 1):
        raise ValueError("Quantiles must be in the range [0, 1]")
    if not type_of(q).is_float:
        q, method = astype(q, np.float64), "lower" if method == "linear" else method
    rank, more = type_of(q).rank, type_of(count).rank
    wanted = expand_dims(q, tuple(range(rank, rank + more))) if more and rank else q
    place, weigh = _place(wanted, count, method)
    low = FLOOR(place)
    weight = weigh(low, place - low)
    top = PUBLIC["maximum"](count - 1, 0)
    index = astype(low, np.int64)
    first, second = pick(*(clip(at, 0, top) for at in (index, index + 1)))
    spare = type_of(first).rank - type_of(weight).rank
    weight = reshape(weight, type_of(weight).shape + (1,) * spare)
    if method in STEPS:
        found = where(weight, second, first)
    else:
        weak = type_of(q).weak and type.is_float
        found = _between(first, second, astype(weight, type.dtype) if weak else weight)
    return _where_chances(q, found) if isinstance(q, Bindable) else found


def _where_chances(q: Any, found: Any) -> Any:
    """`found`, NaN where a computed `q` is not in [0, 1]."""
    more = type_of(found).rank - type_of(q).rank
    good = reshape((q >= 0) & (q <= 1), type_of(q).shape + (1,) * more)
    return where(good, found, np.nan)


def _place(q: Any, count: Any, method: str) -> tuple[Any, Weigh]:
    """The place of the quantile among the elements, counted from 0, and what its rest weighs."""
    if not type_of(count).weak:
        count = astype(count, type_of(q).dtype)
    if method in CONTINUOUS:
        alpha, beta = CONTINUOUS[method]
        if method == "linear":
            return (count - 1) * q, lambda j, g: g
        return count * q + (alpha + q * (1 - alpha - beta)) - 1, lambda j, g: g
    if method not in METHODS:
        raise ValueError(f"{method!r} is not a valid method: use one of {', '.join(METHODS)}")
    less, (inner, weigh) = (0.0, HALVES[method]) if method in HALVES else _step(method)
    return ((count - 1) * q if inner else count * q - 1 - less), weigh


def _step(method: str) -> tuple[float, tuple[bool, Weigh]]:
    less, inner, weigh = STEPS[method]
    return less, (inner, weigh)


def _picking(ordered: Any, rank: int) -> Pick:
    """From sorted rows, for `q` of that rank."""
    return lambda low, high: (_picked(ordered, low, rank), _picked(ordered, high, rank))


def _picked(ordered: Any, index: Any, rank: int) -> Any:
    """The elements at `index`: one for all rows with q's axes only, or one for each row."""
    rows = type_of(ordered).rank - 1
    if type_of(index).rank == rank:
        index = bind(WITHIN, index, size=_size(ordered), axis=rows)
        found = bind(GATHER, ordered, index, axes=(rows,))
        return moveaxis(found, tuple(range(rows, rows + rank)), tuple(range(rank)))
    if rank == 0:
        return _at_each(ordered, index)
    shape = type_of(index).shape
    flat = reshape(index, (product(shape[:rank]), *shape[rank:]))
    found = chosen_last(ordered, moveaxis(flat, 0, -1))
    return reshape(moveaxis(found, -1, 0), shape)


def _between(low: Any, high: Any, weight: Any) -> Any:
    """`low` for weight 0, `high` for 1, and never beyond them."""
    step = high - low
    return where(weight < 0.5, low + step * weight, high - step * (1 - weight))


sample(lambda x: (np.median(x), np.median(x, axis=0), np.median(x, axis=1, keepdims=True)), (4, 5))
sample(lambda x: np.median(x, axis=(0, 2)) * np.median(x), (2, 3, 4))
sample(
    lambda x: (np.median(x, axis=0), np.quantile(x, 0.3, axis=1)), (3, 4), kinds="iu", smooth=False
)
sample(
    lambda x: (np.quantile(x, 1), np.quantile(x, [0.3], method="nearest")),
    (5,),
    kinds="fi",
    smooth=False,
)
sample(lambda x: np.quantile(x, 0.3) * np.percentile(x, [20, 70], axis=0), (5, 2))
sample(lambda x: np.quantile(x, np.array([[0.1, 0.5], [0.9, 1.0]]), axis=-1, keepdims=True), (2, 6))
for chosen in METHODS:
    sample(
        lambda x, chosen=chosen: np.quantile(x, [0.0, 0.2, 0.25, 0.5, 0.7, 1.0], method=chosen),
        (9,),
    )
    sample(lambda x, chosen=chosen: np.nanquantile(x, [0.4, 0.5], axis=0, method=chosen), (6, 2))
sample(lambda x: np.quantile(x[1:], np.abs(x[0]) / 3), (7,))


def _holey(x: Any) -> Any:
    return np.where(x > 1.2, np.nan, x)


sample(lambda x: (np.nanmedian(_holey(x)), np.nanmedian(_holey(x), axis=1)), (3, 5))
sample(lambda x: np.nanpercentile(_holey(x), [30, 60], axis=1, keepdims=True), (3, 5))
sample(lambda x: (np.median(_holey(x)), np.quantile(_holey(x), 0.2, axis=0)), (3, 5), smooth=False)
