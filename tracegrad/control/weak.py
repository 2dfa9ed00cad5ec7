"""Python numbers that a loop starts from: they take the dtype that its body gives them.

    scan(lambda c, x: (c + x, c), 0.0, xs)      xs: f32[n]      ->      c: f32, as in Python's loop

A number that stays one, `n + 1`, does not decide on dtypes, as in NumPy. What changes its dtype is
seen when the body is traced, which then is done once more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from tracegrad.autodiff.derived import as_traced
from tracegrad.ir.types import ArrayType
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace

Made = TypeVar("Made")


class Promoted(Exception):
    """The body makes an array's number of leaf `number` of the carry, of this dtype."""

    def __init__(self, number: int, dtype: np.dtype) -> None:
        super().__init__()
        self.number, self.dtype = number, dtype


def settled(trace: Trace, first: list[Traced], make: Callable[[], Made]) -> Made:
    """What `make` makes of the carry that starts as `first`, its numbers promoted in place."""
    while True:
        try:
            return make()
        except Promoted as promoted:
            start = first[promoted.number] * np.ones((), promoted.dtype)[()]
            first[promoted.number] = as_traced(trace, start)


def promoted(own: ArrayType, got: ArrayType) -> np.dtype | None:
    """The dtype that a carry is to have which was a Python number; None if it stays as it is."""
    numbers = (
        own.weak and not (own.rank or got.rank) and "b" not in (own.dtype.kind, got.dtype.kind)
    )
    if not numbers or (got.weak and got.dtype == own.dtype):
        return None
    return np.result_type(_example(own), _example(got))


def _example(type: ArrayType) -> Any:
    return type.dtype.type(0).item() if type.weak else type.dtype.type(0)
