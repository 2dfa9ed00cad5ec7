"""Large results in memory that was used before.

    d_x = empty((4096, 4096), float64)      # 128 MB: a block that an earlier result has given back

Fresh memory of this size is mapped by the operating system page by page while it is first written
to, which takes as long as a memory-bound kernel itself: a gradient of 128 MB costs 43 ms in fresh
memory and 22 ms in memory that is there. A block belongs to the arrays that show it, views of
views too; when the last one is gone it is kept for the next result, up to a limit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracegrad.later import Later

memory = Later("codegen.memory")

LARGE = 4 * 2**20
"""Bytes from which on a result lies in a block; smaller ones the C library gives again itself."""
ALIGNMENT = 64
WASTE = 1.25
"""How much larger than needed a block may be."""

_free: dict[int, np.ndarray] = {}
"""Blocks that nobody uses, by the identity of their memory, the one given back last at the end.
Taking one out is a single operation, so threads need no lock (and `__del__` must take none)."""
_limit = [512 * 2**20]


class Block:
    """A piece of memory as an array of some type: what NumPy asks for `__array_interface__`."""

    __slots__ = ("__array_interface__", "raw")

    def __init__(self, raw: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
        start = raw.__array_interface__["data"][0]
        self.raw = raw
        self.__array_interface__ = {
            "data": (start + -start % ALIGNMENT, False),
            "shape": shape,
            "typestr": dtype.str,
            "version": 3,
        }

    def __del__(self, keep: Any = _free, limit: list[int] = _limit) -> None:
        raw = self.raw
        if raw.nbytes <= limit[0]:
            keep[id(raw)] = raw
            _shrink(keep, limit[0])


def empty(shape: int | tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """As `np.empty`; what is large is in a block."""
    shape = (shape,) if isinstance(shape, int) else shape
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE:
        return np.empty(shape, dtype)
    raw = _taken(size + ALIGNMENT)
    return np.asarray(
        Block(np.empty(size + ALIGNMENT, np.uint8) if raw is None else raw, shape, dtype)
    )


def _taken(size: int) -> np.ndarray | None:
    """A free block of that size, the one given back last if there are several."""
    for key, raw in reversed(list(_free.items())):
        if size <= raw.nbytes <= WASTE * size and _free.pop(key, None) is raw:
            return raw
    return None


def _shrink(keep: dict[int, np.ndarray], limit: int) -> None:
    """Drop the blocks given back first until the others fit."""
    for key in list(keep):
        if sum(raw.nbytes for raw in list(keep.values())) <= limit:
            return
        keep.pop(key, None)


def set_buffer_limit(nbytes: int) -> int:
    """How many bytes of unused large results to keep for the next ones, and as many of large arrays
    inside compiled functions; returns the limit before.

    0 keeps none, and gives what there is back to the system. The default is 512 MiB.

    >>> before = set_buffer_limit(0)
    >>> set_buffer_limit(before)
    0
    """
    if isinstance(nbytes, bool) or not isinstance(nbytes, int) or nbytes < 0:
        raise ValueError(f"set_buffer_limit({nbytes!r}): give a number of bytes, 0 or more")
    before, _limit[0] = _limit[0], nbytes
    _shrink(_free, nbytes)
    memory.set_limit(nbytes)
    return before


def kept_bytes() -> int:
    """The bytes of all unused blocks of results."""
    return sum(raw.nbytes for raw in list(_free.values()))
