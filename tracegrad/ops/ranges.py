"""Numbers at equal distances: arange, linspace, logspace; sizes and ends may be traced.

linspace(a, b, 5)   is   a + (b - a) / 4 * k,  b itself at the end
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.errors import UnsupportedError
from tracegrad.ir.dims import Size, holds
from tracegrad.ops.computed import as_extent, is_computed
from tracegrad.ops.constant import astype
from tracegrad.ops.creation import counting, given, is_size
from tracegrad.ops.op import (
    PUBLIC,
    Bindable,
    SizeValue,
    as_operand,
    public,
    sample,
    type_of,
    weak_or_dtype,
)
from tracegrad.ops.reduction import size_value
from tracegrad.ops.selection import where
from tracegrad.ops.shape import as_size


@public(np.arange)
def arange(
    start: Any = None,
    stop: Any = None,
    step: Any = 1,
    dtype: Any = None,
    *,
    requires_grad: bool = False,
    device: Any = None,
) -> Any:
    """`start, start + step, ...` below `stop`; integers may be traced sizes."""
    start, stop = (0, start) if stop is None else (start, stop)
    if stop is None:
        raise TypeError("arange() requires stop to be specified.")
    start = 0 if start is None else start
    if is_computed(stop) and start == 0 and step == 1:
        found = counting(as_extent(stop))
        return given(found if dtype is None else astype(found, dtype), requires_grad)
    if any(isinstance(value, Bindable) for value in (start, stop, step)):
        raise UnsupportedError(
            "arange of a traced value: the size of a result must not depend on values; use a size "
            "from x.shape, or linspace(start, stop, num)"
        )
    if not any(isinstance(value, SizeValue) for value in (start, stop, step)):
        return given(np.arange(*(start, stop, step), dtype=dtype), requires_grad)
    if not all(is_size(value) for value in (start, stop, step)):
        raise UnsupportedError("arange with a traced size needs integers for start, stop and step")
    first, last, distance = as_size(start), as_size(stop), as_size(step)
    if not isinstance(distance, int) or distance == 0:
        raise ValueError("arange: step must be a plain integer other than 0")
    found = counting(_steps(first, last, distance))
    found = found if distance == 1 else found * distance
    found = found if isinstance(first, int) and first == 0 else found + size_value(first)
    return given(found if dtype is None else astype(found, dtype), requires_grad)


def _steps(first: Size, last: Size, step: int) -> Size:
    """How many numbers `first + k*step` come before `last`."""
    span = last - first if step > 0 else first - last
    return (as_extent(span) + (abs(step) - 1)) // abs(step)


@public(np.linspace)
def linspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    requires_grad: bool = False,
    device: Any = None,
) -> Any:
    """`num` numbers from `start` to `stop` at equal distances, along a new axis.

    start, stop: f[...] broadcast together; with `endpoint=False` the last number is left out.
    """
    start, stop, count = as_operand(start), as_operand(stop), as_size(num)
    if not holds(0, "<=", count):
        raise ValueError(f"Number of samples, {count}, must be non-negative.")
    result = _inexact(start, stop)
    start, stop = astype(start, result), astype(stop, result)
    gaps = count - 1 if endpoint else count
    delta = stop - start
    step = delta / size_value(gaps) if holds(0, "<", gaps) else delta * np.nan
    place = PUBLIC["reshape"](counting(count), (-1, *(1 for _ in type_of(delta).shape)))
    found = astype(place, result) * (step if holds(0, "<", gaps) else delta) + start
    if endpoint and holds(1, "<", count):
        found = where(place == size_value(count - 1), stop, found)
    if dtype is not None:
        rounds = np.dtype(dtype).kind in "iu"
        found = astype(PUBLIC["floor"](found) if rounds else found, dtype)
    found = given(PUBLIC["moveaxis"](found, 0, axis), requires_grad)
    return (found, step) if retstep else found


def _inexact(start: Any, stop: Any) -> np.dtype:
    """The dtype that `start` and `stop` have together with a Python float; numbers are weak."""
    kinds = [weak_or_dtype(type_of(value)) for value in (start, stop)]
    return np.result_type(*(kind(1) if isinstance(kind, type) else kind for kind in kinds), 1.0)


@public(np.logspace)
def logspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """`base` to the powers of `linspace(start, stop, num)`."""
    found = PUBLIC["power"](base, linspace(start, stop, num, endpoint, axis=axis))
    return found if dtype is None else astype(found, dtype)


sample(lambda x: np.linspace(x, 2.0, 5), ())
sample(lambda x, y: np.linspace(x, y, 4, endpoint=False, axis=1) ** 2, (3,), (3,))
sample(lambda x, y: np.linspace(x, y, 1), (), ())
sample(lambda x: np.linspace(x, 1.0, 0), ())
sample(lambda x: np.linspace(x, 7.0, 4, retstep=True), ())
sample(lambda x: np.logspace(x, 1.0, 4, base=2.0), ())
