"""Plain NumPy arrays that the body of a branch or loop finds around it: it must not write to them.

    t = np.sin(np.arange(3.0))       # no traced value in it: NumPy computes it at once
    tg.cond(s > 0, lambda: put(t), ...)        # t[0] = 9.0: done while tracing, whatever s is

Both sides of a branch are traced, and the body of a loop once. So while one is, the arrays that the
functions around it can reach are read-only, and a write becomes an error that says so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from types import CodeType, FrameType
from typing import Any

import numpy as np

from tracegrad.errors import TraceError
from tracegrad.tracing.source import is_user_file

ENTRY = "_recorded"
"""The function in which all traces begin: what called it is nobody's concern here."""
DEEP = 2
"""How many containers within each other are looked into."""
MANY = 100
"""Items of a container that are looked at."""


class Guarded:
    """A body is traced within: writes into arrays from outside raise TraceError."""

    def __enter__(self) -> None:
        found = {id(array): array for _, array in reachable() if can_be_locked(array)}
        self._found = sorted(found.values(), key=_depth)
        for array in self._found:
            array.flags.writeable = False

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        for array in self._found:
            array.flags.writeable = True
        if kind is ValueError and "read-only" in str(error):
            raise TraceError(
                "the body of a branch or a loop writes into a plain NumPy array from outside of "
                "it, which NumPy would do while tracing, whether or not the body is run: make it "
                "in the traced function, out = np.zeros(n), and fill it there, out[:] = values"
            ).with_traceback(traceback) from error


def is_shared(array: np.ndarray, name: str) -> bool:
    """Whether the array, or some of its memory, is reached otherwise than by a variable `name`."""
    return any(
        np.may_share_memory(array, other) and (other is not array or label != name)
        for label, other in reachable()
    )


def reachable() -> Iterator[tuple[str, np.ndarray]]:
    """The arrays that the user's functions in this trace can reach, and by which variable."""
    for frame in _frames():
        here, around = frame.f_locals, frame.f_globals
        for name, value in here.items():
            yield from _arrays(name, value, DEEP)
        for name in _named(frame.f_code):
            if name in around:
                yield from _arrays(name, around[name], DEEP)


def _frames() -> list[FrameType]:
    """The frames of the user's functions that are being traced."""
    found, frame = [], sys._getframe(1)
    while frame is not None and frame.f_code.co_name != ENTRY:
        if is_user_file(frame.f_code.co_filename):
            found.append(frame)
        frame = frame.f_back
    return found if frame is not None else []


def _arrays(name: str, value: Any, deep: int) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, np.ndarray):
        yield name, value
    elif deep:
        for item in _items(value):
            yield from _arrays(f"{name}.", item, deep - 1)


def _items(value: Any) -> list[Any]:
    """What a container or an object of the user's own holds."""
    match value:
        case list() | tuple():
            return [*value[:MANY]]
        case dict():
            return [*islice(value.values(), MANY)]
        case _ if _is_users(type(value)):
            return [*islice(getattr(value, "__dict__", {}).values(), MANY)]
    return []


def _is_users(kind: type) -> bool:
    """Whether a class is defined in the user's modules."""
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    return module is not None and kind.__module__ != "builtins" and is_user_file(file or "")


def _named(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _named(part)


def can_be_locked(array: np.ndarray) -> bool:
    """Whether it can be written to, and NumPy would make it so again: not if the memory is of an
    object that shows no buffer, as that of PyTorch's `tensor.numpy()`."""
    if not array.flags.writeable:
        return False
    while isinstance(array.base, np.ndarray):
        array = array.base
    if array.base is None:
        return array.flags.owndata
    try:
        return not memoryview(array.base).readonly
    except TypeError:
        return False


def _depth(array: np.ndarray) -> int:
    """How many arrays it is a view of: what it is a view of has to become writable first."""
    base = array.base
    return 1 + _depth(base) if isinstance(base, np.ndarray) else 0
