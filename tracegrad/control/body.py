"""Bodies: a Python function traced into a graph of its own, for a loop or a branch to hold.

scan(lambda c, x: (c * a + x, c), c0, xs)   ->   body(index, c, x, a) -> (c', y), `a` captured from
outside
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.autodiff.derived import as_traced
from tracegrad.errors import TraceError
from tracegrad.ir.dims import Size
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.types import CHECKS, ArrayType, StateType
from tracegrad.leaves import is_leaf
from tracegrad.ops.constant import Input
from tracegrad.ops.reduction import broadcast_to
from tracegrad.ops.shape import COPY
from tracegrad.tracing.array import Traced
from tracegrad.tracing.outside import Guarded
from tracegrad.tracing.trace import Trace, current_trace, tracing
from tracegrad.tree import Tree, flatten


@dataclass(frozen=True)
class Body:
    """`graph`'s inputs are the given arguments, then a stand-in for each of `captured`."""

    graph: Graph
    captured: tuple[Node, ...]
    tree: Tree
    """The structure of what the function returned."""
    generators: tuple[str, ...] = ()
    """The random number generators that it draws from; their states are its last outputs."""

    @property
    def results(self) -> tuple[Node, ...]:
        """The outputs that are the function's own."""
        return self.graph.outputs[: len(self.graph.outputs) - len(self.generators)]


def trace_body(
    outer: Trace,
    name: str,
    arguments: Sequence[tuple[str, ArrayType]],
    run: Callable[[list[Traced]], Any],
    draws: str = "",
    below: Size | None = None,
) -> Body:
    """The graph of `run` on arguments of these names and types.

    `draws` says why it must not draw random numbers, if it must not. With `below` the first
    argument counts up to there.
    """
    trace = outer.child(name)
    with Guarded(), tracing(trace, Traced):
        counts = [below, *[None] * len(arguments)]
        given = [
            Traced(trace, trace.add_node(type, label, size), label)
            for (label, type), size in zip(arguments, counts, strict=False)
        ]
        leaves, tree = values_of(run(given))
        outputs = trace.rolled([*(node_in(trace, leaf) for leaf in leaves), *trace.ends()])
    return closed(trace, outputs[: len(leaves)], tree, draws, outputs[len(leaves) :])


def closed(
    trace: Trace,
    outputs: Sequence[Node],
    tree: Tree,
    draws: str = "",
    ends: Sequence[Node] | None = None,
) -> Body:
    """The body that `trace` recorded. `ends`: the states of its generators, if they were moved."""
    drawn = tuple(trace.drawn)
    if drawn == (CHECKS,) and draws:
        raise TraceError("a check in the condition of a loop: check in its body, or before it")
    if drawn and draws:
        raise TraceError(f"{draws}: draw the numbers before, and use them there")
    graph = trace.finish_body([*outputs, *(trace.ends() if ends is None else ends)])
    return Body(graph, tuple(trace.captured), tree, drawn)


def with_states(body: Body, before: int, results: int) -> tuple[Body, list[Node]]:
    """The body with the states of its generators as further arguments, after the first `before`
    inputs, and as results after the first `results`; and the present states.
    """
    if not body.generators:
        return body, []
    graph, given = body.graph, len(body.graph.inputs) - len(body.captured)
    pairs = list(zip(body.captured, graph.inputs[given:], strict=True))
    starts = {
        node.type.generator: (o, node) for o, node in pairs if isinstance(node.type, StateType)
    }
    chosen = [starts[generator] for generator in body.generators]
    rest = [pair for pair in pairs if pair not in chosen]
    states, others = [node for _, node in chosen], [node for _, node in rest]
    inputs = (*graph.inputs[:before], *states, *graph.inputs[before:given], *others)
    count = len(graph.outputs) - len(chosen)
    outputs = (*graph.outputs[:results], *graph.outputs[count:], *graph.outputs[results:count])
    changed = replace(graph, inputs=inputs, outputs=outputs)
    captured = tuple(outer for outer, _ in rest)
    return Body(changed, captured, body.tree), [outer for outer, _ in chosen]


def values_of(value: Any) -> tuple[list[Any], Tree]:
    """The leaves of a carry or an operand: here Python ints and bools are values too."""
    found: list[tuple[str, Any]] = []
    tree = flatten("", value, lambda x: is_leaf(x) or isinstance(x, int), found)
    return [leaf for _, leaf in found], tree


def node_in(trace: Trace, value: Any) -> Node:
    """The node that stands for a value in `trace`: captured if it is one of an enclosing trace."""
    if isinstance(value, Traced):
        return trace.capture(value._trace, value.node)
    return trace.lift(value)


def separate(trace: Trace, node: Node) -> Node:
    """A copy to differentiate in, apart from other uses of the same value."""
    return trace.record_new(COPY, (node,), trace.names.get(node, ""))


def zeros(type: ArrayType) -> Traced:
    """Zeros of that type, recorded in the current trace."""
    trace = current_trace()
    assert trace is not None
    kind = type.dtype if type.is_float else np.dtype(float)
    return as_traced(trace, broadcast_to(as_traced(trace, np.zeros((), kind)[()]), type.shape))


def with_captured(body: Body, captured: Sequence[Node]) -> Graph:
    """The body's graph for a longer list of captured values: one that serves several bodies."""
    given = body.graph.inputs[: len(body.graph.inputs) - len(body.captured)]
    own = dict(zip(body.captured, body.graph.inputs[len(given) :], strict=True))
    extra = tuple(own[node] if node in own else stand_in(node) for node in captured)
    return replace(body.graph, inputs=(*given, *extra))


def stand_in(node: Node) -> Node:
    """An input node of that node's type and name."""
    return Node(Input(node.type), (), (), node.type, node.name)
