"""The loop with its derivatives: a body run a number of times, carrying and stacking values.

    carry, ys = scan(f, init, xs)      ->      for i in range(n): carry, ys[i] = f(carry, xs[i])

Both derivatives are loops again. Reverse mode runs the body's backward in reverse order; what that
needs of the forward is found by the residual cut of the body, and stacked by the forward loop:

    forward:   for i in range(n):            c, y[i], r[i] = body_forward(c, x[i])
    backward:  for i in reversed(range(n)):  d_c, d_x[i], d_k += body_backward(d_c, d_y[i], r[i])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from codegen.records import dataclass
from tracegrad.autodiff import traced
from tracegrad.autodiff.again import draws_of
from tracegrad.autodiff.residuals import Cut, cut, joint_body, of_computed_extent
from tracegrad.autodiff.undo import Circular, Ends, found_undo
from tracegrad.control.backward import Backward, Placed, result_types, spread, steady
from tracegrad.control.batching import (
    INDEX,
    Batched,
    batch_graph,
    for_all,
    for_items,
    mapped_outputs,
)
from tracegrad.control.body import (
    Body,
    node_in,
    separate,
    stand_in,
    trace_body,
    with_states,
    zeros,
)
from tracegrad.control.counted import CountedLoop, results_of
from tracegrad.control.hoist import Stepped, hoisted, invariants, runs, with_inputs
from tracegrad.ir.dims import Size
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.op import Array
from tracegrad.ir.types import ArrayType, StateType
from tracegrad.ops.batched import count_of, moved
from tracegrad.ops.op import register
from tracegrad.ops.project import PROJECT
from tracegrad.passes.expand import expand
from tracegrad.passes.simplify import simplify
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace, current_trace


@dataclass(frozen=True)
class Span:
    """How often a loop runs and in which order; `bound` is the node that computes `length` if one
    does.
    """

    length: Size
    reverse: bool = False
    bound: Node | None = None

    def reversed(self) -> Span:
        return replace(self, reverse=not self.reverse)


class Loop(CountedLoop):
    """A counted loop; both its derivatives are loops again."""

    def jvp(self, tangents: Sequence[Array | None], out: Any, *inputs: Array, **attrs: Any):
        return _jvp(tangents, inputs, out.node, **attrs)

    def vjp(self, wanted: Sequence[bool], cts: Any, out: Any, *inputs: Array, **attrs: Any):
        return _vjp(wanted, cts, out, inputs, **attrs)

    def batch(self, mapped: tuple[bool, ...], *inputs: Array, **attrs: Any) -> Any:
        return _batch(mapped, inputs, **attrs)


LOOP = register(Loop())


def loop(
    body: Body,
    init: Sequence[Traced],
    xs: Sequence[Traced],
    span: Span,
) -> list[Traced]:
    """Record a loop; its final carries, then its stacks."""
    trace = current_trace()
    assert trace is not None
    generators, carries = body.generators, len(init)
    body, states = with_states(body, 1 + carries, carries)
    starts = [trace.capture(x._trace, x.node) for x in init]
    stacks = [trace.capture(x._trace, x.node) for x in xs]
    operands = (*starts, *states, *stacks, *body.captured)
    carried, computed = carries + len(states), span.bound is not None
    found = Stepped(body.graph, operands, carried, len(xs), span.length, computed)
    found = hoisted(trace, found)
    node = record(trace, found.body, found.operands, carried, found.stacks, span)
    results = results_of(trace, node)
    for generator, state in zip(generators, results[carries:], strict=False):
        trace.advance(generator, state.node)
    return results[:carries] + results[carries + len(states) :]


def record(
    trace: Trace, body: Graph, operands: Sequence[Node], carries: int, stacks: int, span: Span
) -> Node:
    attrs = {"body": body, "carries": carries, "stacks": stacks}
    bound = () if span.bound is None else (span.bound,)
    return trace.record(
        LOOP, (*operands, *bound), {**attrs, "length": span.length, "reverse": span.reverse}
    )


def span_of(inputs: Sequence[Any], body: Graph, length: Size, reverse: bool) -> Span:
    """The span of a recorded loop from its operands."""
    trace = current_trace()
    assert trace is not None
    last = node_in(trace, inputs[-1]) if len(inputs) == len(body.inputs) else None
    return Span(length, reverse, last)


def _as_traced(value: Any) -> Traced:
    trace = current_trace()
    assert trace is not None
    if isinstance(value, Traced):
        return value
    return Traced(trace, trace.lift(value))


def _jvp(
    tangents: Sequence[Any],
    inputs: Sequence[Any],
    old: Node,
    *,
    body: Graph,
    carries: int,
    stacks: int,
    length: Size,
    reverse: bool,
) -> list[Any]:
    """Tangents are carried, taken and stacked beside the values they belong to."""
    span = span_of(inputs, body, length, reverse)
    inputs = inputs[: len(body.inputs) - 1]
    init, xs, constants = _parts(inputs, carries, stacks)
    moving = [x.type.is_float for x in init]
    t_init = [t if t is not None else zeros(x.type) for x, t in zip(init, tangents, strict=False)]
    _, t_xs, t_constants = _parts(tangents[: len(inputs)], carries, stacks)
    with_x = [t for t in t_xs if t is not None]
    trace = current_trace()
    assert trace is not None
    types = [node.type for node in body.inputs]
    names = [node.name for node in body.inputs]
    arguments = list(zip(names[: 1 + carries], types[: 1 + carries], strict=True))
    arguments += [(f"t_{names[1 + k]}", types[1 + k]) for k in range(carries) if moving[k]]
    arguments += list(
        zip(names[1 + carries : 1 + carries + stacks], types[1 + carries :], strict=False)
    )
    arguments += [
        (f"t_{names[1 + carries + k]}", types[1 + carries + k])
        for k, t in enumerate(t_xs)
        if t is not None
    ]

    def run(given: list[Traced]) -> Any:
        rest = iter(given)
        index = next(rest)
        carry = [next(rest) for _ in range(carries)]
        t_carry = [next(rest) if move else None for move in moving]
        items = [next(rest) for _ in range(stacks)]
        t_items = [next(rest) if t is not None else None for t in t_xs]
        inner = current_trace()
        assert inner is not None
        values = [index, *carry, *items, *constants]
        seeds = [None, *t_carry, *t_items, *t_constants]
        nodes = [node_in(inner, value) for value in values]
        copies = [separate(inner, node) for node in nodes]
        outputs = inner.inline(body, copies)
        given_tangents = {
            node: _as_traced(seed)
            for node, seed in zip(copies, seeds, strict=True)
            if seed is not None and node.type.is_float
        }
        found = traced.jvp(inner, outputs, given_tangents)
        filled = [
            (t if t is not None else _as_traced(zeros(y.type)))
            for y, t in zip(outputs, found, strict=True)
        ]
        new_t = [t for t, move in zip(filled, moving, strict=False) if move]
        results = [Traced(inner, y) for y in outputs]
        return [*results[:carries], *new_t, *results[carries:], *filled[carries:]]

    t_body = trace_body(trace, f"{body.name}_jvp", arguments, run)
    start = [*init, *(t for t, move in zip(t_init, moving, strict=True) if move)]
    results = loop(t_body, [*map(_as_traced, start)], [*map(_as_traced, [*xs, *with_x])], span)
    found = iter(results[carries:])
    t_final = [next(found) if move else None for move in moving]
    rest = list(found)
    if any(isinstance(node.type, StateType) for node in body.inputs):
        # Random numbers are drawn once: by the loop that has the tangents too.
        for place, new in enumerate([*results[:carries], *rest[: len(rest) // 2]]):
            trace.supersede(trace.record(PROJECT, (old,), {"index": place}), new.node)
    return [*t_final, *rest[len(rest) // 2 :]]


def _batch(
    mapped: Sequence[bool],
    inputs: Sequence[Any],
    *,
    body: Graph,
    carries: int,
    stacks: int,
    length: Size,
    reverse: bool,
) -> list[tuple[Any, bool]] | None:
    """One loop whose steps treat all items at once; None if they do not take equally many."""
    trace = current_trace()
    assert trace is not None
    span, given = span_of(inputs, body, length, reverse), len(body.inputs) - 1
    if any(mapped[given:]):
        return None
    count = count_of(mapped, inputs)
    flags = carried([False, *mapped[:given]], body, slice(1, 1 + carries))[1:]
    init, xs, constants = _parts(
        list(zip(inputs[:given], flags, mapped, strict=False)), carries, stacks
    )
    first = [for_all(trace, Batched(x, was), count) if flag else x for x, flag, was in init]
    items = [moved(x, 0, 1) if flag else x for x, flag, _ in xs]
    types = [
        for_items(count, node.type) if flag else node.type
        for node, flag in zip(body.inputs[1:], flags, strict=True)
    ]
    arguments = [("index", INDEX)]
    arguments += [
        (n.name, t) for n, t in zip(body.inputs[1:], types[: carries + stacks], strict=False)
    ]
    kinds: list[bool] = []

    def run(steps: list[Traced]) -> Any:
        inner = current_trace()
        assert inner is not None
        values = [*steps, *(x for x, _, _ in constants)]
        found = batch_graph(inner, body, values, [False, *flags], count)
        new = [
            for_all(inner, x, count) if flag else x.value
            for x, flag in zip(found, flags[:carries], strict=False)
        ]
        kinds.extend([*flags[:carries], *(x.mapped for x in found[carries:])])
        return [*new, *(x.value for x in found[carries:])]

    made = trace_body(trace, body.name, arguments, run)
    results = loop(made, first, items, span)
    return [
        (moved(y, 1, 0) if number >= carries and kind else y, kind)
        for number, (y, kind) in enumerate(zip(results, kinds, strict=True))
    ]


def carried(mapped: Sequence[bool], body: Graph, carries: slice) -> list[bool]:
    """Which inputs of a body are mapped in any step: a carry is if the step before makes it so."""
    flags = list(mapped)
    while True:
        made = mapped_outputs(body, flags)
        new = [flag or made[k] for k, flag in enumerate(flags[carries])]
        if new == flags[carries]:
            return flags
        flags[carries] = new


def _parts(items: Sequence[Any], carries: int, stacks: int) -> tuple[list, list, list]:
    return (
        list(items[:carries]),
        list(items[carries : carries + stacks]),
        list(items[carries + stacks :]),
    )


def _vjp(
    wanted: Sequence[bool],
    cts: Sequence[Any],
    out: Any,
    inputs: Sequence[Any],
    *,
    body: Graph,
    carries: int,
    stacks: int,
    length: Size,
    reverse: bool,
) -> list[Any]:
    """The loop again with the residuals stacked, then the backward body in reverse order."""
    trace = current_trace()
    assert trace is not None
    span = span_of(inputs, body, length, reverse)
    given = inputs[: len(body.inputs) - 1]
    ran = Ran(trace, body, given, carries, stacks, span)
    found = backward_through(ran, wanted[: len(given)], cts, out.node)
    return [*found, *([None] * (len(inputs) - len(given)))]


@dataclass(frozen=True)
class Ran:
    """A recorded loop: its body, its operands (without the bound), how it ran."""

    trace: Trace
    body: Graph
    inputs: Sequence[Any]
    carries: int
    stacks: int
    span: Span


def backward_through(
    ran: Ran, wanted: Sequence[bool], cts: Sequence[Any], superseded: Node | None
) -> list[Any]:
    """The cotangents of the operands; the loop with its residuals takes the place of
    `superseded`, a counted loop, or of the carries of one that ends by a condition.
    """
    want, operands = _closed(wanted, ran.body, ran.carries), len(ran.inputs)
    seeded = _seeded(ran, cts)
    joint = joint_body(ran.trace, ran.body, want, seeded, unwound=True)
    ran, joint = _ahead(ran, simplify(expand(joint, again=True)))
    want += [False] * (len(ran.inputs) - operands)
    found = _split(ran, joint, want)
    primal, results = _with_residuals(ran, found, superseded)
    return _backward_loop(ran, found, primal, results, cts, seeded, want)[:operands]


def _split(ran: Ran, joint: Graph, want: Sequence[bool]) -> Cut:
    """The cut of a step: where that costs less, writes into carried arrays are undone."""
    arguments, outputs = len(ran.body.inputs), len(ran.body.outputs)
    own = outputs + sum(map(bool, joint.output_names))
    first, then, again = (joint.outputs[own + k :: 3] for k in range(3))
    ends: Ends = dict(zip(zip(first, then, strict=True), again, strict=True))
    joint = replace(joint, outputs=joint.outputs[:own])
    plain = cut(joint, arguments, outputs, want, ran.carries)
    if not plain.cost or any(map(draws_of, joint.nodes)):
        return plain
    joint, undo = found_undo(joint, ran.carries, ends, of_computed_extent(joint))
    ragged = of_computed_extent(joint)
    while undo.chains and ragged.isdisjoint(undo.kept(joint)):
        try:
            found = cut(joint, arguments, outputs, want, ran.carries, undo=undo)
        except Circular as circle:
            if circle.nodes <= undo.stay:
                return plain
            undo = replace(undo, stay=undo.stay | circle.nodes)
            continue
        if len(found.undo.chains) == len(undo.chains):
            return found if is_cheaper(found, plain) else plain
        undo = found.undo
    return plain


def is_cheaper(found: Cut, plain: Cut) -> bool:
    return found.cost < plain.cost


def _seeded(ran: Ran, cts: Sequence[Any]) -> list[bool]:
    """Which results of a step have a cotangent: every floating carry, since a later step may have
    used it, and the stacks that something depends on.
    """
    return [
        node.type.is_float and (number < ran.carries or ct is not None)
        for number, (node, ct) in enumerate(zip(ran.body.outputs, cts, strict=True))
    ]


def _ahead(ran: Ran, joint: Graph) -> tuple[Ran, Graph]:
    """What a step and its backward need and is the same in every step becomes a constant."""
    if joint.bounds:
        return ran, joint
    first, given = 1 + ran.carries + ran.stacks, len(ran.body.inputs)
    constants = joint.inputs[first:given]
    moved = invariants(joint, constants, lambda: runs(ran.span.length, ran.span.bound is not None))
    if not moved:
        return ran, joint
    trace, outer = ran.trace, [_as_traced(x) for x in ran.inputs[first - 1 :]]
    part = Graph(joint.name, constants, tuple(moved))
    made = trace.inline(part, [trace.capture(x._trace, x.node) for x in outer])
    new = {node: stand_in(node) for node in moved}
    body = replace(ran.body, inputs=(*ran.body.inputs, *new.values()))
    inputs = (*ran.inputs, *(Traced(trace, node) for node in made))
    return replace(ran, body=body, inputs=inputs), with_inputs(joint, new, given)


def _closed(wanted: Sequence[bool], body: Graph, carries: int) -> list[bool]:
    """Which body inputs get a cotangent: every floating carry, since one may feed another."""
    types = [node.type for node in body.inputs[1:]]
    return [False] + [
        type.is_float and (want or number < carries)
        for number, (want, type) in enumerate(zip(wanted, types, strict=True))
    ]


def _with_residuals(
    ran: Ran, found: Cut, superseded: Node | None
) -> tuple[dict[int, Placed], list[Traced]]:
    """For every residual (by number) the value that the backward body takes: a stack or a
    constant; and the results of the loop.
    """
    trace, carries, stacks = ran.trace, ran.carries, ran.stacks
    _, xs, constants = _parts(ran.inputs, carries, stacks)
    extra: list[Node] = []
    placed: dict[int, Placed] = {}
    for number, residual in enumerate(found.residuals):
        at = residual.index - 1
        if residual.origin == "argument" and at >= carries + stacks:
            placed[number] = Placed("constant", constants[at - carries - stacks])
        elif residual.origin == "argument" and at >= carries:
            placed[number] = Placed("stack", xs[at - carries])
        elif residual.origin == "argument" and at < 0:
            placed[number] = Placed("index")
        elif residual.origin == "output" and residual.index >= carries:
            placed[number] = Placed("result", residual.index)
        else:
            placed[number] = Placed(
                "result", len(found.forward.outputs[: found.outputs]) + len(extra)
            )
            extra.append(residual.node)
    outputs = (*found.forward.outputs[: found.outputs], *extra)
    graph = replace(found.forward, outputs=outputs)
    operands = [trace.capture(x._trace, x.node) for x in map(_as_traced, ran.inputs)]
    node = record(trace, graph, operands, carries, stacks, ran.span)
    results = results_of(trace, node)
    if superseded is not None and superseded.op is LOOP:
        trace.supersede(superseded, node)
    elif superseded is not None:
        for place, new in enumerate(results[:carries]):
            old = trace.record(PROJECT, (superseded,), {"index": place})
            trace.supersede(old, new.node)
    stacked = {
        number: Placed("stack", results[place.value]) if place.kind == "result" else place
        for number, place in placed.items()
    }
    return stacked, results


def _backward_loop(
    ran: Ran,
    found: Cut,
    primal: dict[int, Placed],
    finals: Sequence[Traced],
    cts: Sequence[Any],
    seeded: Sequence[bool],
    want: Sequence[bool],
) -> list[Any]:
    """The backward body over the residuals, in reverse order; what it adds up, after it. Arrays
    that it unwinds start as the loop has left them.
    """
    trace, body, carries = ran.trace, ran.body, ran.carries
    outputs = [node.type for node in body.outputs]
    given = iter(found.backward.inputs)
    seeds = dict(zip((s for s, seed in enumerate(seeded) if seed), given, strict=False))
    types = result_types(outputs, carries, ran.span.length)
    full = {s: zeros(types[s]) if cts[s] is None else cts[s] for s in seeds}
    same = {s: steady(trace, _as_traced(full[s])) for s in seeds if s >= carries}
    y_seeds = [s for s, value in same.items() if value is None]
    count, undone = len(seeds), [chain.number for chain in found.undo.chains]
    arrays = found.backward.inputs[count + len(primal) :]
    taken_in = found.backward.inputs[count : count + len(primal)]
    residuals = dict(zip(taken_in, primal.values(), strict=True))
    stacked = {node: placed.value for node, placed in residuals.items() if placed.kind == "stack"}
    parts = Backward(found, body, carries, ran.stacks, want, stacked)
    arguments: list[tuple[str, ArrayType]] = [("index", INDEX)]
    arguments += [
        (f"d_{body.inputs[n].name}", body.inputs[n].type) for n in (*parts.moving, *parts.added)
    ]
    arguments += [(node.name, node.type) for node in arrays]
    arguments += [(f"d_{body.outputs[s].name}", outputs[s]) for s in y_seeds]
    arguments += [(node.name, node.type) for node in stacked]

    def run(values: list[Traced]) -> Any:
        rest = iter(values)
        index = next(rest)
        d_carry = {n - 1: next(rest) for n in parts.moving}
        sums = {n: next(rest) for n in parts.added}
        known: dict[Node, Any] = {node: next(rest) for node in arrays}
        d_y = {s: next(rest) for s in y_seeds}
        known |= {node: next(rest) for node in stacked}
        for node, placed in residuals.items():
            known.setdefault(node, index if placed.kind == "index" else placed.value)
        for s, node in seeds.items():
            ct = same.get(s)
            moved = spread(ct, outputs[s]) if ct is not None else d_y.get(s)
            known[node] = d_carry[s] if s < carries else moved
        return parts.step(known, sums, body.inputs)

    d_body = trace_body(trace, f"{body.name}_backward", arguments, run)
    start = [full[n - 1] for n in parts.moving] + [zeros(body.inputs[n].type) for n in parts.added]
    start += [finals[number] for number in undone]
    taken = [full[s] for s in y_seeds] + list(stacked.values())
    results = loop(
        d_body, [*map(_as_traced, start)], [*map(_as_traced, taken)], ran.span.reversed()
    )
    names = [*parts.moving, *parts.added]
    at = len(names) + len(undone)
    for number, again in zip(undone, results[len(names) : at], strict=True):
        before = node_in(trace, ran.inputs[number])
        trace.unwound.append((before, finals[number].node, again.node))
    results = [*results[: len(names)], *results[at:]]
    names += parts.items
    by_input: dict[int, Any] = dict(zip(names, results, strict=False))
    sums = {n: by_input.pop(n) for n in parts.added}
    stacks = {node: _as_traced(value) for node, value in stacked.items()}
    by_input |= parts.totals(sums, results[len(names) :], stacks)
    return [by_input.get(number + 1) for number in range(len(ran.inputs))]
