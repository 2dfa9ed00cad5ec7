"""What foreign functions return, taken over: arrays as memory of their own, numbers as they were
promised.

In: what the function returned, and the promise. Out: `(array, whether it has the promised shape)`,
or a number. An array that is not contiguous, or shares memory with an argument or another result
(generated code may write into its arrays), is copied. (numba compares the parameters of an overload
with those of its implementation, annotations included, so there are none.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic, overload
from numba.np.numpy_support import as_dtype


def readonly(array: Any) -> Any:
    """The array as one that compiled functions may not write into."""
    return array


def received(value: Any, dtype: Any, shape: tuple[int, ...], others: tuple[Any, ...]) -> Any:
    """The array, in memory of its own, and whether it has that shape. Raises TypeError."""
    if not isinstance(value, np.ndarray) or (value.dtype, value.ndim) != (dtype, len(shape)):
        raise TypeError(f"a foreign function returned {value!r}, not an array of {dtype}")
    shared = any(np.may_share_memory(value, other) for other in others)
    return (value.copy() if shared else np.ascontiguousarray(value)), value.shape == shape


def received_number(value: Any, dtype: Any) -> Any:
    """The number as one of `dtype`."""
    return dtype(value)


@intrinsic
def frozen(typing_context: Any, array: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return impl_ret_borrowed(context, builder, signature.return_type, values[0])

    return array.copy(readonly=True)(array), generate


@intrinsic
def overlapping(typing_context: Any, value: Any, others: Any) -> Any:
    """Whether an array shares memory with one of a tuple of them; all are C-contiguous."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def span(kind: Any, array: Any) -> tuple[Any, Any]:
            found = context.make_array(kind)(context, builder, array)
            start = builder.ptrtoint(found.data, found.nitems.type)
            return start, builder.add(start, builder.mul(found.nitems, found.itemsize))

        start, end = span(value, values[0])
        shared = ir.Constant(ir.IntType(1), 0)
        for number, kind in enumerate(others.types):
            low, high = span(kind, builder.extract_value(values[1], number))
            meets = builder.and_(
                builder.icmp_unsigned("<", start, high), builder.icmp_unsigned("<", low, end)
            )
            shared = builder.or_(shared, meets)
        return shared

    return types.boolean(value, others), generate


shared: Any = overlapping


@overload(readonly)
def compiled_readonly(array):
    return lambda array: frozen(array)  # pyright: ignore[reportCallIssue]


@overload(received)
def compiled_received(value, dtype, shape, others):
    right = isinstance(value, types.Array) and value.ndim == len(shape)
    if not right or value.dtype != dtype.dtype:
        raise TypingError(f"a foreign function returns {value}, which was not promised")
    if value.layout != "C" or not value.mutable or not value.aligned:

        def copied(value, dtype, shape, others):
            return value.copy(), value.shape == shape

        return copied

    def owned(value, dtype, shape, others):
        array = value.copy() if shared(value, others) else value
        return array, value.shape == shape

    return owned


@overload(received_number)
def compiled_received_number(value, dtype):
    kind = types.unliteral(value)
    wanted = np.dtype(as_dtype(dtype.dtype))
    number = isinstance(kind, types.Number | types.Boolean)
    whole = isinstance(kind, types.Integer) and wanted.kind == "f"
    if not number or not (whole or np.can_cast(as_dtype(kind), wanted, "safe")):
        raise TypingError(f"a foreign function returns {value}, which was not promised")
    return lambda value, dtype: dtype(value)


__all__ = ["readonly", "received", "received_number"]
