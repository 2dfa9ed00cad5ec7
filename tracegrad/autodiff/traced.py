"""Differentiation inside a trace: the passes' arrays are traced ones, the result is more graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tracegrad.autodiff import forward, reverse
from tracegrad.autodiff.again import current, elsewhere
from tracegrad.errors import NotDifferentiableError
from tracegrad.ir.graph import Node
from tracegrad.ir.op import Array
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.ops.constant import Input
from tracegrad.ops.reduction import BROADCAST_TO
from tracegrad.ops.replay import is_generator
from tracegrad.ops.shape import COPY
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace, current_trace


class TracedLinearizer:
    """Placeholders are zeros that no other value is merged with.

    What is computed from them is linear in them, so its transpose does not depend on their value;
    yet a loop that is run again for its residuals has them among its operands.
    """

    def __init__(self, trace: Trace, owner: Trace | None = None) -> None:
        self.trace = trace
        self.owner = owner or trace

    def placeholder(self, type: Any) -> Traced:
        if isinstance(type, TupleType):
            return Traced(self.trace, Node(Input(type), (), (), type))
        zero = self.trace.lift(np.zeros((), type.dtype)[()])
        if type.rank:
            zero = self.trace.builder.node(BROADCAST_TO, (zero,), (("shape", type.shape),))
        return Traced(self.trace, Node(COPY, (zero,), (), type))

    def value(self, node: Node) -> Traced:
        if self.owner is not self.trace and is_generator(node.type):
            return elsewhere(self.trace, self.owner, node)
        return Traced(self.owner, node)

    def transpose(self, result: Array, ct: Array, free: Sequence[Array]) -> list[Array | None]:
        own = TracedLinearizer(self.trace)
        return reverse.cotangents([result.node], [ct], [x.node for x in free], own.value, own)


def transpose_linear(
    apply: Callable[[list[Array | None]], Sequence[Array | None]],
    types: Sequence[ArrayType],
    cts: Sequence[Array | None],
    called: str,
) -> list[Array | None]:
    """The cotangents of the arguments of `apply`, which is linear in them, from those of its
    results; arguments that are not floating have none.

    Raises NotDifferentiableError if it is not linear: then they depend on where they are taken.
    `called` is what the error calls `apply`.
    """
    trace = current_trace()
    assert trace is not None
    linear = TracedLinearizer(trace)
    free = [linear.placeholder(type) if type.is_float else None for type in types]
    pairs = [
        (trace.lift(y) if not isinstance(y, Traced) else y.node, ct)
        for y, ct in zip(apply(free), cts, strict=True)
        if y is not None and ct is not None
    ]
    wrt = [x.node for x in free if x is not None]
    outputs, seeds = [y for y, _ in pairs], [ct for _, ct in pairs]
    found = reverse.cotangents(outputs, seeds, wrt, linear.value, linear)
    if _reads([ct.node for ct in found if ct is not None], set(wrt)):
        raise NotDifferentiableError(
            f"{called} is not linear in the derivatives that it is given, so that the other mode "
            "does not follow from it: multiply them by what depends on the arguments alone"
        )
    rest = iter(found)
    return [None if x is None else next(rest) for x in free]


def _reads(nodes: Sequence[Node], free: set[Node]) -> bool:
    """Whether a value is computed from one of `free`, as far as that shows outside of loops, whose
    results may come from other operands."""
    seen: set[Node] = set()
    stack = [*nodes]
    while stack:
        node = stack.pop()
        if node in free:
            return True
        if node not in seen and not isinstance(node.type, TupleType):
            seen.add(node)
            stack.extend(node.inputs)
    return False


@contextmanager
def naming(trace: Trace) -> Iterator[Callable[[Node, Any], Any]]:
    """What `reverse.cotangents` shows each cotangent to: it is named after its value and stands at
    the line of its value."""
    saved = trace.attributed

    def observe(node: Node, ct: Any) -> Any:
        if not isinstance(ct, list):
            trace.cotangents.setdefault(ct.node, ("d_", node))
        trace.attributed = node.source
        return ct

    try:
        yield observe
    finally:
        trace.attributed = saved


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
    outputs = current(linear.owner, outputs, wrt, linear.owner is not trace)
    with naming(trace) as observe:
        found = reverse.cotangents(outputs, cts, wrt, linear.value, linear, observe)
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
    outputs = current(linear.owner, outputs, given, linear.owner is not trace)
    found = forward.tangents(outputs, given, linear.value, linear)
    for node, tangent in zip(outputs, found, strict=True):
        if tangent is not None:
            trace.cotangents.setdefault(tangent.node, ("t_", node))
    return found
