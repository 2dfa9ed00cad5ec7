"""Elements chosen by integer arrays: read (gather), added to (scatter_add), written (scatter_set).

`axes` are the indexed axes of the array, one index array each; these broadcast to a common shape,
which stands in the result where NumPy puts it: in the place of the indexed axes if they are
neighbours, else first. With x: f64[n, m] and idx: i64[p]:

    x[idx]      is  gather(x, idx, axes=(0,)): f64[p, m]
    x[:, idx]   is  gather(x, idx, axes=(1,)): f64[n, p]    =>    d_x = scatter_add(d_y, idx, ...)

Index arrays were passed through `bounds.checked`: they are in bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.expr import Call, Expr, Select
from codegen.loops import Accumulate, Store
from tracegrad.ir.dims import Size, product
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.batched import Mapped, count_of, item_rank, leading, moved
from tracegrad.ops.bounds import as_integer, is_nonnegative
from tracegrad.ops.broadcast import Shape, aligned, broadcast_shapes
from tracegrad.ops.constant import ARANGE
from tracegrad.ops.extent import extent
from tracegrad.ops.op import PUBLIC, bind, register, type_of
from tracegrad.ops.reduction import broadcast_to
from tracegrad.ops.shape import reshape, shape_text
from tracegrad.ops.slicing import zeros

Reader = Callable[..., Expr]
Axes = tuple[int, ...]


class Gather(Op):
    """`y[k, j] = x[index[k], j]`  =>  `d_x` is `d_y` added up where it was read."""

    name = "gather"
    linear = (0,)
    weight = 1

    def infer(self, x: ArrayType, *indices: ArrayType, axes: Axes) -> ArrayType:
        return x.with_shape(gathered_shape(x.shape, indices, axes))

    def reference(self, x: np.ndarray, *indices: np.ndarray, axes: Axes) -> Any:
        return np.asarray(x)[subscript(indices, axes)]

    def text(self, x: str, *indices: str, axes: Axes) -> str:
        return x + subscript_text(indices, axes)

    def transpose(self, ct: Array, x: Array, *indices: Array, axes: Axes):
        return (bind(SCATTER_ADD, ct, *indices, axes=axes, shape=x.type.shape),)

    def batch(self, mapped: Mapped, x: Array, *indices: Array, axes: Axes) -> Array:
        if not mapped[0]:
            indices = tuple(_aligned(indices, mapped[1:]))
            return moved(bind(GATHER, x, *indices, axes=axes), place_of(axes), 0)
        plan = _Batched(axes, indices, mapped[1:], x.type.shape[0])
        return plan.item_first(bind(GATHER, x, *plan.indices, axes=plan.axes))

    def element(self, read: Reader, index: tuple[Expr, ...], node: Any) -> Expr:
        place = position(read, index, node.inputs, 1, node.inputs[0].type.shape, node)
        return read(0, place)


class GatherAt(Gather):
    """`x[i]` with a traced number `i`: in NumPy a view if axes are left."""

    name = "gather_at"

    def reference(self, x: np.ndarray, *indices: np.ndarray, axes: Axes) -> Any:
        return np.asarray(x)[subscript(tuple(int(index) for index in indices), axes)]

    def put(self, base: Array, value: Array, *indices: Array, axes: Axes) -> Array:
        return bind(SCATTER_SET, base, value, *indices, axes=axes, unique=True)

    def strides(self, strides: Shape, x: ArrayType, *, axes: Axes) -> Shape:
        return tuple(stride for axis, stride in enumerate(strides) if axis not in axes)


class ScatterAdd(Op):
    """Zeros of `shape`, with `value` added at the indices; repeated ones add up."""

    name = "scatter_add"
    linear = (0,)

    def infer(self, value: ArrayType, *indices: ArrayType, axes: Axes, shape: Shape) -> ArrayType:
        return value.with_shape(shape)

    def reference(
        self, value: np.ndarray, *indices: np.ndarray, axes: Axes, shape: tuple[int, ...]
    ) -> np.ndarray:
        result = np.zeros(shape, np.asarray(value).dtype)
        np.add.at(result, subscript(indices, axes), value)
        return result

    def text(self, value: str, *indices: str, axes: Axes, shape: Shape) -> str:
        return f"scatter_add({value}, {subscript_text(indices, axes)}, {shape_text(shape)})"

    def lines(self, target: str, value: str, *indices: str, axes: Axes, shape: Shape) -> list[str]:
        zero = f"{target} = np.zeros_like({value}, shape={shape_text(shape)})"
        return [zero, f"np.add.at({target}, np.s_{subscript_text(indices, axes)}, {value})"]

    def transpose(
        self, ct: Array, value: Array, *indices: Array, axes: Axes, shape: Shape
    ) -> tuple[Array | None, ...]:
        return (bind(GATHER, ct, *indices, axes=axes),)

    def batch(
        self, mapped: Mapped, value: Array, *indices: Array, axes: Axes, shape: Shape
    ) -> Array:
        count = count_of(mapped, (value, *indices))
        value = value if mapped[0] else broadcast_to(value, (count, *value.type.shape))
        plan = _Batched(axes, indices, mapped[1:], count)
        value = plan.indices_first(value)
        return bind(SCATTER_ADD, value, *plan.indices, axes=plan.axes, shape=(count, *shape))

    def kernel(self, lowering: Any, node: Any) -> None:
        array, value, dtype = lowering.allocate(node, fill=0), node.inputs[0], node.type.dtype
        with lowering.nest(value.type.shape) as index:
            element = lowering.value(value, index)
            place = position(lowering.reader(node), index, node.inputs, 1, node.type.shape, node)
            comment = lowering.comment(node)
            lowering.append(Accumulate(array, place, "add", element, dtype, comment))


class ScatterSet(Op):
    """`base` with `value` written at the indices; of repeated ones the last counts.

    d_base = d_y with zeros written there,  d_value = d_y read there, where the write was the last
    """

    name = "scatter_set"
    linear = (0, 1)
    overwrites = 0

    def infer(
        self, base: ArrayType, value: ArrayType, *indices: ArrayType, axes: Axes, unique: bool
    ) -> ArrayType:
        return ArrayType(base.dtype, base.shape)

    def reference(
        self,
        base: np.ndarray,
        value: np.ndarray,
        *indices: np.ndarray,
        axes: Axes,
        unique: bool,
    ) -> np.ndarray:
        result = np.array(base)
        result[subscript(indices, axes)] = value
        return result

    def text(self, base: str, value: str, *indices: str, axes: Axes, unique: bool) -> str:
        return f"scatter_set({base}, {subscript_text(indices, axes)}, {value})"

    def lines(
        self, target: str, base: str, value: str, *indices: str, axes: Axes, unique: bool
    ) -> list[str]:
        return [
            f"{target} = np.copy({base})",
            f"{target}{subscript_text(indices, axes)} = {value}",
        ]

    def transpose(
        self, ct: Array, base: Array, value: Array, *indices: Array, axes: Axes, unique: bool
    ):
        d_value = bind(GATHER, ct, *indices, axes=axes)
        if not unique:
            d_value = PUBLIC["where"](_last_writes(base.type, indices, axes), d_value, 0)
        nothing = zeros(value.type)
        d_base = bind(SCATTER_SET, ct, nothing, *indices, axes=axes, unique=unique)
        return d_base, d_value

    def batch(self, mapped: Mapped, *inputs: Array, axes: Axes, unique: bool) -> Array:
        count = count_of(mapped, inputs)
        base, value = (
            x if here else broadcast_to(x, (count, *x.type.shape))
            for x, here in zip(inputs[:2], mapped[:2], strict=True)
        )
        plan = _Batched(axes, inputs[2:], mapped[2:], count)
        value = plan.indices_first(value)
        return bind(SCATTER_SET, base, value, *plan.indices, axes=plan.axes, unique=unique)

    def jvp(
        self,
        tangents: tuple[Array | None, ...],
        out: Array,
        base: Array,
        value: Array,
        *indices: Array,
        **attrs: Any,
    ) -> Array:
        t_base, t_value = tangents[:2]
        t_base = zeros(base.type) if t_base is None else t_base
        t_value = zeros(value.type) if t_value is None else t_value
        return bind(SCATTER_SET, t_base, t_value, *indices, **attrs)

    def kernel(self, lowering: Any, node: Any) -> None:
        array, value = lowering.overwrite(node), node.inputs[1]
        with lowering.nest(value.type.shape, sequential=tuple(range(value.type.rank))) as index:
            element = lowering.value(value, index)
            place = position(lowering.reader(node), index, node.inputs, 2, node.type.shape, node)
            lowering.append(Store(array, place, element, lowering.comment(node)))


class _Batched:
    """Indexing of mapped arrays: along one more axis, by the item's number if indices are mapped.

    x[:, idx], idx shared     ->      x[:, :, idx]
    x[:, idx], idx mapped     ->      x[items, :, idx]
    """

    def __init__(self, axes: Axes, indices: tuple[Array, ...], mapped: Mapped, count: Size) -> None:
        shifted = tuple(axis + 1 for axis in axes)
        self.rank = max(map(item_rank, indices, mapped))
        self.place = place_of(axes)
        self.axes, self.indices, self.with_items = shifted, indices, any(mapped)
        if self.with_items:
            items = reshape(bind(ARANGE, size=count), (count, *(1,) * self.rank))
            self.axes, self.indices = (0, *shifted), (items, *_aligned(indices, mapped))

    def item_first(self, gathered: Array) -> Array:
        """The axes of a gathered array in the order that an item's have, after the leading one."""
        if self.with_items:
            return self._block(gathered, 1, self.place + 1)
        return gathered if place_of(self.axes) else moved(gathered, self.rank, 0)

    def indices_first(self, value: Array) -> Array:
        """The other way: a value of items as this indexing takes it."""
        if self.with_items:
            return self._block(value, self.place + 1, 1)
        return value if place_of(self.axes) else moved(value, 0, self.rank)

    def _block(self, x: Array, source: int, to: int) -> Array:
        """The axes that come from the indices moved from `source` to `to`."""
        if source == to or not self.rank:
            return x
        places = range(self.rank)
        return PUBLIC["moveaxis"](
            x, tuple(source + at for at in places), tuple(to + at for at in places)
        )


