"""A peer in a process of its own, under another interpreter: PyTensor wants an older numba.

It takes its turns like everyone: asked for a round, it runs its calls and says what they took, and
waits in between. Arrays are sent once. The interpreter is the one that `PYTENSOR_PYTHON` names, or
else the one that runs the benchmarks, if it has PyTensor.

    python -m venv ~/pytensor; ~/pytensor/bin/pip install pytensor
    export PYTENSOR_PYTHON=~/pytensor/bin/python
"""

from __future__ import annotations

import pickle
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner import Entry, Held, Library
from surroundings import pytensor_interpreter, pytensor_version

PYTENSOR = Library("PyTensor")
PROGRAM = Path(__file__).with_name("in_pytensor.py")
MISSING = "no PyTensor here: let PYTENSOR_PYTHON name an interpreter that has it"


class Remote(Held):
    """One program of `in_pytensor.py` with its arguments, in a process that ends with `close`."""

    def __init__(self, program: str, arguments: Sequence[Any], wanted: Sequence[int]) -> None:
        if not pytensor_version():
            raise ModuleNotFoundError(MISSING)
        self.start = "start", (program, [*arguments], tuple(wanted))
        self.process = subprocess.Popen(
            [pytensor_interpreter(), str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, asked: str, payload: Any = None) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        pickle.dump((asked, payload), self.process.stdin, protocol=5)
        self.process.stdin.flush()
        try:
            return pickle.load(self.process.stdout)
        except EOFError:
            raise RuntimeError(f"its process ended with status {self.process.wait()}") from None

    def first(self) -> tuple[Any, float]:
        return self.ask(*self.start)

    def call_with(self, *arguments: Any) -> Any:
        """`(results, seconds)` for other arguments of the same types."""
        return self.ask("other", arguments)

    def memory(self) -> int | None:
        return self.ask("memory")

    def timed(self, repeat: int) -> float:
        return self.ask("timed", repeat)

    def close(self) -> None:
        self.process.communicate()


class RemoteEntry(Entry):
    """An entry whose `function` is the name of a program and the gradients that are wanted."""

    def held(self, arguments: Sequence[Any], numpy: bool) -> Held:
        program, wanted = self.function()
        return Remote(program, arguments, wanted)


def pytensor_entry(program: str, wanted: Sequence[int] = (0,)) -> Entry:
    """PyTensor in numba mode; left out with a note where there is none."""
    return RemoteEntry("PyTensor", PYTENSOR, lambda: (program, wanted), optional=True)
