"""Dumps of eager graphs: what operations on tensors recorded, as a NumPy program.

y = np.exp(w) * 2; y.dump()      ->      def recorded(w):
                                             v1 = np.exp(w)
                                             y = v1 * 2
                                             return y
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tracegrad.inspect.dump import Dump, dump_graph
from tracegrad.ir.graph import Graph, Node, reachable
from tracegrad.ops.constant import Input


def dump_eager(results: Sequence[Node], title: str = "recorded") -> Dump:
    """The program from leaves to these results; tensors without a gradient are parameters too."""
    new: dict[Node, Node] = {}
    inputs: list[Node] = []
    for node in sorted(reachable(results), key=lambda node: node.serial):
        operands = tuple(new[operand] for operand in node.inputs)
        made = Node(node.op, operands, node.attrs, node.type, node.name, node.source, node.serial)
        if node.op.name == "input":
            made = replace(made, op=Input(node.type), source=None)
            inputs.append(made)
        new[node] = made
    outputs = tuple(new[node] for node in results)
    home = next((node.source for node in outputs if node.source is not None), None)
    graph = Graph("recorded", tuple(inputs), outputs, source=home)
    return dump_graph(graph, title, "eager graph", assumed=False)
