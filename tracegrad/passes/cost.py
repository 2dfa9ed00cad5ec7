"""The cost model in one place: what computing, keeping and loading a value costs, in flops.

One flop is one fused-loop arithmetic operation per element, 0.07 ns. Ops carry their own `weight`
(add 1, divide 4, exp 9, ...), from the measured times in `codegen.costs`; the numbers here say what
memory costs on that scale, measured by `benchmarks/cost_table.py` too.
"""

from __future__ import annotations

from collections.abc import Mapping

from codegen.costs import MOVED, SIMPLE
from tracegrad.ir.dims import Size, evaluate, symbols
from tracegrad.ir.graph import Node

FLOPS_PER_BYTE = 0.75
"""Half of what a byte costs that is written in one kernel and read in a later one: 12 flops for a
float64. 0.1 to 0.2 within the second cache, 0.9 beyond all caches, 4 more for fresh memory."""

RECOMPUTE_LIMIT = 6.0
"""Flops per element up to which a value is computed again within a function instead of stored;
each array that is read for it beside the first counts as `LOADED`."""

LOADED = MOVED / SIMPLE
"""What an element costs in a fused loop that is loaded from the second cache."""

TYPICAL_EXTENT = 100
"""Stands for a symbolic extent where the sizes of values are compared."""


def elements(size: Size) -> float:
    """How many elements, with symbolic extents at their typical value."""
    return float(evaluate(size, dict.fromkeys(symbols(size), TYPICAL_EXTENT)))


def guess(size: Size, extents: Mapping[str, int]) -> int:
    """What a size is, with typical extents in the place of those that data decides on."""
    return evaluate(size, {**dict.fromkeys(symbols(size), TYPICAL_EXTENT), **extents})


def keep_cost(node: Node) -> float:
    """Of keeping the node's value from the forward for the backward."""
    return 2 * FLOPS_PER_BYTE * node.type.dtype.itemsize * elements(node.type.size)


def compute_cost(node: Node) -> float:
    """Of computing the node once, its operands given."""
    return node.op.weight * elements(node.type.size)
