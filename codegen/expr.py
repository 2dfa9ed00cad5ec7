"""Scalar expressions: what one element of a loop program is.

In: dtypes and names. Out: immutable trees that `source` prints and `schedule` rewrites.
`Call("add", (Load("x", (Var("i"),)), Const(1.0)))` prints as `x[i] + 1.0`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from codegen.records import dataclass

Answer = TypeVar("Answer")

INT = np.dtype(np.int64)
BOOL = np.dtype(np.bool_)


@dataclass(frozen=True)
class Const:
    """A literal; printed so that numba gives it exactly this dtype (`np.float32(2.0)`)."""

    value: bool | int | float
    dtype: np.dtype


@dataclass(frozen=True)
class Var:
    """A scalar variable: a loop index, a size, an accumulator, a named intermediate value."""

    name: str
    dtype: np.dtype = INT


@dataclass(frozen=True)
class Load:
    """One element of an array. The index counts from 0 and is in bounds."""

    array: str
    index: tuple[Expr, ...]
    dtype: np.dtype


@dataclass(frozen=True)
class Call:
    """A scalar function of `codegen.scalar` applied to expressions; all arguments are evaluated."""

    function: str
    args: tuple[Expr, ...]
    dtype: np.dtype


@dataclass(frozen=True)
class Cast:
    """`value` converted to `dtype`."""

    value: Expr
    dtype: np.dtype


@dataclass(frozen=True)
class Select:
    """`yes if condition else no`: only the chosen side is evaluated, so it may guard a `Load`."""

    condition: Expr
    yes: Expr
    no: Expr
    dtype: np.dtype


Expr = Const | Var | Load | Call | Cast | Select


def integer(value: float) -> Const:
    return Const(int(value), INT)


def extent(parameter: str, axis: int) -> Var:
    """The extent of an argument, for checks on entry: a variable that every function has."""
    return Var(f"{parameter}.shape[{axis}]")


def children(expr: Expr) -> tuple[Expr, ...]:
    match expr:
        case Load(_, index, _):
            return index
        case Call(_, args, _):
            return args
        case Cast(value, _):
            return (value,)
        case Select(condition, yes, no, _):
            return (condition, yes, no)
    return ()


def rebuild(expr: Expr, parts: tuple[Expr, ...]) -> Expr:
    """`expr` with its children replaced, in the order in which `children` gives them."""
    match expr:
        case Load():
            return replace(expr, index=parts)
        case Call():
            return replace(expr, args=parts)
        case Cast():
            return replace(expr, value=parts[0])
        case Select():
            return replace(expr, condition=parts[0], yes=parts[1], no=parts[2])
    return expr


def rewrite(expr: Expr, rule: Callable[[Expr], Expr]) -> Expr:
    """Apply `rule` bottom-up."""
    parts = tuple(rewrite(child, rule) for child in children(expr))
    return rule(rebuild(expr, parts) if parts else expr)


def remembered(question: Callable[[Any], Answer]) -> Callable[[Any], Answer]:
    """A function of one frozen object that is asked it again and again: the answer stays with it.

    Expressions and statements hold parts in common, which are then looked at once.
    """
    name = f" {question.__module__}.{question.__qualname__}"  # no attribute can be called so

    @functools.wraps(question)
    def answer(thing: Any) -> Answer:
        known = vars(thing)
        if name not in known:
            known[name] = question(thing)
        return known[name]

    return answer


def walk(expr: Expr) -> Iterator[Expr]:
    """Every sub-expression, parents first."""
    yield expr
    for child in children(expr):
        yield from walk(child)


def add(a: Expr, b: Expr) -> Expr:
    """Index arithmetic `a + b`, with integer constants folded."""
    match a, b:
        case Const(x), Const(y):
            return integer(x + y)
        case Const(0), _:
            return b
        case _, Const(0):
            return a
        case Call("add", (x, Const(y))), Const(z):
            return add(x, integer(y + z))
        case Call("subtract", (x, Const(y))), Const(z):
            return add(x, integer(z - y))
        case _, Const(y) if y < 0:
            return Call("subtract", (a, integer(-y)), INT)
    return Call("add", (a, b), INT)


def subtract(a: Expr, b: Expr) -> Expr:
    match a, b:
        case Const(x), Const(y):
            return integer(x - y)
        case _, Const(y):
            return add(a, integer(-y))
    return integer(0) if a == b else Call("subtract", (a, b), INT)


def multiply(a: Expr, b: Expr) -> Expr:
    match a, b:
        case Const(x), Const(y):
            return integer(x * y)
        case (Const(0), _) | (_, Const(0)):
            return integer(0)
        case Const(1), _:
            return b
        case _, Const(1):
            return a
    return Call("multiply", (a, b), INT)


def floor_divide(a: Expr, b: Expr) -> Expr:
    match a, b:
        case Const(x), Const(y):
            return integer(x // y)
        case _, Const(1):
            return a
    return Call("floor_divide", (a, b), INT)


def remainder(a: Expr, b: Expr) -> Expr:
    match a, b:
        case Const(x), Const(y):
            return integer(x % y)
        case _, Const(1):
            return integer(0)
    return Call("remainder", (a, b), INT)


def evaluated(expr: Expr, extents: Mapping[str, int]) -> int | None:
    """The value of an extent, given those that have names; None if it depends on something else."""
    match expr:
        case Const(value):
            return int(value)
        case Var(name):
            return extents.get(name)
        case Call(function, args) if None not in (parts := [evaluated(a, extents) for a in args]):
            a, b = (int(part or 0) for part in parts)
            match function:
                case "multiply":
                    return a * b
                case "add":
                    return a + b
                case "subtract":
                    return a - b
                case "floor_divide" if b:
                    return a // b
                case "maximum" | "minimum":
                    return max(a, b) if function == "maximum" else min(a, b)
    return None
