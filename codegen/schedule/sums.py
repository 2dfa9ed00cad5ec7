"""Sums: fast, and as accurate as a pairwise sum, in a fixed order.

In: a function with scalar accumulations in loops. Out: the same sums taken over blocks. Inside a
block the order is free (`add_reassoc`), so that it is vectorised; the sums of the blocks are added
with the rounding error of each addition collected beside them (Neumaier 1974, "Rundungsfehler-
analyse einiger Verfahren zur Summation endlicher Summen"; the error by Knuth's TwoSum).

    s = 0.0                        s = 0.0
    for i in range(n):             s_lost = 0.0
        s += x[i]            =>    for i_block in range(0, n, 256):
                                       s_part = 0.0
                                       for i in range(i_block, min(i_block + 256, n)):
                                           s_part = add_reassoc_f64(s_part, x[i])
                                       s_lost += rounding_error_f64(s, s_part)
                                       s += s_part
                                   s += s_lost

float32 has something simpler: the blocks are added in float64 (`s_wide += s_part`). A sum that is
one block as a whole, over a short constant extent, needs neither. Where a sum is one of many (of
each row) and its terms are simple, the first block stands before the others, for which there is a
test: rows of 10 numbers take half the time.

The sums of an outer loop keep one pair of names over all of its levels. The error of a sum of n
terms is at most that of one block and one rounding, plus n**2 units of the *squared* precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import replace

import numpy as np

from codegen.expr import BOOL, INT, Call, Cast, Const, Expr, Var, add, integer, walk
from codegen.loops import Accumulate, Assign, For, Function, If, Statement, While
from codegen.records import dataclass
from codegen.schedule.dependence import aliases, assigned, used
from codegen.schedule.fusion import Scope
from codegen.traverse import Body, expressions, function_names, map_blocks, statements, variables
from codegen.vecmath import is_long

BLOCK = 256
"""Terms of a block: enough that its end costs little (2 % of the time in the first-level cache),
few enough that its error is NumPy's (which has blocks of 128). A loop of a constant extent up to
this is one block."""
SIMPLE = 24
"""Parts of the expressions of a loop body up to which it may be printed twice."""
WIDE = np.dtype(np.float64)


@dataclass(frozen=True)
class Total:
    """The names of a sum: the total, the sum of a block, and beside the total what makes it exact:
    the rounding errors so far, or for float32 the sum of the blocks in float64; None for a sum of
    one block."""

    total: Var
    part: Var
    beside: Var | None

    def start(self) -> Body:
        return () if self.beside is None else (zero(self.beside),)

    def added(self) -> Body:
        """The block's sum added to the total."""
        dtype = self.total.dtype
        if self.beside is None:
            return (Accumulate(self.total.name, None, "add", self.part, dtype),)
        if self.beside.dtype != dtype:
            return (Accumulate(self.beside.name, None, "add", self.part, self.beside.dtype),)
        error = Call("rounding_error", (self.total, self.part), dtype)
        return (
            Accumulate(self.beside.name, None, "add", error, dtype),
            Accumulate(self.total.name, None, "add", self.part, dtype),
        )

    def end(self) -> Body:
        dtype = self.total.dtype
        if self.beside is None:
            return ()
        if self.beside.dtype != dtype:
            whole = Call("add", (self.total, self.beside), self.beside.dtype)
            return (Assign(self.total, Cast(whole, dtype)),)
        return (Accumulate(self.total.name, None, "add", self.beside, dtype),)


def accurate(function: Function) -> Function:
    scope = Scope(aliases(function), function_names(function))
    return replace(function, body=summed(function.body, {}, scope, False))


def summed(body: Body, active: dict[str, Total], scope: Scope, nested: bool) -> Body:
    """`body` with its sums in blocks; `active` are those of the loops around it, if it is `nested`
    in any."""
    found: list[Statement] = []
    for statement in body:
        match statement:
            case For() if not statement.sequential:
                found += whole(statement, active, scope, nested)
            case Accumulate(target, None, "add", value, _, comment) if target in active:
                found += single(active[target], value, comment)
            case For() | While():
                found.append(map_blocks(statement, lambda b: summed(b, active, scope, True)))
            case _:
                found.append(map_blocks(statement, lambda b: summed(b, active, scope, nested)))
    return tuple(found)


def single(total: Total, value: Expr, comment: str) -> Body:
    """One term outside an innermost loop: a block of its own."""
    if isinstance(value, Var) and value.dtype == total.part.dtype:
        *first, last = replace(total, part=value).added()
        assert isinstance(last, Accumulate)
        return (*first, replace(last, comment=comment))
    return (Assign(total.part, value, comment), *total.added())


def whole(loop: For, active: dict[str, Total], scope: Scope, nested: bool) -> Body:
    """The loop, with the start and the end of the sums of which it is the outermost loop."""
    new = {name: total(name, loop, scope) for name in sums(loop) if name not in active}
    start = [s for t in new.values() for s in t.start()]
    end = [s for t in new.values() for s in t.end()]
    inside = active | new
    mine = {u.target: inside[u.target] for u in updates(loop) if u.target in inside}
    if mine and is_innermost(loop):
        if nested and not is_short(loop) and is_simple(loop.body):
            return first_and_rest(loop, mine, new.keys() & mine.keys(), scope)
        return (*start, *blocked(loop, mine, scope), *end)
    return (*start, replace(loop, body=summed(loop.body, inside, scope, True)), *end)


