"""Unsigned loop counters for stand-alone modules, which stock numba compiles.

numba allows negative indices, and its test for them keeps LLVM from vectorising a loop that does
not start at 0; `codegen.compiler` leaves the test out, here the text has to. An index of a type
without negative values needs no test: a sum over 10,000 numbers takes 1.0 instead of 5.9 us.

    for i in range(start, stop):              for i in range(np.uint64(start), np.uint64(stop)):
        y[i] = x[i + 1]                =>         y[i] = x[np.uint64(np.int64(i) + 1)]
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codegen.expr import INT, Cast, Const, Expr, Load, Var, children, rebuild
from codegen.loops import Accumulate, Assign, For, Function, Statement, Store
from codegen.traverse import Body, map_blocks, statements, variables

UNSIGNED = np.dtype(np.uint64)
SCALAR_WORK = Assign | Store | Accumulate


def unsigned(function: Function) -> Function:
    return replace(function, body=counted(function.body))


def counted(body: Body) -> Body:
    return tuple(map_blocks(counter(statement), counted) for statement in body)


def counter(statement: Statement) -> Statement:
    """An innermost loop that starts elsewhere than at 0, with an unsigned counter."""
    match statement:
        case For(var, start=start, step=int()) if not isinstance(start, Const):
            if all(isinstance(part, SCALAR_WORK) for part in statements(statement.body)):
                new = replace(var, dtype=UNSIGNED)
                body = tuple(changed(part, var, new) for part in statement.body)
                stop = Cast(statement.stop, UNSIGNED)
                return replace(
                    statement, var=new, start=Cast(start, UNSIGNED), stop=stop, body=body
                )
    return statement


def changed(statement: Statement, old: Var, new: Var) -> Statement:
    match statement:
        case Store(_, index, value):
            index = places(index, old, new)
            return replace(statement, index=index, value=with_counter(value, old, new))
        case Accumulate(_, index, _, value):
            index = index if index is None else places(index, old, new)
            return replace(statement, index=index, value=with_counter(value, old, new))
        case Assign(value=value):
            return replace(statement, value=with_counter(value, old, new))
    return statement


def with_counter(expr: Expr, old: Var, new: Var) -> Expr:
    """Outside of indices the counter is a number with a sign."""
    match expr:
        case Var() if expr == old:
            return Cast(new, INT)
        case Load(_, index):
            return replace(expr, index=places(index, old, new))
    return rebuild(expr, tuple(with_counter(part, old, new) for part in children(expr)))


def places(index: tuple[Expr, ...], old: Var, new: Var) -> tuple[Expr, ...]:
    return tuple(place(part, old, new) for part in index)


def place(part: Expr, old: Var, new: Var) -> Expr:
    if part == old:
        return new
    if old.name in variables(part):
        return Cast(with_counter(part, old, new), UNSIGNED)
    return part
