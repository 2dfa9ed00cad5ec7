"""Minimum cut of a directed graph with capacities, by Dinic's algorithm (E. A. Dinic, 1970).

source -> a (3), a -> sink (1)      =>      a stays on the source's side; the cut costs 1
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from itertools import pairwise

INFINITE = float("inf")


class Network:
    """Edges with capacities; parallel edges add up."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._residual: list[dict[int, float]] = []
        """For each vertex the heads of its edges, and what may still flow along them."""

    def edge(self, tail: Hashable, head: Hashable, capacity: float) -> None:
        a, b = self._number(tail), self._number(head)
        self._residual[a][b] = self._residual[a].get(b, 0.0) + capacity
        self._residual[b].setdefault(a, 0.0)

    def _number(self, vertex: Hashable) -> int:
        found = self._numbers.setdefault(vertex, len(self._numbers))
        if found == len(self._residual):
            self._residual.append({})
        return found

    def source_side(self, source: Hashable, sink: Hashable) -> set[Hashable]:
        """The vertices on the source's side of a minimum cut.

        Raises ValueError if every cut is infinite.
        """
        first, last = self._number(source), self._number(sink)
        while True:
            level = self._levels(first, last)
            if level[last] < 0:
                return {vertex for vertex, number in self._numbers.items() if level[number] >= 0}
            edges: dict[int, Iterator[int]] = {}
            while path := self._path(first, last, level, edges):
                self._push(path)

    def _levels(self, source: int, sink: int) -> list[int]:
        """How many steps it is to each vertex, as far as the sink; -1 where no way leads."""
        level = [-1] * len(self._residual)
        level[source] = 0
        row = [source]
        while row and level[sink] < 0:
            following: list[int] = []
            for vertex in row:
                for head, capacity in self._residual[vertex].items():
                    if capacity > 0 and level[head] < 0:
                        level[head] = level[vertex] + 1
                        following.append(head)
            row = following
        return level

    def _path(
        self, source: int, sink: int, level: list[int], edges: dict[int, Iterator[int]]
    ) -> list[int]:
        """A path along which the level rises by one at each step; dead ends are not tried twice."""
        path = [source]
        while path:
            vertex = path[-1]
            if vertex == sink:
                return path
            residual, wanted = self._residual[vertex], level[vertex] + 1
            if vertex not in edges:
                edges[vertex] = iter(list(residual))
            for head in edges[vertex]:
                if level[head] == wanted and residual[head] > 0:
                    path.append(head)
                    break
            else:
                path.pop()
        return path

    def _push(self, path: list[int]) -> None:
        steps = list(pairwise(path))
        amount = min(self._residual[tail][head] for tail, head in steps)
        if amount == INFINITE:
            raise ValueError("every cut is infinite")
        for tail, head in steps:
            self._residual[tail][head] -= amount
            self._residual[head][tail] += amount
