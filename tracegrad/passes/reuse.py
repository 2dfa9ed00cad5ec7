"""Whose memory an in-place write takes over: its base's, if nobody looks at the base any more.

    y1 = update(y, 3.0, at 1)      ->      y[1] = 3.0        where this was the last look at y

A program that fills an array element by element stays linear this way. What was read from the base
before the write, but is computed later, is stored before it. Loops and branches go on in the memory
of what they were given in the same way: a carry in that of its initial value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from tracegrad.ir.graph import Graph, Node
from tracegrad.tracing.naming import UNNAMED

IsView = Callable[[Node], bool]


def reuse(
    graph: Graph, stored: set[Node], is_view: IsView, own: Collection[Node] = ()
) -> dict[Node, Node]:
    """For each overwriting node the operand whose memory it takes; may add to `stored`.

    `own` are inputs whose memory is the program's own.
    """
    position = {node: number for number, node in enumerate(graph.nodes)}
    outputs = set(graph.outputs)
    taken: dict[Node, Node] = {}
    for result, node, base in _candidates(graph):
        foreign = base.op.name in ("input", *UNNAMED) and base not in own
        if base not in stored or foreign or is_view(base):
            continue
        readers = [r for r in readers_of(graph, base, is_view) if r is not node]
        if base in outputs or any(
            position[r] > position[node]
            or (is_view(r) and (r in outputs or (r in node.inputs and r is not base)))
            for r in readers
        ):
            continue
        late = [
            r
            for r in readers
            if r not in stored and _is_read_late(graph, r, node, stored, position)
        ]
        if all(r.type.rank <= base.type.rank for r in late):
            stored.update(late)
            taken[result] = base
    return taken


def _candidates(graph: Graph) -> Iterator[tuple[Node, Node, Node]]:
    """A result, the node that makes it, and the operand whose memory it could take."""
    for node in graph.nodes:
        if node.op.overwrites is not None:
            yield node, node, node.inputs[node.op.overwrites]
        elif node.op.name == "project":
            maker = node.inputs[0]
            number = maker.op.takes(maker).get(node.attributes["index"])
            if number is not None and maker.inputs.count(maker.inputs[number]) == 1:
                yield node, maker, maker.inputs[number]


def readers_of(graph: Graph, base: Node, is_view: IsView) -> Iterator[Node]:
    """The nodes that read the memory of `base`, through views of it too; the views as well."""
    for reader in graph.uses[base]:
        yield reader
        if is_view(reader):
            yield from readers_of(graph, reader, is_view)


def _is_read_late(
    graph: Graph, reader: Node, write: Node, stored: set[Node], position: dict[Node, int]
) -> bool:
    """Whether a value that is not stored is needed by or after the write; results are at the
    end.
    """
    stack, seen = [reader], set()
    while stack:
        value = stack.pop()
        if value in graph.outputs:
            return True
        for user in graph.uses[value]:
            if user in stored:
                if position[user] >= position[write]:
                    return True
            elif user not in seen:
                seen.add(user)
                stack.append(user)
    return False


def owner(node: Node, taken: dict[Node, Node], is_view: IsView) -> Node:
    """The node that the memory of `node` was allocated for."""
    while node in taken or is_view(node):
        node = taken[node] if node in taken else node.inputs[0]
    return node
