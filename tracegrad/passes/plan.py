"""Which values get memory of their own; all others are computed where they are used (fusion by
substitution).

A value is *stored* if it is a result, if an op reads it as an array (a matrix product), if it is a
reduction, or if computing it again at every use would cost more than keeping it. What is stored
but used only inside one loop nest is shrunk to a register or a row by codegen's scheduler; storing
here is not yet memory traffic.

    x1 = x + a @ w1                 each x is read by a norm and by the next sum: written once, it
    x2 = x1 + b @ w2                is one load there; computed again, it is ever more of them
    t = tanh(x); u = 1 + t          both are read in a later kernel: t is stored, u follows from it
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import field
from typing import Any

from codegen.records import dataclass
from tracegrad.ir.graph import Graph, Node
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.reduction import Reduction
from tracegrad.passes.cost import LOADED, RECOMPUTE_LIMIT
from tracegrad.passes.reuse import reuse
from tracegrad.tracing.naming import UNNAMED


@dataclass(frozen=True)
class Plan:
    """`stored`: nodes with a variable of their own (an array, or a scalar of the function);
    `taken`: the operand whose array an in-place write goes on with."""

    stored: frozenset[Node]
    taken: dict[Node, Node] = field(default_factory=dict)


def plan(graph: Graph, own: frozenset[Node] = frozenset()) -> Plan:
    """What is stored, the results among it; `own` are inputs whose memory may be written to."""
    stored = {node for node in graph.nodes if _must_be_stored(node)}
    stored |= {node for node in graph.outputs if node.op.name not in UNNAMED}
    for node in graph.nodes:
        stored |= {node.inputs[number] for number in array_operands(node)}
    stored = {node for node in stored if node.op.name not in UNNAMED or node.type.rank}
    inline = _inline(graph, stored)
    chosen: set[Node] = set()
    places = Places()
    for node in reversed(graph.nodes):
        readers = graph.uses[node]
        places.add(node, readers, stored)
        if node in stored or node.op.name in UNNAMED:
            continue
        if _is_stretched(node, readers):
            stored.add(node)
        elif inline[node].cost > RECOMPUTE_LIMIT and places.several(node):
            stored.add(node)
            chosen.add(node)
    stored -= _following(graph, stored, chosen)
    taken = reuse(graph, stored, is_view, own)
    return Plan(frozenset(stored), taken)


Place = tuple[int, bool]
"""A number, and whether the element is read under a condition there."""


class Places:
    """At how many places a value is computed that is not stored: one, or several.

    A place is an element's position in one kernel. `u[2:] - u[:-2]` needs `u` at two of them, so a
    chain of such steps would double its work at each; what stands under a condition is computed
    anew by every reader, because nothing may be computed ahead of the condition.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], int] = {}
        self._of: dict[Node, frozenset[Place]] = {}

    def add(self, node: Node, readers: Iterable[Node], stored: Set[Node]) -> None:
        """Note where `node` is needed; its readers are known already."""
        found: set[Place] = set()
        for reader in readers:
            kernel = frozenset({(self._number(reader), False)})
            for place in kernel if reader in stored else self._of[reader]:
                found |= self._below(reader, node, place)
            if len(found) > 1:
                break
        self._of[node] = frozenset(list(found)[:2])

    def several(self, node: Node) -> bool:
        return len(self._of[node]) > 1

    def _below(self, reader: Node, node: Node, place: Place) -> set[Place]:
        """Where `node` is read when `reader` is computed at `place`."""
        number, conditional = place
        if isinstance(reader.op, Elementwise) and not conditional:
            return {place}
        conditional |= reader.op.conditional
        return {
            (self._number(reader, position, number), conditional)
            for position, operand in enumerate(reader.inputs)
            if operand is node
        }

    def _number(self, *key: Any) -> int:
        return self._known.setdefault(key, len(self._known))


def array_operands(node: Node) -> tuple[int, ...]:
    """The operands that the op reads as arrays in memory."""
    if is_view(node):
        return (0,)
    return node.op.stored if node.op.stored != (-1,) else tuple(range(len(node.inputs)))


def is_view(node: Node) -> bool:
    """A reshape that changes more than unit axes: the same memory under another shape."""
    if node.op.name != "reshape":
        return False
    kept = tuple(size for size in node.type.shape if size != 1)
    return kept != tuple(size for size in node.inputs[0].type.shape if size != 1)


def _must_be_stored(node: Node) -> bool:
    if node.op.name in ("input", *UNNAMED):
        return bool(node.type.rank) or node.op.name == "input"
    return (
        node.type.rank == 0
        or isinstance(node.op, Reduction)
        or node.op.has("kernel")
        or is_view(node)
    )


@dataclass(frozen=True)
class Inline:
    """One element of a value, computed where it is used: `flops`, and the arrays that are read."""

    flops: float
    loads: frozenset[Node]

    @property
    def cost(self) -> float:
        """In flops, beside the load that a stored value takes too."""
        return self.flops + LOADED * max(0, len(self.loads) - 1)


LOADS = 1 + math.ceil(RECOMPUTE_LIMIT / LOADED)
"""So many loads are too many: more need not be counted."""


def _inline(graph: Graph, stored: Set[Node]) -> dict[Node, Inline]:
    """What each node takes where nothing but `stored` is at hand."""
    found: dict[Node, Inline] = {}
    for node in graph.nodes:
        found[node] = _element(node, stored, found)
    return found


def _element(node: Node, stored: Set[Node], known: Mapping[Node, Inline]) -> Inline:
    """What one element takes; what has fewer axes than the node stays in a register or in the
    nearest cache, and is no load."""
    flops, loads = node.op.weight, frozenset[Node]()
    for operand in dict.fromkeys(node.inputs):
        if operand not in stored:
            flops += known[operand].flops
            loads |= known[operand].loads
        elif operand.type.rank >= max(1, node.type.rank):
            loads |= {operand}
    return Inline(flops, frozenset(list(loads)[:LOADS]))


def _following(graph: Graph, stored: Set[Node], chosen: Set[Node]) -> set[Node]:
    """Those of `chosen` that take no more than a load to compute from what else is stored."""
    kept, found = set(stored), dict[Node, Inline]()
    for node in graph.nodes:
        found[node] = _element(node, kept, found)
        if node in chosen and found[node].cost <= LOADED:
            kept.remove(node)
    return set(stored) - kept


def _is_stretched(node: Node, readers: list[Node]) -> bool:
    """Whether a value that costs something is repeated by broadcasting in one of its uses."""
    if node.op.weight < 1:
        return False
    return any(
        reader.type.rank > node.type.rank
        or any(
            have == 1 and want != 1
            for have, want in zip(node.type.shape, reader.type.shape, strict=False)
        )
        for reader in readers
        if not isinstance(reader.op, Reduction)
    )
