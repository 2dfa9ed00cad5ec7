"""The different values of an array, in order: a sort, then what differs from its predecessor.

    y = unique(x)      =>      s = sort(x);  y = s[(i == 0) | (s != roll(s, 1))]

The gradient of each value goes to the first of the elements that have it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.errors import UnsupportedError
from tracegrad.ops.axes import ravel
from tracegrad.ops.constant import ARANGE
from tracegrad.ops.cumulative import cumsum
from tracegrad.ops.gathering import GATHER, SCATTER_ADD, SCATTER_SET
from tracegrad.ops.nonzero import flatnonzero
from tracegrad.ops.op import as_operand, bind, public, sample, type_of
from tracegrad.ops.rearrange import roll
from tracegrad.ops.reduction import broadcast_to, strong
from tracegrad.ops.shape import reshape
from tracegrad.ops.sorting import argsort


@public(np.unique)
def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: Any = None,
    *,
    equal_nan: bool = True,
    sorted: bool = True,
) -> Any:
    """The different elements of the flattened `ar` in ascending order, as many as there are.

    Beside them, if asked for, int64: where each is first found in the flattened array, which of
    them each element is (of the shape of `ar`), and how often each occurs. In a traced function
    their number is a new size, which is known when the compiled code runs.

    >>> import numpy as np, tracegrad as tg
    >>> tg.trace(np.unique)(np.array([3.0, 1.0, 3.0]))
    array([1., 3.])
    """
    del sorted
    a = strong(as_operand(ar))
    if axis is not None and type_of(a).rank > 1:
        raise UnsupportedError("np.unique with axis=: rows cannot be sorted; use np.lexsort")
    flat = ravel(a)
    (length,) = type_of(flat).shape
    order = argsort(flat)
    values = bind(GATHER, flat, order, axes=(0,))
    new = (bind(ARANGE, size=length) == 0) | _differs(values, roll(values, 1), equal_nan)
    places = flatnonzero(new)
    found = [bind(GATHER, values, places, axes=(0,))]
    if return_index:
        found.append(bind(GATHER, order, places, axes=(0,)))
    number = cumsum(new) - 1
    if return_inverse:
        zeros = broadcast_to(np.int64(0), (length,))
        inverse = bind(SCATTER_SET, zeros, number, order, axes=(0,), unique=True)
        found.append(reshape(inverse, type_of(a).shape))
    if return_counts:
        ones = broadcast_to(np.int64(1), (length,))
        shape = type_of(places).shape
        found.append(bind(SCATTER_ADD, ones, number, axes=(0,), shape=shape))
    return found[0] if len(found) == 1 else tuple(found)


def _differs(values: Any, before: Any, equal_nan: bool) -> Any:
    found = values != before
    if equal_nan and type_of(values).is_float:
        found = found & ~((values != values) & (before != before))
    return found


sample(lambda x: np.unique(x) ** 2, (5,), smooth=False, ragged=True)
sample(lambda x: np.sum(np.unique(x) ** 2), (5,))
sample(lambda x: np.sum(np.unique(np.round(x)) ** 2), (3, 4), smooth=False)
sample(
    lambda x: np.unique(np.round(x), return_index=True, return_inverse=True, return_counts=True),
    (3, 4),
    smooth=False,
    ragged=True,
)
sample(lambda x: np.unique(x, return_counts=True), (0,), smooth=False, ragged=True)
