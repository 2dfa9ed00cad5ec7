"""The variables of a traced function that a branch or loop sets: their cells, values and types.

A rewritten part is a function that shares these variables with the function around it through the
cells of its closure. To trace a part: put stand-ins into the cells, run it, read the cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import CellType
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.autodiff.derived import as_traced
from tracegrad.control.body import values_of
from tracegrad.errors import TraceError
from tracegrad.ir.dims import must_be_same
from tracegrad.ir.graph import Node
from tracegrad.ir.types import ArrayType
from tracegrad.leaves import is_leaf
from tracegrad.tracing.array import Traced
from tracegrad.tracing.grown import Grown
from tracegrad.tracing.outside import is_shared
from tracegrad.tracing.trace import Trace
from tracegrad.tree import Tree, flatten, unflatten

Part = Callable[..., Any]


class Missing:
    """What a variable holds that has no value yet."""

    def __repr__(self) -> str:
        return "<no value yet>"


MISSING = Missing()
OWN = "tg__"
"""How the variables begin that the rewriting made: they are set where they are read."""


@dataclass(eq=False)
class Variable:
    """A variable that a part assigns: where, whether by more than `+=`, whether it is needed
    behind the statement, and before its parts."""

    name: str
    line: int
    plain: bool
    behind: bool
    read: bool
    cell: CellType

    @property
    def value(self) -> Any:
        return content(self.cell)

    @value.setter
    def value(self, value: Any) -> None:
        if value is not MISSING:
            self.cell.cell_contents = value
        elif content(self.cell) is not MISSING:
            del self.cell.cell_contents


def content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def cells(parts: Sequence[Part]) -> dict[str, CellType]:
    """The variables that the parts share with the function around them."""
    return {
        name: cell
        for part in parts
        for name, cell in zip(part.__code__.co_freevars, part.__closure__ or (), strict=True)
    }


def variables(parts: Sequence[Part], rows: Sequence[tuple[Any, ...]]) -> list[Variable]:
    known = cells(parts)
    return [Variable(*row, cell=known[row[0]]) for row in rows]


def written_arrays(
    trace: Trace, parts: Sequence[Part], rows: Sequence[Variable], changed: Sequence[Any]
) -> list[Traced]:
    """The arrays from outside that the parts write into, as far as their text shows it: of
    `out[i] = v`, and of `out += v` if `out` is an array.

    A plain NumPy array in a local variable becomes one of the program.
    """
    known, found = cells(parts), []
    for name, _, local in changed:
        cell = known.get(name)
        value = parts[0].__globals__.get(name) if cell is None else content(cell)
        alone = isinstance(value, np.ndarray) and not is_shared(value, name)
        if local and cell is not None and alone:
            value = cell.cell_contents = as_traced(trace, value)
        if isinstance(value, Traced):
            found.append(value.root)
    for row in rows:
        if not row.plain and isinstance(row.value, np.ndarray) and row.value.ndim:
            row.value = row.value if is_shared(row.value, row.name) else as_traced(trace, row.value)
        if not row.plain and isinstance(row.value, Traced) and row.value.type.rank:
            found.append(row.value.root)
    return [root for root in dict.fromkeys(found) if not root.is_argument]


def containers(parts: Sequence[Part], changed: Sequence[Any]) -> list[Variable]:
    """The lists and dicts from outside that the parts change, `state["h"] = v`: they are carried
    like variables.
    """
    known = cells(parts)
    return [
        Variable(name, line, True, True, True, known[name])
        for name, line, _ in changed
        if name in known and isinstance(content(known[name]), list | dict)
    ]


def growing(body: Part, rows: Sequence[tuple[str, int]]) -> list[Variable]:
    """The lists from outside of a loop that its body appends to, equally often in each step."""
    known = cells((body,))
    found = []
    for name, line in rows:
        cell = known.get(name)
        value = body.__globals__.get(name) if cell is None else content(cell)
        if cell is None and isinstance(value, list):
            raise TraceError(
                f"line {line}: the list {name} is a global, and would grow while the loop is "
                "traced: make it in the function"
            )
        if cell is not None and isinstance(value, list):
            found.append(Variable(name, line, True, True, True, cell))
    return found


_collected: ContextVar[dict[int, list[Any]] | None] = ContextVar("collected", default=None)
"""What the step of a loop that is being traced appends to lists from outside, by their ids."""


@contextmanager
def collecting(lists: Sequence[Variable]) -> Iterator[list[list[Any]]]:
    """Within, what is appended to these lists goes to the ones given."""
    found: list[list[Any]] = [[] for _ in lists]
    own = {id(row.value): items for row, items in zip(lists, found, strict=True)}
    token = _collected.set((_collected.get() or {}) | own)
    try:
        yield found
    finally:
        _collected.reset(token)


def collected(values: Any) -> list[Any] | None:
    """Where what is appended to a list goes, if a loop around is being traced that it is from
    outside of."""
    return (_collected.get() or {}).get(id(values))


def append(values: Any, item: Any) -> None:
    """`values.append(item)`"""
    found = collected(values)
    (values if found is None else found).append(item)


def extend(values: Any, items: Any) -> None:
    """`values.extend(items)`"""
    found = collected(values)
    if found is None:
        values.extend(items)
    else:
        found += [Several(items)] if isinstance(items, Grown) else items


@dataclass(frozen=True)
class Several:
    """The items of a list that grew, appended to another."""

    items: Grown


def copied(value: Any) -> Any:
    """A container anew, with the same leaves."""
    pairs, tree = labelled("", value)
    return unflatten(tree, iter([leaf for _, leaf in pairs]))


def put_back(row: Variable, before: Any, after: Any) -> None:
    """A variable's new value; a container that was changed stays the same object."""
    row.value = after
    if isinstance(before, dict) and isinstance(after, dict):
        before.clear()
        before.update(after)
        row.value = before
    elif isinstance(before, list) and isinstance(after, list):
        before[:] = after
        row.value = before


