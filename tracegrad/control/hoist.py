"""What a loop need not do in every step, taken out of its body before anything is differentiated.

    for x in xs: c = f(c, solve(a, x))     ->     lu = factors of a;   for x in xs: ... lu ...
    for x in xs: c = f(c, x @ w)           ->     p = xs @ w;   for v in p: c = f(c, v)

The first is the same in every step. The second is a product of what the loop is given with a matrix
that is the same in every step: one product for all steps costs less than one in each where these
are small, or have to read a large matrix again. It holds its results for all steps in memory, which
is weighed against that. The gradient follows: the cotangents of `w` and of `xs` are one product
each. What may raise an error moves only if the loop has a step at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

from codegen.costs import LIBRARY, MOVED, SIMPLE
from codegen.records import dataclass
from tracegrad.control.batching import batch_graph, for_all
from tracegrad.control.body import stand_in
from tracegrad.ir.dims import Size, holds, in_figures, knows
from tracegrad.ir.graph import Graph, Node, next_serial, reachable
from tracegrad.ir.types import ArrayType, StateType, TupleType
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.matmul import DOT, MATMUL
from tracegrad.ops.project import PROJECT
from tracegrad.passes.cost import FLOPS_PER_BYTE, TYPICAL_EXTENT
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace, tracing

WORTH_A_PRODUCT = 64
"""Elements of a shared matrix from which on a product for all steps beats loops that fuse."""

FEW_ROWS = 8
"""Rows up to which a product cannot work on blocks: it reads its matrix once for each."""

NEAR = 128 * 1024
"""Bytes of a matrix that stays in the nearest caches from step to step."""

GROWTH = 8
"""How many times the bytes of what the loop is given the products of all its steps may take."""


@dataclass(frozen=True)
class Stepped:
    """A counted loop that is about to be recorded: inputs of the body are the index, the carries,
    the items of the stacks, the constants; `operands` are all but the index."""

    body: Graph
    operands: tuple[Node, ...]
    carries: int
    stacks: int
    length: Size
    computed: bool = False
    """Whether the program computes the length."""

    @property
    def items(self) -> tuple[Node, ...]:
        first = 1 + self.carries
        return self.body.inputs[first : first + self.stacks]

    @property
    def constants(self) -> tuple[Node, ...]:
        return self.body.inputs[1 + self.carries + self.stacks :]


def hoisted(trace: Trace, loop: Stepped) -> Stepped:
    """The loop with what can be done before it recorded in `trace`, the current one."""
    if loop.body.bounds or loop.body.effects:
        return loop
    return _with_products(trace, _with_invariants(trace, loop))


def hoisted_late(trace: Trace, loop: Stepped) -> Stepped:
    """The same when the function has returned already, as when its unrolled loops are rolled."""
    finished, trace.finished = trace.finished, False
    try:
        with tracing(trace, Traced):
            return hoisted(trace, loop)
    finally:
        trace.finished = finished


def _with_invariants(trace: Trace, loop: Stepped) -> Stepped:
    given = loop.operands[loop.carries + loop.stacks :]
    moved = invariants(loop.body, loop.constants, lambda: runs(loop.length, loop.computed))
    if not moved:
        return loop
    made = trace.inline(Graph(loop.body.name, loop.constants, tuple(moved)), given)
    new = {node: stand_in(node) for node in moved}
    body = with_inputs(loop.body, new, len(loop.body.inputs))
    return replace(loop, body=body, operands=(*loop.operands, *made))


def runs(length: Size, computed: bool) -> bool:
    """Whether there is a step; of a loop over the items of arguments a guard says so."""
    return bool(knows(1, "<=", length)) if computed else holds(1, "<=", length)


def invariants(body: Graph, constants: Sequence[Node], runs: Callable[[], bool]) -> list[Node]:
    """The nodes that depend on nothing but `constants`, and are worth computing ahead; those that
    may raise an error only if the body surely `runs`."""
    fixed = _depending_only_on(body, constants)
    work = {node for node in body.nodes if node in fixed and _is_work(node)}
    if any(node.op.raises for node in reachable(work)) and not runs():
        work = {node for node in work if not any(x.op.raises for x in reachable((node,)))}
    used = reachable(body.outputs, lambda node: node in work)
    return [node for node in body.nodes if node in work and node in used]


def _depending_only_on(body: Graph, inputs: Sequence[Node]) -> set[Node]:
    """The inputs, constants, and the nodes of them alone; nothing that has several results."""
    found = set(inputs)
    for node in body.nodes[len(body.inputs) :]:
        plain = not isinstance(node.type, StateType | TupleType) and node.op is not PROJECT
        if (
            plain
            and not node.op.precondition
            and node.op.foldable
            and found.issuperset(node.inputs)
        ):
            found.add(node)
    return found


def _is_work(node: Node) -> bool:
    """Library calls and the like; what is computed element by element fuses with its readers."""
    return bool(node.op.weight and node.type.rank and (node.op.has("kernel") or node.op is DOT))


def with_inputs(body: Graph, new: dict[Node, Node], place: int) -> Graph:
    """The body with some of its nodes as further inputs, from `place` on."""
    known = dict(new)
    for node in body.nodes:
        operands = tuple(known.get(operand, operand) for operand in node.inputs)
        if node not in known and operands != node.inputs:
            known[node] = replace(node, inputs=operands, serial=next_serial())
    inputs = (*body.inputs[:place], *new.values(), *body.inputs[place:])
    outputs = tuple(known.get(node, node) for node in body.outputs)
    return replace(body, inputs=inputs, outputs=outputs)


def _with_products(trace: Trace, loop: Stepped) -> Stepped:
    found = _products(loop)
    if not found:
        return loop
    stacks = loop.operands[loop.carries : loop.carries + loop.stacks]
    given = loop.operands[loop.carries :]
    part = Graph(loop.body.name, (*loop.items, *loop.constants), tuple(found))
    mapped = [True] * len(stacks) + [False] * len(loop.constants)
    values = batch_graph(trace, part, [Traced(trace, x) for x in given], mapped, loop.length)
    made = [for_all(trace, x, loop.length).node for x in values]
    for node, whole in zip(found, made, strict=True):
        text = f"{' '.join(node.source.text.split())}: " if node.source else ""
        trace.note("loop", f"{loop.body.name}: {text}one product for all steps, before the loop")
        if node.name and "%" not in node.name:
            trace.names.setdefault(whole, f"{node.name}s")
    inputs = [stand_in(node) for node in found]
    place = 1 + loop.carries + loop.stacks
    body = with_inputs(loop.body, dict(zip(found, inputs, strict=True)), place)
    before = loop.operands[: place - 1]
    operands = (*before, *made, *loop.operands[place - 1 :])
    return replace(loop, body=body, operands=operands, stacks=loop.stacks + len(made))


def _products(loop: Stepped) -> list[Node]:
    """The products of items with constants that are better one for all steps."""
    fixed = _depending_only_on(loop.body, loop.constants)
    of_items: dict[Node, float] = {node: _bytes(node.type) for node in loop.items}
    found: list[Node] = []
    behind = reachable(loop.body.outputs)
    for node in loop.body.nodes[len(loop.body.inputs) :]:
        own = [x for x in node.inputs if x in of_items]
        if not own or not all(x in of_items or x in fixed for x in node.inputs):
            continue
        if isinstance(node.op, Elementwise) or node.op.name in ("reshape", "transpose", "slice"):
            of_items[node] = sum(of_items[x] for x in own)
        elif node in behind and node.op in (MATMUL, DOT) and len(own) == 1 and node.type.rank:
            at = node.inputs.index(own[0])
            columns = _extent(node.type.shape[-1 if not at else 0])
            pays = _pays(node, node.inputs[1 - at].type, _figures(node.type) / columns)
            if pays and _bytes(node.type) <= GROWTH * of_items[own[0]]:
                found.append(node)
    return found


def _pays(node: Node, shared: ArrayType, rows: float) -> bool:
    """Whether a product for all steps takes less time than one in each, per element of its result:
    a step has to call the library, and where its rows are few or the matrix is large to read the
    matrix anew; the results of all steps go through memory, those of one stay in cache.
    """
    if shared.rank != 2 or node.attributes.get("stacks"):
        return False
    matrix, size = _figures(shared), _figures(node.type)
    if matrix < WORTH_A_PRODUCT:
        return False
    again = rows <= FEW_ROWS or _bytes(shared) > NEAR
    saved = (LIBRARY if node.op is MATMUL else 0.0) + MOVED * matrix * again
    return saved > SIMPLE * FLOPS_PER_BYTE * node.type.dtype.itemsize * size


def _figures(type: ArrayType) -> float:
    """How many elements in this call, with typical extents where the program computes them."""
    return float(prod(map(_extent, type.shape)))


def _extent(size: Size) -> int:
    known = in_figures(size)
    return known if isinstance(known, int) else TYPICAL_EXTENT


def _bytes(type: ArrayType) -> float:
    return _figures(type) * type.dtype.itemsize


__all__ = ["Stepped", "hoisted", "hoisted_late", "invariants", "runs", "with_inputs"]
