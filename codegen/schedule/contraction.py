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

from collections import defaultdict
from dataclasses import replace

from codegen.expr import Const, Expr, Load, Var
from codegen.loops import Accumulate, Alloc, Assign, For, Function, Statement, Store, While
from codegen.schedule.dependence import accesses, aliases, assigned
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
    """Move each temporary into the loop that uses it."""
    scope = Scope(aliases(function), function_names(function))
    return replace(function, body=narrowed(function.body, scope))


def allocate_early(function: Function) -> Function:
    """Move what remained an array out of the loops again."""
    scope = Scope(aliases(function), function_names(function))
    return replace(function, body=hoisted(function.body, scope))


Uses = dict[str, list[tuple[Expr, ...] | None]]
"""For each array the indices at which a statement touches it; None stands for all of it."""


def squeezed(body: Body, scope: Scope) -> Body:
    """Axes at which every access has the same constant index are dropped."""
    uses = [indices(statement) for statement in body]
    users: dict[str, list[Uses]] = defaultdict(list)
    for found in uses:
        for array in found:
            users[array].append(found)
    axes: dict[str, int] = {}
    for alloc in (s for s in body if isinstance(s, Alloc)):
        having = users[alloc.array]
        if having and movable(alloc, having, scope):
            every = [index for found in having for index in found[alloc.array] if index is not None]
            fixed = (k for k in range(len(alloc.shape)) if constant([index[k] for index in every]))
            if (axis := next(fixed, None)) is not None:
                axes[alloc.array] = axis
    if not axes:
        return body
    dropped = tuple(drop_axes(s, axes) for s in body)
    smaller = (
        replace(s, shape=without(s.shape, axes[s.array]))
        if isinstance(s, Alloc) and s.array in axes
        else s
        for s in dropped
    )
    return squeezed(tuple(smaller), scope)


def constant(found: list[Expr]) -> bool:
    return isinstance(found[0], Const) and all(expr == found[0] for expr in found)


def narrowed(body: Body, scope: Scope) -> Body:
    body = squeezed(body, scope)
    uses = [indices(statement) for statement in body]
    users: dict[str, list[int]] = defaultdict(list)
    for at, found in enumerate(uses):
        for array in found:
            users[array].append(at)
    scalars: dict[str, Alloc] = {}
    moved: dict[int, dict[Alloc, int]] = defaultdict(dict)
    for alloc in (s for s in body if isinstance(s, Alloc)):
        where = users[alloc.array]
        if not (where and movable(alloc, [uses[at] for at in where], scope)):
            continue
        if alloc.shape == () and surely_set(alloc, body[where[0]]):
            scalars[alloc.array] = alloc
        elif len(where) == 1 and isinstance(loop := body[where[0]], For):
            axis = common_axis(loop.var, uses[where[0]][alloc.array])
            if axis is not None:
                moved[where[0]][alloc] = axis
    gone = {alloc.array for allocs in moved.values() for alloc in allocs}
    changed: list[Statement] = []
    for at, statement in enumerate(body):
        if isinstance(statement, Alloc) and statement.array in scalars:
            changed += initial(statement)
        elif not (isinstance(statement, Alloc) and statement.array in gone):
            statement = moved_inside(statement, moved[at]) if at in moved else statement
            changed.append(as_scalars(statement, scalars) if scalars else statement)
    return tuple(map_blocks(s, lambda block: narrowed(block, scope)) for s in changed)


def indices(statement: Statement) -> Uses:
    found: Uses = defaultdict(list)
    for access in accesses(statement, {}):
        found[access.array].append(access.index)
    return found


def movable(alloc: Alloc, uses: list[Uses], scope: Scope) -> bool:
    """Whether all uses are loads and stores of single elements through the array's own name."""
    if not alloc.temporary or alloc.array in scope.viewed:
        return False
    return all(index is not None for found in uses for index in found[alloc.array])


def surely_set(alloc: Alloc, first: Statement) -> bool:
    """Whether an array of no axes has a value before it is read."""
    return alloc.fill is not None or (isinstance(first, Store) and first.array == alloc.array)


def initial(alloc: Alloc) -> list[Statement]:
    if alloc.fill is None:
        return []
    value = Const(alloc.fill, alloc.dtype)
    return [Assign(Var(alloc.array, alloc.dtype), value, alloc.comment)]


def common_axis(loop: Var, found: list[tuple[Expr, ...] | None]) -> int | None:
    """The axis at which every access is indexed by the loop variable alone."""
    at_all = [index for index in found if index is not None]
    fixed = [k for k in range(len(at_all[0])) if all(index[k] == loop for index in at_all)]
    return fixed[0] if fixed else None


def without(parts: tuple[Expr, ...], axis: int) -> tuple[Expr, ...]:
    return (*parts[:axis], *parts[axis + 1 :])


def moved_inside(statement: Statement, allocs: dict[Alloc, int]) -> Statement:
    """Allocations in the body of the only loop that uses the arrays, without that loop's axis."""
    assert isinstance(statement, For)
    axes = {alloc.array: axis for alloc, axis in allocs.items()}
    waiting = {a.array: replace(a, shape=without(a.shape, axis)) for a, axis in allocs.items()}
    body: list[Statement] = []
    for inner in statement.body:
        inner = drop_axes(inner, axes)
        body += [waiting.pop(array) for array in indices(inner) if array in waiting]
        body.append(inner)
    return replace(statement, body=tuple(body))


def drop_axes(statement: Statement, axes: dict[str, int]) -> Statement:
    def rule(expr: Expr) -> Expr:
        match expr:
            case Load(array, index) if array in axes:
                return replace(expr, index=without(index, axes[array]))
        return expr

    statement = map_blocks(statement, lambda block: tuple(drop_axes(s, axes) for s in block))
    statement = map_expressions(statement, rule)
    match statement:
        case Store(array, index) | Accumulate(array, tuple() as index) if array in axes:
            return replace(statement, index=without(index, axes[array]))
    return statement


def as_scalars(statement: Statement, scalars: dict[str, Alloc]) -> Statement:
    """Arrays of no axes as scalars of the same names."""

    def rule(expr: Expr) -> Expr:
        if isinstance(expr, Load) and expr.array in scalars:
            return Var(expr.array, scalars[expr.array].dtype)
        return expr

    statement = map_blocks(statement, lambda block: tuple(as_scalars(s, scalars) for s in block))
    statement = map_expressions(statement, rule)
    match statement:
        case Store(array, _, value, comment) if array in scalars:
            return Assign(Var(array, scalars[array].dtype), value, comment)
        case Accumulate(array, ()) if array in scalars:
            return replace(statement, index=None)
    return statement


def hoisted(body: Body, scope: Scope) -> Body:
    """Buffers allocated before the outermost loop over which they keep their shape."""
    found: list[Statement] = []
    for statement in body:
        statement = map_blocks(statement, lambda block: hoisted(block, scope))
        if isinstance(statement, For | While):
            out, statement = freed(statement, scope)
            found += out
        found.append(statement)
    return tuple(found)


def freed(loop: For | While, scope: Scope) -> tuple[list[Alloc], For | While]:
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
                out.append(replace(statement, fill=None, scratch=True))
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
