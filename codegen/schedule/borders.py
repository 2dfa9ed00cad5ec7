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
ends: the middle begins at `min(max(1, start), stop)`. Where the loop asks about the variable of one
around it too (the first row), rows at an end have no middle: `i_low = min(1, n) if 1 <= k else n`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import reduce

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
from codegen.records import dataclass
from codegen.schedule.dependence import accesses, aliases, assigned, exposure, innermost
from codegen.schedule.fusion import Scope
from codegen.traverse import (
    Body,
    deep_map,
    expressions,
    function_names,
    map_blocks,
    statements,
    variables,
)
from codegen.vecmath import is_long

WIDEST = 8
"""Iterations at either end that may be taken out."""
LARGEST = 600
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
    return replace(function, body=peeled(known(function.body), scope, ()))


def known(body: Body) -> Body:
    """`body` without the comparisons of loop variables that are the same in every iteration."""
    return tuple(map(known_of, body))


def known_of(statement: Statement) -> Statement:
    statement = map_blocks(statement, known)
    if not isinstance(statement, For):
        return statement
    asked = questions_of(statement, statements(statement.body))
    return without({c: q for c, q in asked.items() if q.low == q.high == 0}, statement)


def peeled(body: Body, scope: Scope, around: tuple[For, ...]) -> Body:
    """`body`, inside these loops, with innermost loops in two."""
    found: list[Statement] = []
    for statement in body:
        if isinstance(statement, For) and innermost(statement) and may_be_cut(statement, scope):
            found += in_two(statement, around, scope)
            continue
        loops = (*around, statement) if isinstance(statement, For) else around
        found.append(map_blocks(statement, lambda b, loops=loops: peeled(b, scope, loops)))
    return tuple(found)


def counts_up(loop: For) -> bool:
    """Whether the loop takes each number from 0 on, or is a part of one that does."""
    return loop.step == 1 and (loop.start == ZERO or loop.whole is not None)


def may_be_cut(loop: For, scope: Scope) -> bool:
    """Whether an innermost loop may be printed twice and run in another order."""
    if loop.sequential or not counts_up(loop):
        return False
    if not all(isinstance(s, Assign | Store | Accumulate | Comment) for s in loop.body):
        return False
    parts = [part for s in loop.body for e in expressions(s) for part in walk(e)]
    if len(parts) > LARGEST or any(map(is_math, parts)):
        return False
    return independent(loop, scope)


def questions_of(loop: For, body: Iterable[Statement]) -> Questions:
    """The questions about the variable of `loop` that statements in it ask."""
    if not counts_up(loop):
        return {}
    own = set(assigned(loop))
    parts = (part for s in body for e in expressions(s) for part in walk(e))
    asked = {condition: question(condition, loop, own) for condition in conditions(parts)}
    return {condition: q for condition, q in asked.items() if q is not None}


def independent(loop: For, scope: Scope) -> bool:
    """Whether each iteration stores elements of its own, and reads of those arrays only these; and
    no scalar but those that are summed up goes from one iteration to the next."""
    touched = [a for s in loop.body for a in accesses(s, scope.roots)]
    inside = list(statements(loop.body))
    stored = {
        s.array if isinstance(s, Store) else s.target: s.index
        for s in inside
        if isinstance(s, Store) or (isinstance(s, Accumulate) and s.index is not None)
    }
    needed, _ = exposure(loop.body)
    given = {s.target.name for s in inside if isinstance(s, Assign)}
    places = {scope.roots.get(array, array): index for array, index in stored.items()}
    return (
        not needed & given
        and all(index is not None and loop.var in index for index in stored.values())
        and all(a.index == places[a.root] for a in touched if a.root in places)
    )


def is_math(part: Expr) -> bool:
    return isinstance(part, Call) and is_long(part.function, part.dtype)


def conditions(parts: Iterable[Expr]) -> Iterator[Call]:
    """The comparisons of integers on which a choice hangs."""
    for part in parts:
        if isinstance(part, Select):
            for inner in walk(part.condition):
                match inner:
                    case Call(_, (a, b)) if a.dtype == b.dtype == INT and inner.dtype == BOOL:
                        yield inner


