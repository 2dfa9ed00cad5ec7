"""Arrays put side by side: concatenate and its family; and taken apart again: split.

    y = concatenate((a, b), axis=0)  =>  d_a = d_y[:n],  d_b = d_y[n:]

The kernel writes each piece with a loop nest of its own, so no element asks which piece it is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.loops import Store
from tracegrad.errors import ShapeError, UnsupportedError
from tracegrad.ir.dims import Size, holds, in_figures, must_be_same, of_data, quotient, required
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.axes import atleast_1d, atleast_2d, atleast_3d, expand_dims, moveaxis, ravel
from tracegrad.ops.batched import Mapped, everywhere
from tracegrad.ops.constant import astype
from tracegrad.ops.op import (
    PUBLIC,
    Bindable,
    as_operand,
    bind,
    public,
    register,
    sample,
    type_of,
)
from tracegrad.ops.shape import as_size, copy, normal_axis, reshape
from tracegrad.ops.slicing import slices


class Concatenate(Op):
    """The operands one after the other along `axis`; each cotangent is a slice of the result's."""

    name = "concatenate"
    moves = by_reference = True
    linear = (-1,)

    def infer(self, *types: ArrayType, axis: int) -> ArrayType:
        first, total = types[0], 0
        for type in types:
            if not _fit(first, type, axis):
                raise ShapeError(
                    f"cannot concatenate {first.in_figures()} and {type.in_figures()} along axis "
                    f"{axis}: the other axes "
                    "must have the same extents"
                )
            total = type.shape[axis] + total
        return first.with_shape((*first.shape[:axis], total, *first.shape[axis + 1 :]))

    def reference(self, *arrays: np.ndarray, axis: int) -> np.ndarray:
        return np.concatenate(arrays, axis=axis)

    def text(self, *args: str, axis: int) -> str:
        pieces = f"{args[0]}," if len(args) == 1 else ", ".join(args)
        return f"np.concatenate(({pieces}), axis={axis})"

    def transpose(self, ct: Array, *inputs: Array, axis: int) -> tuple[Array | None, ...]:
        return tuple(
            slices(ct, {axis: (start, x.type.shape[axis], 1)})
            for start, x in zip(_starts(inputs, axis), inputs, strict=True)
        )

    def batch(self, mapped: Mapped, *inputs: Array, axis: int) -> Array:
        return bind(CONCATENATE, *everywhere(mapped, inputs), axis=axis + 1)

    def kernel(self, lowering: Any, node: Any) -> None:
        array, axis = lowering.allocate(node), node.attributes["axis"]
        for start, piece in zip(_starts(node.inputs, axis), node.inputs, strict=True):
            long = tuple(at for at, size in enumerate(piece.type.shape) if size != 1)
            with lowering.nest(tuple(piece.type.shape[at] for at in long)) as inner:
                index = [ex.integer(0)] * piece.type.rank
                for at, variable in zip(long, inner, strict=True):
                    index[at] = variable
                value = lowering.value(piece, tuple(index))
                index[axis] = ex.add(index[axis], lowering.size(start))
                lowering.append(Store(array, tuple(index), value, lowering.comment(node)))


def _fit(a: ArrayType, b: ArrayType, axis: int) -> bool:
    return a.rank == b.rank and all(
        at == axis or must_be_same(size, other)
        for at, (size, other) in enumerate(zip(a.shape, b.shape, strict=True))
    )


def _starts(pieces: Sequence[Any], axis: int) -> list[Size]:
    found: list[Size] = [0]
    for piece in pieces[:-1]:
        found.append(piece.type.shape[axis] + found[-1])
    return found


CONCATENATE = register(Concatenate())


def _pieces(arrays: Any, dtype: Any = None) -> list[Any]:
    """The operands in their common dtype (Python numbers count as the arrays they would be)."""
    if isinstance(arrays, Bindable):
        return list(arrays)  # type: ignore[call-overload]  # row by row
    found = [as_operand(array) for array in arrays]
    if not found:
        raise ValueError("need at least one array to concatenate")
    if dtype is None:
        dtype = np.result_type(*(type_of(array).dtype for array in found))
    return [astype(array, dtype) for array in found]


def _stacked(arrays: Any, dtype: Any) -> Any:
    """The array that a list is stacked in already, one that a compiled loop made; else None."""
    found = getattr(arrays, "stacked", None)
    return found if found is None or dtype is None else astype(found, dtype)


def _merged(whole: Any, axis: Any) -> Any:
    """The items of a stacked array one after the other along an axis of theirs."""
    shape = type_of(whole).shape
    if len(shape) == 1:
        raise ValueError("zero-dimensional arrays cannot be concatenated")
    axis = normal_axis(axis, len(shape) - 1)
    rest = shape[1:]
    merged = (*rest[:axis], shape[0] * rest[axis], *rest[axis + 1 :])
    return copy(reshape(moveaxis(whole, 0, axis), merged))