def _aligned(indices: tuple[Array, ...], mapped: Mapped) -> list[Array]:
    rank = max(map(item_rank, indices, mapped))
    return [leading(x, here, rank) for x, here in zip(indices, mapped, strict=True)]


class IndexAdd(Op):
    """`base` with `value` added at the indices; sums of scatter_add become it.

    d_base = d_y,  d_value = d_y[indices]
    """

    name = "index_add"
    linear = (0, 1)
    overwrites = 0

    def infer(
        self, base: ArrayType, value: ArrayType, *indices: ArrayType, axes: Axes
    ) -> ArrayType:
        return ArrayType(base.dtype, base.shape)

    def reference(
        self, base: np.ndarray, value: np.ndarray, *indices: np.ndarray, axes: Axes
    ) -> np.ndarray:
        result = np.array(base)
        np.add.at(result, subscript(indices, axes), value)
        return result

    def text(self, base: str, value: str, *indices: str, axes: Axes) -> str:
        return f"index_add({base}, {subscript_text(indices, axes)}, {value})"

    def lines(self, target: str, base: str, value: str, *indices: str, axes: Axes) -> list[str]:
        place = f"np.s_{subscript_text(indices, axes)}"
        return [f"{target} = np.copy({base})", f"np.add.at({target}, {place}, {value})"]

    def transpose(self, ct: Array, base: Array, value: Array, *indices: Array, axes: Axes):
        return ct, bind(GATHER, ct, *indices, axes=axes)

    def jvp(
        self,
        tangents: tuple[Array | None, ...],
        out: Array,
        base: Array,
        value: Array,
        *indices: Array,
        axes: Axes,
    ) -> Array:
        t_base, t_value = tangents[:2]
        if t_base is None:
            return bind(SCATTER_ADD, t_value, *indices, axes=axes, shape=base.type.shape)
        return t_base if t_value is None else bind(INDEX_ADD, t_base, t_value, *indices, axes=axes)

    def batch(self, mapped: Mapped, *inputs: Array, axes: Axes) -> Array:
        count = count_of(mapped, inputs)
        base, value = (
            x if here else broadcast_to(x, (count, *x.type.shape))
            for x, here in zip(inputs[:2], mapped[:2], strict=True)
        )
        plan = _Batched(axes, inputs[2:], mapped[2:], count)
        return bind(INDEX_ADD, base, plan.indices_first(value), *plan.indices, axes=plan.axes)

    def kernel(self, lowering: Any, node: Any) -> None:
        array, value, dtype = lowering.overwrite(node), node.inputs[1], node.type.dtype
        with lowering.nest(value.type.shape) as index:
            element = lowering.value(value, index)
            place = position(lowering.reader(node), index, node.inputs, 2, node.type.shape, node)
            comment = lowering.comment(node)
            lowering.append(Accumulate(array, place, "add", element, dtype, comment))


