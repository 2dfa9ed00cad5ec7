"""Items that have loops of their own, in strips: a strip is a vector, so that a step of all its
items is one vectorised loop.

    for i in range(n): y[i] = body(x[i])    ->    for i in range(0, n, 64):
                                                      y[i:i + 64] = bodies(x[i:i + 64])

Where the items end a loop after different numbers of steps the strip goes on until all are done;
those that are keep their values. The last strip repeats the last item. This is done to the finished
program, after all derivatives, and to items whose values are numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen import loops
from codegen.expr import Load
from tracegrad.control.batching import (
    INDEX,
    ItemSizesDiffer,
    batch_graph,
    for_all,
    for_items,
    mapped_nodes,
)
from tracegrad.control.body import trace_body
from tracegrad.control.counted import assignments, sizes, tuple_text
from tracegrad.control.loop import LOOP, carried
from tracegrad.control.repeat import REPEAT
from tracegrad.ir.dims import Size
from tracegrad.ir.graph import Graph, Node, all_nodes, map_bodies, mapped_bounds, next_serial
from tracegrad.ir.interpret import interpret
from tracegrad.ir.op import Op
from tracegrad.ir.types import ArrayType, StateType, TupleType
from tracegrad.nested import Nested, allocate_named
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.op import register
from tracegrad.ops.project import PROJECT
from tracegrad.ops.reduction import Reduction
from tracegrad.ops.shape import COPY, shape_text
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace, tracing

EQUAL_STEPS, OTHER_STEPS = 64, 16
"""Items in a strip: where all take as many steps, and where the strip waits for the slowest."""


class Strips(Op):
    """`body(items, *stacks of them, *constants) -> results of them`, for strips of `width` items.

    Operands: stacks, constants. Results: stacks of `length` items.
    """

    name = "strips"
    stored = (-1,)

    def infer(
        self, *types: ArrayType, body: Graph, stacks: int, length: Size, width: int
    ) -> ArrayType:
        found = (output.type for output in body.outputs)
        return TupleType.of(tuple(ArrayType(t.dtype, (length, *t.shape[1:])) for t in found))

    def reference(
        self, *arrays: Any, body: Graph, stacks: int, length: Any, width: int
    ) -> tuple[np.ndarray, ...]:
        types = [output.type for output in body.outputs]
        ys = tuple(np.empty((length, *sizes(t)[1:]), t.dtype) for t in types)
        for first in range(0, length, width):
            items = np.minimum(np.arange(first, first + width), length - 1)
            given = [x[items] for x in arrays[:stacks]]
            found = interpret(body, [items, *given, *arrays[stacks:]])
            for y, new in zip(ys, found, strict=True):
                y[first : first + width] = new[: length - first]
        return ys

    def block(self, writer: Any, node: Node) -> list[str]:
        attrs = node.attributes
        body, stacks, length, width = (attrs[k] for k in ("body", "stacks", "length", "width"))
        given, operands = [n.name for n in body.inputs], [writer.value(n) for n in node.inputs]
        first = f"{node.name}_first"
        parts = node.type.parts  # type: ignore[attr-defined]
        ys = [f"{node.name}_{k}" for k in range(len(parts))]
        items = zip(given[1 : 1 + stacks], operands, strict=False)
        results = [writer.value(n) for n in body.outputs]
        return [
            *assignments(given[1 + stacks :], operands[stacks:]),
            *(
                f"{y} = np.empty({shape_text(type.shape)}, np.{type.dtype.name})"
                for y, type in zip(ys, parts, strict=True)
            ),
            f"for {first} in range(0, {length}, {width}):",
            f"    {given[0]} = np.minimum(np.arange({first}, {first} + {width}), {length} - 1)",
            *(f"    {item} = {stack}[{given[0]}]" for item, stack in items),
            *writer.body(body),
            *(
                f"    {y}[{first}:{first} + {width}] = {r}[:{length} - {first}]"
                for y, r in zip(ys, results, strict=True)
            ),
            f"{node.name} = {tuple_text(ys)}",
        ]

    def kernel(self, lowering: Any, node: Node) -> None:
        attrs = node.attributes
        body, stacks, length, width = (attrs[k] for k in ("body", "stacks", "length", "width"))
        names = lowering.result_names(node)
        assert isinstance(node.type, TupleType)
        for name, type in zip(names, node.type.parts, strict=True):
            allocate_named(lowering, name, type, temporary=False)
        strips = (length + (width - 1)) // width
        with lowering.nest((strips,)) as (position,):
            first = ex.Call("multiply", (position, ex.integer(width)), ex.INT)
            inner = Nested(lowering, body)
            last = ex.subtract(lowering.size(length), ex.integer(1))
            _take(inner, body.inputs[0], None, first, last)
            for item, operand in zip(body.inputs[1 : 1 + stacks], node.inputs, strict=False):
                _take(inner, item, lowering.arrays[operand], first, last)
            constants = zip(body.inputs[1 + stacks :], node.inputs[stacks:], strict=True)
            for given, operand in constants:
                inner.give_operand(given, lowering, operand)
            inner.run()
            for output, name in zip(body.outputs, names, strict=True):
                with lowering.nest(output.type.shape) as index:
                    place = ex.Call("add", (first, index[0]), ex.INT)
                    store = loops.Store(name, (place, *index[1:]), inner.value(output, index))
                    test = ex.Call("less_equal", (place, last), ex.BOOL)
                    lowering.append(loops.If(test, (store,), ()))
        lowering.place(node, names)


def _take(inner: Nested, given: Node, stack: str | None, first: Any, last: Any) -> None:
    """The strip's items of a stack, or their numbers; the last item stands for those after it."""
    if stack is None and not inner.graph.uses[given]:
        return
    name = inner.namer.unique(given.name or "items")
    allocate_named(inner, name, given.type, temporary=True)
    with inner.nest(given.type.shape) as index:
        place = ex.Call("add", (first, index[0]), ex.INT)
        item = ex.Call("minimum", (place, last), ex.INT)
        value = item if stack is None else Load(stack, (item, *index[1:]), given.type.dtype)
        inner.append(loops.Store(name, index, value))
    inner.give(given, name)


