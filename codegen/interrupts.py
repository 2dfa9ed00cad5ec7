"""Ctrl-C while something is compiled: it takes effect, and leaves everything usable.

LLVM calls back into Python when machine code is ready; an exception raised in there is printed and
forgotten by ctypes, and with it the machine code. And numba loads what it knows of types when it
is first used; half of that is none. An interrupt that falls into one of these comes a moment later.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

WHOLE = {
    "_raw_object_cache_notify",  # llvmlite: called by LLVM
    "_raw_object_cache_getbuffer",
    "refresh",  # numba: registries of types and of implementations
    "load_additional_registries",
    "_find_and_load",  # an import
}
"""The functions that run to their end."""
LATER = 0.05
"""Seconds until an interrupt that fell into one of them is tried again."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt where it is not lost; a handler of the user's own is left alone."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    waiting: list[threading.Timer] = []
    caller = sys._getframe(2)  # past this generator and contextlib: what compiles

    def handler(number: int, frame: FrameType | None) -> None:
        if not within_whole(frame, caller):
            stop(waiting)
            raise KeyboardInterrupt
        timer = threading.Timer(LATER, signal.raise_signal, (number,))
        timer.daemon = True
        waiting.append(timer)
        timer.start()

    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        late = stop(waiting)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if late:
        raise KeyboardInterrupt


def stop(waiting: list[threading.Timer]) -> bool:
    """Cancel what is still to be tried; whether there was anything."""
    found = bool(waiting)
    while waiting:
        waiting.pop().cancel()
    return found


def within_whole(frame: FrameType | None, caller: FrameType) -> bool:
    """Whether one of the functions that run to their end does run, called by the compilation (the
    program that started it may have a `refresh` of its own, or be a module being imported)."""
    while frame is not None and frame is not caller:
        if frame.f_code.co_name in WHOLE:
            return True
        frame = frame.f_back
    return False
