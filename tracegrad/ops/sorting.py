"""Order: `argsort`, `sort` and what takes the first of sorted elements; places in a sorted vector.

    y = sort(x)   is   x[argsort(x)]      =>      d_x is d_y, put back where it came from

The order is stable and NaN comes last. Where elements are equal the derivative is that of the
order which was found, one of several.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.expr import Const, Var
from codegen.loops import Alloc, LibraryCall, Store, View
from tracegrad.errors import UnsupportedError
from tracegrad.ir.dims import Size, product, required
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.axes import moveaxis, ravel
from tracegrad.ops.bounds import WITHIN
from tracegrad.ops.constant import astype
from tracegrad.ops.gathering import GATHER
from tracegrad.ops.op import PUBLIC, as_operand, bind, public, register, sample, type_of
from tracegrad.ops.picking import counting
from tracegrad.ops.reduction import strong
from tracegrad.ops.shape import normal_axis, reshape

SIDES = ("left", "right")


class ArgSort(Op):
    """The stable order of the elements along the last axis."""

    name = "argsort"
    stored = (0,)
    weight = 20

    def infer(self, x: ArrayType) -> ArrayType:
        return ArrayType(np.dtype(np.int64), x.shape)

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.argsort(x, axis=-1, kind="stable")

    def text(self, x: str) -> str:
        return f'np.argsort({x}, axis=-1, kind="stable")'

    def batch(self, mapped: tuple[bool, ...], x: Array) -> Array:
        return bind(self, x)

    def kernel(self, lowering: Any, node: Any) -> None:
        _rows_sorted(lowering, node, "argsort")


class Sort(Op):
    """The elements in ascending order along the last axis: what the elements at their stable order
    become where nothing else reads that order."""

    name = "sort"
    stored = (0,)
    weight = 20

    def infer(self, x: ArrayType) -> ArrayType:
        return x

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.sort(x, axis=-1)

    def text(self, x: str) -> str:
        return f"np.sort({x}, axis=-1)"

    def jvp(self, tangents: Any, out: Array, x: Array) -> Array:
        return chosen_last(tangents[0], bind(ARGSORT, x))

    def batch(self, mapped: tuple[bool, ...], x: Array) -> Array:
        return bind(self, x)

    def kernel(self, lowering: Any, node: Any) -> None:
        _rows_sorted(lowering, node, "sort")


class ArgSelect(Op):
    """Of the stable order of the elements along the last axis what stands at the places `wanted`, a
    vector, without sorting all."""

    name = "argselect"
    stored = (0, 1)
    weight = 10

    def infer(self, x: ArrayType, wanted: ArrayType) -> ArrayType:
        return ArrayType(np.dtype(np.int64), x.shape[:-1] + wanted.shape)

    def reference(self, x: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        return np.argsort(x, axis=-1, kind="stable")[..., wanted]

    def text(self, x: str, wanted: str) -> str:
        return f'np.argsort({x}, axis=-1, kind="stable")[..., {wanted}]'

    def batch(self, mapped: tuple[bool, ...], x: Array, wanted: Array) -> Array | None:
        return None if mapped[1] else bind(self, x, wanted)

    def kernel(self, lowering: Any, node: Any) -> None:
        x, out = lowering.arrays[node.inputs[0]], lowering.allocate(node)
        wanted, shape = lowering.arrays[node.inputs[1]], node.inputs[0].type.shape
        comment, row = lowering.comment(node), lowering.size(shape[-1])
        if len(shape) > 1:
            x = _flat(lowering, x, shape)
            out = _flat(lowering, out, node.type.shape)
        lowering.append(LibraryCall("argselect", (x, row, wanted), (out,), comment))


def _rows_sorted(lowering: Any, node: Any, function: str) -> None:
    """A call of the library on the rows of the operand."""
    x, out = lowering.arrays[node.inputs[0]], lowering.allocate(node)
    shape, comment = node.type.shape, lowering.comment(node)
    row = lowering.size(shape[-1])
    if len(shape) > 1:
        x, out = _flat(lowering, x, shape), _flat(lowering, out, shape)
    lowering.append(LibraryCall(function, (x, row), (out,), comment))


def _flat(lowering: Any, array: str, shape: tuple[Size, ...]) -> str:
    """The name of a view of all elements as a vector."""
    name = lowering.namer.unique(f"{array}_all")
    lowering.append(View(name, array, (lowering.size(product(shape)),)))
    return name


class ArgSortRows(Op):
    """The stable order of the rows of a matrix as words are ordered: by the first elements that
    differ."""

    name = "argsort_rows"
    stored = (0,)
    weight = 40

    def infer(self, x: ArrayType) -> ArrayType:
        return ArrayType(np.dtype(np.int64), x.shape[:1])

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.lexsort(x.T[::-1]) if x.shape[1] else np.arange(len(x))

    def text(self, x: str) -> str:
        return f"np.lexsort({x}.T[::-1])"

    def kernel(self, lowering: Any, node: Any) -> None:
        x, order = lowering.arrays[node.inputs[0]], lowering.allocate(node)
        rows, columns = map(lowering.size, node.inputs[0].type.shape)
        moved, flat = map(lowering.namer.unique, (f"{order}_moved", f"{x}_all"))
        lowering.append(Alloc(moved, (rows,), np.dtype(np.int64)))
        lowering.append(View(flat, x, (lowering.size(product(node.inputs[0].type.shape)),)))
        comment = lowering.comment(node)
        lowering.append(LibraryCall("argsort_rows", (flat, rows, columns), (moved, order), comment))


class SearchSorted(Op):
    """For each of `v` its place in the sorted vector `a`, before or (`right`) behind equal ones."""

    name = "searchsorted"
    stored = (0,)
    weight = 20

    def infer(self, a: ArrayType, v: ArrayType, *, right: bool) -> ArrayType:
        return ArrayType(np.dtype(np.int64), v.shape)

    def reference(self, a: np.ndarray, v: np.ndarray, *, right: bool) -> Any:
        return np.searchsorted(a, v, SIDES[right])

    def text(self, a: str, v: str, *, right: bool) -> str:
        return f'np.searchsorted({a}, {v}, "{SIDES[right]}")'

    def batch(self, mapped: tuple[bool, ...], a: Array, v: Array, *, right: bool) -> Array | None:
        return None if mapped[0] else bind(self, a, v, right=right)

    def kernel(self, lowering: Any, node: Any) -> None:
        a, v = node.inputs
        array = lowering.allocate(node) if node.type.rank else ""
        with lowering.nest(node.type.shape) as index:
            at = Var(lowering.namer.unique(f"{node.name}_at") if array else node.name)
            args = (lowering.arrays[a], lowering.value(v, index))
            right = Const(node.attributes["right"], ex.BOOL)
            comment = lowering.comment(node)
            lowering.append(LibraryCall("searchsorted", (*args, right), (), comment, at))
            if array:
                lowering.append(Store(array, index, at))
        if not array:
            lowering.scalars[node] = at


ARGSORT, SORT, SEARCHSORTED = register(ArgSort()), register(Sort()), register(SearchSorted())
ARGSORT_ROWS, ARGSELECT = register(ArgSortRows()), register(ArgSelect())


def _line(a: Any, axis: Any) -> tuple[Any, int]:
    """The array to sort and its axis; None flattens."""
    a = strong(as_operand(a))
    if axis is None:
        return ravel(a), 0
    if not type_of(a).rank:
        raise np.exceptions.AxisError(axis, 0)
    return a, normal_axis(axis, type_of(a).rank)


def _plain(order: Any) -> None:
    if order is not None:
        raise UnsupportedError("order= is for structured arrays, which cannot be traced")


@public(np.argsort)
def argsort(
    a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Any:
    """The indices that sort `a` along `axis` (None: flattened); equal elements keep their order.

    Every `kind` is stable here. NaN comes last.
    """
    del kind, stable
    _plain(order)
    a = as_operand(a)
    if type_of(a).rank == 0:
        a = reshape(a, (1,))
    a, axis = _line(a, axis)
    return moveaxis(bind(ARGSORT, moveaxis(a, axis, -1)), -1, axis)


@public(np.sort)
def sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    """The elements in ascending order along `axis` (None: of the flattened array); NaN last."""
    del kind, stable
    _plain(order)
    a, axis = _line(a, axis)
    return moveaxis(sorted_last(moveaxis(a, axis, -1)), -1, axis)


def sorted_last(a: Any) -> Any:
    """`a` sorted along its last axis."""
    return chosen_last(a, bind(ARGSORT, a))


def selected_last(a: Any, wanted: Any) -> Any:
    """`sorted_last(a)[..., wanted]` for a vector of places that are in bounds: without sorting."""
    return chosen_last(a, bind(ARGSELECT, a, wanted))


def chosen_last(a: Any, index: Any) -> Any:
    """`take_along_axis(a, index, -1)` for indices that surely are in bounds."""
    shape, rank = type_of(a).shape, type_of(a).rank
    index = bind(WITHIN, index, size=shape[-1], axis=rank - 1)
    others = (counting(size, at, rank) for at, size in enumerate(shape[:-1]))
    return bind(GATHER, a, *others, index, axes=tuple(range(rank)))


@public(np.partition)
def partition(a: Any, kth: Any, axis: Any = -1, kind: Any = "introselect", order: Any = None):
    """As NumPy's; the parts beside the `kth` elements are sorted too."""
    _in_range(a, kth, axis)
    return sort(a, axis, order=order)


