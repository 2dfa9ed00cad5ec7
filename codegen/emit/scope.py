"""Which scalars of a function live in memory until LLVM finds them registers.

In: a `loops.Function`. Out: the names of the scalars that are given a value more than once, or are
read outside of the block in which they get it. All others are values under a name. In

    total = 0.0
    for i in range(n):
        term = x[i] * x[i]
        total = total + term

that is `total`, and not `term`.
"""

from __future__ import annotations

from collections.abc import Iterable

from codegen.expr import Var, extent
from codegen.loops import Accumulate, Assign, For, ForeignCall, Function, LibraryCall, Statement
from codegen.traverse import blocks, expressions, variables


def slots(function: Function) -> set[str]:
    """The scalars that need a place in memory."""
    found: set[str] = set()
    given = {p.name for p in function.parameters if not p.rank}
    given |= {extent(p.name, axis).name for p in function.parameters for axis in range(p.rank)}
    given |= {name for name, _, _ in function.sizes}
    _walk(function.body, [given], set(given), found)
    return found


def made(statement: Statement) -> set[str]:
    """The scalars to which the statement itself gives a value."""
    match statement:
        case Assign(target):
            return {target.name}
        case LibraryCall(status=Var(name)):
            return {name}
        case ForeignCall(results=results):
            numbers = {result.name for result in results if result.fits is None}
            return numbers | {result.fits.name for result in results if result.fits is not None}
    return set()


def _walk(
    body: Iterable[Statement], scopes: list[set[str]], seen: set[str], found: set[str]
) -> None:
    for statement in body:
        read = frozenset[str]().union(*map(variables, expressions(statement)))
        found |= {name for name in read if not any(name in scope for scope in scopes)}
        if isinstance(statement, Accumulate) and statement.index is None:
            found.add(statement.target)
        new = made(statement)
        found |= new & seen
        seen |= new
        scopes[-1] |= new
        for block in blocks(statement):
            inside = {statement.var.name} if isinstance(statement, For) else set[str]()
            found |= inside & seen & set().union(*scopes)
            _walk(block, [*scopes, inside], seen, found)
