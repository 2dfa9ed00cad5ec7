"""The largest and the smallest element so far: `np.maximum.accumulate`, `np.minimum.accumulate`.

    y = maximum_accumulate(x)    =>    t_y[i] = t_x[j],  j the last place up to i where y[j] == x[j]

A drawdown is `np.maximum.accumulate(wealth) - wealth`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from codegen.expr import Call, Expr
from tracegrad.ir.op import Array
from tracegrad.ops.constant import astype
from tracegrad.ops.creation import counting
from tracegrad.ops.extremes import highest, lowest
from tracegrad.ops.op import as_operand, bind, public, register, sample, type_of
from tracegrad.ops.picking import take_along_axis
from tracegrad.ops.reduction import no_out, strong
from tracegrad.ops.running import Running
from tracegrad.ops.selection import where
from tracegrad.ops.shape import normal_axis, reshape


class RunningExtreme(Running):
    """The running maximum, or minimum; of equal elements the last one is where it is attained."""

    def __init__(self, name: str, ufunc: np.ufunc, limit: Callable[[np.dtype], Any]) -> None:
        self.name, self.ufunc, self.limit = name, ufunc, limit

    def first(self, dtype: np.dtype) -> Any:
        return self.limit(dtype)

    def step(self, state: Expr, operands: tuple[Expr, ...], dtype: np.dtype) -> Expr:
        return Call(self.ufunc.__name__, (state, operands[0]), dtype)

    def reference(self, x: np.ndarray, *, axis: int, reverse: bool) -> np.ndarray:
        assert not reverse
        return self.ufunc.accumulate(x, axis)

    def text(self, x: str, *, axis: int, reverse: bool) -> str:
        return f"np.{self.ufunc.__name__}.accumulate({x}, axis={axis})"

    def jvp(
        self, tangents: tuple[Array | None, ...], out: Array, x: Array, *, axis: int, reverse: bool
    ) -> Array:
        shape = tuple(-1 if at == axis else 1 for at in range(x.type.rank))
        place = reshape(counting(x.type.shape[axis]), shape)
        last = bind(MAXIMUM, where(x == out, place, 0), axis=axis, reverse=False)
        return take_along_axis(tangents[0], last, axis)


MAXIMUM = register(RunningExtreme("maximum_accumulate", np.maximum, lowest))
MINIMUM = register(RunningExtreme("minimum_accumulate", np.minimum, highest))


def _running(op: RunningExtreme, array: Any, axis: Any, dtype: Any, out: Any) -> Any:
    no_out(out)
    array = as_operand(array)
    array = strong(array) if type_of(array).weak else array
    array = array if dtype is None else astype(array, dtype)
    if type_of(array).rank == 0:
        raise TypeError("cannot accumulate on a scalar")
    return bind(op, array, axis=normal_axis(axis, type_of(array).rank), reverse=False)


@public()
def maximum_accumulate(array: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
    """`np.maximum.accumulate(array, axis)`: the largest element up to each one."""
    return _running(MAXIMUM, array, axis, dtype, out)


@public()
def minimum_accumulate(array: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
    """`np.minimum.accumulate(array, axis)`: the smallest element up to each one."""
    return _running(MINIMUM, array, axis, dtype, out)


sample(lambda x: np.maximum.accumulate(x) * x, (5,))
sample(lambda x: np.minimum.accumulate(x, axis=1) - np.maximum.accumulate(x, axis=-2), (2, 3, 4))
sample(lambda x: np.maximum.accumulate(x), (0,))
