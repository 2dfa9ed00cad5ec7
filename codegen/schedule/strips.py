"""Strips: a loop over rows whose scalar work is worth vectorising is cut into short pieces of it.

In: a function with its invariants hoisted. Out: the same function where a loop that alternates
between inner loops and vector math on single numbers runs over strips of rows: each part is a loop
over the strip, and numbers that one part hands to another stand in small arrays. A strip is as long
as what its inner loops read stays in cache from one part to the next.

    for i in range(n):                   for i_strip in range(0, n, strip):
        s = 0.0                              i_stop = min(i_strip + strip, n)
        for j in range(m):                   for i in range(i_strip, i_stop):
            s += x[i, j] * w[j]                  s = 0.0
        p = sigmoid(s)             =>            for j in range(m):
        for j in range(m):                           s += x[i, j] * w[j]
            g[j] += p * x[i, j]                  s_strip[i - i_strip] = s
                                             for i in range(i_strip, i_stop):
                                                 p = sigmoid(s_strip[i - i_strip])
                                                 p_strip[i - i_strip] = p
                                             for i in range(i_strip, i_stop):
                                                 for j in range(m):
                                                     g[j] += p_strip[i - i_strip] * x[i, j]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from itertools import combinations

import numpy as np

from codegen.expr import INT, Call, Const, Expr, Load, Var, add, integer, multiply, subtract, walk
from codegen.loops import Accumulate, Alloc, Assign, Comment, For, Function, Statement, Store
from codegen.schedule.dependence import (
    Access,
    accesses,
    aliases,
    assigned,
    effects,
    exposure,
    meeting,
    same_iteration,
)
from codegen.schedule.fusion import Scope, inner, lives
from codegen.traverse import (
    Body,
    expressions,
    function_names,
    map_blocks,
    statements,
    substitute,
    variables,
)
from codegen.vecmath import is_long

STRIP = 256
"""Rows of a strip: one block of a sum."""
IN_CACHE = 32768
"""Elements of the rows of a strip that are read by several parts: they stay in the second-level
cache."""

Names = frozenset[str]


def stripped(function: Function) -> Function:
    scope = Scope(aliases(function), function_names(function))
    return replace(function, body=cut(function.body, scope, frozenset()))


def cut(body: Body, scope: Scope, live: Names) -> Body:
    found: list[Statement] = []
    for statement, later in zip(body, lives(body, live), strict=True):
        if isinstance(statement, For) and (pieces := parts(statement, scope, later)):
            found += in_strips(statement, pieces, scope)
            continue
        end = inner(statement, later)
        found.append(map_blocks(statement, lambda b, end=end: cut(b, scope, end)))
    return tuple(found)


def parts(loop: For, scope: Scope, live: Names) -> list[Body] | None:
    """The pieces into which the body may be cut, if that is worth it."""
    kinds = Assign | Accumulate | Store | For | Comment
    if loop.sequential or loop.step != 1:
        return None
    if not all(isinstance(s, kinds) for s in statements(loop.body)):
        return None
    inside = [s for s in loop.body if isinstance(s, For)]
    if not inside or any(is_heavy(s) for s in statements(inside)):
        return None
    pieces = runs(with_starts_moved(loop.body))
    if len(pieces) < 2 or not separable(loop, pieces, scope, live):
        return None
    return pieces


def with_starts_moved(body: Body) -> Body:
    """Constants from which a loop goes on accumulating stand right before it."""
    found: list[Statement] = []
    waiting: dict[str, Statement] = {}
    for statement in body:
        match statement:
            case Assign(target, Const()):
                waiting[target.name] = statement
                continue
        touched = set(assigned(statement)) | exposure((statement,))[0]
        found += [waiting.pop(name) for name in list(waiting) if name in touched]
        found.append(statement)
    return (*found, *waiting.values())


def runs(body: Body) -> list[Body]:
    """Loops, and runs of vector math with the light work around it."""
    found: list[list[Statement]] = [[]]
    for statement in body:
        if isinstance(statement, For) and any(is_heavy(s) for s in found[-1]):
            starts = [s for s in found[-1] if begins(s, statement)]
            found[-1] = [s for s in found[-1] if s not in starts]
            found.append(starts)
        elif is_heavy(statement) and (loops := [s for s in found[-1] if isinstance(s, For)]):
            behind = found[-1].index(loops[-1]) + 1
            found.append(found[-1][behind:])
            del found[-2][behind:]
        found[-1].append(statement)
    return [tuple(run) for run in found]


def begins(statement: Statement, loop: For) -> bool:
    match statement:
        case Assign(target, Const()):
            return target.name in set(assigned(loop))
    return False


def is_heavy(statement: Statement) -> bool:
    """Whether a statement other than a loop computes vector math."""
    return not isinstance(statement, For) and any(
        isinstance(part, Call) and is_long(part.function, part.dtype)
        for expr in expressions(statement)
        for part in walk(expr)
    )


def separable(loop: For, pieces: list[Body], scope: Scope, live: Names) -> bool:
    """Whether all rows may go through one piece before any goes through the next: names lead from
    earlier pieces to later ones, and elements that several touch belong to one row."""
    made = [{name for s in piece for name in assigned(s)} for piece in pieces]
    needed = [exposure(piece)[0] for piece in pieces]
    everything = set().union(*made)
    carried = exposure(loop.body)[0] & everything
    if everything & (live - carried) or any(variables(stop) & everything for stop in stops(loop)):
        return False
    for name in set().union(*needed) & everything:
        makers = [k for k, names in enumerate(made) if name in names]
        users = [k for k, names in enumerate(needed) if name in names]
        if len(makers) > 1 or (users != makers if name in carried else min(users) <= makers[0]):
            return False
    both = [
        [effects(s, scope.roots, frozenset()) for s in piece if not isinstance(s, Comment)]
        for piece in pieces
    ]
    return all(
        same_iteration(x, y, loop.var, loop.var)
        for first, second in combinations(both, 2)
        for a in first
        for b in second
        for x, y in meeting(a, b)
    )


def stops(loop: For) -> Iterator[Expr]:
    for statement in statements(loop.body):
        if isinstance(statement, For):
            yield statement.stop


def in_strips(loop: For, pieces: list[Body], scope: Scope) -> Body:
    """The loop over strips, after the arrays for what its pieces hand on."""
    strip = Var(scope.named("strip"))
    start = Var(scope.named(f"{loop.var.name}_strip"))
    stop = Var(scope.named(f"{loop.var.name}_stop"))
    at = subtract(loop.var, start)
    allocs: list[Statement] = []
    new: list[Body] = list(pieces)
    for k, piece in enumerate(pieces):
        later = set().union(*(exposure(p)[0] for p in pieces[k + 1 :]))
        for variable in sorted(values(piece), key=lambda v: v.name):
            if variable.name not in later:
                continue
            array = scope.named(f"{variable.name}_strip")
            allocs.append(Alloc(array, (strip,), variable.dtype))
            load: Expr = Load(array, (at,), variable.dtype)
            new[k] = (*new[k], Store(array, (at,), variable))
            for number in range(k + 1, len(pieces)):
                new[number] = substitute(new[number], {variable.name: load})
    loops = tuple(
        For(loop.var, stop, piece, start=start, comment=loop.comment if not k else "", most=STRIP)
        for k, piece in enumerate(new)
    )
    end = Assign(stop, Call("minimum", (add(start, strip), loop.stop), INT))
    whole = For(start, loop.stop, (end, *loops), start=loop.start, step=strip)
    return (Assign(strip, rows(loop, pieces)), *allocs, whole)


def values(piece: Body) -> set[Var]:
    """The scalars to which a piece gives a value."""
    found: set[Var] = set()
    for statement in statements(piece):
        match statement:
            case Assign(target):
                found.add(target)
            case Accumulate(target, None, _, _, dtype):
                found.add(Var(target, np.dtype(dtype)))
    return found


def rows(loop: For, pieces: list[Body]) -> Expr:
    """How many rows a strip has: fewer, where rows are long and several pieces read them."""
    read = [{a.array for s in p for a in accesses(s, {}) if is_row(a, loop)} for p in pieces]
    again = any(a & b for a, b in combinations(read, 2))
    lengths = [length(s) for piece in pieces for s in piece if isinstance(s, For)]
    if not again or not lengths:
        return integer(STRIP)
    longest = reduce(larger, dict.fromkeys(lengths))
    fitting = Call("floor_divide", (integer(IN_CACHE), larger(longest, integer(1))), INT)
    return larger(Call("minimum", (integer(STRIP), fitting), INT), integer(8))


def larger(a: Expr, b: Expr) -> Expr:
    return Call("maximum", (a, b), INT)


def is_row(access: Access, loop: For) -> bool:
    """Whether a whole row of the array belongs to one iteration."""
    index = access.index or ()
    return len(index) > 1 and any(loop.var.name in variables(part) for part in index)


def length(loop: For) -> Expr:
    deeper = [length(s) for s in loop.body if isinstance(s, For)]
    return multiply(loop.stop, deeper[0]) if deeper else loop.stop
