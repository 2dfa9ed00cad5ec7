"""Elements in another order or repeated: flip, roll, rot90, tile, repeat.

y = roll(x, 2)  is  y[i] = x[i - 2] if i >= 2 else x[i - 2 + n]      =>      d_x = roll(d_y, -2)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.expr import Call, Expr, Select
from tracegrad.errors import ShapeError, UnsupportedError
from tracegrad.ir.dims import Size, holds, in_figures, must_be_same, of_data, required
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.axes import expand_dims, ravel, swapaxes
from tracegrad.ops.bounds import WITHIN
from tracegrad.ops.constant import ARANGE
from tracegrad.ops.extent import extent
from tracegrad.ops.gathering import GATHER
from tracegrad.ops.nonzero import repeated
from tracegrad.ops.op import (
    Bindable,
    SizeValue,
    as_operand,
    bind,
    public,
    register,
    sample,
    type_of,
)
from tracegrad.ops.picking import take
from tracegrad.ops.reduction import broadcast_to, size_value
from tracegrad.ops.shape import as_shape, as_size, copy, normal_axes, normal_axis, reshape
from tracegrad.ops.slicing import slices


class Roll(Op):
    """`y[i] = x[(i - shift) mod n]` along `axis`, `0 <= shift <= n`; the adjoint rolls back."""

    name = "roll"
    moves = by_reference = True
    linear = (0,)

    def infer(self, x: ArrayType, *, shift: Size, axis: int) -> ArrayType:
        return x.with_shape(x.shape)

    def reference(self, x: np.ndarray, *, shift: int, axis: int) -> np.ndarray:
        return np.roll(x, shift, axis)

    def text(self, x: str, *, shift: Size, axis: int) -> str:
        return f"np.roll({x}, {shift}, axis={axis})"

    def transpose(self, ct: Array, x: Array, *, shift: Size, axis: int) -> tuple[Array | None, ...]:
        return (bind(ROLL, ct, shift=x.type.shape[axis] - shift, axis=axis),)

    def batch(self, mapped: tuple[bool, ...], x: Array, *, shift: Size, axis: int) -> Array:
        return bind(ROLL, x, shift=shift, axis=axis + 1)

    def element(self, read: Callable[..., Expr], index: tuple[Expr, ...], node: Any) -> Expr:
        axis = node.attributes["axis"]
        shift, size = node.attributes["shift"], node.type.shape[axis]
        i = index[axis]
        match i:
            case Select(Call("less", (before, _))) if i == rolled(before, size - shift, size):
                place = before  # rolled there and back
            case _:
                place = rolled(i, shift, size)
        return read(0, (*index[:axis], place, *index[axis + 1 :]))


def rolled(i: Expr, shift: Size, size: Size) -> Expr:
    """`(i - shift) mod size`."""
    first = extent(shift)
    wrapped = ex.add(i, extent(size - shift))
    return Select(Call("less", (i, first), ex.BOOL), wrapped, ex.subtract(i, first), ex.INT)


ROLL = register(Roll())


@public(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    """`a` moved on by `shift` places along `axis` (None: flattened); what leaves comes back in."""
    a = as_operand(a)
    type = type_of(a)
    if axis is None:
        return reshape(roll(ravel(a), shift, 0), type.shape)
    shifts = _places(shift)
    axes = [normal_axis(at, type.rank) for at in _items(axis)]
    if len(shifts) > 1 and len(axes) > 1 and len(shifts) != len(axes):
        raise ShapeError("roll: shift and axis must have the same length")
    pairs = np.broadcast_shapes((len(shifts),), (len(axes),))[0]
    result = a
    for number in range(pairs):
        along = axes[number % len(axes)]
        result = _rolled(result, shifts[number % len(shifts)], along)
    return copy(a) if result is a else result


def _places(shift: Any) -> list[Size]:
    if isinstance(shift, np.ndarray):
        shift = shift.tolist()
    try:
        return [as_size(item) for item in _items(shift)]
    except TypeError:
        raise UnsupportedError(
            f"roll by {shift}: the shift must be an integer, a size, or a tuple of these"
        ) from None


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def _rolled(a: Any, shift: Size, axis: int) -> Any:
    size = type_of(a).shape[axis]
    if isinstance(shift, int) and isinstance(size, int):
        shift = shift % size if size else 0
    elif of_data(size) or of_data(shift):
        return _rolled_by_index(a, shift, axis)
    elif not holds(size, "!=", 0):
        return a
    else:
        while not holds(shift, "<=", size):
            shift = shift - size
        while not holds(0, "<=", shift):
            shift = shift + size
    if isinstance(shift, int) and shift == 0:
        return a
    return bind(ROLL, a, shift=shift, axis=axis)


def _rolled_by_index(a: Any, shift: Size, axis: int) -> Any:
    """The same for sizes that data decides on: the places are computed, for 0 elements none."""
    size = type_of(a).shape[axis]
    places = (bind(ARANGE, size=size) - size_value(shift)) % size_value(size)
    return bind(GATHER, a, bind(WITHIN, places, size=size, axis=axis), axes=(axis,))


@public(np.flip)
def flip(m: Any, axis: Any = None) -> Any:
    """`m` with the order along `axis` (None: all axes) reversed; a view."""
    m = as_operand(m)
    shape = type_of(m).shape
    axes = normal_axes(axis, len(shape))
    return slices(m, {at: (shape[at] - 1, shape[at], -1) for at in axes})


@public(np.fliplr)
def fliplr(m: Any) -> Any:
    """`m` with the order of its columns reversed."""
    if type_of(as_operand(m)).rank < 2:
        raise ValueError("Input must be >= 2-d.")
    return flip(m, 1)


@public(np.flipud)
def flipud(m: Any) -> Any:
    """`m` with the order of its rows reversed."""
    if type_of(as_operand(m)).rank < 1:
        raise ValueError("Input must be >= 1-d.")
    return flip(m, 0)


@public(np.rot90)
def rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    """`m` turned by `k` times 90 degrees, from the first of `axes` towards the second."""
    m = as_operand(m)
    rank = type_of(m).rank
    if len(axes) != 2:
        raise ValueError("len(axes) must be 2.")
    first, second = normal_axis(axes[0], rank), normal_axis(axes[1], rank)
    if first == second:
        raise ValueError("Axes must be different.")
    match k % 4:
        case 1:
            return swapaxes(flip(m, second), first, second)
        case 2:
            return flip(m, (first, second))
        case 3:
            return flip(swapaxes(m, first, second), second)
    return slices(m, {})


@public(np.tile)
def tile(A: Any, reps: Any) -> Any:
    """`A` repeated as a whole, `reps` times along each axis."""
    counts = as_shape(reps)
    array = as_operand(A)
    missing = len(counts) - type_of(array).rank
    array = expand_dims(array, tuple(range(missing))) if missing > 0 else array
    shape = type_of(array).shape
    counts = (1,) * (len(shape) - len(counts)) + counts
    between = tuple(size for pair in zip(counts, shape, strict=True) for size in pair)
    spaced = reshape(array, tuple(size for extent in shape for size in (1, extent)))
    whole = tuple(count * size for count, size in zip(counts, shape, strict=True))
    return copy(reshape(broadcast_to(spaced, between), whole))


def _repeat_each(a: Any, counts: np.ndarray, axis: Any) -> Any:
    """Element i of the axis `counts[i]` times."""
    a = ravel(a) if axis is None else as_operand(a)
    shape = type_of(a).shape
    axis = 0 if axis is None else normal_axis(axis, len(shape))
    if counts.ndim != 1 or not must_be_same(shape[axis], len(counts)):
        raise ValueError(
            f"operands could not be broadcast together with shape ({in_figures(shape[axis])},) "
            f"({len(counts)},)"
        )
    return take(a, np.repeat(np.arange(len(counts)), counts), axis)


@public(np.repeat)
def repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    """Each element of `a` repeated `repeats` times along `axis` (None: flattened)."""
    if isinstance(repeats, Bindable):
        repeats = repeats if repeats.known() is None else repeats.known()
    if isinstance(repeats, Bindable):
        a = ravel(a) if axis is None else as_operand(a)
        axis = 0 if axis is None else normal_axis(axis, type_of(a).rank)
        places = repeated(repeats, type_of(a).shape[axis])
        return bind(GATHER, a, places, axes=(axis,))
    if not isinstance(repeats, int | np.integer | SizeValue):
        if np.size(repeats) != 1:
            return _repeat_each(a, np.asarray(repeats), axis)
        repeats = int(np.asarray(repeats).item())
    count = as_size(repeats)
    if not required(0, "<=", count):
        raise ValueError("repeats may not contain negative values.")
    a = ravel(a) if axis is None else as_operand(a)
    shape = type_of(a).shape
    axis = 0 if axis is None else normal_axis(axis, len(shape))
    spaced = expand_dims(a, axis + 1)
    wide = broadcast_to(spaced, (*shape[: axis + 1], count, *shape[axis + 1 :]))
    return copy(reshape(wide, (*shape[:axis], shape[axis] * count, *shape[axis + 1 :])))


sample(lambda x: np.repeat(x, np.abs(x).astype(int)) ** 2, (5,), smooth=False, ragged=True)
sample(lambda x: np.sum(np.repeat(x, (x[0] > 0) + 1, axis=1) ** 2), (2, 3))
sample(lambda x: np.roll(x, 2) * x, (5,))
sample(lambda x: np.roll(x, 1, axis=0) - 2 * x + np.roll(x, -1, axis=0), (4, 3))
sample(lambda x: np.roll(x, 2, axis=1) + np.roll(x, -7), (3, 4))
sample(lambda x: np.roll(x, (1, -1), axis=(0, 1)) * np.roll(x, 3, axis=(0, -1)), (3, 4))
sample(lambda x: np.roll(x, len(x) // 2, axis=0) + np.roll(x, 0), (5,))
sample(lambda x: (np.roll(x, 3), np.roll(x, 1, axis=1)), (0, 3))
sample(lambda x: np.roll(x, 3) * x, (1,))
sample(lambda x: np.flip(x) * np.flip(x, 0) + np.flip(x, (1, -2)), (3, 4))
sample(lambda x: np.flip(x) + 1, ())
sample(lambda x: np.fliplr(x) * np.flipud(x), (3, 4))
sample(lambda x: np.rot90(x) + np.rot90(x, -1) ** 2 + np.rot90(x, 3, axes=(1, 0)), (3, 4))
sample(lambda x: np.rot90(x, 2, axes=(0, 2)) * np.rot90(x, 4), (2, 3, 4))
sample(lambda x: np.tile(x, 3) + np.tile(x, (2, 1))[:1].ravel().sum(), (4,))
sample(lambda x: np.tile(x, (2, 1, 3)), (2, 3))
sample(lambda x: (np.tile(x, 2), np.tile(x, ()), np.tile(x, (2, 2))), ())
sample(lambda x: np.tile(x, 0), (3,))
sample(lambda x: np.repeat(x, 2) * np.repeat(x, 2, axis=0).ravel(), (3, 2))
sample(lambda x: np.repeat(x, 3, axis=-1) ** 2, (2, 3))
sample(lambda x: (np.repeat(x, 0, axis=0), np.repeat(x, [4])), (2, 1))
sample(lambda x: (np.roll(x, 1), np.flip(x), np.repeat(x, 2)), (3,), kinds="iub", smooth=False)
