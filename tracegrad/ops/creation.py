"""Arrays made from sizes and numbers: zeros, ones, full, and as another array.

One function serves three callers. In a traced function the result is a traced array, so that it may
be written to and its sizes may be symbolic; outside of one it is a `Tensor`; `zeros_like` and its
family give an ndarray for an ndarray.

    out = tg.zeros(n)      ->      out: f64[n] = broadcast_to(0.0, (n,))

`order` and `device` are NumPy's; all arrays are C-contiguous and in the memory of the CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.errors import UnsupportedError
from tracegrad.ir.dims import Size
from tracegrad.ir.op import Op
from tracegrad.ops.broadcast import Shape
from tracegrad.ops.constant import ARANGE, astype
from tracegrad.ops.op import (
    PUBLIC,
    Bindable,
    SizeValue,
    as_operand,
    bind,
    public,
    recording,
    sample,
    supported_dtype,
    type_of,
)
from tracegrad.ops.reduction import BROADCAST_TO
from tracegrad.ops.shape import COPY, as_shape

FLOAT = np.dtype(np.float64)


def made(op: Op, *args: Any, **attrs: Any) -> Any:
    """`op` without traced operands: recorded in a traced function, computed outside of one."""
    owner = recording.get()
    return bind(op, *args, **attrs) if owner is None else owner.bind(op, args, attrs)


def given(value: Any, requires_grad: bool) -> Any:
    """What a creation function returns: a traced array, or a `Tensor`."""
    if recording.get() is not None:
        if requires_grad:
            raise UnsupportedError(
                "requires_grad=True in a traced function: gradients are taken with respect to its "
                "arguments; pass the array as one"
            )
        return value if isinstance(value, Bindable) else made(COPY, value)
    if isinstance(value, Bindable):
        return value.requires_grad_() if requires_grad else value  # type: ignore[attr-defined]
    return PUBLIC["tensor"](value, requires_grad=requires_grad)


def _sizes(sizes: tuple[Any, ...], dtype: Any) -> tuple[Shape, Any]:
    """`zeros(2, 3)`, `zeros((2, 3))`, and NumPy's `zeros((2, 3), dtype)`."""
    if len(sizes) == 2 and not is_size(sizes[1] if is_size(sizes[0]) else None):
        sizes, dtype = sizes[:1], sizes[1]
    shape = as_shape(sizes[0] if len(sizes) == 1 else sizes)
    for size in shape:
        if isinstance(size, int) and size < 0:
            raise ValueError("negative dimensions are not allowed")
    return shape, dtype


def _filled(shape: Shape, value: Any, like: Any = None) -> Any:
    """A new array of `shape`, equal to `value` (broadcast)."""
    if isinstance(like, Bindable) and recording.get() is None:
        return bind(COPY, type(like).bind(BROADCAST_TO, (value,), {"shape": shape}))
    if recording.get() is None and not isinstance(value, Bindable):
        return np.array(bind(BROADCAST_TO, value, shape=shape))
    return made(BROADCAST_TO, value, shape=shape)


@public(np.zeros)
def zeros(
    *shape: Any,
    dtype: Any = None,
    requires_grad: bool = False,
    order: str = "C",
    device: Any = None,
) -> Any:
    """Zeros of `shape` (sizes, or one tuple of them), float64 unless `dtype` is given."""
    return _constant(shape, 0, dtype, requires_grad)


@public(np.ones)
def ones(
    *shape: Any,
    dtype: Any = None,
    requires_grad: bool = False,
    order: str = "C",
    device: Any = None,
) -> Any:
    """Ones of `shape` (sizes, or one tuple of them), float64 unless `dtype` is given."""
    return _constant(shape, 1, dtype, requires_grad)


@public(np.empty)
def empty(
    *shape: Any,
    dtype: Any = None,
    requires_grad: bool = False,
    order: str = "C",
    device: Any = None,
) -> Any:
    """An array to be written to; it holds zeros, so that results never depend on chance."""
    return _constant(shape, 0, dtype, requires_grad)


def _constant(sizes: tuple[Any, ...], number: int, dtype: Any, requires_grad: bool) -> Any:
    shape, dtype = _sizes(sizes, dtype)
    value = supported_dtype(FLOAT if dtype is None else dtype).type(number)
    return given(_filled(shape, value), requires_grad)


@public(np.full)
def full(
    shape: Any,
    fill_value: Any,
    dtype: Any = None,
    order: str = "C",
    *,
    requires_grad: bool = False,
    device: Any = None,
) -> Any:
    """`fill_value`, a number or an array that broadcasts, as an array of `shape`."""
    value = as_operand(fill_value)
    value = astype(value, type_of(value).dtype if dtype is None else dtype)
    return given(_filled(as_shape(shape), value), requires_grad)


def _like(a: Any, value: Any, dtype: Any, shape: Any, requires_grad: bool) -> Any:
    a = as_operand(a)
    type = type_of(a)
    wanted = type.dtype if dtype is None else supported_dtype(dtype)
    value = astype(as_operand(value), wanted)
    if type_of(value).weak:
        value = wanted.type(value)
    found = _filled(type.shape if shape is None else as_shape(shape), value, a)
    return (
        found
        if isinstance(found, np.ndarray) and not requires_grad
        else given(found, requires_grad)
    )


@public(np.zeros_like)
def zeros_like(
    a: Any,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    requires_grad: bool = False,
    device: Any = None,
) -> Any:
    """Zeros in the shape and dtype of `a`."""
    return _like(a, 0, dtype, shape, requires_grad)


@public(np.ones_like)
def ones_like(
    a: Any,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    requires_grad: bool = False,
    device: Any = None,
) -> Any:
    """Ones in the shape and dtype of `a`."""
    return _like(a, 1, dtype, shape, requires_grad)


@public(np.empty_like)
def empty_like(
    prototype: Any,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    requires_grad: bool = False,
    device: Any = None,
) -> Any:
    """An array like `prototype` to be written to; it holds zeros."""
    return _like(prototype, 0, dtype, shape, requires_grad)


@public(np.full_like)
def full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    requires_grad: bool = False,
    device: Any = None,
) -> Any:
    """`fill_value` in the shape and dtype of `a`."""
    return _like(a, fill_value, dtype, shape, requires_grad)


@public(np.asarray, np.array)
def asarray(
    a: Any,
    dtype: Any = None,
    order: Any = None,
    *,
    copy: bool | None = None,
    requires_grad: bool = False,
    device: Any = None,
) -> Any:
    """Numbers, arrays, or nested lists of them as one array; an array as it is."""
    found = as_operand(a)
    found = found if dtype is None else astype(found, dtype)
    if isinstance(found, Bindable):
        return given(bind(COPY, found) if copy and found is a else found, requires_grad)
    return given(np.asarray(found), requires_grad)


def is_size(value: Any) -> bool:
    return isinstance(value, int | np.integer | SizeValue) and not isinstance(value, bool)


def counting(size: Size) -> Any:
    """`0, 1, ..., size - 1`, traced in a traced function."""
    return made(ARANGE, size=size)


sample(lambda x: np.zeros_like(x) + np.ones_like(x) * x, (2, 3))
sample(lambda x: np.full_like(x, 2.5) * x + np.empty_like(x) * 0, (3,))
sample(lambda x: np.full(x.shape, x[0], like=x) * x, (3,))
sample(lambda x: np.zeros(3, like=x) + np.ones((2, 3), like=x) * x, (3,))
