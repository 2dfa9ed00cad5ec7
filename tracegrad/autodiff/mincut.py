"""Minimum cut of a directed graph with capacities, by Dinic's algorithm (E. A. Dinic, 1970).

source -> a (3), a -> sink (1)      =>      a stays on the source's side; the cut costs 1
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from itertools import pairwise

INFINITE = float("inf")


class Network:
    """Edges with capacities; parallel edges add up."""

    def __init__(self) -> None:
        self.residual: dict[Hashable, dict[Hashable, float]] = {}

    def edge(self, tail: Hashable, head: Hashable, capacity: float) -> None:
        forward = self.residual.setdefault(tail, {})
        forward[head] = forward.get(head, 0.0) + capacity
        self.residual.setdefault(head, {}).setdefault(tail, 0.0)

    def source_side(self, source: Hashable, sink: Hashable) -> set[Hashable]:
        """The nodes on the source's side of a minimum cut.

        Raises ValueError if every cut is infinite.
        """
        while True:
            level = self._levels(source)
            if sink not in level:
                return set(level)
            edges = {node: iter(list(heads)) for node, heads in self.residual.items()}
            while path := self._path(source, sink, level, edges):
                self._push(path)

    def _levels(self, source: Hashable) -> dict[Hashable, int]:
        level, queue = {source: 0}, deque([source])
        while queue:
            node = queue.popleft()
            for head, capacity in self.residual.get(node, {}).items():
                if capacity > 0 and head not in level:
                    level[head] = level[node] + 1
                    queue.append(head)
        return level

    def _path(self, source, sink, level, edges) -> list[Hashable]:
        """A path along which the level rises by one at each step; dead ends are not tried twice."""
        path = [source]
        while path:
            node = path[-1]
            if node == sink:
                return path
            for head in edges[node]:
                if self.residual[node][head] > 0 and level.get(head, -1) == level[node] + 1:
                    path.append(head)
                    break
            else:
                path.pop()
        return path

    def _push(self, path: list[Hashable]) -> None:
        steps = list(pairwise(path))
        amount = min(self.residual[tail][head] for tail, head in steps)
        if amount == INFINITE:
            raise ValueError("every cut is infinite")
        for tail, head in steps:
            self.residual[tail][head] -= amount
            self.residual[head][tail] += amount
