"""Expansion: calls that were kept whole for their derivative rules become the nodes of their
bodies.
"""

from __future__ import annotations

from dataclasses import replace

from tracegrad.ir.graph import Graph, Node, map_bodies, next_serial
from tracegrad.ops.call import CALL
from tracegrad.ops.project import PROJECT


def expand(graph: Graph) -> Graph:
    """`graph` without calls, in its bodies too."""
    if not any(node.op is CALL or _has_bodies(node) for node in graph.nodes):
        return graph
    new: dict[Node, Node] = dict(zip(graph.inputs, graph.inputs, strict=True))
    results: dict[Node, list[Node]] = {}
    for node in graph.nodes[len(graph.inputs) :]:
        _expanded(node, new, results)
    return replace(graph, outputs=tuple(new[node] for node in graph.outputs))


def _has_bodies(node: Node) -> bool:
    return map_bodies(node.attrs, expand) != node.attrs


def _expanded(node: Node, new: dict[Node, Node], results: dict[Node, list[Node]]) -> None:
    if node.op is PROJECT and node.inputs[0] in results:
        made = results[node.inputs[0]][node.attributes["index"]]
        new[node] = made
        return
    operands = tuple(new[operand] for operand in node.inputs)
    if node.op is not CALL:
        attrs = map_bodies(node.attrs, expand)
        new[node] = replace(node, inputs=operands, attrs=attrs, serial=next_serial())
        return
    body = expand(node.attributes["body"])
    inner = dict(zip(body.inputs, operands, strict=True))
    for part in body.nodes[len(body.inputs) :]:
        _expanded(part, inner, results)
    results[node] = [inner[output] for output in body.outputs]
