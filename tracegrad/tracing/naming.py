"""One name per value, the same in forward, backward, generated source and errors.

The user's own name if there is one, else `v1, v2, ...`; a cotangent is `d_` + name, a tangent `t_` + name.
Constants and sizes are written where they are used and have no name.
"""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Mapping
from dataclasses import replace

from tracegrad.ir.graph import Graph, Node

UNNAMED = ("constant", "size")
LOOP_LETTERS = ("i", "j", "k", "l")
_RESERVED = {*keyword.kwlist, *dir(builtins), *LOOP_LETTERS, "np", "numba", "math"}


class Namer:
    """Hands out names, each once: `x`, `x_1`, `x_2`; `v1`, `v2`."""

    def __init__(self, reserved: set[str] | None = None) -> None:
        self.taken = set(_RESERVED) | (reserved or set())
        self._count = 0

    def unique(self, name: str) -> str:
        candidate, number = name, 0
        while candidate in self.taken:
            number += 1
            candidate = f"{name}_{number}"
        self.taken.add(candidate)
        return candidate

    def numbered(self) -> str:
        while True:
            self._count += 1
            if f"v{self._count}" not in self.taken:
                return self.unique(f"v{self._count}")


def name_nodes(
    graph: Graph, given: Mapping[Node, str], derived: Mapping[Node, tuple[str, Node]]
) -> Graph:
    """`graph` with every value named; the arguments keep their names whatever happens."""
    namer = Namer()
    names: dict[Node, str] = {}
    for node in (*graph.inputs, *graph.nodes[len(graph.inputs) :]):
        if node.op.name in UNNAMED:
            continue
        wanted = given.get(node) or node.name
        if not wanted and node in derived:
            prefix, about = derived[node]
            about_name = names.get(about) or given.get(about) or about.name
            wanted = prefix + about_name if about_name else ""
        names[node] = namer.unique(wanted) if wanted else namer.numbered()
    return with_names(graph, names)


def with_names(graph: Graph, names: Mapping[Node, str]) -> Graph:
    """The same graph, its nodes carrying these names."""
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        operands = tuple(new[operand] for operand in node.inputs)
        new[node] = replace(node, inputs=operands, name=names.get(node, ""))
    return replace(
        graph,
        inputs=tuple(new[node] for node in graph.inputs),
        outputs=tuple(new[node] for node in graph.outputs),
    )
