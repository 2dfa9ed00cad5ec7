"""Arrays as LLVM values: where their elements lie, how they come to be and are let go.

In: shapes and indices as LLVM integers. Out: addresses, memory under numba's reference counts, and
numba's array structures where a function asks for one. An index counts from 0 and is in bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from codegen import shortcuts
from codegen.apart import own
from codegen.library.products import item_size
from codegen.records import dataclass

WORD = ir.IntType(64)
POINTER = ir.IntType(8).as_pointer()
IN_CODE = 10**6
"""Bytes of a constant array up to which its numbers are part of the code."""
EXACT = ("nsw",)
"""Offsets of elements that are there do not overflow."""
MEMINFO, PARENT, NITEMS, ITEMSIZE, DATA, SHAPE, STRIDES = range(7)
"""The fields of numba's array structure."""
PART = "arg.{}.{}"
"""What numba calls a field of an argument."""


def word(number: int) -> ir.Constant:
    return ir.Constant(WORD, number)


@dataclass(frozen=True)
class Array:
    """An array of numba's type `kind`; `strides`, in bytes, are None where it is C-contiguous."""

    kind: types.Array
    data: Any
    shape: tuple[Any, ...]
    meminfo: Any
    strides: tuple[Any, ...] | None = None
    parent: Any = None
    """Python's object, of an array that came from there."""


def received(context: Any, builder: Any, kind: types.Array, value: Any) -> Array:
    """The parts of numba's structure."""
    shape = tuple(builder.extract_value(value, [SHAPE, axis]) for axis in range(kind.ndim))
    strides = None
    if kind.layout != "C":
        strides = tuple(builder.extract_value(value, [STRIDES, axis]) for axis in range(kind.ndim))
    meminfo, parent, data = (builder.extract_value(value, n) for n in (MEMINFO, PARENT, DATA))
    return Array(kind, data, shape, meminfo, strides, parent)


def given(kind: types.Array, name: str, parts: Mapping[str, Any]) -> Array:
    """A parameter, from numba's names for the parts of its structure."""

    def along(field: int) -> tuple[Any, ...]:
        return tuple(parts[PART.format(name, f"{field}.{axis}")] for axis in range(kind.ndim))

    meminfo, parent, data = (parts[PART.format(name, n)] for n in (MEMINFO, PARENT, DATA))
    strides = None if kind.layout == "C" else along(STRIDES)
    return Array(kind, data, along(SHAPE), meminfo, strides, parent)


def strides(builder: Any, array: Array) -> tuple[Any, ...]:
    """Of each axis, in bytes."""
    if array.strides is not None:
        return array.strides
    return contiguous(builder, array, item_size(array.kind.dtype))


def steps(builder: Any, array: Array) -> tuple[Any, ...]:
    """Of each axis, in elements."""
    if array.strides is None:
        return contiguous(builder, array, 1)
    size = word(item_size(array.kind.dtype))
    return tuple(builder.sdiv(stride, size) for stride in array.strides)


def contiguous(builder: Any, array: Array, unit: int) -> tuple[Any, ...]:
    found = [word(unit)]
    for extent in reversed(array.shape[1:]):
        found.insert(0, builder.mul(found[0], extent, flags=EXACT))
    return tuple(found[: len(array.shape)])


def address(context: Any, builder: Any, array: Array, index: Sequence[Any]) -> Any:
    """Where an element lies, or the first one at the leading axes that are given."""
    if array.strides is None:
        offset = word(0)
        for axis, extent in enumerate(array.shape):
            at = index[axis] if axis < len(index) else None
            if axis:
                offset = builder.mul(offset, extent, flags=EXACT)
            if at is not None:
                offset = builder.add(offset, at, flags=EXACT) if axis else at
        return builder.gep(array.data, [offset], inbounds=True)
    parts = [
        builder.mul(at, stride, flags=EXACT)
        for at, stride in zip(index, array.strides, strict=False)
    ]
    offset = reduce(lambda a, b: builder.add(a, b, flags=EXACT), parts)
    base = builder.bitcast(array.data, POINTER)
    return builder.bitcast(builder.gep(base, [offset], inbounds=True), array.data.type)


def structure(context: Any, builder: Any, array: Array) -> Any:
    """Numba's structure of an array."""
    size = item_size(array.kind.dtype)
    items = reduce(lambda a, b: builder.mul(a, b, flags=EXACT), array.shape, word(1))
    parent = ir.Constant(POINTER, None) if array.parent is None else array.parent
    fields = (array.meminfo, parent, items, word(size), array.data)
    lengths = (array.shape, strides(builder, array))
    value: Any = ir.Constant(context.get_value_type(array.kind), ir.Undefined)
    for number, field in enumerate(fields):
        value = builder.insert_value(value, field, number)
    for number, parts in enumerate(lengths, SHAPE):
        for axis, part in enumerate(parts):
            value = builder.insert_value(value, part, [number, axis])
    return value


def allocated(
    context: Any,
    builder: Any,
    kind: types.Array,
    shape: tuple[Any, ...],
    size: Any,
    leave: shortcuts.Leave,
) -> Array:
    """New memory of `size` bytes, which holds one reference. Raises MemoryError."""
    alignment = context.get_preferred_array_alignment(kind.dtype)
    meminfo = shortcuts.block(builder, size, alignment, leave)
    data = own(builder, context.nrt.meminfo_data(builder, meminfo))
    pointer = builder.bitcast(data, context.get_data_type(kind.dtype).as_pointer())
    return Array(kind, pointer, shape, meminfo)


def constant(context: Any, builder: Any, kind: types.Array, value: np.ndarray) -> Any:
    """The address of the elements of an array that is part of the code; of a large one, where it is
    in this process (such code is not kept on disk)."""
    element = context.get_data_type(kind.dtype)
    if value.nbytes > IN_CODE:
        address = context.add_dynamic_addr(builder, value.ctypes.data, info="constant")
        return builder.bitcast(address, element.as_pointer())
    numbers = cgutils.create_constant_array(ir.IntType(8), bytearray(value.tobytes()))
    found = cgutils.global_constant(builder, ".constant", numbers)
    found.align = context.get_abi_alignment(element)
    return found.bitcast(element.as_pointer())


def count(builder: Any, verb: str, meminfo: Any) -> None:
    """One reference more (`incref`) or less (`decref`)."""
    kind = ir.FunctionType(ir.VoidType(), [POINTER])
    function = cgutils.get_or_insert_function(builder.module, kind, f"NRT_{verb}")
    builder.call(function, [meminfo])
