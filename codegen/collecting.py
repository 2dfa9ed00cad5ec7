"""Fewer garbage collections while a program is traced and compiled.

Python looks for reference cycles after every 700 new objects. A first call makes some 100,000 that
live until its end, so it looks hundreds of times, finds next to nothing, and each time walks
through objects of numba, or now and then of all that the process has loaded: about a tenth of the
processor time of a first call (0.405 s of one, 0.369 with collections switched off).

    with rarely():
        trace, lower, compile

In here it looks after 200,000 new objects, so that garbage of a long compilation does not pile up.
The thresholds are the process's: the first of several threads in here sets them, the last one puts
them back, unless somebody else has changed them since.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS = 200_000


class State:
    """How many are inside, and the thresholds of before."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.before = gc.get_threshold()

    def enter(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.before = gc.get_threshold()
                if 0 < self.before[0] < OBJECTS:  # 0: none at all
                    gc.set_threshold(OBJECTS, *self.before[1:])

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0 and gc.get_threshold()[0] == OBJECTS:
                gc.set_threshold(*self.before)


STATE = State()


@contextmanager
def rarely() -> Iterator[None]:
    """Collect garbage after many more new objects than usual in here."""
    STATE.enter()
    try:
        yield
    finally:
        STATE.leave()
