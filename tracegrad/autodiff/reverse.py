"""Reverse mode: from the cotangents of results to those of the values they were computed from.

    y = sum(x * x)      =>      d_v1 = spread(d_y);  d_x = d_v1 * x + d_v1 * x

The pass walks nodes backwards and computes with whatever arrays `value` gives for them: traced
arrays (the result is a graph) or eager tensors (the result is numbers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tracegrad.autodiff.rules import Linearizer, Value, active_operands, pull
from tracegrad.ir.graph import Node, reachable
from tracegrad.ir.op import Array
from tracegrad.ir.types import TupleType
from tracegrad.ops.project import PROJECT

Observer = Callable[[Node, Any], Any]
"""Sees the finished cotangent of each node before it is used, and may replace it; a node with
several results has a list of them (None: zero)."""


def active_nodes(outputs: Iterable[Node], wrt: Iterable[Node]) -> dict[Node, tuple[bool, ...]]:
    """The nodes on a differentiable path from `wrt` to `outputs`, and their operands on it."""
    sources = set(wrt)
    active: dict[Node, tuple[bool, ...]] = {}
    for node in sorted(reachable(outputs), key=lambda node: node.serial):
        wanted = active_operands(node, lambda operand: operand in active or operand in sources)
        if any(wanted):
            active[node] = wanted
    return active


def cotangents(
    outputs: Sequence[Node],
    cts: Sequence[Array | None],
    wrt: Sequence[Node],
    value: Value,
    linear: Linearizer,
    observe: Observer | None = None,
) -> list[Array | None]:
    """The cotangent of each node of `wrt`; None where no differentiable path leads to it."""
    active = active_nodes(outputs, wrt)
    found: dict[Node, Any] = {}
    for node, ct in zip(outputs, cts, strict=True):
        if ct is not None and (node in active or node in wrt):
            found[node] = ct if node not in found else found[node] + ct
    keep = set(wrt)
    for node in sorted(active, key=lambda node: node.serial, reverse=True):
        if node not in found:
            continue
        ct = found[node] if node in keep else found.pop(node)
        if isinstance(node.type, TupleType):
            ct = [ct.get(number) for number in range(len(node.type.parts))]
        if observe is not None:
            ct = observe(node, ct)
            if node in keep:
                found[node] = ct
        if node.op is PROJECT:
            _project(node, ct, found)
            continue
        for operand, part in zip(
            node.inputs, pull(node, ct, active[node], value, linear), strict=True
        ):
            if part is not None:
                found[operand] = part if operand not in found else found[operand] + part
    return [found.get(node) for node in wrt]


def _project(node: Node, ct: Array, found: dict[Node, Any]) -> None:
    """A projection hands its cotangent to its place in the tuple's."""
    parts = found.setdefault(node.inputs[0], {})
    index = node.attributes["index"]
    parts[index] = ct if index not in parts else parts[index] + ct
