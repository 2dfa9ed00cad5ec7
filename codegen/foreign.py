"""Functions that codegen did not make: the user's own compiled functions, called by generated code.

    y = step(x, h)   ->   y, y_fits = received(step(readonly(x), h), np.float64, (n,), (x,))

In: a numba dispatcher. Out: what its compiled code depends on, for the key of the disk cache: its
bytecode, constants, options, and the values of the globals and of the closure that it reads, with
those of every function that it calls. numba reads globals when it compiles, so for a function that
was compiled before it was looked at these values may have been others: such code is not kept.
"""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Iterator
from dataclasses import field
from hashlib import sha256
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from codegen.records import dataclass

LIBRARIES = frozenset({"numpy", "math", "cmath", "numba", "operator", "scipy", "builtins"})
"""Packages whose functions stay what they are; their versions are in the key."""


@dataclass(frozen=True, eq=False)
class Foreign:
    """A function of the user's. `readonly`: its array arguments are passed as read-only ones, so
    that numba refuses a function that writes into them."""

    name: str
    function: Any
    readonly: bool = True

    @property
    def python(self) -> Any:
        """The function as plain Python."""
        return plain(self.function)

    @property
    def place(self) -> str:
        """Where it was written: `step, model.py:12`."""
        code = self.python.__code__
        file = code.co_filename.replace("\\", "/").rpartition("/")[2]
        return f"{self.python.__qualname__}, {file}:{code.co_firstlineno}"


@dataclass
class Dependencies:
    """What the compiled code of a function depends on."""

    parts: list[str] = field(default_factory=list)
    opaque: list[str] = field(default_factory=list)
    """Names whose values cannot be told apart by content."""
    values: bool = False
    """Whether it reads globals or closures that the user may bind to something else."""
    compiled: bool = False
    """Whether any of it was compiled already, or may come from numba's own disk cache."""
    _seen: dict[int, int] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return sha256("\n".join(self.parts).encode()).hexdigest()

    @property
    def certain(self) -> bool:
        """Whether code compiled now is what `digest` says."""
        return not self.opaque and not (self.values and self.compiled)

    def add(self, name: str, value: Any) -> None:
        """Note a value that the code reads under that name."""
        if id(value) in self._seen:
            self.parts.append(f"{name} again {self._seen[id(value)]}")
            return
        self._seen[id(value)] = len(self._seen)
        if isinstance(plain(value), FunctionType):
            self.values = True
            self._function(name, value)
        elif isinstance(value, ModuleType):
            self.parts.append(f"{name} module {value.__name__}")
        elif (known := of_library(value)) is not None:
            self.parts.append(f"{name} is {known}")
        else:
            self.values = True
            self._value(name, value)

    def _value(self, name: str, value: Any) -> None:
        match value:
            case None | bool() | int() | float() | complex() | str() | bytes() | np.generic():
                self.parts.append(f"{name} {type(value).__name__} {value!r}")
            case tuple() | list():
                self.parts.append(f"{name} {type(value).__name__} {len(value)}")
                for number, item in enumerate(value):
                    self.add(f"{name}[{number}]", item)
            case np.ndarray() if value.dtype != object:
                content = sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
                self.parts.append(f"{name} array {value.dtype.str} {value.shape} {content}")
            case np.dtype():
                self.parts.append(f"{name} dtype {value!r}")
            case _:
                self.opaque.append(name)

    def _function(self, name: str, function: Any) -> None:
        python = plain(function)
        options = sorted(getattr(function, "targetoptions", {}).items())
        self.parts.append(f"{name} function {python.__qualname__} {options}")
        self.compiled |= bool(getattr(function, "overloads", None))
        cache = type(getattr(function, "_cache", None)).__name__
        self.compiled |= cache not in ("NullCache", "NoneType")
        for number, default in enumerate(python.__defaults__ or ()):
            self.add(f"{name} default {number}", default)
        self._code(python.__code__)
        for label, value in bindings(python):
            self.add(label, value)

    def _code(self, code: CodeType) -> None:
        self.parts.append(f"code {code.co_code.hex()} {code.co_names} {code.co_varnames}")
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._code(constant)
            else:
                self.parts.append(f"constant {type(constant).__name__} {constant!r}")


def plain(function: Any) -> Any:
    """A dispatcher's Python function; anything else as it is."""
    return getattr(function, "py_func", function)


