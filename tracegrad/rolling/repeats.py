"""Where a program may repeat itself: runs of blocks whose operations are of the same kinds.

In: the kind of every step, as a number. Out: `Run`s, candidates whose operands are still to be
compared. With the kinds

    0 1 2 3  1 2 3  1 2 3  4      the run starts at 1, has the period 3 and 3 blocks
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from codegen.records import dataclass
from tracegrad.tracing.trace import FEWEST_BLOCKS as FEWEST


@dataclass(frozen=True)
class Run:
    """Blocks `[start + t*period, start + (t + 1)*period)` of the steps, `t = 0, ..., count - 1`."""

    start: int
    period: int
    count: int
    extra: int = 0
    """Steps after the last block that are still like those a period before."""

    @property
    def stop(self) -> int:
        return self.start + self.period * self.count


def periods(kinds: np.ndarray) -> list[int]:
    """The distances at which short sequences of kinds come back often enough."""
    found: set[int] = set()
    for length in (1, 2, 5, 12):
        if len(kinds) < length + FEWEST:
            break
        windows = _hashed(kinds, length)
        found |= _gaps(windows)
    return sorted(found)


def _hashed(kinds: np.ndarray, length: int) -> np.ndarray:
    """A number for every window of that length."""
    multiplier = np.uint64(0x9E3779B97F4A7C15)
    windows = np.zeros(len(kinds) - length + 1, np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(length):
            part = kinds[offset : offset + len(windows)].astype(np.uint64)
            windows = (windows ^ (part + np.uint64(1))) * multiplier
    return windows


def _gaps(windows: np.ndarray) -> set[int]:
    """How far it is from an occurrence of a window to the next one, if that is so repeatedly."""
    order = np.argsort(windows, kind="stable")
    same = windows[order[1:]] == windows[order[:-1]]
    counted = Counter((order[1:] - order[:-1])[same].tolist())
    return {gap for gap, count in counted.items() if count >= FEWEST - 2}


def runs_of(kinds: np.ndarray, period: int) -> Iterator[Run]:
    """The runs of that period: long stretches in which each kind comes back a period later."""
    if len(kinds) < FEWEST * period:
        return
    equal = np.concatenate(([False], kinds[:-period] == kinds[period:], [False]))
    edges = np.flatnonzero(equal[1:] != equal[:-1])
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        count, extra = divmod(int(stop - start) + period, period)
        if count >= FEWEST:
            yield Run(int(start), period, count, extra)
