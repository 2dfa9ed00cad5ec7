"""One line about a compilation that takes more than a second, for whoever waits for it.

    tracegrad: compiling step_backward, 420 lines: native lowering, 2.1 s of about 4 s

On a terminal or in a notebook only, on the standard error, and gone when the compilation ends.
`TRACEGRAD_PROGRESS=0` turns it off.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from numba.core import event

PATIENCE, STEP = 1.0, 0.25
"""Seconds before the line appears, and between two looks at the clock."""
PER_LINE = 0.009
"""Seconds a line of generated text takes to compile: measured over 25 to 2,500 lines (0.005 to
0.014; 2-core AVX-512 x86-64), most of them statements of loops."""
WIDTH = 78


class _Passes(event.Listener):
    """Which pass of the compiler is at work."""

    def __init__(self) -> None:
        self.current = "starting"

    def on_start(self, event: Any) -> None:
        self.current = str(event.data.get("name", "")).partition("[")[0].strip().replace("_", " ")

    def on_end(self, event: Any) -> None:
        pass


def wanted(stream: TextIO) -> bool:
    """Whether somebody watches: a terminal, or a notebook's kernel."""
    if os.environ.get("TRACEGRAD_PROGRESS") == "0":
        return False
    return "ipykernel" in sys.modules or bool(getattr(stream, "isatty", lambda: False)())


@contextmanager
def progress(name: str, lines: int) -> Iterator[None]:
    """Show the line while the block runs, if it runs long and `wanted`."""
    stream = sys.stderr
    if stream is None or not wanted(stream):
        yield
        return
    passes, done = _Passes(), threading.Event()
    what = f"tracegrad: compiling {name}, {lines} lines"
    show = threading.Thread(target=_show, args=(stream, what, lines, passes, done), daemon=True)
    with event.install_listener("numba:run_pass", passes):
        show.start()
        try:
            yield
        finally:
            done.set()
            show.join()


def _show(stream: TextIO, what: str, lines: int, passes: _Passes, done: threading.Event) -> None:
    start, shown = time.perf_counter(), False
    while not done.wait(STEP if shown else PATIENCE):
        spent, expected = time.perf_counter() - start, max(lines * PER_LINE, 2.0)
        more = f"{spent:.1f} s of about {expected:.0f} s" if spent < expected else f"{spent:.1f} s"
        _write(stream, f"{what}: {passes.current}, {more}")
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
