"""What a loop costs, and from which size on several threads pay: the numbers, in one place.

In: a loop. Out: its iterations as a product of extents and the nanoseconds of one of the innermost.

    for i in range(n):                        n * m innermost iterations, 1.4 ns each
        for j in range(m):             =>     worth it from 60 us on: n * m >= 42000
            y += exp(x[i, j])

Measured on Zen 4, float64, vectorised (docs/vecmath.md); float32 takes half of it. Being wrong by
a factor of two costs little: around the limit both ways take about the same time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from codegen.expr import Call, Const, Expr, Load, Select, integer, multiply, walk
from codegen.loops import For, LibraryCall, Statement, While
from codegen.schedule.dependence import assigned
from codegen.traverse import arrays, blocks, expressions, variables

SIMPLE, MOVED, DIVIDED, LIBRARY = 0.07, 0.15, 0.5, 400.0
"""Nanoseconds of an addition, of an element loaded or stored, of a division or root, of a call."""

FUNCTIONS = {
    "divide": DIVIDED,
    "sqrt": DIVIDED,
    "remainder": 2.0,
    "floor_divide": 2.0,
    "fmod": 5.0,
    "exp": 0.7,
    "expm1": 0.7,
    "exp2": 0.6,
    "log": 0.9,
    "log1p": 1.1,
    "log2": 1.0,
    "log10": 1.0,
    "sigmoid": 1.2,
    "softplus": 1.8,
    "logaddexp": 1.8,
    "logaddexp2": 1.8,
    "tanh": 1.2,
    "sinh": 0.9,
    "cosh": 0.9,
    "sin": 0.9,
    "cos": 0.9,
    "tan": 1.4,
    "arcsin": 0.9,
    "arccos": 0.9,
    "arctan": 1.2,
    "arcsinh": 2.4,
    "arccosh": 2.0,
    "arctanh": 1.2,
    "arctan2": 2.6,
    "hypot": 0.6,
    "cbrt": 1.5,
    "power": 3.8,
    "erf": 3.9,
    "erfc": 3.1,
    "gammaln": 9.4,
    "gamma": 10.8,
    "digamma": 8.0,
}
"""Nanoseconds an element in a vectorised loop, of what costs more than an addition."""

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
        case LibraryCall() | While():
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
