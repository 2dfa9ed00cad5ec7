"""Transforms made again of the same function share what was traced and compiled for it.

    for step in range(100):
        w -= 0.1 * tg.grad(loss)(w)      # traced once: the second `tg.grad(loss)` is the first one

In: a function, the options of a transform, a way to make it. Out: the transform, made anew or the
one made before. A trace takes what the function reads (globals, closure, defaults, also those of
functions that it calls) for constant, so that is compared by content first: if a number was
assigned to or an element of an array has changed, there is a new transform. Where the content
cannot be known (a generator, a clock, an object of a C extension), nothing is shared.

Transforms are kept in the `__dict__` of their function and go with it.
"""

from __future__ import annotations

import builtins
import hashlib
import sys
from collections.abc import Callable, Hashable
from functools import cache, cached_property, partial
from opcode import opmap
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodType,
    ModuleType,
)
from typing import Any, TypeVar
from weakref import ref

import numpy as np

from tracegrad.ops.operators import ArrayMethods
from tracegrad.tracing.trace import current_trace

Made = TypeVar("Made")

MARK = "__tracegrad__"
"""The attribute of a function that holds its transforms."""
MOST = 1000
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
PLAIN = frozenset((int, bool, str, bytes, type(None), type(...), type(NotImplemented), range))
PARTS: dict[type, tuple[str, ...]] = {
    MethodType: ("__func__", "__self__"),
    partial: ("func", "args", "keywords"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    cached_property: ("func",),
    type(cache(len)): ("__wrapped__",),
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
IMPORTS = opmap["IMPORT_NAME"]


class Unknown(Exception):
    """What a function reads cannot be told."""


class Shared:
    """The transforms of one function, valid while it reads what it read when they were made."""

    def __init__(self, owner: Any, reads: Reads) -> None:
        self.owner = ref(owner)
        self.reads = reads
        self.made: dict[Hashable, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # who stores a function by value stores no compiled code with it


def shared(fun: Any, options: Hashable, make: Callable[[], Made]) -> Made:
    """`make()`, or what it made for this function object and these options before."""
    known = known_of(fun) if current_trace() is None else None
    if known is None:
        return make()
    try:
        made = known.made.get(options)
    except TypeError:  # options such as a list of axes
        return make()
    if made is None:
        made = known.made[options] = make()
    return made


def known_of(fun: Any) -> Shared | None:
    """The transforms of a function as it is now; None if that cannot be told."""
    if not (type(fun) is FunctionType or is_traced(fun)):
        return None
    try:
        reads = Reads()
        reads.value(fun)
    except (Unknown, RecursionError):
        return None
    known = fun.__dict__.get(MARK)
    # `functools.wraps` copies the attributes of one function to another.
    if type(known) is not Shared or known.owner() is not fun or known.reads.facts != reads.facts:
        known = fun.__dict__[MARK] = Shared(fun, reads)
    return known


class Reads:
    """What a function reads, as facts that are equal if it is the same.

    Objects that are told apart by identity are held, so that no other one takes their place.
    """

    def __init__(self) -> None:
        self.facts: list[Any] = []
        self.held: dict[int, Any] = {}

    def value(self, x: Any) -> None:
        kind = type(x)
        if kind in PLAIN:
            self.facts.append((kind, x))
        elif kind in (float, complex):
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
        elif kind in PARTS:
            self.values(*(getattr(x, part) for part in PARTS[kind]))
        elif kind.__module__.startswith("tracegrad."):
            self.own(x)
        elif isinstance(x, np.dtype) or is_compiled(kind):
            return
        elif isinstance(x, tuple) and kind.__basicsize__ == tuple.__basicsize__:
            self.values(kind, *x)
        elif is_plain(x):
            self.values(kind, vars(x))
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
        self.values(*(item for name, item in f.__dict__.items() if name != MARK))
        space = f.__globals__
        home = space.get("__name__")  # `functools.wraps` copies `__module__`
        if is_constant(home):
            return
        if is_standard(home):
            raise Unknown
        names, imports = looked_up(f.__code__)
        self.facts.append(f.__code__)
        for name in names:
            if name in space:
                self.variable(space[name], names)
            elif name in vars(builtins):
                if name in IMPURE:
                    raise Unknown
            elif imports and name in sys.modules:
                self.variable(sys.modules[name], names)

    def variable(self, x: Any, names: tuple[str, ...]) -> None:
        """A global variable, read by code that mentions these names."""
        if type(x) is not ModuleType:
            self.value(x)
        elif is_constant(x.__name__) or not self.identity(x):
            return
        elif is_standard(x.__name__):
            raise Unknown
        else:
            space = vars(x)
            for name in names:
                if name in space:
                    self.variable(space[name], names)

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
        self.values(*x.__mro__[1:])
        self.values(*(item for name, item in vars(x).items() if name not in DESCRIPTIVE))

    def own(self, x: Any) -> None:
        """An object of ours: a traced function, or one with rules that are functions."""
        if is_traced(x):
            self.value(x.python)
            return
        if isinstance(x, ArrayMethods) or not hasattr(x, "__dict__"):
            raise Unknown
        for item in vars(x).values():
            if type(item) is FunctionType or is_traced(item):
                self.value(item)


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


@cache
def looked_up(code: CodeType) -> tuple[tuple[str, ...], bool]:
    """The globals and attributes named in a function and in those inside it; whether it imports."""
    names, imports = dict.fromkeys(code.co_names), IMPORTS in code.co_code[::2]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner, also = looked_up(constant)
            names |= dict.fromkeys(inner)
            imports |= also
    return tuple(names), imports


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
