"""Barriers taken out, last of all: their readers read what stands before them.

    x1 = barrier(x, d_y); h1 = tanh(x1)      ->      h1 = tanh(x)

Nothing may merge equal nodes after this: `h1` is not the `tanh(x)` of the forward.
"""

from __future__ import annotations

from dataclasses import replace

from tracegrad.ir.graph import Graph, Node, map_bodies, mapped_bounds
from tracegrad.ops.barrier import BARRIER


def opened(graph: Graph) -> Graph:
    """`graph` without barriers, in its bodies too; itself if it has none."""
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        operands = tuple(new[operand] for operand in node.inputs)
        attrs = map_bodies(node.attrs, opened)
        same = operands == node.inputs and attrs == node.attrs
        moved = node if same else replace(node, inputs=operands, attrs=attrs)
        new[node] = operands[0] if node.op is BARRIER else moved
    if all(new[node] is node for node in graph.nodes):
        return graph
    return replace(
        graph,
        outputs=tuple(new[node] for node in graph.outputs),
        effects=tuple(new[node] for node in graph.effects),
        bounds=mapped_bounds(graph, new),
    )
