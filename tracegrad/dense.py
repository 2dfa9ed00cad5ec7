"""The dense Jacobian of a small function in one pass, each of its entries a number of its own.

    y = f(x), x: f64[3], y: f64[2]   ->   dy0/dx0, dy0/dx1, ... in 2 reverse or 3 forward sweeps
                                          over the program on numbers; what they share comes once

What does not depend on an element gives no code: zeros are known. Used for functions of one item
of a batch, and for those whose extents are all known while tracing; others run a loop over
directions (see `jacobians`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tracegrad.autodiff import traced
from tracegrad.autodiff.derived import Region, separated
from tracegrad.control import scalars
from tracegrad.ir.graph import Graph, Node, reachable
from tracegrad.ops.constant import Input
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace

MOST_ENTRIES = 1024
"""Entries of a Jacobian that are written out one by one."""


def block(region: Region, ys: Sequence[Traced], forward: bool | None) -> list[list[Traced]] | None:
    """For each result the derivatives by each argument of the region; None if it is not small.

    `forward` is the mode; None: the one with fewer sweeps.
    """
    trace = region.trace
    inner = _between(region.wrt, ys)
    work = scalars.count(trace, inner)
    if work is None or not (trace.of_item or scalars.is_fixed(trace, inner)):
        return None
    sources = [scalars.size(trace, x) for x in region.wrt]
    results = [scalars.size(trace, y) for y in ys]
    forward = sum(sources) <= sum(results) if forward is None else forward
    sweeps = sum(sources) if forward else sum(results)
    if sum(sources) * sum(results) > MOST_ENTRIES or sweeps * work > 4 * scalars.MOST_NUMBERS:
        return None
    given = [Traced(trace, node) for node in inner_arguments(region.wrt, ys)]
    numbers = [scalars.elements(trace, x) for x in given]
    wrt = [scalars.mapped(lambda x: separated(trace, x), part) for part in numbers[: len(sources)]]
    found = scalars.take_apart(trace, inner, [*wrt, *numbers[len(sources) :]])
    sweep = _columns if forward else _rows
    return [
        [
            scalars.packed(trace, table.reshape(y.shape + x.shape), own.type.dtype)
            for x, table in zip(wrt, tables, strict=True)
        ]
        for y, own, tables in zip(found, ys, sweep(trace, found, wrt), strict=True)
    ]


def _rows(trace: Trace, ys: Sequence[Any], xs: Sequence[Any]) -> list[list[np.ndarray]]:
    """Reverse mode: for each result and argument a table with a row per element of the result."""
    nodes = [x.node for part in xs for x in part.flat]
    rows = []
    for y in ys:
        found = [_pulled(trace, element, nodes) for element in y.flat]
        rows.append(_split(scalars.objects([d for row in found for d in row], (y.size, -1)), xs))
    return rows


def _pulled(trace: Trace, y: Any, nodes: Sequence[Node]) -> list[Any]:
    if not isinstance(y, Traced):
        return [0.0] * len(nodes)
    one = Traced(trace, trace.lift(y.type.dtype.type(1)))
    found = traced.vjp(trace, [y.node], [one], nodes)
    return [0.0 if d is None else d for d in found]


def _columns(trace: Trace, ys: Sequence[Any], xs: Sequence[Any]) -> list[list[np.ndarray]]:
    """Forward mode: one sweep per element of an argument gives a column of every table."""
    flat = [y for part in ys for y in part.flat]
    nodes = [y.node for y in flat if isinstance(y, Traced)]
    columns = []
    for x in (x for part in xs for x in part.flat):
        one = Traced(trace, trace.lift(x.type.dtype.type(1)))
        found = iter(traced.jvp(trace, nodes, {x.node: one}))
        column = [next(found) if isinstance(y, Traced) else None for y in flat]
        columns.append([0.0 if t is None else t for t in column])
    table = scalars.objects([t for row in zip(*columns, strict=True) for t in row], (len(flat), -1))
    ends = np.cumsum([y.size for y in ys])[:-1]
    return [_split(rows, xs) for rows in np.split(table, ends)]


def _split(table: np.ndarray, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The columns of each argument."""
    return np.split(table, np.cumsum([x.size for x in xs])[:-1], axis=1)


def inner_arguments(xs: Sequence[Traced], ys: Sequence[Traced]) -> list[Node]:
    """The arguments, then the values beside them that what depends on them reads."""
    inside, read = {x.node for x in xs}, []
    for node in sorted(reachable(y.node for y in ys), key=lambda node: node.serial):
        if not inside.isdisjoint(node.inputs):
            inside.add(node)
            read.extend(node.inputs)
    read.extend(y.node for y in ys)
    others = [node for node in dict.fromkeys(read) if node not in inside and node.inputs]
    others += [node for node in dict.fromkeys(read) if node.op.name == "input"]
    return list(dict.fromkeys([*(x.node for x in xs), *others]))


def _between(xs: Sequence[Traced], ys: Sequence[Traced]) -> Graph:
    """The program from the arguments to the results, as a graph of its own."""
    given = inner_arguments(xs, ys)
    new = {node: Node(Input(node.type), (), (), node.type, node.name) for node in given}
    for node in sorted(reachable(y.node for y in ys), key=lambda node: node.serial):
        if node not in new and all(operand in new for operand in node.inputs):
            new[node] = replace(node, inputs=tuple(new[operand] for operand in node.inputs))
    inputs = tuple(new[node] for node in given)
    return Graph("jacobian", inputs, tuple(new[y.node] for y in ys))
