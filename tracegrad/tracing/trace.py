"""One trace: records what a function does to symbolic arrays, and closes it into a graph.

In: argument types with the extents of this call. Out: a `Graph` whose sizes are canonical symbols
(`n, m, p, ...` in order of appearance) and whose guards say what the function took for granted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np

from tracegrad.errors import TraceError
from tracegrad.ir.dims import Assumptions, Dim, Size, assuming, symbol, symbols
from tracegrad.ir.graph import (
    Builder,
    Graph,
    Literal,
    Node,
    Source,
    adopted,
    attr_sizes,
    rebuild,
)
from tracegrad.ir.op import Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.constant import CONSTANT, SIZE, Input
from tracegrad.ops.op import Bindable, SizeValue, recording, supported_dtype
from tracegrad.tracing.naming import label_nodes
from tracegrad.tracing.source import assigned_name, source_of, user_frame

LETTERS = "nmpqrstuvw"


def size_names() -> Iterator[str]:
    yield from LETTERS
    number = 1
    while True:
        yield from (f"{letter}{number}" for letter in LETTERS)
        number += 1


@dataclass(frozen=True)
class Argument:
    """An array argument as a trace sees it: its name, dtype, and the extents of this call."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    weak: bool = False


class Trace:
    """The recording of one function. Not usable after `finish`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.builder = Builder()
        self.assumptions = Assumptions({})
        self.inputs: list[Node] = []
        self.names: dict[Node, str] = {}
        self.cotangents: dict[Node, tuple[str, Node]] = {}
        """Derivative values: the prefix and the node that they belong to, `("d_", x)`."""
        self.attributed: Source | None = None
        """While a derivative rule runs: the user's expression that it differentiates."""
        self.finished = False
        self._fresh = size_names()
        self._last: tuple[FrameType | None, Node | None] = (None, None)

    @staticmethod
    def resume(graph: Graph, extents: dict[str, int]) -> Trace:
        """A trace that goes on where `graph` ended, for a call with these extents."""
        trace = Trace(graph.name)
        trace.builder = adopted(graph.nodes[len(graph.inputs) :])
        trace.assumptions = Assumptions(dict(extents), list(graph.guards))
        trace.inputs = list(graph.inputs)
        trace.names = {node: node.name for node in graph.nodes}
        return trace

    def add_node(self, type: ArrayType, name: str) -> Node:
        """An input whose type is already known in the trace's symbols."""
        node = Node(Input(type), (), (), type, name)
        self.inputs.append(node)
        self.names[node] = name
        return node

    def add_input(self, argument: Argument) -> Node:
        shape: list[Size] = []
        for extent in argument.shape:
            name = next(self._fresh)
            self.assumptions.hints[name] = extent
            shape.append(symbol(name))
        type = ArrayType(supported_dtype(argument.dtype), tuple(shape), argument.weak)
        return self.add_node(type, argument.name)

    def lift(self, value: Any) -> Node:
        """An operand of a recorded operation as a node: constants are copied into the program."""
        if isinstance(value, SizeValue):
            return self.builder.node(SIZE, (), (("size", value.dim),))
        weak = type(value) in (bool, int, float)
        array = np.asarray(value)
        supported_dtype(array.dtype)
        literal = (("value", Literal.of(array)),)
        return self.builder.node(CONSTANT, (), (*literal, ("weak", True)) if weak else literal)

    def record(self, op: Op, inputs: tuple[Node, ...], attrs: dict[str, Any]) -> Node:
        if self.finished:
            raise leaked(self.name)
        attributes = tuple(attrs.items())
        if self.attributed is not None:
            return self.builder.node(op, inputs, attributes, "", self.attributed)
        frame, outer = user_frame()
        if frame is None:
            return self.builder.node(op, inputs, attributes)
        source = source_of(frame.f_code, frame.f_lasti)
        self._end_of_call(outer)
        node = self.builder.node(op, inputs, attributes, "", source)
        name = assigned_name(frame.f_code, frame.f_lasti)
        if name and node not in self.names:
            self.names[node] = name
            self._last = (outer, node)
        return node

    def record_new(self, op: Op, inputs: tuple[Node, ...], name: str) -> Node:
        """A node that is never merged with an equal one."""
        type = op.infer(*(node.type for node in inputs))
        node = Node(op, inputs, (), type)
        if name:
            self.names[node] = name
        return node

    def _end_of_call(self, outer: FrameType | None) -> None:
        """The user's name belongs to the last of the operations that one library call records."""
        frame, node = self._last
        if node is not None and frame is outer:
            del self.names[node]
        self._last = (None, None)

    def finish(self, outputs: Sequence[Node], source: Source | None = None) -> Graph:
        self.finished = True
        self._last = (None, None)
        known = dict(self.assumptions.known)
        graph = Graph(
            self.name, tuple(self.inputs), tuple(outputs), tuple(self.assumptions.guards), source
        )
        settled = label_nodes(graph, self.names, self.cotangents)
        return rebuild(rebuild(settled, None, known), None, _lettered(settled, known))


def _lettered(graph: Graph, known: dict[str, Size]) -> dict[str, Size]:
    """The symbols still in use, renamed in order of appearance, apart from the names of values."""
    graph = rebuild(graph, None, known)
    taken = {node.name for node in graph.nodes}
    fresh = (name for name in size_names() if name not in taken)
    renamed: dict[str, Size] = {}
    for size in _all_sizes(graph):
        for name in symbols(size):
            if name not in renamed:
                renamed[name] = symbol(next(fresh))
    return renamed


def _all_sizes(graph: Graph) -> Iterable[Dim]:
    for node in graph.nodes:
        yield from (size for size in node.type.shape if isinstance(size, Dim))
        yield from attr_sizes(node.attrs)
    for guard in graph.guards:
        yield from (size for size in (guard.left, guard.right) if isinstance(size, Dim))


def leaked(name: str) -> TraceError:
    return TraceError(
        f"a traced value of {name} is used after {name} returned: a traced function hands its results over "
        "by returning them; do not keep them in globals, attributes or closures"
    )


_traces: ContextVar[tuple[Trace, ...]] = ContextVar("traces", default=())


def current_trace() -> Trace | None:
    traces = _traces.get()
    return traces[-1] if traces else None


@contextmanager
def tracing(trace: Trace, recorder: type[Bindable]) -> Iterator[Trace]:
    """Within: operations on traced values are recorded into `trace`."""
    traces, record = _traces.set((*_traces.get(), trace)), recording.set(recorder)
    try:
        with assuming(trace.assumptions):
            yield trace
    finally:
        _traces.reset(traces)
        recording.reset(record)
        trace.finished = True


__all__ = ["Argument", "Trace", "current_trace", "leaked", "tracing"]
