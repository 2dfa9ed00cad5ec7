"""Lowering of bodies: a graph inside a loop or a branch, into the statements of the function
around it.

Its inputs are what the loop gives them; codegen's scheduler moves its buffers out of the loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from codegen import loops
from codegen.expr import Expr, Load, Var
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.types import ArrayType, StateType
from tracegrad.lower import Index, Lowering, comment, scalar
from tracegrad.ops.project import PROJECT
from tracegrad.passes.plan import is_view, plan
from tracegrad.passes.reuse import owner

Place = str | Expr
"""Where a value is: the name of an array, or a scalar expression."""


class Nested(Lowering):
    """A body being lowered inside `outer`."""

    def __init__(
        self,
        outer: Lowering,
        graph: Graph,
        carried: Sequence[Node] = (),
        own: Iterable[Node] = (),
    ) -> None:
        """`carried`: the inputs that are carries; the first outputs are their next values. `own`:
        further inputs whose memory the body may write to.
        """
        self.graph, self.name = graph, outer.name
        planned = plan(graph, own=overwritten(graph, carried) | frozenset(own))
        self.stored, self.taken = planned.stored, planned.taken
        self.returned = set()
        self.namer, self.body, self.scopes = outer.namer, outer.body, outer.scopes
        self.constants, self.arrays, self.scalars, self.parts = outer.constants, {}, {}, {}
        self.checks, self.known_sizes = list(graph.checks), set(outer.known_sizes)
        self._nested = 0
        self._depth = outer._depth

    def give(self, node: Node, place: Place) -> None:
        """An input of the body is found there."""
        if isinstance(place, str) and node.type.rank:
            self.arrays[node] = place
        else:
            self.scalars[node] = scalar(place, node.type) if isinstance(place, str) else place

    def give_item(self, node: Node, array: str, step: Expr) -> None:
        """An input of the body is `array[step]`."""
        if not node.type.rank:
            self.scalars[node] = Load(array, (step,), node.type.dtype)
            return
        self.append(loops.View(node.name, array, at=(step,)))
        self.arrays[node] = node.name

    def give_operand(self, node: Node, outer: Lowering, operand: Node) -> None:
        """An input of the body is a value of the function around it."""
        self.give(node, outer.arrays.get(operand) or outer.value(operand, ()))

    def run(self) -> None:
        self.check_sizes()
        for node in self.graph.nodes[len(self.graph.inputs) :]:
            if node in self.stored:
                self._emit(node)

    def put(self, node: Node, array: str, before: Index = ()) -> None:
        """Store an output of the body into `array[before]`."""
        with self.nest(node.type.shape) as index:
            value = self.value(node, index)
            self.append(loops.Store(array, (*before, *index), value, comment(node)))

    def update(self, carries: Sequence[tuple[Node, str]]) -> None:
        """Give the carries their next values: all are computed before the first is overwritten."""
        moved = [
            (node, name)
            for node, name in carries
            if self._place(node) != name and not isinstance(node.type, StateType)
        ]
        ready = [(node, name, self._next(node)) for node, name in moved]
        for node, name, new in ready:
            if not node.type.rank:
                self.append(loops.Assign(Var(name, node.type.dtype), new, comment(node)))
                continue
            assert isinstance(new, str)
            with self.nest(node.type.shape) as index:
                self.append(loops.Store(name, index, Load(new, index, node.type.dtype)))

    @cached_property
    def made_here(self) -> set[Node]:
        """The nodes with an array that is allocated in the body."""
        return {
            node
            for node in self.stored
            if node.op.name not in ("input", "constant") and node.op is not PROJECT
        }

    def _place(self, node: Node) -> str:
        scalar = self.scalars.get(node)
        return scalar.name if isinstance(scalar, Var) else self.arrays.get(node, "")

    def _next(self, node: Node) -> Any:
        """The coming value of a carry, where nothing that follows changes it."""
        if node.type.rank and owner(node, self.taken, is_view) in self.made_here:
            return self.arrays[node]
        name = self.namer.unique(f"{node.name or 'carry'}_next")
        if not node.type.rank:
            self.append(loops.Assign(Var(name, node.type.dtype), self.value(node, ())))
            return Var(name, node.type.dtype)
        allocate_named(self, name, node.type, temporary=True)
        self.put(node, name)
        return name


def overwritten(graph: Graph, carried: Sequence[Node]) -> frozenset[Node]:
    """The carries that become their next values by writes in place: their memory is written to."""
    found = set()
    for carry, output in zip(carried, graph.outputs, strict=False):
        before = _before_writes(output)
        while before is not None:
            if before is carry:
                found.add(carry)
            before = _before_writes(before)
    return frozenset(found)


def _before_writes(node: Node) -> Node | None:
    """What a value is made from by writes into its memory: in place, in a loop, or in a branch."""
    if node.op.overwrites is not None:
        return node.inputs[node.op.overwrites]
    if node.op is not PROJECT:
        return None
    (maker,) = node.inputs
    number = maker.op.takes(maker).get(node.attributes["index"])
    return None if number is None else maker.inputs[number]


def allocate_named(lowering: Lowering, name: str, type: ArrayType, temporary: bool) -> None:
    """An array of that type; the scheduler moves temporary ones out of loops."""
    shape = tuple(lowering.size(size) for size in type.shape)
    lowering.append(loops.Alloc(name, shape, type.dtype, None, temporary))


def taken_memory(lowering: Lowering, node: Node) -> dict[int, str]:
    """The results of a node with several that live on in the memory of an operand: where."""
    return {
        result.attributes["index"]: lowering.arrays[lowering.taken[result]]
        for result in lowering.graph.uses[node]
        if result in lowering.taken and result.op.name == "project"
    }


def start_carry(lowering: Lowering, name: str, operand: Node) -> None:
    """A carry before the first step: its own memory with the initial value."""
    if isinstance(operand.type, StateType):
        return  # a generator's state is where the generator is
    if not operand.type.rank:
        value = lowering.value(operand, ())
        lowering.append(loops.Assign(Var(name, operand.type.dtype), value))
        return
    allocate_named(lowering, name, operand.type, temporary=False)
    with lowering.nest(operand.type.shape) as index:
        lowering.append(loops.Store(name, index, lowering.value(operand, index)))
