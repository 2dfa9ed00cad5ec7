"""A merged run becomes a loop: its body, what it starts from, and what the program reads of it.

values of the last block only: a carry's last value;  of several blocks: a stack and its items
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.control.hoist import Stepped, hoisted_late
from tracegrad.control.loop import LOOP
from tracegrad.ir.graph import Graph, Node, Source, next_serial
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.ops.constant import ASTYPE
from tracegrad.ops.project import PROJECT
from tracegrad.ops.reduction import BROADCAST_TO
from tracegrad.ops.shape import TRANSPOSE
from tracegrad.ops.slicing import SLICE, UPDATE
from tracegrad.rolling.family import Carry, Merger, Mismatch, Writes
from tracegrad.rolling.moving import kept_axis
from tracegrad.tracing.trace import Trace

FEW_STEPS = 12
"""Steps that are rather computed again after the loop than written in each of its steps."""

New = Callable[[Node], Node]


@dataclass
class Closed:
    """A run as a loop that is still to be recorded."""

    merger: Merger
    body: Graph
    carries: list[Carry]
    stacked: list[int]
    finals: dict[Node, Carry]
    """What the program reads after the loop that is the last value of a carry."""
    source: Source | None
    again: list[Node] = field(default_factory=list)
    """Steps of the last block that are computed once more after the loop."""
    results: dict[Node, Node] = field(default_factory=dict)
    """What the nodes of the blocks have become, after `record`."""
    _stacks: dict[int, Node] = field(default_factory=dict)

    def record(self, trace: Trace, new: New) -> None:
        """Record the loop and what follows from its results."""
        merger = self.merger
        count = merger.run.count
        starts = [self._start(trace, carry, new) for carry in self.carries]
        stacks = [stack.build(trace, new) for _, stack in merger.items]
        captured = [new(node) for node in merger.child.captured]
        operands = (*starts, *stacks, *captured)
        loop = hoisted_late(trace, Stepped(self.body, operands, len(starts), len(stacks), count))
        attrs = {"body": loop.body, "carries": len(starts), "stacks": loop.stacks}
        attrs |= {"length": count, "reverse": False}
        node = trace.builder.node(LOOP, loop.operands, tuple(attrs.items()), "", self.source)
        assert isinstance(node.type, TupleType)
        parts = [
            trace.builder.node(PROJECT, (node,), (("index", index),), "", self.source)
            for index in range(len(node.type.parts))
        ]
        numbers = {carry.node: number for number, carry in enumerate(self.carries)}
        for old, carry in self.finals.items():
            self.results[old] = parts[numbers[carry.node]]
        for step in self.again:
            operands = tuple(map(new, step.inputs))
            self.results[step] = replace(step, inputs=operands, serial=next_serial())
        rest = parts[len(starts) :]
        self._stacks = dict(zip(self.stacked, rest, strict=False))
        for at, part in zip(merger.writes, rest[len(self.stacked) :], strict=True):
            writes, _ = merger.writes[at]
            self.results[merger.blocks[-1][at]] = _written(trace, new, writes, part)

    def result(self, trace: Trace, node: Node) -> Node:
        """What the program reads now in place of a node of the blocks."""
        if node not in self.results:
            block, at = self.merger.places[node]
            stack = self._stacks[at]
            region = (block, *([None] * (stack.type.rank - 1)))
            made = trace.builder.node(SLICE, (stack,), (("at", region),), "", node.source)
            self.results[node] = made
        return self.results[node]

    def _start(self, trace: Trace, carry: Carry, new: New) -> Node:
        type = carry.node.type
        if carry.init is None:
            return _full(trace, np.zeros((), type.dtype), type)
        node = new(carry.init)
        if node.type.dtype != type.dtype:
            node = trace.builder.node(ASTYPE, (node,), (("dtype", type.dtype),))
        if node.type.rank != type.rank:
            node = trace.builder.node(BROADCAST_TO, (node,), (("shape", type.shape),))
        return node


def _full(trace: Trace, value: np.ndarray, type: ArrayType) -> Node:
    from_literal = trace.lift(value[()])
    if not type.rank:
        return from_literal
    return trace.builder.node(BROADCAST_TO, (from_literal,), (("shape", type.shape),))


def _written(trace: Trace, new: New, writes: Writes, values: Node) -> Node:
    """`base[..., first:stop:stride, ...] = values`, whose first axis counts the steps."""
    motion, count = writes.motion, len(writes.motion.offsets)
    axis = kept_axis(writes.at, motion.axis)
    if axis:
        order = (*range(1, axis + 1), 0, *range(axis + 1, values.type.rank))
        values = trace.builder.node(TRANSPOSE, (values,), (("axes", order),))
    base = new(writes.base)
    stride = motion.stride
    assert stride
    span: Any = (motion.first, count, stride)
    size = trace.assumptions.resolve(base.type.shape[motion.axis])
    part = None if span == (0, size, 1) else span
    at = (*writes.at[: motion.axis], part, *writes.at[motion.axis + 1 :])
    if all(part is None for part in at):
        return values
    return trace.builder.node(UPDATE, (base, values), (("at", at),))


def close(merger: Merger, source: Source | None) -> Closed:
    """The body of the loop with its results. Raises Mismatch."""
    escapes = _escapes(merger)
    last = merger.run.count - 1
    finals: dict[Node, Carry] = {}
    stacked: list[int] = []
    again: set[Node] = set()
    for at, blocks in escapes.items():
        if at in merger.writes:
            continue
        if isinstance(merger.blocks[-1][at].type, TupleType):
            raise Mismatch("the results of an operation are told apart after the loop")
        found = {block: merger.value_after(at, last - block) for block in blocks}
        if blocks == {last}:
            node = merger.blocks[-1][at]
            steps = None if found[last] else _steps_again(merger, node)
            if steps is None:
                finals[node] = merger.last_value(at)
            else:
                again |= steps
        elif all(found.values()):
            finals |= {merger.blocks[b][at]: carry for b, carry in found.items() if carry}
        else:
            stacked.append(at)
    carries = list(merger.carries.values())
    values = [merger.values[at] for at in stacked] + [value for _, value in merger.writes.values()]
    outputs = [_next(merger, carry) for carry in carries] + values
    child = merger.child
    child.inputs = [
        merger.index, *(carry.node for carry in carries), *(node for node, _ in merger.items),
    ]  # fmt: skip
    body = child.finish_body([node for node in outputs if node is not None])
    finals |= {
        node: carry
        for node in {operand for step in again for operand in step.inputs} - again
        if (carry := _after(merger, node)) is not None
    }
    return Closed(merger, body, carries, stacked, finals, source, sorted(again, key=_serial))


def _serial(node: Node) -> int:
    return node.serial


def _after(merger: Merger, node: Node) -> Carry | None:
    """The carry whose value after the loop is a node of the last blocks."""
    if node not in merger.places:
        return None
    block, at = merger.places[node]
    return merger.value_after(at, merger.run.count - 1 - block)


def _steps_again(merger: Merger, node: Node) -> set[Node] | None:
    """The steps that compute a value of the last block again after the loop, from what the loop
    leaves: the loop then need not write it in every step. None if they need more, or are many.
    """
    found: set[Node] = set()
    stack = [node]
    while stack:
        step = stack.pop()
        if step in found or merger.is_outside(step):
            continue
        if step in merger.program.floating or step.op.has("kernel") or len(found) == FEW_STEPS:
            return None
        found.add(step)
        stack += [operand for operand in step.inputs if _after(merger, operand) is None]
    return found


def _next(merger: Merger, carry: Carry) -> Node:
    found = merger.values[carry.source] if isinstance(carry.source, int) else carry.source.node
    assert found is not None
    return found


def _escapes(merger: Merger) -> dict[int, set[int]]:
    """The places that the program reads after the loop, and of which blocks."""
    readers, floating = merger.program.readers, merger.program.floating
    outputs = set(merger.program.outputs)

    def leaves(node: Node) -> bool:
        return node in outputs or any(
            leaves(reader) if reader in floating else reader not in merger.places
            for reader in readers.get(node, ())
        )

    found: dict[int, set[int]] = {}
    for node, (block, at) in merger.places.items():
        if leaves(node):
            found.setdefault(at, set()).add(block)
    return dict(sorted(found.items()))
