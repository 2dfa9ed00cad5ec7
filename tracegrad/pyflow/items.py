"""What a compiled loop runs over: how many items there are, and the item at a traced index.

enumerate(zip(xs, ys))      ->      Items(n, lambda k: (k, (xs[k], ys[k])))
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.autodiff.derived import as_traced
from tracegrad.control.loop import INDEX, Span
from tracegrad.ir.dims import Size, holds, knows, same
from tracegrad.ops.constant import astype
from tracegrad.ops.op import PUBLIC, SizeValue
from tracegrad.ops.shape import as_size
from tracegrad.pyflow.range import Range
from tracegrad.tracing.array import Traced
from tracegrad.tracing.size import sized
from tracegrad.tracing.trace import Trace


@dataclass(frozen=True)
class Items:
    """`length` is a size or a traced integer; `at(k)` the item at a traced or plain index."""

    length: Any
    at: Callable[[Any], Any]
    call: tuple[Any, tuple[Any, ...]] | None = None
    """The call of Python's `range` and its like that it stands for."""

    @property
    def counted(self) -> bool:
        """Whether the number of items is an extent, not a computed number."""
        return not isinstance(self.length, Traced)

    def after_first(self) -> Items:
        return Items(sized(as_size(self.length) - 1), lambda k: self.at(k + 1))

    def is_empty(self) -> bool:
        return self.counted and not holds(1, "<=", as_size(self.length))

    def never_empty(self) -> bool:
        """Whether there is an item in this version, as far as that is not up to data."""
        return self.counted and bool(knows(1, "<=", as_size(self.length)))

    def span(self, trace: Trace) -> Span:
        if self.counted:
            return Span(as_size(self.length))
        bound, length = trace.bound(as_traced(trace, self.length).node)
        return Span(length, False, bound)

    @staticmethod
    def of_call(function: Any, arguments: tuple[Any, ...]) -> Items | None:
        """Those of Python's `range`, `enumerate`, `zip`, `reversed` on traced values; else None."""
        if function is builtins.range and any(map(_symbolic, arguments)):
            items = items_of(Range(*arguments))
            return items and replace(items, call=(function, arguments))
        if function is builtins.enumerate and 1 <= len(arguments) <= 2:
            inner = items_of(arguments[0])
            start = arguments[1] if len(arguments) == 2 else 0
            return inner and Items(inner.length, lambda k: (k + start, inner.at(k)))
        if function is builtins.reversed and len(arguments) == 1:
            inner = items_of(arguments[0])
            return inner and Items(inner.length, lambda k: inner.at(inner.length - 1 - k))
        if function is builtins.zip and any(items_of(a) is not None for a in arguments):
            return _zipped(arguments)
        return None


def _symbolic(value: Any) -> bool:
    return isinstance(value, SizeValue | Traced)


def items_of(over: Any, always: bool = False) -> Items | None:
    """The items of a traced array, of `tg.range`; None for what Python's loop is to run over."""
    if isinstance(over, Items):
        return over
    if isinstance(over, Range) or (always and isinstance(over, builtins.range)):
        return _counting(over.start, over.stop, over.step)
    if isinstance(over, Traced) and over.type.rank and (always or _is_open(over)):
        return Items(over.shape[0], lambda k: over[k])
    return None


def _is_open(array: Traced) -> bool:
    return not isinstance(array.type.shape[0], int)


def _zipped(arguments: tuple[Any, ...]) -> Items | None:
    parts: list[Items] = []
    for argument in arguments:
        if isinstance(argument, np.ndarray) and argument.ndim:
            array = argument
            parts.append(Items(len(array), lambda k, array=array: PUBLIC["getitem"](array, k)))
            continue
        found = items_of(argument, always=True)
        if found is None:
            return None
        parts.append(found)
    length = parts[0].length
    for part in parts[1:]:
        length = _smaller(length, part.length)
    return Items(length, lambda k: tuple(part.at(k) for part in parts))


def _smaller(a: Any, b: Any) -> Any:
    if isinstance(a, Traced) or isinstance(b, Traced):
        return PUBLIC["minimum"](a, b)
    first, second = as_size(a), as_size(b)
    return a if same(first, second) or holds(first, "<=", second) else b


def _counting(start: Any, stop: Any, step: Any) -> Items:
    """`start + k*step` for `k < ceil((stop - start) / step)`."""

    def at(k: Any) -> Any:
        scaled = k if isinstance(step, int) and step == 1 else k * step
        return scaled if isinstance(start, int) and start == 0 else scaled + start

    if any(isinstance(value, Traced) for value in (start, stop, step)):
        ends = [astype(v, INDEX.dtype) if isinstance(v, Traced) else v for v in (start, stop, step)]
        first, last, by = ends
        gap = last - first
        steps = gap if isinstance(by, int) and by == 1 else -((-gap) // by)
        return Items(PUBLIC["maximum"](steps, 0), at)
    return Items(sized(_steps(as_size(start), as_size(stop), as_size(step))), at)


def _steps(start: Size, stop: Size, step: Size) -> Size:
    up = holds(0, "<", step)
    if not (holds(start, "<=", stop) if up else holds(stop, "<=", start)):
        return 0
    size = step if up else -step
    span = stop - start if up else start - stop
    return span if isinstance(size, int) and size == 1 else (span + size - 1) // size
