"""Accumulating rows: long ones go by four or eight at a time.

In: a function. Out: the same, where two loops in each other update the elements of an array along
the inner loop only, the order of the updates of each element (so its bits) unchanged. Over a row of
4,000 numbers the accumulators leave the first-level cache between one row and the next, and moving
them takes longer than reading the matrix: 64 MB in rows of 4,096 (100,000) numbers take 2.5 (2.0)
instead of 3.8 (15) ms. Short rows are faster one by one, which is decided when the loop begins.

    for i in range(n):                  i_rest = n - n % 4 if m >= 2048 else 0
        for j in range(m):              for i in range(0, i_rest, 4):
            y[j] += x[i, j]       =>        for j in range(m):
                                                y_sum = y[j]
                                                y_sum += x[i, j]
                                                y_sum += x[i + 1, j]
                                                y_sum += x[i + 2, j]
                                                y_sum += x[i + 3, j]
                                                y[j] = y_sum
                                        for i in range(i_rest, n):
                                            for j in range(m):
                                                y[j] += x[i, j]
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from codegen.expr import BOOL, INT, Call, Const, Load, Select, Var, add, integer, subtract
from codegen.loops import Accumulate, Assign, For, Function, Statement, Store
from codegen.schedule.dependence import Access, accesses, aliases, assigned, exposure
from codegen.schedule.fusion import Scope
from codegen.schedule.sums import is_simple
from codegen.traverse import (
    Body,
    function_names,
    map_blocks,
    map_expressions,
    substitute,
    variables,
)

FEW, MANY = 4, 8
"""Rows at a time, of sums and of all else. Sums have little to gain from more, and every gradient
of a bias is one, to be compiled; the largest of columns (and where it is) are found at 1.0 (0.8)
instead of 0.9 (0.4) of the speed of memory."""
PARTS = 30
"""Parts of the expressions of an element up to which it may be printed nine times: those of
`argmax`."""
LONG = 2048
"""Elements of a row from which on its accumulators do not stay in the first-level cache."""


def rows_together(function: Function) -> Function:
    scope = Scope(aliases(function), function_names(function))
    return replace(function, body=grouped(function.body, scope))


def grouped(body: Body, scope: Scope) -> Body:
    found: list[Statement] = []
    for s in body:
        if isinstance(s, For) and len(s.body) == 1 and is_accumulation(s, s.body[0], scope.roots):
            found += together(s, s.body[0], scope)
        else:
            found.append(map_blocks(s, lambda block: grouped(block, scope)))
    return tuple(found)


def together(outer: For, inner: Statement, scope: Scope) -> Body:
    """Whole groups of long rows, then the rows that are left."""
    assert isinstance(inner, For)
    rest = Var(scope.named(f"{outer.var.name}_rest"))
    sums = all(isinstance(s, Accumulate) and s.combine == "add" for s in inner.body)
    rows = FEW if sums else MANY
    over = Call("remainder", (subtract(outer.stop, outer.start), integer(rows)), INT)
    last = Call("maximum", (outer.start, subtract(outer.stop, over)), INT)
    long = Call("greater_equal", (subtract(inner.stop, inner.start), integer(LONG)), BOOL)
    kept = {
        (a.array, a.index): Var(scope.named(f"{a.array}_{inner.var.name}"), dtype_of(a, inner.body))
        for a in accesses(inner, scope.roots)
        if a.writes and a.index is not None and not depends(a, outer.var)
    }
    copies = [
        in_scalars(s if k == 0 else replace(s, comment=""), kept)
        for k in range(rows)
        for s in substitute(inner.body, {outer.var.name: add(outer.var, integer(k))})
    ]
    loads = [Assign(v, Load(name, index, v.dtype)) for (name, index), v in kept.items()]
    stores = [Store(name, index, v) for (name, index), v in kept.items()]
    group = replace(inner, body=(*loads, *copies, *stores))
    return (
        Assign(rest, Select(long, last, outer.start, INT)),
        replace(outer, stop=rest, step=rows, body=(group,), most=None),
        replace(outer, start=rest, comment="", most=None),
    )


def in_scalars(statement: Statement, kept: dict[Any, Var]) -> Statement:
    """The statement with elements that are kept in scalars."""
    statement = map_expressions(
        statement,
        lambda e: kept.get((e.array, e.index), e) if isinstance(e, Load) else e,
    )
    match statement:
        case Store(array, index, value, comment) if (array, index) in kept:
            return Assign(kept[array, index], value, comment)
        case Accumulate(target, tuple() as index) if (target, index) in kept:
            return replace(statement, target=kept[target, index].name, index=None)
    return statement


def dtype_of(access: Access, body: Body) -> np.dtype:
    """The dtype of the elements that an access writes."""
    for statement in body:
        match statement:
            case Accumulate(target=name, dtype=dtype) if name == access.array:
                return dtype
            case Store(array=name, value=value) if name == access.array:
                return value.dtype
    raise AssertionError(access.array)


def is_accumulation(outer: For, inner: Statement, roots: dict[str, str]) -> bool:
    """Whether the two loops may change places, and rows are accumulated that may be long."""
    if not isinstance(inner, For) or inner.sequential or inner.step != 1:
        return False
    if outer.step != 1 or is_short(inner) or not is_simple(inner.body, PARTS):
        return False
    if not all(isinstance(s, Assign | Store | Accumulate) for s in inner.body):
        return False
    changing = {*assigned(outer)}
    bounds = {name for expr in (inner.start, inner.stop) for name in variables(expr)}
    sums = any(isinstance(s, Accumulate) and s.index is None for s in inner.body)
    before, _ = exposure(inner.body)
    scalars = {s.target.name for s in inner.body if isinstance(s, Assign)}
    if sums or bounds & changing or before & scalars:
        return False
    touched = list(accesses(inner, roots))
    written = {access.root for access in touched if access.writes}
    groups = {root: [a for a in touched if a.root == root] for root in written}
    if not all(by_element(group, inner.var) for group in groups.values()):
        return False
    return any(not depends(group[0], outer.var) for group in groups.values())


def is_short(loop: For) -> bool:
    """Whether it is known that rows are short."""
    if loop.most is not None and loop.most < LONG:
        return True
    return isinstance(loop.stop, Const) and loop.stop.value < LONG


def by_element(group: list[Access], var: Var) -> bool:
    """Whether all accesses to an array are to one element, another one for each column."""
    first = group[0]
    same = all((a.array, a.index) == (first.array, first.index) for a in group)
    return same and first.index is not None and var in first.index


def depends(access: Access, var: Var) -> bool:
    return any(var.name in variables(expr) for expr in access.index or ())