STRIPS = register(Strips())


def in_strips(graph: Graph) -> Graph:
    """The graph with its loops over items in strips, where the items have loops of their own."""
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        operands = tuple(new.get(operand, operand) for operand in node.inputs)
        made = _strips(graph, node, operands) if node.op is LOOP else None
        attrs = node.attrs if made is not None else map_bodies(node.attrs, in_strips)
        if made is not None:
            new[node] = made
        elif operands != node.inputs or attrs != node.attrs:
            new[node] = replace(node, inputs=operands, attrs=attrs, serial=next_serial())
    if not new:
        return graph
    outputs = tuple(new.get(node, node) for node in graph.outputs)
    effects = tuple(new.get(node, node) for node in graph.effects)
    return replace(graph, outputs=outputs, effects=effects, bounds=mapped_bounds(graph, new))


def _strips(graph: Graph, node: Node, operands: tuple[Node, ...]) -> Node | None:
    attrs = node.attributes
    body, stacks, length = attrs["body"], attrs["stacks"], attrs["length"]
    if attrs["carries"] or len(node.inputs) != len(body.inputs) - 1:
        return None
    flags = [True] * (1 + stacks) + [False] * (len(body.inputs) - 1 - stacks)
    if not _has_loop(body) or not _of_numbers(body, flags):
        return None
    waits = any(inner.op is REPEAT for inner in all_nodes(body))
    width = OTHER_STEPS if waits else EQUAL_STEPS
    if isinstance(length, int) and length < width:
        return None
    made = _batched(graph, body, flags, stacks, width)
    if made is None:
        return None
    own = (("body", made), ("stacks", stacks), ("length", length), ("width", width))
    type = STRIPS.infer(body=made, stacks=stacks, length=length, width=width)
    return Node(STRIPS, operands, own, type, node.name, node.source)


def _has_loop(body: Graph) -> bool:
    return any(
        node.op is REPEAT or (node.op is LOOP and node.attributes["carries"]) for node in body.nodes
    )


def _of_numbers(body: Graph, flags: Sequence[bool]) -> bool:
    """Whether all that depends on the item are numbers, stacks of numbers in its own loops, and
    operations that a finished item may go on with."""
    if body.effects or any(isinstance(node.type, StateType) for node in body.nodes):
        return False
    found = mapped_nodes(body, flags)
    for node in body.nodes[len(body.inputs) :]:
        if node in found and not _is_of_number(node, found):
            return False
    for node in body.nodes:
        if node in found and node.op in (LOOP, REPEAT):
            inner = [operand in found for operand in node.inputs]
            if not all(_of_numbers(part, own) for part, own in _inner(node, inner)):
                return False
    return all(not output.type.rank or output in found for output in body.outputs)


def _is_of_number(node: Node, found: set[Node]) -> bool:
    if node.op is PROJECT:
        maker = node.inputs[0]
        steps = maker.op is REPEAT and node.attributes["index"] == maker.attributes["carries"]
        return node.type.rank <= 1 and not steps
    if node.op in (LOOP, REPEAT):
        count = len(node.attributes["body"].inputs) - 1
        return node.op is REPEAT or len(node.inputs) == count
    plain = isinstance(node.op, Elementwise | Reduction) or node.op is COPY
    small = not node.type.rank and all(operand.type.rank <= 1 for operand in node.inputs)
    return plain and small and not node.op.raises


def _inner(node: Node, flags: list[bool]) -> Iterator[tuple[Graph, list[bool]]]:
    attrs = node.attributes
    if node.op is LOOP:
        yield attrs["body"], carried([False, *flags], attrs["body"], slice(1, 1 + attrs["carries"]))
        return
    own = carried(flags, attrs["body"], slice(0, attrs["carries"]))
    yield attrs["body"], own
    yield attrs["condition"], own


def _batched(
    graph: Graph, body: Graph, flags: Sequence[bool], stacks: int, width: int
) -> Graph | None:
    """The body for a strip; None if not all of it can be."""
    outer = Trace.resume(graph, {})
    outer.of_strip = True
    known = len(outer.assumptions.guards)
    types = [for_items(width, INDEX)]
    types += [
        for_items(width, node.type) if flag else node.type
        for node, flag in zip(body.inputs[1:], flags[1:], strict=True)
    ]
    named = [(node.name or "item", type) for node, type in zip(body.inputs, types, strict=True)]

    def run(given: list[Traced]) -> list[Any]:
        inner = given[0]._trace
        found = batch_graph(inner, body, given, flags, width)
        return [for_all(inner, x, width) for x in found]

    try:
        with tracing(outer, Traced):
            made = trace_body(outer, body.name, named, run)
    except ItemSizesDiffer:
        return None
    fits = not made.captured and len(outer.assumptions.guards) == known
    return made.graph if fits else None


__all__ = ["STRIPS", "in_strips"]
