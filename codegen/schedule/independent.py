"""Which loops may run on several threads: iterations that do not meet, or meet only in sums.

In: a loop, and the function around it. Out: what of it is shared between iterations (`Split`), or
None if their order matters.

    for i in range(n):                     y: a scalar that is only added to
        y += x[i] * w[i]            =>     d_w: independent, each iteration has its own element
        d_w[i] = x[i] * d_y                (d_w[j] += ... for all j: an array that is only added to)

An iteration may also use temporary arrays whose contents do not outlive it (`Alloc.scratch`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from codegen.expr import Call, Expr, Load, Var, walk
from codegen.loops import (
    ZERO,
    Accumulate,
    Alloc,
    Check,
    For,
    ForeignCall,
    Function,
    LibraryCall,
    Return,
    Statement,
    Store,
    View,
)
from codegen.records import dataclass
from codegen.schedule.dependence import Names, assigned, exposure, used
from codegen.traverse import defined, expressions, statements, variables

IDENTITIES = {"add": 0, "multiply": 1, "logical_or": False, "logical_and": True}
"""What an accumulation starts from, so that parts can be combined afterwards; of maximum and
minimum it is an infinity, or for integers the end of their range."""

Index = tuple[Expr, ...] | None


def identity(combine: str, dtype: np.dtype) -> bool | int | float:
    if combine in IDENTITIES:
        return IDENTITIES[combine]
    lowest = combine == "maximum"
    if dtype.kind == "f":
        return -np.inf if lowest else np.inf
    if dtype.kind == "b":
        return not lowest
    return int(np.iinfo(dtype).min if lowest else np.iinfo(dtype).max)


@dataclass(frozen=True)
class Split:
    """The scalars and arrays that all iterations accumulate into, the temporary arrays, with views
    of them, that each thread needs for itself, and the errors (class, message) that one may raise.
    """

    scalars: tuple[Accumulate, ...] = ()
    arrays: tuple[Accumulate, ...] = ()
    scratch: tuple[Alloc | View, ...] = ()
    checks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Touch:
    """One access: to an element of `root`, as seen through `array`; of `index` only the first axes
    may be known. `combine` says that it accumulates."""

    array: str
    root: str
    index: Index
    writes: bool
    combine: Accumulate | None = None


class Around:
    """What there is to know of a function before its loops are looked at."""

    def __init__(self, function: Function) -> None:
        self.definitions: dict[str, list[View | Alloc]] = {}
        self.uses: Counter[str] = Counter()
        parts = list(statements(function.body))
        for part in parts:
            if isinstance(part, View | Alloc):
                self.definitions.setdefault(part.array, []).append(part)
        self.uses.update(touched(parts))

    def within(self, parts: Iterable[Statement]) -> Arrays | None:
        """The arrays as the statements of a loop see them; None if a name means two of them."""
        inside: dict[str, View | Alloc] = {}
        for part in parts:
            if isinstance(part, View | Alloc):
                if part.array in inside:
                    return None
                inside[part.array] = part
        outside = {name: found[0] for name, found in self.definitions.items() if len(found) == 1}
        unclear = {name for name, found in self.definitions.items() if len(found) > 1}
        return Arrays(outside | inside, unclear - set(inside))


@dataclass(frozen=True)
class Arrays:
    """What each name of an array stands for, and the names that stand for several."""

    definitions: dict[str, View | Alloc]
    unclear: set[str]

    def root(self, array: str) -> str:
        while isinstance(view := self.definitions.get(array), View):
            array = view.base
        return array

    def resolved(self, array: str, index: Index) -> tuple[str, Index]:
        """The element in terms of the array that a view shows, as far as that is plain to see."""
        while isinstance(view := self.definitions.get(array), View):
            if view.at:
                index = (*view.at, *(index or ()))
            elif view.axes is not None:
                if index is None or len(index) < len(view.axes):
                    return self.root(array), None
                back = sorted(range(len(view.axes)), key=view.axes.__getitem__)
                index = tuple(index[axis] for axis in back)
            elif view.shape is not None:
                return self.root(array), None
            array = view.base
        return array, index


def split(loop: For, live: Names, around: Around) -> Split | None:
    """How the loop can be taken apart; `live` are the names that are read after it."""
    if loop.sequential or loop.step != 1 or loop.start != ZERO:
        return None
    parts = list(statements(loop.body))
    if any(isinstance(part, Return | ForeignCall) for part in parts):
        return None
    scalars = shared_scalars(loop, live)
    arrays = around.within(parts)
    if scalars is None or arrays is None:
        return None
    shared = shared_arrays(loop, parts, arrays, around)
    checks = tuple(dict.fromkeys((p.error, p.message) for p in parts if isinstance(p, Check)))
    return None if shared is None else Split(scalars, *shared, checks)


def shared_scalars(loop: For, live: Names) -> tuple[Accumulate, ...] | None:
    """The accumulations into scalars of the world outside; None if another scalar goes from one
    iteration to the next, or out of the last one."""
    needed, _ = exposure((loop,))
    outer = set(assigned(loop)) & (needed | live)
    found: dict[str, Accumulate] = {}
    looked_at: set[str] = set()
    for part in statements((loop,)):
        if isinstance(part, Accumulate):
            looked_at |= {name for e in expressions(part) for name in variables(e)}
        else:
            looked_at |= used(part)
        for name in defined(part) & outer:
            match part:
                case Accumulate(_, None, combine, _, dtype):
                    known = found.setdefault(name, part)
                    if (known.combine, known.dtype) != (combine, dtype):
                        return None
                case _:
                    return None
    return None if looked_at & set(found) else tuple(found.values())


def touches(parts: Iterable[Statement], arrays: Arrays) -> Iterator[Touch]:
    """Every load and store. A view itself touches nothing."""

    def touch(array: str, index: Index, combine: Accumulate | None = None, w: bool = True) -> Touch:
        return Touch(array, arrays.root(array), index, w, combine)

    for part in parts:
        for expr in expressions(part):
            for load in walk(expr):
                if isinstance(load, Load):
                    yield touch(load.array, load.index, w=False)
        match part:
            case Store(array, index):
                yield touch(array, index)
            case Accumulate(array, tuple() as index):
                yield touch(array, index, part)
            case LibraryCall(args=values, outs=outs):
                yield from (touch(v, None, w=False) for v in values if isinstance(v, str))
                yield from (touch(out, None) for out in outs)


def shared_arrays(
    loop: For, parts: list[Statement], arrays: Arrays, around: Around
) -> tuple[tuple[Accumulate, ...], tuple[Alloc | View, ...]] | None:
    """The arrays that all iterations accumulate into and the temporary ones that are only theirs;
    None if they meet in another array."""
    own = {part.array for part in parts if isinstance(part, Alloc)}
    changing = set(assigned(loop)) - {loop.var.name}
    groups: dict[str, list[Touch]] = {}
    for touch in touches((loop, *parts), arrays):
        groups.setdefault(touch.root, []).append(touch)
    sums: list[Accumulate] = []
    scratch: list[Alloc | View] = []
    inside = {part.array for part in parts if isinstance(part, View)} | own
    for root, group in groups.items():
        if root in own or not any(touch.writes for touch in group):
            continue
        if any(touch.array in arrays.unclear for touch in group):
            return None
        alloc = arrays.definitions.get(root)
        if isinstance(alloc, Alloc) and alloc.scratch and only_here(root, parts, arrays, around):
            found = arrays.definitions.items()
            scratch += [d for name, d in found if arrays.root(name) == root and name not in inside]
        elif not apart(group, loop.var, changing, arrays):
            summed = common_sum(group)
            if summed is None or not isinstance(alloc, Alloc):
                return None
            sums.append(summed)
    return tuple(sums), tuple(scratch)


def only_here(root: str, parts: list[Statement], arrays: Arrays, around: Around) -> bool:
    """Whether all that touches an array, under any name, stands in these statements."""
    inside = touched(parts)
    names = {name for name in around.uses if arrays.root(name) == root}
    return not names & arrays.unclear and all(inside[n] == around.uses[n] for n in names)


def touched(parts: Iterable[Statement]) -> Counter[str]:
    """How often each name is used otherwise than for a view of it."""
    found: Counter[str] = Counter()
    for part in parts:
        if not isinstance(part, View):
            found.update(used(part))
    return found


def common_sum(group: list[Touch]) -> Accumulate | None:
    """The accumulation, if all accesses are accumulations of one kind through one name."""
    first = group[0].combine
    for touch in group:
        other = touch.combine
        if first is None or other is None or touch.array != touch.root:
            return None
        if (other.combine, other.dtype) != (first.combine, first.dtype):
            return None
    return first


def apart(group: list[Touch], loop: Var, changing: set[str], arrays: Arrays) -> bool:
    """Whether each iteration keeps to elements of its own: at one axis, every access has the same
    index, which is the loop variable give or take something fixed."""
    named: list[list[Index]] = [[arrays.resolved(t.array, t.index)[1] for t in group]]
    if len({touch.array for touch in group}) == 1:
        named.append([touch.index for touch in group])
    return any(distinct(indices, loop, changing) for indices in named)


def distinct(indices: list[Index], loop: Var, changing: set[str]) -> bool:
    known = [index for index in indices if index is not None]
    if len(known) < len(indices):
        return False
    return any(
        own_element(known[0][axis], loop, changing)
        and all(index[axis] == known[0][axis] for index in known)
        for axis in range(min(len(index) for index in known))
    )


def own_element(expr: Expr, loop: Var, changing: set[str]) -> bool:
    """Whether an index is another one in each iteration."""
    match expr:
        case Var():
            return expr == loop
        case Call("add" | "subtract", (a, b)):
            return (own_element(a, loop, changing) and fixed(b, loop, changing)) or (
                own_element(b, loop, changing) and fixed(a, loop, changing)
            )
    return False


def fixed(expr: Expr, loop: Var, changing: set[str]) -> bool:
    loads = any(isinstance(part, Load) for part in walk(expr))
    return not loads and not variables(expr) & (changing | {loop.name})
