"""Shape operations: each result element is one operand element, so lowering is index arithmetic."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from codegen.expr import Expr, integer
from tracegrad.errors import ShapeError
from tracegrad.ir.dims import Dim, Size, in_figures, must_be_same, product, quotient, required
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.broadcast import Shape
from tracegrad.ops.op import Bindable, SizeValue, as_operand, bind, public, register, type_of
from tracegrad.tree import flatten, unflatten

Reader = Callable[..., Expr]
Mapped = tuple[bool, ...]


class Reshape(Op):
    """The elements in row-major order under another shape  =>  `d_x = reshape(d_y, x.shape)`."""

    name = "reshape"
    moves = by_reference = True
    linear = (0,)

    def infer(self, x: ArrayType, *, shape: Shape) -> ArrayType:
        if not must_be_same(x.size, product(shape)):
            raise ShapeError(_no_fit(x, shape, f"{in_figures(x.size)} elements do not fit"))
        return x.with_shape(shape)

    def reference(self, x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
        return np.reshape(x, shape)

    def text(self, x: str, *, shape: Shape) -> str:
        return f"np.reshape({x}, {shape_text(shape)})"

    def transpose(self, ct: Array, x: Array, *, shape: Shape) -> tuple[Array | None, ...]:
        return (bind(RESHAPE, ct, shape=x.type.shape),)

    def batch(self, mapped: Mapped, x: Array, *, shape: Shape) -> Array:
        return bind(RESHAPE, x, shape=(x.type.shape[0], *shape))

    def put(self, base: Array, value: Array, *, shape: Shape) -> Array:
        return bind(RESHAPE, value, shape=base.type.shape)

    def strides(self, strides: Shape, x: ArrayType, *, shape: Shape) -> Shape | None:
        return reshaped_strides(strides, x.shape, shape)

    def element(self, read: Reader, index: tuple[Expr, ...], node: Any) -> Expr:
        """Only for a change of unit axes; other reshapes are views of a materialised operand."""
        kept = [
            position for position, extent in zip(index, node.type.shape, strict=True) if extent != 1
        ]
        kept = iter(kept)
        return read(
            0, tuple(integer(0) if e == 1 else next(kept) for e in node.inputs[0].type.shape)
        )


class Transpose(Op):
    """Axes permuted, `y = x.transpose(axes)`  =>  `d_x = d_y` permuted back."""

    name = "transpose"
    moves = by_reference = True
    linear = (0,)

    def infer(self, x: ArrayType, *, axes: tuple[int, ...]) -> ArrayType:
        return x.with_shape(tuple(x.shape[axis] for axis in axes))

    def reference(self, x: np.ndarray, *, axes: tuple[int, ...]) -> np.ndarray:
        return np.transpose(x, axes)

    def text(self, x: str, *, axes: tuple[int, ...]) -> str:
        return f"{x}.T" if axes == (1, 0) else f"np.transpose({x}, {axes})"

    def transpose(self, ct: Array, x: Array, *, axes: tuple[int, ...]) -> tuple[Array | None, ...]:
        return (bind(TRANSPOSE, ct, axes=inverse(axes)),)

    def batch(self, mapped: Mapped, x: Array, *, axes: tuple[int, ...]) -> Array:
        return bind(TRANSPOSE, x, axes=(0, *(axis + 1 for axis in axes)))

    def put(self, base: Array, value: Array, *, axes: tuple[int, ...]) -> Array:
        return bind(TRANSPOSE, value, axes=inverse(axes))

    def strides(self, strides: Shape, x: ArrayType, *, axes: tuple[int, ...]) -> Shape | None:
        return tuple(strides[axis] for axis in axes)

    def element(self, read: Reader, index: tuple[Expr, ...], node: Any) -> Expr:
        return read(0, tuple(index[place] for place in inverse(node.attributes["axes"])))


class Copy(Op):
    """`y = x`, a value of its own: `np.copy`, and the arguments that a transformation separates."""

    name = "copy"
    pointwise = True
    linear = (0,)

    def infer(self, x: ArrayType) -> ArrayType:
        return x

    def reference(self, x: np.ndarray) -> Any:
        return np.copy(x)[()]

    def text(self, x: str) -> str:
        return f"np.copy({x})"

    def transpose(self, ct: Array, x: Array) -> tuple[Array | None, ...]:
        return (ct,)

    def batch(self, mapped: Mapped, x: Array) -> Array:
        return bind(self, x)

    def element(self, read: Reader, index: tuple[Expr, ...], node: Any) -> Expr:
        return read(0, index)


COPY = register(Copy())


class StopGradient(Copy):
    """`y = x`, a constant for differentiation."""

    name = "stop_gradient"
    linear = ()
    settled = (COPY, (0,))

    def transpose(self, ct: Array, x: Array) -> tuple[Array | None, ...]:
        return ()


STOP_GRADIENT = register(StopGradient())
RESHAPE = register(Reshape())
TRANSPOSE = register(Transpose())


@lru_cache(maxsize=1024)
def row_major(shape: Shape) -> Shape:
    """The strides, in elements, of a C-contiguous array."""
    return tuple(product(shape[axis + 1 :]) for axis in range(len(shape)))


@lru_cache(maxsize=1024)
def reshaped_strides(strides: Shape, shape: Shape, new: Shape) -> Shape | None:
    """The strides under which the same memory has the shape `new`; None if there are none.

    Axes that lie next to each other in memory form a block; each has to be a run of new axes.
    """
    blocks = _blocks(strides, shape)
    found: dict[int, Size] = {}
    axis = len(new)
    for number, (stride, size) in reversed(list(enumerate(blocks))):
        taken: Size = 1
        while axis > 0 and (number == 0 or taken != size):
            axis -= 1
            found[axis] = taken * stride
            taken = new[axis] * taken
        if number and taken != size:
            return None
    return tuple(found.get(axis, 1) for axis in range(len(new)))


def _blocks(strides: Shape, shape: Shape) -> list[tuple[Size, Size]]:
    """`(stride, size)` of each maximal run of axes that is one axis in memory."""
    blocks: list[tuple[Size, Size]] = []
    for stride, size in zip(strides, shape, strict=True):
        if size == 1:
            continue
        if blocks and blocks[-1][0] == stride * size:
            blocks[-1] = (stride, blocks[-1][1] * size)
        else:
            blocks.append((stride, size))
    return blocks


def inverse(axes: Sequence[int]) -> tuple[int, ...]:
    places = [0] * len(axes)
    for place, axis in enumerate(axes):
        places[axis] = place
    return tuple(places)


def shape_text(shape: Shape) -> str:
    """`(n, 3)` as Python source."""
    inner = ", ".join(str(size) for size in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"


def as_size(value: Any) -> Size:
    """A user's extent: an int, or a traced size."""
    if isinstance(value, SizeValue):
        return value.dim
    return value if isinstance(value, Dim) else operator.index(value)


