"""`for t in tg.unrolled(range(20))`: the steps of a Python loop, to stay unrolled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tracegrad.ir.graph import next_serial
from tracegrad.tracing.trace import current_trace

T = TypeVar("T")


def unrolled(steps: Iterable[T]) -> Iterator[T]:
    """The items of `steps`; what a traced function computes for them is not rolled into a loop.

    >>> import tracegrad as tg
    >>> @tg.trace
    ... def twelve_halves(x):
    ...     for _ in tg.unrolled(range(12)):
    ...         x = 0.5 * x
    ...     return x
    >>> float(twelve_halves(4096.0))
    1.0
    """
    trace = current_trace()
    begun = next_serial()
    try:
        yield from steps
    finally:
        if trace is not None:
            trace.unrolled.append(range(begun, next_serial()))
