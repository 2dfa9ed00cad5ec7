"""`minimize_memory`: which values to keep for the backward so that a number of bytes suffices.

The values that the backward wants are found as for any function, by the residual cut. If they take
too much, the function is cut into segments: what lives at the end of one is kept, and the rest
of it computed again when the backward comes there. At any moment the kept values and those of one
segment are held. (Chen, Xu, Zhang, Guestrin 2016, "Training deep nets with sublinear memory cost",
arXiv:1604.06174, algorithm 3; its segment size is searched for here.)

    h1 .. h100, 1 MB each, budget 25 MB      =>      keeps h10, h20, ..., computes ten at a time
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from codegen.records import dataclass
from tracegrad.autodiff.derived import name_of
from tracegrad.autodiff.residuals import kept_by_position
from tracegrad.checkpointing import checkpointed
from tracegrad.errors import MemoryBudgetError
from tracegrad.function import Function
from tracegrad.ir.dims import substitute
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.passes.cost import guess
from tracegrad.tracing.naming import UNNAMED
from tracegrad.tracing.trace import Trace

SEGMENTS = 64
"""How many segment sizes are tried."""


def minimize_memory(fun: Callable[..., Any], *, budget_bytes: float) -> Function:
    """`fun`, keeping for its backward at most `budget_bytes` at once; the rest is computed again.

    Counted are the values that are kept or computed again for the backward, not the arguments,
    results and gradients. The budget holds for the extents of the call that is traced; larger
    arrays of the same version keep the same values. Raises MemoryBudgetError, with the least that
    would do, if no choice fits.

    >>> lean = tg.minimize_memory(loss, budget_bytes=100e6)
    """
    if not budget_bytes >= 0:
        raise ValueError(f"minimize_memory: budget_bytes is {budget_bytes}, not a number of bytes")

    def choose(trace: Trace, body: Graph) -> list[Node] | None:
        return chosen(name_of(fun), trace, body, budget_bytes)

    return checkpointed(fun, choose)


def chosen(name: str, trace: Trace, body: Graph, budget: float) -> list[Node] | None:
    """The nodes of `body` to keep within the budget; None: all that the backward wants fits."""
    wanted = [node.type.is_float for node in body.inputs]
    if not any(wanted) or not any(y.type.is_float for y in body.outputs):
        return None
    program = Chain.of(trace, body, wanted)
    if sum(program.held.values()) <= budget:
        return None
    plans = list(program.plans())
    fitting = [plan for plan in plans if plan.peak <= budget]
    if not fitting:
        least = min(plan.peak for plan in plans)
        raise MemoryBudgetError(
            f"minimize_memory: the backward of {name} cannot do with {budget:,.0f} bytes for these "
            f"sizes: the least it needs is {least:,} bytes. Give it more, or let smaller parts "
            "of it be loops over checkpoints (tg.scan of tg.checkpoint(step))"
        )
    return program.filled(max(fitting, key=lambda plan: plan.kept), budget)


@dataclass(frozen=True)
class Plan:
    """The values kept at the ends of segments."""

    values: tuple[Node, ...]
    kept: int
    """Their bytes."""
    segment: int
    """The bytes of the largest segment."""

    @property
    def peak(self) -> int:
        return self.kept + self.segment


@dataclass(frozen=True)
class Chain:
    """The values of a function in the order in which they are computed."""

    nodes: tuple[Node, ...]
    bytes: dict[Node, int]
    held: dict[Node, int]
    """The bytes that the backward wants kept while it goes through a node."""
    last: dict[Node, int]
    """The position of the last node that reads a value."""

    @staticmethod
    def of(trace: Trace, body: Graph, wanted: Sequence[bool]) -> Chain:
        def size(type: ArrayType) -> int:
            known = trace.assumptions
            most = substitute(known.resolve(type.size), known.most)
            return guess(known.resolve(most), known.hints) * type.dtype.itemsize

        nodes = body.nodes[len(body.inputs) :]
        place = {node: number for number, node in enumerate(nodes)}
        last = {x: place[node] for node in nodes for x in node.inputs}
        arrays = [n for n in nodes if n.op.name not in UNNAMED and not _is_tuple(n)]
        held: dict[Node, int] = {}
        for position, kept in kept_by_position(trace, body, wanted):
            node = body.nodes[position]
            held[node] = held.get(node, 0) + size(kept)
        return Chain(nodes, {n: size(n.type) for n in arrays}, held, last)

    def plans(self) -> Iterator[Plan]:
        """One for each of a range of segment sizes."""
        total, most = sum(self.held.values()), max(self.held.values())
        for number in range(SEGMENTS):
            limit = most * (total / most) ** (number / (SEGMENTS - 1))
            yield self._segmented(limit)

    def _segmented(self, limit: float) -> Plan:
        kept: dict[Node, None] = {}
        segment = largest = 0
        for position, node in enumerate(self.nodes):
            segment += self.held.get(node, 0)
            largest = max(largest, segment)
            if segment >= limit:
                kept.update(dict.fromkeys(self._alive(position)))
                segment = 0
        values = tuple(kept)
        return Plan(values, sum(self.bytes[node] for node in values), largest)

    def _alive(self, position: int) -> Iterator[Node]:
        """The values that later nodes are computed from."""
        for node in self.nodes[: position + 1]:
            if node in self.bytes and self.last.get(node, -1) > position:
                yield node

    def filled(self, plan: Plan, budget: float) -> list[Node]:
        """What the budget leaves room for beside the plan's values, costly ones first."""
        values, used = list(plan.values), plan.peak
        rest = [node for node in self.held if node in self.bytes and node not in plan.values]
        for node in sorted(rest, key=lambda n: -n.op.weight):
            if used + self.bytes[node] <= budget:
                values.append(node)
                used += self.bytes[node]
        return values


def _is_tuple(node: Node) -> bool:
    return isinstance(node.type, TupleType)


__all__ = ["minimize_memory"]