@public(np.argpartition)
def argpartition(a: Any, kth: Any, axis: Any = -1, kind: Any = "introselect", order: Any = None):
    """As NumPy's; the parts beside the `kth` elements are in order too."""
    _in_range(a, kth, axis)
    return argsort(a, axis, order=order)


def _in_range(a: Any, kth: Any, axis: Any) -> None:
    """Raises ValueError for a `kth` that is no position along the axis."""
    line, axis = _line(a, axis)
    size = type_of(line).shape[axis]
    for k in np.ravel(kth).tolist():
        if not _is_position(k, size):
            raise ValueError(f"kth(={k}) out of bounds ({size})")


def _is_position(k: int, size: Size) -> bool:
    return required(k, "<", size) and required(-k, "<=", size)


@public(np.lexsort)
def lexsort(keys: Any, axis: Any = -1) -> Any:
    """The order by several keys, the last one first; equal elements keep their order."""
    keys = [as_operand(key) for key in _rows(keys)]
    if not keys:
        raise TypeError("need sequence of keys with len > 0 in lexsort")
    found = argsort(keys[0], axis)
    for key in keys[1:]:
        ranked = PUBLIC["take_along_axis"](key, found, axis)
        found = PUBLIC["take_along_axis"](found, argsort(ranked, axis), axis)
    return found