def dependencies(function: Any) -> Dependencies:
    """All that the compiled code of `function` depends on, its callees included."""
    found = Dependencies()
    found.add("function", function)
    found.values = any(not is_settled(v) for _, v in bindings(plain(function)))
    return found


def is_settled(value: Any) -> bool:
    """Whether a name will hardly be bound to another value: a module, a function of a library."""
    return isinstance(value, ModuleType) or of_library(value) is not None


def bindings(python: FunctionType) -> Iterator[tuple[str, Any]]:
    """The globals, the closure's variables and the modules' attributes that a function reads."""
    attributes = [name for code in codes(python.__code__) for name in code.co_names]
    cells = zip(python.__code__.co_freevars, python.__closure__ or (), strict=True)
    found = {name: cell.cell_contents for name, cell in cells if not is_empty(cell)}
    for name in attributes:
        if name in python.__globals__:
            found.setdefault(name, python.__globals__[name])
    seen, waiting = set(), list(found.items())
    while waiting:
        name, value = waiting.pop(0)
        yield name, value
        theirs = isinstance(value, ModuleType) and package(value.__name__) not in LIBRARIES
        if theirs and id(value) not in seen:  # a module may have modules: `settings.physics.g`
            seen.add(id(value))
            space = vars(value)
            waiting += [(f"{name}.{part}", space[part]) for part in attributes if part in space]


def is_empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return True
    return False


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def package(module: str) -> str:
    return module.partition(".")[0]


def of_library(value: Any) -> str | None:
    """The full name of a function or type of a library; None for anything else."""
    kinds = (BuiltinFunctionType, FunctionType, type, np.ufunc)
    callable_ = isinstance(value, kinds) or type(value).__module__ in LIBRARIES
    if not callable_ or isinstance(value, np.ndarray | np.generic | np.dtype):
        return None
    module = "numpy" if isinstance(value, np.ufunc) else getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not isinstance(module, str) or name is None or package(module) not in LIBRARIES:
        return None
    if hasattr(value, "py_func") or value is vars(builtins).get("__build_class__"):
        return None
    return f"{module}.{name}"


def source(function: Any) -> str:
    """The text of a function and of the functions that it calls, for a stand-alone module.

    Raises LookupError, saying what is missing, if the text is not to be had or needs more than
    numpy, math, numba and numbers.
    """
    texts: dict[str, str] = {}
    _collect(function, texts)
    return "\n\n\n".join(texts.values())


def _collect(function: Any, texts: dict[str, str]) -> None:
    python = plain(function)
    name = python.__name__
    if name in texts:
        return
    try:
        lines = inspect.getsource(python).rstrip().splitlines()
    except (OSError, TypeError):
        raise LookupError(f"the source of {name} is not to be had") from None
    start = next((k for k, line in enumerate(lines) if line.lstrip().startswith("def ")), None)
    if start is None:
        raise LookupError(f"{name} is not written as a def")
    indent = len(lines[start]) - len(lines[start].lstrip())
    constants: list[str] = []
    texts[name] = ""
    for label, value in bindings(python):
        constants += _needed(name, label, value, texts)
    options = ", ".join(
        f"{option}={value!r}"
        for option, value in getattr(function, "targetoptions", {}).items()
        if option not in ("nopython", "boundscheck", "cache") and value is not None
    )
    body = [line[indent:] for line in lines[start:]]
    del texts[name]
    texts[name] = "\n".join([*constants, f"@njit({options})" if options else "@njit", *body])


def _needed(name: str, label: str, value: Any, texts: dict[str, str]) -> list[str]:
    """The lines that give `label` its value in a module of its own."""
    if isinstance(value, ModuleType):
        if value.__name__ not in ("numpy", "math", "numba"):
            raise LookupError(f"{name} uses the module {value.__name__}")
        return [] if label == value.__name__ == "numba" else [f"import {value.__name__} as {label}"]
    if hasattr(value, "py_func") and label == value.py_func.__name__:
        _collect(value, texts)
        return []
    known = of_library(value)
    if known is not None and package(known) in ("numpy", "math", "numba"):
        module, _, attribute = known.rpartition(".")
        if label == "njit":
            return []
        return [f"from {package(module)} import {attribute} as {label}"]
    if isinstance(value, bool | int | float | str | np.generic | tuple):
        text = f"np.{value!r}" if isinstance(value, np.generic) else repr(value)
        return [f"{label} = {text.replace('np.np.', 'np.')}"]
    raise LookupError(f"{name} reads {label}, a {type(value).__name__}")
