"""What is told of a compilation that takes long (`waiting`): which pass is at work, and how long
it may take.

    tracegrad: compiling step_backward, 420 lines: native lowering, 2.1 s of about 4 s
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import event

from codegen.waiting import waiting

PER_LINE = 0.009
"""Seconds a line of generated text takes to compile: measured over 25 to 2,500 lines (0.005 to
0.014; 2-core AVX-512 x86-64), most of them statements of loops."""


class _Passes(event.Listener):
    """Which pass of the compiler is at work."""

    def __init__(self) -> None:
        self.current = "starting"

    def on_start(self, event: Any) -> None:
        self.current = str(event.data.get("name", "")).partition("[")[0].strip().replace("_", " ")

    def on_end(self, event: Any) -> None:
        pass


@contextmanager
def progress(name: str, lines: int) -> Iterator[None]:
    """Show the line while the block runs, if it runs long and somebody watches."""
    passes, expected = _Passes(), max(lines * PER_LINE, 2.0)

    def telling(spent: float) -> str:
        more = f"{spent:.1f} s of about {expected:.0f} s" if spent < expected else f"{spent:.1f} s"
        return f"tracegrad: compiling {name}, {lines} lines: {passes.current}, {more}"

    with event.install_listener("numba:run_pass", passes), waiting(telling):
        yield
