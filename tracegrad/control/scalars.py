"""Small programs taken apart: arrays of a few elements as that many numbers.

    v = x / norm(x), x: f64[3]    ->    s = sqrt(x[0]*x[0] + x[1]*x[1] + x[2]*x[2])
                                        v = pack(x[0] / s, x[1] / s, x[2] / s)

The numbers of an item need no array: with a leading axis over items the program becomes one loop
whose body is scalar code. Extents become constants, so another item size is another version.

Ops that only say which element stands where, or that add and multiply, need no rule for this: their
NumPy reference is run on arrays of traced numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tracegrad.autodiff.derived import as_traced
from tracegrad.ir.dims import Size, evaluate, symbol, symbols
from tracegrad.ir.graph import Graph, Node, attr_sizes, rebuild
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.ops.bounds import CHECKED
from tracegrad.ops.constant import ARANGE, CONSTANT, SIZE
from tracegrad.ops.gathering import GATHER
from tracegrad.ops.matmul import DOT, MATMUL
from tracegrad.ops.op import apply
from tracegrad.ops.packing import PACK, places
from tracegrad.ops.reduction import BROADCAST_TO
from tracegrad.ops.selection import WHERE
from tracegrad.ops.slicing import SLICE
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace

MOST_NUMBERS = 2000
"""Numbers computed by a program that is taken apart: compiling takes about a millisecond each."""

FEW = 3
"""Places where elements of an item meet, from which on it is worth fixing its extents."""

LONGEST = 32
"""Extent from which on a loop is better than its steps written out."""


def count(trace: Trace, graph: Graph) -> int | None:
    """How many numbers the program computes; None if it cannot be taken apart."""
    total = 0
    if not all(_is_known(node) for node in graph.nodes[len(graph.inputs) :]):
        return None
    if not _names(trace, graph) <= set(trace.assumptions.hints):
        return None
    for node in graph.nodes:
        sizes = _extents(trace, node)
        if sizes is None:
            return None
        total += 0 if node.op.name == "input" else sizes
    return total if total <= MOST_NUMBERS else None


def _is_known(node: Node) -> bool:
    if isinstance(node.type, TupleType):
        return False
    if node.op in (CONSTANT, ARANGE, SIZE) or node.op.pointwise or node.op.by_reference:
        return True
    return node.op in (GATHER, CHECKED) and all(_is_fixed(x) for x in node.inputs[-1:])


def _is_fixed(node: Node) -> bool:
    return node.op is CONSTANT or (node.op is CHECKED and _is_fixed(node.inputs[0]))


def _extents(trace: Trace, node: Node) -> int | None:
    """The operations that a node's numbers take; None if an extent is computed, long, or zero."""
    work = 1
    sizes = list(node.type.shape)
    if node.op in (MATMUL, DOT):
        sizes.append(node.inputs[0].type.shape[-1])
    for size in sizes:
        known = _value(trace, size)
        if known is None or not 0 < known <= LONGEST:
            return None
        work *= known
    return work


def _value(trace: Trace, size: Size) -> int | None:
    size = trace.assumptions.resolve(size)
    hints = trace.assumptions.hints
    if any(name not in hints for name in symbols(size)):
        return None
    return evaluate(size, hints)


def worthwhile(trace: Trace, graph: Graph) -> bool:
    """Whether a batch of the program is better one loop over items with their numbers apart.

    So it is where elements of an item meet (sums, products, indexing) in several places, or where
    its extents are numbers anyway; what is elementwise fuses as it is.
    """
    meeting = [node for node in graph.nodes if node.op.by_reference and node.op is not BROADCAST_TO]
    if not meeting or count(trace, graph) is None:
        return False
    return len(meeting) >= FEW or any(node.op is PACK for node in meeting) or is_fixed(trace, graph)


def is_fixed(trace: Trace, graph: Graph) -> bool:
    """Whether all its extents are numbers already."""
    return not _names(trace, graph)


def _names(trace: Trace, graph: Graph) -> set[str]:
    """The symbols of its extents that are not numbers yet."""
    resolve = trace.assumptions.resolve
    return {name for size in _sizes(graph) for name in symbols(resolve(size))}


