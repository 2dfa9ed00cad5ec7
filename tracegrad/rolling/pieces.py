"""The items of a stack put together again are a part of the stack.

np.stack([y[0], y[1], ..., y[199]])      ->      y
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from codegen.records import dataclass
from tracegrad.ir.graph import Node, next_serial
from tracegrad.ops.joining import CONCATENATE
from tracegrad.ops.shape import RESHAPE, TRANSPOSE
from tracegrad.ops.slicing import SLICE
from tracegrad.rolling.program import Program
from tracegrad.tracing.trace import Trace


@dataclass(frozen=True)
class Piece:
    """`array[position]`, with a new axis where it is joined (`unit`)."""

    array: Node
    position: int
    unit: bool


def joined(trace: Trace, found: Program) -> tuple[Node, ...]:
    """The outputs, with concatenations of items replaced by slices."""
    new: dict[Node, Node] = {}
    for node in found.nodes:
        operands = tuple(new.get(operand, operand) for operand in node.inputs)
        made = node
        if operands != node.inputs:
            made = replace(node, inputs=operands, serial=next_serial())
        if node.op is CONCATENATE:
            made = _joined(trace, made) or made
        if made is not node:
            new[node] = made
            trace.rename(node, made)
    return tuple(new.get(node, node) for node in found.outputs)


def _joined(trace: Trace, node: Node) -> Node | None:
    axis = node.attributes["axis"]
    parts: list[Node] = []
    row: list[Piece] = []
    for operand in node.inputs:
        piece = _piece(operand, axis)
        if piece is not None and _continues(row, piece):
            row.append(piece)
            continue
        parts += _together(trace, row, axis)
        row = [piece] if piece is not None else []
        if piece is None:
            parts.append(operand)
    parts += _together(trace, row, axis)
    if len(parts) == len(node.inputs):
        return None
    if len(parts) == 1:
        return parts[0]
    return trace.builder.node(CONCATENATE, tuple(parts), node.attrs, node.name, node.source)


def _piece(operand: Node, axis: int) -> Piece | None:
    unit = operand.op is RESHAPE
    inner = operand.inputs[0] if unit else operand
    if inner.op is not SLICE:
        return None
    first, *rest = inner.attributes["at"]
    if not isinstance(first, int) or any(part is not None for part in rest):
        return None
    shape = inner.type.shape
    wanted = (*shape[:axis], 1, *shape[axis:]) if unit else shape
    if operand.type.shape != wanted or (not unit and axis):
        return None
    return Piece(inner.inputs[0], first, unit)


def _continues(row: Sequence[Piece], piece: Piece) -> bool:
    if not row:
        return True
    if row[-1].array is not piece.array or row[-1].unit != piece.unit:
        return False
    step = piece.position - row[-1].position
    return bool(step) and (len(row) == 1 or row[-1].position - row[-2].position == step)


def _together(trace: Trace, row: Sequence[Piece], axis: int) -> list[Node]:
    """The pieces of a row as one node."""
    if not row:
        return []
    array, first = row[0].array, row[0].position
    step = row[1].position - first if len(row) > 1 else 1
    builder = trace.builder
    span = (first, len(row), step)
    if span != (0, array.type.shape[0], 1):
        at = (span, *([None] * (array.type.rank - 1)))
        array = builder.node(SLICE, (array,), (("at", at),))
    if not row[0].unit:
        count, width, *rest = array.type.shape
        return [builder.node(RESHAPE, (array,), (("shape", (count * width, *rest)),))]
    if axis:
        order = (*range(1, axis + 1), 0, *range(axis + 1, array.type.rank))
        array = builder.node(TRANSPOSE, (array,), (("axes", order),))
    return [array]