GATHER = register(Gather())
GATHER_AT = register(GatherAt())
SCATTER_ADD = register(ScatterAdd())
SCATTER_SET = register(ScatterSet())
INDEX_ADD = register(IndexAdd())


def _last_writes(base: ArrayType, indices: tuple[Array, ...], axes: Axes) -> Array:
    """Which elements of the value survive a scatter_set, broadcast against it.

    Each write leaves its number; where that is still found, the write was the last.
    """
    shape = broadcast_shapes("index with", *map(type_of, indices))
    numbers = reshape(bind(ARANGE, size=product(shape)), shape)
    nobody = broadcast_to(-1, tuple(base.shape[axis] for axis in axes))
    along = tuple(range(len(axes)))
    found = bind(SCATTER_SET, nobody, numbers, *indices, axes=along, unique=False)
    survives = bind(GATHER, found, *indices, axes=along) == numbers
    after = base.rank - len(axes) - place_of(axes)
    return reshape(survives, shape + (1,) * after) if after else survives


def place_of(axes: Axes) -> int:
    """The axis of the result at which the index arrays' axes begin."""
    neighbours = axes == tuple(range(axes[0], axes[0] + len(axes)))
    return axes[0] if neighbours else 0


def gathered_shape(shape: Shape, indices: tuple[ArrayType, ...], axes: Axes) -> Shape:
    rest = tuple(size for axis, size in enumerate(shape) if axis not in axes)
    at = place_of(axes)
    return rest[:at] + broadcast_shapes("index with", *indices) + rest[at:]


