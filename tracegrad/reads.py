"""What a function reads besides its arguments, so far as tracing takes it for constant.

In: a function or method. Out: facts that are equal if it reads the same: its code, the globals and
attributes that it mentions, cells, defaults, and the same of all functions that these lead to.

    def loss(x): return np.sum(scale * x)      Reads(loss).facts      ->      [.., "scale", 2.0]

Where the content cannot be known (a generator, a clock, a file, an object of a C extension), it
raises Unknown.
"""

from __future__ import annotations

import dis
import hashlib
import sys
from functools import cache, cached_property, partial
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.ops.operators import ArrayMethods

MARK = "__tracegrad__"
"""The attribute of a function that holds its transforms."""
MOST = 2000
"""So many facts are looked at; a function that reads more is traced anew every time."""

CONSTANT = frozenset(
    (
        *("_operator", "abc", "cmath", "codegen", "collections", "copy", "dataclasses", "enum"),
        *("functools", "itertools", "llvmlite", "math", "numba", "numbers", "numpy", "operator"),
        *("scipy", "tracegrad", "types", "typing"),
    )
)
"""Packages whose functions and attributes stay what they are."""
IMPURE = frozenset(
    (
        *("__import__", "breakpoint", "compile", "delattr", "eval", "exec", "globals", "input"),
        *("locals", "open", "print", "setattr", "vars"),
    )
)
"""Builtins that do something, or look where this module does not."""
REFLECTIVE = frozenset(("__globals__", "f_globals", "__subclasses__", "__getattribute__"))
"""Attributes by which a function gets at what it does not name."""
BY_TEXT = frozenset(("__dict__", "dir", "getattr", "hasattr"))
"""Names with which a module can be asked for a variable that is not named."""
READING = frozenset(
    (
        *("DataSource", "fromfile", "fromregex", "genfromtxt", "hb_read", "load", "load_npz"),
        *("loadmat", "loadtxt", "memmap", "mmread", "open_memmap", "readsav"),
    )
)
"""Functions of NumPy and SciPy that read files."""
PLAIN = frozenset((int, bool, str, bytes, type(None), type(...), type(NotImplemented)))
CACHED = type(cache(len))
PARTS: dict[type, tuple[str, ...]] = {
    MethodType: ("__func__", "__self__"),
    partial: ("func", "args", "keywords"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    cached_property: ("func",),
}
"""What objects of these classes are made of."""
DESCRIPTIVE = frozenset(
    (
        *("__module__", "__dict__", "__weakref__", "__doc__", "__annotations__"),
        *("__dataclass_fields__", "__dataclass_params__", "__abstractmethods__", "_abc_impl"),
        *("__orig_bases__", "__repr__"),
    )
)
"""Attributes of a class that say what it is and are not used by its functions."""
IMPORT = "IMPORT_NAME"


class Unknown(Exception):
    """What a function reads cannot be told."""


class Reads:
    """What a function or method reads, as facts that are equal if it is the same.

    Objects that are told apart by identity are held, so that no other one takes their place.
    """

    def __init__(self, function: Any) -> None:
        self.facts: list[Any] = []
        self.held: dict[int, Any] = {}
        self.names: dict[str, None] = {}
        """All names in all functions: what any of them may ask of a module that it is given."""
        self.modules: list[ModuleType] = []
        if type(function) is MethodType:  # an object of its own each time
            self.values(function.__func__, function.__self__)
        else:
            self.value(function)
        self.look_into_modules()

    def value(self, x: Any) -> None:
        kind = type(x)
        if kind in PLAIN:
            self.facts.append((kind, x))
        elif kind in (float, complex, range):
            self.facts.append((kind, repr(x)))
        elif self.identity(x):
            self.content(kind, x)

    def identity(self, x: Any) -> bool:
        """Whether an object is met for the first time."""
        self.facts.append(id(x))
        if id(x) in self.held:
            return False
        if len(self.facts) > MOST:
            raise Unknown
        self.held[id(x)] = x
        return True

    def content(self, kind: type, x: Any) -> None:
        if kind is FunctionType:
            self.function(x)
        elif kind is np.ndarray:
            self.array(x)
        elif kind in (tuple, list, dict, set, frozenset) and len(x) > MOST:
            raise Unknown
        elif kind in (set, frozenset) and all(type(item) in PLAIN for item in x):
            self.facts.append(frozenset((type(item), item) for item in x))
        elif kind in (tuple, list):
            self.values(len(x), *x)
        elif kind is dict:
            self.values(len(x), *x, *x.values())
        elif isinstance(x, np.generic):
            self.facts.append(x.tobytes())
        elif kind is BuiltinFunctionType:
            self.builtin(x)
        elif isinstance(x, type):
            self.type(x)
        elif kind is CACHED:
            self.cached(x)
        elif kind in PARTS:
            self.values(*(getattr(x, part) for part in PARTS[kind]))
        elif kind.__module__.startswith("tracegrad."):
            self.own(x)
        elif isinstance(x, np.dtype):
            return
        elif is_compiled(kind):
            unread(x)
        elif isinstance(x, tuple) and kind.__basicsize__ == tuple.__basicsize__:
            self.values(kind, *x)
        elif is_plain(x):
            self.value(kind)
            self.variables(unmarked(x))
        elif not (is_standard(kind.__module__) and hasattr(kind, "__get__")):
            raise Unknown

    def values(self, *items: Any) -> None:
        for item in items:
            self.value(item)

    def array(self, x: np.ndarray) -> None:
        if x.dtype.hasobject:
            raise Unknown
        digest = hashlib.sha256(np.ascontiguousarray(x).view(np.uint8).reshape(-1).data).digest()
        self.facts.append((x.shape, x.strides, x.dtype, digest))

    def function(self, f: FunctionType) -> None:
        self.values(f.__defaults__, f.__kwdefaults__, *map(contents, f.__closure__ or ()))
        self.variables(unmarked(f))
        space = f.__globals__
        home = space.get("__name__")  # `functools.wraps` copies `__module__`
        if is_constant(home):
            unread(f)
            return
        if is_standard(home):
            raise Unknown
        found = looked_up(f.__code__)
        if found.hidden:
            raise Unknown
        self.facts.append(f.__code__)
        self.names |= found.names
        self.variables({name: space[name] for name in found.names if name in space})
        if any(name not in space for name in found.names.keys() & IMPURE):
            raise Unknown
        # What was not imported yet is found the next time.
        modules = {name: sys.modules[name] for name in found.imports if name in sys.modules}
        self.variables(modules)

    def variables(self, named: dict[str, Any]) -> None:
        self.facts.append(len(named))
        for name, item in named.items():
            self.variable(name, item)

    def variable(self, name: str, x: Any) -> None:
        """What a name stands for."""
        if type(x) is not ModuleType:
            self.facts.append(name)
            self.value(x)
        elif not is_constant(x.__name__):
            self.facts.append(name)
            if is_standard(x.__name__):
                raise Unknown
            if self.identity(x):
                self.modules.append(x)

    def look_into_modules(self) -> None:
        """The variables of the user's modules that have names which occur anywhere: any function
        may be given a module and ask for one of its own."""
        seen: set[tuple[int, str]] = set()
        while True:
            names = ("__getattr__", *self.names) if self.modules else ()
            if not BY_TEXT.isdisjoint(names):
                raise Unknown
            new = {(id(m), name): m for m in self.modules for name in names if name in vars(m)}
            if new.keys() <= seen:
                return
            for (number, name), module in new.items():
                if (number, name) not in seen:
                    seen.add((number, name))
                    self.variable(name, vars(module)[name])

    def cached(self, x: Any) -> None:
        """A function with a cache: what it returned before may be of what it read then, so it may
        read nothing that changes."""
        f = x.__wrapped__
        if type(f) is not FunctionType or f.__closure__ or f.__kwdefaults__:
            raise Unknown
        mentioned = looked_up(f.__code__)
        used = [f.__globals__[name] for name in mentioned.names if name in f.__globals__]
        used += [sys.modules.get(name) for name in mentioned.imports]
        modules = all(type(item) is ModuleType and is_constant(item.__name__) for item in used)
        if not modules or any(type(item) not in PLAIN for item in f.__defaults__ or ()):
            raise Unknown
        self.value(f)

    def builtin(self, x: Any) -> None:
        if x.__module__ == "builtins":
            if x.__name__ in IMPURE:
                raise Unknown
        elif x.__module__ is None:  # a method
            self.value(x.__self__)
        elif not is_constant(x.__module__):
            raise Unknown

    def type(self, x: type) -> None:
        if is_constant(x.__module__) or x.__module__ == "builtins":
            return
        if is_standard(x.__module__):
            raise Unknown
        self.values(type(x), *x.__mro__[1:])
        own = {name: item for name, item in unmarked(x).items() if name not in DESCRIPTIVE}
        if any(type(item) is MemberDescriptorType for item in own.values()):
            raise Unknown  # `__slots__` are not in the `__dict__`
        self.variables(own)

    def own(self, x: Any) -> None:
        """An object of ours: a traced function, or one with rules that are functions."""
        if is_traced(x):
            self.value(x.python)
            return
        if isinstance(x, ArrayMethods) or not hasattr(x, "__dict__"):
            raise Unknown
        for item in list(vars(x).values()):
            if type(item) is FunctionType or is_traced(item):
                self.value(item)


def unmarked(x: Any) -> dict[str, Any]:
    """The attributes of an object, without those of this module."""
    # Copied: another thread may be about to share something.
    return {name: item for name, item in vars(x).copy().items() if not name.startswith(MARK)}


def unread(function: Any) -> None:
    """A function of NumPy's or SciPy's must not read a file."""
    if function.__name__ in READING:
        raise Unknown


class Plain:
    """An object of a class written in Python has the size of this one: nothing is hidden in it."""


def is_plain(x: Any) -> bool:
    """Whether all that an object holds is in its `__dict__`."""
    kind = type(x)
    size = kind.__basicsize__, kind.__itemsize__
    return size == (Plain.__basicsize__, 0) and hasattr(x, "__dict__")


def contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return NotImplemented


@dataclass(frozen=True)
class Mentioned:
    """What a function mentions, with those inside it."""

    names: dict[str, None]
    """Globals and attributes."""
    imports: tuple[str, ...]
    """Modules."""
    hidden: bool
    """Whether it looks where nobody sees what for."""


@cache
def looked_up(code: CodeType) -> Mentioned:
    names, imports = dict.fromkeys(code.co_names), dict.fromkeys(imported(code))
    hidden = None in imports or not (REFLECTIVE | READING).isdisjoint(names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = looked_up(constant)
            names |= inner.names
            imports |= dict.fromkeys(inner.imports)
            hidden |= inner.hidden
    return Mentioned(names, tuple(name for name in imports if name), hidden)


def imported(code: CodeType) -> list[str | None]:
    """The modules that a function imports; None for one by a relative name."""
    steps = [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]
    found: list[str | None] = []
    for number, step in enumerate(steps):
        if step.opname == IMPORT:  # its level, what is taken from it, and its name
            found.append(None if steps[number - 2].argval else step.argval)
            while found[-1] and "." in found[-1]:  # `import a.b` gives a
                found.append(found[-1].rpartition(".")[0])
    return found


def is_traced(x: Any) -> bool:
    """Whether it is a traced function of ours (whose module is above this one)."""
    return type(x).__module__ == "tracegrad.function"


@cache
def is_compiled(kind: type) -> bool:
    """Whether objects of a class are functions of NumPy's, or of a compiler that has taken what
    they read for constant: `np.exp`, `np.mean`, what `numba.njit` makes."""
    package = kind.__module__.partition(".")[0]
    return kind in (np.ufunc, type(np.mean)) or (package == "numba" and hasattr(kind, "py_func"))


@cache
def is_constant(module: str | None) -> bool:
    return (module or "").partition(".")[0] in CONSTANT


@cache
def is_standard(module: str | None) -> bool:
    """Whether a module is Python's own: nobody knows what its functions look at."""
    return module != "__main__" and (module or "").partition(".")[0] in sys.stdlib_module_names
