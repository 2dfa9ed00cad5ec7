"""One trace: records what a function does to symbolic arrays, and closes it into a graph.

In: argument types with the extents of this call. Out: a `Graph` whose sizes are canonical symbols
(`n, m, p, ...` in order of appearance) and whose guards say what the function took for granted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from types import FrameType
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.errors import TraceError
from tracegrad.ir.dims import Assumptions, Dim, Guard, Size, assuming, symbol, symbols
from tracegrad.ir.graph import (
    Builder,
    Graph,
    Literal,
    Node,
    Source,
    adopted,
    all_nodes,
    attr_sizes,
    largest,
    next_serial,
    reachable,
    rebuild,
    sizes_of,
)
from tracegrad.ir.op import Op
from tracegrad.ir.types import CHECKS, ArrayType, StateType
from tracegrad.later import Later
from tracegrad.ops.constant import ARANGE, BOUND, CONSTANT, SIZE, Input
from tracegrad.ops.op import PUBLIC, Bindable, SizeValue, recording, supported_dtype
from tracegrad.ops.project import PROJECT
from tracegrad.ops.raising import UNCHECKED
from tracegrad.ops.reduction import BROADCAST_TO
from tracegrad.ops.slicing import UPDATE
from tracegrad.tracing.naming import label_nodes
from tracegrad.tracing.short import short_extents
from tracegrad.tracing.source import site_of, user_expression, user_frame

rolling = Later("tracegrad.rolling")

FEWEST_BLOCKS = 8
"""Fewer blocks than that are as quick unrolled as in a loop."""

LETTERS = "nmpqrstuw"  # v1, v2, ... are values


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


PARTS = frozenset(("loop", "branch", "condition"))
"""Names of traces of a part of a traced function."""


class Trace:
    """The recording of one function. Not usable after `finish`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.builder = Builder()
        self.assumptions = Assumptions({}, place=user_expression)
        self._inherited: tuple[Guard, ...] = ()
        self.inputs: list[Node] = []
        self.names: dict[Node, str] = {}
        self.cotangents: dict[Node, tuple[str, Node]] = {}
        """Derivative values: the prefix and the node that they belong to, `("d_", x)`."""
        self.attributed: Source | None = None
        """While a derivative rule runs: the user's expression that it differentiates."""
        self.parent: Trace | None = None
        self.straight: set[Node] = set()
        """Results of straight-line code on numbers, which is not to be rolled into loops."""
        self.is_side = False
        """Whether this is a side of an `if` on a traced value."""
        self.of_item = False
        """Whether this is the program of one item of a batch."""
        self.of_strip = False
        """Whether this is the finished program of a strip of items, which wait for each other."""
        self.superseded: dict[Node, Node] = {}
        self._moves: dict[tuple[Node, tuple[Node, ...]], Node] = {}
        self.unwound: list[tuple[Node, Node, Node]] = []
        """What loops start from, what they make of it, and their backward's result that is the
        first again."""
        self.captured: dict[Node, Node] = {}
        """A body's own inputs for values of the enclosing trace that it reads."""
        self.written: Callable[[Any], None] | None = None
        """What a body does with arrays from outside of it that it writes to; None: it must not."""
        self.states: dict[str, Node] = {}
        """The present state of each random number generator that was met."""
        self.drawn: dict[str, None] = {}
        """The generators that were drawn from, in order."""
        self.notes: list[tuple[str, str]] = []
        """What `explain()` is to say about the program: `("vmap", "f: all items at once")`."""
        self.counters: dict[Node, Size] = {}
        """A body's own inputs that count `0, 1, ...` below a size."""
        self.finished = False
        self.unrolled: list[range] = []
        """The serial numbers of nodes that are to stay unrolled."""
        self._moved_unrolled: set[int] = set()
        self.loops: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        """Elementwise operations met before, and what `Traced.elementwise` needs of them."""
        self._numbers: dict[tuple[Any, ...], Node] = {}
        self._fresh = size_names()
        self._begun = next_serial()
        self._resumed = False
        self._last: tuple[FrameType | None, Node | None] = (None, None)

    @staticmethod
    def resume(graph: Graph, extents: dict[str, int]) -> Trace:
        """A trace that goes on where `graph` ended, for a call with these extents."""
        trace = Trace(graph.name)
        trace.builder = adopted(graph.nodes[len(graph.inputs) :])
        trace.assumptions = Assumptions(
            dict(extents), list(graph.guards), checks=list(graph.checks), place=user_expression
        )
        trace.assumptions.most |= largest(graph.bounds)
        trace.inputs = list(graph.inputs)
        trace._resumed = True
        trace.names = {node: node.name for node in graph.nodes}
        trace.notes = list(graph.notes)
        taken = {*extents, *(name for size in _all_sizes(graph) for name in symbols(size))}
        trace._fresh = (name for name in size_names() if name not in taken)
        for node in graph.effects:
            assert isinstance(node.type, StateType)
            trace.advance(node.type.generator, node)
        return trace

    @property
    def length(self) -> int:
        """How many operations were recorded so far."""
        return self.builder.length

    def share_sizes(self, outer: Trace) -> None:
        """Know what `outer` knows of sizes, and name new ones apart from its own."""
        own = self.assumptions.checks
        self.assumptions, self._fresh = outer.assumptions.scoped(), outer._fresh
        self._inherited = tuple(self.assumptions.checks)
        self.assumptions.checks += own

    def add_generator(self, name: str) -> None:
        """An argument that is a random number generator."""
        self.states[name] = self.add_node(StateType.of(name), name)

    def state(self, generator: str) -> Node:
        """The generator's present state; in a body at first that of the enclosing trace."""
        if generator not in self.states:
            if self.parent is None:
                if generator != CHECKS:
                    raise self.leaked()
                return self.builder.node(UNCHECKED, (), ())
            self.states[generator] = self.capture(self.parent, self.parent.state(generator))
        return self.states[generator]

    def advance(self, generator: str, state: Node) -> None:
        """From now on the generator is in that state."""
        self.states[generator] = state
        self.drawn[generator] = None

    def ends(self) -> list[Node]:
        """The states of the generators that were drawn from."""
        return [self.states[generator] for generator in self.drawn]

    def child(self, name: str) -> Trace:
        """The trace of a body (of a loop, of a branch) inside this one; sizes are shared."""
        body = Trace(name)
        body.parent = self
        body.share_sizes(self)
        body.attributed = self.attributed
        body.of_strip = self.of_strip
        return body

    def leaked(self) -> TraceError:
        """What to raise when a value of this trace is met after it."""
        name = self.name
        if self.parent is None or name not in PARTS:
            return leaked(name)
        return TraceError(
            f"a value made in a {name} of compiled code is used outside of it: what the {name} "
            "calls has kept it, a method in an attribute or a nested function in a nonlocal "
            f"variable; have it return the value, and assign it in the {name} itself"
        )

    def capture(self, owner: Trace, node: Node) -> Node:
        """The node that stands in this trace for one of `owner`, an enclosing trace."""
        if owner is self:
            return node
        if self.parent is None:
            raise owner.leaked()
        outer = self.parent.capture(owner, node)
        if outer.op in (CONSTANT, SIZE):
            return self.builder.node(outer.op, (), outer.attrs)
        if outer not in self.captured:
            self.captured[outer] = Node(Input(outer.type), (), (), outer.type)
            self.names[self.captured[outer]] = self.parent.names.get(outer) or outer.name
        return self.captured[outer]

    def inline(self, graph: Graph, arguments: Sequence[Node]) -> list[Node]:
        """The outputs of `graph` on these arguments, its nodes recorded here."""
        new = dict(zip(graph.inputs, arguments, strict=True))
        for node in graph.nodes[len(graph.inputs) :]:
            operands = tuple(new[operand] for operand in node.inputs)
            made = new[node] = self.builder.node(node.op, operands, node.attrs, "", node.source)
            if node.name:
                self.names.setdefault(made, node.name)
        self.assumptions.checks += graph.checks
        return [new[node] for node in graph.outputs]

    def note(self, about: str, text: str) -> None:
        """Have `explain()` say something about the program around."""
        if self.parent is not None:
            self.parent.note(about, text)
        elif (about, text) not in self.notes:
            self.notes.append((about, text))

    def rolled(
        self, outputs: Sequence[Node], keep: Collection[Node] = (), since: int = 0
    ) -> tuple[Node, ...]:
        """`outputs` with the repeated blocks of unrolled Python loops as loops.

        Nodes of `keep`, and those numbered below `since`, stay what they are.
        """
        keep = {*keep, *self.straight}
        if self._resumed or next_serial() - max(since, self._begun) < 2 * FEWEST_BLOCKS:
            return tuple(outputs)
        outputs = self._current(outputs, {*keep, *self.inputs}, since)
        if not repetitive(outputs, max(since, self._begun)):
            return outputs
        return rolling.roll(self, outputs, keep, since)

    def renewed(self, outputs: Sequence[Node], keep: Collection[Node]) -> tuple[Node, ...]:
        """`outputs` on the nodes that supersede others; nodes of `keep` stay what they are. What
        draws random numbers is the new node from now on, for other readers too."""
        found = self._current(outputs, {*keep, *self.inputs})
        behind = reachable(found)
        for (node, _), made in self._moves.items():
            if made in behind and any(isinstance(x.type, StateType) for x in node.inputs):
                self.superseded[node] = made
        return found

    def rename(self, old: Node, new: Node) -> None:
        """`new` takes the place of `old`: it is called so, and stays unrolled if that had to."""
        if old in self.names:
            self.names.setdefault(new, self.names[old])
        if old in self.cotangents:
            self.cotangents.setdefault(new, self.cotangents[old])
        if self.is_unrolled(old):
            self._moved_unrolled.add(new.serial)

    def is_unrolled(self, node: Node) -> bool:
        moved = node.serial in self._moved_unrolled
        return moved or any(node.serial in serials for serials in self.unrolled)

    def finish_body(self, outputs: Sequence[Node]) -> Graph:
        """A body as a graph; the captured values are its last inputs."""
        self.finished = True
        inputs = (*self.inputs, *self.captured.values())
        outputs, bounds = self._settled(outputs)
        graph = Graph(self.name, inputs, outputs, checks=self._checks(), bounds=bounds)
        self._refuse_own_sizes(graph)
        return label_nodes(graph, self.names, self.cotangents)

    def supersede(self, old: Node, new: Node) -> None:
        """From now on the results of `old` are the first results of `new`."""
        self.superseded[old] = new

    def bound(self, count: Node, most: Size | None = None) -> tuple[Node, Size]:
        """An integer that the program computes as an extent, `most` at the largest: the node that
        binds it, and its symbol. One integer has one symbol.
        """
        known = next((node for node in self.builder.bounds if node.inputs == (count,)), None)
        if known is None:
            attrs: dict[str, Size] = {"symbol": symbol(next(self._fresh))}
            if most is not None:
                self.assumptions.most[str(attrs["symbol"])] = attrs["most"] = most
            known = self.builder.node(BOUND, (count,), tuple(attrs.items()))
        return known, known.attributes["symbol"]

    def add_node(self, type: ArrayType, name: str, below: Size | None = None) -> Node:
        """An input whose type is already known in the trace's symbols; `below`: it counts up to
        there.
        """
        node = Node(Input(type), (), (), type, name)
        if below is not None:
            self.counters[node] = below
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
        if getattr(value, "requires_grad", False):
            raise TraceError(
                f"{self.name} uses a tensor that requires a gradient but is not among its "
                "arguments: "
                "pass it as an argument; or, for a constant, use its detach()"
            )
        weak = type(value) in (bool, int, float)
        array = np.asarray(value)
        supported_dtype(array.dtype)
        if array.ndim and (pattern := self._pattern(array)) is not None:
            return pattern
        literal = (("value", Literal.of(array)),)
        return self.builder.node(CONSTANT, (), (*literal, ("weak", True)) if weak else literal)

    def number(self, value: int | float, dtype: np.dtype) -> Node:
        """A Python number as an operand of an operation that computes in `dtype`."""
        key = (type(value), value, dtype)
        found = self._numbers.get(key) if value else None  # 0.0 and -0.0 are equal
        if found is None:
            found = self._numbers[key] = self.lift(PUBLIC["astype"](value, dtype))
        return found

    def _pattern(self, array: np.ndarray) -> Node | None:
        """An array of one repeated number, or `0, 1, 2, ...`, is computed where it is used, not
        stored.
        """
        if array.size < 2:
            return None
        first = array.flat[0]
        if (array == first).all() and (_signs(array) == _signs(first)).all():
            scalar = self.builder.node(CONSTANT, (), (("value", Literal.of(first)),))
            return self.builder.node(BROADCAST_TO, (scalar,), (("shape", array.shape),))
        counting = array.ndim == 1 and array.dtype == np.int64 and first == 0
        if counting and (array == np.arange(array.size)).all():
            return self.builder.node(ARANGE, (), (("size", array.size),))
        return None

    def record(self, op: Op, inputs: tuple[Node, ...], attrs: dict[str, Any]) -> Node:
        if self.finished:
            raise self.leaked()
        attributes = tuple(attrs.items())
        if self.attributed is not None:
            return self.builder.node(op, inputs, attributes, "", self.attributed)
        frame, outer = user_frame()
        if frame is None:
            return self.builder.node(op, inputs, attributes)
        source, name = site_of(frame.f_code, frame.f_lasti)
        self._end_of_call(outer)
        node = self.builder.node(op, inputs, attributes, "", source)
        watch = watched.get()
        if watch is not None and node.serial >= watch.due:
            watch.look(frame, node.serial)
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

    def assume_short(self, outputs: Sequence[Node]) -> bool:
        """Take as numbers the short extents for which loops are written out; whether there are
        any."""
        found = short_extents(self.assumptions, self._current(outputs))
        for size in found:
            name, axis = next(
                (node.name, axis)
                for node in self.inputs
                for axis, extent in enumerate(node.type.shape)
                if extent == size
            )
            number = self.assumptions.pin(size)
            self.note("short", f"{name}.shape[{axis}] == {number}: loops over it are written out")
        return bool(found)

    def finish(self, outputs: Sequence[Node], source: Source | None = None) -> Graph:
        self.finished = True
        self._last = (None, None)
        ends = self.ends()
        count = len(outputs)
        settled, bounds = self._settled([*outputs, *ends], roll=True)
        outputs, effects = settled[:count], settled[count:]
        known = dict(self.assumptions.known)
        inputs = tuple(self.inputs)
        guards = tuple(g for g in self.assumptions.guards if not self._always(g))
        notes = tuple(self.notes)
        graph = Graph(self.name, inputs, outputs, guards, source, (), notes, effects)
        graph = replace(graph, checks=self._checks(), bounds=bounds)
        settled = label_nodes(graph, self.names, self.cotangents)
        return rebuild(rebuild(settled, None, known), None, _lettered(settled, known))

    def _settled(
        self, outputs: Sequence[Node], roll: bool = False
    ) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
        """The outputs, and what may bind their symbols, on what supersedes other nodes."""
        found = self._current([*outputs, *self.builder.bounds])
        found = self.rolled(found) if roll else found
        return found[: len(outputs)], found[len(outputs) :]

    def _checks(self) -> tuple[Guard, ...]:
        """What is taken for granted here of sizes that data decides on."""
        found = dict.fromkeys(self.assumptions.checks)
        return tuple(check for check in found if check not in self._inherited)

    def _refuse_own_sizes(self, graph: Graph) -> None:
        """A body's results have to have sizes that are known where it is run."""
        own = {str(node.attributes["symbol"]) for node in graph.bounds}
        for node in graph.outputs:
            if any(name in own for size in sizes_of(node.type) for name in symbols(size)):
                raise TraceError(
                    f"{self.name} returns {node.type}, an array whose size its data decides on, "
                    "from the body of a loop, a branch or a mapped function: return one of fixed "
                    "size, np.where(mask, x, 0) or what a reduction makes of it"
                )

    def _always(self, guard: Guard) -> bool:
        """Whether later conclusions made the guard's sides plain numbers."""
        left, right = self.assumptions.resolve(guard.left), self.assumptions.resolve(guard.right)
        return isinstance(left - right, int)

    def _current(
        self, outputs: Sequence[Node], keep: Collection[Node] = (), since: int = 0
    ) -> tuple[Node, ...]:
        """`outputs`, rebuilt on the nodes that supersede others (other than those to keep)."""
        if not self.superseded:
            return tuple(outputs)
        new: dict[Node, Node] = {node: node for node in keep}
        stack = list(outputs)
        while stack:
            node = stack[-1]
            if node.serial < since:
                new[node] = node
            source = self._latest(node)
            waiting = [operand for operand in source.inputs if operand not in new]
            if waiting and node not in new:
                stack.extend(waiting)
                continue
            if node in new:
                stack.pop()
                continue
            made = self._moved(source, tuple(new[x] for x in source.inputs))
            if made is not source and made in self.superseded and made not in new:
                stack.append(made)
                continue
            new[stack.pop()] = new[made] if made in self.superseded and made in new else made
        return tuple(new[node] for node in outputs)

    def _latest(self, node: Node) -> Node:
        """What took the place of a node last."""
        while True:
            if node in self.superseded:
                node = self.superseded[node]
            elif node.op is PROJECT and node.inputs[0] in self.superseded:
                operands = (self.superseded[node.inputs[0]],)
                node = self.builder.node(node.op, operands, node.attrs, node.name, node.source)
            else:
                return node

    def _moved(self, node: Node, operands: tuple[Node, ...]) -> Node:
        if operands == node.inputs:
            return node
        if node.op is PROJECT:  # one node, which may be superseded itself
            return self.builder.node(node.op, operands, node.attrs, node.name, node.source)
        if (node, operands) in self._moves:
            return self._moves[node, operands]
        made = self._moves[node, operands] = replace(node, inputs=operands, serial=next_serial())
        if node in self.names:
            self.names[made] = self.names[node]
        if node in self.cotangents:
            self.cotangents[made] = self.cotangents[node]
        return made


