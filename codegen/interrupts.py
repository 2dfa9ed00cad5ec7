"""Ctrl-C while something is compiled: it takes effect, and leaves everything usable.

LLVM calls back into Python when machine code is ready. An exception raised in there is printed and
forgotten by ctypes, and with it the machine code: so an interrupt that falls into such a call is
raised when the compilation is over.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

CALLBACKS = ("_raw_object_cache_notify", "_raw_object_cache_getbuffer")
"""The functions of llvmlite that LLVM calls."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt where it is not lost; a handler of the user's own is left alone."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    late: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        if not called_back(frame):
            raise KeyboardInterrupt
        late.append(number)

    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if late:
        raise KeyboardInterrupt


def called_back(frame: FrameType | None) -> bool:
    """Whether LLVM called what runs now."""
    while frame is not None:
        if frame.f_code.co_name in CALLBACKS:
            return True
        frame = frame.f_back
    return False