def updates(loop: For) -> Iterator[Accumulate]:
    """The float sums into scalars in the loop, at any depth."""
    for statement in statements(loop.body):
        match statement:
            case Accumulate(_, None, "add", _, dtype) if dtype.kind == "f":
                yield statement


def sums(loop: For) -> list[str]:
    """Scalars that come into the loop with a value, are only added to in it, and not looked at."""
    fresh = {name for s in loop.body for name in assigned_by_value(s)}
    looked_at = {name for s in statements(loop.body) for name in read(s)}
    sequential = {u.target for s in statements(loop.body) if isinstance(s, For) and s.sequential
                  for u in updates(s)}  # fmt: skip
    names = dict.fromkeys(update.target for update in updates(loop))
    return [name for name in names if name not in fresh | looked_at | sequential]


def assigned_by_value(statement: Statement) -> set[str]:
    """Names that the statement gives a value otherwise than by adding to them."""
    return {
        name
        for part in statements((statement,))
        if not (isinstance(part, Accumulate) and part.combine == "add")
        for name in assigned(replace_blocks(part))
    }


def replace_blocks(statement: Statement) -> Statement:
    return map_blocks(statement, lambda block: ())


def read(statement: Statement) -> frozenset[str]:
    if isinstance(statement, Accumulate):
        return frozenset().union(*map(variables, expressions(statement)))
    return used(statement)


def total(name: str, loop: For, scope: Scope) -> Total:
    dtype = next(update.dtype for update in updates(loop) if update.target == name)
    part = Var(scope.named(f"{name}_part"), dtype)
    if is_innermost(loop) and is_short(loop):
        return Total(Var(name, dtype), part, None)
    if dtype == np.float32:
        return Total(Var(name, dtype), part, Var(scope.named(f"{name}_wide"), WIDE))
    return Total(Var(name, dtype), part, Var(scope.named(f"{name}_lost"), dtype))


def is_short(loop: For) -> bool:
    """Whether it is known here that the loop is at most one block."""
    if loop.most is not None and loop.most <= BLOCK:
        return True
    return isinstance(loop.stop, Const) and loop.stop.value <= BLOCK * stride(loop)


def stride(loop: For) -> int:
    """The step of an innermost loop, which is a number."""
    assert isinstance(loop.step, int)
    return loop.step


def is_simple(body: Body, most: int = SIMPLE) -> bool:
    """Whether another copy of the body costs next to no compile time."""
    parts = [part for s in statements(body) for expr in expressions(s) for part in walk(expr)]
    long = any(isinstance(part, Call) and is_long(part.function, part.dtype) for part in parts)
    return len(parts) <= most and not long


def is_innermost(loop: For) -> bool:
    return not any(isinstance(s, For) for s in statements(loop.body))


def zero(variable: Var, comment: str = "") -> Assign:
    return Assign(variable, Const(0.0, variable.dtype), comment)


def first_and_rest(loop: For, mine: dict[str, Total], new: Set[str], scope: Scope) -> Body:
    """A loop over the first block, and one over the others under a condition.

    A total that is `new` starts from what it was, so that after one block it has the same bits
    either way.
    """
    size = integer(BLOCK * stride(loop))
    after = add(loop.start, size)
    first = replace(
        loop, stop=Call("minimum", (after, loop.stop), INT), body=relaxed(loop.body, mine)
    )
    begun = [replace(t, beside=None) if name in new else t for name, t in mine.items()]
    added = [s for t in begun for s in t.added()]
    more = (
        *(s for name in mine if name in new for s in mine[name].start()),
        *blocked(replace(loop, start=after, comment=""), mine, scope),
        *(s for name in mine if name in new for s in mine[name].end()),
    )
    rest = If(Call("less", (after, loop.stop), BOOL), more)
    return (*(zero(t.part) for t in mine.values()), first, *added, rest)


def blocked(loop: For, mine: dict[str, Total], scope: Scope) -> Body:
    """An innermost loop over blocks of its range, or over all of it if that is short."""
    body = relaxed(loop.body, mine)
    start = [zero(t.part) for t in mine.values()]
    end = [s for t in mine.values() for s in t.added()]
    if is_short(loop):
        return (*start, replace(loop, body=body), *end)
    block = Var(scope.local(f"{loop.var.name}_block"))
    size = BLOCK * stride(loop)
    stop = Call("minimum", (add(block, integer(size)), loop.stop), INT)
    inner = replace(loop, start=block, stop=stop, body=body, comment="")
    outer = For(block, loop.stop, (*start, inner, *end), loop.start, size, comment=loop.comment)
    return (outer,)


def relaxed(body: Body, mine: dict[str, Total]) -> Body:
    """Additions to the totals as additions, in any order, to the sums of the block."""
    return tuple(map_blocks(relaxed_one(s, mine), lambda block: relaxed(block, mine)) for s in body)


def relaxed_one(statement: Statement, mine: dict[str, Total]) -> Statement:
    match statement:
        case Accumulate(target, None, "add", value, dtype, comment) if target in mine:
            part = mine[target].part
            return Assign(part, Call("add_reassoc", (part, value), dtype), comment)
    return statement
