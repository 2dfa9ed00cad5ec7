"""`vmap`: a function of one item applied to a whole batch, as one loop over the items.

    vmap(f)(xs)      ->      for i in range(n): ys[i] = f(xs[i])

The body of the loop is the code of one item; nothing is allocated per item.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracegrad.autodiff.derived import name_of
from tracegrad.control.api import scan
from tracegrad.errors import ShapeError
from tracegrad.function import Function
from tracegrad.leaves import is_leaf
from tracegrad.ops.op import PUBLIC, type_of
from tracegrad.tree import flatten, unflatten

Axes = Any
"""An int, None (not mapped), or a tuple, list or dict of these that matches the arguments'
structure.
"""


def vmap(fun: Callable[..., Any], in_axes: Axes = 0, out_axes: Axes = 0) -> Function:
    """`fun` over a batch: `in_axes` says along which axis each argument holds the items, None for
    one that is shared.

    The results are stacked along `out_axes`. Raises ShapeError if the batches differ in length,
    ValueError if no argument is mapped.
    """

    def mapped(*args: Any) -> Any:
        axes = in_axes if isinstance(in_axes, tuple | list) else (in_axes,) * len(args)
        if len(axes) != len(args):
            raise ValueError(
                f"vmap of {name_of(fun)}: in_axes has {len(axes)} entries for {len(args)} arguments"
            )
        leaves, tree = _leaves(tuple(args))
        places = _spread(tuple(axes), tuple(args))
        stacks = [
            _front(x, axis) for x, axis in zip(leaves, places, strict=True) if axis is not None
        ]
        if not stacks:
            raise ValueError(f"vmap of {name_of(fun)}: every entry of in_axes is None")

        def item(_: Any, given: Sequence[Any]) -> tuple[Any, Any]:
            items = iter(given)
            values = [
                x if axis is None else next(items) for x, axis in zip(leaves, places, strict=True)
            ]
            return (), fun(*unflatten(tree, iter(values)))

        ys = scan(item, (), stacks)[1]
        results, out_tree = _leaves(ys)
        back = _spread(out_axes, ys)
        moved = [_back(y, axis) for y, axis in zip(results, back, strict=True)]
        return unflatten(out_tree, iter(moved))

    mapped.__wrapped__ = getattr(fun, "python", fun)  # type: ignore[attr-defined]
    return Function(mapped, f"{name_of(fun)}_vmap")


def _leaves(value: Any) -> tuple[list[Any], Any]:
    found: list[tuple[str, Any]] = []
    tree = flatten("", value, is_leaf, found)
    return [leaf for _, leaf in found], tree


def _spread(axes: Axes, value: Any) -> list[int | None]:
    """An axis for each leaf of `value`: a single one holds for everything below it."""
    if axes is None or isinstance(axes, int):
        return [axes] * len(_leaves(value)[0])
    if isinstance(axes, dict):
        return [axis for key in value for axis in _spread(axes[key], value[key])]
    return [axis for own, part in zip(axes, value, strict=True) for axis in _spread(own, part)]


def _front(x: Any, axis: int) -> Any:
    rank = type_of(x).rank
    if not -rank <= axis < rank:
        raise ShapeError(f"vmap: in_axes is {axis}, but the argument is {type_of(x)}")
    return x if axis % rank == 0 else PUBLIC["moveaxis"](x, axis, 0)


def _back(y: Any, axis: int | None) -> Any:
    if axis is None:
        raise ValueError("vmap: out_axes must be an axis; results are stacked")
    return y if axis == 0 else PUBLIC["moveaxis"](y, 0, axis)
