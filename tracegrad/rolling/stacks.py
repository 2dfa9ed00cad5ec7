"""What a loop takes an item of in every step: how a stack is made, outside of the loop.

xs[2], xs[3], ...  ->  xs[2:202]        0.1, 0.2, ...  ->  table        w0, w1, ...  ->  stack
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.ir.graph import Literal, Node
from tracegrad.ops.arithmetic import MULTIPLY
from tracegrad.ops.constant import ARANGE, ASTYPE, CONSTANT
from tracegrad.ops.gathering import GATHER, place_of
from tracegrad.ops.joining import CONCATENATE
from tracegrad.ops.regions import Region, Span
from tracegrad.ops.shape import TRANSPOSE
from tracegrad.ops.slicing import SLICE
from tracegrad.rolling.moves import moved_by, with_axis
from tracegrad.rolling.moving import Motion, kept_axis, still
from tracegrad.tracing.trace import Trace

New = Callable[[Node], Node]
"""The node that a node of the old program has become."""


class Stack:
    def build(self, trace: Trace, new: New) -> Node:
        """Record the stack."""
        raise NotImplementedError


@dataclass(frozen=True)
class Arrays(Stack):
    """Different arrays of one type."""

    nodes: tuple[Node, ...]

    def build(self, trace: Trace, new: New) -> Node:
        rows = tuple(with_axis(trace, new(node), 0) for node in self.nodes)
        return trace.builder.node(CONCATENATE, rows, (("axis", 0),))


@dataclass(frozen=True, eq=False)
class Constants(Stack):
    """Numbers, or arrays of numbers: computed where they are multiples, else a table."""

    values: np.ndarray

    def build(self, trace: Trace, new: New) -> Node:
        values = self.values
        if values.ndim == 1 and values.dtype == np.int64 and len(set(np.diff(values))) == 1:
            return self._counted(trace, int(values[0]), int(values[1] - values[0]))
        if values.ndim == 1 and values.dtype == np.float64:
            found = _multiples(values)
            if found is not None:
                first, unit = found
                counting = self._counted(trace, first, 1)
                real = trace.builder.node(ASTYPE, (counting,), (("dtype", values.dtype),))
                return trace.builder.node(MULTIPLY, (real, self._constant(trace, unit)), ())
        return trace.lift(values)

    def _counted(self, trace: Trace, first: int, step: int) -> Node:
        counting = trace.builder.node(ARANGE, (), (("size", len(self.values)),))
        if step != 1:
            operands = (counting, self._constant(trace, np.int64(step)))
            counting = trace.builder.node(MULTIPLY, operands, ())
        return moved_by(trace, counting, first)

    def _constant(self, trace: Trace, value: Any) -> Node:
        return trace.builder.node(CONSTANT, (), (("value", Literal.of(np.asarray(value))),))


def _multiples(values: np.ndarray) -> tuple[int, np.float64] | None:
    """`(k, u)` where the values are exactly `k*u, (k + 1)*u, ...`."""
    counting = np.arange(len(values))
    for first in range(3):
        at = 1 if first == 0 else 0
        unit = values[at] / (first + at)
        same = (counting + first) * unit == values
        if same.all() and np.isfinite(unit) and unit > 0:
            return first, np.float64(unit)
    return None


@dataclass(frozen=True)
class Places(Stack):
    """Parts of one array, `base[at]` with some parts of the region moving."""

    base: Node
    at: Region
    moving: tuple[Motion, ...]

    @property
    def possible(self) -> bool:
        return len(self.moving) == 1

    def build(self, trace: Trace, new: New) -> Node:
        (motion,), base = self.moving, new(self.base)
        stride = motion.stride
        if motion.span is None and stride:
            return self._sliced(trace, base, motion, stride)
        return self._gathered(trace, base, motion)

    def _sliced(self, trace: Trace, base: Node, motion: Motion, stride: int) -> Node:
        span: Span = (motion.first, len(motion.offsets), stride)
        whole = (0, trace.assumptions.resolve(base.type.shape[motion.axis]), 1)
        part = None if span == whole else span
        at = (*self.at[: motion.axis], part, *self.at[motion.axis + 1 :])
        if any(part is not None for part in at):
            base = trace.builder.node(SLICE, (base,), (("at", at),))
        return _to_front(trace, base, kept_axis(self.at, motion.axis))

    def _gathered(self, trace: Trace, base: Node, motion: Motion) -> Node:
        rest = still(self.at, self.moving)
        if any(part is not None for part in rest):
            base = trace.builder.node(SLICE, (base,), (("at", rest),))
        axis, index = kept_axis(rest, motion.axis), np.asarray(motion.offsets, np.int64)
        if motion.span is not None:
            length, step = motion.span
            assert isinstance(length, int)
            index = index[:, None] + step * np.arange(length)
        places = moved_by(trace, trace.lift(index), motion.first)
        found = trace.builder.node(GATHER, (base, places), (("axes", (axis,)),))
        return _to_front(trace, found, place_of((axis,)))


def _to_front(trace: Trace, node: Node, axis: int) -> Node:
    if not axis:
        return node
    order = (axis, *(other for other in range(node.type.rank) if other != axis))
    return trace.builder.node(TRANSPOSE, (node,), (("axes", order),))