@public(np.concatenate, name="concatenate")
def concatenate(arrays: Any, /, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting=None):
    """`arrays` (a sequence) one after the other along `axis`; None flattens them first.

    Raises ShapeError if their other extents differ.
    """
    if out is not None or casting not in (None, "same_kind"):
        raise UnsupportedError("concatenate: out= and casting= are not supported")
    if (whole := _stacked(arrays, dtype)) is not None and axis is not None:
        return _merged(whole, axis)
    pieces = _pieces(arrays, dtype)
    if axis is None:
        pieces, axis = [ravel(piece) for piece in pieces], 0
    ranks = {type_of(piece).rank for piece in pieces}
    if ranks == {0}:
        raise ValueError("zero-dimensional arrays cannot be concatenated")
    axis = normal_axis(axis, max(ranks))
    return bind(CONCATENATE, *pieces, axis=axis)


PUBLIC["concat"] = concatenate


@public(np.stack)
def stack(arrays: Any, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting=None) -> Any:
    """`arrays`, all of one shape, along a new axis."""
    if (whole := _stacked(arrays, dtype)) is not None:
        return copy(moveaxis(whole, 0, axis))
    pieces = [as_operand(piece) for piece in _pieces(arrays, dtype)]
    types = [type_of(piece) for piece in pieces]
    axis = normal_axis(axis, types[0].rank + 1)
    if any(type.rank != types[0].rank for type in types):
        given = ", ".join(str(type.in_figures()) for type in types)
        raise ShapeError(f"all input arrays must have the same shape: {given}")
    parts = [expand_dims(piece, axis) for piece in pieces]
    return concatenate(parts, axis, out, casting=casting)


@public(np.hstack)
def hstack(tup: Any, *, dtype: Any = None, casting: Any = None) -> Any:
    """Side by side: along axis 1, vectors along axis 0."""
    pieces = [atleast_1d(piece) for piece in _pieces(tup, dtype)]
    return concatenate(pieces, 0 if type_of(pieces[0]).rank == 1 else 1, casting=casting)


@public(np.vstack)
def vstack(tup: Any, *, dtype: Any = None, casting: Any = None) -> Any:
    """On top of each other: along axis 0, vectors as rows."""
    return concatenate([atleast_2d(piece) for piece in _pieces(tup, dtype)], 0, casting=casting)


@public(np.dstack)
def dstack(tup: Any) -> Any:
    """Along axis 2, with axes added as `atleast_3d` does."""
    return concatenate([atleast_3d(piece) for piece in _pieces(tup)], 2)


@public(np.column_stack)
def column_stack(tup: Any) -> Any:
    """Along axis 1, vectors as columns."""
    pieces = _pieces(tup)
    wide = [p if type_of(p).rank > 1 else expand_dims(atleast_1d(p), 1) for p in pieces]
    return concatenate(wide, 1)


@public(np.append)
def append(arr: Any, values: Any, axis: Any = None) -> Any:
    """`arr` followed by `values`; flattened if `axis` is None."""
    return concatenate((arr, values), axis)


@public(np.block)
def block(arrays: Any) -> Any:
    """Nested lists of arrays assembled as blocks: the innermost lists along the last axis."""
    depth = _depth(arrays)
    leaves = list(_leaves(arrays))
    rank = max(depth, *(type_of(leaf).rank for leaf in leaves), 0)
    return _block(arrays, depth, rank)


def _depth(arrays: Any) -> int:
    return 1 + _depth(arrays[0]) if isinstance(arrays, list) else 0


def _leaves(arrays: Any) -> Any:
    if not isinstance(arrays, list):
        yield as_operand(arrays)
        return
    if not arrays:
        raise ValueError("List at arrays cannot be empty")
    for item in arrays:
        if _depth(item) != _depth(arrays[0]):
            raise ValueError("List depths are mismatched")
        yield from _leaves(item)


def _block(arrays: Any, depth: int, rank: int) -> Any:
    if depth == 0:
        piece = as_operand(arrays)
        return expand_dims(piece, tuple(range(rank - type_of(piece).rank)))
    return concatenate([_block(item, depth - 1, rank) for item in arrays], rank - depth)


