"""Arrays of a program that NumPy may have as one: what a branch, loop or list leaves of others.

    b = u if p else v        NumPy: b is u or v         the program: b = branch(p, u, v)
    b[0] = 1.0               u or v changes too         b' = update(b, 1.0, at 0)

The program is right for as long as nobody reads u and v behind that: who does gets an error.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from codegen.records import dataclass
from tracegrad.errors import TraceError
from tracegrad.tracing.source import user_frame

if TYPE_CHECKING:
    from tracegrad.tracing.array import Traced
    from tracegrad.tracing.trace import Trace

Unless = Callable[[], bool] | None


@dataclass(frozen=True)
class Twin:
    """Another array that NumPy may have as the same one, `unless` that holds in this version."""

    array: weakref.ref[Traced]
    unless: Unless = None


class Overwritten:
    """In place of the trace of an array that may have changed since."""

    finished = True

    def __init__(self, before: Any, node: Any, by: str) -> None:
        self.before, self.names, self.name = before, before.names, before.name
        frame = user_frame()[0]
        line = f"line {frame.f_lineno}" if frame is not None else "the program"
        own = before.names.get(node) or "this array"
        self.text = (
            f"{own} may have changed: NumPy may have it as one array with {by or 'another'}, after "
            f"an if, a loop or an append to a list on traced values, and {line} writes to "
            f"{by or 'that'}: write to a copy, {by or 'y'} = {by or 'y'}.copy()"
        )

    def leaked(self) -> TraceError:
        return TraceError(self.text)


_marked: ContextVar[list[Traced] | None] = ContextVar("marked", default=None)
"""The arrays that may have changed since a body began."""


def may_be(array: Traced, others: Iterable[Traced], unless: Unless = None) -> None:
    """In NumPy the array may be one of these, or have memory with it, and so with their twins."""
    for other, condition in reached(others, unless):
        if other is not array:
            link(array, other, condition)


def reached(arrays: Iterable[Traced], unless: Unless = None) -> list[tuple[Traced, Unless]]:
    """These arrays and their twins."""
    found: dict[int, tuple[Traced, Unless]] = {}
    for array in arrays:
        found.setdefault(id(array), (array, unless))
        for twin in array._twins:
            other = twin.array()
            if other is not None:
                found.setdefault(id(other), (other, unless or twin.unless))
    return [*found.values()]


def link(array: Traced, other: Traced, unless: Unless = None) -> None:
    """Writing one may change the other, which may be the array itself: several items are one."""
    one, two = sorted((array, other), key=lambda x: len(x._twins))  # each knows of the other
    if not any(twin.array() is two and twin.unless is None for twin in one._twins):
        array._twins = (*array._twins, Twin(weakref.ref(other), unless))
        if other is not array:
            other._twins = (*other._twins, Twin(weakref.ref(array), unless))


def are_shared(a: Traced, b: Traced) -> bool:
    """Whether writing one may change the other."""
    return a is b or any(twin.array() is b for twin in a._twins)


def is_shared_within(array: Traced) -> bool:
    """Whether writing one of its items may change another."""
    return any(twin.array() is array for twin in array._twins)


def twins(array: Traced) -> list[Traced]:
    """The array and what it may be."""
    return [array, *(other for twin in array._twins if (other := twin.array()) is not None)]


def owner_of(array: Traced) -> Trace:
    """The trace that the array is of."""
    trace: Any = array._trace
    return trace.before if isinstance(trace, Overwritten) else trace


def spoil_twins(array: Traced) -> None:
    """The array is written to: nobody is to read any more what it may be."""
    name = array._trace.names.get(array._node, "")
    for twin in array._twins:
        other = twin.array()
        if other is not None and not (twin.unless and twin.unless()):
            spoil(other, name)


def spoil(array: Traced, by: str = "") -> None:
    if isinstance(array._trace, Overwritten):
        return
    marked = _marked.get()
    if marked is not None:
        marked.append(array)
    array._trace = Overwritten(array._trace, array._node, by)  # type: ignore[assignment]


@contextmanager
def spoiling() -> Iterator[list[Traced]]:
    """Which arrays a body spoils: they are whole again behind it, for it to be traced again."""
    found: list[Traced] = []
    token = _marked.set(found)
    try:
        yield found
    finally:
        _marked.reset(token)
        for array in found:
            array._trace = array._trace.before  # type: ignore[attr-defined]
