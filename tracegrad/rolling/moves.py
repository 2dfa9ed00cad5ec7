"""Regions that move, inside a loop: reads and writes at a place that the step computes.

xs[t, 1:]     ->     slice(gather_at(xs, at), 1:)
out[t] = y    ->     scatter_set(out, y, at)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tracegrad.ir.dims import Size
from tracegrad.ir.graph import Literal, Node
from tracegrad.ir.op import Op
from tracegrad.ops.arithmetic import ADD, MULTIPLY
from tracegrad.ops.constant import ARANGE, CONSTANT, SIZE
from tracegrad.ops.gathering import GATHER, GATHER_AT, SCATTER_ADD, SCATTER_SET
from tracegrad.ops.reduction import BROADCAST_TO
from tracegrad.ops.regions import Region
from tracegrad.ops.shape import RESHAPE
from tracegrad.ops.slicing import PLACE, SLICE, UPDATE
from tracegrad.rolling.moving import Motion, kept_axis, still
from tracegrad.tracing.trace import Trace


def number(trace: Trace, value: Size) -> Node:
    """An integer as a node."""
    if isinstance(value, int):
        return trace.builder.node(CONSTANT, (), (("value", Literal.of(np.asarray(value))),))
    return trace.builder.node(SIZE, (), (("size", value), ("dtype", np.dtype(np.int64))))


def moved_by(trace: Trace, offset: Node, first: Size) -> Node:
    if isinstance(first, int) and first == 0:
        return offset
    return trace.builder.node(ADD, (offset, number(trace, first)), ())


def _made(trace: Trace, op: Op, operands: tuple[Node, ...], like: Node, **attrs: Any) -> Node:
    return trace.builder.node(op, operands, tuple(attrs.items()), "", like.source)


def look(trace: Trace, x: Node, like: Node, found: Sequence[tuple[Motion, Node]]) -> Node:
    """`x` at the region of `like`, with the places of what moves computed."""
    at: Region = like.attributes["at"]
    rest = still(at, [motion for motion, _ in found])
    if any(part is not None for part in rest):
        x = _made(trace, SLICE, (x,), like, at=rest)
    for motion, place in reversed(found):
        axes = (kept_axis(rest, motion.axis),)
        if motion.span is None:
            x = _made(trace, GATHER_AT, (x, place), like, axes=axes)
        else:
            x = _made(trace, GATHER, (x, _along(trace, place, motion.span)), like, axes=axes)
    return x


def _along(trace: Trace, place: Node, span: tuple[Size, int]) -> Node:
    """`place + step * (0, ..., length - 1)`."""
    length, step = span
    counting = trace.builder.node(ARANGE, (), (("size", length),))
    if step != 1:
        counting = trace.builder.node(MULTIPLY, (counting, number(trace, step)), ())
    row = trace.builder.node(BROADCAST_TO, (place,), (("shape", (length,)),))
    return trace.builder.node(ADD, (row, counting), ())


def write(
    trace: Trace, operands: Sequence[Node], like: Node, motion: Motion, place: Node
) -> Node | None:
    """`base` with `value` written at the region of `like`; None for what has no such op."""
    base, value = operands
    rest = still(like.attributes["at"], [motion])
    whole = all(part is None for part in rest)
    axes = (motion.axis,)
    if motion.span is not None:
        if not whole:
            return None
        index = _along(trace, place, motion.span)
        return _made(trace, SCATTER_SET, (base, value, index), like, axes=axes, unique=True)
    if not whole:
        row = _made(trace, GATHER_AT, (base, place), like, axes=axes)
        at = tuple(part for axis, part in enumerate(rest) if axis != motion.axis)
        value = _made(trace, UPDATE, (row, value), like, at=at)
    return _made(trace, SCATTER_SET, (base, value, place), like, axes=axes, unique=True)


def place(
    trace: Trace, operands: Sequence[Node], like: Node, motion: Motion, at: Node
) -> Node | None:
    """Zeros with a value at the region of `like`."""
    (value,), shape = operands, like.attributes["shape"]
    rest = still(like.attributes["at"], [motion])
    whole = all(part is None for part in rest)
    axes = (motion.axis,)
    if motion.span is not None:
        if not whole:
            return None
        index = _along(trace, at, motion.span)
        return _made(trace, SCATTER_ADD, (value, index), like, axes=axes, shape=shape)
    if not whole:
        kept = [axis for axis in range(len(shape)) if axis != motion.axis]
        region, row = tuple(rest[axis] for axis in kept), tuple(shape[axis] for axis in kept)
        value = _made(trace, PLACE, (value,), like, at=region, shape=row)
    return _made(trace, SCATTER_ADD, (value, at), like, axes=axes, shape=shape)


def with_axis(trace: Trace, node: Node, axis: int) -> Node:
    """`node` with a new axis of extent 1."""
    shape = (*node.type.shape[:axis], 1, *node.type.shape[axis:])
    return trace.builder.node(RESHAPE, (node,), (("shape", shape),))


def strong(type: Any) -> Any:
    return replace(type, weak=False)