@public(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """`ary` cut along `axis`: into so many equal parts, or before the positions given."""
    ary = as_operand(ary)
    if _is_count(indices_or_sections):
        size = type_of(ary).shape[normal_axis(axis, type_of(ary).rank)]
        count = as_size(indices_or_sections)
        if not required(size % count, "==", 0):
            figures = f"{in_figures(size)} by {in_figures(count)}"
            raise ShapeError(f"array split does not result in an equal division: {figures}")
    return array_split(ary, indices_or_sections, axis)


@public(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """As `split`; of parts that cannot be equal the first ones are longer by one."""
    ary = as_operand(ary)
    axis = normal_axis(axis, type_of(ary).rank)
    size = type_of(ary).shape[axis]
    if _is_count(indices_or_sections):
        bounds = _even_bounds(size, indices_or_sections)
    else:
        inner = [_clamped(as_size(position), size) for position in indices_or_sections]
        bounds = [0, *inner, size]
    return [
        slices(ary, {axis: (start, _length(start, stop), 1)}) for start, stop in pairwise(bounds)
    ]


def _is_count(sections: Any) -> bool:
    return not isinstance(sections, list | tuple | np.ndarray)


def _even_bounds(size: Size, count: Any) -> list[Size]:
    count = as_size(count)
    if not isinstance(count, int):
        raise UnsupportedError("the number of parts must be a plain integer, not a traced size")
    if count <= 0:
        raise ValueError("number sections must be larger than 0.")
    if of_data(size):
        lengths = [quotient(size + (count - 1 - number), count) for number in range(count)]
        return list(accumulate(lengths, lambda a, b: b + a, initial=0))
    longer = next(rest for rest in range(count) if holds(size % count, "==", rest))
    short = quotient(size - longer, count)
    return [short * number + min(number, longer) for number in range(count + 1)]


def _clamped(position: Size, size: Size) -> Size:
    """A split position as slicing takes it: negative from the end, and within the axis."""
    if not holds(0, "<=", position):
        position = position + size
        if not holds(0, "<=", position):
            return 0
    return position if holds(position, "<=", size) else size


def _length(start: Size, stop: Size) -> Size:
    return stop - start if holds(start, "<=", stop) else 0


@public(np.hsplit)
def hsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Split along axis 1 (a vector along axis 0)."""
    rank = type_of(as_operand(ary)).rank
    if rank == 0:
        raise ValueError("hsplit only works on arrays of 1 or more dimensions")
    return split(ary, indices_or_sections, 1 if rank > 1 else 0)


@public(np.vsplit)
def vsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Split along axis 0."""
    if type_of(as_operand(ary)).rank < 2:
        raise ValueError("vsplit only works on arrays of 2 or more dimensions")
    return split(ary, indices_or_sections, 0)


@public(np.dsplit)
def dsplit(ary: Any, indices_or_sections: Any) -> list[Any]:
    """Split along axis 2."""
    if type_of(as_operand(ary)).rank < 3:
        raise ValueError("dsplit only works on arrays of 3 or more dimensions")
    return split(ary, indices_or_sections, 2)


@public(np.unstack)
def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    """The slices of `x` along `axis`, one array each; the extent becomes fixed."""
    x = PUBLIC["moveaxis"](x, axis, 0)
    if type_of(x).rank == 0:
        raise ValueError("Input array must be at least 1-d.")
    return tuple(x)


sample(lambda a, b: np.concatenate((a, b)), (2, 3), (4, 3))
sample(lambda a, b: np.concatenate([a, b * 2, a], axis=-1) ** 2, (2, 3), (2, 1))
sample(lambda a, b: np.concatenate((a, b), axis=None), (2, 3), ())
sample(lambda a, b: np.concatenate((a, b)), (0, 3), (2, 3))
sample(lambda a: np.concatenate((a, np.arange(3))), (4,))
sample(lambda a, b: np.stack((a, b)) * np.stack([b, a], axis=-1).T, (3,), (3,))
sample(lambda a, b: np.stack((a, b, a), axis=1), (2, 3), (2, 3))
sample(lambda a, b: np.stack([np.sin(a), -b]), (), ())
sample(lambda a: np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) * a, ())
sample(lambda a, b: np.hstack((a, b)) + np.vstack((b, a)).ravel(), (3,), (3,))
sample(lambda a, b: (np.hstack((a, b)), np.vstack((a, a)), np.dstack((a, a))), (2, 3), (2, 2))
sample(lambda a, b: np.column_stack((a, b)), (3,), (3, 2))
sample(lambda a, b: np.append(a, b) + np.append(b, a), (2, 3), (3,))
sample(lambda a, b: np.block([[a, b], [b, a]]), (2, 2), (2, 2))
sample(lambda a, b: np.block([a, b, 1.0]), (2,), (3,))
sample(lambda x: np.split(x, 3)[1] * np.split(x, [2, 4])[1], (6,))
sample(lambda x: np.split(x, [1, -1, 9], axis=1), (2, 5))
sample(lambda x: np.array_split(x, 3, axis=-1), (2, 5))
sample(lambda x: (np.hsplit(x, 2)[0], np.vsplit(x, 2)[1]), (4, 6))
sample(lambda x: np.dsplit(x, 2), (1, 2, 4))
sample(lambda x: np.concatenate((x, x)), (3,), kinds="iub", smooth=False)
