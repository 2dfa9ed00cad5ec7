"""Borders: the few iterations of a loop that are different are taken out of it.

In: a function. Out: the same function where an innermost loop that asks in every iteration whether
it is near one of its ends runs over the middle without asking, after a short loop over both ends.
Without a condition in it the middle is vectorised as it stands, no element is read behind a mask.

    for i in range(n):                               i_low = min(1, n)
        y[i] = x[i - 1] if 1 <= i else 0.0   =>      for i in range(i_low):
                                                         y[i] = x[i - 1] if 1 <= i else 0.0
                                                     for i in range(i_low, n):
                                                         y[i] = x[i - 1]

Where a loop is a part of a longer one (`start` to `stop` on one of several threads), so are its
ends: the middle begins at `min(max(1, start), stop)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from codegen.expr import (
    BOOL,
    INT,
    Call,
    Const,
    Expr,
    Select,
    Var,
    add,
    integer,
    subtract,
    walk,
)
from codegen.loops import ZERO, Accumulate, Assign, Comment, For, Function, Statement, Store
from codegen.schedule.dependence import accesses, aliases, assigned
from codegen.schedule.fusion import Scope
from codegen.traverse import (
    Body,
    expressions,
    function_names,
    map_blocks,
    map_expressions,
    statements,
    variables,
)
from codegen.vecmath import is_long

WIDEST = 8
"""Iterations at either end that may be taken out."""
LARGEST = 120
"""Parts of the expressions of a body that may be printed twice."""
FALSE, TRUE = Const(False, BOOL), Const(True, BOOL)


@dataclass(frozen=True)
class Question:
    """A comparison of the loop variable that is settled from `low` iterations after the start, or
    until `high` before the end; its answer in the middle."""

    low: int
    high: int
    answer: bool


Questions = dict[Call, Question]


def peel(function: Function) -> Function:
    scope = Scope(aliases(function), function_names(function))
    return replace(function, body=peeled(function.body, scope))


def peeled(body: Body, scope: Scope) -> Body:
    found: list[Statement] = []
    for statement in body:
        if isinstance(statement, For) and (questions := settled(statement, scope)):
            found += in_two(statement, questions, scope)
        else:
            found.append(map_blocks(statement, lambda block: peeled(block, scope)))
    return tuple(found)


def settled(loop: For, scope: Scope) -> Questions:
    """The questions of an innermost loop, if it may be printed twice and run in another order."""
    if loop.sequential or loop.step != 1 or (loop.start != ZERO and loop.whole is None):
        return {}
    if not all(isinstance(s, Assign | Store | Accumulate | Comment) for s in loop.body):
        return {}
    parts = [part for s in statements(loop.body) for e in expressions(s) for part in walk(e)]
    if len(parts) > LARGEST or any(map(is_math, parts)):
        return {}
    if not independent(loop, scope):
        return {}
    asked = {c: q for c in conditions(parts) if (q := question(c, loop)) is not None}
    return asked if any(q.low + q.high for q in asked.values()) else {}


def independent(loop: For, scope: Scope) -> bool:
    """Whether each iteration stores elements of its own, and reads of those arrays only these."""
    touched = [a for s in loop.body for a in accesses(s, scope.roots)]
    stored = {s.array: s.index for s in loop.body if isinstance(s, Store)}
    places = {scope.roots.get(array, array): index for array, index in stored.items()}
    return all(loop.var in index for index in stored.values()) and all(
        a.index == places[a.root] for a in touched if a.root in places
    )


def is_math(part: Expr) -> bool:
    return isinstance(part, Call) and is_long(part.function, part.dtype)


def conditions(parts: list[Expr]) -> Iterator[Call]:
    """The comparisons of integers on which a choice hangs."""
    for part in parts:
        if isinstance(part, Select):
            for inner in walk(part.condition):
                match inner:
                    case Call(_, (a, b)) if a.dtype == b.dtype == INT and inner.dtype == BOOL:
                        yield inner


def question(condition: Call, loop: For) -> Question | None:
    """The comparison as one of `i < edge` or its opposite, `edge` near one of the ends."""
    a, b = condition.args
    if b == loop.var and condition.function in SWAPPED:
        return question(replace(condition, function=SWAPPED[condition.function], args=(b, a)), loop)
    own = set(assigned(loop))
    if a != loop.var or condition.function not in SWAPPED or variables(b) & own:
        return None
    edge = add(b, integer(1)) if condition.function in ("less_equal", "greater") else b
    below = condition.function in ("less", "less_equal")
    if isinstance(edge, Const) and 0 <= edge.value <= WIDEST:
        return Question(int(edge.value), 0, not below)
    (base, behind), (end, offset) = apart(edge), apart(loop.whole or loop.stop)
    if base is not None and base == end and 0 <= offset - behind <= WIDEST:
        return Question(0, offset - behind, below)
    return None


SWAPPED = {
    "less": "greater",
    "less_equal": "greater_equal",
    "greater": "less",
    "greater_equal": "less_equal",
}


def apart(expr: Expr) -> tuple[Expr | None, int]:
    """An extent as something and a number: `n - 1` is `(n, -1)`."""
    match expr:
        case Const(value):
            return None, int(value)
        case Call("add", (base, Const(value))):
            inner, number = apart(base)
            return inner, number + int(value)
        case Call("subtract", (base, Const(value))):
            inner, number = apart(base)
            return inner, number - int(value)
    return expr, 0


def in_two(loop: For, questions: Questions, scope: Scope) -> Body:
    first = max(q.low for q in questions.values())
    last = max(q.high for q in questions.values())
    low, high = loop.start, loop.stop
    found: list[Statement] = []
    if first:
        low = Var(scope.named(f"{loop.var.name}_low"))
        begin = largest(integer(first), loop.start)
        found.append(Assign(low, Call("minimum", (begin, loop.stop), INT)))
    if last:
        high = Var(scope.named(f"{loop.var.name}_high"))
        end = subtract(loop.whole or loop.stop, integer(last))
        if loop.whole is not None:
            end = Call("minimum", (end, loop.stop), INT)
        found.append(Assign(high, Call("maximum", (low, end), INT)))
    answers: dict[Expr, Expr] = {c: TRUE if q.answer else FALSE for c, q in questions.items()}
    body = tuple(map_expressions(s, lambda e: simpler(answers.get(e, e))) for s in loop.body)
    ends = replace(at_ends(loop, low, high, scope), most=first + last)
    return (*found, ends, replace(loop, start=low, stop=high, body=body, comment=""))


def largest(a: Expr, b: Expr) -> Expr:
    """The larger of two extents that are not negative."""
    return a if b == ZERO else Call("maximum", (a, b), INT)


def at_ends(loop: For, low: Expr, high: Expr, scope: Scope) -> For:
    """The loop before `low` and from `high` on."""
    if high == loop.stop:
        return replace(loop, stop=low)
    if low == loop.start:
        return replace(loop, start=high)
    edge = Var(scope.named(f"{loop.var.name}_edge"))
    far = Call("add", (Call("subtract", (edge, low), INT), high), INT)
    place = Select(Call("less", (edge, low), BOOL), edge, far, INT)
    count = Call("add", (low, Call("subtract", (loop.stop, high), INT)), INT)
    return replace(loop, var=edge, stop=count, body=(Assign(loop.var, place), *loop.body))


def simpler(expr: Expr) -> Expr:
    """Choices whose condition is known."""
    match expr:
        case Select(Const(value), yes, no):
            return yes if value else no
        case Call("logical_and", (a, b)) if TRUE in (a, b):
            return b if a == TRUE else a
        case Call("logical_and", args) if FALSE in args:
            return FALSE
        case Call("logical_or", (a, b)) if FALSE in (a, b):
            return b if a == FALSE else a
        case Call("logical_or", args) if TRUE in args:
            return TRUE
        case Call("logical_not", (Const(value),)):
            return FALSE if value else TRUE
    return expr
