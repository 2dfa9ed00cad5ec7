"""What kind of step an operation is: two of one kind may stand at the same place of two blocks.

A kind is a number for op, type and attributes. Positions in regions (`xs[3]`, `xs[4]`) and the
constants inside bodies do not count: these may change from block to block.
"""

from __future__ import annotations

from typing import Any

from tracegrad.ir.dims import Assumptions, Dim, Size, evaluate, same, symbols
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.ops.constant import CONSTANT
from tracegrad.ops.slicing import PLACE, SLICE, UPDATE

MOVING = (SLICE, UPDATE, PLACE)
"""Operations in a region that may move from block to block."""


class Kinds:
    """Numbers kinds; extents count as those of the call being traced."""

    def __init__(self, assumptions: Assumptions) -> None:
        self._assumptions = assumptions
        self._numbers: dict[Any, int] = {}
        self._known: dict[Any, tuple[int, ArrayType]] = {}
        """Numbers by the identity of the type, which is kept here for that."""
        self._figures: dict[Size, Any] = {}
        self._bodies: dict[int, tuple[Graph, int]] = {}

    def of(self, node: Node) -> int:
        key = (node.op, len(node.inputs), id(node.type), node.attrs)
        known = self._known.get(key)
        if known is None:
            number = self._number(
                (node.op, len(node.inputs), self.type(node.type), self._attrs(node))
            )
            known = self._known[key] = number, node.type
        return known[0]

    def type(self, type: ArrayType) -> Any:
        """A type in figures, as a key."""
        if isinstance(type, TupleType):
            return tuple(map(self.type, type.parts))
        return type.dtype, self.shape(type), type.weak

    def shape(self, type: ArrayType) -> tuple[Any, ...]:
        return tuple([size if isinstance(size, int) else self.figure(size) for size in type.shape])

    def figure(self, size: Size) -> Any:
        """The extent in this call; the size itself where the program computes it."""
        found = self._figures.get(size)
        if found is None:
            resolved = self._assumptions.resolve(size)
            known = all(name in self._assumptions.hints for name in symbols(resolved))
            found = evaluate(resolved, self._assumptions.hints) if known else resolved
            self._figures[size] = found
        return found

    def _number(self, key: Any) -> int:
        return self._numbers.setdefault(key, len(self._numbers))

    def _attrs(self, node: Node) -> Any:
        if node.op in MOVING:
            parts = node.attributes["at"]
            spans = (part[1:] if isinstance(part, tuple) else part is None for part in parts)
            return tuple(map(self._attr, spans))
        return tuple((name, self._attr(value)) for name, value in node.attrs)

    def _attr(self, value: Any) -> Any:
        if isinstance(value, Graph):
            return self.body(value)
        if isinstance(value, tuple):
            return tuple(map(self._attr, value))
        return self.figure(value) if isinstance(value, Dim) else value

    def alike(self, one: Any, other: Any) -> bool:
        """Whether attributes are equal: extents if they are equal in this call, which is assumed
        from then on.
        """
        if one is other:
            return True
        if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
            return all(map(self.alike, one, other))
        if isinstance(one, Dim) or isinstance(other, Dim):
            if not (isinstance(one, Dim | int) and isinstance(other, Dim | int)):
                return False
            return self._attr(one) == self._attr(other) and same(one, other)
        return one == other

    def body(self, graph: Graph) -> int:
        """The kind of a body: equal for bodies that differ in constants only."""
        known = self._bodies.get(id(graph))
        if known is None:
            known = self._bodies[id(graph)] = graph, self._number(self._structure(graph))
        return known[1]

    def _structure(self, graph: Graph) -> tuple[Any, ...]:
        steps = [node for node in graph.nodes if node.op is not CONSTANT]
        places = {node: number for number, node in enumerate(steps)}

        def place(node: Node) -> Any:
            return places[node] if node in places else self.type(node.type)

        rows = []
        for node in steps:
            attrs = tuple((name, self._attr(value)) for name, value in node.attrs)
            op = node.op.name if node.op.name == "input" else node.op
            rows.append((op, self.type(node.type), attrs, tuple(map(place, node.inputs))))
        return tuple(rows), tuple(map(place, graph.outputs))
