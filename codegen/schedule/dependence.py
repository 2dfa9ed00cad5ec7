"""Which statements of a body may change places, and which loops may become one.

In: statements. Out: their effects on names and arrays, and two questions about pairs of them.
`t[i] = x[i]` in a loop over i and `y[i] = t[i] * t[i]` in another one conflict (they may not
change places), but the loops may be fused: the element written and the one read have the index i
at the same axis. With `y[i] = t[i - 1]` they may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from codegen.expr import Expr, Load, Var, walk
from codegen.loops import (
    Accumulate,
    Alloc,
    Assign,
    Check,
    For,
    ForeignCall,
    Forward,
    Function,
    If,
    Launch,
    LibraryCall,
    Return,
    Statement,
    Store,
    View,
    While,
)
from codegen.traverse import arrays, blocks, defined, expressions, statements, variables

MOST_ARRAYS = 16
"""An innermost loop over more arrays than this is no longer vectorised (run-time alias checks).
Temporaries do not count: most of those that loops share become scalars."""

Names = frozenset[str]


@dataclass(frozen=True)
class Access:
    """One load or store; `index` None stands for all of the array."""

    array: str
    root: str
    index: tuple[Expr, ...] | None
    writes: bool


@dataclass(frozen=True)
class Effects:
    """What a statement does to the world outside it.

    `reads`: names that it needs from before; `writes`: every name it gives a value to, at any
    depth; `local`: those of them that nobody reads afterwards.
    """

    reads: Names
    writes: Names
    local: Names
    accesses: tuple[Access, ...]
    raises: bool
    returns: bool


def aliases(function: Function) -> dict[str, str]:
    """Each view's root: the array whose memory it shows."""
    roots: dict[str, str] = {}
    for statement in statements(function.body):
        if isinstance(statement, View):
            roots[statement.array] = roots.get(statement.base, statement.base)
    return roots


def used(statement: Statement) -> set[str]:
    """Names read by the statement itself, not by the blocks inside it."""
    found: set[str] = set()
    for expr in expressions(statement):
        found |= variables(expr) | arrays(expr)
    match statement:
        case Store(array=name) | Accumulate(target=name) | View(base=name):
            found.add(name)
        case LibraryCall(args=values, outs=outs) | ForeignCall(args=values, outs=outs):
            found |= {value for value in values if isinstance(value, str)} | set(outs)
        case Launch(args=values, sums=outs):
            found |= {value for value in values if isinstance(value, str)} | set(outs)
        case Forward(args=values):
            found |= set(values)
        case Return(values):
            found |= {value for value in values if isinstance(value, str)}
    return found


def exposure(body: Iterable[Statement]) -> tuple[set[str], set[str]]:
    """Names read before the body itself gives them a value, and names it surely gives one."""
    exposed: set[str] = set()
    sure: set[str] = set()
    for statement in body:
        exposed |= used(statement) - sure
        inner = [exposure(block) for block in blocks(statement)]
        own = {statement.var.name} if isinstance(statement, For) else set()
        for needs, _ in inner:
            exposed |= needs - own - sure
        match statement:
            case If():
                sure |= inner[0][1] & inner[1][1]
            case Assign() | Accumulate() | Alloc() | View() | LibraryCall() | ForeignCall():
                sure |= defined(statement)
    return exposed, sure


def assigned(statement: Statement) -> Iterator[str]:
    for part in statements((statement,)):
        yield from defined(part)


def accesses(statement: Statement, roots: dict[str, str]) -> Iterator[Access]:
    """Loads and stores of arrays that exist outside the statement."""
    inside = {part.array for part in statements((statement,)) if isinstance(part, Alloc)}
    for part in statements((statement,)):
        inside |= defined(part) if isinstance(part, ForeignCall) else set()
    inside -= defined(statement)

    def access(array: str, index: tuple[Expr, ...] | None, writes: bool) -> Access:
        return Access(array, roots.get(array, array), index, writes)

    def every() -> Iterator[Access]:
        for part in statements((statement,)):
            for expr in expressions(part):
                for load in walk(expr):
                    if isinstance(load, Load):
                        yield access(load.array, load.index, False)
            match part:
                case Store(array, index) | Accumulate(array, tuple() as index):
                    yield access(array, index, True)
                case LibraryCall(args=values, outs=outs) | ForeignCall(args=values, outs=outs):
                    yield from (access(v, None, False) for v in values if isinstance(v, str))
                    yield from (access(out, None, True) for out in outs)
                    if isinstance(part, ForeignCall):
                        made = (r.name for r in part.results if r.fits is not None)
                        yield from (access(name, None, True) for name in made)
                case Launch(args=values):
                    yield from (access(v, None, True) for v in values if isinstance(v, str))
                case Return(values):
                    yield from (access(v, None, False) for v in values if isinstance(v, str))

    return (found for found in dict.fromkeys(every()) if found.root not in inside)


def effects(statement: Statement, roots: dict[str, str], live: Names) -> Effects:
    """`live`: the names that are read after the statement."""
    reads, _ = exposure((statement,))
    writes = set(assigned(statement))
    parts = list(statements((statement,)))
    return Effects(
        reads=frozenset(reads),
        writes=frozenset(writes),
        local=frozenset(writes - reads - live),
        accesses=tuple(accesses(statement, roots)),
        raises=any(isinstance(part, Check) for part in parts),
        returns=any(isinstance(part, Return | While | Forward) for part in parts),
    )


def clashes(first: Effects, second: Effects) -> Names:
    """Names over which the order of the two statements matters."""
    either = first.writes & (second.reads | second.writes) | second.writes & first.reads
    return either - (first.local & second.local)


def meeting(first: Effects, second: Effects) -> Iterator[tuple[Access, Access]]:
    """Pairs of accesses to the same memory of which one is a write."""
    for a, b in product(first.accesses, second.accesses):
        if a.root == b.root and (a.writes or b.writes):
            yield a, b


def ordered(first: Effects, second: Effects) -> bool:
    """Whether `first` has to stay before `second`. What follows a check may rely on it."""
    if first.returns or second.returns or first.raises:
        return True
    return bool(clashes(first, second)) or any(True for _ in meeting(first, second))


def fusible(
    a: For, b: For, first: Effects, second: Effects, temporaries: Names = frozenset()
) -> bool:
    """Whether the iterations of `b` may run right after those of `a` with the same number."""
    if (a.start, a.stop, a.step) != (b.start, b.stop, b.step):
        return False
    if a.sequential or b.sequential or first.returns or first.raises or second.returns:
        return False
    if a.var != b.var and a.var.name in second.reads | second.writes:
        return False
    if clashes(first, second) - second.local:
        return False
    if innermost(a) and innermost(b):
        touched = {access.root for access in (*first.accesses, *second.accesses)} - temporaries
        if len(touched) > MOST_ARRAYS:
            return False
    return all(same_iteration(x, y, a.var, b.var) for x, y in meeting(first, second))


def innermost(loop: For) -> bool:
    return not any(isinstance(statement, For) for statement in statements(loop.body))


def same_iteration(x: Access, y: Access, i: Var, j: Var) -> bool:
    """Whether two accesses meet only where the loop variables are equal: both have theirs, alone,
    as the index of the same axis."""
    if x.array != y.array or x.index is None or y.index is None:
        return False
    return any(p == i and q == j for p, q in zip(x.index, y.index, strict=True))
