"""The oracle: a graph evaluated node by node with NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracegrad.ir.dims import Size, evaluate
from tracegrad.ir.graph import Graph, Node, substitute_attrs
from tracegrad.ir.types import StateType, TupleType


def interpret(graph: Graph, arguments: Sequence[Any]) -> list[Any]:
    """The outputs of `graph` on NumPy arguments."""
    values: dict[Node, Any] = dict(zip(graph.inputs, arguments, strict=True))
    extents = extents_of(graph, arguments)
    for node in graph.nodes[len(graph.inputs) :]:
        operands = [values[operand] for operand in node.inputs]
        attrs = dict(substitute_attrs(node.attrs, extents))
        with np.errstate(all="ignore"):
            value = node.op.reference(*operands, **attrs)
            if node.op.name == "bound":
                extents[str(node.attributes["symbol"])] = int(value)
                _check(graph, extents)
            if isinstance(node.type, TupleType | StateType):
                values[node] = value
            else:
                values[node] = np.asarray(value).astype(node.type.dtype, copy=False)[()]
    return [values[node] for node in graph.outputs]


def _check(graph: Graph, extents: dict[str, Size]) -> None:
    """Raise ValueError if a guard fails whose symbols are all known by now."""
    known = {name: int(size) for name, size in extents.items() if isinstance(size, int)}
    for guard in graph.checks:
        if guard.symbols <= known.keys() and not guard.holds_for(known):
            raise ValueError(f"{guard.where}: {guard} does not hold")


def extents_of(graph: Graph, arguments: Sequence[Any]) -> dict[str, Size]:
    """The value of each symbol for these arguments."""
    return {name: np.shape(arguments[number])[axis] for name, (number, axis) in graph.sizes.items()}


def fits(graph: Graph, arguments: Sequence[Any]) -> bool:
    """Whether the arguments satisfy every guard of `graph`."""
    extents = extents_of(graph, arguments)
    known = {name: int(size) for name, size in extents.items() if isinstance(size, int)}
    for number, axis, size in graph.entry_guards:
        if np.shape(arguments[number])[axis] != evaluate(size, known):
            return False
    return all(guard.holds_for(known) for guard in graph.guards)
