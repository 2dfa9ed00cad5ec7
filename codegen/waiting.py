"""One line about something that takes more than a second, for whoever waits for it.

    tracegrad: tracing step, 21,000 operations, 1.3 s

On a terminal or in a notebook only, on the standard error, and gone when it ends.
`TRACEGRAD_PROGRESS=0` turns it off.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

PATIENCE, STEP = 1.0, 0.25
"""Seconds before the line appears, and between two looks at the clock."""
WIDTH = 78

Telling = Callable[[float], str]
"""What is to be said after so many seconds."""

_own = threading.local()
"""What the line of this thread tells, the innermost part last: with the time when it began."""


def wanted(stream: TextIO) -> bool:
    """Whether somebody watches: a terminal, or a notebook's kernel."""
    if os.environ.get("TRACEGRAD_PROGRESS") == "0":
        return False
    return "ipykernel" in sys.modules or bool(getattr(stream, "isatty", lambda: False)())


@contextmanager
def waiting(telling: Telling) -> Iterator[None]:
    """Show the line while the block runs, if it runs long and `wanted`; within another one, in its
    place."""
    stream = sys.stderr
    if stream is None or not wanted(stream):
        yield
        return
    told: list[tuple[Telling, float]] = getattr(_own, "told", [])
    told.append((telling, time.perf_counter()))
    if len(told) > 1:
        try:
            yield
        finally:
            told.pop()
        return
    _own.told, done = told, threading.Event()
    show = threading.Thread(target=_show, args=(stream, told, done), daemon=True)
    show.start()
    try:
        yield
    finally:
        done.set()
        show.join()
        told.clear()


def _show(stream: TextIO, told: list[tuple[Telling, float]], done: threading.Event) -> None:
    shown = False
    while not done.wait(STEP if shown else PATIENCE):
        telling, start = told[-1]
        _write(stream, telling(time.perf_counter() - start))
        shown = True
    if shown:
        _write(stream, "")


def _write(stream: TextIO, text: str) -> None:
    """Replace the line; a stream that is closed meanwhile is no error."""
    try:
        stream.write(f"\r{text[:WIDTH]:{WIDTH}}" if text else f"\r{'':{WIDTH}}\r")
        stream.flush()
    except (OSError, ValueError):
        pass