def as_shape(shape: Any) -> Shape:
    """A user's shape: an extent, or a sequence or vector of extents."""
    if isinstance(shape, np.ndarray) and shape.ndim == 1:
        shape = shape.tolist()
    return tuple(as_size(size) for size in (shape if isinstance(shape, tuple | list) else (shape,)))


def normal_axis(axis: Any, rank: int) -> int:
    axis = operator.index(axis)
    if not -rank <= axis < rank:
        raise np.exceptions.AxisError(axis, rank)
    return axis % rank


def normal_axes(axis: Any, rank: int) -> tuple[int, ...]:
    """None means all axes; negative ones count from the end; sorted, without repeats."""
    if axis is None:
        return tuple(range(rank))
    found = [
        normal_axis(item, rank) for item in (axis if isinstance(axis, tuple | list) else (axis,))
    ]
    if len(set(found)) != len(found):
        raise ValueError("duplicate value in 'axis'")
    return tuple(sorted(found))


@public(np.reshape)
def reshape(x: Any, /, shape: Any = None, order: str = "C", *, copy: Any = None) -> Any:
    """The elements of `x` as an array of `shape`, in row-major order; one extent may be -1.

    `order="F"`: in column-major order, the first axis running fastest, in `x` and in the result.
    """
    x = as_operand(x)
    if order == "F":
        wanted = tuple(reversed(as_shape(shape)))
        return transpose(reshape(transpose(x), wanted))
    if order not in ("C", "A", "K"):
        raise ValueError(f"order must be one of 'C', 'F', 'A', or 'K' (got '{order}')")
    type = type_of(x)
    wanted = as_shape(shape)
    open_axes = [axis for axis, size in enumerate(wanted) if isinstance(size, int) and size == -1]
    if len(open_axes) > 1:
        raise ValueError("can only specify one unknown dimension")
    if open_axes:
        wanted = _complete(type, wanted, open_axes[0])
    return x if type.shape == wanted else bind(RESHAPE, x, shape=wanted)


def _no_fit(type: ArrayType, shape: Shape, why: str) -> str:
    wanted = shape_text(tuple(in_figures(size) for size in shape))
    return f"cannot reshape {type.in_figures()} to {wanted}: {why}"


def _complete(type: ArrayType, wanted: Shape, axis: int) -> Shape:
    rest = product(wanted[:axis] + wanted[axis + 1 :])
    if isinstance(rest, int) and rest == 0:
        raise ShapeError(_no_fit(type, wanted, "-1 is not determined"))
    if not required(type.size % rest, "==", 0):
        sizes = f"{in_figures(rest)} does not divide {in_figures(type.size)}"
        raise ShapeError(_no_fit(type, wanted, sizes))
    return (*wanted[:axis], quotient(type.size, rest), *wanted[axis + 1 :])


@public(np.transpose)
def transpose(a: Any, axes: Any = None) -> Any:
    """`a` with its axes in the order `axes` (default: reversed)."""
    a = as_operand(a)
    rank = type_of(a).rank
    if axes is None:
        order = tuple(reversed(range(rank)))
    else:
        order = tuple(normal_axis(axis, rank) for axis in axes)
        if sorted(order) != list(range(rank)):
            raise ValueError("axes don't match array")
    return a if order == tuple(range(rank)) else bind(TRANSPOSE, a, axes=order)


@public(np.copy)
def copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    """`a` as an array of its own; writes into it leave `a` as it is."""
    return bind(COPY, a)


ARRAYS = (np.ndarray, np.generic, float, Bindable)


@public()
def stop_gradient(x: Any) -> Any:
    """`x` as a constant for differentiation: an array, or a pytree of arrays. What has no
    derivative anyhow (None, ints, strings) is handed back."""
    leaves: list[tuple[str, Any]] = []
    tree = flatten("", x, lambda leaf: isinstance(leaf, ARRAYS), leaves)
    return unflatten(tree, iter([bind(STOP_GRADIENT, leaf) for _, leaf in leaves]))
