"""Reverse mode of a branch: what the backward of each side needs is kept by the side that ran.

    if p: y = f(x)   else: y = g(x)       ->      if p: y, r = f(x), kept   else: y, r = g(x), unset
                                                  if p: d_x = f_backward(d_y, r)   else: ...

The residual cut of each body says what to keep and what to compute again. Values of one type share
a place among the results, whichever side they are of; a side without a value for a place leaves it
unset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from codegen.records import dataclass
from tracegrad.autodiff.residuals import Cut, Residual, cut, joint_body
from tracegrad.control.body import Body, node_in, trace_body, zeros
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.types import ArrayType
from tracegrad.ops.project import PROJECT
from tracegrad.ops.unset import UNSET
from tracegrad.passes.expand import expand
from tracegrad.passes.simplify import simplify
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace, current_trace


@dataclass(frozen=True)
class Sides:
    """The branches split by the cut; `slots` are the types of the places for what they keep, and
    `places` says which place each of a side's kept values takes."""

    cuts: tuple[Cut, ...]
    slots: tuple[ArrayType, ...]
    places: tuple[tuple[int, ...], ...]

    def forward(self) -> tuple[Graph, ...]:
        """The branches that keep."""
        return tuple(map(self._keeping, self.cuts, self.places))

    def _keeping(self, side: Cut, places: tuple[int, ...]) -> Graph:
        results, kept = side.forward.outputs[: side.outputs], side.forward.outputs[side.outputs :]
        at = dict(zip(places, kept, strict=True))
        filled = (at.get(number) or unset(type) for number, type in enumerate(self.slots))
        return replace(side.forward, outputs=(*results, *filled))


def unset(type: ArrayType) -> Node:
    return Node(UNSET, (), (("shape", type.shape), ("dtype", type.dtype)), type)


def split(
    trace: Trace, branches: Sequence[Graph], wanted: Sequence[bool], seeded: Sequence[bool]
) -> Sides:
    """The cut of every branch, for the cotangents of the operands that are `wanted`, from those of
    the results that are `seeded`."""
    cuts = []
    for body in branches:
        joint = simplify(expand(joint_body(trace, body, wanted, seeded), again=True))
        cuts.append(cut(joint, len(body.inputs), len(body.outputs), wanted, carries=0))
    slots: list[ArrayType] = []
    places = []
    for side in cuts:
        free = list(range(len(slots)))
        own = []
        for node in side.forward.outputs[side.outputs :]:
            kind = ArrayType(node.type.dtype, node.type.shape)
            found = next((number for number in free if slots[number] == kind), None)
            if found is None:
                found = len(slots)
                slots.append(kind)
            else:
                free.remove(found)
            own.append(found)
        places.append(tuple(own))
    return Sides(tuple(cuts), tuple(slots), tuple(places))


def backward_bodies(
    trace: Trace,
    sides: Sides,
    results: Sequence[Any],
    inputs: Sequence[Any],
    cts: Sequence[Any],
    wanted: Sequence[bool],
) -> list[Body]:
    """For each side the body that computes the cotangents of the wanted operands.

    `results` are those of the forward, and the places for what is kept; `cts` belong to the seeded
    results, in order.
    """
    return [
        _backward(trace, side, places, results, inputs, cts, wanted)
        for side, places in zip(sides.cuts, sides.places, strict=True)
    ]


def _backward(
    trace: Trace,
    side: Cut,
    places: tuple[int, ...],
    results: Sequence[Any],
    inputs: Sequence[Any],
    cts: Sequence[Any],
    wanted: Sequence[bool],
) -> Body:
    def origin(residual: Residual) -> Any:
        if residual.origin == "argument":
            return inputs[residual.index]
        if residual.origin == "output":
            return results[residual.index]
        return results[side.outputs + places[residual.index]]

    def body(given: list[Traced]) -> list[Any]:
        inner = current_trace()
        assert inner is not None
        values = [*cts, *map(origin, side.residuals)]
        nodes = [node_in(inner, value) for value in values]
        found = iter(inner.inline(side.backward, nodes))
        missing = iter(side.missing)
        return [
            zeros(x.type) if next(missing) else Traced(inner, next(found))
            for x, want in zip(inputs, wanted, strict=True)
            if want
        ]

    return trace_body(trace, side.backward.name, [], body)


def result(out: Any, number: int) -> Traced:
    """One of the results of a recorded branch, where it was recorded."""
    owner: Trace = out._trace
    return Traced(owner, owner.record(PROJECT, (out.node,), {"index": number}))
