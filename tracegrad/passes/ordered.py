"""Elements at their own sorted order are the sorted elements, which takes less than the order.

    v = np.argsort(x, axis=-1);  y = x[v]      ->      y = np.sort(x, axis=-1)

Only where nothing else reads the order: a derivative does, and then it is found once for both.
"""

from __future__ import annotations

from tracegrad.ir.graph import Builder, Graph, Node, rebuild
from tracegrad.ops.bounds import WITHIN
from tracegrad.ops.constant import ARANGE
from tracegrad.ops.gathering import GATHER
from tracegrad.ops.shape import RESHAPE
from tracegrad.ops.sorting import ARGSORT, SORT


def sort_elements(graph: Graph) -> Graph:
    """The graph with sorted elements in the place of elements at an order without another use."""
    found = {node.serial for node in graph.nodes if _is_sorted(graph, node)}
    if not found:
        return graph

    def rule(builder: Builder, node: Node, operands: tuple[Node, ...]) -> Node:
        if node.serial not in found:
            return builder.node(node.op, operands, node.attrs, node.name, node.source)
        return builder.node(SORT, operands[:1], (), node.name, node.source)

    return rebuild(graph, rule)


def _is_sorted(graph: Graph, node: Node) -> bool:
    """Whether it is `x[0, ..., argsort(x)]`, with the number of its row at every other axis."""
    if node.op is not GATHER:
        return False
    x, *rows, index = node.inputs
    rank = x.type.rank
    if node.attributes["axes"] != tuple(range(rank)):
        return False
    order = index.inputs[0] if index.op is WITHIN else index
    alone = all(len(graph.uses[part]) == 1 and part not in graph.outputs for part in {index, order})
    counted = all(_counts(row, axis, rank) for axis, row in enumerate(rows))
    return alone and order.op is ARGSORT and order.inputs[0] is x and counted


def _counts(row: Node, axis: int, rank: int) -> bool:
    """Whether it is 0, 1, 2, ... along an axis of arrays of that rank, or a zero for one row."""
    numbers = row.inputs[0] if row.op is RESHAPE else row
    if numbers.op is not ARANGE:
        return False
    size = numbers.type.shape[0]
    return row.type.shape == tuple(size if at == axis else 1 for at in range(rank))
