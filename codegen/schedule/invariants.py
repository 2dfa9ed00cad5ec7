"""Invariants: what does not change inside a loop is computed once, before it.

In: a function. Out: the same function where named values of a loop body that are the same in every
iteration stand before the loop; one that is there already is not computed again.

    for i in range(n):                          for i in range(n):
        s = exp(r[i])                               s = exp(r[i])
        for j in range(m):               =>         v = -r[i]
            v = -r[i]                               for j in range(m):
            y[i, j] = v * x[i, j]                       y[i, j] = v * x[i, j]
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from codegen.expr import Const, Expr, Load, Var, walk
from codegen.loops import Assign, For, Function, Statement
from codegen.schedule.dependence import accesses, aliases, assigned, exposure
from codegen.schedule.fusion import Scope, inner, lives, same_value
from codegen.traverse import (
    Body,
    arrays,
    function_names,
    map_blocks,
    renamed,
    renamed_expr,
    variables,
)

Names = frozenset[str]


def hoist(function: Function) -> Function:
    scope = Scope(aliases(function), function_names(function))
    return replace(function, body=hoisted(function.body, scope, frozenset(), frozenset()))


def hoisted(body: Body, scope: Scope, around: Names, live: Names) -> Body:
    """`around`: the variables of the loops that the body is in; `live`: what is read after it."""
    found: list[Statement] = []
    for statement, later in zip(body, lives(body, live), strict=True):
        end = inner(statement, later)
        own = around | {statement.var.name} if isinstance(statement, For) else around
        statement = map_blocks(statement, lambda b, own=own, end=end: hoisted(b, scope, own, end))
        if isinstance(statement, For):
            out, statement = lifted(statement, scope, around, later)
            new: dict[str, str] = {}
            for assign in out:
                name, assign = assign.target.name, under(assign, new)
                before, new[name] = entered(assign, statement, tuple(found), scope)
                found += before
            statement = replace(statement, body=renamed(statement.body, new))
        found.append(statement)
    return tuple(found)


def lifted(loop: For, scope: Scope, around: Names, live: Names) -> tuple[list[Assign], For]:
    """The invariant values of the loop that nobody reads after it, and the loop without them."""
    times = Counter(assigned(loop))
    changing = set(times)
    written = {access.root for access in accesses(loop, scope.roots) if access.writes}
    needed = live | exposure(loop.body)[0]
    out: list[Assign] = []
    rest: list[Statement] = []
    for statement in loop.body:
        match statement:
            case Assign(target, value) if (
                times[target.name] == 1
                and target.name not in needed
                and not isinstance(value, Const | Var)
                and fixed(value, changing)
                and not {scope.roots.get(a, a) for a in arrays(value)} & written
                and surely_in_bounds(value, around)
            ):
                out.append(statement)
                changing.discard(target.name)
            case _:
                rest.append(statement)
    return out, replace(loop, body=tuple(rest))


def fixed(value: Expr, changing: set[str]) -> bool:
    return not (variables(value) | arrays(value)) & changing


def surely_in_bounds(value: Expr, around: Names) -> bool:
    """Whether every element is read at the variables of loops around, which are in their ranges;
    the loop itself may be empty."""
    return all(
        isinstance(at, Var) and at.name in around
        for load in walk(value)
        if isinstance(load, Load)
        for at in load.index
    )


def entered(assign: Assign, loop: For, before: Body, scope: Scope) -> tuple[list[Assign], str]:
    """The value before the loop, and its name there: another, if its own means something else.
    Nothing, if one of the statements before is that value already."""
    name, own = assign.target.name, set(assigned(loop))
    for earlier in before:
        match earlier:
            case Assign(target, value) if value == assign.value and target.name not in own:
                again = replace(assign, target=target)
                if target.dtype == assign.target.dtype and same_value(again, before, scope.roots):
                    return [], target.name
    if any(name in set(assigned(statement)) for statement in before):
        name = scope.fresh(name)
    return [replace(assign, target=replace(assign.target, name=name))], name


def under(assign: Assign, new: dict[str, str]) -> Assign:
    """The assignment with the values that it needs under new names."""
    return replace(assign, value=renamed_expr(assign.value, new))
