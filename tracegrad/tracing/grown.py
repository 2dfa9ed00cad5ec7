"""Lists that grew in a compiled loop: the items as one stacked array.

ys = [a]
for i in tg.range(n): ys.append(f(i))     ->     ys: a Grown of f64[n + 1], items along axis 0
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tracegrad.errors import TraceError
from tracegrad.ops.op import PUBLIC, as_operand, type_of
from tracegrad.tracing.size import pinned


class Grown(list):
    """A list of arrays of one type, `stacked`. `np.stack` of it is that array; to take its items
    one by one, or its length, makes this length a constant of the version.
    """

    __tree_kind__ = list

    def __init__(self, stacked: Any) -> None:
        super().__init__()
        self.stacked = stacked

    def __len__(self) -> int:
        return 1 if _is_asked_by_numpy() else pinned(type_of(self.stacked).shape[0])

    def __iter__(self) -> Iterator[Any]:
        if _is_asked_by_numpy():
            return iter((self.stacked,))
        return (self.stacked[k] for k in range(len(self)))

    def __reversed__(self) -> Iterator[Any]:
        return (self.stacked[k] for k in reversed(range(len(self))))

    def __getitem__(self, key: Any) -> Any:
        found = self.stacked[key]
        return Grown(found) if isinstance(key, slice) else found

    def __add__(self, other: Any) -> list[Any]:
        return [*self, *other]

    def __radd__(self, other: Any) -> list[Any]:
        return [*other, *self]

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment]

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return func(*map(_as_array, args), **{k: _as_array(v) for k, v in kwargs.items()})

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return getattr(ufunc, method)(*map(_as_array, inputs), **kwargs)

    def __repr__(self) -> str:
        return f"<list of the items of {self.stacked!r}>"

    def append(self, item: Any) -> None:
        self.stacked = joined(self.stacked, [item])

    def extend(self, items: Any) -> None:
        more = items.stacked if isinstance(items, Grown) else None
        if more is None:
            self.stacked = joined(self.stacked, list(items))
        else:
            self.stacked = PUBLIC["concatenate"]((self.stacked, more))

    def __iadd__(self, items: Any) -> Grown:
        self.extend(items)
        return self

    def copy(self) -> Grown:
        return Grown(self.stacked)

    def reverse(self) -> None:
        self.stacked = self.stacked[::-1]

    def pop(self, index: Any = -1) -> Any:
        if operator.index(index) != -1:
            raise _unknown("pop")(self)
        last, self.stacked = self.stacked[-1], self.stacked[:-1]
        return last


def _is_asked_by_numpy() -> bool:
    """Whether NumPy takes the items of a list: it looks for a type to dispatch on, and any one item
    has it.
    """
    module = sys._getframe(2).f_globals.get("__name__", "")
    return module.partition(".")[0] == "numpy"


def _as_array(value: Any) -> Any:
    return value.stacked if isinstance(value, Grown) else value


def _unknown(name: str) -> Callable[..., Any]:
    def method(self: Grown, *args: Any, **kwargs: Any) -> Any:
        raise TraceError(
            f"{name} of a list that grew in a compiled loop: make a plain one of it, list(ys), or "
            "an array, np.stack(ys)"
        )

    return method


for _name in ("insert", "remove", "clear", "index", "count", "sort"):
    setattr(Grown, _name, _unknown(_name))
for _name in ("__setitem__", "__delitem__", "__contains__", "__mul__", "__rmul__", "__imul__"):
    setattr(Grown, _name, _unknown(_name.strip("_")))


def joined(stacked: Any, items: list[Any], front: bool = False) -> Any:
    """A stacked array with further items behind it, or in front."""
    if not items:
        return stacked
    more = PUBLIC["stack"]([as_operand(item) for item in items])
    return PUBLIC["concatenate"]((more, stacked) if front else (stacked, more))


class Moved:
    """What is left in a list that became a `Grown`, for those who hold it by another name."""

    def __repr__(self) -> str:
        return "<the items of this list went to the variable that a compiled loop appended to>"
