"""Random numbers drawn while a function is traced: they would be frozen into the compiled code.

In: the function, before it is traced. Out, after: a TraceError if `np.random`, or a generator that
the function reads from its globals or closure, is in another state than before.
"""

from __future__ import annotations

import linecache
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.errors import TraceError

OURS = "tracegrad."

MOST = 100
"""How many functions that call each other are looked through for generators."""


@dataclass(frozen=True)
class Watched:
    """A source of random numbers and its state before."""

    name: str
    source: Any
    before: bytes

    @property
    def changed(self) -> bool:
        return state_of(self.source) != self.before


class Unloaded(Watched):
    """`numpy.random` before it is loaded. NumPy seeds its generator then; the first number that is
    drawn makes new ones of all its words, so that it does not stand at their end any more.
    """

    @property
    def changed(self) -> bool:
        loaded = sys.modules.get("numpy.random")
        if loaded is None:
            return False
        state = loaded.mtrand._rand.get_state(legacy=False)
        return state["has_gauss"] != 0 or state["state"]["pos"] != len(state["state"]["key"])


UNLOADED = Unloaded("", None, b"")


def state_of(source: Any) -> bytes:
    if hasattr(source, "bit_generator"):
        return pickle.dumps(source.bit_generator.state)
    return pickle.dumps(source.get_state(legacy=False))


def watch(python: Callable[..., Any]) -> list[Watched]:
    """The sources of random numbers that the function could draw from, with their states."""
    if "numpy.random" not in sys.modules:
        return [UNLOADED]
    module: Any = np.random
    found = [Watched("", module.mtrand._rand, state_of(module.mtrand._rand))]
    generators = {id(value): (name, value) for name, value in reached(python)}
    return found + [Watched(name, x, state_of(x)) for name, x in generators.values()]


def check(python: Callable[..., Any], watched: list[Watched]) -> None:
    """Raises TraceError if numbers were drawn."""
    for source in watched:
        if not source.changed:
            continue
        if source.name:
            raise TraceError(
                f"random numbers were drawn from {source.name}, which is captured by the function, "
                "while it was traced: they would be the same in every call; pass it as an argument"
            )
        place = mention(python)
        if place or threading.active_count() == 1:
            raise TraceError(
                f"np.random was used while a function was traced{place}: its numbers would be the "
                "same in every call; pass a numpy.random.Generator as an argument "
                "(rng = np.random.default_rng(seed)) and draw from that"
            )


def reached(python: Any) -> Iterator[tuple[str, Any]]:
    """The generators among the globals and closures of a function and of those that it calls."""
    stack, seen = [python], set()
    while stack and len(seen) < MOST:
        function = stack.pop()
        owner = getattr(function, "__self__", None)
        for name, value in vars(owner).items() if hasattr(owner, "__dict__") else ():
            if type(value) is np.random.Generator:
                yield f"self.{name}", value
        function = getattr(function, "python", getattr(function, "__func__", function))
        if not isinstance(function, FunctionType) or id(function) in seen:
            continue
        seen.add(id(function))
        for name, value in variables(function):
            if type(value) is np.random.Generator:
                yield name, value
            elif isinstance(getattr(value, "python", value), FunctionType):
                stack.append(value)


def variables(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function reads besides its arguments."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    if (function.__module__ or "").startswith(OURS):
        return  # one of a transform: what it transforms is in its closure
    for name in dict.fromkeys(n for code in codes(function.__code__) for n in code.co_names):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    for number, default in enumerate(function.__defaults__ or ()):
        yield f"default {number}", default


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def mention(python: Any) -> str:
    """`, in train.py:12: x + np.random.normal()` if the function's own lines have it."""
    function = getattr(python, "__func__", python)
    if not isinstance(function, FunctionType):
        return ""
    for code in codes(function.__code__):
        for _, _, line in code.co_lines():
            text = linecache.getline(code.co_filename, line or 0).strip()
            if "random." in text:
                file = code.co_filename.replace("\\", "/").rpartition("/")[2]
                return f", in {file}:{line}: {text}"
    return ""
