"""What a loop costs, and from which size on several threads pay.

In: a loop. Out: its iterations as a product of extents and the nanoseconds of one of the innermost.

    for i in range(n):                        n * m innermost iterations, 1.4 ns each
        for j in range(m):             =>     worth it from 60 us on: n * m >= 42000
            y += exp(x[i, j])

Being wrong by a factor of two costs little: around the limit both ways take about the same time.
"""

from __future__ import annotations

from functools import reduce

from codegen.costs import FEW, FUNCTIONS, LIBRARY, MOVED, SIMPLE
from codegen.expr import Call, Const, Expr, Load, Select, integer, multiply, walk
from codegen.loops import For, LibraryCall, Statement, While
from codegen.records import dataclass
from codegen.schedule.dependence import assigned
from codegen.traverse import arrays, blocks, expressions, variables

ENOUGH = 60_000
"""Nanoseconds of work from which two threads are faster than one: a launch takes 8 us."""
BLOCK = 12_000
"""Nanoseconds of the smallest block: many more than handing it out takes."""
MOST_BLOCKS = 64
"""Blocks of one loop: enough for an even load on 16 threads, few enough to combine at the end."""
MOST_COPIES = 16
"""Blocks of a loop with an array that all of them add to: each has a copy of its own."""
COPIED = 8
"""Innermost steps of a block for each element of such a copy."""


@dataclass(frozen=True)
class Work:
    """`nanoseconds` for each step of the innermost loops, of which there are `inner` for each of
    `outer` iterations of the loop itself."""

    outer: Expr
    inner: Expr
    nanoseconds: float

    @property
    def total(self) -> Expr:
        return multiply(self.outer, self.inner)

    @property
    def enough(self) -> int:
        """From this total on several threads pay."""
        return rounded(ENOUGH / self.nanoseconds)

    @property
    def smallest(self) -> int:
        """So many innermost steps make a block."""
        return rounded(BLOCK / self.nanoseconds)


def rounded(count: float) -> int:
    """To two digits, at least 1."""
    digits = max(len(str(int(count))) - 2, 0)
    return max(1, round(int(count), -digits))


def work(loop: For) -> Work:
    changing = set(assigned(loop))
    factors, nanoseconds = deepest(loop.body, changing)
    inner = reduce(multiply, factors, integer(1))
    if isinstance(inner, Const):
        nanoseconds, inner = nanoseconds * max(inner.value, 1), integer(1)
    return Work(loop.stop, inner, nanoseconds)


def deepest(body: tuple[Statement, ...], changing: set[str]) -> tuple[list[Expr], float]:
    """The extents around the innermost statements, and what one step of these costs; what stands
    outside of them counts little."""
    own = sum(cost(statement) for statement in body)
    factors: list[Expr] = []
    inside = 0.0
    for statement in body:
        parts = [deepest(block, changing) for block in blocks(statement)]
        if isinstance(statement, For):
            (found, each), *_ = parts
            known = not (variables(statement.stop) | arrays(statement.stop)) & changing
            parts = [([statement.stop, *found] if known else found, each)]
        for found, each in parts:
            if len(found) > len(factors):
                factors, inside = found, inside / 8
            inside += each if len(found) == len(factors) else each / 8
    return (factors, inside + own / 8) if factors else ([], own + inside)


def cost(statement: Statement) -> float:
    """Of the statement itself, without the blocks in it."""
    match statement:
        case LibraryCall(function):
            return FEW.get(function, LIBRARY)
        case While():
            return LIBRARY
        case For():
            return 0.0
    return MOVED + sum(price(part) for expr in expressions(statement) for part in walk(expr))


def price(part: Expr) -> float:
    match part:
        case Call(function, _, dtype):
            return FUNCTIONS.get(function, SIMPLE) * (0.5 if dtype.itemsize == 4 else 1.0)
        case Load():
            return MOVED
        case Select():
            return SIMPLE
    return 0.0
