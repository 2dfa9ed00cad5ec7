"""Short extents: the sizes of a trace that a program runs faster for if they are numbers.

In: what a function computes, for a call with x: f64[32, 3]. Out: the size of axis 1. For points in
space a loop over three coordinates stands inside of one over the points; only if it is known to
take three steps can it be written out and the loop around it be vectorised (`codegen.schedule.
unroll`).

    np.sum(x * x, axis=1)                x: f64[n, m], m = 3     ->     x: f64[n, 3]

That costs other calls a compilation of their own, so it is done where it matters: for the last axis
of arrays that are long in another one and are broadcast or summed along one of the two. Elementwise
work alone is one loop over all elements whatever the sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tracegrad.ir.dims import Assumptions, Size, evaluate, symbol, symbols
from tracegrad.ir.graph import Node, bodies, reachable
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.reduction import BROADCAST_TO, Reduction

SHORT = range(2, 5)
"""Extents that are written out: those of points in the plane and in space, of quaternions."""
LONG = 8
"""Another extent from which on that pays: as many iterations as make a vector."""


def short_extents(assumptions: Assumptions, outputs: Iterable[Node]) -> list[Size]:
    """The sizes among the arguments' that should be numbers."""
    open_ = {
        name: symbol(name)
        for name, extent in assumptions.hints.items()
        if extent in SHORT and name not in assumptions.known
    }
    found: set[str] = set()
    waiting = list(reachable(tuple(outputs))) if open_ else []
    while waiting and len(found) < len(open_):
        node = waiting.pop()
        if not isinstance(node.type, TupleType):
            found |= {n for n, size in open_.items() if matters(node, size, assumptions)}
        waiting += [inner for body in bodies(node) for inner in body.nodes]
    return [size for name, size in open_.items() if name in found]


def matters(node: Node, short: Size, assumptions: Assumptions) -> bool:
    """Whether the node makes a loop over `short` that stands inside of a long one for good."""
    if isinstance(node.op, Reduction):
        (x,) = node.inputs
        return bool(node.type.rank) and is_thin(x.type, short, assumptions)
    if isinstance(node.op, Elementwise) or node.op is BROADCAST_TO:
        stretched = any(x.type.rank > 0 and is_stretched(x.type, node.type) for x in node.inputs)
        return stretched and is_thin(node.type, short, assumptions)
    return False


def is_thin(type: ArrayType, short: Size, assumptions: Assumptions) -> bool:
    """Whether the last axis is that short one, and another one is long."""
    *others, last = map(assumptions.resolve, type.shape) if type.rank else (0, 0)
    return last == short and any(extent >= LONG for extent in in_this_call(others, assumptions))


def in_this_call(sizes: Iterable[Size], assumptions: Assumptions) -> Iterator[int]:
    """The sizes that are known when the function is called, as numbers."""
    for size in sizes:
        if isinstance(size, int):
            yield size
        elif all(name in assumptions.hints for name in symbols(size)):
            yield evaluate(size, assumptions.hints)


def is_stretched(operand: ArrayType, result: ArrayType) -> bool:
    """Whether broadcasting repeats the operand."""
    return operand.rank < result.rank or any(
        have == 1 and want != 1 for have, want in zip(operand.shape, result.shape, strict=False)
    )
