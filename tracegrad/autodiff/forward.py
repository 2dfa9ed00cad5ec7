"""Forward mode: tangents carried along with the values.

v1 = x * x; y = sum(v1)      =>      t_v1 = x * t_x + x * t_x;  t_y = sum(t_v1)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tracegrad.autodiff.reverse import active_nodes
from tracegrad.autodiff.rules import Linearizer, Value, push
from tracegrad.ir.graph import Node
from tracegrad.ir.op import Array
from tracegrad.ops.project import PROJECT


def tangents(
    outputs: Sequence[Node], given: Mapping[Node, Array], value: Value, linear: Linearizer
) -> list[Array | None]:
    """The tangent of each output from those `given`; None where it does not depend on them."""
    active = active_nodes(outputs, given)
    found: dict[Node, Any] = dict(given)
    for node in sorted(active, key=lambda node: node.serial):
        if node in given:
            continue
        if node.op is PROJECT:
            tangent = found[node.inputs[0]][node.attributes["index"]]
            if tangent is not None:
                found[node] = tangent
            continue
        operands = tuple(
            found.get(operand) if wanted else None
            for operand, wanted in zip(node.inputs, active[node], strict=True)
        )
        if any(operand is not None for operand in operands):
            found[node] = push(node, operands, value, linear)
    return [found.get(node) for node in outputs]
