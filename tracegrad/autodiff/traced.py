"""Differentiation inside a trace: the passes' arrays are traced ones, the result is more graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tracegrad.autodiff import forward, reverse
from tracegrad.ir.graph import Node
from tracegrad.ir.op import Array
from tracegrad.ops.constant import Input
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace


class TracedLinearizer:
    """Placeholders are free nodes of the trace; they never reach an output."""

    def __init__(self, trace: Trace, owner: Trace | None = None) -> None:
        self.trace = trace
        self.owner = owner or trace

    def placeholder(self, type: Any) -> Traced:
        return Traced(self.trace, Node(Input(type), (), (), type))

    def value(self, node: Node) -> Traced:
        return Traced(self.owner, node)

    def transpose(self, result: Array, ct: Array, free: Sequence[Array]) -> list[Array | None]:
        own = TracedLinearizer(self.trace)
        return reverse.cotangents([result.node], [ct], [x.node for x in free], own.value, own)


def vjp(
    trace: Trace,
    outputs: Sequence[Node],
    cts: Sequence[Array | None],
    wrt: Sequence[Node],
    owner: Trace | None = None,
) -> list[Array | None]:
    """The cotangents of `wrt`, recorded into `trace`, named after the values they belong to.

    The values to differentiate are nodes of `owner`, an enclosing trace, if it is given.
    """
    linear = TracedLinearizer(trace, owner)
    saved = trace.attributed

    def observe(node: Node, ct: Any) -> Any:
        if not isinstance(ct, list):
            trace.cotangents.setdefault(ct.node, ("d_", node))
        trace.attributed = node.source
        return ct

    try:
        found = reverse.cotangents(outputs, cts, wrt, linear.value, linear, observe)
    finally:
        trace.attributed = saved
    for node, ct in zip(wrt, found, strict=True):
        if ct is not None:
            trace.cotangents[ct.node] = ("d_", node)
    return found


def jvp(
    trace: Trace,
    outputs: Sequence[Node],
    given: Mapping[Node, Array],
    owner: Trace | None = None,
) -> list[Array | None]:
    """The tangents of `outputs`, recorded into `trace`; the values are nodes of `owner` if it is
    given.
    """
    linear = TracedLinearizer(trace, owner)
    found = forward.tangents(outputs, given, linear.value, linear)
    for node, tangent in zip(outputs, found, strict=True):
        if tangent is not None:
            trace.cotangents.setdefault(tangent.node, ("t_", node))
    return found
