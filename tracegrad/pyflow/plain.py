"""Functions that do nothing but compute: tracing a loop's body once shows what every step does.

In: a Python function. Out: whether its text, and that of the functions it calls by name, only sets
local variables and entries of them, and calls functions that keep no state of their own.

    def step(u): new = u.copy(); new[0] = 0.0; return new      plain
    def step(u): self.calls += 1; return u                     not: the second step differs
"""

from __future__ import annotations

import ast
import builtins
import math
from functools import lru_cache
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np

from tracegrad.errors import TraceError
from tracegrad.pyflow.names import names_in
from tracegrad.pyflow.source import Definition, definition_of, parameters
from tracegrad.pyflow.world import content, is_users

BUILTINS = frozenset(
    getattr(builtins, name)
    for name in (
        *("range", "len", "abs", "min", "max", "sum", "round", "pow", "divmod", "sorted"),
        *("float", "int", "bool", "complex", "tuple", "list", "dict", "slice", "isinstance"),
        *("enumerate", "zip", "reversed", "any", "all"),
    )
)
LIBRARIES = ("numpy", "scipy", "math", __name__.partition(".")[0])
DRAWING = "numpy.random"
METHODS = frozenset(dir(np.ndarray)) | {"items", "keys", "values", "get"}
STATEFUL = (
    *(ast.Global, ast.Nonlocal, ast.Yield, ast.YieldFrom, ast.Await, ast.Try),
    *(ast.Import, ast.ImportFrom, ast.ClassDef, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith),
)


@lru_cache(maxsize=1024)
def is_plain(function: FunctionType) -> bool:
    """Whether the function, and those that it calls, only compute."""
    return _is_plain(function, {function}, outermost=True)


def _is_plain(function: FunctionType, seen: set[Any], outermost: bool = False) -> bool:
    try:
        node = definition_of(function.__code__, "tracing").node
    except TraceError:
        return False
    return _Reading(function, node, seen, outermost).is_plain()


class _Reading:
    """The text of one function, with what its names mean."""

    def __init__(
        self, function: FunctionType, node: Definition, seen: set[Any], outermost: bool
    ) -> None:
        self.seen = seen
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        self.known = {**function.__globals__, **{name: content(cell) for name, cell in cells}}
        body = node.body if isinstance(node, ast.FunctionDef) else [ast.Expr(node.body)]
        self.parts = [part for statement in body for part in ast.walk(statement)]
        self.made = set(names_in(body).assigned)
        self.given = set() if outermost else set(parameters(node))
        """What others may see change: not of the function that is traced."""
        self.local = self.made | set(parameters(node))
        self.inner = {n.name for n in self.parts if isinstance(n, ast.FunctionDef)}

    def is_plain(self) -> bool:
        return all(map(self._part, self.parts))

    def _part(self, node: ast.AST) -> bool:
        match node:
            case ast.Attribute(ctx=ast.Store() | ast.Del()):
                return False
            case ast.Subscript(value, _, ast.Store() | ast.Del()):
                return self._is_own(value)
            case ast.Call(func):
                return self._call(func)
        return not isinstance(node, STATEFUL)

    def _is_own(self, base: ast.expr) -> bool:
        """Whether a variable that is written into was made here."""
        while isinstance(base, ast.Subscript):
            base = base.value
        return isinstance(base, ast.Name) and base.id in self.local - (self.given - self.made)

    def _call(self, function: ast.expr) -> bool:
        match function:
            case ast.Name(name) if name in self.local:
                return name in self.inner
            case ast.Attribute(base, name):
                module = self._module(base)
                if module is not None:
                    return self._known(getattr(module, name, None))
                if name == "append":
                    return isinstance(base, ast.Name) and base.id in self.made
                return name in METHODS
            case ast.Name(name):
                return self._known(self.known.get(name, getattr(builtins, name, None)))
        return False

    def _module(self, node: ast.expr) -> ModuleType | None:
        match node:
            case ast.Name(name) if name not in self.local:
                found = self.known.get(name)
            case ast.Attribute(base, name):
                module = self._module(base)
                found = None if module is None else getattr(module, name, None)
            case _:
                found = None
        return found if isinstance(found, ModuleType) else None

    def _known(self, value: Any) -> bool:
        """Whether a function that is called keeps no state."""
        value = getattr(value, "python", value)  # of a traced function
        if value in BUILTINS if isinstance(value, type | BuiltinFunctionType) else False:
            return True
        if isinstance(value, FunctionType) and is_users(value):
            if value in self.seen:
                return True
            self.seen.add(value)
            return _is_plain(value, self.seen)
        module = getattr(value, "__module__", None) or ""
        if isinstance(value, np.ufunc) or module == math.__name__:
            return True
        return module.partition(".")[0] in LIBRARIES and not module.startswith(DRAWING)
