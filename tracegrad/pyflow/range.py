"""`tg.range`: the numbers of a loop that is not unrolled.

for i in tg.range(n): s = s + x[i]      ->      one loop in the compiled code, whatever n is
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator
from typing import Any

from tracegrad.errors import TraceError
from tracegrad.ops.op import Bindable, SizeValue
from tracegrad.tracing.trace import current_trace

_range = range


class Range:
    """`start, start + step, ...` below `stop`, as `range`; in a traced function the `for` over it
    is compiled as a loop, and its bounds may be sizes or integers that the program computes.

    The variables that the loop assigns keep their types from step to step. Arrays written in
    place, `out[i] = v`, are written in place. Outside of a traced function it is `range`. Raises
    ValueError for a step of 0.

    >>> import numpy as np, tracegrad as tg
    >>> @tg.trace
    ... def total(x):
    ...     s = 0.0
    ...     for i in tg.range(x.shape[0]):
    ...         s = 0.5 * s + x[i]
    ...     return s
    """

    def __init__(self, *bounds: Any) -> None:
        if not 1 <= len(bounds) <= 3:
            raise TypeError(f"tg.range takes 1 to 3 arguments, got {len(bounds)}")
        start, stop, step = (0, bounds[0], 1) if len(bounds) == 1 else (*bounds, 1)[:3]
        self.start, self.stop, self.step = map(_whole, (start, stop, step))
        if isinstance(self.step, int) and self.step == 0:
            raise ValueError("tg.range() arg 3 must not be zero")

    def __iter__(self) -> Iterator[int]:
        if current_trace() is None:
            return iter(_range(int(self.start), int(self.stop), int(self.step)))
        name = sys._getframe(1).f_code.co_name
        raise TraceError(
            f"a loop over tg.range in {name}, which was not rewritten: decorate {name} with "
            "@tg.trace (its source must be in a file or a notebook cell); in a comprehension use "
            "tg.map"
        )

    def __len__(self) -> int:
        return len(_range(int(self.start), int(self.stop), int(self.step)))

    def __repr__(self) -> str:
        return f"tg.range({self.start}, {self.stop}, {self.step})"


Range.__name__ = Range.__qualname__ = "range"


def _whole(value: Any) -> Any:
    """A bound: an int, a size, or an integer that the program computes."""
    if isinstance(value, SizeValue):
        return value
    if isinstance(value, Bindable):
        if value.type.rank or value.type.dtype.kind not in "iu":
            raise TypeError(f"tg.range takes integers, not {value.type}")
        known = value.known()
        return value if known is None else int(known)
    return operator.index(value)
