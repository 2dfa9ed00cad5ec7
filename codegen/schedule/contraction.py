"""Contraction: a temporary array that lives inside one loop loses the axis of that loop.

In: a function after fusion. Out: the same function with smaller temporaries; one that lost all
its axes becomes a scalar, another is a buffer allocated once, before the loops.

    t = np.empty((n, m))
    for i in range(n):                     for i in range(n):
        for j in range(m):                     for j in range(m):
            t[i, j] = x[i, j] + 1.0    =>          t = x[i, j] + 1.0
            y[i, j] = t[i, j] * 2.0                y[i, j] = t * 2.0
"""

from __future__ import annotations

from dataclasses import replace

from codegen.expr import Const, Expr, Load, Var
from codegen.loops import Accumulate, Alloc, Assign, For, Function, Statement, Store
from codegen.schedule.dependence import accesses, aliases, assigned, exposure, used
from codegen.schedule.fusion import Scope
from codegen.traverse import (
    Body,
    arrays,
    function_names,
    map_blocks,
    map_expressions,
    variables,
)


def contract(function: Function) -> Function:
    """Move each temporary into the loop that uses it, then what remains an array out again."""
    scope = Scope(aliases(function), function_names(function))
    moved = replace(function, body=narrowed(function.body, scope))
    return replace(moved, body=hoisted(moved.body, scope))


def narrowed(body: Body, scope: Scope) -> Body:
    for alloc in [s for s in body if isinstance(s, Alloc) and movable(s, body, scope)]:
        body = scalarised(alloc, body) if alloc.shape == () else moved_inside(alloc, body)
    return tuple(map_blocks(s, lambda block: narrowed(block, scope)) for s in body)


def movable(alloc: Alloc, body: Body, scope: Scope) -> bool:
    """Whether all uses are loads and stores of single elements through the array's own name."""
    if not alloc.temporary or alloc.array in scope.roots.values():
        return False
    found = [a for s in body if s != alloc for a in accesses(s, {}) if a.array == alloc.array]
    return all(access.index is not None for access in found)


def moved_inside(alloc: Alloc, body: Body) -> Body:
    """The allocation at the start of the only loop that uses the array, without its axis."""
    users = [at for at, s in enumerate(body) if s != alloc and alloc.array in mentions(s)]
    match [body[at] for at in users]:
        case [For() as loop] if (axis := common_axis(alloc.array, loop)) is not None:
            smaller = replace(alloc, shape=without(alloc.shape, axis))
            inside = tuple(drop_axis(s, alloc.array, axis) for s in loop.body)
            first = next(at for at, s in enumerate(inside) if alloc.array in mentions(s))
            narrow = replace(loop, body=(*inside[:first], smaller, *inside[first:]))
            return tuple(narrow if s is loop else s for s in body if s != alloc)
    return body


def mentions(statement: Statement) -> set[str]:
    return exposure((statement,))[0] | used(statement)


def common_axis(array: str, loop: For) -> int | None:
    """The axis at which every access to the array is indexed by the loop variable alone."""
    indices = [a.index for a in accesses(loop, {}) if a.array == array and a.index is not None]
    fixed = [axis for axis in range(len(indices[0])) if all(i[axis] == loop.var for i in indices)]
    return fixed[0] if fixed else None


def without(parts: tuple[Expr, ...], axis: int) -> tuple[Expr, ...]:
    return (*parts[:axis], *parts[axis + 1 :])


def drop_axis(statement: Statement, array: str, axis: int) -> Statement:
    def rule(expr: Expr) -> Expr:
        match expr:
            case Load(name, index) if name == array:
                return replace(expr, index=without(index, axis))
        return expr

    statement = map_blocks(statement, lambda block: tuple(drop_axis(s, array, axis) for s in block))
    statement = map_expressions(statement, rule)
    match statement:
        case Store(name, index) | Accumulate(name, tuple() as index) if name == array:
            return replace(statement, index=without(index, axis))
    return statement


def scalarised(alloc: Alloc, body: Body) -> Body:
    """An array of no axes as a scalar of that name, if it surely has a value when it is read."""
    at = body.index(alloc)
    first = next((s for s in body[at + 1 :] if alloc.array in mentions(s)), None)
    if alloc.fill is None and not (isinstance(first, Store) and first.array == alloc.array):
        return body
    start: Body = ()
    if alloc.fill is not None:
        value = Const(alloc.fill, alloc.dtype)
        start = (Assign(Var(alloc.array, alloc.dtype), value, alloc.comment),)
    after = tuple(as_scalar(s, alloc) for s in body[at + 1 :])
    return (*body[:at], *start, *after)


def as_scalar(statement: Statement, alloc: Alloc) -> Statement:
    variable = Var(alloc.array, alloc.dtype)

    def rule(expr: Expr) -> Expr:
        return variable if isinstance(expr, Load) and expr.array == alloc.array else expr

    statement = map_blocks(statement, lambda block: tuple(as_scalar(s, alloc) for s in block))
    statement = map_expressions(statement, rule)
    match statement:
        case Store(array, _, value, comment) if array == alloc.array:
            return Assign(variable, value, comment)
        case Accumulate(array, ()) if array == alloc.array:
            return replace(statement, index=None)
    return statement


def hoisted(body: Body, scope: Scope) -> Body:
    """Buffers allocated before the outermost loop over which they keep their shape."""
    found: list[Statement] = []
    for statement in body:
        statement = map_blocks(statement, lambda block: hoisted(block, scope))
        if isinstance(statement, For) and not statement.parallel:
            out, statement = freed(statement, scope)
            found += out
        found.append(statement)
    return tuple(found)


def freed(loop: For, scope: Scope) -> tuple[list[Alloc], For]:
    """The allocations in the body of `loop` that can stand before it, and the loop without them;
    what they were filled with is stored in each iteration."""
    changing = set(assigned(loop))
    out: list[Alloc] = []
    rest: list[Statement] = []
    for statement in loop.body:
        match statement:
            case Alloc(shape=shape, temporary=True) if not any(
                (variables(e) | arrays(e)) & changing for e in shape
            ):
                out.append(replace(statement, fill=None))
                if statement.fill is not None:
                    rest.append(filled(statement, scope))
            case _:
                rest.append(statement)
    return out, replace(loop, body=tuple(rest))


def filled(alloc: Alloc, scope: Scope) -> Statement:
    """Loops that store the fill value into every element."""
    assert alloc.fill is not None
    index = tuple(Var(scope.fresh("i")) for _ in alloc.shape)
    statement: Statement = Store(alloc.array, index, Const(alloc.fill, alloc.dtype), alloc.comment)
    for var, extent in reversed(list(zip(index, alloc.shape, strict=True))):
        statement = For(var, extent, (statement,))
    return statement
