"""Arrays put together from single elements: a sum of placed elements is a pack, and what is read
from a pack is the element itself.

    place(a, at 0) + place(b, at 2), shape 3    ->    pack(a, 0, b)        pack(a, 0, b)[2]   ->   b

The cotangent of an array whose elements are used one by one is such a sum.
"""

from __future__ import annotations

import numpy as np

from tracegrad.ir.graph import Builder, Literal, Node
from tracegrad.ops.constant import CONSTANT
from tracegrad.ops.op import REGISTRY
from tracegrad.ops.packing import PACK, places
from tracegrad.ops.reduction import BROADCAST_TO
from tracegrad.ops.regions import Region

LARGEST = 64
"""Elements of an array that is written as one pack."""


def element_of(at: Region, shape: tuple) -> tuple[int, ...] | None:
    """The position that a region has along the last axes, if it is whole along the others."""
    whole = next((k for k, part in enumerate(at) if part is not None), len(at))
    place = at[whole:]
    if not place or not all(isinstance(part, int) for part in place):
        return None
    sizes = shape[whole:]
    if not all(isinstance(size, int) for size in sizes) or np.prod(sizes) > LARGEST:
        return None
    return place  # type: ignore[return-value]


def read(builder: Builder, node: Node) -> Node | None:
    """`pack(...)[..., k] -> x_k`."""
    (x,) = node.inputs
    at = node.attributes["at"]
    if x.op is not PACK:
        return None
    place = element_of(at, x.type.shape)
    shape = x.attributes["shape"]
    if place is None or len(place) != len(shape):
        return None
    return x.inputs[places(shape).index(place)]


def added(builder: Builder, base: Node, value: Node, at: Region, like: Node) -> Node | None:
    """An element added to zeros or to a pack."""
    place = element_of(at, base.type.shape)
    if place is None:
        return None
    shape = base.type.shape[base.type.rank - len(place) :]
    where = places(shape)  # type: ignore[arg-type]
    if base.op is PACK and base.attributes["shape"] == shape:
        parts = list(base.inputs)
    elif _is_zero(base):
        parts = [_zero(builder, value)] * len(where)
    else:
        return None
    index = where.index(place)
    known = parts[index]
    if not _is_zero(known):
        value = builder.node(REGISTRY["add"], (known, value), (), "", like.source)
    parts[index] = value
    return builder.node(PACK, tuple(parts), (("shape", shape),), like.name, like.source)


def _zero(builder: Builder, like: Node) -> Node:
    literal = Literal.of(np.zeros((), like.type.dtype))
    zero = builder.node(CONSTANT, (), (("value", literal),))
    if not like.type.rank:
        return zero
    return builder.node(BROADCAST_TO, (zero,), (("shape", like.type.shape),))


def _is_zero(node: Node) -> bool:
    """Whether it is positive zero everywhere."""
    while node.op is BROADCAST_TO:
        node = node.inputs[0]
    if node.op is not CONSTANT or node.type.rank:
        return False
    value = node.attributes["value"].array
    return bool(value == 0 and not np.signbit(value))
