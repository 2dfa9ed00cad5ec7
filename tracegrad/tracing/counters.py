"""What is known of integers that loops count: the numbers between which they stay.

for i in tg.range(n - 1): x[i + 1]      ->      1 <= i + 1 <= n - 1: inside of x, without a check
"""

from __future__ import annotations

from tracegrad.ir.dims import Size
from tracegrad.ir.graph import Node
from tracegrad.tracing.trace import Trace

Bounds = tuple[Size, Size]


def span_of(trace: Trace, node: Node) -> Bounds | None:
    """The least and the largest number that an integer may be; None if nothing is known."""
    if node in trace.counters:
        return 0, trace.counters[node] - 1
    outer = next((old for old, own in trace.captured.items() if own is node), None)
    if outer is not None and trace.parent is not None:
        return span_of(trace.parent, outer)
    match node.op.name:
        case "constant":
            number = int(node.attributes["value"].array)
            return number, number
        case "size":
            return node.attributes["size"], node.attributes["size"]
        case "astype" | "within" | "copy" | "checked" | "positive":
            return span_of(trace, node.inputs[0])
        case "negative":
            inner = span_of(trace, node.inputs[0])
            return inner and (-inner[1], -inner[0])
        case "add" | "subtract" | "multiply":
            return _combined(trace, node)
    return None


def _combined(trace: Trace, node: Node) -> Bounds | None:
    if node.type.dtype.kind != "i" or any(x.type.rank for x in node.inputs):
        return None
    first, second = (span_of(trace, operand) for operand in node.inputs)
    if first is None or second is None:
        return None
    (a, b), (c, d) = first, second
    match node.op.name:
        case "add":
            return a + c, b + d
        case "subtract":
            return a - d, b - c
    number, other = (first, second) if a == b else (second, first)
    factor = number[0]
    if number[0] != number[1] or not isinstance(factor, int):
        return None
    low, high = other[0] * factor, other[1] * factor
    return (low, high) if factor >= 0 else (high, low)
