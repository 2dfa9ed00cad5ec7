"""The different values of an array, in order: a sort, then what differs from its predecessor.

    y = unique(x)      =>      s = sort(x);  y = s[(i == 0) | (s != roll(s, 1))]

With an axis it is the parts along it that are sorted, as words are, and compared. The gradient of
each value goes to the first of the elements that have it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.ir.dims import product
from tracegrad.ops.axes import moveaxis, ravel
from tracegrad.ops.constant import ARANGE
from tracegrad.ops.cumulative import cumsum
from tracegrad.ops.extremes import any_
from tracegrad.ops.gathering import GATHER, SCATTER_ADD, SCATTER_SET
from tracegrad.ops.nonzero import flatnonzero
from tracegrad.ops.op import as_operand, bind, public, sample, type_of
from tracegrad.ops.rearrange import roll
from tracegrad.ops.reduction import broadcast_to, strong
from tracegrad.ops.shape import normal_axis, reshape
from tracegrad.ops.sorting import ARGSORT_ROWS, argsort


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

    With an `axis` the different parts along it, in the order of their first elements that differ.
    Beside them, if asked for, int64: where each is first found in the flattened array (along the
    axis), which of them each element (part) is, and how often each occurs. In a traced function
    their number is a new size, which is known when the compiled code runs. Parts with NaN in them
    are all different, as in NumPy.

    >>> import numpy as np, tracegrad as tg
    >>> tg.trace(np.unique)(np.array([3.0, 1.0, 3.0]))
    array([1., 3.])
    >>> tg.trace(lambda x: np.unique(x, axis=0))(np.array([[2.0, 1.0], [0.0, 3.0], [2.0, 1.0]]))
    array([[0., 3.],
           [2., 1.]])
    """
    del sorted
    a = strong(as_operand(ar))
    if axis is not None:
        axis = normal_axis(axis, type_of(a).rank)
    if axis is None or type_of(a).rank == 1:
        items, shape = ravel(a), type_of(a).shape
        order = argsort(items)
        values = bind(GATHER, items, order, axes=(0,))
        differs = _differs(values, roll(values, 1), equal_nan)
    else:
        items = moveaxis(a, axis, 0)
        length, *rest = type_of(items).shape
        rows, shape = reshape(items, (length, product(tuple(rest)))), (length,)
        order = bind(ARGSORT_ROWS, rows)
        values = bind(GATHER, items, order, axes=(0,))
        within = tuple(range(1, type_of(items).rank))
        differs = any_(_differs(values, roll(values, 1, axis=0), False), axis=within)
    (length,) = type_of(order).shape
    new = (bind(ARANGE, size=length) == 0) | differs
    places = flatnonzero(new)
    different = bind(GATHER, values, places, axes=(0,))
    found = [different if axis is None else moveaxis(different, 0, axis)]
    if return_index:
        found.append(bind(GATHER, order, places, axes=(0,)))
    number = cumsum(new) - 1
    if return_inverse:
        zeros = broadcast_to(np.int64(0), (length,))
        inverse = bind(SCATTER_SET, zeros, number, order, axes=(0,), unique=True)
        found.append(reshape(inverse, shape))
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
sample(lambda x: np.sum(np.unique(x, axis=0) ** 2), (5, 3))
sample(lambda x: np.unique(x, axis=1) ** 2, (2, 4, 2), smooth=False, ragged=True)
sample(
    lambda x: np.unique(np.round(x), True, True, True, axis=-1),
    (2, 40),
    smooth=False,
    ragged=True,
)
sample(lambda x: np.unique(x > 0.5, axis=0), (9, 3), kinds="f", smooth=False, ragged=True)
sample(lambda x: np.unique(x, True, axis=0), (0, 3), smooth=False, ragged=True)