def repetitive(outputs: Sequence[Node], since: int) -> bool:
    """Whether there may be loops to roll among the nodes made from the serial number `since` on, or
    writes that loops could be made of: then it is worth to look for them."""
    new = [n for n in reachable(outputs, lambda node: node.serial < since) if n.serial >= since]
    counts = Counter(node.op for node in new if node.op not in (CONSTANT, SIZE, BROADCAST_TO))
    return counts[UPDATE] > 0 or max(counts.values(), default=0) >= FEWEST_BLOCKS


def _lettered(graph: Graph, known: dict[str, Size]) -> dict[str, Size]:
    """The symbols still in use, renamed in order of appearance, apart from the names of values."""
    graph = rebuild(graph, None, known)
    taken = {node.name for node in all_nodes(graph)}
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
    for guard in (*graph.guards, *graph.checks):
        yield from (size for size in (guard.left, guard.right) if isinstance(size, Dim))


def _signs(array: Any) -> Any:
    return np.signbit(array) if array.dtype.kind == "f" else np.zeros_like(array, bool)


def leaked(name: str) -> TraceError:
    return TraceError(
        f"a traced value of {name} is used after {name} returned: a traced function hands its "
        "results over "
        "by returning them; do not keep them in globals, attributes or closures"
    )


watched: ContextVar[Any] = ContextVar("watched", default=None)
"""Who looks at the trace, with the user's frame, when the serial number `due` is reached."""

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


__all__ = ["Argument", "Trace", "current_trace", "leaked", "tracing", "watched"]
