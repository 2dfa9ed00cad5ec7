"""Products with the identity, which Jacobians make: all unit vectors go through a product at once.

units = np.eye(n);  y = units @ a.T      ->      y = a.T
"""

from __future__ import annotations

from tracegrad.ir.graph import Builder, Node
from tracegrad.ops.comparison import EQUAL
from tracegrad.ops.constant import ARANGE, ASTYPE
from tracegrad.ops.shape import RESHAPE, TRANSPOSE


def times_identity(builder: Builder, node: Node) -> Node | None:
    """The other operand of a matrix product with `np.eye(n)`, turned as the product reads it."""
    (left, right), (turn_left, turn_right) = node.inputs, node.attributes["flip"]
    for unit, other, turn in ((left, right, turn_right), (right, left, turn_left)):
        if node.type.rank == 2 and is_identity(unit) and other.type.dtype == node.type.dtype:
            axes = (("axes", (1, 0)),)
            named = node.name, node.source
            return builder.node(TRANSPOSE, (other,), axes, *named) if turn else other
    return None


def is_identity(node: Node) -> bool:
    """Whether this is `np.eye(n)` as `ops.grids` writes it: ones where row and column are equal."""
    if node.op is not ASTYPE or node.type.rank != 2 or node.inputs[0].op is not EQUAL:
        return False
    row, column = node.inputs[0].inputs
    if row.op is not RESHAPE or column.op is not ARANGE or row.inputs[0] is not column:
        return False
    return row.type.shape == (*column.type.shape, 1)
