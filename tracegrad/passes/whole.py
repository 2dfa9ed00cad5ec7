"""Selections that are only reduced or written back: computed for the whole array, under the mask.

    at = flatnonzero(mask); y = x[at]; s = sum(y**2)      ->      s = sum(where(mask, x**2, 0))
    z[at] = 0.1 * z[at]                                   ->      z = where(mask, 0.1 * z, z)

No index array, no compressed one, and a loop that vectorises; also the form that `vmap` can batch.
It is done where nothing needs the compressed arrays themselves.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tracegrad.ir.dims import Size, symbols
from tracegrad.ir.graph import Builder, Graph, Literal, Node, attr_sizes, rebuild, sizes_of
from tracegrad.ops.arithmetic import ADD
from tracegrad.ops.constant import ASTYPE, CONSTANT, SIZE
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.gathering import GATHER, INDEX_ADD, SCATTER_ADD, SCATTER_SET
from tracegrad.ops.nonzero import NONZERO
from tracegrad.ops.reduction import BROADCAST_TO, SUM
from tracegrad.ops.selection import WHERE
from tracegrad.ops.shape import COPY


def as_wholes(graph: Graph) -> Graph:
    """`graph` with every selection of that kind as a condition."""
    for node in graph.nodes:
        if node.op is NONZERO and (chosen := _only_combined(graph, node)) is not None:
            return as_wholes(_Rewriting(node, chosen).run(graph))
    return graph


def _only_combined(graph: Graph, places: Node) -> set[Node] | None:
    """The values with an element for each place, if all that becomes of them is one of those
    above; None if something needs them as arrays.
    """
    size = places.attributes["size"]
    chosen: set[Node] = set()
    for node in graph.nodes:
        if node is places or node is places.inputs[1]:
            continue
        if _is_chosen(node, places, size, chosen):
            chosen.add(node)
            continue
        needs_it = _mentions(node, size) and not _is_number(node, size)
        if needs_it or not _combines(node, places, chosen):
            return None
    checked = any(str(size) in check.symbols for check in graph.checks)
    wanted = chosen | {places, places.inputs[1]}
    return None if checked or not wanted.isdisjoint(graph.outputs) else chosen


def _is_chosen(node: Node, places: Node, size: Size, chosen: set[Node]) -> bool:
    """Whether it is an array of such values: gathered, or computed of gathered ones and numbers."""
    if node.type.shape != (size,):
        return False
    if node.op is GATHER:
        return node.inputs[1:] == (places,) and node.inputs[0].type.shape == _whole(places)
    if node.op is BROADCAST_TO:
        return not node.inputs[0].type.rank
    together = isinstance(node.op, Elementwise) or node.op in (ASTYPE, COPY)
    return together and all(x in chosen or not x.type.rank for x in node.inputs)


def _combines(node: Node, places: Node, chosen: set[Node]) -> bool:
    """Whether a node reads such values in no other way than as a sum or where they came from."""
    if chosen.isdisjoint(node.inputs):
        return places not in node.inputs and places.inputs[1] not in node.inputs
    if node.op is SUM:
        return True
    if node.op is SCATTER_ADD:
        value, *at = node.inputs
        return value in chosen and at == [places] and node.type.shape == _whole(places)
    if node.op in (SCATTER_SET, INDEX_ADD):
        base, value, *at = node.inputs
        same = base not in chosen and base.type.shape == _whole(places)
        return value in chosen and at == [places] and same
    return False


def _whole(places: Node) -> tuple[Size, ...]:
    return places.inputs[0].type.shape


def _mentions(node: Node, size: Size) -> bool:
    found: Iterable[Size] = (*sizes_of(node.type), *attr_sizes(node.attrs))
    return any(str(size) in symbols(s) for s in found)


def _is_number(node: Node, size: Size) -> bool:
    return node.op is SIZE and node.attributes["size"] == size


class _Rewriting:
    """One selection taken out of a graph."""

    def __init__(self, places: Node, chosen: set[Node]) -> None:
        self.places, self.chosen = places, chosen
        self.made: dict[Node, Node] = {}
        """What became of the mask and of its count."""

    def run(self, graph: Graph) -> Graph:
        self.order = iter(graph.nodes[len(graph.inputs) :])
        return rebuild(graph, self._rule)

    def _rule(self, builder: Builder, node: Node, operands: tuple[Node, ...]) -> Node:
        """What stands for the next node of the graph; for a chosen value the whole one."""
        old, size = next(self.order), self.places.attributes["size"]
        if old in self.places.inputs or old is self.places:
            self.made |= dict(zip(old.inputs, operands, strict=True))
        if old in self.chosen and old.op is GATHER:
            return operands[0]
        if old in self.chosen and old.op is BROADCAST_TO:
            whole = (("shape", self._mask.type.shape),)
            return builder.node(BROADCAST_TO, operands, whole, node.name, node.source)
        if _is_number(old, size):
            dtype = node.attributes.get("dtype")
            attrs = (("dtype", dtype or node.type.dtype), *((("weak", True),) if not dtype else ()))
            return builder.node(ASTYPE, (self.made[self.places.inputs[1].inputs[0]],), attrs)
        if old in self.chosen or self.chosen.isdisjoint(old.inputs):
            return builder.node(node.op, operands, node.attrs, node.name, node.source)
        return self._combined(builder, node, operands)

    @property
    def _mask(self) -> Node:
        return self.made[self.places.inputs[0]]

    def _combined(self, builder: Builder, node: Node, operands: tuple[Node, ...]) -> Node:
        """A sum of chosen values, or these written or added where they came from."""

        def where(yes: Node, no: Node) -> Node:
            return builder.node(WHERE, (self._mask, yes, no), (), node.name, node.source)

        if node.op is SUM:
            held = where(operands[0], _zero(builder, operands[0]))
            return builder.node(SUM, (held,), node.attrs, node.name, node.source)
        if node.op is SCATTER_ADD:
            return where(operands[0], _zero(builder, operands[0]))
        base, value = operands[:2]
        return where(builder.node(ADD, (base, value), ()) if node.op is INDEX_ADD else value, base)


def _zero(builder: Builder, like: Node) -> Node:
    return builder.node(CONSTANT, (), (("value", Literal.of(np.zeros((), like.type.dtype))),))
