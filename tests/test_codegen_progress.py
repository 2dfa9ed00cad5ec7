"""The line about a long compilation: shown to who watches, gone afterwards; Ctrl-C is harmless."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import tracegrad as tg
from codegen import interrupts, progress, waiting

ROOT = Path(__file__).parents[1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr(waiting, "PATIENCE", 0.01)
    monkeypatch.setattr(waiting, "STEP", 0.01)
    monkeypatch.delenv("TRACEGRAD_PROGRESS", raising=False)
    return Terminal()


def test_the_line_tells_what_and_how_long(terminal: Terminal, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.progress("step_backward", 500):
        time.sleep(0.2)
    first, *_, last = terminal.getvalue().split("\r")[1:]
    assert first.startswith("tracegrad: compiling step_backward, 500 lines: starting, 0.0 s of")
    assert "of about 4 s" in first
    assert last == "" and terminal.getvalue().endswith(f"\r{'':{waiting.WIDTH}}\r")


def test_a_compilation_tells_its_passes(terminal: Terminal, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "stderr", terminal)
    tg.grad(lambda x: np.sum(np.sin(x) * np.cosh(x)))(np.ones(3))
    assert "lowering of program" in terminal.getvalue()
    assert threading.active_count() == 1 or "progress" not in str(threading.enumerate())


def test_nothing_is_shown_when_nobody_watches_or_wants_it(terminal, monkeypatch) -> None:
    monkeypatch.setenv("TRACEGRAD_PROGRESS", "0")
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.progress("f", 10):
        time.sleep(0.05)
    monkeypatch.delenv("TRACEGRAD_PROGRESS")
    monkeypatch.setattr(sys, "stderr", unwatched := io.StringIO())
    with progress.progress("f", 10):
        time.sleep(0.05)
    assert (terminal.getvalue(), unwatched.getvalue()) == ("", "")


def test_quick_compilations_show_nothing(terminal: Terminal, monkeypatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 30.0)
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.progress("f", 10):
        pass
    assert terminal.getvalue() == ""


INTERRUPTED = """
import numpy as np, tracegrad as tg
def f(x):
    for k in tg.unrolled(range(80)):
        x = np.tanh(x * (k + 1.0)) * np.sum(x)
    return np.sum(x)
g = tg.grad(f)
print("compiling", flush=True)
try:
    g(np.ones(3))
    print("never interrupted")
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(tg.grad(lambda x: np.sum(x * x))(np.ones(3)).tolist())
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGINT to one process")
def test_ctrl_c_leaves_everything_usable(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "compiling\n"
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert output == "interrupted\n[2.0, 2.0, 2.0]\n", output


def test_an_interrupt_in_a_call_from_llvm_is_raised_afterwards() -> None:
    """ctypes would print and forget it, and the machine code with it."""
    steps: list[str] = []

    def _raw_object_cache_notify() -> None:
        signal.raise_signal(signal.SIGINT)
        steps.append("the call from LLVM went on")

    with pytest.raises(KeyboardInterrupt), interrupts.interruptible():
        _raw_object_cache_notify()
        steps.append("so did the compilation")
    assert len(steps) == 2

    def refresh() -> None:  # the user's own, which compiles something
        with interrupts.interruptible():
            signal.raise_signal(signal.SIGINT)
            steps.append("never")

    with pytest.raises(KeyboardInterrupt):
        refresh()
    assert len(steps) == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
