"""What rewritten functions call: each decides whether Python goes on, or a node is recorded.

tg__.if_(test, then, else_, ...)     a plain test: one of both is called; a traced one: a branch
tg__.while_, tg__.for_               Python's loop, or one of the compiled code
tg__.and_, or_, not_, choose         expressions
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

from tracegrad.control.checks import record_check
from tracegrad.errors import TraceError
from tracegrad.ops.op import PUBLIC
from tracegrad.pyflow.branches import Raised, choose_between, chosen_value
from tracegrad.pyflow.builtin import condition, is_open
from tracegrad.pyflow.items import Items, items_of
from tracegrad.pyflow.keeping import is_keeping, is_kept, kept, note_body, note_unrolled
from tracegrad.pyflow.loops import Looped, listed_items
from tracegrad.pyflow.state import (
    Part,
    Variable,
    containers,
    growing,
    refuse_side_effects,
    variables,
    written_arrays,
)
from tracegrad.pyflow.state import append as append
from tracegrad.pyflow.state import extend as extend
from tracegrad.tracing.fresh import Fresh
from tracegrad.tracing.trace import current_trace

Rows = Sequence[tuple[Any, ...]]


def if_(test: Any, then: Part, otherwise: Part, state: Rows, changed: Rows, refused: Rows) -> None:
    if not is_open(test):
        (then if test else otherwise)()
        return
    refuse_side_effects("an if", (then, otherwise), refused)
    parts = then, otherwise
    rows, held = variables(parts, state), containers(parts, changed)
    trace = current_trace()
    assert trace is not None
    for root in written_arrays(trace, parts, rows, changed):
        if isinstance(root, Fresh):
            root._forget()
    choose_between(condition(test), then, otherwise, rows, held)


def raise_(make: Callable[[], Any], caught: bool) -> None:
    """`raise error`: where a traced condition decides whether it comes to that, a check."""
    made: Any = make()
    error: Any = made() if isinstance(made, type) and issubclass(made, BaseException) else made
    trace = current_trace()
    if trace is None or not trace.is_side or not isinstance(error, Exception):
        raise error
    if caught:
        raise Uncaught(UNCAUGHT.format(error.__class__.__name__))
    raise Raised(error)


def assert_(test: Any, message: Callable[[], Any], caught: bool) -> None:
    if not is_open(test):
        assert test, message()
        return
    if caught:
        raise Uncaught(UNCAUGHT.format("AssertionError"))
    text = message()
    record_check(condition(test), AssertionError(text) if text else AssertionError())


class Uncaught(TraceError):
    """An exception that compiled code raises stands in a `try`."""

    __module__ = "tracegrad"


UNCAUGHT = (
    "{} is raised on a traced condition, inside of a try that could catch it: compiled code raises "
    "it, and cannot be caught here; compute what the handler does in the branch itself"
)


def while_(test: Part, body: Part, state: Rows, changed: Rows, refused: Rows) -> None:
    """The first steps run in Python for as long as the condition is known."""
    while True:
        go = test()
        if is_open(go):
            break
        if not go:
            return
        body()
    condition(go)
    refuse_side_effects("a while loop", (body,), refused)
    loop = Looped(body, variables((body,), state), changed, lambda: condition(test()))
    loop.run_while()


def for_(
    over: Any,
    body: Part,
    stop: Callable[[], Any] | None,
    grown: Rows,
    state: Rows,
    changed: Rows,
    refused: Rows,
) -> None:
    items = items_of(over, always=isinstance(over, builtins.range) and is_kept(body, over))
    if items is not None and items.call and is_keeping() and not is_kept(body, items):
        function, arguments = items.call
        over, items = function(*arguments), None
    if items is None:
        note_unrolled(body)
        items = _in_python(over, body, stop, state, changed, refused)
    if items is None:
        return
    with kept(body):
        refuse_side_effects("a for loop", (body,), refused)
        go = None if stop is None else lambda: not_(stop())
        lists = growing(body, grown)
        Looped(body, variables((body,), state), changed, go, lists).run_over(items)


def _in_python(
    over: Any, body: Part, stop: Callable[[], Any] | None, state: Rows, changed: Rows, refused: Rows
) -> Items | None:
    """The loop in Python; where a traced condition may end it, the items that are left to do."""
    if isinstance(over, builtins.range):
        note_body(body)
    rest = iter(over)
    done = 0
    for item in rest:
        body(item)
        done += 1
        ended = False if stop is None else stop()
        if not is_open(ended):
            if ended:
                return None
            continue
        if isinstance(over, builtins.range):
            return items_of(over[done:], always=True)
        assert stop is not None
        for later in rest:
            _guarded(later, body, stop, state, changed, refused)
        return None
    return None


def _guarded(
    item: Any, body: Part, stop: Callable[[], Any], state: Rows, changed: Rows, refused: Rows
) -> None:
    """A step of an unrolled loop, unless it has ended."""
    rows = [
        Variable(row.name, row.line, row.plain, True, row.read, row.cell)
        for row in variables((body,), state)
    ]
    refuse_side_effects("a for loop", (body,), refused)
    held = containers((body,), changed)
    choose_between(condition(not_(stop())), lambda: body(item), lambda: None, rows, held)


def listed(over: Any, item: Callable[[Any], Any]) -> Any:
    """`[item(i) for i in tg.range(n)]`"""
    items = items_of(over)
    return [item(i) for i in over] if items is None else listed_items(items, item)


def truth(test: Any) -> Any:
    """A further part of `and` and `or`: a traced boolean, or Python's."""
    return condition(test) if is_open(test) else bool(test)


def and_(a: Any, b: Callable[[], Any]) -> Any:
    return (
        chosen_value(condition(a), lambda: truth(b()), lambda: False) if is_open(a) else a and b()
    )


def or_(a: Any, b: Callable[[], Any]) -> Any:
    if not is_open(a):
        return a or b()
    return chosen_value(condition(a), lambda: True, lambda: truth(b()))


def not_(a: Any) -> Any:
    return PUBLIC["logical_not"](condition(a)) if is_open(a) else not a


def choose(test: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    if not is_open(test):
        return then() if test else otherwise()
    return chosen_value(condition(test), then, otherwise)


def over(function: Any, *arguments: Any) -> Any:
    """`range`, `enumerate`, `zip`, `reversed` where they are Python's and get traced values."""
    found = Items.of_call(function, arguments)
    return function(*arguments) if found is None else found