def _sizes(graph: Graph) -> Iterator[Size]:
    for node in graph.nodes:
        yield from node.type.shape
        yield from attr_sizes(node.attrs)


def take_apart(trace: Trace, graph: Graph, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of `graph`, recorded in the current trace, as arrays of numbers.

    So are the arguments; what is no traced number is a constant. The extents get pinned.
    """
    names = dict.fromkeys(name for size in _sizes(graph) for name in symbols(size))
    fixed = rebuild(graph, None, {name: trace.assumptions.pin(symbol(name)) for name in names})
    known = dict(zip(fixed.inputs, arguments, strict=True))
    saved = trace.attributed
    try:
        for node in fixed.nodes[len(fixed.inputs) :]:
            trace.attributed = node.source or saved
            known[node] = _numbers(node, known)
    finally:
        trace.attributed = saved
    return [known[node] for node in fixed.outputs]


def _numbers(node: Node, known: Mapping[Node, np.ndarray]) -> np.ndarray:
    operands, op = [known[x] for x in node.inputs], node.op
    if op in (CONSTANT, ARANGE, SIZE):
        array = np.asarray(op.reference(**node.attributes))
        return objects([x.item() if node.type.weak else x for x in array.flat], array.shape)
    if op is WHERE and not any(isinstance(x, Traced) for x in operands[0].flat):
        found = np.where(operands[0].astype(bool), operands[1], operands[2])
    elif op.pointwise:
        found = _elementwise(node, operands)
    elif op in (GATHER, CHECKED):
        indices = [x.astype(np.int64) for x in operands[op is GATHER :]]
        found = op.reference(*operands[: op is GATHER], *indices, **node.attributes)
    else:
        found = op.reference(*operands, **node.attributes)
    return _typed(found, node.type)


def _elementwise(node: Node, operands: Sequence[np.ndarray]) -> np.ndarray:
    shape = np.broadcast_shapes(*(x.shape for x in operands))
    columns = [np.broadcast_to(x, shape).flat for x in operands]
    rows = zip(*columns, strict=True)
    return objects([apply(node.op, row, node.attributes) for row in rows], shape)


def _typed(found: Any, type: ArrayType) -> np.ndarray:
    """Numbers in an array of the node's shape; constants among them in its dtype."""
    if not isinstance(found, np.ndarray):
        found = objects([found], ())
    if found.dtype != object:
        found = objects(list(found.flat), found.shape)
    numbers = [x.item() if isinstance(x, np.ndarray) else x for x in found.flat]
    if not type.weak:
        numbers = [x if isinstance(x, Traced) else type.dtype.type(x) for x in numbers]
    return objects(numbers, found.shape)


def objects(numbers: Sequence[Any], shape: Sequence[int]) -> np.ndarray:
    """An array of traced numbers and constants."""
    array = np.empty(len(numbers), dtype=object)
    for place, number in enumerate(numbers):
        array[place] = number
    return array.reshape(tuple(shape))


def elements(trace: Trace, x: Traced) -> np.ndarray:
    """The elements of a traced array, its extents pinned."""
    shape = tuple(trace.assumptions.pin(size) for size in x.type.shape)
    if not shape:
        return objects([x], ())
    return objects([apply(SLICE, (x,), {"at": place}) for place in places(shape)], shape)


def mapped(change: Callable[[Any], Any], numbers: np.ndarray) -> np.ndarray:
    return objects([change(x) for x in numbers.flat], numbers.shape)


def size(trace: Trace, x: Traced) -> int:
    """How many elements a traced array has in this call."""
    return _value(trace, x.type.size) or 0


def packed(trace: Trace, numbers: np.ndarray, dtype: np.dtype) -> Traced:
    """One array of numbers and constants."""
    found = [as_traced(trace, x if isinstance(x, Traced) else dtype.type(x)) for x in numbers.flat]
    if not numbers.shape:
        trace.straight.add(found[0].node)
        return found[0]
    result = apply(PACK, tuple(found), {"shape": numbers.shape})
    trace.straight.add(result.node)
    return result
