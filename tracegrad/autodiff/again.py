"""Draws of random numbers that a derivative runs again: from generators of their own.

loop(rng) -> y        =>        words = snapshot(rng);  loop(after(rng, words)) -> y
                                ...  loop(replay(words)) -> y once more, and what else is wanted
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from tracegrad.ir.graph import Graph, Node, bodies, mapped_bounds, next_serial, reachable
from tracegrad.ir.types import StateType
from tracegrad.ops.draw import AFTER
from tracegrad.ops.project import PROJECT
from tracegrad.ops.replay import REPLAY, SNAPSHOT, is_generator
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace


def replayed(trace: Trace, words: Node, generator: str) -> Node:
    """A new generator in the state `words`."""
    attrs = (("generator", generator), ("number", next_serial()))
    return trace.builder.node(REPLAY, (words,), attrs)


def kept_before(owner: Trace, node: Node) -> tuple[Node, dict[int, Node]]:
    """`node`, which draws, behind a snapshot of each generator; the words by operand.

    It takes the place of `node` in its trace.
    """
    words: dict[int, Node] = {}
    operands = list(node.inputs)
    for number, state in enumerate(node.inputs):
        if not is_generator(state.type):
            continue
        if state.op is REPLAY:
            words[number] = state.inputs[0]
            continue
        if state.op is AFTER and state.inputs[1].op is SNAPSHOT:
            words[number] = state.inputs[1]
            continue
        assert isinstance(state.type, StateType)
        words[number] = owner.record(SNAPSHOT, (state,), {})
        attrs = {"generator": state.type.generator}
        operands[number] = owner.record(AFTER, (state, words[number]), attrs)
    if tuple(operands) == node.inputs:
        return node, words
    behind = owner.builder.node(node.op, tuple(operands), node.attrs, "", node.source)
    owner.supersede(node, behind)
    return behind, words


def draws_of(node: Node) -> bool:
    """Whether it reads the state of a generator."""
    return any(is_generator(operand.type) for operand in node.inputs)


def apart(
    trace: Trace, owner: Trace, node: Node, inputs: Sequence[Any]
) -> tuple[Node, tuple[Any, ...]]:
    """`node`, which `owner` recorded, and operands to run it with once more in `trace`: generators
    of their own in the states that it found."""
    node, words = kept_before(owner, node)
    again = list(inputs)
    for number, kept in words.items():
        state = node.inputs[number].type
        assert isinstance(state, StateType)
        own = replayed(trace, trace.capture(owner, kept), state.generator)
        again[number] = Traced(trace, own)
    return node, tuple(again)


def current(
    trace: Trace, outputs: Sequence[Node], keep: Iterable[Node], elsewhere: bool
) -> Sequence[Node]:
    """The outputs to differentiate of a program in `trace`: if it draws in loops or branches, on
    what superseded others, so that nothing is drawn twice. `elsewhere`: the derivative is recorded
    in another trace, and will run these again.
    """
    drawing = [node for node in reachable(outputs) if draws_of(node) and any(bodies(node))]
    if not drawing:
        return outputs
    keep = [*keep]
    if not elsewhere:
        return trace.renewed(outputs, keep)
    before: list[Node] = []
    while before != drawing:  # a node may move behind a snapshot when one before it does
        before = drawing
        for node in drawing:
            kept_before(trace, node)
        outputs = trace.renewed(outputs, keep)
        drawing = [node for node in reachable(outputs) if draws_of(node) and any(bodies(node))]
    return outputs


def elsewhere(trace: Trace, owner: Trace, state: Node) -> Traced:
    """A generator of `owner`, as what is run again in `trace` draws from it."""
    assert isinstance(state.type, StateType)
    if state.op is REPLAY:
        words = state.inputs[0]
    elif state.op is AFTER and state.inputs[1].op is SNAPSHOT:
        words = state.inputs[1]
    else:
        return Traced(owner, state)
    return Traced(trace, replayed(trace, trace.capture(owner, words), state.type.generator))


def behind_snapshots(graph: Graph) -> tuple[Graph, dict[Node, Node]]:
    """The graph with a snapshot before each loop or branch that draws; its nodes that changed."""
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        operands = [new.get(operand, operand) for operand in node.inputs]
        if any(bodies(node)):
            for number, state in enumerate(operands):
                if is_generator(state.type) and state.op is not REPLAY:
                    operands[number] = _after_snapshot(node, state)
        if tuple(operands) != node.inputs:
            new[node] = replace(node, inputs=tuple(operands), serial=next_serial())
    outputs = tuple(new.get(node, node) for node in graph.outputs)
    return replace(graph, outputs=outputs, bounds=mapped_bounds(graph, new)), new


def _after_snapshot(node: Node, state: Node) -> Node:
    """The state after its words were kept for `node`."""
    assert isinstance(state.type, StateType)
    words = Node(SNAPSHOT, (state,), (), SNAPSHOT.infer(state.type), "", node.source)
    own = (("generator", state.type.generator),)
    return Node(AFTER, (state, words), own, state.type)


def redrawn(graph: Graph, nodes: Iterable[Node]) -> tuple[Graph, dict[Node, Node]]:
    """The graph with each of `nodes`, which draw, twice: once for the state that it leaves behind,
    and from a generator of its own for its values. And which of the latter is which of the former.
    """
    twice = {node for node in nodes if draws_of(node)}
    if not twice:
        return graph, {}
    real: dict[Node, Node] = {}
    value: dict[Node, Node] = {}
    for node in graph.nodes:
        state = is_generator(node.type)
        sources = real if state and node.op in (AFTER, PROJECT) else value
        operands = tuple(sources.get(x, value.get(x, x)) for x in node.inputs)
        moved = node
        if operands != node.inputs:
            moved = value[node] = replace(node, inputs=operands, serial=next_serial())
        if node in twice:
            real[node], value[node] = _twice(moved)
    changed = replace(
        graph,
        outputs=tuple(value.get(node, node) for node in graph.outputs),
        bounds=mapped_bounds(graph, value),
    )
    return changed, {value[node]: real[node] for node in twice}


def _twice(node: Node) -> tuple[Node, Node]:
    """A node behind snapshots of its generators, and once more from replays of these."""
    real, again = list(node.inputs), list(node.inputs)
    for number, state in enumerate(node.inputs):
        if is_generator(state.type) and state.op is not REPLAY:
            real[number] = _after_snapshot(node, state)
            numbered = (*real[number].attrs, ("number", next_serial()))
            words = real[number].inputs[1:]
            again[number] = Node(REPLAY, words, numbered, state.type, "", node.source)
    return (
        replace(node, inputs=tuple(real), serial=next_serial()),
        replace(node, inputs=tuple(again), serial=next_serial()),
    )


def substituted(graph: Graph, known: dict[Node, Node]) -> Graph:
    """The graph with some nodes replaced by others."""
    new = dict(known)
    for node in graph.nodes:
        operands = tuple(new.get(operand, operand) for operand in node.inputs)
        if node not in new and operands != node.inputs:
            new[node] = replace(node, inputs=operands, serial=next_serial())
    outputs = tuple(new.get(node, node) for node in graph.outputs)
    return replace(graph, outputs=outputs, bounds=mapped_bounds(graph, new))
