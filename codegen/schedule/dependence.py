"""Which statements of a body may change places, and which loops may become one.

In: statements. Out: their effects on names and arrays, and two questions about pairs of them.
`t[i] = x[i]` in a loop over i and `y[i] = t[i] * t[i]` in another one conflict (they may not
change places), but the loops may be fused: the element written and the one read have the index i
at the same axis. With `y[i] = t[i - 1]` they may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import product

from codegen.expr import Expr, Var, remembered
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
    KernelCall,
    Launch,
    LibraryCall,
    Return,
    Statement,
    Store,
    View,
    While,
)
from codegen.records import dataclass
from codegen.traverse import arrays, blocks, defined, expressions, loads, statements, variables

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

    @cached_property
    def by_root(self) -> dict[str, list[Access]]:
        """The accesses of each root's memory."""
        found: dict[str, list[Access]] = {}
        for access in self.accesses:
            found.setdefault(access.root, []).append(access)
        return found

    @cached_property
    def names(self) -> Names:
        """Every name that it has to do with: two statements without a common one are unordered."""
        return self.reads | self.writes | self.by_root.keys()

    @cached_property
    def changes(self) -> Names:
        """The names that it gives values to, and the memory that it writes to."""
        return self.writes | {access.root for access in self.accesses if access.writes}


def aliases(function: Function) -> dict[str, str]:
    """Each view's root: the array whose memory it shows."""
    roots: dict[str, str] = {}
    for statement in statements(function.body):
        if isinstance(statement, View):
            roots[statement.array] = roots.get(statement.base, statement.base)
    return roots


@remembered
def used(statement: Statement) -> Names:
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
        case KernelCall(args=values) | Return(values):
            found |= {value for value in values if isinstance(value, str)}
    return frozenset(found)


def exposure(body: Iterable[Statement]) -> tuple[set[str], set[str]]:
    """Names read before the body itself gives them a value, and names it surely gives one."""
    exposed: set[str] = set()
    sure: set[str] = set()
    for statement in body:
        needs, gives = exposed_by(statement)
        exposed |= needs - sure
        sure |= gives
    return exposed, sure


@remembered
def exposed_by(statement: Statement) -> tuple[Names, Names]:
    """The same of one statement."""
    inner = [exposure(block) for block in blocks(statement)]
    own = {statement.var.name} if isinstance(statement, For) else set()
    needs = used(statement).union(*(needs - own for needs, _ in inner))
    match statement:
        case If():
            return needs, frozenset(inner[0][1] & inner[1][1])
        case Assign() | Accumulate() | Alloc() | View() | LibraryCall() | ForeignCall():
            return needs, frozenset(defined(statement))
    return needs, frozenset()


@remembered
def assigned(statement: Statement) -> tuple[str, ...]:
    """The names that it gives a value to, at any depth, as often as it does."""
    inside = (name for block in blocks(statement) for part in block for name in assigned(part))
    return *defined(statement), *inside


Touch = tuple[str, tuple[Expr, ...] | None, bool]
"""An access without the root of its array."""


def accesses(statement: Statement, roots: dict[str, str]) -> Iterator[Access]:
    """Loads and stores of arrays that exist outside the statement."""
    inside = made(statement) - defined(statement)
    for array, index, writes in touches(statement):
        root = roots.get(array, array)
        if root not in inside:
            yield Access(array, root, index, writes)


@remembered
def made(statement: Statement) -> Names:
    """The arrays that come into being in it, at any depth."""
    own = defined(statement) if isinstance(statement, Alloc | ForeignCall) else ()
    return frozenset(own).union(*(made(part) for block in blocks(statement) for part in block))


@remembered
def touches(statement: Statement) -> tuple[Touch, ...]:
    """The different loads and stores in it, at any depth."""
    inner = (touch for block in blocks(statement) for part in block for touch in touches(part))
    return tuple(dict.fromkeys((*own_touches(statement), *inner)))


@remembered
def stored(statement: Statement) -> Names:
    """The arrays written in it."""
    return frozenset(array for array, _, writes in touches(statement) if writes)


def own_touches(statement: Statement) -> Iterator[Touch]:
    for expr in expressions(statement):
        yield from ((load.array, load.index, False) for load in loads(expr))
    match statement:
        case Store(array, index) | Accumulate(array, tuple() as index):
            yield array, index, True
        case LibraryCall(args=values, outs=outs) | ForeignCall(args=values, outs=outs):
            yield from ((v, None, False) for v in values if isinstance(v, str))
            yield from ((out, None, True) for out in outs)
            if isinstance(statement, ForeignCall):
                results = (r.name for r in statement.results if r.fits is not None)
                yield from ((name, None, True) for name in results)
        case Launch(args=values):
            yield from ((v, None, True) for v in values if isinstance(v, str))
        case Return(values):
            yield from ((v, None, False) for v in values if isinstance(v, str))


@remembered
def ways_out(statement: Statement) -> tuple[bool, bool]:
    """Whether it may raise, and whether it may return (or not end)."""
    inner = [ways_out(part) for block in blocks(statement) for part in block]
    raises = isinstance(statement, Check) or any(raises for raises, _ in inner)
    returns = isinstance(statement, Return | While | Forward) or any(ends for _, ends in inner)
    return raises, returns


def effects(statement: Statement, roots: dict[str, str], live: Names) -> Effects:
    """`live`: the names that are read after the statement."""
    reads, _ = exposed_by(statement)
    writes = frozenset(assigned(statement))
    raises, returns = ways_out(statement)
    return Effects(
        reads=reads,
        writes=writes,
        local=writes - reads - live,
        accesses=tuple(accesses(statement, roots)),
        raises=raises,
        returns=returns,
    )


def clashes(first: Effects, second: Effects) -> Names:
    """Names over which the order of the two statements matters."""
    either = first.writes & (second.reads | second.writes) | second.writes & first.reads
    return either - (first.local & second.local)


def meeting(first: Effects, second: Effects) -> Iterator[tuple[Access, Access]]:
    """Pairs of accesses to the same memory of which one is a write."""
    for root in first.by_root.keys() & second.by_root.keys():
        for a, b in product(first.by_root[root], second.by_root[root]):
            if a.writes or b.writes:
                yield a, b


def ordered(first: Effects, second: Effects) -> bool:
    """Whether `first` has to stay before `second`. What follows a check may rely on it."""
    if first.changes.isdisjoint(second.names) and second.changes.isdisjoint(first.names):
        # So it is with most pairs, in a program of thousands of statements.
        return first.returns or second.returns or first.raises
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
        touched = first.by_root.keys() | second.by_root.keys()
        if len(touched - temporaries) > MOST_ARRAYS:
            return False
    return all(same_iteration(x, y, a.var, b.var) for x, y in meeting(first, second))


@remembered
def innermost(loop: For) -> bool:
    return not any(map(has_loop, loop.body))


@remembered
def has_loop(statement: Statement) -> bool:
    """Whether it is a loop or has one inside."""
    inner = (part for block in blocks(statement) for part in block)
    return isinstance(statement, For) or any(map(has_loop, inner))


def same_iteration(x: Access, y: Access, i: Var, j: Var) -> bool:
    """Whether two accesses meet only where the loop variables are equal: both have theirs, alone,
    as the index of the same axis."""
    if x.array != y.array or x.index is None or y.index is None:
        return False
    return any(p == i and q == j for p, q in zip(x.index, y.index, strict=True))
