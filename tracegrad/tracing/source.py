"""Where in the user's program a value was made: the frame, the exact expression, the assigned name.

Sub-expression positions come from `code.co_positions()` (Python >= 3.11); the name from the store
instruction that follows the call. Where either is missing the line serves, then nothing.
"""

from __future__ import annotations

import dis
import functools
import inspect
import linecache
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

import numpy as np

from tracegrad.ir.graph import Source

_NUMPY = Path(np.__file__).resolve().parent
_SCIPY = str(_NUMPY.parent / "scipy")
_OWN = str(Path(__file__).resolve().parents[1])
_LIBRARY = (_OWN, str(_NUMPY), _SCIPY, functools.__file__)


@functools.lru_cache(maxsize=4096)
def is_user_file(file: str) -> bool:
    return not file.startswith(_LIBRARY)


def user_frame() -> tuple[FrameType | None, FrameType | None]:
    """The innermost frame of user code, and the library frame that it called."""
    outer, frame = None, sys._getframe(1)
    while frame is not None and not is_user_file(frame.f_code.co_filename):
        outer, frame = frame, frame.f_back
    return frame, outer


def user_level() -> int:
    """The `stacklevel` of a warning about the user's call, for who calls this."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and not is_user_file(frame.f_code.co_filename):
        level, frame = level + 1, frame.f_back
    return level


def called_in_scipy() -> list[str]:
    """The functions of SciPy between user code and here, outermost first."""
    names, frame = [], sys._getframe(1)
    while frame is not None and not is_user_file(frame.f_code.co_filename):
        if frame.f_code.co_filename.startswith(_SCIPY):
            # SciPy's decorators are called `wrapper`, and what they decorate `f`.
            decorated = frame.f_locals.get("f") if frame.f_code.co_name == "wrapper" else None
            names.append(getattr(decorated, "__name__", frame.f_code.co_name))
        frame = frame.f_back
    return names[::-1]


def user_expression() -> str:
    """The user's expression that is being computed, and its line."""
    frame, _ = user_frame()
    source = None if frame is None else source_of(frame.f_code, frame.f_lasti)
    if source is None:
        return ""
    return f"{' '.join(source.text.split())} ({Path(source.file).name}:{source.line})"


_sites: dict[int, tuple[CodeType, dict[int, tuple[Source | None, str]]]] = {}
"""What is known of the instructions of code objects, by identity: to hash one reads all of it."""
MOST_SITES = 512


def site_of(code: CodeType, offset: int) -> tuple[Source | None, str]:
    """The expression whose instruction stands at `offset`, and the variable it is assigned to."""
    known = _sites.get(id(code))
    if known is None:
        if len(_sites) >= MOST_SITES:
            _sites.clear()
        known = _sites[id(code)] = code, {}
    found = known[1].get(offset)
    if found is None:
        found = known[1][offset] = source_of(code, offset), assigned_name(code, offset)
    return found


def source_of(code: CodeType, offset: int) -> Source | None:
    """The expression whose instruction stands at `offset`."""
    position = _positions(code).get(offset)
    if position is None:
        return None
    line, end_line, start, end = position
    text = linecache.getline(code.co_filename, line).rstrip("\n")
    if not text or start is None or end is None:
        return Source(code.co_filename, line, code.co_name, text.strip())
    encoded = text.encode()
    if end_line != line:
        end = len(encoded)
    piece = encoded[start:end].decode(errors="replace").strip()
    columns = (
        len(encoded[:start].decode(errors="replace")),
        len(encoded[:end].decode(errors="replace")),
    )
    return Source(code.co_filename, line, code.co_name, piece, columns)


@functools.lru_cache(maxsize=512)
def _positions(code: CodeType) -> dict[int, tuple[int, int, int | None, int | None]]:
    found = {}
    for number, (line, end_line, start, end) in enumerate(code.co_positions()):
        if line is not None:
            found[2 * number] = (line, end_line or line, start, end)
    return found


def assigned_name(code: CodeType, offset: int) -> str:
    """The variable that the expression at `offset` is assigned to; empty if it is to none."""
    return _stores(code).get(offset, "")


@functools.lru_cache(maxsize=512)
def _stores(code: CodeType) -> dict[int, str]:
    instructions = [i for i in dis.get_instructions(code) if i.opname not in ("CACHE", "COPY")]
    found = {}
    for before, after in pairwise(instructions):
        if after.opname.startswith(("STORE_FAST", "STORE_NAME", "STORE_DEREF", "STORE_GLOBAL")):
            name = after.argval[0] if isinstance(after.argval, tuple) else after.argval
            if not str(name).isidentifier():  # pytest keeps parts of assertions in `@py_assert1`
                continue
            # A call of a Python function leaves the frame at the caches behind its instruction.
            for offset in range(before.offset, after.offset, 2):
                found[offset] = str(name)
    return found


def raised_at(traceback: TracebackType | None) -> Source | None:
    """The innermost expression of user code on the way to where an error was raised."""
    found = None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if is_user_file(code.co_filename):
            found = source_of(code, traceback.tb_lasti) or found
        traceback = traceback.tb_next
    return found


def is_ours(traceback: TracebackType | None) -> bool:
    """Whether an error was raised by this package, not by the user's code or NumPy."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_OWN)


def point_at(source: Source) -> str:
    """The user's line with the expression underlined, as errors show it."""
    line = linecache.getline(source.file, source.line).rstrip("\n")
    start, end = source.columns
    where = f"  {Path(source.file).name}:{source.line}, in {source.function}"
    if not line:
        return where
    indent = len(line) - len(line.lstrip())
    text = f"{where}\n    {line.strip()}"
    if end > start:
        text += "\n    " + " " * (start - indent) + "^" * (end - start)
    return text


def definition(function: Callable[..., Any]) -> Source | None:
    """Where a function is defined: the line of its `def`, below any decorators."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return None
    first = code.co_firstlineno
    lines = [linecache.getline(code.co_filename, first + at).strip() for at in range(20)]
    at = next((at for at, text in enumerate(lines) if text.startswith(("def ", "async def "))), 0)
    return Source(code.co_filename, first + at, code.co_name, lines[at])
