"""Bodies that differ in constants only: one body for all of them, with the constants as inputs.

for i: for j in range(50): x = x + i*dt      the inner loops differ in the number i*dt
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tracegrad.ir.graph import Builder, Graph, Node
from tracegrad.ops.constant import CONSTANT, Input

Family = tuple[Node, ...]


def varied(
    attributes: Sequence[Mapping[str, Any]],
) -> tuple[tuple[tuple[str, Any], ...], list[Family]] | None:
    """The attributes of the loop that stands for loops with these ones, and the constants that
    it takes beside their operands; None if more than constants differs.
    """
    last = dict(attributes[-1])
    for name, value in last.items():
        if name != "body" and any(other[name] != value for other in attributes):
            return None
    found = merged([other["body"] for other in attributes])
    if found is None:
        return None
    last["body"], constants = found
    return tuple(last.items()), constants


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
            inner = varied([other.attributes for other in row]) if _is_loop(node) else None
            if inner is None:
                return False
            attrs, constants = inner
            at = len(node.attributes["body"].inputs) - 1
            operands = (*operands[:at], *map(self.operand, constants), *operands[at:])
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


def _is_loop(node: Node) -> bool:
    return node.op.name == "loop"
