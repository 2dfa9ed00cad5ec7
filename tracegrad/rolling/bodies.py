"""Bodies that differ in constants only: one body for all of them, with the constants as inputs.

for i: for j in range(50): x = x + i*dt      the inner loops differ in the number i*dt
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from tracegrad.control.loop import LOOP
from tracegrad.ir.graph import Builder, Graph, Node
from tracegrad.ops.constant import CONSTANT, Input

Family = tuple[Node, ...]
Attrs = tuple[tuple[str, Any], ...]


def varied(nodes: Sequence[Node]) -> tuple[Attrs, list[Family]] | None:
    """The attributes of the node that stands for these ones, and the constants that it takes beside
    their operands (loops only); None if they differ in more than that.
    """
    last, constants = nodes[-1], []
    result: list[tuple[str, Any]] = []
    for name, value in last.attrs:
        values = [node.attributes[name] for node in nodes]
        if not all(other == value for other in values):
            found = _one_of(values)
            if found is None:
                return None
            value, more = found
            constants += more
        result.append((name, value))
    if constants and last.op is not LOOP:
        return None
    return tuple(result), constants


def _one_of(values: Sequence[Any]) -> tuple[Any, list[Family]] | None:
    """One body for bodies, or a tuple of bodies for such tuples."""
    if all(isinstance(value, Graph) for value in values):
        return merged(values)
    if not all(isinstance(value, tuple) and len(value) == len(values[0]) for value in values):
        return None
    rows = [_one_of(row) for row in zip(*values, strict=True)]
    if None in rows:
        return None
    found = [row for row in rows if row is not None]
    return tuple(body for body, _ in found), [family for _, more in found for family in more]


def merged(graphs: Sequence[Graph]) -> tuple[Graph, list[Family]] | None:
    """One graph for graphs of the same structure: constants that differ are its last inputs."""
    merging = _Merging(graphs[-1])
    columns = [[node for node in other.nodes if node.op is not CONSTANT] for other in graphs]
    if any(len(column) != len(columns[-1]) for column in columns):
        return None
    for row in zip(*columns, strict=True):
        if row[-1] not in merging.new and not merging.add(row):
            return None
    outputs = tuple(
        merging.operand(family) for family in zip(*(other.outputs for other in graphs), strict=True)
    )
    inputs = (*graphs[-1].inputs, *merging.extra.values())
    return replace(graphs[-1], inputs=inputs, outputs=outputs), list(merging.extra)


class _Merging:
    def __init__(self, graph: Graph) -> None:
        self.builder = Builder()
        self.extra: dict[Family, Node] = {}
        self.new: dict[Node, Node] = dict(zip(graph.inputs, graph.inputs, strict=True))

    def add(self, row: Family) -> bool:
        """Make the node that stands for the nodes of a row; False if they differ too much."""
        node = row[-1]
        if any(other.op is not node.op for other in row):
            return False
        operands = tuple(
            self.operand(tuple([other.inputs[number] for other in row]))
            for number in range(len(node.inputs))
        )
        attrs = node.attrs
        if any(other.attrs != attrs for other in row):
            inner = varied(row)
            if inner is None:
                return False
            attrs, constants = inner
            if constants:
                operands = with_constants(node, operands, map(self.operand, constants))
        self.new[node] = self.builder.node(node.op, operands, attrs, node.name, node.source)
        return True

    def operand(self, family: Family) -> Node:
        last = family[-1]
        if last.op is not CONSTANT:
            return self.new[last]
        if all(node.attrs == last.attrs for node in family):
            return self.builder.node(CONSTANT, (), last.attrs)
        if family not in self.extra:
            self.extra[family] = Node(Input(last.type), (), (), last.type)
        return self.extra[family]


def with_constants(
    loop: Node, operands: Sequence[Node], constants: Iterable[Node]
) -> tuple[Node, ...]:
    """The operands of a loop with further constants; the bound, if there is one, stays last."""
    at = len(loop.attributes["body"].inputs) - 1
    return (*operands[:at], *constants, *operands[at:])
