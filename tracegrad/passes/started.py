"""Sums that a loop adds up from nothing start from what they are added to afterwards.

    s = 0; for ...: s[i] += v        ->        for ...: x[i] += v
    y = x + s                                  y = x

The cotangents of what nested loops read are such sums: without this every step of the outer loop
would fill an array for the inner one, and add it to its own.
"""

from __future__ import annotations

from dataclasses import field, replace

from codegen.records import dataclass
from tracegrad.ir.graph import Graph, Node, mapped_bounds, next_serial
from tracegrad.ops.arithmetic import ADD
from tracegrad.ops.constant import CONSTANT
from tracegrad.ops.gathering import INDEX_ADD
from tracegrad.ops.project import PROJECT
from tracegrad.ops.reduction import BROADCAST_TO
from tracegrad.ops.slicing import ADD_AT


def started(graph: Graph) -> Graph:
    """`graph` with every such sum in the memory of what it is added to."""
    if not any(_is_loop(node) for node in graph.nodes):
        return graph
    found = _Starts(graph)
    for node in graph.nodes:
        if node.op is ADD and node.type.rank and all(_alike(x, node) for x in node.inputs):
            found.look(node)
    return found.run() if found.instead else graph


def _is_loop(node: Node) -> bool:
    return node.op.name == "loop"


def _alike(x: Node, y: Node) -> bool:
    return x.type.shape == y.type.shape and x.type.dtype == y.type.dtype


@dataclass
class _Starts:
    graph: Graph
    instead: dict[Node, Node] = field(default_factory=dict)
    """For a sum `x + s` what is left of it: `s`."""
    starts: dict[Node, dict[int, Node]] = field(default_factory=dict)
    """For a loop the carries that start from something else."""

    def look(self, node: Node) -> None:
        for total, other in (node.inputs, node.inputs[::-1]):
            place = self._added_up(total)
            if place is not None and not self._depends(other, place[0]):
                self.instead[node] = total
                self.starts.setdefault(place[0], {})[place[1]] = other
                return

    def _added_up(self, total: Node) -> tuple[Node, int] | None:
        """The loop, and which of its carries, that adds `total` up from nothing."""
        while self._is_read_once(total) and total.op in (INDEX_ADD, ADD_AT):
            total = total.inputs[0]
        if total.op is not PROJECT or not self._is_read_once(total):
            return None
        (loop,) = total.inputs
        number = total.attributes["index"]
        if not _is_loop(loop) or number in self.starts.get(loop, ()):
            return None
        return (loop, number) if adds_up(loop, number) and _is_zero(loop.inputs[number]) else None

    def _is_read_once(self, node: Node) -> bool:
        return len(self.graph.uses[node]) == 1 and node not in self.graph.outputs

    def _depends(self, node: Node, loop: Node) -> bool:
        """Whether `node` is computed from the loop, as things will be."""
        seen: set[Node] = set()
        stack = [node]
        while stack:
            node = stack.pop()
            if node is loop:
                return True
            if node not in seen:
                seen.add(node)
                stack.extend((*node.inputs, *self.starts.get(node, {}).values()))
        return False

    def run(self) -> Graph:
        new: dict[Node, Node] = {node: node for node in self.graph.inputs}
        for node in self.graph.nodes:
            self._build(node, new)
        return replace(
            self.graph,
            outputs=tuple(new[node] for node in self.graph.outputs),
            effects=tuple(new[node] for node in self.graph.effects),
            bounds=mapped_bounds(self.graph, new),
        )

    def _build(self, node: Node, new: dict[Node, Node]) -> None:
        """The new node for `node`, after those that it is computed from."""
        stack = [node]
        while stack:
            node = stack[-1]
            operands = self._operands(node)
            waiting = [x for x in operands if x not in new]
            if waiting:
                stack += waiting
                continue
            stack.pop()
            if node in new:
                continue
            if node in self.instead:
                new[node] = new[self.instead[node]]
                continue
            inputs = tuple(new[x] for x in operands)
            new[node] = replace(node, inputs=inputs, serial=next_serial())

    def _operands(self, node: Node) -> tuple[Node, ...]:
        if node in self.instead:
            return (self.instead[node],)
        starts = self.starts.get(node, {})
        return tuple(starts.get(number, x) for number, x in enumerate(node.inputs))


def adds_up(loop: Node, number: int) -> bool:
    """Whether the steps of a loop do nothing with this carry but add to it."""
    attrs = loop.attributes
    body: Graph = attrs["body"]
    if number >= attrs["carries"]:
        return False
    carry, value = body.inputs[1 + number], body.outputs[number]
    while value is not carry:
        if body.outputs.count(value) + len(body.uses[value]) != 1:
            return False
        before = _before_addition(value, carry)
        if before is None:
            return False
        value = before
    return len(body.uses[carry]) == 1 and body.outputs.count(carry) == 0


def _before_addition(node: Node, carry: Node) -> Node | None:
    """What something is added to, to give `node`."""
    if node.op in (INDEX_ADD, ADD_AT):
        return node.inputs[0]
    if node.op is ADD and all(_alike(x, node) for x in node.inputs):
        left, right = node.inputs
        return right if carry in _chain(right) else left
    if node.op is PROJECT and _is_loop(node.inputs[0]):
        (loop,), number = node.inputs, node.attributes["index"]
        return loop.inputs[number] if adds_up(loop, number) else None
    return None


def _chain(node: Node) -> set[Node]:
    """What is behind the node by additions alone."""
    seen: set[Node] = set()
    stack = [node]
    while stack:
        node = stack.pop()
        seen.add(node)
        if node.op is ADD:
            stack.extend(node.inputs)
        elif node.op in (INDEX_ADD, ADD_AT):
            stack.append(node.inputs[0])
        elif node.op is PROJECT and _is_loop(node.inputs[0]):
            number = node.attributes["index"]
            if number < node.inputs[0].attributes["carries"]:
                stack.append(node.inputs[0].inputs[number])
    return seen


def _is_zero(node: Node) -> bool:
    """Whether it is nothing but zeros."""
    while node.op is BROADCAST_TO:
        (node,) = node.inputs
    return node.op is CONSTANT and not node.attributes["value"].array.any()


__all__ = ["adds_up", "started"]
