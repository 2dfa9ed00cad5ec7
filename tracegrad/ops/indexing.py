"""`x[key]` and `x[key] = value` with NumPy's rules, in terms of slices, gathers and selections.

x[1:, None, idx]   ->   gather(reshape(slice(x, ...)), idx, axes=(2,))
y[mask] = 0        ->   where(mask, 0, y)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.errors import ShapeError, UnsupportedError
from tracegrad.ir.dims import in_figures, same
from tracegrad.ir.types import ArrayType
from tracegrad.ops.broadcast import Shape, broadcast_shapes
from tracegrad.ops.constant import astype
from tracegrad.ops.gathering import GATHER, GATHER_AT, SCATTER_SET, gathered_shape, place_of
from tracegrad.ops.keys import Lookup, lookup
from tracegrad.ops.op import as_operand, bind, public, sample, type_of
from tracegrad.ops.reduction import broadcast_to
from tracegrad.ops.regions import region_shape
from tracegrad.ops.selected import Selected
from tracegrad.ops.selection import where
from tracegrad.ops.shape import RESHAPE, reshape, shape_text, transpose
from tracegrad.ops.slicing import SLICE, UPDATE


@public(name="getitem")
def getitem(x: Any, key: Any) -> Any:
    """`x[key]`. Raises IndexError as NumPy does; for an index array when the compiled code runs."""
    x = as_operand(x)
    found = lookup(type_of(x), key)
    middle = bind(SLICE, x, at=found.region)
    if type_of(middle).shape != found.shape:
        middle = bind(RESHAPE, middle, shape=found.shape)
    if not found.chosen:
        return middle
    if found.mask is not None:
        axis, mask = found.mask
        if axis or len(found.chosen) > 1:
            raise UnsupportedError(
                f"{type_of(x)}[..., mask] with a computed mask among other indices: how many "
                "elements that has depends on data; use np.where"
            )
        return Selected(middle, mask.array)
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
    if isinstance(value, Selected):
        return _selection_put(x, found, value)
    value = astype(value, type.dtype)
    if not found.chosen:
        middle = _fitted(value, found.shape, type)
    elif found.mask is not None:
        middle = _where_masked(_middle(x, found), found, value, type)
    else:
        middle = _scattered(_middle(x, found), found, value, type)
    if all(part is None for part in found.region) and len(found.shape) == type.rank:
        return middle
    middle = reshape(middle, region_shape(type.shape, found.region))
    if all(part is None for part in found.region):
        return middle
    return bind(UPDATE, x, middle, at=found.region)


def _selection_put(x: Any, found: Lookup, value: Selected) -> Any:
    """`x[mask] = f(x[mask])`: the mask that selected is the mask that is written to."""
    if found.mask is None or len(found.chosen) > 1 or not value.chosen_by(found.mask[1].array):
        raise value.unsized("it is written to what another index chooses")
    if any(part is not None for part in found.region) or found.mask[0]:
        raise value.unsized("it is written among other indices")
    return where(value.spread, astype(value.whole, type_of(x).dtype), x)


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


def _where_masked(middle: Any, found: Lookup, value: Any, type: ArrayType) -> Any:
    """`middle[mask] = value` for a value that does not depend on which elements are chosen."""
    assert found.mask is not None
    axis, mask = found.mask
    if len(found.chosen) > 1:
        raise UnsupportedError("a computed mask together with other index arrays: use np.where")
    after = len(found.shape) - axis - mask.rank
    given = type_of(value)
    if given.rank > after and not (given.rank == after + 1 and same(given.shape[0], 1)):
        raise UnsupportedError(
            f"{type}[mask] = {given} with a computed mask: the values must be one number, or the "
            "same for every chosen element; use np.where(mask, values, x)"
        )
    condition = mask.array
    if after:
        condition = reshape(condition, type_of(condition).shape + (1,) * after)
    return where(condition, _fitted(value, found.shape, type), middle)


def _fitted(value: Any, shape: Shape, target: ArrayType) -> Any:
    """`value` broadcast to `shape`; leading axes of extent 1 that are too many are dropped."""
    given = type_of(value)
    extra = given.rank - len(shape)
    if extra > 0 and all(same(size, 1) for size in given.shape[:extra]):
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
