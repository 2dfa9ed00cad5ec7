"""A graph as NumPy statements: one assignment per node, constants and sizes where they are used.

In: a graph with names. Out: lines of Python:

    y = divide(sum(v3), n*m)      =>      v4 = np.sum(v3)
                                          y = v4 / (n*m)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tracegrad.control.counted import assignments, tuple_text
from tracegrad.ir.graph import Graph, Node, all_nodes
from tracegrad.ir.types import ArrayType
from tracegrad.ops.reduction import Reduction
from tracegrad.tracing.naming import UNNAMED, Namer

INLINE_CONSTANT = 8
"""Constant arrays of up to so many elements are written out where they are used."""

PLAIN = (np.dtype(np.float64), np.dtype(np.int64), np.dtype(bool))
"""The dtypes that a Python number has by itself."""


class Step(str):
    """A line of a loop's or a branch's body that begins the statements of `node`."""

    node: Node
    graph: Graph

    def __new__(cls, text: str, node: Node, graph: Graph) -> Step:
        self = super().__new__(cls, text)
        self.node, self.graph = node, graph
        return self


def indented(line: str) -> str:
    text = f"    {line}"
    return Step(text, line.node, line.graph) if isinstance(line, Step) else text


class Writer:
    """The statements of one graph; `tables` are its constant arrays too large to write out."""

    def __init__(self, graph: Graph, outer: Writer | None = None) -> None:
        self.graph = graph
        if outer is not None:
            self.tables = outer.tables
            return
        nodes = list(all_nodes(graph))
        namer = Namer({node.name for node in nodes} | set(graph.sizes))
        self.tables = {node: namer.unique("table") for node in nodes if is_table(node)}

    def body(self, graph: Graph) -> list[str]:
        """The statements of a loop's or a branch's body, indented."""
        inner = Writer(graph, self)
        lines: list[str] = []
        for node in inner:
            first, *others = inner.lines(node)
            lines += [Step(first, node, graph), *others]
        return [indented(line) for line in lines]

    def lines(self, node: Node) -> list[str]:
        """The statements that give `node.name` its value."""
        infix = bool(getattr(node.op, "infix", ""))
        args = [self._argument(node, number, infix) for number in range(len(node.inputs))]
        if node.op.has("block"):
            return node.op.block(self, node)
        if node.op.inlined:
            return self._call(node)
        if node.op.has("lines"):
            return node.op.lines(node.name, *args, **node.attributes)
        text = node.op.text(*args, **node.attributes)
        if isinstance(node.op, Reduction):
            text = _over_all_axes(node, text)
        return [f"{node.name} = {text}"]

    def _call(self, node: Node) -> list[str]:
        """A call that is still whole, as the statements of what it calls."""
        body = node.attributes["body"]
        operands = [self.value(operand) for operand in node.inputs]
        given = assignments([parameter.name for parameter in body.inputs], operands)
        steps = [line.removeprefix("    ") for line in self.body(body)]
        results = tuple_text([self.value(output) for output in body.outputs])
        return [*given, *steps, f"{node.name} = {results}"]

    def value(self, node: Node) -> str:
        """An operand or a result by its name, or written out."""
        if node in self.tables:
            return self.tables[node]
        if node.op.name == "after":  # the generator is where it was
            return self.value(node.inputs[0])
        return node.name if node.op.name not in UNNAMED else _strong(node)

    def _argument(self, node: Node, number: int, infix: bool) -> str:
        operand = node.inputs[number]
        partners = [other for at, other in enumerate(node.inputs) if at != number]
        number_like = operand.op.name in UNNAMED and not operand.type.rank
        if not number_like or not any(gives_dtype(p, operand.type) for p in partners):
            return self.value(operand)
        text = _bare(operand)
        return f"({text})" if infix and not text.replace(".", "").isalnum() else text

    def __iter__(self) -> Iterator[Node]:
        """The nodes that have a statement, in the graph's order."""
        return (
            node
            for node in self.graph.nodes[len(self.graph.inputs) :]
            if node.op.name not in UNNAMED
        )


def is_table(node: Node) -> bool:
    return (
        node.op.name == "constant"
        and node.type.rank > 0
        and node.attributes["value"].array.size > INLINE_CONSTANT
    )


def gives_dtype(node: Node, type: ArrayType) -> bool:
    """Whether beside `node` a bare Python number gets this dtype (NEP 50)."""
    return node.op.name not in UNNAMED and node.type.dtype == type.dtype


def _bare(node: Node) -> str:
    """A number or an extent as Python has it."""
    if node.op.name == "size":
        return str(node.attributes["size"])
    return node.op.text(**node.attributes)


def _strong(node: Node) -> str:
    """A constant that has its dtype by itself."""
    text = _bare(node)
    if node.type.rank or (node.type.dtype in PLAIN and node.op.name == "constant"):
        return text
    return f"np.{node.type.dtype.name}({text})" if node.type.dtype != np.int64 else text


def _over_all_axes(node: Node, text: str) -> str:
    """`np.sum(x)` for a reduction over every axis."""
    axis = node.attributes.get("axis", ())
    if len(axis) != node.inputs[0].type.rank:
        return text
    spelled = axis[0] if len(axis) == 1 else axis
    short = text.removesuffix(f", axis={spelled})")
    return text if short == text else f"{short})"
