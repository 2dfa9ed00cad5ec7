"""What a counted loop is: its types, its meaning in Python, its text in dumps, its lowering.

    carry, ys = scan(f, init, xs)      ->      for i in range(n): carry, ys[i] = f(carry, xs[i])

Its derivatives are in `loop`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from codegen import expr as ex
from tracegrad.ir.dims import Size
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.interpret import interpret
from tracegrad.ir.op import Op
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.nested import Nested, allocate_named, start_carry, taken_memory
from tracegrad.ops.project import PROJECT
from tracegrad.ops.shape import shape_text
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace


class CountedLoop(Op):
    """`body(index, *carries, *items, *constants) -> (*carries, *stacked)`, `length` times.

    Operands: initial carries, stacks (their items are taken along axis 0), constants; and last,
    where `length` is computed by the program, the node that binds it.
    """

    name = "loop"
    stored = (-1,)

    def infer(
        self, *types: ArrayType, body: Graph, carries: int, stacks: int, length: Size, reverse: bool
    ) -> ArrayType:
        results = [output.type for output in body.outputs]
        stacked = [ArrayType(type.dtype, (length, *type.shape)) for type in results[carries:]]
        return TupleType.of((*results[:carries], *stacked))

    def reference(
        self, *arrays: Any, body: Graph, carries: int, stacks: int, length: Any, reverse: bool
    ) -> Any:
        carry, xs = list(arrays[:carries]), arrays[carries : carries + stacks]
        constants, rows = arrays[carries + stacks :][: len(body.inputs) - 1 - carries - stacks], []
        order = range(length)
        for index in reversed(order) if reverse else order:
            results = interpret(body, [index, *carry, *(x[index] for x in xs), *constants])
            carry = results[:carries]
            rows.append(results[carries:])
        if reverse:
            rows.reverse()
        types = [output.type for output in body.outputs[carries:]]
        ys = [
            np.array([row[k] for row in rows], type.dtype).reshape((length, *sizes(type)))
            for k, type in enumerate(types)
        ]
        return (*carry, *ys)

    def takes(self, node: Node) -> dict[int, int]:
        """Carries go on in the memory of their initial values."""
        return {k: k for k in range(node.attributes["carries"]) if node.inputs[k].type.rank}

    def block(self, writer: Any, node: Node) -> list[str]:
        """`for index in range(n): ...`, then the results as a tuple."""
        attrs = node.attributes
        body, carries, stacks = attrs["body"], attrs["carries"], attrs["stacks"]
        given = [n.name for n in body.inputs]
        operands = [writer.value(n) for n in node.inputs]
        parts = node.type.parts[carries:]  # type: ignore[attr-defined]
        ys = [f"{node.name}_{k}" for k in range(len(parts))]
        starts = [*given[1 : 1 + carries], *given[1 + carries + stacks :]]
        values = [*operands[:carries], *operands[carries + stacks :][: len(starts) - carries]]
        order = f"range({attrs['length']})"
        items = zip(given[1 + carries :], operands[carries : carries + stacks], strict=False)
        results = [writer.value(n) for n in body.outputs]
        steps = [
            *(f"    {item} = {stack}[{given[0]}]" for item, stack in items),
            *writer.body(body),
            *(f"    {y}[{given[0]}] = {r}" for y, r in zip(ys, results[carries:], strict=True)),
            *(f"    {line}" for line in assignments(given[1 : 1 + carries], results[:carries])),
        ]
        return [
            *assignments(starts, values),
            *(
                f"{y} = np.empty({shape_text(type.shape)}, np.{type.dtype.name})"
                for y, type in zip(ys, parts, strict=True)
            ),
            f"for {given[0]} in {f'reversed({order})' if attrs['reverse'] else order}:",
            *(steps or ["    pass"]),  # what is the same in every step stands before the loop
            f"{node.name} = {tuple_text([*given[1 : 1 + carries], *ys])}",
        ]

    def kernel(self, lowering: Any, node: Node) -> None:
        _lower(lowering, node, **node.attributes)


def start_carries(lowering: Any, node: Node, carries: int) -> list[str]:
    """Where the results are; the carries among them have their initial values there."""
    names, taken = lowering.result_names(node), taken_memory(lowering, node)
    for number, operand in enumerate(node.inputs[:carries]):
        if number in taken:
            names[number] = taken[number]
        else:
            start_carry(lowering, names[number], operand)
    return names


def results_of(trace: Trace, node: Node) -> list[Traced]:
    assert isinstance(node.type, TupleType)
    return [
        Traced(trace, trace.record(PROJECT, (node,), {"index": index}))
        for index in range(len(node.type.parts))
    ]


def sizes(type: ArrayType) -> tuple[int, ...]:
    """The extents of a type in which every symbol has its value."""
    return tuple(int(size) for size in type.shape if isinstance(size, int))


def assignments(names: Sequence[str], values: Sequence[str]) -> list[str]:
    """`a, b = x, y`, all at once; nothing where a name already is its value."""
    pairs = [(name, value) for name, value in zip(names, values, strict=True) if name != value]
    if not pairs:
        return []
    return [f"{', '.join(n for n, _ in pairs)} = {', '.join(v for _, v in pairs)}"]


def tuple_text(parts: Sequence[str]) -> str:
    return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"


def _lower(
    lowering: Any,
    node: Node,
    *,
    body: Graph,
    carries: int,
    stacks: int,
    length: Size,
    reverse: bool,
) -> None:
    """Carries live in place; each step writes its stacked results where they belong."""
    names = start_carries(lowering, node, carries)
    assert isinstance(node.type, TupleType)
    for name, type in zip(names[carries:], node.type.parts[carries:], strict=True):
        allocate_named(lowering, name, type, temporary=False)
    with lowering.nest((length,), sequential=(0,) if carries else ()) as (position,):
        step = position
        if reverse:
            step = ex.subtract(ex.subtract(lowering.size(length), ex.integer(1)), position)
        inner = Nested(lowering, body, body.inputs[1 : 1 + carries])
        inner.give(body.inputs[0], step)
        given = iter(body.inputs[1:])
        for name in names[:carries]:
            inner.give(next(given), name)
        for operand in node.inputs[carries : carries + stacks]:
            inner.give_item(next(given), lowering.arrays[operand], step)
        for operand in node.inputs[carries + stacks : len(body.inputs) - 1]:
            inner.give_operand(next(given), lowering, operand)
        inner.run()
        for output, name in zip(body.outputs[carries:], names[carries:], strict=True):
            inner.put(output, name, (step,))
        inner.update(list(zip(body.outputs[:carries], names[:carries], strict=True)))
    lowering.place(node, names)
