"""A digest of a graph, the same in every process: by it compiled code is found again.

In: a graph. Out: a digest of all that lowering can see of it (operations, attributes, bodies,
types, guards, names, the user's lines), or None where something has no text that says all of it:
a function of the user's, an operation of theirs or one made for one call.

    input x f64[n] | v1 = exp(x) | y = sum(v1, axes=(0,))     ->     "9b41..."
"""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np

from tracegrad.ir.graph import Graph, Literal, Node
from tracegrad.ops.constant import Input
from tracegrad.ops.op import REGISTRY

PLAIN = frozenset((int, bool, str, bytes, float, complex, type(None), type(...)))


class Nameless(Exception):
    """A value has no text that says all of it."""


def fingerprint(graph: Graph) -> str | None:
    """The digest; None if there is none."""
    writer = Writer()
    try:
        text = writer.graph(graph)
    except Nameless:
        return None
    return hashlib.sha256(text.encode()).hexdigest()


class Writer:
    """Texts of values; of types and places, which many nodes share, only once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, str]] = {}

    def graph(self, graph: Graph) -> str:
        numbers = {node: number for number, node in enumerate(graph.nodes)}
        for node in (*graph.outputs, *graph.effects, *graph.bounds):
            numbers.setdefault(node, len(numbers))
        lines = [self.node(node, numbers) for node in numbers]
        for field in fields(graph):
            value = getattr(graph, field.name)
            if field.name in ("inputs", "outputs", "effects", "bounds"):
                value = tuple(numbers[node] for node in value)
            lines.append(f"{field.name} {self.text(value)}")
        return "\n".join(lines)

    def node(self, node: Node, numbers: dict[Node, int]) -> str:
        ours = type(node.op).__module__.startswith("tracegrad.")
        known = REGISTRY.get(node.op.name) is node.op or isinstance(node.op, Input)
        if not (ours and known):
            raise Nameless
        operands = [numbers[operand] for operand in node.inputs]
        parts = (node.attrs, node.type, node.name, node.source)
        return f"{node.op.name} {operands} {' '.join(map(self.text, parts))}"

    def text(self, value: Any) -> str:
        kind = type(value)
        if kind in PLAIN:
            return repr(value)
        if kind is tuple or kind is list:
            return f"({', '.join(map(self.text, value))})"
        found = self._known.get(id(value))
        if found is None:
            found = self._known[id(value)] = (value, self.made(value))
        return found[1]

    def made(self, value: Any) -> str:
        match value:
            case Literal(key=(dtype, shape, data)):
                return f"array {dtype} {shape} {hashlib.sha256(data).hexdigest()}"
            case Graph():
                return f"graph {hashlib.sha256(self.graph(value).encode()).hexdigest()}"
            case np.dtype():
                if value.names or value.hasobject:
                    raise Nameless
                return f"dtype {value.str}"
            case np.generic():
                return f"{value.dtype.str} {value.tobytes()!r}"
            case Enum():
                return f"{type(value).__qualname__}.{value.name}"
            case slice():
                return f"slice {self.text((value.start, value.stop, value.step))}"
            case Node():
                raise Nameless
        if isinstance(value, type):
            return f"class {value.__module__}.{value.__qualname__}"
        if is_dataclass(value) and type(value).__module__.startswith(("tracegrad.", "codegen.")):
            parts = (self.text(getattr(value, field.name)) for field in fields(value))
            return f"{type(value).__qualname__}({', '.join(parts)})"
        raise Nameless
