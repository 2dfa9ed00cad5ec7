"""Expansion: calls that were kept whole for their derivatives become the nodes of their bodies;
names that were given for a policy go, and what only differentiation looks at.

    y = call(x, body: v = exp(x), v + 1)      ->      v = exp(x); y = v + 1

A program that may be differentiated once more, as the body of a loop that a gradient was taken of,
keeps the ops that only differentiation tells from others (`stop_gradient`), and the calls whose
rules serve any order.
"""

from __future__ import annotations

from dataclasses import field, replace

from codegen.records import dataclass
from tracegrad.ir.dims import Guard
from tracegrad.ir.graph import Graph, Node, map_bodies, next_serial
from tracegrad.ops.barrier import NAMED
from tracegrad.ops.call import CALL
from tracegrad.ops.project import PROJECT
from tracegrad.passes.draws import own_replays


def expand(graph: Graph, again: bool = False) -> Graph:
    """`graph` without calls, in its bodies too, and with generators of their own for what is drawn
    again; `again`: it may be differentiated once more."""
    if not any(_is_changed(node, again) for node in graph.nodes):
        return own_replays(graph)
    new: dict[Node, Node] = dict(zip(graph.inputs, graph.inputs, strict=True))
    expansion = _Expansion(again, checks=dict.fromkeys(graph.checks))
    for node in graph.nodes[len(graph.inputs) :]:
        expansion.enter(node, new)
    expanded = replace(
        graph,
        outputs=tuple(new[node] for node in graph.outputs),
        effects=tuple(new[node] for node in graph.effects),
        checks=tuple(expansion.checks),
        bounds=tuple(expansion.bounds),
    )
    return own_replays(expanded)


def _is_changed(node: Node, again: bool) -> bool:
    changed = _goes(node, again) or node.op is NAMED or (node.op.settled and not again)
    return bool(changed) or _bodies(node, again) != node.attrs


def _goes(node: Node, again: bool) -> bool:
    """Whether it is a call that becomes what it calls."""
    if again and node.op is CALL and node.attributes["rule"].jvp is not None:
        return False
    return node.op.inlined


def _bodies(node: Node, again: bool) -> tuple[tuple[str, object], ...]:
    return map_bodies(node.attrs, lambda body: expand(body, again))


@dataclass
class _Expansion:
    """What one program collects of the bodies that it takes in."""

    again: bool
    checks: dict[Guard, None]
    bounds: list[Node] = field(default_factory=list)
    results: dict[Node, list[Node]] = field(default_factory=dict)

    def enter(self, node: Node, new: dict[Node, Node]) -> None:
        """Find what stands for `node`, whose operands have been found."""
        if node.op is PROJECT and node.inputs[0] in self.results:
            new[node] = self.results[node.inputs[0]][node.attributes["index"]]
            return
        operands = tuple(new[operand] for operand in node.inputs)
        if node.op is NAMED:
            (new[node],) = operands
        elif _goes(node, self.again):
            self._inline(node, operands)
        else:
            op, attrs = node.op, _bodies(node, self.again)
            if op.settled is not None and not self.again:
                op, places = op.settled
                operands = tuple(operands[place] for place in places)
            new[node] = replace(node, op=op, inputs=operands, attrs=attrs, serial=next_serial())
            if op.binds:
                self.bounds.append(new[node])

    def _inline(self, node: Node, operands: tuple[Node, ...]) -> None:
        body = expand(node.attributes["body"], self.again)
        self.checks |= dict.fromkeys(body.checks)
        inner = dict(zip(body.inputs, operands, strict=True))
        for part in body.nodes[len(body.inputs) :]:
            self.enter(part, inner)
        self.results[node] = [inner[output] for output in body.outputs]
