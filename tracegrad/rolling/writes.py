"""What was written is read back from the value, not from the array it was written to.

    y = update(y, v, at t); y[t]      ->      v          y[t - 1], which was not written: y before

Loops that fill an array step by step become recurrences of values this way.
"""

from __future__ import annotations

from collections.abc import Callable

from tracegrad.ir.graph import Node
from tracegrad.ops.regions import Region, is_thin
from tracegrad.ops.slicing import SLICE, UPDATE
from tracegrad.rolling.program import Program
from tracegrad.tracing.trace import Trace


def forwarded(trace: Trace, found: Program, given: Callable[[Node], bool]) -> tuple[Node, ...]:
    """The outputs with reads of written regions replaced by what was written."""
    if not any(node.op is SLICE and node.inputs[0].op is UPDATE for node in found.nodes):
        return found.outputs
    new: dict[Node, Node] = {}
    known: dict[tuple[Node, Region], Node] = {}
    for node in found.nodes:
        if given(node):
            new[node] = node
            continue
        operands = tuple(new[operand] for operand in node.inputs)
        if node.op is SLICE and operands[0].op is UPDATE and is_thin(node.attributes["at"]):
            new[node] = _read(trace, known, operands[0], node)
        elif operands == node.inputs:
            new[node] = node
        else:
            new[node] = trace.builder.node(node.op, operands, node.attrs, node.name, node.source)
        if new[node] is not node:
            trace.rename(node, new[node])
    return tuple(new[node] for node in found.outputs)


def _read(trace: Trace, known: dict[tuple[Node, Region], Node], array: Node, like: Node) -> Node:
    """The region of `like` in `array`."""
    at: Region = like.attributes["at"]
    passed: list[Node] = []
    result: Node | None = None
    while array.op is UPDATE and result is None:
        if (array, at) in known:
            result = known[array, at]
            break
        passed.append(array)
        written = array.attributes["at"]
        inner = _inside(written, at)
        if inner is not None:
            result = array.inputs[1]
            if any(part is not None for part in inner):
                result = trace.builder.node(SLICE, (result,), (("at", inner),), "", like.source)
        elif _apart(written, at):
            array = array.inputs[0]
        else:
            break
    if result is None:
        result = trace.builder.node(SLICE, (array,), like.attrs, "", like.source)
    known.update(dict.fromkeys(((each, at) for each in passed), result))
    return result


def _inside(written: Region, at: Region) -> Region | None:
    """Where in the written value the region `at` lies; None if it is not all in there."""
    inner = []
    for own, part in zip(written, at, strict=True):
        if own is None:
            inner.append(part)
        elif own != part:
            return None
        elif isinstance(own, tuple):
            inner.append(None)
    return tuple(inner)


def _apart(a: Region, b: Region) -> bool:
    """Whether two regions surely have no element in common."""
    return any(
        _first_after(one, other) or _first_after(other, one)
        for one, other in zip(a, b, strict=True)
    )


def _first_after(one: object, other: object) -> bool:
    """Whether the positions of `one` all lie behind those of `other`."""
    if one is None or other is None:
        return False
    low, high = _ends(one)[0], _ends(other)[1]
    distance = low - high
    return isinstance(distance, int) and distance > 0


def _ends(part: object) -> tuple:
    if not isinstance(part, tuple):
        return part, part
    start, length, step = part
    last = start + (length - 1) * step
    return (start, last) if step > 0 else (last, start)
