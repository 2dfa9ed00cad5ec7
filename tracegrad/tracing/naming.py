"""One name per value, the same in forward, backward, generated source and errors.

The user's own name if there is one, else `v1, v2, ...`; a cotangent is `d_` + name, a tangent `t_`
+ name. Constants and sizes are written where they are used and have no name.
"""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tracegrad.ir.graph import Graph, Node, all_nodes, map_bodies, mapped_bounds

UNNAMED = ("constant", "size", "after", "unchecked")
LOOP_LETTERS = ("i", "j", "k", "l", "a", "b", "c", "d")
_RESERVED = {*keyword.kwlist, *dir(builtins), "np", "numba", "njit", "math", "b64decode"}


def program_name(name: str, default: str = "function") -> str:
    """`name` as that of a generated function: `max_` for `max`, `default` for a lambda."""
    if name in _RESERVED:
        return f"{name}_"
    return name if name.isidentifier() else default


class Namer:
    """Hands out names, each once: `x`, `x_1`, `x_2`; `v1`, `v2`."""

    def __init__(self, reserved: set[str] | None = None) -> None:
        self.taken = set(_RESERVED) | (reserved or set())
        self.letters = tuple(name for name in LOOP_LETTERS if name not in self.taken) or ("at",)
        """What loops may be called beside the reserved names."""
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


def label_nodes(
    graph: Graph, given: Mapping[Node, str], derived: Mapping[Node, tuple[str, Node]]
) -> Graph:
    """What each value is to be called: the user's name, `d_x`, or a number yet to come, `%7`,
    `d_%7`.
    """
    names: dict[Node, str] = {}
    for node in graph.nodes:
        if node.op.name in UNNAMED:
            continue
        wanted = given.get(node) or node.name
        if not wanted and node in derived:
            prefix, about = derived[node]
            wanted = prefix + (
                given.get(about) or about.name or names.get(about, f"%{about.serial}")
            )
        names[node] = wanted or f"%{node.serial}"
    return with_names(graph, names)


def name_nodes(
    graph: Graph, namer: Namer | None = None, numbers: dict[str, str] | None = None
) -> Graph:
    """Every label made a name of its own: `%7` numbered in order of appearance, repeats told
    apart.
    """
    namer = namer or Namer({*graph.sizes, *_computed_sizes(graph)})
    numbers = {} if numbers is None else numbers
    names: dict[Node, str] = {}
    attrs: dict[Node, Any] = {}
    for node in graph.nodes:
        if node.op.name in UNNAMED:
            continue
        attrs[node] = map_bodies(node.attrs, lambda body: name_nodes(body, namer, numbers))
        label = node.name or f"%{node.serial}"
        prefix, mark, number = label.partition("%")
        if not mark:
            names[node] = namer.unique(label)
        elif prefix:
            about = numbers[number] if number in numbers else namer.numbered()
            numbers[number] = about
            names[node] = namer.unique(prefix + about)
        else:
            known = number in numbers
            names[node] = namer.unique(numbers[number]) if known else namer.numbered()
            numbers.setdefault(number, names[node])
    return with_names(graph, names, attrs)


def _computed_sizes(graph: Graph) -> Iterator[str]:
    """The symbols of extents that the program computes, in bodies too: variables of its code."""
    for node in all_nodes(graph):
        if node.op.name == "bound":
            yield str(node.attributes["symbol"])


def with_names(
    graph: Graph, names: Mapping[Node, str], attrs: Mapping[Node, Any] | None = None
) -> Graph:
    """The same graph, its nodes carrying these names (and attributes)."""
    attrs = attrs or {}
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        operands = tuple(new[operand] for operand in node.inputs)
        own, name = attrs.get(node, node.attrs), names.get(node, "")
        new[node] = Node(node.op, operands, own, node.type, name, node.source, node.serial)
    return replace(
        graph,
        inputs=tuple(new[node] for node in graph.inputs),
        outputs=tuple(new[node] for node in graph.outputs),
        effects=tuple(new[node] for node in graph.effects),
        bounds=mapped_bounds(graph, new),
    )