def question(condition: Call, loop: For, own: set[str]) -> Question | None:
    """The comparison as one of `i < edge` or its opposite, `edge` near one of the ends; `own`: the
    names that change in the loop."""
    a, b = condition.args
    if condition.function not in SWAPPED:
        return None
    if apart(b)[0] == loop.var:
        return question(
            replace(condition, function=SWAPPED[condition.function], args=(b, a)), loop, own
        )
    variable, number = apart(a)
    if variable != loop.var or variables(b) & own:
        return None
    beyond = condition.function in ("less_equal", "greater")
    edge = add(b, integer(beyond - number))
    below = condition.function in ("less", "less_equal")
    (base, behind), (end, offset) = apart(edge), apart(loop.whole or loop.stop)
    if base is None and behind <= WIDEST:
        return Question(max(behind, 0), 0, not below)
    if base == end and offset - behind <= WIDEST:
        return Question(0, max(offset - behind, 0), below)
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


def without(questions: Questions, loop: For) -> For:
    """The loop over iterations in which these questions have the answers of the middle."""
    return replace(loop, body=answered(questions, loop.body))


def answered(questions: Questions, body: Body) -> Body:
    if not questions:
        return body
    answers: dict[Expr, Expr] = {c: TRUE if q.answer else FALSE for c, q in questions.items()}
    return deep_map(body, lambda e: simpler(answers.get(e, e)))


def settled(loop: For, body: Body) -> Questions:
    """The questions about the variable of `loop`, also those that are left when others are settled:
    `(i + 1 if i < n - 1 else 0) < n - 1` becomes `i + 1 < n - 1`.
    """
    found: Questions = {}
    while True:
        asked = questions_of(loop, answered(found, body))
        if asked.keys() <= found.keys():
            return found
        found |= asked


def in_two(loop: For, around: tuple[For, ...], scope: Scope) -> Body:
    questions = settled(loop, loop.body)
    outer = [(o, asked) for o in around if any(reach(asked := settled(o, loop.body)))]
    first, last = reach(questions)
    if not outer and not first and not last:
        return (loop,)
    low, high = loop.start, loop.stop
    found: list[Statement] = []
    if first or outer:
        begin = low
        if first:
            begin = Call("minimum", (largest(integer(first), loop.start), loop.stop), INT)
        if outer:
            inside = reduce(both, (in_middle(other, asked) for other, asked in outer))
            begin = Select(inside, begin, loop.stop, INT)
        low = Var(scope.named(f"{loop.var.name}_low"))
        found.append(Assign(low, begin))
    if last:
        high = Var(scope.named(f"{loop.var.name}_high"))
        end = subtract(loop.whole or loop.stop, integer(last))
        if loop.whole is not None:
            end = Call("minimum", (end, loop.stop), INT)
        found.append(Assign(high, Call("maximum", (low, end), INT)))
    ends = at_ends(loop, low, high, scope)
    ends = ends if outer else replace(ends, most=first + last)
    every = questions | {c: q for _, asked in outer for c, q in asked.items()}
    return (*found, ends, replace(without(every, loop), start=low, stop=high, comment=""))


def reach(questions: Questions) -> tuple[int, int]:
    """How many iterations at the start and at the end are not in the middle."""
    asked = questions.values()
    return max((q.low for q in asked), default=0), max((q.high for q in asked), default=0)


def in_middle(loop: For, questions: Questions) -> Expr:
    """Whether the variable of the loop is in its middle."""
    first, last = reach(questions)
    end = subtract(loop.whole or loop.stop, integer(last))
    after = Call("less_equal", (integer(first), loop.var), BOOL)
    before = Call("less", (loop.var, end), BOOL)
    return both(after, before) if first and last else after if first else before


def both(a: Expr, b: Expr) -> Expr:
    return Call("logical_and", (a, b), BOOL)


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
        case Call("add" | "subtract", (a, Const() as b)) if expr.dtype == INT:
            return add(a, b) if expr.function == "add" else subtract(a, b)
    return expr
