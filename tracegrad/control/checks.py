"""`tg.check`: a condition that has to hold when the compiled code runs.

tg.check(np.all(x > 0), "x has to be positive")      ->      if not v2: raise ValueError(...)
"""

from __future__ import annotations

from typing import Any

from tracegrad.control.body import node_in
from tracegrad.errors import TraceError
from tracegrad.ir.types import CHECKS
from tracegrad.ops.op import PUBLIC, Bindable, as_operand, type_of
from tracegrad.ops.raising import RAISE, raised_as
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import current_trace


def check(condition: Any, message: str = "", error: type[Exception] = ValueError) -> None:
    """Raise `error(message)` unless the condition, a boolean scalar, holds.

    In a traced function compiled code raises it, wherever it is written: in a loop or a branch, and
    in derivatives of what follows too. The message is fixed when the function is traced. Raises
    TraceError for a condition that is an array (use `np.all`), for a message with traced values in
    it, and for an error that is no subclass of Exception.

    >>> import numpy as np, tracegrad as tg
    >>> @tg.trace
    ... def root(x):
    ...     tg.check(x >= 0, "x has to be positive")
    ...     return np.sqrt(x)
    >>> root(-1.0)
    Traceback (most recent call last):
    ...
    ValueError: x has to be positive
    """
    if not (isinstance(error, type) and issubclass(error, Exception)):
        raise TraceError(f"tg.check: error is {error!r}, which is no class of exceptions")
    record_check(condition, error(message))


def record_check(condition: Any, error: Exception) -> None:
    """The same for an exception that is made already."""
    condition = as_operand(condition)
    type = type_of(condition)
    if type.rank:
        raise TraceError(
            f"a check of {type.in_figures()}: the condition has to be one truth value, use np.all"
        )
    known = condition.known() if isinstance(condition, Bindable) else condition
    if known is not None:
        if not known:
            raise error
        return
    trace = current_trace()
    if not isinstance(condition, Traced) or trace is None:
        if not bool(condition):
            raise error
        return
    good = condition if type.dtype == bool else PUBLIC["not_equal"](condition, 0)
    state = trace.state(CHECKS)
    made = trace.record(RAISE, (state, node_in(trace, good)), raised_as(error))
    trace.advance(CHECKS, made)