def labelled(name: str, value: Any) -> tuple[list[tuple[str, Any]], Tree]:
    """The leaves of a variable's value with names, and its structure; numbers are values."""
    found: list[tuple[str, Any]] = []
    tree = flatten(name, value, lambda x: is_leaf(x) or isinstance(x, int), found)
    return found, tree


@contextmanager
def kept(rows: Sequence[Variable]) -> Iterator[None]:
    """Afterwards the variables hold again what they held before."""
    before = [row.value for row in rows]
    try:
        yield
    finally:
        for row, value in zip(rows, before, strict=True):
            row.value = value


_written: ContextVar[tuple[Traced, ...]] = ContextVar("written", default=())
"""The arrays from outside that the parts which are being traced write to."""


def is_written(value: Any) -> bool:
    """Whether it is such an array, or a view of one."""
    return isinstance(value, Traced) and any(value.root is root for root in _written.get())


@contextmanager
def lent(roots: Sequence[Traced], trace: Trace, nodes: Sequence[Node]) -> Iterator[None]:
    """Arrays from outside of a body stand for these nodes of it meanwhile."""
    before = [root.lend(trace, node) for root, node in zip(roots, nodes, strict=True)]
    token = _written.set((*_written.get(), *roots))
    try:
        yield
    finally:
        _written.reset(token)
        for root, (owner, node) in zip(roots, before, strict=True):
            root.lend(owner, node)


def refuse_side_effects(
    what: str, parts: Sequence[Part], refused: Sequence[tuple[str, int]]
) -> None:
    """Raise TraceError where a part changes Python objects from outside of it."""
    known = cells(parts)
    for name, line in refused:
        base = name.partition(".")[0]
        cell = known.get(base)
        value = parts[0].__globals__.get(base, MISSING) if cell is None else content(cell)
        if "." in name and value is not MISSING and not isinstance(value, Traced):
            raise TraceError(
                f"line {line}: {name} is set in {what} on traced values: an attribute of an object "
                "cannot change there; use a local variable, and set the attribute after it"
            )
        if isinstance(value, list | dict | set):
            kind = type(value).__name__
            raise TraceError(
                f"line {line}: the {kind} {base} changes its length in {what} on traced values: "
                f"make an array before, {base} = tg.zeros(n), and write {base}[i] = value; a list "
                "may grow by one append in each step of a loop that does not read it otherwise"
            )


def same_static(a: Any, b: Any) -> bool:
    """Whether two values are one and the same as Python sees it, so that nothing has to choose."""
    if a is b:
        return True
    if isinstance(a, Traced) or isinstance(b, Traced):
        return isinstance(a, Traced) and isinstance(b, Traced) and a.root is b.root is a
    plain = (int, float, str, bool, type(None))
    return type(a) is type(b) and isinstance(a, plain) and (a == b or a != a)


def unified(a: ArrayType, b: ArrayType) -> ArrayType | None:
    """The type that holds values of both: numbers take the dtype of arrays; None if there is
    none. Extents that are equal in this call are taken to be equal, by a guard."""
    if a.rank != b.rank or not all(map(must_be_same, a.shape, b.shape)):
        return None
    if a.dtype == b.dtype:
        return ArrayType(a.dtype, a.shape, a.weak and b.weak)
    if not (a.weak or b.weak) or "b" in (a.dtype.kind, b.dtype.kind):
        return None
    dtype = np.result_type(_example(a), _example(b))
    return ArrayType(np.dtype(dtype), a.shape, a.weak and b.weak)


def _example(type: ArrayType) -> Any:
    return type.dtype.type(0).item() if type.weak else type.dtype


__all__ = ["MISSING", "OWN", "Variable", "values_of"]
