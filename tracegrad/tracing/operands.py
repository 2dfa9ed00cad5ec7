"""What an operation that failed was given: the rows below the user's line in an error.

    x @ w  : f64[2, 5]
    x      : f64[2, 4]    argument of loss

They are found where the user's code entered the library: the arguments of the first function of it
on the way to the error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any

import numpy as np

from tracegrad.ir.graph import Node, Source
from tracegrad.ir.types import ArrayType
from tracegrad.tracing.array import Traced
from tracegrad.tracing.fresh import Fresh
from tracegrad.tracing.grown import Grown
from tracegrad.tracing.source import is_user_file


def operand_rows(traceback: TracebackType | None, source: Source, function: str) -> list[str]:
    """A row for each array among the operands; `source` is the expression that failed."""
    found = operands(traceback)
    cells = list(dict.fromkeys(c for x in found for c in described(x, source, function)))
    name_width = max((len(name) for name, _, _ in cells), default=0)
    type_width = max((len(type) for _, type, _ in cells), default=0)
    return [
        f"    {name:<{name_width}}  : {type:<{type_width}}    {remark}".rstrip()
        for name, type, remark in cells
    ]


def operands(traceback: TracebackType | None) -> list[Any]:
    """The arrays that the innermost user code passed into the library."""
    below: list[FrameType] = []
    while traceback is not None:
        frame = traceback.tb_frame
        below = [] if is_user_file(frame.f_code.co_filename) else [*below, frame]
        traceback = traceback.tb_next
    for frame in below:
        found = list(arrays_in(parameters(frame)))
        if any(isinstance(value, Traced) for value in found):
            return found
    return []


def parameters(frame: FrameType) -> list[Any]:
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)  # *args and **kwargs
    return [frame.f_locals[name] for name in code.co_varnames[:count] if name in frame.f_locals]


def arrays_in(values: Iterable[Any]) -> Iterator[Any]:
    """Traced values and arrays among the values, those in tuples, lists and dicts too."""
    for value in values:
        if isinstance(value, Fresh) and value.known() is not None:
            yield value.known()
        elif isinstance(value, Traced | np.ndarray):
            yield value
        elif isinstance(value, Grown):
            yield from arrays_in([value.stacked])
        elif isinstance(value, tuple | list):
            yield from arrays_in(value)
        elif isinstance(value, dict):
            yield from arrays_in(value.values())


def described(operand: Any, source: Source, function: str) -> Iterator[tuple[str, str, str]]:
    """Name, type, and where it is from."""
    if isinstance(operand, np.ndarray):
        if operand.ndim:
            yield "an array", str(ArrayType(operand.dtype, operand.shape)), "constant"
        return
    node = operand._node
    name = operand._trace.names.get(node, "")
    if is_argument(node):
        yield name, str(node.type.in_figures()), f"argument of {function}"
        return
    text = " ".join(node.source.text.split()) if node.source else node.op.name
    elsewhere = node.source is not None and node.source.line != source.line
    remark = f"line {node.source.line}" if node.source and elsewhere else ""
    yield name or text, str(node.type.in_figures()), remark


def is_argument(node: Node) -> bool:
    """An input, or the copy of one that a transformation differentiates in."""
    copied = node.op.name == "copy" and node.source is None and bool(node.inputs)
    return node.op.name == "input" or (copied and is_argument(node.inputs[0]))
