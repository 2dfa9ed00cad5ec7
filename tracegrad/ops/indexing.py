"""`x[key]` and `x[key] = value` with NumPy's rules, in terms of slices, gathers and selections.

x[1:, None, idx]   ->   gather(reshape(slice(x, ...)), idx, axes=(2,))
y[mask] = 0        ->   where(mask, 0, y)
x[mask]            ->   gather(x, flatnonzero(mask), axes=(0,))
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.errors import ShapeError
from tracegrad.ir.dims import in_figures, must_be_same, product, same
from tracegrad.ir.types import ArrayType
from tracegrad.ops.broadcast import Shape, broadcast_shapes
from tracegrad.ops.constant import astype
from tracegrad.ops.gathering import GATHER, GATHER_AT, SCATTER_SET, gathered_shape, place_of
from tracegrad.ops.keys import Lookup, lookup, places
from tracegrad.ops.nonzero import flatnonzero
from tracegrad.ops.op import as_operand, bind, public, sample, type_of
from tracegrad.ops.reduction import broadcast_to
from tracegrad.ops.regions import Region, region_shape
from tracegrad.ops.selection import where
from tracegrad.ops.shape import RESHAPE, reshape, shape_text, transpose
from tracegrad.ops.slicing import SLICE, UPDATE


@public(name="getitem")
def getitem(x: Any, key: Any) -> Any:
    """`x[key]`. Raises IndexError as NumPy does; for an index array when the compiled code runs."""
    x = as_operand(x)
    found = lookup(type_of(x), key)
    row = _row(found)
    if row is not None:
        y = bind(GATHER_AT, x, *row.arrays, axes=row.axes)
        return y if row.is_whole else bind(SLICE, y, at=row.rest)
    middle = bind(SLICE, x, at=found.region)
    if type_of(middle).shape != found.shape:
        middle = bind(RESHAPE, middle, shape=found.shape)
    if not found.chosen:
        return middle
    if found.masks_alone:
        rows, at = _rows(middle, found)
        return bind(GATHER, rows, at, axes=(0,))
    found = places(found)
    arrays = found.arrays
    numbers = all(type_of(a).rank == 0 and not isinstance(a, np.ndarray) for a in arrays)
    op = GATHER_AT if numbers else GATHER
    return _moved(bind(op, middle, *arrays, axes=found.axes), found)


@public(name="setitem")
def setitem(x: Any, key: Any, value: Any) -> Any:
    """`x` with `value`, converted to its dtype, written at `x[key]`: a new array."""
    x = as_operand(x)
    type = type_of(x)
    found = lookup(type, key)
    value = astype(value, type.dtype)
    row = _row(found)
    if row is not None:
        return _row_set(x, row, value, type)
    if not found.chosen:
        middle = _fitted(value, found.shape, type)
    elif len(found.chosen) == 1 and found.mask is not None and _is_for_all(value, found):
        middle = _where_masked(_middle(x, found), found, value, type)
    elif found.masks_alone:
        middle = _chosen_set(_middle(x, found), found, value, type)
    else:
        found = places(found)
        middle = _scattered(_middle(x, found), found, value, type)
    if all(part is None for part in found.region) and len(found.shape) == type.rank:
        return middle
    middle = reshape(middle, region_shape(type.shape, found.region))
    if all(part is None for part in found.region):
        return middle
    return bind(UPDATE, x, middle, at=found.region)


@dataclass(frozen=True)
class Row:
    """A key of integers and slices, `x[i, :k]`, as a part of a row: the row of each of `axes` at
    the integers, and the region `rest` of that."""

    arrays: tuple[Any, ...]
    axes: tuple[int, ...]
    rest: Region

    @property
    def is_whole(self) -> bool:
        return all(part is None for part in self.rest)


def _row(found: Lookup) -> Row | None:
    """A key of traced integers beside slices or other integers; None for other ones.

    The row comes first: a loop that writes to `x[i, :k]` then copies no more than a row.
    """
    kept = [axis for axis, part in enumerate(found.region) if part is None or _is_span(part)]
    plain = len(kept) == len(found.shape) and any(part is not None for part in found.region)
    if not (plain and found.chosen and all(type_of(a).rank == 0 for a in found.arrays)):
        return None
    at = {kept[axis]: array for axis, array in zip(found.axes, found.arrays, strict=True)}
    if any(isinstance(array, np.ndarray) for array in at.values()):
        return None
    at |= {axis: np.int64(part) for axis, part in enumerate(found.region) if isinstance(part, int)}
    axes = tuple(sorted(at))
    rest = tuple(part for axis, part in enumerate(found.region) if axis not in at)
    return Row(tuple(at[axis] for axis in axes), axes, rest)


def _is_span(part: Any) -> bool:
    return isinstance(part, tuple)


def _row_set(x: Any, row: Row, value: Any, type: ArrayType) -> Any:
    """`x` with the value written to a part of a row."""
    whole = tuple(size for axis, size in enumerate(type.shape) if axis not in row.axes)
    value = _fitted(value, region_shape(whole, row.rest), type)
    if not row.is_whole:
        value = bind(UPDATE, bind(GATHER_AT, x, *row.arrays, axes=row.axes), value, at=row.rest)
    return bind(SCATTER_SET, x, value, *row.arrays, axes=row.axes, unique=True)


def _rows(x: Any, found: Lookup) -> tuple[Any, Any]:
    """`x` with the axes of its mask as one, and the places along it that the mask chooses."""
    assert found.mask is not None
    mask, shape = found.mask[1].array, type_of(x).shape
    rank = type_of(mask).rank
    rows = x if rank == 1 else reshape(x, (product(shape[:rank]), *shape[rank:]))
    return rows, flatnonzero(mask)


def _chosen_set(x: Any, found: Lookup, value: Any, target: ArrayType) -> Any:
    """`x[mask] = value` for a value with as many entries as the mask chooses."""
    rows, at = _rows(x, found)
    type = type_of(rows)
    value = _fitted(value, type_of(at).shape + type.shape[1:], target)
    written = bind(SCATTER_SET, rows, value, at, axes=(0,), unique=True)
    return reshape(written, type_of(x).shape)


def _middle(x: Any, found: Lookup) -> Any:
    return reshape(bind(SLICE, x, at=found.region), found.shape)


def _scattered(middle: Any, found: Lookup, value: Any, type: ArrayType) -> Any:
    types = [type_of(array) for array in found.arrays]
    shape = gathered_shape(found.shape, tuple(types), found.axes)
    if found.first:
        index_rank = len(broadcast_shapes("index with", *types))
        at = place_of(found.axes)
        wanted = shape[at : at + index_rank] + shape[:at] + shape[at + index_rank :]
        order = (*range(index_rank, index_rank + at), *range(index_rank))
        value = transpose(_fitted(value, wanted, type), (*order, *range(len(order), len(shape))))
    else:
        value = _fitted(value, shape, type)
    unique = _is_unique(found.arrays)
    return bind(SCATTER_SET, middle, value, *found.arrays, axes=found.axes, unique=unique)


def _moved(gathered: Any, found: Lookup) -> Any:
    """The index arrays' axes moved to the front, where NumPy wants them there."""
    at = place_of(found.axes)
    if not found.first or at == 0:
        return gathered
    rank = type_of(gathered).rank
    index_rank = rank - (len(found.shape) - len(found.axes))
    order = (*range(at, at + index_rank), *range(at), *range(at + index_rank, rank))
    return transpose(gathered, order)


