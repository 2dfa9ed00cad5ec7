"""What NumPy writes in brackets, of traced arrays and sizes: `np.r_[...]`, `np.mgrid[...]`.

    np.r_[0.0, x, 1:4]          is  np.concatenate(([0.0], x, np.arange(1, 4)))
    np.c_[np.ones(len(x)), x]   is  np.column_stack((np.ones(len(x)), x))
    np.mgrid[0:h, 0:w]          is  np.stack(np.meshgrid(arange(h), arange(w), indexing="ij"))

Each takes the place of NumPy's object of that name in a traced function, and asks that one where
nothing is traced.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.errors import UnsupportedError
from tracegrad.ir.dims import fixed
from tracegrad.ops.axes import atleast_1d, expand_dims
from tracegrad.ops.constant import astype
from tracegrad.ops.grids import meshgrid
from tracegrad.ops.joining import concatenate, stack
from tracegrad.ops.op import Bindable, SizeValue, as_operand, type_of, weak_or_dtype
from tracegrad.ops.ranges import arange
from tracegrad.ops.shape import reshape


class Translator:
    """An object of NumPy's that is used in brackets, for keys that hold something traced."""

    def __init__(self, numpys: Any) -> None:
        self._numpys = numpys

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        if not any(map(_is_traced, parts)):
            return self._numpys[key]
        return self.made(parts, isinstance(key, tuple))

    def made(self, parts: tuple[Any, ...], several: bool) -> Any:
        raise NotImplementedError


class Rows(Translator):
    """`np.r_`: numbers, arrays and ranges one after the other along the first axis."""

    name, axis = "r_", 0

    def made(self, parts: tuple[Any, ...], several: bool) -> Any:
        if any(isinstance(part, str) for part in parts):
            raise UnsupportedError(
                f"np.{self.name} of traced arrays takes no directive in a string: use "
                "np.concatenate or np.stack with axis="
            )
        pieces = [as_operand(_range(part) if isinstance(part, slice) else part) for part in parts]
        kinds = [weak_or_dtype(type_of(piece)) for piece in pieces]
        common = np.result_type(*(kind(1) if isinstance(kind, type) else kind for kind in kinds))
        return concatenate([self.piece(astype(p, common)) for p in pieces], self.axis)

    def piece(self, part: Any) -> Any:
        return atleast_1d(part)


class Columns(Rows):
    """`np.c_`: the same along the last axis; numbers and vectors become columns."""

    name, axis = "c_", -1

    def piece(self, part: Any) -> Any:
        rank = type_of(part).rank
        return reshape(part, (-1, 1)) if rank < 2 else part


class Grid(Translator):
    """`np.mgrid`: the coordinates of all points of a grid, an axis for each range."""

    def made(self, parts: tuple[Any, ...], several: bool) -> Any:
        if not all(isinstance(part, slice) for part in parts):
            raise TypeError("np.mgrid and np.ogrid take ranges: np.mgrid[0:h, 0:w]")
        axes = [_range(part) for part in parts]
        if not several:
            return axes[0]
        common = np.result_type(*(type_of(axis).dtype for axis in axes))
        return self.grid([astype(axis, common) for axis in axes])

    def grid(self, axes: list[Any]) -> Any:
        return stack(meshgrid(*axes, indexing="ij"))


class OpenGrid(Grid):
    """`np.ogrid`: the coordinates as arrays that broadcast to the grid."""

    def grid(self, axes: list[Any]) -> Any:
        others = [tuple(k for k in range(len(axes)) if k != at) for at in range(len(axes))]
        return tuple(expand_dims(axis, o) for axis, o in zip(axes, others, strict=True))


def _is_traced(part: Any) -> bool:
    if isinstance(part, slice):
        return any(map(_is_traced, (part.start, part.stop, part.step)))
    if isinstance(part, list | tuple):
        return any(map(_is_traced, part))
    boxed = isinstance(part, np.ndarray) and part.dtype == object
    return boxed or isinstance(part, Bindable | SizeValue)


def _range(part: slice) -> Any:
    """The numbers of `start:stop:step`; `start:stop:5j` are 5 of them, both ends included."""
    numbers = (part.start or 0, part.stop, 1 if part.step is None else part.step)
    sizes = any(isinstance(number, SizeValue) for number in numbers)
    if sizes and all(isinstance(number, SizeValue | int | np.integer) for number in numbers):
        return arange(*numbers)
    if any(isinstance(number, Bindable) for number in numbers):
        raise UnsupportedError(
            "a range of traced numbers in brackets: use np.linspace(start, stop, num)"
        )
    start, stop, step = (fixed(n.dim) if isinstance(n, SizeValue) else n for n in numbers)
    return np.mgrid[start:stop:step]
