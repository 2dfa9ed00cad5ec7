"""Loop fusion: loops over the same range become one, where no value is needed before it is there.

In: a function. Out: the same function with fewer, larger loops; allocations and scalars that
stood between loops stand before them.

    for i in range(n):               for i in range(n):
        t[i] = x[i] + 1.0                t[i] = x[i] + 1.0
    for k in range(n):          =>       y[i] = t[i] * t[i]
        y[k] = t[k] * t[k]
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import field, replace
from functools import cached_property

from codegen.expr import Expr
from codegen.loops import Alloc, Assign, Comment, For, Function, Statement, View, While
from codegen.records import dataclass
from codegen.schedule.dependence import (
    Effects,
    Names,
    aliases,
    assigned,
    effects,
    exposure,
    fusible,
    stored,
    used,
)
from codegen.schedule.line import Line, Place, Unit
from codegen.traverse import (
    Body,
    arrays,
    function_names,
    map_blocks,
    renamed,
    statements,
    substitute,
)


@dataclass(frozen=True)
class Scope:
    """What holds for the whole function: roots of views, every name in use, names that several
    loops may use for themselves, temporary arrays."""

    roots: dict[str, str]
    taken: set[str]
    shared: set[str] = field(default_factory=set)
    temporaries: Names = frozenset()

    @cached_property
    def viewed(self) -> Names:
        """The arrays that views show parts of."""
        return frozenset(self.roots.values())

    def local(self, name: str) -> str:
        """`name`, also where another loop already has it, but not if it means something else."""
        if name not in self.shared:
            name = self.named(name)
            self.shared.add(name)
        return name

    def named(self, name: str) -> str:
        """`name`, or one made from it if it is taken."""
        if name in self.taken:
            return self.fresh(name)
        self.taken.add(name)
        return name

    def fresh(self, name: str) -> str:
        number = 2
        while f"{name}_{number}" in self.taken:
            number += 1
        self.taken.add(f"{name}_{number}")
        return f"{name}_{number}"


def fuse(function: Function) -> Function:
    parts = statements(function.body)
    temporaries = frozenset(s.array for s in parts if isinstance(s, Alloc) and s.temporary)
    scope = Scope(aliases(function), function_names(function), temporaries=temporaries)
    return replace(function, body=fused(function.body, frozenset(), scope))


def fused(body: Body, live: Names, scope: Scope) -> Body:
    """`body` with its loops fused at every depth; `live` are the names that are read after it."""
    clusters = Clusters()
    before = Before()
    for unit in units(body, live, scope):
        if light(unit.statement) and before.leaves(unit.effects):
            clusters.line.insert(unit, 0)
        else:
            place(unit, clusters, scope)
        before.add(unit.effects)
    flat = tuple(s for unit in sunk(clusters.line) for s in (*unit.comments, unit.statement))
    after = lives(flat, live)
    return tuple(
        map_blocks(
            statement, lambda block, s=statement, end=later: fused(block, inner(s, end), scope)
        )
        for statement, later in zip(flat, after, strict=True)
    )


class Before:
    """All that the statements so far have to do with: of a long program most definitions, such as
    those of arrays, depend on none of them, which need not be asked one by one."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.changes: set[str] = set()
        self.stays = False

    def add(self, own: Effects) -> None:
        self.names |= own.names
        self.changes |= own.changes
        self.stays = self.stays or own.raises or own.returns

    def leaves(self, own: Effects) -> bool:
        """Whether a statement may stand before all of them."""
        free = own.changes.isdisjoint(self.names) and self.changes.isdisjoint(own.names)
        return free and not (self.stays or own.returns)


def lives(body: Body, live: Names) -> list[Names]:
    """For each statement of the body the names that are read after it."""
    found: list[Names] = []
    for statement in reversed(body):
        found.append(live)
        needs, sure = exposure((statement,))
        live = (live - sure) | needs
    return found[::-1]


def inner(statement: Statement, live: Names) -> Names:
    """The names that are live at the end of a block of the statement: a loop comes round again."""
    if isinstance(statement, For | While):
        return live | exposure(statement.body)[0] | used(statement)
    return live


def units(body: Body, live: Names, scope: Scope) -> list[Unit]:
    found: list[Unit] = []
    comments: tuple[Comment, ...] = ()
    for statement, later in zip(body, lives(body, live), strict=True):
        if isinstance(statement, Comment):
            comments += (statement,)
            continue
        own = effects(statement, scope.roots, later)
        sure = exposure(statement.body)[1] if isinstance(statement, For) else ()
        found.append(Unit(comments, statement, own, frozenset(sure)))
        comments = ()
    return found


class Clusters:
    """What is fused so far, and the loops in it by their ranges."""

    def __init__(self) -> None:
        self.line = Line()
        self._loops: dict[Range, list[Place]] = defaultdict(list)

    def append(self, unit: Unit) -> None:
        added = self.line.insert(unit, len(self.line.places))
        if isinstance(unit.statement, For):
            self._loops[range_of(unit.statement)].append(added)

    def loops_like(self, loop: For) -> Iterator[Place]:
        """Those over the same range, the last one first."""
        return reversed(self._loops[range_of(loop)])


Range = tuple[Expr, Expr, int | Expr]


