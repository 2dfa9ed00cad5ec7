"""NumPy's, SciPy's and Python's functions as a traced function sees them, where these cannot do.

`np.zeros(n)` has no traced argument, so NumPy answers itself; `scipy.linalg.cho_solve` takes plain
arrays only, `math.exp` numbers. A function that names one of them is run with other globals while
it is traced: in them `np`, `math`, `scipy.special` and `scipy.linalg` are modules that look like
these. The same goes for functions of the user's own that it calls by name. Nothing is changed for
anybody else.

    out = np.zeros(3)  ->  an array that can hold traced values (tracegrad.pyflow.stand_ins)
"""

from __future__ import annotations

import dis
import functools
import sys
import sysconfig
from collections.abc import Callable, Iterator
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

from tracegrad.pyflow.builtin import STANDING
from tracegrad.pyflow.stand_ins import REPLACED, Stated
from tracegrad.tracing.source import is_user_file


class Module(ModuleType):
    """A module with some functions replaced; whatever else it is asked for is the module's own."""

    def __init__(self, module: ModuleType) -> None:
        super().__init__(module.__name__, module.__doc__)
        for name, replace in REPLACED.get(module.__name__, {}).items():
            setattr(self, name, replace(getattr(module, name)))
        self._module = module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.__dict__["_module"], name)
        return stand_in(found) if isinstance(found, ModuleType) else found


@functools.cache
def _module(name: str) -> Module:
    return Module(sys.modules[name])


def stand_in(value: Any) -> Any:
    """A module, or a function of it, that a traced function sees in its place; else the value."""
    if isinstance(value, ModuleType):
        known = value.__name__ in REPLACED or value.__name__ == "scipy"
        return _module(value.__name__) if known and not isinstance(value, Module) else value
    if type(value).__module__.startswith("scipy.stats"):
        return distribution(value)
    name = getattr(value, "__name__", "")
    if isinstance(name, str) and name in _NAMES and callable(value):
        for module, names in REPLACED.items():
            loaded = sys.modules.get(module)
            if name in names and getattr(loaded, name, None) is value:
                return getattr(_module(module), name)
    return value


def distribution(value: Any) -> Any:
    """What stands in for a distribution of `scipy.stats`, also one with its parameters given."""
    base = getattr(value, "dist", value)
    name = getattr(base, "name", "")
    if name not in REPLACED["scipy.stats"]:
        return value
    return Stated(base, value.args, value.kwds) if base is not value else Stated(value)


_NAMES = frozenset(name for names in REPLACED.values() for name in names)
_LIBRARIES = tuple({sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")})


Rewrite = Callable[[FunctionType], FunctionType]


class World:
    """The functions that one traced function leads to, with the modules that they are to see."""

    def __init__(self, rewrite: Rewrite = lambda function: function) -> None:
        """`rewrite`: what the functions that it calls by name become, their control flow."""
        self._rewrite = functools.cache(rewrite)
        self._made: dict[FunctionType, FunctionType] = {}
        self._globals: dict[int, dict[str, Any]] = {}
        self._needy: dict[FunctionType, bool] = {}

    def of(self, function: FunctionType) -> FunctionType:
        """The function as it is traced: itself if it names nothing that is replaced."""
        if not self._needs(function):
            return function
        if function in self._made:
            return self._made[function]
        before = function.__globals__
        names = self._globals.setdefault(id(before), dict(before))
        cells = function.__closure__
        closure = None if cells is None else tuple(map(self._cell, cells))
        made = FunctionType(
            function.__code__, names, function.__name__, function.__defaults__, closure
        )
        made.__kwdefaults__ = function.__kwdefaults__
        made.__dict__.update(function.__dict__)
        made.__qualname__, made.__module__ = function.__qualname__, function.__module__
        made.__doc__, made.__annotations__ = function.__doc__, function.__annotations__
        self._made[function] = made
        named = set(code_names(function.__code__))
        for name in named & before.keys():
            names[name] = self._seen(before[name])
        for name in named & STANDING.keys():
            names.setdefault(name, STANDING[name])
        for cell, new in zip(cells or (), closure or (), strict=True):
            if new is not cell:
                new.cell_contents = self._seen(content(cell))
        return made

    def _seen(self, value: Any) -> Any:
        return self.of(self._rewrite(value)) if is_users(value) else stand_in(value)

    def _cell(self, cell: CellType) -> CellType:
        """A variable of the function around: shared, unless it is to hold something else."""
        value = content(cell)
        users = is_users(value)
        needs = self._needs_anew(value) if users else stand_in(value) is not value
        return CellType() if needs else cell

    def _needs_anew(self, function: FunctionType) -> bool:
        """The same for a function that another one names: its control flow may be rewritten."""
        return self._rewrite(function) is not function or self._needs(function)

    def _needs(self, function: FunctionType) -> bool:
        """Whether the function, or one that it names, names something that is replaced."""
        if function in self._needy:
            return self._needy[function]
        self._needy[function] = False  # for a function that leads to itself
        names = set(code_names(function.__code__))
        values = [function.__globals__[name] for name in names if name in function.__globals__]
        values += [content(cell) for cell in function.__closure__ or ()]
        stood_in = bool(names & STANDING.keys() - function.__globals__.keys())
        found = not writes_globals(function.__code__) and (
            stood_in
            or any(
                self._needs_anew(value) if is_users(value) else replaces(value, names)
                for value in values
            )
        )
        self._needy[function] = found
        return found


def replaces(value: Any, names: set[str]) -> bool:
    """Whether one of the names means something else in this module, or the function does."""
    if isinstance(value, ModuleType):
        parts = REPLACED if value.__name__ == "scipy" else (value.__name__,)
        return any(names & REPLACED.get(part, {}).keys() for part in parts)
    return stand_in(value) is not value


def is_users(value: Any) -> bool:
    """Whether it is a Python function of the user's own."""
    if not isinstance(value, FunctionType):
        return False
    file = value.__code__.co_filename
    return is_user_file(file) and not file.startswith(_LIBRARIES)


def content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def code_names(code: CodeType) -> Iterator[str]:
    """Every global and attribute that a function and those nested in it name."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_names(constant)


def writes_globals(code: CodeType) -> bool:
    """Whether a function sets globals: these have to be the module's."""
    if any(i.opname in ("STORE_GLOBAL", "DELETE_GLOBAL") for i in dis.get_instructions(code)):
        return True
    return any(writes_globals(part) for part in code.co_consts if isinstance(part, CodeType))
