"""Which elements of the results depend on which elements of the arguments: read off the graph.

    y = x[1:] - x[:-1], x: f64[4]    ->    row 0: columns 0, 1;  row 1: columns 1, 2;  row 2: 2, 3

Every value carries a boolean matrix, its elements by those of the arguments, and the operations
combine the rows. The pattern is structural: `0 * x` depends on x, both branches of a `where` count.
What does not depend on the arguments is computed, so that indices are known; where an index itself
depends on them, any element may be meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from codegen.records import dataclass
from tracegrad.control.branch import BRANCH
from tracegrad.control.loop import LOOP
from tracegrad.control.repeat import REPEAT
from tracegrad.errors import UnsupportedError
from tracegrad.ir.dims import Size, evaluate, symbols
from tracegrad.ir.graph import (
    Graph,
    Node,
    all_nodes,
    attr_sizes,
    bodies,
    reachable,
    substitute_attrs,
)
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.ops.bounds import CHECKED
from tracegrad.ops.constant import BOUND
from tracegrad.ops.gathering import GATHER, GATHER_AT, SCATTER_ADD, SCATTER_SET
from tracegrad.ops.matmul import DOT, MATMUL
from tracegrad.ops.project import PROJECT
from tracegrad.ops.reduction import BROADCAST_TO, Reduction
from tracegrad.ops.running import Running
from tracegrad.ops.shape import COPY, RESHAPE, STOP_GRADIENT, TRANSPOSE
from tracegrad.ops.slicing import ADD_AT, PLACE

ALIKE = (BROADCAST_TO, COPY, DOT, LOOP, MATMUL, PROJECT, TRANSPOSE)
"""Operations that do with all elements along an axis the same, beside pointwise ones and sums."""
MOST_ENTRIES = 100_000_000
"""Entries of a pattern that is not sparse any more."""


@dataclass(frozen=True)
class Known:
    """A value that does not depend on the arguments in question."""

    value: Any


@dataclass(frozen=True)
class Depends:
    """The elements (rows) of a value by those of the arguments; None: no derivative passes."""

    rows: csr_array | None


State = Any
"""`Known`, `Depends`, or for a node with several results a list of these."""


class Pattern:
    """The propagation through one graph, for the extents of a call."""

    def __init__(self, extents: Mapping[str, int], columns: int) -> None:
        self.extents: dict[str, int] = dict(extents)
        self.open: dict[str, int] = {}
        """Extents that the arguments in question decide: how often a loop runs. An axis of that
        length has 1 in its place, for what any of its elements depends on."""
        self.columns = columns

    def run(self, graph: Graph, given: Sequence[State]) -> list[State]:
        """The states of the outputs from those of the inputs."""
        states: dict[Node, State] = dict(zip(graph.inputs, given, strict=True))
        for node in graph.nodes[len(graph.inputs) :]:
            operands = [states[x] for x in node.inputs]
            attrs = dict(substitute_attrs(node.attrs, self.extents))
            states[node] = self._state(node, operands, attrs)
        return [states[node] for node in graph.outputs]

    def _state(self, node: Node, operands: Sequence[State], attrs: dict[str, Any]) -> State:
        if node.op is PROJECT:
            return operands[0][attrs["index"]]
        known = all(isinstance(x, Known) for x in operands)
        if node.op is BOUND and not known:
            symbol = str(node.attributes["symbol"])
            self.extents.pop(symbol, None)  # of another run of this body
            self.open[symbol] = 1
            return Depends(None)
        if self.open and self._is_open(node):
            if known and not isinstance(node.type, TupleType):
                return Depends(None)
            if node.op is LOOP and not isinstance(attrs["length"], int):
                return self._any_steps(operands, **attrs)
            if node.op is not LOOP:
                attrs = dict(substitute_attrs(tuple(attrs.items()), self.open))
        elif known:
            return self._computed(node, [x.value for x in operands], attrs)
        if isinstance(node.type, TupleType):
            return self._with_bodies(node, operands, attrs)
        if not node.type.is_float or node.op is STOP_GRADIENT:
            return Depends(None)
        return Depends(self._rows(node, operands, attrs))

    def _is_open(self, node: Node) -> bool:
        """Whether an extent in it is an open one. Raises UnsupportedError unless one element can
        stand for all along such an axis."""
        types = [node.type, *(x.type for x in node.inputs)]
        parts = [p for t in types for p in (t.parts if isinstance(t, TupleType) else (t,))]
        sizes = [size for part in parts if isinstance(part, ArrayType) for size in part.shape]
        # The nodes of a body are looked at when it is run.
        sizes += attr_sizes(tuple(pair for pair in node.attrs if not isinstance(pair[1], Graph)))
        found = [size for size in sizes if not self.open.keys().isdisjoint(symbols(size))]
        alike = node.op.pointwise or node.op in ALIKE
        alike |= isinstance(node.op, Reduction) or (
            node.op is RESHAPE and unit_apart(node.type.shape, node.inputs[0].type.shape)
        )
        if found and not (alike and all(str(size) in self.open for size in found)):
            self.refuse()
        return bool(found)

    def refuse(self) -> None:
        raise UnsupportedError(
            "the pattern of a derivative: an extent depends on the values of the argument to "
            "differentiate in; use tg.jacobian or tg.hessian"
        )

    def _computed(self, node: Node, values: Sequence[Any], attrs: dict[str, Any]) -> State:
        with np.errstate(all="ignore"):
            value = node.op.reference(*values, **attrs)
        if node.op is BOUND:
            symbol = str(node.attributes["symbol"])
            self.open.pop(symbol, None)
            self.extents[symbol] = int(value)
        if isinstance(node.type, TupleType):
            return [Known(part) for part in value]
        return Known(np.asarray(value).astype(node.type.dtype, copy=False)[()])

    def _rows(
        self, node: Node, operands: Sequence[State], attrs: dict[str, Any]
    ) -> csr_array | None:
        op, shape = node.op, self.shape(node.type)
        shapes = [self.shape(x.type) for x in node.inputs]
        rows = [x.rows if isinstance(x, Depends) else None for x in operands]
        if op.pointwise or op is CHECKED:
            pairs = zip(rows, shapes, strict=True)
            return self._either(picked(r, spread(s, shape)) for r, s in pairs)
        if op.moves:
            return self._moved(lambda *ids: op.reference(*ids, **attrs), rows, shapes)
        if op is ADD_AT:
            placed = self._moved(
                lambda ids: PLACE.reference(ids, shape=shape, **attrs), rows[1:], shapes[1:]
            )
            return self._either((rows[0], placed))
        if isinstance(op, Reduction):
            return grouped(rows[0], spread(kept(shapes[0], attrs["axis"]), shapes[0]), size(shape))
        if isinstance(op, Running):
            return self._either(running(r, shape, **attrs) for r in rows)
        if op in (MATMUL, DOT):
            return self._either(products(rows, shapes, attrs.get("flip", (False, False))))
        indices = operands[1 + (op is SCATTER_SET) :]
        indexing = op in (GATHER, GATHER_AT, SCATTER_ADD, SCATTER_SET)
        if indexing and all(isinstance(x, Known) for x in indices):
            return self._indexed(node, rows, shapes, [x.value for x in indices], attrs)
        return self._any(rows, size(shape))

    def _indexed(
        self, node: Node, rows: list[Any], shapes: list[Any], indices: Any, attrs: dict[str, Any]
    ) -> csr_array | None:
        op, shape = node.op, self.shape(node.type)
        if op is SCATTER_ADD:
            axes = attrs["axes"]
            target = GATHER.reference(numbered(shape), *indices, axes=axes)
            return grouped(rows[0], np.broadcast_to(target, shapes[0]).ravel(), size(shape))
        moving = 2 if op is SCATTER_SET else 1
        return self._moved(
            lambda *ids: op.reference(*ids, *indices, **attrs), rows[:moving], shapes[:moving]
        )

    def _moved(
        self, move: Callable[..., Any], rows: Sequence[Any], shapes: Sequence[Any]
    ) -> csr_array | None:
        """The rows of a result each of whose elements is one of an operand, or zero.

        `move` is run on numbers of elements, from 1 on; 0 is no element.
        """
        ends = np.cumsum([0, *map(size, shapes)])
        ids = [numbered(s) + 1 + end for s, end in zip(shapes, ends, strict=False)]
        found = np.asarray(move(*ids)).ravel() - 1
        parts = []
        for r, begin, end in zip(rows, ends, ends[1:], strict=False):
            if r is not None:
                parts.append(
                    picked(r, np.where((found >= begin) & (found < end), found - begin, -1))
                )
        return self._either(parts)

    def _either(self, parts: Any) -> csr_array | None:
        found = [part for part in parts if part is not None]
        if not found:
            return None
        total = found[0]
        for part in found[1:]:
            total = total + part
        return self._checked(total)

    def _any(self, rows: Sequence[Any], count: int) -> csr_array | None:
        """Every element depends on all that any element of an operand depends on."""
        found = [grouped(r, np.zeros(height(r), np.int64), 1) for r in rows if r is not None]
        total = self._either(found)
        if total is None:
            return None
        self._fits(total.nnz * count)
        return picked(total, np.zeros(count, np.int64))

    def _checked(self, rows: csr_array) -> csr_array:
        self._fits(rows.nnz)
        return rows

    def _fits(self, entries: int) -> None:
        if entries > MOST_ENTRIES:
            raise UnsupportedError(
                f"the pattern of a derivative has {entries:,} entries: it is not sparse; use "
                "tg.jacobian, or products with it (tg.jvp, tg.vjp)"
            )

    def shape(self, type: ArrayType) -> tuple[int, ...]:
        extents = self.extents | self.open
        missing = {n for s in type.shape for n in symbols(s)} - set(extents)
        assert not missing, f"no extent for {missing}"
        return tuple(evaluate(s, extents) for s in type.shape)

    def _with_bodies(self, node: Node, operands: Sequence[State], attrs: dict[str, Any]) -> State:
        if node.op is LOOP:
            return self._loop(operands, **attrs)
        if node.op is REPEAT:
            return self._repeat(operands, **attrs)
        if node.op is BRANCH:
            return self._branch(node, operands, attrs)
        if "body" in attrs:
            return self.run(attrs["body"], operands)
        rows = [x.rows for x in operands if isinstance(x, Depends)]
        parts = node.type.parts  # type: ignore[attr-defined]
        return [
            Depends(self._any(rows, size(self.shape(p))) if p.is_float else None) for p in parts
        ]

    def _loop(
        self,
        operands: Sequence[State],
        *,
        body: Graph,
        carries: int,
        stacks: int,
        length: int,
        reverse: bool,
    ) -> list[State]:
        """Step by step, as it runs."""
        carry, xs = list(operands[:carries]), operands[carries : carries + stacks]
        constants = operands[carries + stacks :][: len(body.inputs) - 1 - carries - stacks]
        steps = [range(length), reversed(range(length))][reverse]
        kept: list[list[State]] = [[] for _ in body.outputs[carries:]]
        for step in steps:
            items = [self._item(x, step, length) for x in xs]
            found = self.run(body, [Known(np.int64(step)), *carry, *items, *constants])
            carry = found[:carries]
            for column, y in zip(kept, found[carries:], strict=True):
                column.append(y)
        types = [output.type for output in body.outputs[carries:]]
        columns = [column[::-1] if reverse else column for column in kept]
        return [*carry, *map(self._stacked, columns, types)]

    def _any_steps(
        self, operands: Sequence[State], *, body: Graph, carries: int, stacks: int, **_: Any
    ) -> list[State]:
        """A loop of nobody knows how many steps: until no further step adds anything."""
        items = [unknown(x) for x in operands[carries : carries + stacks]]
        constants = operands[carries + stacks :][: len(body.inputs) - 1 - carries - stacks]
        carry = [unknown(x) for x in operands[:carries]]
        while True:
            found = self.run(body, [Depends(None), *carry, *items, *constants])
            new = [self._union(x, y) for x, y in zip(carry, found, strict=False)]
            if all(entries(x) == entries(y) for x, y in zip(carry, new, strict=True)):
                return [*carry, *map(unknown, found[carries:])]
            carry = new

    def _item(self, x: State, step: int, length: int) -> State:
        if isinstance(x, Known):
            return Known(x.value[step])
        if x.rows is None:
            return x
        count = height(x.rows) // length
        return Depends(x.rows[step * count : (step + 1) * count])

    def _stacked(self, items: Sequence[State], type: ArrayType) -> State:
        if all(isinstance(x, Known) for x in items):
            values = [np.asarray(x.value, type.dtype) for x in items]
            return Known(np.stack(values) if values else np.zeros((0, *self.shape(type))))
        if not type.is_float:
            return Depends(None)
        count = size(self.shape(type))
        rows = [x.rows if isinstance(x, Depends) else None for x in items]
        starts = [0 if r is None else r.nnz for r in rows]
        if not any(starts):
            return Depends(None)
        pointers = [np.zeros(count, np.int64) if r is None else np.diff(r.indptr) for r in rows]
        columns = [r.indices for r in rows if r is not None]
        return Depends(matrix(np.concatenate(pointers), np.concatenate(columns), self.columns))

    def _repeat(
        self, operands: Sequence[State], *, condition: Graph, body: Graph, carries: int
    ) -> list[State]:
        """Any number of steps: until no further step adds anything."""
        carry = [unknown(x) for x in operands[:carries]]
        while True:
            found = self.run(body, [*carry, *operands[carries:]])
            new = [self._union(x, y) for x, y in zip(carry, found, strict=True)]
            if all(entries(x) == entries(y) for x, y in zip(carry, new, strict=True)):
                return [*carry, Depends(None)]
            carry = new

    def _branch(self, node: Node, operands: Sequence[State], attrs: dict[str, Any]) -> list[State]:
        """All branches count, unless it is known which is taken."""
        branches = attrs["branches"]
        if isinstance(operands[0], Known):
            chosen = min(max(int(operands[0].value), 0), len(branches) - 1)
            return self.run(branches[chosen], operands[1:])
        columns = zip(*(self.run(graph, operands[1:]) for graph in branches), strict=True)
        found = []
        for column in columns:
            total = unknown(column[0])
            for other in column[1:]:
                total = self._union(total, other)
            found.append(total)
        return found

    def _union(self, a: State, b: State) -> State:
        rows = [x.rows for x in (a, b) if isinstance(x, Depends)]
        return Depends(self._either(rows))


def index_inputs(graph: Graph) -> set[int]:
    """The numbers of the inputs on whose values the pattern may depend: indices, lengths."""
    roots: list[Node] = []
    for node in graph.nodes:
        inside = [inner for body in bodies(node) for inner in all_nodes(body)]
        if any(map(_is_chosen, (node, *inside))):
            roots.extend(node.inputs)
    needed = reachable(roots)
    return {number for number, node in enumerate(graph.inputs) if node in needed}


def _is_chosen(node: Node) -> bool:
    return node.op in (GATHER, GATHER_AT, SCATTER_ADD, SCATTER_SET, BOUND, BRANCH)


def unit_apart(a: Sequence[Size], b: Sequence[Size]) -> bool:
    """Whether two shapes are the same but for axes of extent 1."""
    one, other = ([size for size in shape if size != 1] for shape in (a, b))
    return one == other


def unknown(x: State) -> State:
    """The state of something that may be this or have another value."""
    return Depends(None) if isinstance(x, Known) else x


def entries(x: State) -> int:
    return 0 if not isinstance(x, Depends) or x.rows is None else x.rows.nnz


def height(rows: csr_array) -> int:
    return len(rows.indptr) - 1


def width(rows: csr_array) -> int:
    assert rows.shape is not None
    return rows.shape[1]


def size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def numbered(shape: Sequence[int]) -> np.ndarray:
    return np.arange(size(shape)).reshape(tuple(shape))


def spread(shape: Sequence[int], to: Sequence[int]) -> np.ndarray:
    """For every element of the shape `to` the one of `shape` that broadcasting puts there."""
    return np.broadcast_to(numbered(shape), tuple(to)).ravel()


def kept(shape: Sequence[int], axis: Sequence[int]) -> tuple[int, ...]:
    return tuple(1 if at in axis else extent for at, extent in enumerate(shape))


def matrix(counts: np.ndarray, columns: np.ndarray, across: int) -> csr_array:
    """A boolean matrix from the number of entries of each row and their columns."""
    pointers = np.concatenate(([0], np.cumsum(counts)))
    data = np.ones(len(columns), bool)
    return csr_array((data, columns, pointers), shape=(len(counts), across))


def identity(begin: int, count: int, across: int) -> csr_array:
    """The rows of an argument whose elements are the columns from `begin` on."""
    return matrix(np.ones(count, np.int64), np.arange(begin, begin + count), across)


def picked(rows: csr_array | None, which: np.ndarray) -> csr_array | None:
    """Row `which[i]` as row i; -1 is an empty one."""
    if rows is None:
        return None
    inside = which >= 0
    chosen = which[inside]
    lengths = np.diff(rows.indptr)[chosen]
    counts = np.zeros(len(which), np.int64)
    counts[inside] = lengths
    starts = rows.indptr[chosen].astype(np.int64)
    ends = np.cumsum(lengths)
    positions = np.arange(ends[-1] if len(ends) else 0)
    positions = positions + np.repeat(starts - (ends - lengths), lengths)
    return matrix(counts, rows.indices[positions], width(rows))


def grouped(rows: csr_array | None, target: np.ndarray, count: int) -> csr_array | None:
    """Row i joined to row `target[i]` of `count` ones."""
    if rows is None:
        return None
    order = np.arange(len(target))
    collect = csr_array((np.ones(len(target), bool), (target, order)), shape=(count, len(target)))
    return csr_array(collect @ rows)


def running(
    rows: csr_array | None, shape: Sequence[int], axis: int, reverse: bool
) -> csr_array | None:
    """Each element joined with those before it along the axis."""
    if rows is None:
        return None
    ids = np.moveaxis(numbered(shape), axis, -1).reshape(-1, shape[axis])
    first, second = np.tril_indices(shape[axis])
    if reverse:
        first, second = second, first
    target, source = ids[:, first].ravel(), ids[:, second].ravel()
    count = height(rows)
    collect = csr_array((np.ones(len(target), bool), (target, source)), shape=(count, count))
    return csr_array(collect @ rows)


def products(
    rows: Sequence[Any], shapes: Sequence[Sequence[int]], flip: tuple[bool, bool]
) -> list[csr_array | None]:
    """Element (i, j) of a product depends on row i of the left and column j of the right."""
    left, right = map(numbered, shapes)
    left = np.swapaxes(left, -1, -2) if flip[0] else left
    right = np.swapaxes(right, -1, -2) if flip[1] else right
    row, column = left.shape[-2:-1], right.shape[-1:] if right.ndim > 1 else ()
    outer = (left.shape[:-2] or right.shape[:-2]) + row + column
    across = np.moveaxis(right, max(right.ndim - 2, 0), -1)
    parts = [
        (rows[0], left, (*left.shape[:-1], *(1,) * len(column))),
        (rows[1], across, (*right.shape[:-2], *(1,) * len(row), *column)),
    ]
    found = []
    for r, members, shape in parts:
        if r is None:
            continue
        table = members.reshape(-1, members.shape[-1])
        target = np.empty(height(r), np.int64)
        target[table.ravel()] = np.repeat(np.arange(len(table)), table.shape[1])
        found.append(picked(grouped(r, target, len(table)), spread(shape, outer)))
    return found