def _rows(keys: Any) -> Any:
    return keys if isinstance(keys, list | tuple) else PUBLIC["unstack"](as_operand(keys))


@public(np.searchsorted)
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    """Where the elements of `v` would be inserted into the sorted vector `a` to keep its order."""
    if side not in SIDES:
        raise ValueError(f"side must be 'left' or 'right' (got {side!r})")
    a, v = as_operand(a), as_operand(v)
    if type_of(a).rank != 1:
        raise ValueError(f"object of too small depth for desired array: a is {type_of(a)}")
    if sorter is not None:
        a = PUBLIC["take"](a, sorter)
    common = np.result_type(type_of(a).dtype, type_of(v).dtype)
    return bind(SEARCHSORTED, astype(a, common), astype(v, common), right=side == "right")


@public(np.digitize)
def digitize(x: Any, bins: Any, right: bool = False) -> Any:
    """The number `i` of the bin of each element: `bins[i - 1] <= x < bins[i]`; `right`: `<`, `<=`.

    `bins` ascend or descend; that is checked where they are known, so computed ones are refused.
    """
    edges = as_operand(bins)
    if not isinstance(edges, np.ndarray):
        raise UnsupportedError(
            f"np.digitize with computed bins {type_of(edges)}: whether they ascend is not known; "
            "use np.searchsorted(bins, x, side='right') if they do"
        )
    steps = np.diff(edges)
    if edges.ndim != 1 or not ((steps >= 0).all() or (steps <= 0).all()):
        raise ValueError("bins must be monotonically increasing or decreasing")
    if (steps >= 0).all():
        return searchsorted(edges, x, SIDES[not right])
    return len(edges) - searchsorted(edges[::-1], x, SIDES[bool(right)])


sample(lambda x: (np.sort(x), x.argsort()), (5,))
sample(lambda x: bind(SORT, np.exp(x)), (3, 4))
sample(lambda x: (np.sort(x, axis=0) ** 2, np.sort(x, axis=None), np.sort(x)), (4, 3))
sample(lambda x: np.sort(x, axis=1)[:, :2], (2, 5, 2))
sample(lambda x: (np.sort(x), np.argsort(x, axis=0)), (0, 3), smooth=False)
sample(
    lambda x: (np.sort(x, axis=0), np.argsort(x, kind="stable")), (20, 3), kinds="iub", smooth=False
)
sample(lambda x: np.sort(np.where(x > 1, np.nan, x)), (40,), smooth=False)
sample(lambda x: np.partition(x, 2)[2] * np.partition(x, (1, 2), axis=-1)[1], (6,))
sample(lambda x: x[np.argpartition(x, 3)[3]], (5,))
sample(lambda x: x[np.lexsort((x, np.round(x)))], (8,), smooth=False)
sample(
    lambda x: (np.searchsorted(np.sort(x), x), np.searchsorted(x, 0.5, "right", np.argsort(x))),
    (6,),
    smooth=False,
)
sample(lambda x: np.searchsorted(np.array([-1, 0, 1]), x), (2, 3), kinds="fiu", smooth=False)
sample(
    lambda x: (np.digitize(x, np.array([-1.0, 0.0, 1.0])), np.digitize(x, [1, 0], right=True)),
    (2, 3),
    smooth=False,
)
