"""A check: every random number is drawn once.

The state of a generator may be read by one draw, loop or branch, and by nothing that runs again: a
derivative that runs a part of the forward anew would draw other numbers, but for a `replay` of a
state that was kept. Of that each reader has its own.
"""

from __future__ import annotations

from dataclasses import replace

from tracegrad.errors import NotDifferentiableError
from tracegrad.ir.graph import Graph, Node, bodies, mapped_bounds, next_serial
from tracegrad.ir.types import CHECKS, StateType
from tracegrad.ops.draw import AFTER
from tracegrad.ops.replay import REPLAY


def own_replays(graph: Graph) -> Graph:
    """The graph with a generator of its own for each reader of a state that was kept."""
    new: dict[Node, Node] = {}
    own: dict[tuple[Node, Node], Node] = {}
    seen: set[Node] = set()
    numbers: set[int] = set()
    for node in graph.nodes:
        operands = []
        for x in node.inputs:
            made = new.get(x, x)
            if x.op is REPLAY and node.op is AFTER:
                made = own.get((x, node.inputs[1]), made)
            elif x.op is REPLAY and x in seen:
                made = own[x, node] = _another(made)
            seen.add(x)
            operands.append(made)
        if tuple(operands) != node.inputs:
            new[node] = replace(node, inputs=tuple(operands), serial=next_serial())
        if node.op is REPLAY:
            number = node.attributes["number"]
            if number in numbers:  # a body that was taken in twice
                new[node] = _another(new.get(node, node))
            numbers.add(number)
    if not new:
        return graph
    outputs = tuple(new.get(node, node) for node in graph.outputs)
    effects = tuple(new.get(node, node) for node in graph.effects)
    return replace(graph, outputs=outputs, effects=effects, bounds=mapped_bounds(graph, new))


def _another(replay: Node) -> Node:
    serial = next_serial()
    attrs = replay.attributes | {"number": serial}
    return replace(replay, attrs=tuple(attrs.items()), serial=serial)


def check_draws(graph: Graph, carries: int | None = None) -> None:
    """Raises NotDifferentiableError if numbers would be drawn again. `carries`: in the body of a
    loop how many of the inputs, after the index, change from step to step."""
    states = [
        node
        for node in graph.nodes
        if isinstance(node.type, StateType) and node.type.generator != CHECKS
    ]
    for state in states:
        readers = {user for user in graph.uses[state] if user.op.name != "after"}
        if len(readers) > 1 or (readers and is_repeated(graph, state, carries)):
            assert isinstance(state.type, StateType)
            raise drawn_again(state.type.generator)
    for node in graph.nodes:
        moving = carried(node)
        for body in bodies(node):
            check_draws(body, moving)


def drawn_again(generator: str) -> NotDifferentiableError:
    return NotDifferentiableError(
        f"the numbers drawn from {generator} would be drawn again: this derivative runs a loop or "
        "a branch that draws a second time; draw the numbers before it (and take them as xs of a "
        "scan), or use reverse mode through one loop or branch around all draws"
    )


def carried(node: Node) -> int | None:
    """The number of inputs of a loop's body up to its last carry; None if the node is no loop."""
    if node.op.name == "loop":
        return 1 + node.attributes["carries"]
    return node.attributes["carries"] if node.op.name == "repeat" else None


def is_repeated(graph: Graph, state: Node, carries: int | None) -> bool:
    """Whether each step of the loop would start from the same state."""
    if carries is None or state not in graph.inputs:
        return False
    return graph.inputs.index(state) >= carries
