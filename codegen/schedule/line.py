"""Statements in a row, which are asked for the nearest one that another has to stay behind, or
before.

In: units with their effects, put in one by one. Out: the same in order. Only the units that have a
name in common with the one that asks are looked at: programs have thousands of statements, and most
have nothing to do with each other.

    t = x[0]; y[i] = ...; s = t * t        s asks for the last that it needs: t, without a look at y
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter

from codegen.loops import Comment, Statement
from codegen.records import dataclass
from codegen.schedule.dependence import Effects, Names, ordered

KEY = attrgetter("key")


@dataclass(frozen=True)
class Unit:
    """A statement with the comment lines above it; `sure` are the names to which each round of a
    loop surely gives a value."""

    comments: tuple[Comment, ...]
    statement: Statement
    effects: Effects
    sure: Names


@dataclass(eq=False)
class Place:
    """A unit in a line; `key` grows along the line."""

    unit: Unit
    key: float


class Line:
    """Units in order."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self._naming: dict[Name, list[Place]] = defaultdict(list)
        """For each name the places that have to do with it, in order."""
        self._changing: dict[Name, list[Place]] = defaultdict(list)
        """Those that give it a value, or write to its memory."""
        self._ends: list[Place] = []
        """Those that nothing changes places with."""

    def __iter__(self) -> Iterator[Unit]:
        return (place.unit for place in self.places)

    def insert(self, unit: Unit, at: int) -> Place:
        """Put the unit before the one that has the number `at` so far."""
        places = self.places
        if not places:
            key = 0.0
        elif at == 0:
            key = places[0].key - 1.0
        elif at == len(places):
            key = places[-1].key + 1.0
        else:
            low, high = places[at - 1].key, places[at].key
            key = (low + high) / 2
            if not low < key < high:
                self._numbered_anew()
                return self.insert(unit, at)
        place = Place(unit, key)
        places.insert(at, place)
        self._enter(place, None)
        return place

    def change(self, place: Place, unit: Unit) -> None:
        """Put the unit, which has to do with more than the one before, in its place."""
        before, place.unit = place.unit.effects, unit
        self._enter(place, before)

    def index(self, place: Place) -> int:
        return bisect_left(self.places, place.key, key=KEY)

    def last_before(self, own: Effects) -> int:
        """The number of the last unit that has to stay before one with these effects; or -1."""
        if own.returns:
            return len(self.places) - 1
        found = self._nearest(own, True, lambda other: ordered(other.unit.effects, own))
        return -1 if found is None else self.index(found)

    def first_after(self, own: Effects) -> int:
        """The number of the first unit that has to stay behind one with these effects; or the
        number of all."""
        if own.returns or own.raises:
            return 0
        found = self._nearest(own, False, lambda other: ordered(own, other.unit.effects))
        return len(self.places) if found is None else self.index(found)

    def _nearest(self, own: Effects, last: bool, stays: Callable[[Place], bool]) -> Place | None:
        """The last, or the first, of the places that `stays`."""
        best: Place | None = None
        rows: Iterable[list[Place]] = (
            self._ends,
            *(self._naming[name] for name in sought(own, own.changes) if name in self._naming),
            *(self._changing[name] for name in sought(own, own.names) if name in self._changing),
        )
        for row in rows:
            for place in reversed(row) if last else row:
                if best is not None and (place.key <= best.key if last else place.key >= best.key):
                    break
                if stays(place):
                    best = place
                    break
        return best

    def _enter(self, place: Place, before: Effects | None) -> None:
        """Let the names of the place lead to it; with `before` those that are new, or mean more
        than they did."""
        own = place.unit.effects
        news, changes = own.names, own.changes
        if before is not None:
            more = (before.local - own.local) | (own.by_root.keys() - before.by_root.keys())
            news, changes = news - (before.names - more), changes - (before.changes - more)
        for name in news:
            insort(self._naming[named(own, name)], place, key=KEY)
        for name in changes:
            insort(self._changing[named(own, name)], place, key=KEY)
        if (own.returns or own.raises) and place not in self._ends:
            insort(self._ends, place, key=KEY)

    def _numbered_anew(self) -> None:
        for number, place in enumerate(self.places):
            place.key = float(number)


Name = tuple[str, bool]
"""A name, and whether it is a scalar that nobody outside knows, such as the variable of a loop: two
that use one each for themselves have nothing in common."""


def named(own: Effects, name: str) -> Name:
    return name, name in own.local and name not in own.by_root


def sought(own: Effects, names: Iterable[str]) -> Iterator[Name]:
    """By what those are found with which a name is shared."""
    for name in names:
        yield name, False
        if not named(own, name)[1]:
            yield name, True
