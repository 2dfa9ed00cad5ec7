"""The loop that ends when a condition does not hold any more.

    x = while_loop(lambda x: x < 10, lambda x: 2 * x, x0)      ->      while x < 10: x = 2 * x

Its reverse mode knows the number of steps from the forward run: the steps are run again as a
counted loop that keeps residuals, and that loop is differentiated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tracegrad.autodiff import traced
from tracegrad.autodiff.again import apart, draws_of
from tracegrad.autodiff.derived import as_traced
from tracegrad.control.batching import Batched, batch_graph, for_all, for_items, mapped_outputs
from tracegrad.control.body import (
    Body,
    node_in,
    separate,
    stand_in,
    trace_body,
    with_captured,
    with_states,
    zeros,
)
from tracegrad.control.counted import results_of
from tracegrad.control.loop import INDEX, Ran, Span, backward_through, carried
from tracegrad.control.repeated import RepeatedLoop
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.op import Array
from tracegrad.ir.types import ArrayType, StateType
from tracegrad.ops.batched import count_of
from tracegrad.ops.constant import Input
from tracegrad.ops.op import PUBLIC, register
from tracegrad.ops.project import PROJECT
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace, current_trace


class Repeat(RepeatedLoop):
    """The loop; both its derivatives are loops again."""

    def jvp(
        self,
        tangents: Sequence[Array | None],
        out: Any,
        *inputs: Array,
        condition: Graph,
        body: Graph,
        carries: int,
    ) -> list[Any]:
        """Tangents of the floating carries are carried beside them."""
        trace = current_trace()
        assert trace is not None
        constants, t_constants = inputs[carries:], tangents[carries:]
        moving = [x.type.is_float for x in inputs[:carries]]
        starts = [
            zeros(x.type) if t is None else t
            for x, t, move in zip(inputs, tangents, moving, strict=False)
            if move
        ]
        types = [(node.name, node.type) for node in body.inputs[:carries]]
        extra = [
            (f"t_{name}", kind) for (name, kind), move in zip(types, moving, strict=True) if move
        ]

        def step(given: list[Traced]) -> Any:
            inner = current_trace()
            assert inner is not None
            t_carry = iter(given[carries:])
            seeds = [next(t_carry) if move else None for move in moving]
            nodes = [
                separate(inner, node_in(inner, value)) for value in (*given[:carries], *constants)
            ]
            outputs = inner.inline(body, nodes)
            known = {
                node: as_traced(inner, seed)
                for node, seed in zip(nodes, (*seeds, *t_constants), strict=True)
                if seed is not None
            }
            found = traced.jvp(inner, outputs, known)
            new = [
                zeros(y.type) if t is None else t
                for y, t, move in zip(outputs, found, moving, strict=True)
                if move
            ]
            return [*(Traced(inner, y) for y in outputs), *new]

        def test(given: list[Traced]) -> Any:
            inner = current_trace()
            assert inner is not None
            nodes = [node_in(inner, value) for value in (*given[:carries], *constants)]
            return Traced(inner, inner.inline(condition, nodes)[0])

        arguments = [*types, *extra]
        results = repeat(
            trace,
            trace_body(trace, condition.name, arguments, test),
            trace_body(trace, f"{body.name}_jvp", arguments, step),
            [*inputs[:carries], *starts],
        )
        if any(isinstance(node.type, StateType) for node in body.inputs):
            # Random numbers are drawn once: by the loop that has the tangents too.
            for place, new in enumerate([*results[:carries], results[-1]]):
                trace.supersede(trace.record(PROJECT, (out.node,), {"index": place}), new.node)
        pushed = iter(results[carries:])
        return [*(next(pushed) if move else None for move in moving), None]

    def vjp(
        self,
        wanted: Sequence[bool],
        cts: Any,
        out: Any,
        *inputs: Array,
        condition: Graph,
        body: Graph,
        carries: int,
    ) -> list[Any]:
        trace = current_trace()
        assert trace is not None
        owner: Trace = out._trace
        node, superseded = out.node, out.node
        if draws_of(node):  # the user's generator is left as the loop leaves it
            node, inputs = apart(trace, owner, node, inputs)
            superseded = None
        bound, length = trace.bound(trace.capture(owner, project(owner, node, carries)))
        index = Node(Input(INDEX), (), (), INDEX, "step")
        counted = replace(body, inputs=(index, *body.inputs))
        ran = Ran(trace, counted, inputs, carries, 0, Span(length, False, bound))
        return backward_through(ran, wanted, cts[:carries], superseded)

    def batch(
        self,
        mapped: tuple[bool, ...],
        *inputs: Array,
        condition: Graph,
        body: Graph,
        carries: int,
    ) -> list[tuple[Any, bool]] | None:
        """One loop over batched steps; None if the items end after different numbers of them."""
        trace, count = current_trace(), count_of(mapped, inputs)
        assert trace is not None
        flags = carried(mapped, body, slice(0, carries))
        if mapped_outputs(condition, flags)[0]:
            return (
                _until_all(trace, count, mapped, inputs, condition, body)
                if trace.of_strip
                else None
            )
        constants = inputs[carries:]
        first = [
            for_all(trace, Batched(x, was), count) if flag else x
            for x, flag, was in zip(inputs[:carries], flags, mapped, strict=False)
        ]
        arguments = [
            (node.name, for_items(count, node.type) if flag else node.type)
            for node, flag in zip(body.inputs[:carries], flags, strict=False)
        ]

        def run(graph: Graph, given: list[Traced]) -> list[Any]:
            inner = current_trace()
            assert inner is not None
            found = batch_graph(inner, graph, [*given, *constants], flags, count)
            if graph is condition:
                return [found[0].value]
            return [
                for_all(inner, x, count) if flag else x.value
                for x, flag in zip(found, flags[:carries], strict=True)
            ]

        results = repeat(
            trace,
            trace_body(trace, condition.name, arguments, lambda given: run(condition, given)[0]),
            trace_body(trace, body.name, arguments, lambda given: run(body, given)),
            first,
        )
        return list(zip(results, [*flags[:carries], False], strict=True))


REPEAT = register(Repeat())


def _until_all(
    trace: Trace,
    count: Any,
    mapped: Sequence[bool],
    inputs: Sequence[Any],
    condition: Graph,
    body: Graph,
) -> list[tuple[Any, bool]]:
    """One loop until the last of `count` items is done; what is done stays what it is.

    (s, go) = while any(go): new = where(go, body(s), s); s, go = new, condition(new)
    """
    carries = len(body.outputs)
    constants = inputs[carries:]
    flags = [True] * carries + list(mapped[carries:])
    pairs = zip(inputs, mapped, strict=True)
    first = [for_all(trace, Batched(x, was), count) for x, was in pairs][:carries]
    named = [(node.name, for_items(count, node.type)) for node in body.inputs[:carries]]
    named.append(("go", for_items(count, ArrayType(np.dtype(bool)))))

    def going(inner: Trace, state: Sequence[Any]) -> Traced:
        (found,) = batch_graph(inner, condition, [*state, *constants], flags, count)
        return for_all(inner, found, count)

    def step(given: list[Traced]) -> list[Any]:
        *state, go = given
        found = batch_graph(go._trace, body, [*state, *constants], flags, count)
        new = [
            PUBLIC["where"](go, for_all(go._trace, x, count), old)
            for x, old in zip(found, state, strict=True)
        ]
        return [*new, going(go._trace, new)]

    results = repeat(
        trace,
        trace_body(trace, condition.name, named, lambda given: PUBLIC["any"](given[-1])),
        trace_body(trace, body.name, named, step),
        [*first, going(trace, first)],
    )
    return [*((y, True) for y in results[:carries]), (results[-1], False)]


def project(trace: Trace, node: Node, index: int) -> Node:
    return trace.record(PROJECT, (node,), {"index": index})


def repeat(trace: Trace, condition: Body, body: Body, init: Sequence[Any]) -> list[Traced]:
    """Record the loop; its final carries, then the number of steps."""
    generators, carries = body.generators, len(init)
    body, states = with_states(body, carries, carries)
    inputs = [Node(Input(state.type), (), (), state.type, state.name) for state in states]
    given = condition.graph.inputs
    graph = replace(condition.graph, inputs=(*given[:carries], *inputs, *given[carries:]))
    condition = replace(condition, graph=graph)
    captured = tuple(dict.fromkeys((*condition.captured, *body.captured)))
    operands = (*(node_in(trace, x) for x in init), *states, *captured)
    attrs = {
        "condition": with_captured(condition, captured),
        "body": with_captured(body, captured),
        "carries": carries + len(states),
    }
    results = results_of(trace, trace.record(REPEAT, operands, attrs))
    for generator, state in zip(generators, results[carries:], strict=False):
        trace.advance(generator, state.node)
    return [*results[:carries], *results[carries + len(states) :]]


__all__ = ["REPEAT", "Repeat", "repeat", "stand_in"]
