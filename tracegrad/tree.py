"""Pytrees: nested tuples, lists, dicts and dataclasses of leaves, flattened with a name per leaf.

flatten("params", {"w": w, "b": [b0, b1]})  ->  leaves w, b0, b1 named params_w, params_b_0,
params_b_1
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from codegen.records import dataclass
from tracegrad.errors import TracegradError


@dataclass(frozen=True)
class Leaf:
    """The place of one array."""


@dataclass(frozen=True)
class Static:
    """A value that is part of the structure: an int, a string, None, a function."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and (
            type(self.value) is type(other.value) and bool(self.value == other.value)
        )

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))


@dataclass(frozen=True)
class Branch:
    """A container: `kind` makes it again from `children`, `keys` names them."""

    kind: type
    keys: tuple[Any, ...]
    children: tuple[Tree, ...]


Tree = Leaf | Static | Branch
LEAF = Leaf()


def flatten(
    name: str, value: Any, is_leaf: Callable[[Any], bool], leaves: list[tuple[str, Any]]
) -> Tree:
    """The structure of `value`; its leaves are appended to `leaves` with their names."""
    if is_leaf(value):
        leaves.append((name, value))
        return LEAF
    keys, items = _parts(value)
    if keys is None:
        if hasattr(type(value), "__array__"):  # of pandas, another library of arrays
            raise TypeError(
                f"{_called(name)} is a {type(value).__name__}, which is no NumPy array: pass "
                f"np.asarray({name if name.isidentifier() else '...'})"
            )
        try:
            hash(value)
        except TracegradError:
            raise
        except TypeError:
            raise TypeError(
                f"{_called(name)} is a {type(value).__name__}, which is neither an array, a "
                "number, nor a tuple, list, dict or dataclass of these"
            ) from None
        return Static(value)
    children = tuple(
        flatten(_joined(name, key), item, is_leaf, leaves)
        for key, item in zip(keys, items, strict=True)
    )
    return Branch(getattr(value, "__tree_kind__", type(value)), tuple(keys), children)


def _called(name: str) -> str:
    return f"argument {name}" if name.isidentifier() else "one of the arguments or results"


def _joined(name: str, key: Any) -> str:
    """`params["conv 1"]` is called `params_conv_1`."""
    part = re.sub(r"\W", "_", str(key))
    return f"{name}_{part}" if name else part


def _parts(value: Any) -> tuple[list[Any] | None, list[Any]]:
    if isinstance(value, dict):
        return list(value.keys()), list(value.values())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(value._fields), list(value)  # type: ignore[attr-defined]
    if isinstance(value, list | tuple):
        return list(range(len(value))), list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return names, [getattr(value, name) for name in names]
    return None, []


def unflatten(tree: Tree, leaves: Iterator[Any]) -> Any:
    """The value of that structure with these leaves, taken in order."""
    match tree:
        case Leaf():
            return next(leaves)
        case Static(value):
            return value
    items = [unflatten(child, leaves) for child in tree.children]
    if issubclass(tree.kind, dict):
        given = dict(zip(tree.keys, items, strict=True))  # a Counter would count pairs
        return tree.kind(None, given) if issubclass(tree.kind, defaultdict) else tree.kind(given)
    if issubclass(tree.kind, list | tuple) and not hasattr(tree.kind, "_fields"):
        return tree.kind(items)
    if hasattr(tree.kind, "_fields"):
        return tree.kind(*items)
    return tree.kind(**dict(zip(tree.keys, items, strict=True)))


def of_derivative(tree: Tree) -> Tree:
    """The structure of a derivative in values of this structure: what is static has none, None;
    what is static in a dataclass belongs to its kind, and stays."""
    match tree:
        case Static():
            return Static(None)
        case Branch(kind, keys, children):
            fixed = dataclasses.is_dataclass(kind)
            parts = (x if fixed and isinstance(x, Static) else of_derivative(x) for x in children)
            return Branch(kind, keys, tuple(parts))
    return tree


def aligned(tree: Tree, value: Any, is_leaf: Callable[[Any], bool], name: str) -> list[Any]:
    """What `value` has in the place of each leaf of `tree`; None for a part that it leaves out.

    Dictionaries go by their keys, whatever their order. Raises TypeError, saying where in `name`
    the structures differ.
    """
    if value is None:
        return [None] * count_leaves(tree)
    match tree:
        case Leaf():
            if not (is_leaf(value) or isinstance(value, int)):
                raise TypeError(f"{name} is {_described(value)}, where an array is wanted")
            return [value]
        case Static():
            return []
    keys, items = (None, []) if is_leaf(value) else _parts(value)
    given = dict(zip(keys, items, strict=True)) if keys is not None else {}
    if keys is None or set(given) != set(tree.keys):
        wanted = _structure(tree.kind, tree.keys)
        found = _described(value)
        raise TypeError(f"{name} is {found}, where {wanted} is wanted")
    return [
        leaf
        for key, child in zip(tree.keys, tree.children, strict=True)
        for leaf in aligned(child, given[key], is_leaf, f"{name}[{key!r}]")
    ]


def _described(value: Any) -> str:
    keys, name = _parts(value)[0], type(value).__name__
    if keys is not None and not hasattr(value, "shape"):
        return _structure(type(value), keys)
    return "an array" if name in ("ndarray", "Traced") else f"a {name}"


def _structure(kind: type, keys: Sequence[Any]) -> str:
    """`a tuple of 2`, `a dict with 'w', 'b'`."""
    if issubclass(kind, list | tuple) and not hasattr(kind, "_fields"):
        return f"a {kind.__name__} of {len(keys)}"
    return f"a {kind.__name__} with {', '.join(map(repr, keys)) or 'nothing'}"


def statics(name: str, tree: Tree) -> Iterator[str]:
    """The static values of a structure with their names: `power=2`."""
    match tree:
        case Static(value):
            yield f"{name}={value!r}"
        case Branch(_, keys, children):
            for key, child in zip(keys, children, strict=True):
                yield from statics(f"{name}_{key}", child)


def count_leaves(tree: Tree) -> int:
    match tree:
        case Leaf():
            return 1
        case Static():
            return 0
    return sum(count_leaves(child) for child in tree.children)
