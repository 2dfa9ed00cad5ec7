"""Placements side by side are a concatenation: the gradients of `x[:, :n]`, `x[:, n:2*n]`, ...

place(a, [:n]) + place(b, [n:])      ->      concatenate((a, b))      where that covers all
"""

from __future__ import annotations

from typing import Any

from tracegrad.ir.dims import Size
from tracegrad.ir.graph import Builder, Node
from tracegrad.ops.arithmetic import ADD
from tracegrad.ops.joining import CONCATENATE
from tracegrad.ops.slicing import PLACE

MOST = 16
"""Pieces of one concatenation."""


def side_by_side(builder: Builder, node: Node) -> Node | None:
    """The sum as a concatenation; None if it is none."""
    pieces = _pieces(node)
    if pieces is None:
        return None
    axes = {axis for axis, _, _ in pieces.values()}
    if len(axes) != 1:
        return None
    (axis,) = axes
    ordered: list[Node] = []
    end: Size = 0
    waiting = dict(pieces)
    while waiting:
        found = next((p for p, (_, start, _) in waiting.items() if start == end), None)
        if found is None:
            return None
        end = end + waiting.pop(found)[2]
        ordered.append(found.inputs[0])
    if end != node.type.shape[axis]:
        return None
    return builder.node(CONCATENATE, tuple(ordered), (("axis", axis),), node.name, node.source)


def _pieces(node: Node) -> dict[Node, tuple[int, Size, Size]] | None:
    """The placements that a sum consists of: axis, start and length of each."""
    found: dict[Node, tuple[int, Size, Size]] = {}
    stack = [node]
    while stack:
        term = stack.pop()
        if term.type.shape != node.type.shape or len(found) == MOST:
            return None
        if term.op is ADD:
            stack.extend(term.inputs)
            continue
        part = _part(term) if term.op is PLACE and term not in found else None
        if part is None:
            return None
        found[term] = part
    return found


def _part(place: Node) -> tuple[int, Size, Size] | None:
    at: tuple[Any, ...] = place.attributes["at"]
    axes = [axis for axis, part in enumerate(at) if part is not None]
    if len(axes) != 1 or not isinstance(at[axes[0]], tuple):
        return None
    start, length, step = at[axes[0]]
    return (axes[0], start, length) if step == 1 else None