def subscript(indices: tuple[Any, ...], axes: Axes) -> tuple[Any, ...]:
    """The index of NumPy: `x[:, i, :, j]`."""
    found: list[Any] = [slice(None)] * (axes[-1] + 1)
    for index, axis in zip(indices, axes, strict=True):
        found[axis] = index
    return tuple(found)


def subscript_text(indices: tuple[str, ...], axes: Axes) -> str:
    parts = [":" if isinstance(part, slice) else part for part in subscript(indices, axes)]
    return f"[{', '.join(parts)}]"


def position(
    read: Reader,
    index: tuple[Expr, ...],
    inputs: tuple[Any, ...],
    first: int,
    shape: Shape,
    node: Any,
) -> tuple[Expr, ...]:
    """Where in the array of `shape` the gathered element `index` lies.

    `inputs[first:]` are the index arrays.
    """
    axes, indices = node.attributes["axes"], inputs[first:]
    at = place_of(axes)
    rank = len(index) - (len(shape) - len(axes))
    chosen, rest = index[at : at + rank], iter(index[:at] + index[at + rank :])
    found: list[Expr] = []
    for axis, size in enumerate(shape):
        if axis not in axes:
            found.append(next(rest))
            continue
        number = axes.index(axis)
        operand = indices[number]
        entry = read(first + number, aligned(chosen, operand.type.shape))
        found.append(_wrapped(as_integer(entry), size, operand))
    return tuple(found)


def _wrapped(entry: Expr, size: Size, operand: Any) -> Expr:
    """Negative indices count from the end."""
    if is_nonnegative(operand):
        return entry
    negative = Call("less", (entry, ex.integer(0)), ex.BOOL)
    return Select(negative, ex.add(entry, extent(size)), entry, ex.INT)
