"""`dataclass` as the standard library's, but a class costs nothing before it is used.

The standard decorator writes and compiles six methods for each class: 0.3 to 0.7 ms, for the 150
classes of a first call more than all the rest of loading their modules. Here it only finds the
fields; each method is written when it is called for the first time, and most never are:

    @dataclass(frozen=True)
    class Load:
        array: str
        index: tuple[Expr, ...]

    Load.__init__         a function that writes the one below, puts it in its place and calls it
    Load("x", ())         def __init__(self, array, index):
                              put(self, "array", array)
                              put(self, "index", index)

`fields`, `replace`, `is_dataclass`, `match` and inheritance are those of the standard library.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, field, fields
from functools import partial
from reprlib import recursive_repr
from typing import Any, TypeVar, dataclass_transform, overload

C = TypeVar("C", bound=type)


@overload
def dataclass(cls: C, /) -> C: ...


@overload
def dataclass(*, frozen: bool = False, eq: bool = True, init: bool = True) -> Callable[[C], C]: ...


@dataclass_transform(field_specifiers=(field,))
def dataclass(
    cls: Any = None, /, *, frozen: bool = False, eq: bool = True, init: bool = True
) -> Any:
    """The decorator; its options as in the standard library. What a class defines itself stays.

    >>> @dataclass(frozen=True)
    ... class Point:
    ...     x: float
    ...     y: float = 0.0
    >>> Point(1.0), Point(1.0) == Point(1.0, 0.0)
    (Point(x=1.0, y=0.0), True)
    """
    if cls is None:
        return partial(_made, frozen=frozen, eq=eq, init=init)
    return _made(cls, frozen=frozen, eq=eq, init=init)


def _made(cls: Any, *, frozen: bool, eq: bool, init: bool) -> Any:
    own = set(vars(cls))
    hashes = vars(cls).get("__hash__") is not None
    cls = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    if "__repr__" not in own:
        cls.__repr__ = _repr
    if init and "__init__" not in own:
        _later(cls, "__init__", _init)
    if eq and "__eq__" not in own:
        _later(cls, "__eq__", _eq)
    if eq and not hashes:
        if frozen:
            _later(cls, "__hash__", _hash)
        else:
            cls.__hash__ = None
    if frozen:
        _freeze(cls)
    return cls


@recursive_repr()
def _repr(self: Any) -> str:
    shown = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr)
    return f"{type(self).__qualname__}({shown})"


def _later(cls: Any, name: str, write: Callable[[Any], Callable[..., Any]]) -> None:
    """A method that is written at its first call."""

    def first(self: Any, *args: Any, **kwargs: Any) -> Any:
        method = write(cls)
        method.__qualname__ = f"{cls.__qualname__}.{name}"
        setattr(cls, name, method)
        return method(self, *args, **kwargs)

    first.__name__, first.__qualname__ = name, f"{cls.__qualname__}.{name}"
    setattr(cls, name, first)


def _init(cls: Any) -> Callable[..., Any]:
    objects: dict[str, Any] = {"put_": object.__setattr__, "missing_": MISSING}
    taken = [_parameter(f, objects) for f in fields(cls)]
    lines = [f"    put_(self, {f.name!r}, {_value(f)})" for f in fields(cls)]
    if hasattr(cls, "__post_init__"):
        lines.append("    self.__post_init__()")
    return _function(f"__init__({', '.join(['self', *taken])})", lines, objects)


def _parameter(f: Field[Any], objects: dict[str, Any]) -> str:
    if not f.init or f.kw_only:
        raise TypeError(f"{f.name}: fields without a place among the arguments are not supported")
    if f.default is not MISSING:
        objects[f"default_{f.name}_"] = f.default
        return f"{f.name}=default_{f.name}_"
    if f.default_factory is not MISSING:
        objects[f"make_{f.name}_"] = f.default_factory
        return f"{f.name}=missing_"
    return f.name


def _value(f: Field[Any]) -> str:
    if f.default_factory is MISSING:
        return f.name
    return f"make_{f.name}_() if {f.name} is missing_ else {f.name}"


def _eq(cls: Any) -> Callable[..., Any]:
    own, others = (_values(cls, who) for who in ("self", "other"))
    lines = [
        "    if other.__class__ is not self.__class__:",
        "        return NotImplemented",
        f"    return {own} == {others}",
    ]
    return _function("__eq__(self, other)", lines, {})


def _hash(cls: Any) -> Callable[..., Any]:
    return _function("__hash__(self)", [f"    return hash({_values(cls, 'self')})"], {})


def _values(cls: Any, who: str) -> str:
    """The text of the tuple of what is compared."""
    return f"({''.join(f'{who}.{f.name}, ' for f in fields(cls) if f.compare)})"


def _function(head: str, lines: list[str], objects: dict[str, Any]) -> Callable[..., Any]:
    found: dict[str, Any] = {}
    exec("\n".join([f"def {head}:", *(lines or ["    pass"])]), objects, found)
    return next(iter(found.values()))


def _freeze(cls: Any) -> None:
    """Instances refuse that a field is set or deleted; further attributes are for classes derived
    from this one."""
    names = frozenset(f.name for f in fields(cls))

    def __setattr__(self: Any, name: str, value: Any) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    cls.__setattr__, cls.__delattr__ = __setattr__, __delattr__
