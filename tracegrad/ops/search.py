"""Where the largest and the smallest elements are: `argmax`, `argmin`.

    at = argmax(x)      =>      best = max(x);  at = min over i of (i if x[i] == best else n)

The first of equal elements is found; the first NaN wins over every number, as in NumPy. Memory is
read once: of a row, or of all elements of an array, the best of each block is found, and only the
first block that has the best of all is searched.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.expr import Call, Cast, Const, Expr, Load, Select, Var
from codegen.loops import Accumulate, Alloc, Assign, For, If, LibraryCall, Statement, Store, View
from tracegrad.errors import ShapeError
from tracegrad.ir.dims import Size, product, required
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.batched import Mapped, regrouped
from tracegrad.ops.constant import astype
from tracegrad.ops.extremes import highest, lowest
from tracegrad.ops.op import as_operand, bind, public, register, sample, type_of
from tracegrad.ops.reduction import keep, no_out, reduced_axes, strong

BLOCK = 1024
"""Elements of a block: searching one costs little beside finding the best of 100 of them, and the
end of a vectorised loop little beside a block."""
SHORT = 256
"""Elements of a block of a row, each of which has one block to search."""
FEW = 64
"""Elements of a row that is searched as a whole, by vectors: the bits of a word."""
NARROW, ERA = np.dtype(np.int32), 1 << 30
"""Numbers of rows, and how many rows they number."""
NOT = {"greater": "less_equal", "less": "greater_equal"}

NAMES = ("value", "part", "block", "i", "start", "bests", "first")
"""Of what a search in blocks works with."""


class Position(Op):
    """The index of the first largest or smallest element, along one axis or in row-major order.

    The first NaN wins over every number.
    """

    weight = 2

    stored = (0,)

    def __init__(
        self, name: str, combine: str, better: str, limit: Callable[[np.dtype], Any], few: str
    ) -> None:
        self.name, self.combine, self.better, self.limit = name, combine, better, limit
        self.few = few

    def infer(self, x: ArrayType, *, axis: int | None) -> ArrayType:
        kept = () if axis is None else x.shape[:axis] + x.shape[axis + 1 :]
        return ArrayType(np.dtype(np.int64), kept)

    def reference(self, x: np.ndarray, *, axis: int | None) -> Any:
        return getattr(np, self.name)(x, axis=axis)

    def text(self, x: str, *, axis: int | None) -> str:
        return f"np.{self.name}({x})" if axis is None else f"np.{self.name}({x}, axis={axis})"

    def batch(self, mapped: Mapped, x: Array, *, axis: int | None) -> Array:
        if axis is None:
            count, *rest = x.type.shape
            return bind(self, regrouped(x, (count, product(tuple(rest)))), axis=1)
        return bind(self, x, axis=axis + 1)

    def wins(self, value: Expr, best: Expr) -> Expr:
        """`value > best`, or `value` is the first NaN: `not value <= best`, and `best` is none."""
        if value.dtype.kind != "f":
            return Call(self.better, (value, best), ex.BOOL)
        either = Call("logical_not", (Call(NOT[self.better], (value, best), ex.BOOL),), ex.BOOL)
        return Call("logical_and", (either, Call("equal", (best, best), ex.BOOL)), ex.BOOL)

    def kernel(self, lowering: Any, node: Any) -> None:
        axis, rank = node.attributes["axis"], node.inputs[0].type.rank
        if (rank > 1 and axis is None) or (rank == 1 and not _fits(node.inputs[0].type.shape[0])):
            self._in_blocks(lowering, node)
        elif axis is None or axis == rank - 1:
            self._along_rows(lowering, node, rank - 1)
        else:
            self._across_rows(lowering, node, axis)

    def _along_rows(self, lowering: Any, node: Any, axis: int) -> None:
        """The last axis is searched: a short row as a whole, a longer one in blocks."""
        (x,) = node.inputs
        kept, size = x.type.shape[:axis], x.type.shape[axis]
        at = Var(lowering.namer.unique(f"{node.name}_at") if kept else node.name)
        vectors = x.type.dtype.itemsize >= NARROW.itemsize
        flat = ""
        if kept:
            lowering.allocate(node)
        if vectors and not (isinstance(size, int) and size > FEW):
            flat = _in_a_row(lowering, x, lowering.size(product(x.type.shape)))
        with lowering.nest(kept) as outer:
            count = lowering.size(size)
            row = reduce(_row_number, zip(outer, map(lowering.size, kept), strict=True), None)
            start = ex.integer(0) if row is None else ex.multiply(row, count)
            whole = LibraryCall(self.few, (flat, start, count), (), lowering.comment(node), at)
            if not flat:
                statements = self._by_blocks(lowering, node, outer, at)
            elif isinstance(size, int):
                statements = [whole]
            else:
                few = Call("less_equal", (count, ex.integer(FEW)), ex.BOOL)
                longer = tuple(self._by_blocks(lowering, node, outer, at))
                statements = [Assign(at, ex.integer(0)), If(few, (whole,), longer)]
            for statement in statements:
                lowering.append(statement)
            if kept:
                lowering.append(Store(node.name, outer, at, lowering.comment(node)))
        if not kept:
            lowering.scalars[node] = at

    def _by_blocks(self, lowering: Any, node: Any, outer: Any, at: Var) -> list[Statement]:
        """The best of each short block of a row, and from where the first block begins that has the
        best of all element by element to the first that it is."""
        (x,) = node.inputs
        dtype, note = x.type.dtype, lowering.comment(node)
        count, size = lowering.size(x.type.shape[-1]), ex.integer(SHORT)
        names = (lowering.namer.unique(f"{node.name}_{what}") for what in NAMES)
        best, part = (Var(next(names), dtype) for _ in range(2))
        block, j, start = (Var(next(names)) for _ in range(3))
        kind = NARROW if dtype.itemsize <= NARROW.itemsize else ex.INT
        place = Var(lowering.namer.unique(f"{node.name}_place"), kind)
        value = Load(lowering.arrays[x], (*outer, j), dtype)

        def best_of(target: Var, first: Expr, stop: Expr) -> tuple[Assign, For]:
            better = Accumulate(target.name, None, self.combine, value, dtype, note)
            return Assign(target, Const(self.limit(dtype), dtype)), For(j, stop, (better,), first)

        whole = Call("minimum", (size, count), ex.INT)
        wins = If(self.wins(part, best), (Assign(best, part), Assign(start, block)))
        end = Call("minimum", (ex.add(block, size), count), ex.INT)
        blocks = (*best_of(part, block, end), wins)
        none, here = Const(SHORT, kind), _converted(ex.subtract(j, start), kind)
        last = Call("minimum", (ex.add(start, size), count), ex.INT)

        def first(found: Expr) -> tuple[For]:
            number = Select(found, here, none, kind)
            smallest = Accumulate(place.name, None, "minimum", number, kind, note)
            return (For(j, last, (smallest,), start),)

        search = first(Call("equal", (value, best), ex.BOOL))
        if dtype.kind == "f":
            search = (If(_is_nan(best), first(_is_nan(value)), search),)
        return [
            *best_of(best, ex.integer(0), whole),
            Assign(start, ex.integer(0)),
            For(block, count, blocks, size, SHORT, sequential=True),
            Assign(place, none),
            *search,
            Assign(at, ex.add(start, _converted(place, ex.INT))),
        ]

    def _in_blocks(self, lowering: Any, node: Any) -> None:
        """All elements: the best of each whole block, of these and what is left over; the first
        whole block that has it (if none has, the rest), and the first place in there."""
        (x,) = node.inputs
        dtype, size, note = x.type.dtype, ex.integer(BLOCK), lowering.comment(node)
        count = lowering.size(product(x.type.shape))
        whole = ex.floor_divide(count, size)
        array = _in_a_row(lowering, x, count)
        names = (lowering.namer.unique(f"{node.name}_{what}") for what in NAMES)
        best, part = (Var(next(names), dtype) for _ in range(2))
        block, i, start = (Var(next(names)) for _ in range(3))
        bests, first = next(names), Var(next(names))
        limit, at = Const(self.limit(dtype), dtype), Var(node.name)

        def better(target: Var, value: Expr) -> Accumulate:
            return Accumulate(target.name, None, self.combine, value, dtype, note)

        def smallest(target: Var, index: Var, array: str, none: Expr) -> Accumulate:
            found = _is_best(Load(array, (index,), dtype), best)
            place = Select(found, index, none, ex.INT)
            return Accumulate(target.name, None, "minimum", place, ex.INT, note)

        here = Load(array, (ex.add(ex.multiply(block, size), i),), dtype)
        inside = (Assign(part, limit), For(i, size, (better(part, here),)))
        end = Call("minimum", (ex.add(start, size), count), ex.INT)
        for statement in (
            Alloc(bests, (whole,), dtype),
            For(block, whole, (*inside, Store(bests, (block,), part))),
            Assign(best, limit),
            For(block, whole, (better(best, Load(bests, (block,), dtype)),)),
            For(i, count, (better(best, Load(array, (i,), dtype)),), ex.multiply(whole, size)),
            Assign(first, whole),
            For(block, whole, (smallest(first, block, bests, whole),)),
            Assign(start, ex.multiply(first, size)),
            Assign(at, count),
            For(i, end, (smallest(at, i, array, count),), start),
        ):
            lowering.append(statement)
        lowering.scalars[node] = at

    def _across_rows(self, lowering: Any, node: Any, axis: int) -> None:
        """Row by row, with the best values so far and the numbers of their rows in arrays. These
        numbers are narrow, so that they move half of the memory, and count from the beginning of an
        era of rows; a column that did not change in an era has none.
        """
        (x,) = node.inputs
        shape, dtype, count = x.type.shape, x.type.dtype, lowering.size(x.type.shape[axis])
        at = lowering.allocate(node, fill=0)
        value, row = (lowering.namer.unique(f"{node.name}_{what}") for what in ("value", "row"))
        extents = tuple(lowering.size(size) for size in node.type.shape)
        lowering.append(Alloc(value, extents, dtype, self.limit(dtype)))
        lowering.append(Alloc(row, extents, NARROW))
        era, i = (Var(lowering.namer.unique(f"{node.name}_{what}")) for what in ("era", "i"))
        stop = Call("minimum", (ex.add(era, ex.integer(ERA)), count), ex.INT)
        eras = For(era, count, (), step=ERA, sequential=True)
        rows, columns = For(i, stop, (), era, sequential=True), shape[axis + 1 :]
        with lowering.nest(shape[:axis]) as outer, lowering.loop(eras):
            with lowering.nest(columns) as inner:
                lowering.append(Store(row, (*outer, *inner), Const(-1, NARROW)))
            with lowering.loop(rows), lowering.nest(columns) as inner:
                new = lowering.value(x, (*outer, i, *inner))
                number = Cast(ex.subtract(i, era), NARROW)
                self._better_row(lowering, node, (*outer, *inner), new, number, (value, row))
            with lowering.nest(columns) as inner:
                kept = (*outer, *inner)
                found = Load(row, kept, NARROW)
                known = Call("greater_equal", (found, Const(0, NARROW)), ex.BOOL)
                place = ex.add(era, Cast(found, ex.INT))
                place = Select(known, place, Load(at, kept, ex.INT), ex.INT)
                lowering.append(Store(at, kept, place))

    def _better_row(
        self, lowering: Any, node: Any, kept: Any, element: Expr, number: Expr, arrays: Any
    ) -> None:
        """One element of a row against the best value of its column, and that one's row."""
        value, row = arrays
        names = (lowering.namer.unique(f"{node.name}_{what}") for what in ("new", "old", "last"))
        new, old = (Var(next(names), element.dtype) for _ in range(2))
        last, wins = (
            Var(next(names), NARROW),
            Var(lowering.namer.unique(f"{node.name}_wins"), ex.BOOL),
        )
        for statement in (
            Assign(new, element),
            Assign(old, Load(value, kept, old.dtype)),
            Assign(last, Load(row, kept, NARROW)),
            Assign(wins, self.wins(new, old), lowering.comment(node)),
            Store(row, kept, Select(wins, number, last, NARROW)),
            Store(value, kept, Select(wins, new, old, old.dtype)),
        ):
            lowering.append(statement)