def range_of(loop: For) -> Range:
    return loop.start, loop.stop, loop.step


def place(unit: Unit, clusters: Clusters, scope: Scope) -> None:
    """Fuse `unit` with the loop within reach that works on most of the same arrays, the nearest of
    several; or put it where it may stand: what is only a definition as early as possible (out of
    the way), anything else at the end."""
    line, loop = clusters.line, unit.statement
    behind = line.last_before(unit.effects)
    if light(loop):
        line.insert(unit, behind + 1)
        return
    best: Place | None = None
    most = -1
    if isinstance(loop, For):
        reach = line.places[behind].key if behind >= 0 else -math.inf
        for other in clusters.loops_like(loop):
            if other.key < reach:
                break
            assert isinstance(other.unit.statement, For)
            own, theirs = unit.effects, other.unit.effects
            common = shared(theirs, own)
            if common > most and fusible(
                other.unit.statement, loop, theirs, own, scope.temporaries
            ):
                best, most = other, common
    if best is None:
        clusters.append(unit)
    else:
        line.change(best, merged(best.unit, unit, scope))


def shared(first: Effects, second: Effects) -> int:
    """How many arrays both work on."""
    return len(first.by_root.keys() & second.by_root.keys())


def light(statement: Statement) -> bool:
    return isinstance(statement, Assign | Alloc | View)


def sunk(clusters: Line) -> Line:
    """Definitions moved down again, to just before the first statement that needs them."""
    placed = Line()
    for unit in reversed(list(clusters)):
        at = placed.first_after(unit.effects) if light(unit.statement) else 0
        placed.insert(unit, 0 if at == len(placed.places) else at)
    return placed


def merged(first: Unit, second: Unit, scope: Scope) -> Unit:
    a, b = first.statement, second.statement
    assert isinstance(a, For) and isinstance(b, For)
    theirs = substitute(b.body, {b.var.name: a.var}) if a.var != b.var else b.body
    local = second.effects.local
    added = disjoint(first, theirs, local, scope)
    remarks = dict.fromkeys(remark for remark in (a.comment, b.comment) if remark)
    loop = replace(a, body=(*a.body, *added), comment="; ".join(remarks))
    live = (first.effects.writes - first.effects.local) | (second.effects.writes - local)
    comments = tuple(dict.fromkeys((*first.comments, *second.comments)))
    rest = effects(replace(a, body=added), scope.roots, frozenset())
    sure = first.sure | exposure(added)[1]
    return Unit(comments, loop, together(first, rest, live), sure)


def together(first: Unit, rest: Effects, live: Names) -> Effects:
    """What a loop does whose rounds go on with those of the loop that does `rest`. (Found from the
    two: of a long chain of loops every step would else look at all of the loop so far.)"""
    own = first.effects
    reads = own.reads | (rest.reads - first.sure)
    writes = own.writes | rest.writes
    new = [a for a in rest.accesses if a not in own.by_root.get(a.root, ())]
    found = Effects(
        reads=reads,
        writes=writes,
        local=writes - reads - live,
        accesses=(*own.accesses, *new),
        raises=own.raises or rest.raises,
        returns=own.returns or rest.returns,
    )
    by_root = dict(own.by_root)
    for access in new:
        by_root[access.root] = [*by_root.get(access.root, ()), access]
    vars(found)["by_root"] = by_root
    return found


def disjoint(first: Unit, b: Body, local: Names, scope: Scope) -> Body:
    """`b`, to follow the body of the first loop in one: what both compute under one name is
    computed once, and other names of `b` that the first uses too are changed."""
    assert isinstance(first.statement, For)
    a = first.statement.body
    seen_a, seen_b = first.effects.reads | first.sure, visible(b)
    times_b = Counter(name for statement in b for name in assigned(statement))
    shared = set((seen_a & times_b.keys()) | (seen_b & first.effects.writes & times_b.keys()))
    result: list[Statement] = []
    waiting = list(b)
    while waiting:
        statement, *waiting = waiting
        match statement:
            case Assign(target) if target.name in shared and times_b[target.name] == 1:
                if same_value(statement, (*a, *result), scope.roots):
                    shared.discard(target.name)
                    continue
        clash = sorted(set(assigned(statement)) & shared & local)
        if clash:
            new = {name: scope.fresh(name) for name in clash}
            statement, *waiting = renamed((statement, *waiting), new)
            shared -= set(clash)
        result.append(statement)
    return tuple(result)


def visible(body: Body) -> set[str]:
    """Names that mean something at the level of the body itself."""
    exposed, sure = exposure(body)
    return exposed | sure


def same_value(assign: Assign, before: Body, roots: dict[str, str]) -> bool:
    """Whether an earlier statement already gave the target this very value, still valid."""
    earlier = [at for at, s in enumerate(before) if assign.target.name in assigned(s)]
    if len(earlier) != 1:
        return False
    match before[earlier[0]]:
        case Assign(target, value) if (target, value) == (assign.target, assign.value):
            needs = used(assign)
            loaded = {roots.get(array, array) for array in arrays(value)}
            return not any(
                not needs.isdisjoint(assigned(later))
                or any(roots.get(array, array) in loaded for array in stored(later))
                for later in before[earlier[0] + 1 :]
            )
    return False
