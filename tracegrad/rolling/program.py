"""The part of a trace that rolling looks at: its operations in the order in which they were traced.

In: results, and the nodes at which to stop. Out: a `Program`, whose `steps` are the operations that
may form blocks. Constants, sizes and views of what is given (`xs[t]`) are no steps: they belong to
whatever reads them, because equal ones are one node wherever in the program they were written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import field
from operator import attrgetter

from codegen.records import dataclass
from tracegrad.ir.graph import Node
from tracegrad.ops.constant import ASTYPE, CONSTANT, SIZE
from tracegrad.ops.gathering import GATHER_AT
from tracegrad.ops.project import PROJECT
from tracegrad.ops.reduction import BROADCAST_TO
from tracegrad.ops.regions import is_thin
from tracegrad.ops.shape import RESHAPE, TRANSPOSE
from tracegrad.ops.slicing import SLICE

VIEWS = (SLICE, RESHAPE, TRANSPOSE, BROADCAST_TO, ASTYPE, GATHER_AT)


@dataclass
class Program:
    """`nodes` in trace order; `steps` are those that may form blocks; `readers` of every node."""

    outputs: tuple[Node, ...]
    nodes: list[Node] = field(default_factory=list)
    steps: list[Node] = field(default_factory=list)
    floating: set[Node] = field(default_factory=set)
    """What belongs to its readers; all other nodes that are no steps are given."""
    readers: dict[Node, list[Node]] = field(default_factory=dict)

    def base(self, node: Node) -> Node:
        """What a floating view looks at."""
        while node in self.floating and node.inputs:
            node = node.inputs[0]
        return node


def program(outputs: Sequence[Node], given: Callable[[Node], bool]) -> Program:
    """The operations behind `outputs`; nodes that are `given` are not looked into."""
    found = Program(tuple(outputs))
    ends: set[Node] = set()
    seen: set[Node] = set()
    stack = list(outputs)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if given(node):
            ends.add(node)
        else:
            stack.extend(node.inputs)
    found.nodes = sorted(seen, key=attrgetter("serial"))
    readers: dict[Node, list[Node]] = defaultdict(list)
    leaves = set()
    for node in found.nodes:
        for operand in node.inputs:
            readers[operand].append(node)
        if node in ends:
            leaves.add(node)
        elif _floats(node, found.floating, leaves):
            found.floating.add(node)
        else:
            found.steps.append(node)
    found.readers = dict(readers)
    return found


def _floats(node: Node, floating: set[Node], leaves: set[Node]) -> bool:
    """Numbers, arrays of one number, and single positions of arrays that are given, or that a loop
    stacked: a program that reads them again has the same node."""
    if node.op is CONSTANT or node.op is SIZE:
        return True
    if node.op is BROADCAST_TO:
        return node.inputs[0] in floating and node.inputs[0].op is CONSTANT
    thin = node.op is GATHER_AT or (node.op is SLICE and is_thin(node.attributes["at"]))
    return thin and all(
        operand in floating or operand in leaves or operand.op is PROJECT for operand in node.inputs
    )
