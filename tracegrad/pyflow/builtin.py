"""Python's own functions that ask for truth values or lengths, for traced numbers.

In: `len`, `min`, `max`, `any`, `all` as a traced function calls them. Out: what Python answers,
unless a comparison of traced numbers decides; then the compiled code chooses.

    min(2.0, f * h)       ->      np.where(f * h < 2.0, f * h, 2.0)
    any(v > 1 for v in x) ->      (x[0] > 1) | (x[1] > 1) | ...

As with Python the first of equal values counts, and so does its derivative; `max` of a whole array
is `np.max`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any

from tracegrad.errors import TraceError
from tracegrad.ops.op import PUBLIC, type_of
from tracegrad.pyflow.branches import chosen_value
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import current_trace


def is_open(test: Any) -> bool:
    """Whether a condition is not known while tracing."""
    return isinstance(test, Traced) and test._of_sizes() is None


def condition(test: Any) -> Traced:
    """A traced condition as a boolean scalar. Raises TraceError for arrays."""
    type = type_of(test)
    if type.rank:
        raise TraceError(
            f"the condition is an array, {type}: use np.all or np.any, or np.where to choose "
            "element by element"
        )
    return test if type.dtype == bool else test != 0


def length(x: Any, /) -> Any:
    """`len`, of a traced array its traced extent."""
    return x.shape[0] if isinstance(x, Traced) and x.type.rank else len(x)


def extreme(python: Callable[..., Any], beats: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """`min` or `max`; `beats(a, b)`: whether `a` takes the place of `b`."""

    @functools.wraps(python)
    def call(*args: Any, **options: Any) -> Any:
        if current_trace() is None or not options.keys() <= {"key", "default"}:
            return python(*args, **options)
        given = args[0] if len(args) == 1 else args
        key = options.get("key")
        if isinstance(given, Traced) and given.type.rank == 1 and not options:
            return PUBLIC[python.__name__](given)
        if not isinstance(given, Iterable):
            return python(*args, **options)
        items = list(given)
        keys = items if key is None else [key(item) for item in items]
        if not any(isinstance(k, Traced) for k in keys):
            return python(items, **options)
        return _best(items, keys, beats)

    return call


def _best(items: list[Any], keys: list[Any], beats: Callable[[Any, Any], Any]) -> Any:
    """The item of the smallest or largest key, as Python finds it: from left to right."""
    best, best_key = items[0], keys[0]
    for item, key in zip(items[1:], keys[1:], strict=True):
        test = beats(key, best_key)
        if not is_open(test):
            best, best_key = (item, key) if test else (best, best_key)
            continue
        same, test = item is key and best is best_key, condition(test)
        kept = best
        best_key = PUBLIC["where"](test, key, best_key)
        best = best_key if same else chosen_value(test, lambda i=item: i, lambda b=kept: b)
    return best


def either(python: Callable[..., Any], decides: bool) -> Callable[..., Any]:
    """`any` (True decides) or `all` (False does)."""

    @functools.wraps(python)
    def call(items: Any, /) -> Any:
        if current_trace() is None:
            return python(items)
        if isinstance(items, Traced) and items.type.rank == 1:
            return PUBLIC[python.__name__](items)
        join = PUBLIC["logical_or" if decides else "logical_and"]
        found: Any = not decides
        for item in items:
            if is_open(item):
                found = condition(item) if found is (not decides) else join(found, condition(item))
            elif bool(item) is decides:
                return decides
        return found

    return call


STANDING: dict[str, Callable[..., Any]] = {
    "len": length,
    "min": extreme(min, operator.lt),
    "max": extreme(max, operator.gt),
    "any": either(any, True),
    "all": either(all, False),
}
"""What stands in for the builtin of this name."""
