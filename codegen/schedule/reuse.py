"""Reuse: a new array takes over the memory of one that nobody looks at any more.

In: a function whose arrays are settled. Out: the same function where an allocation became a second
name for a dead array of the same type and shape: a temporary, or a parameter that the caller has
donated. Fresh memory costs page faults, and what died last is still in cache.

    d_h = np.empty((n, m))                      d_h = h        # reuses the buffer of h
    for i in range(n):                          for i in range(n):
        for j in range(m):               =>         for j in range(m):
            d_h[i, j] = d_y[i] * h[i, j]                d_h[i, j] = d_y[i] * h[i, j]
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from heapq import heappop, heappush

import numpy as np

from codegen.expr import Expr, Var
from codegen.loops import Alloc, Assign, For, Function, Statement, Store, View
from codegen.records import dataclass
from codegen.schedule.collapse import known_shapes
from codegen.schedule.dependence import Access, accesses, aliases, used
from codegen.traverse import Body, arrays, defined, statements, variables

IDLE = 12
"""Top-level statements that an array may lie dead before it is handed on. After more of them it is
freed instead: while it waits it counts for the peak of memory."""


@dataclass(eq=False)
class Piece:
    """Memory that may be handed on: its shape and type, its names so far, the last one in use."""

    shape: tuple[Expr, ...]
    dtype: np.dtype
    names: list[str]
    donated: bool = False


@dataclass(frozen=True)
class Spans:
    """For each array the first and the last top-level statement that touches it or a view of it,
    not counting its own allocation; and which array each view shows."""

    first: dict[str, int]
    last: dict[str, int]
    roots: dict[str, str]


def reuse(function: Function) -> Function:
    """Hand the memory of dead arrays on, in the order of the allocations."""
    spans = spans_of(function)
    pool = Pool(donated(function), spans)
    named = Counter(name for part in statements(function.body) for name in defined(part))
    steady = steady_names(function, named)
    body: list[Statement] = []
    for at, statement in enumerate(function.body):
        if isinstance(statement, Alloc) and lasting(statement, named, steady):
            statement = settled(statement, pool, at, function.body)
        body.append(statement)
    return replace(function, body=tuple(body))


class Pool:
    """Pieces of memory: those in use, by when they will be idle, and those that are."""

    def __init__(self, pieces: Iterable[Piece], spans: Spans) -> None:
        self.spans = spans
        self._count = 0
        self._used: list[tuple[int, int, Piece]] = []
        self.idle: dict[Piece, tuple[int, int]] = {}
        """When each was last touched, and minus the number by which it came into the pool."""
        for piece in pieces:
            self.add(piece)

    def add(self, piece: Piece) -> None:
        heappush(self._used, (when(piece, self.spans), self._count, piece))
        self._count += 1

    def take(self, piece: Piece) -> None:
        del self.idle[piece]

    def look(self, at: int, until: int) -> None:
        """See which are idle when statement `until` is reached; those that were for too long before
        statement `at` stay so."""
        while self._used and self._used[0][0] <= until:
            last, number, piece = heappop(self._used)
            self.idle[piece] = last, -number
        late = [p for p, (last, _) in self.idle.items() if at - last > IDLE and not p.donated]
        for piece in late:
            self.take(piece)


def settled(alloc: Alloc, pool: Pool, at: int, body: Body) -> Alloc | View:
    """The array in the memory of a dead one, or else in memory of its own; `pool` is kept up."""
    piece = dead_piece(alloc, pool, at, body)
    if piece is None:
        if alloc.temporary:
            pool.add(Piece(alloc.shape, alloc.dtype, [alloc.array]))
        return alloc
    owner = piece.names[-1]
    piece.names.append(alloc.array)
    pool.take(piece)
    if alloc.temporary:
        pool.add(piece)
    remark = f"reuses the buffer of {owner}"
    return View(
        alloc.array, owner, comment=f"{alloc.comment}; {remark}" if alloc.comment else remark
    )


def reused(function: Function) -> dict[str, str]:
    """For each array that took over memory the name under which that memory came to be."""
    first: dict[str, str] = {}
    for statement in function.body:
        if isinstance(statement, View) and statement.plain:
            first[statement.array] = first.get(statement.base, statement.base)
    return first


def spans_of(function: Function) -> Spans:
    roots = aliases(function)
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for at, statement in enumerate(function.body):
        own = {statement.array} if isinstance(statement, Alloc) else set()
        for part in statements((statement,)):
            for name in (used(part) | defined(part)) - own:
                root = roots.get(name, name)
                first.setdefault(root, at)
                last[root] = at
    return Spans(first, last, roots)


def donated(function: Function) -> list[Piece]:
    shapes = known_shapes(function)
    return [
        Piece(shapes[parameter.name], parameter.dtype, [parameter.name], donated=True)
        for parameter in function.parameters
        if parameter.donated and parameter.rank and parameter.name in shapes
    ]


def steady_names(function: Function, named: Counter[str]) -> set[str]:
    """Scalars that have one value all through the function."""
    given = {parameter.name for parameter in function.parameters if not parameter.rank}
    given |= {name for name, _, _ in function.sizes}
    found = {name for name in given if not named[name]}
    once = {s.target.name for s in function.body if isinstance(s, Assign)}
    return found | {name for name in once if named[name] == 1}


def lasting(alloc: Alloc, named: Counter[str], steady: set[str]) -> bool:
    """Whether the name stands for this array alone, and its extents are the same everywhere. What
    is for one iteration at a time each thread has for itself."""
    steadily = all(variables(extent) <= steady and not arrays(extent) for extent in alloc.shape)
    return named[alloc.array] == 1 and steadily and not alloc.scratch


def dead_piece(alloc: Alloc, pool: Pool, at: int, body: Body) -> Piece | None:
    """The piece of `pool` that died last before `alloc`, statement `at`, is needed, if any."""
    first = pool.spans.first.get(alloc.array)
    if first is None or alloc.fill is not None:
        return None
    pool.look(at, first)
    found = [
        (touched, piece)
        for piece, touched in pool.idle.items()
        if (piece.shape, piece.dtype) == (alloc.shape, alloc.dtype)
        and (piece.donated or first - touched[0] <= IDLE)
        and is_dead(piece, touched[0], alloc.array, first, body, pool.spans)
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def when(piece: Piece, spans: Spans) -> int:
    """The last statement that touches the piece under any of its names; -1 if none does."""
    return max(spans.last.get(name, -1) for name in piece.names)


def is_dead(piece: Piece, last: int, new: str, first: int, body: Body, spans: Spans) -> bool:
    """Whether nobody looks at the piece, touched `last` in that statement, once the array `new` is
    touched, in statement `first`."""
    if last != first:
        return last < first
    return gives_way((body[first],), frozenset(piece.names), new, spans.roots)


def gives_way(body: Body, old: frozenset[str], new: str, roots: dict[str, str]) -> bool:
    """Whether in `body` every access to `old` comes before every access to the same element of
    `new`. In a loop that is so if each iteration keeps to elements of its own and it is so within
    one iteration."""
    for at, statement in enumerate(body):
        touched = [a for a in accesses(statement, roots) if a.root == new or a.root in old]
        if not any(a.root == new for a in touched):
            continue
        if any(a.root in old for later in body[at + 1 :] for a in accesses(later, roots)):
            return False
        if not any(a.root in old for a in touched):
            return True
        match statement:
            case Store(array):
                return array == new  # the value is there before it is stored
            case For(var):
                return apart(touched, var) and gives_way(statement.body, old, new, roots)
        return False
    return True


def apart(touched: list[Access], loop: Var) -> bool:
    """Whether all accesses have the loop variable alone as the index of one and the same axis."""
    axes: dict[int, int] = defaultdict(int)
    for access in touched:
        if access.array != access.root or access.index is None:
            return False
        for axis, index in enumerate(access.index):
            axes[axis] += index == loop
    return len(touched) in axes.values()