def _is_for_all(value: Any, found: Lookup) -> bool:
    """Whether a value does not depend on which elements the one mask chooses."""
    assert found.mask is not None
    axis, mask = found.mask
    after, given = len(found.shape) - axis - mask.rank, type_of(value)
    return given.rank <= after or (given.rank == after + 1 and same(given.shape[0], 1))


def _where_masked(middle: Any, found: Lookup, value: Any, type: ArrayType) -> Any:
    """`middle[mask] = value` for a value that does not depend on which elements are chosen."""
    assert found.mask is not None
    axis, mask = found.mask
    after = len(found.shape) - axis - mask.rank
    condition = mask.array
    if after:
        condition = reshape(condition, type_of(condition).shape + (1,) * after)
    return where(condition, _fitted(value, found.shape, type), middle)


def _fitted(value: Any, shape: Shape, target: ArrayType) -> Any:
    """`value` broadcast to `shape`; leading axes of extent 1 that are too many are dropped."""
    given = type_of(value)
    extra = given.rank - len(shape)
    if extra > 0 and all(must_be_same(size, 1) for size in given.shape[:extra]):
        value = reshape(value, given.shape[extra:])
    try:
        return broadcast_to(value, shape)
    except ShapeError as error:
        raise ShapeError(
            f"could not broadcast input array from shape {shape_text(given.in_figures().shape)} "
            f"into shape {shape_text(tuple(in_figures(size) for size in shape))}: cannot write "
            f"{given.in_figures()} into that part of {target.in_figures()}"
        ) from error


def _is_unique(arrays: tuple[Any, ...]) -> bool:
    """Whether the index arrays surely name no element twice."""
    if all(type_of(array).rank == 0 for array in arrays):
        return True
    if not all(isinstance(array, np.ndarray | np.generic) for array in arrays):
        return False
    if any((array < 0).any() and (array >= 0).any() for array in arrays):
        return False
    rows = np.stack([array.ravel() for array in np.broadcast_arrays(*arrays)])
    return np.unique(rows, axis=1).shape[1] == rows.shape[1]


sample(lambda x: x[0], (3, 2))
sample(lambda x: x[-1, ..., None], (3, 2))
sample(lambda x: x[1:, None, ::-2] * x[0, -2:], (3, 4))
sample(lambda x: x[10:], (3,))
sample(lambda x: x[[0, 2, -1, 2]], (3, 2))
sample(lambda x: x[np.array([[0], [1]]), :, np.array([2, 0, 2])], (2, 2, 3))
sample(lambda x: x[0, :, [1, 1]], (2, 2, 3))
sample(lambda x: x[np.array([[True, False], [True, True]])], (2, 2))
sample(lambda x: x[..., np.array([True, False, True])], (2, 3))
sample(lambda x, i: x[np.abs(i).astype(int)], (4, 2), (3,), smooth=False)
sample(lambda x, i: x[np.abs(i[0]).astype(int)] * x[:, 0], (2, 2), (3,), smooth=False)


def _written(x: Any) -> Any:
    y = x * 1.5
    y[1:, 0] = x[:-1, 1]
    y[..., -1] *= 3
    y[y < 0] = 0.25
    y[[0, 1, 0], 1] = x[0, :3]
    row = y[1]
    row += x[0]
    y[:2, ::-2] += y[1:, ::-2]
    return y * y


def _rows_written(x: Any) -> Any:
    y = np.zeros_like(x)
    for i in range(x.shape[0]):
        y[i] = x[i] * (y[i - 1] if i else 1.0)
    return y


sample(_written, (3, 4))
sample(_rows_written, (3, 2))
sample(lambda x: x[[0, 2, 1]] * x[np.array([1, 1, 3])], (4,))
