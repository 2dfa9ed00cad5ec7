"""A graph of one item made a graph of a batch: each node by the batch rule of its op.

    item: x: f64[m], w: f64[m, p];  y = x @ w    ->    x: f64[b, m], w: f64[m, p];  y = x @ w

A value that depends on no mapped input stays as it is, computed once for all items. An op without
a rule, or one that cannot treat all items alike (a branch that goes another way for each), becomes
a loop over the items for itself alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.autodiff.derived import as_traced
from tracegrad.control.body import trace_body
from tracegrad.ir.dims import Size
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.ops.call import CALL, Rule
from tracegrad.ops.constant import BOUND, Input
from tracegrad.ops.op import PUBLIC, REGISTRY, bind
from tracegrad.ops.project import PROJECT
from tracegrad.ops.reduction import SUM
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace, current_trace

INDEX = ArrayType(np.dtype(np.int64))


@dataclass(frozen=True)
class Batched:
    """A value, or the values of a node with several results; `mapped`: along a leading axis."""

    value: Any
    mapped: bool
    parts: tuple[Batched, ...] = ()


class ItemSizesDiffer(Exception):
    """An extent that the program computes is another one for each item: no array holds them all."""


def mapped_nodes(graph: Graph, mapped: Iterable[bool]) -> set[Node]:
    """The nodes that depend on a mapped input."""
    found = {node for node, here in zip(graph.inputs, mapped, strict=True) if here}
    for node in graph.nodes:
        if not found.isdisjoint(node.inputs):
            found.add(node)
    return found


def mapped_outputs(graph: Graph, mapped: Iterable[bool]) -> list[bool]:
    found = mapped_nodes(graph, mapped)
    return [node in found for node in graph.outputs]


def batch_graph(
    trace: Trace, graph: Graph, arguments: Sequence[Any], mapped: Sequence[bool], count: Size
) -> list[Batched]:
    """The outputs of `graph` for all items, recorded in `trace`.

    `arguments` stand for its inputs; the mapped ones hold `count` items along axis 0.
    """
    known = {
        node: Batched(value, here)
        for node, value, here in zip(graph.inputs, arguments, mapped, strict=True)
    }
    saved = trace.attributed
    try:
        for node in graph.nodes[len(graph.inputs) :]:
            trace.attributed = node.source or saved
            known[node] = _batched(trace, node, [known[x] for x in node.inputs], count)
            _name(trace, node, known[node])
    finally:
        trace.attributed = saved
    return [known[node] for node in graph.outputs]


def _name(trace: Trace, node: Node, made: Batched) -> None:
    """The user's name for the value holds for all its items; numbers are given anew."""
    if node.name and "%" not in node.name and isinstance(made.value, Traced):
        trace.names.setdefault(made.value.node, node.name)


def _batched(trace: Trace, node: Node, operands: Sequence[Batched], count: Size) -> Batched:
    if node.op is PROJECT and operands[0].parts:
        return operands[0].parts[node.attributes["index"]]
    if not any(x.mapped for x in operands):
        nodes = tuple(trace.capture(x.value._trace, x.value.node) for x in operands)
        made = trace.builder.node(node.op, nodes, node.attrs, "", node.source)
        return Batched(Traced(trace, made), False)
    if node.op is BOUND:
        raise ItemSizesDiffer
    found = None
    if node.op is CALL:
        found = _call(trace, node, operands, count)
    elif node.op.has("batch"):
        flags = tuple(x.mapped for x in operands)
        found = node.op.batch(flags, *(x.value for x in operands), **node.attributes)
    if found is None:
        return each(trace, node, operands, count)
    if isinstance(found, list):
        return Batched(None, True, tuple(Batched(value, here) for value, here in found))
    return Batched(found, True)


def _call(
    trace: Trace, node: Node, operands: Sequence[Batched], count: Size
) -> list[tuple[Any, bool]]:
    """A call with rules of its own: the batch of its body, with the batches of its rules."""
    graph, rule = node.attributes["body"], node.attributes["rule"]
    flags = [x.mapped for x in operands]
    own = [
        (n.name, for_items(count, n.type) if flag else n.type)
        for n, flag in zip(graph.inputs, flags, strict=True)
    ]

    def run(given: list[Traced]) -> list[Any]:
        inner = given[0]._trace
        return [for_all(inner, x, count) for x in batch_graph(inner, graph, given, flags, count)]

    body = trace_body(trace, node.op.name, own, run)
    nodes = tuple(trace.capture(x.value._trace, x.value.node) for x in operands)
    attrs = {"body": body.graph, "rule": _batched_rule(rule, flags, count)}
    made = trace.record(CALL, (*nodes, *body.captured), attrs)
    return [
        (Traced(trace, trace.record(PROJECT, (made,), {"index": at})), True)
        for at in range(len(graph.outputs))
    ]


