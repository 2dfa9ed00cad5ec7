"""Copies of scalars: a value that is only renamed gets its second name from the start.

In: a function after contraction, which turns arrays of one element into scalars. Out: the same
function without assignments of one variable to another.

    for i in range(n):                      for i in range(n):
        s_sum = 0.0                             s = 0.0
        for j in range(m):            =>        for j in range(m):
            s_sum += x[i, j]                        s += x[i, j]
        s = s_sum
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from codegen.expr import Var, remembered
from codegen.loops import Accumulate, Assign, Function, Statement
from codegen.schedule.dependence import used
from codegen.traverse import Body, blocks, defined, map_blocks, renamed, statements


def unify(function: Function) -> Function:
    whole = mentions(function.body)
    fixed = {parameter.name for parameter in function.parameters}
    fixed |= {name for name, _, _ in function.sizes}
    return replace(function, body=unified(function.body, whole, fixed))


def mentions(body: Iterable[Statement]) -> Counter[str]:
    """How many statements, at any depth, use or define each name."""
    found: Counter[str] = Counter()
    for statement in body:
        found.update(mentioned(statement))
    return found


@remembered
def mentioned(statement: Statement) -> Counter[str]:
    """The same of one statement and those in it."""
    found = Counter(used(statement) | defined(statement))
    for block in blocks(statement):
        found.update(mentions(block))
    return found


def unified(body: Body, whole: Counter[str], fixed: set[str]) -> Body:
    body = tuple(map_blocks(s, lambda block: unified(block, whole, fixed)) for s in body)
    at = 0
    while at < len(body):
        match body[at]:
            case Assign(target, Var() as source) if target.dtype == source.dtype:
                if source.name not in fixed and only_renamed(source, target, body, at, whole):
                    body = without_copy(source, target, body, at)
                    whole[target.name] += whole.pop(source.name) - 2
                    continue
        at += 1
    return body


def without_copy(source: Var, target: Var, body: Body, at: int) -> Body:
    """The body without its statement `target = source`, the source called as the target."""
    new = {source.name: target.name}
    rest = (*body[:at], *body[at + 1 :])
    parts = (renamed((s,), new) if source.name in mentioned(s) else (s,) for s in rest)
    return tuple(s for part in parts for s in part)


def only_renamed(source: Var, target: Var, body: Body, at: int, whole: Counter[str]) -> bool:
    """Whether both names live in this body alone, the target from here on, the source unchanged."""
    names = {source.name, target.name}
    above, below = (
        tuple(s for s in part if not mentioned(s).keys().isdisjoint(names))
        for part in (body[:at], body[at + 1 :])
    )
    before, after = mentions(above), mentions(below)
    inside = {name: before[name] + after[name] + 1 for name in names}
    if any(inside[name] != whole[name] for name in inside) or before[target.name]:
        return False
    if any(names & defined(s) for s in statements(below)):
        return False
    starts = [s for s in above if source.name in defined(s)]
    scalars = (s for s in statements(above) if source.name in defined(s))
    return bool(starts) and all(isinstance(s, Assign | Accumulate) for s in scalars)
