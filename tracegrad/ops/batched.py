"""What the batch rules of ops are made of: operands with a leading axis over items, and without.

    y = exp(x): f64[m] for each item of x: f64[b, m]        ->      y = exp(x): f64[b, m]
    y = x + s, one s: f64[] per item, s: f64[b]             ->      y = x + s[:, None]

A rule gets the operands with a flag each: where it holds the operand is *mapped*, its items lie
along a leading axis; the others are shared by all items. Attributes are those of one item.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracegrad.ir.dims import Size
from tracegrad.ops.op import PUBLIC, bind
from tracegrad.ops.shape import RESHAPE, Mapped

__all__ = ["Mapped", "count_of", "everywhere", "item_rank", "leading", "moved", "regrouped"]


def count_of(mapped: Sequence[bool], inputs: Sequence[Any]) -> Size:
    """How many items there are."""
    return next(x.type.shape[0] for x, here in zip(inputs, mapped, strict=True) if here)


def item_rank(x: Any, mapped: bool) -> int:
    return x.type.rank - mapped


def leading(x: Any, mapped: bool, rank: int) -> Any:
    """An operand that broadcasts against items of `rank`: unit axes go behind the leading one."""
    missing = rank - item_rank(x, mapped)
    if not mapped or not missing:
        return x
    count, *rest = x.type.shape
    return bind(RESHAPE, x, shape=(count, *(1,) * missing, *rest))


def everywhere(mapped: Sequence[bool], inputs: Sequence[Any]) -> list[Any]:
    """All operands mapped: shared ones are repeated for every item."""
    count = count_of(mapped, inputs)
    return [
        x if here else PUBLIC["broadcast_to"](x, (count, *x.type.shape))
        for x, here in zip(inputs, mapped, strict=True)
    ]


def moved(x: Any, source: int, to: int) -> Any:
    """`x` with one axis in another place."""
    return x if source == to else PUBLIC["moveaxis"](x, source, to)


def regrouped(x: Any, shape: Sequence[Size]) -> Any:
    """The same elements, axes merged or split."""
    return x if x.type.shape == tuple(shape) else bind(RESHAPE, x, shape=tuple(shape))
