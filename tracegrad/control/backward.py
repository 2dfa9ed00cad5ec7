"""The backward of a counted loop: a loop in reverse order over the residuals.

    for i in reversed(range(n)):  d_c, d_x[i] = body_backward(d_c, d_y[i], r[i])

Cotangents of what every step reads are added up, matrix products by one product of stacks at the
end (`products`); cotangents that are the same in every step are not stacked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

from codegen.records import dataclass
from tracegrad.autodiff.residuals import Cut
from tracegrad.control.body import node_in, zeros
from tracegrad.control.products import Factors, Summed, factor, summands, total, with_outputs
from tracegrad.ir.dims import Size
from tracegrad.ir.graph import Node
from tracegrad.ir.types import ArrayType
from tracegrad.ops.reduction import BROADCAST_TO, broadcast_to
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace, current_trace


@dataclass(frozen=True)
class Placed:
    """Where the backward takes a residual from: `kind` is `stack`, `constant` or `index`."""

    kind: str
    value: Any = None


class Backward:
    """The parts of the backward body: what it takes, in order, and what it returns."""

    def __init__(
        self,
        found: Cut,
        body: Any,
        carries: int,
        stacks: int,
        want: Sequence[bool],
        stacked: Collection[Node],
    ):
        """`stacked`: the inputs of the backward body that lie in memory for every step."""
        wanted = [number for number, w in enumerate(want) if w]
        self.found, self.body, self.carries, self.stacked = found, body, carries, stacked
        self.wanted = wanted
        self.moving = [n for n in wanted if n <= carries]
        self.items = [n for n in wanted if carries < n <= carries + stacks]
        gradients = iter(found.backward.outputs)
        self.gradients: dict[int, Node | None] = {
            n: None if missing else next(gradients)
            for n, missing in zip(wanted, found.missing, strict=True)
        }
        self.unwound = [*gradients]
        """The arrays that the step unwinds, as they were before it."""
        self.constants: dict[int, Summed] = {}
        for n in wanted:
            gradient = self.gradients[n]
            if n > carries + stacks and gradient is not None:
                self.constants[n] = summands(gradient)
        self.added = [n for n, summed in self.constants.items() if summed.rest]

    @property
    def products(self) -> list[Factors]:
        return [each for summed in self.constants.values() for each in summed.products]

    @cached_property
    def factors(self) -> dict[tuple[Node, bool], None]:
        """The factors that the loop has to stack, each once: those that are not stacked already;
        and whether transposed.
        """
        pairs = (pair for each in self.products for pair in each.pairs)
        return {(x, turned): None for x, turned in pairs if turned or x not in self.stacked}

    def outputs(self) -> list[Node]:
        """What to compute in a step: gradients, further terms, factors."""
        plain = [self.gradients[n] for n in (*self.moving, *self.items)]
        terms = [term for n in self.added for term in self.constants[n].rest]
        factors = [node for node, _ in self.factors]
        return [*(node for node in plain if node is not None), *terms, *self.unwound, *factors]

    def step(self, given: dict[Node, Any], sums: dict[int, Traced], types: Any) -> list[Any]:
        """The results of a step: carries, sums, unwound arrays, items, factors."""
        inner = current_trace()
        assert inner is not None
        graph = with_outputs(self.found.backward, self.outputs())
        nodes = [node_in(inner, given[node]) for node in graph.inputs]
        outs = (Traced(inner, node) for node in inner.inline(graph, nodes))
        plain = [
            zeros(types[n].type) if self.gradients[n] is None else next(outs)
            for n in (*self.moving, *self.items)
        ]
        added = []
        for n in self.added:
            new = sums[n]
            for _ in self.constants[n].rest:
                new = new + next(outs)
            added.append(new)
        unwound = [next(outs) for _ in self.unwound]
        factors = [factor(next(outs), turned) for _, turned in self.factors]
        carried = len(self.moving)
        return [*plain[:carried], *added, *unwound, *plain[carried:], *factors]

    def totals(
        self, sums: dict[int, Traced], factors: Sequence[Traced], residuals: dict[Node, Any]
    ) -> dict[int, Any]:
        """The cotangents of the constants after the loop."""
        stacked = dict(zip(self.factors, factors, strict=True))
        result: dict[int, Any] = dict(sums)
        for n, summed in self.constants.items():
            for each in summed.products:
                left, right = (
                    stacked[pair] if pair in stacked else residuals[pair[0]] for pair in each.pairs
                )
                part = total(left, right)
                result[n] = part if n not in result else result[n] + part
        return result


def steady(trace: Trace, ct: Traced) -> Traced | None:
    """What every item of a stack of cotangents is broadcast from, if they are all the same."""
    node = ct.node
    if node.op is not BROADCAST_TO:
        return None
    (inner,) = node.inputs
    if inner.type.rank == node.type.rank:
        return None
    return Traced(ct._trace, inner)


def spread(value: Traced, type: ArrayType) -> Any:
    return broadcast_to(value, type.shape)


def result_types(outputs: Sequence[ArrayType], carries: int, length: Size) -> list[ArrayType]:
    return [
        type if number < carries else ArrayType(type.dtype, (length, *type.shape))
        for number, type in enumerate(outputs)
    ]
