"""Python's loops that stay loops, where unrolling them makes too long a program.

    for i in range(60):                      3,600 steps, each some operations: traced again, with
        for j in range(60):          ->      these loops as `tg.range` would have them
            A[i, j] = ...

Tracing unrolls `for i in range(n)`, and `rolling` finds repeated steps. Loops in loops are too many
steps for that, and so are thousands of one loop; steps whose slices grow are not repeated ones.
Such a trace is given up (`Watch` looks at the user's loops from time to time), and made again with
the loops kept, if the functions only compute (`plain`). A loop whose body needs its counter as a
number is unrolled after all.
"""

from __future__ import annotations

import ast
import builtins
import linecache
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any, TypeVar

from codegen.records import dataclass
from tracegrad.errors import TraceError
from tracegrad.ir.graph import Graph, all_nodes, next_serial
from tracegrad.pyflow.source import definition_of
from tracegrad.tracing.source import is_user_file
from tracegrad.tracing.trace import current_trace, watched

Made = TypeVar("Made")
Place = tuple[str, int]
"""A file, and the line of a `for` in it."""

NESTED = 1000
"""Operations of a trace from which on loops in loops are kept."""
LONG = 8_000
"""Operations of a trace from which on a single loop is kept: a quarter of a second unrolled."""
LEFT = 250
"""Operations that rolling may leave, or a third of all: of more, loops are kept if that is less."""
HOPELESS = 20_000
"""Operations of a program with its loops kept that is not worth more tracing."""
EVERY = 100
SHORTEST = 4
"""Steps of a loop that is kept; fewer are as well unrolled."""
ATTEMPTS = 12


class TooLong(BaseException):
    """The trace has become too long; passes through the user's handlers."""


class Unkept(BaseException):
    """The loop at a place cannot be kept, and why."""

    def __init__(self, place: Place, why: str) -> None:
        super().__init__()
        self.place, self.why = place, why


@dataclass
class Keeping:
    """Loops are kept, but for those `unrolled`: why these cannot be."""

    unrolled: dict[Place, str] = field(default_factory=dict)


_keeping: ContextVar[Keeping | None] = ContextVar("keeping", default=None)


def is_keeping() -> bool:
    """Whether a trace that was too long is made again."""
    return _keeping.get() is not None


def place_of(body: Callable[..., Any]) -> Place:
    """Where the loop stands whose body was made this function."""
    return body.__code__.co_filename, body.__code__.co_firstlineno


def is_kept(body: Callable[..., Any], steps: Any) -> bool:
    """Whether a loop over Python's `range` is to be one of the compiled code."""
    keep = _keeping.get()
    if keep is None or place_of(body) in keep.unrolled:
        return False
    return not isinstance(steps, builtins.range) or len(steps) >= SHORTEST


@contextmanager
def kept(body: Callable[..., Any]) -> Iterator[None]:
    """Errors within mean that the loop cannot be kept."""
    if _keeping.get() is None:
        yield
        return
    try:
        yield
    except Exception as error:
        why = str(error).partition("\n")[0]
        raise Unkept(place_of(body), why) from error
    _note(body, "kept, since its steps are too many to unroll")


def note_unrolled(body: Callable[..., Any]) -> None:
    """Have `explain()` say why a loop was not kept."""
    keep = _keeping.get()
    if keep is not None and place_of(body) in keep.unrolled:
        _note(body, f"left unrolled, {keep.unrolled[place_of(body)]}")


def note_body(body: Callable[..., Any]) -> None:
    """Have the trace's watch know that Python runs this body of a loop over `range`."""
    watch = watched.get()
    if isinstance(watch, Watch):
        watch.bodies.add(body.__code__)


def _note(body: Callable[..., Any], text: str) -> None:
    trace, (file, line) = current_trace(), place_of(body)
    if trace is not None:
        statement = linecache.getline(file, line).strip().rstrip(":")
        trace.note("loops", f"{statement} at line {line}: {text}")


def shortest(make: Callable[[], Made], graph_of: Callable[[Made], Graph]) -> Made:
    """What `make` makes of a trace: with Python's loops kept where the program is long without."""
    if _keeping.get() is not None or watched.get() is not None:
        return make()
    watch = Watch(sys._getframe(), math.inf, by_loops=True)
    made: Made | None = None
    try:
        with watching(watch):
            made = make()
    except TooLong:
        pass
    if made is None:
        return _again(make) or make()
    left = length(graph_of(made))
    if not watch.loops or left < max(LEFT, watch.seen // 3):
        return made
    again = _again(make)
    return made if again is None or length(graph_of(again)) >= left else again


def length(graph: Graph) -> int:
    return sum(1 for _ in all_nodes(graph))


def _again(make: Callable[[], Made]) -> Made | None:
    """The same with loops kept; None if that is not possible."""
    keep = Keeping()
    token = _keeping.set(keep)
    try:
        for _ in range(ATTEMPTS):
            try:
                with watching(Watch(sys._getframe(), HOPELESS, by_loops=False)):
                    return make()
            except Unkept as unkept:
                keep.unrolled[unkept.place] = unkept.why
    except (TooLong, Exception):
        return None
    finally:
        _keeping.reset(token)
    return None


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    token = watched.set(watch)
    try:
        yield
    finally:
        watched.reset(token)


class Watch:
    """Looks at a trace now and then: which of Python's loops it is in."""

    def __init__(self, base: FrameType, most: float, by_loops: bool) -> None:
        """It is `most` operations long, or shorter if `by_loops` it can be told to become long."""
        self.base, self.by_loops = base, by_loops
        self.begun, self.most = next_serial(), most
        self.due = self.begun + EVERY
        self.seen = 0
        """How many operations there were at the last look."""
        self.loops = False
        """Whether the trace was in a loop that can be kept."""
        self.bodies: set[CodeType] = set()
        """The bodies of loops over `range` in rewritten functions, whose source has no `for`."""

    def look(self, frame: FrameType | None, serial: int) -> None:
        """Raise TooLong if the trace should be made in another way."""
        self.seen = serial - self.begun
        self.due = serial + max(EVERY, self.seen // 4)
        if self.seen >= self.most:
            raise TooLong
        if not self.by_loops:
            return
        depth = 0
        while frame is not None and frame is not self.base:
            if frame.f_code in self.bodies:
                depth += 1
            elif is_user_file(frame.f_code.co_filename):
                depth += len(loops_around(frame.f_code, frame.f_lineno))
            frame = frame.f_back
        self.loops |= depth > 0
        if depth and self.seen >= (LONG if depth == 1 else NESTED):
            raise TooLong


@lru_cache(maxsize=256)
def _loops(code: CodeType) -> tuple[ast.For, ...]:
    """The loops over `range` in a function's source."""
    try:
        node = definition_of(code, "tracing").node
    except TraceError:
        return ()
    return tuple(
        part for part in ast.walk(node) if isinstance(part, ast.For) and _is_range(part.iter)
    )


def _is_range(node: ast.expr) -> bool:
    match node:
        case ast.Call(ast.Name("range"), _, []):
            return True
        case ast.Call(ast.Name("reversed"), [inner], []):
            return _is_range(inner)
    return False


def loops_around(code: CodeType, line: int) -> list[ast.For]:
    """The loops over `range` that a line of a function stands in."""
    return [
        part
        for part in _loops(code)
        if part.body[0].lineno <= line <= (part.body[-1].end_lineno or line)
    ]
