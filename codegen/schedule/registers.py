"""Accumulators in registers: an array element that a whole loop adds to becomes a scalar.

In: a function. Out: the same function where loops over which an element stays the same
accumulate into a scalar; without this the element would be loaded and stored each time.

    for i in range(n):                     for i in range(n):
        for j in range(m):                     s_i = s[i]
            s[i] += x[i, j]           =>       for j in range(m):
                                                   s_i += x[i, j]
                                               s[i] = s_i
"""

from __future__ import annotations

from dataclasses import replace

from codegen.expr import Const, Expr, Load, Var
from codegen.loops import Accumulate, Assign, For, Function, Statement, Store
from codegen.schedule.dependence import Access, accesses, aliases, assigned
from codegen.schedule.fusion import Scope
from codegen.traverse import Body, arrays, function_names, map_blocks, statements, variables


def promote(function: Function) -> Function:
    scope = Scope(aliases(function), function_names(function))
    return replace(function, body=promoted(function.body, scope))


def promoted(body: Body, scope: Scope) -> Body:
    found: list[Statement] = []
    for statement in body:
        before: list[Statement] = []
        after: list[Statement] = []
        if isinstance(statement, For):
            for update in candidates(statement, scope.roots):
                scalar = Var(scalar_name(update, scope), update.dtype)
                assert update.index is not None
                element = Load(update.target, update.index, update.dtype)
                before.append(Assign(scalar, element))
                after.append(Store(update.target, update.index, scalar))
                statement = in_register(statement, update, scalar)
        statement = map_blocks(statement, lambda block: promoted(block, scope))
        found += [*before, statement, *after]
    return tuple(found)


def candidates(loop: For, roots: dict[str, str]) -> list[Accumulate]:
    """One update for each element of an array that only updates touch, and that stays the same one
    all the time; others of the array are told from it by number."""
    changing = set(assigned(loop))
    found: list[Accumulate] = []
    touched = list(accesses(loop, roots))
    for update in statements((loop,)):
        match update:
            case Accumulate(target, tuple() as index, combine):
                root = roots.get(target, target)
                same = [a for a in touched if a.root == root]
                fixed = not any((variables(e) | arrays(e)) & changing for e in index)
                loaded = any(arrays(e) for e in index)
                mine = [a for a in same if not apart(a, target, index)]
                only = all(a.array == target and a.index == index and a.writes for a in mine)
                once = only and bool(mine)  # none: the array is made in the loop
                new = not any((u.target, u.index) == (target, index) for u in found)
                if fixed and once and not loaded and new:
                    others = [s for s in statements((loop,)) if writes(s, target, index)]
                    if all(isinstance(s, Accumulate) and s.combine == combine for s in others):
                        found.append(update)
    return found


def apart(access: Access, array: str, index: tuple[Expr, ...]) -> bool:
    """Whether an access is to another element: the indices are different numbers at some axis."""
    if access.array != array or access.index is None:
        return False
    pairs = zip(access.index, index, strict=True)
    return any(isinstance(a, Const) and isinstance(b, Const) and a != b for a, b in pairs)


def writes(statement: Statement, array: str, index: tuple[Expr, ...]) -> bool:
    match statement:
        case Store(name, at) | Accumulate(name, tuple() as at):
            return (name, at) == (array, index)
    return False


def scalar_name(update: Accumulate, scope: Scope) -> str:
    """`s_i` for `s[i]`, if nothing else is called so."""
    index = update.index or ()
    parts = [str(e.name if isinstance(e, Var) else getattr(e, "value", "at")) for e in index]
    return scope.named("_".join([update.target, *parts]) if parts else f"{update.target}_value")


def in_register(loop: For, update: Accumulate, scalar: Var) -> For:
    def change(body: Body) -> Body:
        return tuple(changed(map_blocks(s, change)) for s in body)

    def changed(statement: Statement) -> Statement:
        match statement:
            case Accumulate(target, index) if (target, index) == (update.target, update.index):
                return replace(statement, target=scalar.name, index=None)
        return statement

    return replace(loop, body=change(loop.body))
