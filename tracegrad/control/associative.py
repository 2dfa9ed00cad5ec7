"""The scan of an associative operation: every result combines all elements up to its own.

associative_scan(fn, x)      ->      y[0] = x[0];  y[k] = fn(y[k-1], x[k])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracegrad.control.api import scan
from tracegrad.control.body import values_of
from tracegrad.control.plain import check_callable
from tracegrad.errors import ShapeError, TraceError
from tracegrad.ir.dims import in_figures, knows, must_be_same, required
from tracegrad.ops.op import PUBLIC, as_operand, type_of
from tracegrad.tree import unflatten


def associative_scan(
    fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0
) -> Any:
    """All partial combinations of `elems` along `axis`: `fn(...fn(fn(x0, x1), x2)..., xk)` at k.

    `fn(a, b)` takes and returns pytrees like `elems`, slices of these with the axis kept (of any
    extent, as in JAX), and is associative. `reverse` combines from the end. One loop in compiled
    code, of any length, differentiable. Raises ShapeError for scalars and for lengths that differ.

    >>> import numpy as np, tracegrad as tg
    >>> tg.associative_scan(np.maximum, np.array([1.0, 3.0, 2.0]))
    array([1., 3., 3.])
    """
    check_callable("associative_scan", fn)
    leaves, tree = values_of(elems)
    arrays = [as_operand(leaf) for leaf in leaves]
    axes = [_normal(axis, array) for array in arrays]
    extents = [type_of(x).shape[at] for x, at in zip(arrays, axes, strict=True)]
    if not arrays:
        raise TypeError("associative_scan: elems holds no arrays")
    for extent in extents[1:]:
        if not must_be_same(extents[0], extent):
            sizes = f"{in_figures(extents[0])} and {in_figures(extent)}"
            raise ShapeError(f"associative_scan: the arrays have different lengths, {sizes}")
    if knows(2, "<=", extents[0]) is False:
        return elems
    required(1, "<=", extents[0])
    moved = [PUBLIC["moveaxis"](x, at, 0) for x, at in zip(arrays, axes, strict=True)]

    def kept(items: Any) -> Any:
        """Items as slices of the arrays."""
        spread = [PUBLIC["expand_dims"](x, at) for x, at in zip(items, axes, strict=True)]
        return unflatten(tree, iter(spread))

    def step(before: Any, items: Any) -> tuple[Any, Any]:
        found, kind = values_of(fn(kept(before), kept(items)))
        if kind != tree:
            raise TraceError("associative_scan: fn returns another structure than it was given")
        new = tuple(PUBLIC["squeeze"](x, at) for x, at in zip(found, axes, strict=True))
        return new, new

    place, rest = (-1, slice(None, -1)) if reverse else (0, slice(1, None))
    first = tuple(PUBLIC["getitem"](x, place) for x in moved)
    items = tuple(PUBLIC["getitem"](x, rest) for x in moved)
    _, found = scan(step, first, items, reverse=reverse)
    whole = []
    for x, y, at in zip(first, found, axes, strict=True):
        pieces = [PUBLIC["expand_dims"](x, 0), y]
        joined = PUBLIC["concatenate"](pieces[::-1] if reverse else pieces)
        whole.append(PUBLIC["moveaxis"](joined, 0, at))
    return unflatten(tree, iter(whole))


def _normal(axis: int, array: Any) -> int:
    rank = type_of(array).rank
    if not -rank <= axis < rank:
        raise ShapeError(f"associative_scan: axis {axis} of {type_of(array)} does not exist")
    return axis % rank
