"""Expansion: calls that were kept whole for their derivatives become the nodes of their bodies;
names that were given for a policy go.
"""

from __future__ import annotations

from dataclasses import replace

from tracegrad.ir.graph import Graph, Node, map_bodies, next_serial
from tracegrad.ops.barrier import NAMED
from tracegrad.ops.project import PROJECT


def expand(graph: Graph) -> Graph:
    """`graph` without calls, in its bodies too."""
    if not any(_is_changed(node) for node in graph.nodes):
        return graph
    new: dict[Node, Node] = dict(zip(graph.inputs, graph.inputs, strict=True))
    results: dict[Node, list[Node]] = {}
    for node in graph.nodes[len(graph.inputs) :]:
        _expanded(node, new, results)
    return replace(
        graph,
        outputs=tuple(new[node] for node in graph.outputs),
        effects=tuple(new[node] for node in graph.effects),
    )


def _is_changed(node: Node) -> bool:
    changed = node.op.inlined or node.op is NAMED
    return changed or map_bodies(node.attrs, expand) != node.attrs


def _expanded(node: Node, new: dict[Node, Node], results: dict[Node, list[Node]]) -> None:
    if node.op is PROJECT and node.inputs[0] in results:
        made = results[node.inputs[0]][node.attributes["index"]]
        new[node] = made
        return
    operands = tuple(new[operand] for operand in node.inputs)
    if node.op is NAMED:
        (new[node],) = operands
        return
    if not node.op.inlined:
        attrs = map_bodies(node.attrs, expand)
        new[node] = replace(node, inputs=operands, attrs=attrs, serial=next_serial())
        return
    body = expand(node.attributes["body"])
    inner = dict(zip(body.inputs, operands, strict=True))
    for part in body.nodes[len(body.inputs) :]:
        _expanded(part, inner, results)
    results[node] = [inner[output] for output in body.outputs]
