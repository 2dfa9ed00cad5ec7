"""Transposes move towards the results, past what treats all elements alike, until something reads
its operand transposed for free (a matrix product) or asks for another order of axes (a reduction).

    v = w * x.T;  y = x.T @ v.T     ->     v = np.reshape(w, (m, 1)) * x;  y = x.T @ v

The elements are then computed in the order in which they lie in memory. An elementwise operation is
turned if all its operands of full size are transposed alike: what is smaller follows.
"""

from __future__ import annotations

from tracegrad.ir.graph import Builder, Node
from tracegrad.ops.broadcast import Shape
from tracegrad.ops.reduction import BROADCAST_TO
from tracegrad.ops.shape import RESHAPE, TRANSPOSE, inverse

Axes = tuple[int, ...]


def sunk(builder: Builder, node: Node) -> Node | None:
    """`f(x.T, v) -> f(x, v').T`, where every operand of the result's size is transposed alike."""
    axes = _common_order(node)
    if axes is None:
        return None
    operands = tuple(_turned(builder, operand, axes) for operand in node.inputs)
    inner = builder.node(node.op, operands, node.attrs, "", node.source)
    return transposed(builder, inner, axes, node)


def summed(builder: Builder, node: Node) -> Node | None:
    """`sum(x.T, axis=0) -> sum(x, axis=1)`; the axes that are kept are transposed after it."""
    (operand,) = node.inputs
    if operand.op is not TRANSPOSE:
        return None
    axes = operand.attributes["axes"]
    over = sorted(axes[axis] for axis in node.attributes["axis"])
    kept = [axis for axis in range(len(axes)) if axis not in over]
    order = tuple(kept.index(axis) for axis in axes if axis in kept)
    attrs = tuple({**node.attributes, "axis": tuple(over)}.items())
    if order == tuple(range(len(order))):
        return builder.node(node.op, operand.inputs, attrs, node.name, node.source)
    inner = builder.node(node.op, operand.inputs, attrs, "", node.source)
    return transposed(builder, inner, order, node)


def transposed(builder: Builder, inner: Node, axes: Axes, node: Node) -> Node:
    """`inner` with its axes permuted, in the place of `node`."""
    return builder.node(TRANSPOSE, (inner,), (("axes", axes),), node.name, node.source)


def _common_order(node: Node) -> Axes | None:
    """The permutation that all operands of full size are; None if they differ or have none."""
    orders = {_order(operand) for operand in node.inputs if _is_full(operand, node)}
    return orders.pop() if len(orders) == 1 else None


def _order(operand: Node) -> Axes | None:
    return operand.attributes["axes"] if operand.op is TRANSPOSE else None


def _is_full(operand: Node, node: Node) -> bool:
    """Whether the operand has an element of its own for each of the result's."""
    return operand.type.shape == node.type.shape and operand.op is not BROADCAST_TO


def _turned(builder: Builder, operand: Node, axes: Axes) -> Node:
    """What is the operand if it is transposed by `axes`; a vector counts as a matrix of one row."""
    if not operand.type.rank:
        return operand
    if _order(operand) == axes:
        return operand.inputs[0]
    padded = (1,) * (len(axes) - operand.type.rank) + operand.type.shape
    back = inverse(axes)
    shape = tuple(padded[axis] for axis in back)
    if operand.op is BROADCAST_TO:
        inner = _turned(builder, operand.inputs[0], axes)
        return builder.node(BROADCAST_TO, (inner,), (("shape", shape),), "", operand.source)
    extended = [axis for axis in back if padded[axis] != 1]
    if extended == sorted(extended):
        return _reshaped(builder, operand, shape)
    whole = _reshaped(builder, operand, padded)
    return builder.node(TRANSPOSE, (whole,), (("axes", back),), "", operand.source)


def _reshaped(builder: Builder, operand: Node, shape: Shape) -> Node:
    if operand.type.shape == shape:
        return operand
    return builder.node(RESHAPE, (operand,), (("shape", shape),), "", operand.source)
