"""Loops and branches without what nobody reads: stacks, carries that feed nothing, results and
operands of no use.

c, ys = scan(f, c0, xs); return c      ->      the loop does not stack ys
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from tracegrad.ir.graph import Graph, Node, mapped_bounds, next_serial, reachable
from tracegrad.ir.types import StateType
from tracegrad.ops.project import PROJECT


def prune(graph: Graph) -> Graph:
    """The graph with every loop and branch reduced to the results that are read."""
    while True:
        smaller = _pruned(graph)
        if smaller is graph:
            return graph
        graph = smaller


def _pruned(graph: Graph) -> Graph:
    new: dict[Node, Node] = {}
    places: dict[Node, dict[int, int]] = {}
    for node in graph.nodes:
        attrs, operands = node.attrs, node.inputs
        if node.op.name in REDUCED:
            read = [reader.attributes["index"] for reader in graph.uses[node]]
            found = REDUCED[node.op.name](node, read)
            if found is not None:
                attrs, operands, places[node] = found
        elif node.op is PROJECT and node.inputs[0] in places:
            attrs = (("index", places[node.inputs[0]][node.attributes["index"]]),)
        inputs = tuple(new.get(operand, operand) for operand in operands)
        if inputs != node.inputs or attrs is not node.attrs:
            type = node.op.infer(*(x.type for x in inputs), **dict(attrs))
            made = replace(node, inputs=inputs, attrs=attrs, type=type, serial=next_serial())
            new[node] = made
    if not places:
        return graph
    return replace(
        graph,
        outputs=tuple(new.get(node, node) for node in graph.outputs),
        effects=tuple(new.get(node, node) for node in graph.effects),
        bounds=mapped_bounds(graph, new),
    )


Reduced = tuple[tuple[tuple[str, Any], ...], tuple[Node, ...], dict[int, int]]
"""Attributes, operands, and the new number of each result that is left."""


def _reduced(loop: Node, read: Iterable[int]) -> Reduced | None:
    """The loop with the results `read`; None if it is that already."""
    attrs = loop.attributes
    body, carries, stacks = attrs["body"], attrs["carries"], attrs["stacks"]
    outputs = _needed(body, carries, read)
    behind = _behind(body, outputs)
    inputs = [
        number
        for number, node in enumerate(body.inputs)
        if (number - 1 in outputs if 0 < number <= carries else node in behind or number == 0)
    ]
    if len(outputs) == len(body.outputs) and len(inputs) == len(body.inputs):
        return None
    attrs["body"] = replace(
        body,
        inputs=tuple(body.inputs[number] for number in inputs),
        outputs=tuple(body.outputs[number] for number in outputs),
    )
    attrs["carries"] = sum(0 < number <= carries for number in inputs)
    attrs["stacks"] = sum(carries < number <= carries + stacks for number in inputs)
    bound = loop.inputs[len(body.inputs) - 1 :]
    operands = tuple(loop.inputs[number - 1] for number in inputs[1:])
    places = {old: number for number, old in enumerate(outputs)}
    return tuple(attrs.items()), (*operands, *bound), places


def _reduced_branch(branch: Node, read: Iterable[int]) -> Reduced | None:
    """The branch with the results `read`, and the states that its sides leave behind."""
    bodies: tuple[Graph, ...] = branch.attributes["branches"]
    states = (k for k, y in enumerate(bodies[0].outputs) if isinstance(y.type, StateType))
    outputs = sorted({*read, *states})
    behind = [_behind(body, outputs) for body in bodies]
    inputs = [
        number
        for number in range(len(bodies[0].inputs))
        if any(body.inputs[number] in used for body, used in zip(bodies, behind, strict=True))
    ]
    if len(outputs) == len(bodies[0].outputs) and len(inputs) == len(bodies[0].inputs):
        return None
    smaller = tuple(
        replace(
            body,
            inputs=tuple(body.inputs[number] for number in inputs),
            outputs=tuple(body.outputs[number] for number in outputs),
        )
        for body in bodies
    )
    operands = (branch.inputs[0], *(branch.inputs[1 + number] for number in inputs))
    places = {old: number for number, old in enumerate(outputs)}
    return (("branches", smaller),), operands, places


REDUCED: dict[str, Callable[[Node, Iterable[int]], Reduced | None]] = {
    "loop": _reduced,
    "branch": _reduced_branch,
}


def _needed(body: Graph, carries: int, read: Iterable[int]) -> Sequence[int]:
    """The results that are read, and the carries that these depend on."""
    numbers = {node: number for number, node in enumerate(body.inputs[1 : 1 + carries])}
    needed: set[int] = set()
    waiting = list(read)
    while waiting:
        number = waiting.pop()
        if number not in needed:
            needed.add(number)
            behind = _behind(body, [number])
            waiting += [at for node, at in numbers.items() if node in behind]
    return sorted(needed)


def _behind(body: Graph, outputs: Iterable[int]) -> set[Node]:
    """What these outputs depend on, with the numbers that become extents of what they need."""
    wanted = tuple(body.outputs[number] for number in outputs)
    if not body.bounds:
        return reachable(wanted)
    inner = replace(body, outputs=wanted).nodes[len(body.inputs) :]
    return {*wanted, *inner, *(operand for node in inner for operand in node.inputs)}