def _batched_rule(rule: Rule, flags: Sequence[bool], count: Size) -> Rule:
    """The derivatives of all items from the rules for one; those of shared values add up."""
    vjp, jvp = rule.vjp or _absent, rule.jvp or _absent
    width = rule.arguments
    flags = flags[:width]

    def pull(inputs: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        given = [*zip(inputs, flags, strict=False), *((ct, True) for ct in cts)]
        found = over_items(lambda *own: vjp(own[:width], own[width:]), given, count)
        return [
            d if d is None or flag else bind(SUM, d, axis=(0,))
            for d, flag in zip(found, flags, strict=False)
        ]

    def push(inputs: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        given = [*zip(inputs, flags, strict=False), *zip(tangents, flags, strict=False)]
        return over_items(lambda *own: jvp(own[:width], own[width:]), given, count)

    return Rule(rule.name, width, rule.vjp and pull, rule.jvp and push, rule.through)


def _absent(*_: Any) -> list[Any]:
    raise NotImplementedError


def over_items(
    run: Callable[..., list[Any]], given: Sequence[tuple[Any, bool]], count: Size
) -> list[Any]:
    """`run` on one item of each mapped value, for all items; None stays None on both sides."""
    trace = current_trace()
    assert trace is not None
    stacks = [as_traced(trace, x) for x, here in given if here and x is not None]
    missing: list[bool] = []

    def item(own: list[Traced]) -> list[Any]:
        items = iter(own)
        found = run(*(next(items) if here and x is not None else x for x, here in given))
        missing.extend(d is None for d in found)
        return [d for d in found if d is not None]

    types = [(f"x_{k}", x.type.with_shape(x.type.shape[1:])) for k, x in enumerate(stacks)]
    body = trace_body(trace, "rule", types, item)
    shared = [Traced(trace, node) for node in body.captured]
    flags = [True] * len(stacks) + [False] * len(shared)
    found = batch_graph(trace, body.graph, [*stacks, *shared], flags, count)
    values = iter([for_all(trace, x, count) for x in found])
    return [None if none else next(values) for none in missing]


def each(trace: Trace, node: Node, operands: Sequence[Batched], count: Size) -> Batched:
    """One node for each item in turn: a loop whose body is the node."""
    index = _input(INDEX, "index")
    stacks = [x for x in operands if x.mapped]
    shared = [x for x in operands if not x.mapped]
    inputs = {id(x): _input(n.type, n.name) for x, n in zip(operands, node.inputs, strict=True)}
    own = Node(
        node.op, tuple(inputs[id(x)] for x in operands), node.attrs, node.type, "", node.source
    )
    outputs = results(own)
    ordered = [inputs[id(x)] for x in (*stacks, *shared)]
    body = Graph(node.op.name, (index, *ordered), outputs)
    made = trace.record(
        REGISTRY["loop"],
        tuple(trace.capture(x.value._trace, x.value.node) for x in (*stacks, *shared)),
        {"body": body, "carries": 0, "stacks": len(stacks), "length": count, "reverse": False},
    )
    values = [
        Traced(trace, trace.record(PROJECT, (made,), {"index": at})) for at in range(len(outputs))
    ]
    if not isinstance(node.type, TupleType):
        return Batched(values[0], True)
    return Batched(None, True, tuple(Batched(value, True) for value in values))


def results(node: Node) -> tuple[Node, ...]:
    """The node itself, or the projections to its results."""
    if not isinstance(node.type, TupleType):
        return (node,)
    return tuple(
        Node(PROJECT, (node,), (("index", at),), part) for at, part in enumerate(node.type.parts)
    )


def _input(type: ArrayType, name: str) -> Node:
    return Node(Input(type), (), (), type, name)


def for_all(trace: Trace, x: Batched, count: Size) -> Any:
    """The value for all items: a shared one is repeated."""
    value = as_traced(trace, x.value)
    return value if x.mapped else PUBLIC["broadcast_to"](value, (count, *value.type.shape))


def for_items(count: Size, type: ArrayType) -> ArrayType:
    """The type of `count` items of a type."""
    return ArrayType(type.dtype, (count, *type.shape))