def _fits(size: Size) -> bool:
    """Whether a vector is known to be no longer than a block."""
    return isinstance(size, int) and size <= BLOCK


def _row_number(before: Expr | None, axis: tuple[Expr, Expr]) -> Expr:
    """The number of a row among all, from that of the axes before and one axis more."""
    index, size = axis
    return index if before is None else ex.add(ex.multiply(before, size), index)


def _converted(value: Expr, dtype: np.dtype) -> Expr:
    return value if value.dtype == dtype else Cast(value, dtype)


def _in_a_row(lowering: Any, x: Any, count: Expr) -> str:
    """The name of the stored array as one of rank 1."""
    if x.type.rank == 1:
        return lowering.arrays[x]
    flat = lowering.namer.unique(f"{x.name}_all")
    lowering.append(View(flat, lowering.arrays[x], (count,)))
    return flat


def _is_best(value: Expr, best: Expr) -> Expr:
    """Whether `value` is what was found; if that is NaN, whether it is NaN."""
    same = Call("equal", (value, best), ex.BOOL)
    if value.dtype.kind != "f":
        return same
    return Call("logical_or", (same, _is_nan(value)), ex.BOOL)


def _is_nan(value: Expr) -> Expr:
    return Call("not_equal", (value, value), ex.BOOL)


