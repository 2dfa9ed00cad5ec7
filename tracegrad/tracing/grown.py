"""Lists that grew in a compiled loop: the items as stacked arrays.

ys = [a]
for i in tg.range(n): ys.append(f(i))       ->     ys: a Grown of f64[n + 1], items along axis 0
for i in tg.range(n): ys.append((x, v))     ->     ys: a Grown of (f64[n, m], f64[n, m])
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tracegrad.errors import TraceError
from tracegrad.ops.op import PUBLIC, Bindable, SizeValue, as_operand, type_of
from tracegrad.tracing.array import Traced
from tracegrad.tracing.sharing import is_shared_within, link, may_be, twins
from tracegrad.tracing.size import pinned
from tracegrad.tree import Tree, flatten, unflatten

Structure = tuple[Tree, tuple["Structure | None", ...]]
"""A tree, and for each of its leaves the structure of its items if it is a `Grown`."""


class Grown(list):
    """A list of items of one structure, `stacked`: an item with stacked arrays for arrays.
    `np.stack` of it is that array; to take its items one by one, or its length, makes this length
    a constant of the version.
    """

    __tree_kind__ = list

    def __init__(self, stacked: Any) -> None:
        super().__init__()
        self.stacked = stacked

    @property
    def extent(self) -> Any:
        """How many items there are."""
        return type_of(parts(self.stacked)[0][0]).shape[0]

    def item(self, key: Any) -> Any:
        """The item at a place, also a traced one; for a slice these items, stacked."""
        return _changed(lambda array: array[key], self.stacked)

    def __len__(self) -> int:
        return 1 if _is_asked_by_numpy() else pinned(self.extent)

    def __iter__(self) -> Iterator[Any]:
        if _is_asked_by_numpy():
            return iter((self.array(),))
        return (self.item(k) for k in range(len(self)))

    def __reversed__(self) -> Iterator[Any]:
        return (self.item(k) for k in reversed(range(len(self))))

    def __getitem__(self, key: Any) -> Any:
        found = self.item(key)
        return Grown(found) if isinstance(key, slice) else found

    def array(self) -> Any:
        """What `np.array` makes of the list: a new array."""
        one = _as_one(self.stacked, 1)
        return Traced(one._trace, one.node)

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
        self.extend([item])

    def extend(self, items: Any) -> None:
        if not isinstance(items, Grown):
            items = [*items]
            if not items:
                return
            items = Grown(stacked_items(items))
        self.stacked = joined(self.stacked, items.stacked)

    def __iadd__(self, items: Any) -> Grown:
        self.extend(items)
        return self

    def copy(self) -> Grown:
        return Grown(self.stacked)

    def reverse(self) -> None:
        self.stacked = self.item(slice(None, None, -1))

    def pop(self, index: Any = -1) -> Any:
        if operator.index(index) != -1:
            raise _unknown("pop")(self)
        last, self.stacked = self.item(-1), self.item(slice(None, -1))
        return last


def _is_asked_by_numpy() -> bool:
    """Whether NumPy takes the items of a list: it looks for a type to dispatch on, and any one item
    has it.
    """
    module = sys._getframe(2).f_globals.get("__name__", "")
    return module.partition(".")[0] == "numpy"


def _as_array(value: Any) -> Any:
    return value.array() if isinstance(value, Grown) else value


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


LEAVES = (Grown, Bindable, SizeValue, np.ndarray, np.generic, int, float, complex)
"""What is stacked; everything else is structure."""


def parts(value: Any) -> tuple[list[Any], Structure]:
    """The arrays and numbers of an item, and its structure."""
    found: list[tuple[str, Any]] = []
    tree = flatten("", value, lambda x: isinstance(x, LEAVES), found)
    leaves: list[Any] = []
    inner: list[Structure | None] = []
    for _, leaf in found:
        more, structure = parts(leaf.stacked) if isinstance(leaf, Grown) else ([leaf], None)
        leaves += more
        inner.append(structure)
    return leaves, (tree, tuple(inner))


def rebuilt(structure: Structure, leaves: Iterator[Any]) -> Any:
    """The item of that structure with these leaves, taken in order."""
    tree, inner = structure
    made = (next(leaves) if x is None else Grown(rebuilt(x, leaves)) for x in inner)
    return unflatten(tree, iter(tuple(made)))


def _changed(function: Callable[[Any], Any], value: Any) -> Any:
    leaves, structure = parts(value)
    return rebuilt(structure, map(function, leaves))


def stacked_items(items: list[Any]) -> Any:
    """One item with the arrays of these stacked; they have to be alike."""
    found = [parts(item) for item in items]
    structure = found[0][1]
    if any(other != structure for _, other in found):
        other = next(item for item in items if parts(item)[1] != structure)
        raise _unlike(items[0], other)
    columns = zip(*(leaves for leaves, _ in found), strict=True)
    made = []
    for column in columns:
        made.append(PUBLIC["stack"]([as_operand(leaf) for leaf in column]))
        share(made[-1], [x for x in map(root_of, column) if x is not None])
    return rebuilt(structure, iter(made))


def root_of(value: Any) -> Traced | None:
    """The array whose memory a value is; None for numbers."""
    return value.root if isinstance(value, Traced) and value.type.rank else None


def share(made: Any, roots: Sequence[Traced], again: bool = False) -> None:
    """The items in an array are of these arrays' memory, some of them twice if `again`."""
    if isinstance(made, Traced) and roots:
        several = {id(root) for root in roots}
        again |= len(several) < len(roots) or any(
            id(other) in several for root in roots for other in twins(root)[1:] if other is not root
        )
        may_be(made, roots)
        if again:
            link(made, made)


def joined(first: Any, then: Any) -> Any:
    """Stacked items behind others."""
    (a, structure), (b, other) = parts(first), parts(then)
    if structure != other:
        raise _unlike(_changed(lambda x: x[0], first), _changed(lambda x: x[0], then))
    made = []
    for column in zip(a, b, strict=True):
        made.append(PUBLIC["concatenate"](column))
        roots = [array.root for array in column]
        share(made[-1], roots, any(map(is_shared_within, roots)))
    return rebuilt(structure, iter(made))


def _unlike(first: Any, then: Any) -> TraceError:
    return TraceError(
        f"a list grows in a compiled loop, with unlike items, {_kind(first)} and {_kind(then)}: "
        "all have to be alike, such as arrays of one shape, or tuples of these"
    )


def _kind(item: Any) -> str:
    if isinstance(item, dict):
        return f"a dict of {', '.join(map(repr, item))}"
    if isinstance(item, tuple | list) and not isinstance(item, Grown):
        return f"a {type(item).__name__} of {len(item)}"
    return "a list that grew" if isinstance(item, Grown) else "an array or number"


def _as_one(stacked: Any, axes: int) -> Any:
    """Stacked items as one array, `axes` of whose axes count items."""
    match stacked:
        case Grown():
            return _as_one(stacked.stacked, axes + 1)
        case list() | tuple():
            return PUBLIC["stack"]([_as_one(part, axes) for part in stacked], axis=axes)
        case dict():
            raise TraceError(
                f"a list of dicts with {', '.join(map(repr, stacked))} is no array: take one entry "
                "of each item, [item[...] for item in items]"
            )
    return stacked


class Moved:
    """What is left in a list that became a `Grown`, for those who hold it by another name."""

    def __repr__(self) -> str:
        return "<the items of this list went to the variable that a compiled loop appended to>"
