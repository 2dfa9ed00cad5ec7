"""The eager graph behind a tensor as a plain `Graph`: to look at, to interpret, to compile.

    y = np.sum(x * w)      ->      input x | input w | v1 = multiply(x, w) | y = sum(v1)

Leaves and operands that need no gradient are its inputs, in the order in which they were made.
"""

from __future__ import annotations

from tracegrad.eager.core import Core, operand_node
from tracegrad.ir.graph import Graph, Node, reachable
from tracegrad.tracing.naming import name_nodes


def graph_of(tensor: Core) -> Graph:
    """The operations that were recorded for `tensor`, named after the user's variables."""
    root = tensor._node() or operand_node(tensor)
    ordered = sorted(reachable([root]), key=lambda node: node.serial)
    plain: dict[Node, Node] = {}
    for node in ordered:
        operands = tuple(plain[operand] for operand in node.inputs)
        plain[node] = Node(
            node.op, operands, node.attrs, node.type, node.name, node.source, node.serial
        )
    inputs = tuple(plain[node] for node in ordered if node.op.name == "input")
    name = plain[root].name or "eager"
    return name_nodes(Graph(name, inputs, (plain[root],), source=plain[root].source))