ARGMAX = register(Position("argmax", "maximum", "greater", lowest, "first_largest"))
ARGMIN = register(Position("argmin", "minimum", "less", highest, "first_smallest"))


@public(np.argmax)
def argmax(a: Any, axis: Any = None, out: Any = None, *, keepdims: bool = False) -> Any:
    """The index of the first largest element along `axis` (None: in row-major order)."""
    return _place(ARGMAX, a, axis, out, keepdims)


@public(np.argmin)
def argmin(a: Any, axis: Any = None, out: Any = None, *, keepdims: bool = False) -> Any:
    """The index of the first smallest element along `axis` (None: in row-major order)."""
    return _place(ARGMIN, a, axis, out, keepdims)


def _place(op: Position, a: Any, axis: Any, out: Any, keepdims: bool) -> Any:
    no_out(out)
    a = as_operand(a)
    type = type_of(a)
    if type.rank == 0:
        reduced_axes(axis, 0)
        return astype(strong(a) * 0, np.int64)
    axes = reduced_axes(axis, type.rank)
    if not required(product(tuple(type.shape[at] for at in axes)), "!=", 0):
        raise ShapeError(
            f"attempt to get {op.name} of an empty sequence: the array is {type.in_figures()}"
        )
    return keep(bind(op, a, axis=None if axis is None else axes[0]), type, axes, keepdims)


sample(lambda x: (np.argmax(x), x.argmin(), np.argmax(x, axis=0)), (3, 4), smooth=False)
sample(
    lambda x: (np.argmin(x, axis=1), np.argmax(x, axis=-1, keepdims=True)), (2, 3, 4), smooth=False
)
sample(lambda x: (np.argmax(x, 0), np.argmin(x)), (3, 4), kinds="iub", smooth=False)
sample(lambda x: (np.argmax(x), np.argmin(x, 0)), (), smooth=False)
