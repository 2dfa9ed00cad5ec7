"""Which values get memory of their own; all others are computed where they are used (fusion by
substitution).

A value is *stored* if it is a result, if an op reads it as an array (a matrix product), if it is a
reduction, or if computing it again at every use would cost more than keeping it. What is stored
but used only inside one loop nest is shrunk to a register or a row by codegen's scheduler; storing
here is not yet memory traffic.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Any

from tracegrad.ir.graph import Graph, Node
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.reduction import Reduction
from tracegrad.passes.cost import RECOMPUTE_LIMIT
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
    costs = _inline_costs(graph, stored)
    places = Places()
    for node in reversed(graph.nodes):
        readers = graph.uses[node]
        places.add(node, readers, stored)
        if node in stored or node.op.name in UNNAMED:
            continue
        if (costs[node] > RECOMPUTE_LIMIT and places.several(node)) or _is_stretched(node, readers):
            stored.add(node)
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


def _inline_costs(graph: Graph, stored: set[Node]) -> dict[Node, float]:
    """Flops to compute one element of a node where nothing but `stored` is at hand."""
    costs: dict[Node, float] = {}
    for node in graph.nodes:
        inner = [costs[operand] for operand in set(node.inputs) if operand not in stored]
        costs[node] = node.op.weight + sum(inner)
    return costs


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
