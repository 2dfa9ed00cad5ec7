"""How often numbers fall where: bincount and histogram.

np.bincount(x, w)      ->   zeros(max(x) + 1), w added at x
np.histogram(x, 3)     ->   edges at equal distances from min(x) to max(x); x < edges -> counts
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.errors import UnsupportedError
from tracegrad.ir.dims import Size
from tracegrad.ops.comparison import EQUAL, LOGICAL_AND
from tracegrad.ops.constant import astype
from tracegrad.ops.gathering import SCATTER_ADD
from tracegrad.ops.keys import operand_of
from tracegrad.ops.op import PUBLIC, as_operand, bind, bound, public, sample, type_of
from tracegrad.ops.reduction import broadcast_to, size_value
from tracegrad.ops.selection import where
from tracegrad.ops.shape import reshape


def _added(values: Any, places: Any, size: Size) -> Any:
    """Zeros with each value added at its place."""
    return bind(SCATTER_ADD, values, places, axes=(0,), shape=(size,))


@public(np.bincount)
def bincount(x: Any, weights: Any = None, minlength: int = 0) -> Any:
    """How often each of 0, 1, ... occurs among the integers `x`, or the sum of their weights.

    Its size is `max(x) + 1`, or `minlength` if that is more: data decides on it.
    """
    x = operand_of(x)
    if type_of(x).rank != 1 or type_of(x).dtype.kind not in "iub":
        raise TypeError(f"np.bincount counts in a vector of integers, not in {type_of(x)}")
    x = astype(x, np.int64)
    largest = PUBLIC["max"](x, initial=-1)
    _, size = bound(PUBLIC["maximum"](largest + 1, minlength))
    one = np.int64(1) if weights is None else as_operand(weights)
    one = one if weights is None else astype(one, np.float64)
    return _added(broadcast_to(one, type_of(x).shape), x, size)


@public(np.histogram)
def histogram(
    a: Any, bins: Any = 10, range: Any = None, density: bool | None = None, weights: Any = None
) -> tuple[Any, Any]:
    """`(counts, edges)` of the numbers in `a`, or the sums of their weights, between edges: as many
    bins of one width, or those between the edges given. Counts have no derivative, weights do.
    """
    a = reshape(as_operand(a), -1)
    if isinstance(bins, str):
        raise UnsupportedError(f"np.histogram: bins={bins!r}; give their number, or their edges")
    edges = as_operand(bins) if type_of(as_operand(bins)).rank else _edges(a, int(bins), range)
    count = type_of(edges).shape[0] - 1
    places = PUBLIC["searchsorted"](edges, a, side="right") - 1
    places = where(EQUAL(a, PUBLIC["getitem"](edges, -1)), size_value(count) - 1, places)
    inside = LOGICAL_AND(places >= 0, places < size_value(count))
    one = np.int64(1) if weights is None else reshape(as_operand(weights), -1)
    amounts = broadcast_to(where(inside, one, type_of(one).dtype.type(0)), type_of(a).shape)
    counts = _added(amounts, where(inside, places, 0), count)
    if density:
        return counts / PUBLIC["diff"](edges) / PUBLIC["sum"](counts), edges
    return counts, edges


def _edges(a: Any, bins: int, range: Any) -> Any:
    if bins < 1:
        raise ValueError("`bins` must be positive, when an integer")
    low, high = (PUBLIC["min"](a), PUBLIC["max"](a)) if range is None else range
    low, high = as_operand(low), as_operand(high)
    half = where(EQUAL(low, high), 0.5, 0.0)
    return PUBLIC["linspace"](low - half, high + half, bins + 1)


def _binned(x: Any) -> Any:
    return np.trunc(np.abs(x)).astype(int)


sample(
    lambda x, w: np.bincount(_binned(x), w * w, minlength=5), (7,), (7,), smooth=False, ragged=True
)
sample(lambda x: np.bincount(_binned(x), minlength=2), (6,), smooth=False, ragged=True)
sample(lambda x, w: np.histogram(x, 4, weights=w)[0], (9,), (9,), smooth=False)
sample(lambda x: np.histogram(x, [-1.0, 0.0, 0.5, 2.0], density=True), (9,), smooth=False)
sample(lambda x: np.histogram(x, 3, range=(-1, 1))[0], (2, 5), smooth=False)
