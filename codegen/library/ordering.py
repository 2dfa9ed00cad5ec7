"""Sorting in compiled code, by NumPy's functions (`codegen.numpyorder`).

    argsort(x, n, order)    order: the stable order of each n elements of x, NaN last
    sort(x, n, out)         out: each n elements of x in ascending order, NaN last

NumPy's fast order is not stable: elements that are equal lie in any order. So places that belong to
equal elements are put in order afterwards, which is another, shorter, sort of integers. Of integers
many may be equal: they are ordered by NumPy's stable function, unless that gets no memory.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, config
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype

from codegen import numpyorder
from codegen.library import sorting
from codegen.library.products import INT, word
from codegen.library.sorting import before

POINTER = ir.IntType(8).as_pointer()
SORTING = ir.FunctionType(INT, [POINTER, word(0).type, POINTER])
ORDERING = ir.FunctionType(INT, [POINTER, POINTER, word(0).type, POINTER])


class Caller:
    """Writes a call of one of NumPy's functions, on elements of arrays."""

    def __init__(self, context: Any, builder: Any, what: str, dtype: Any) -> None:
        self.context, self.builder = context, builder
        symbol = numpyorder.register(f"{what}_{as_dtype(dtype).name}")
        shape = SORTING if what == "sort" else ORDERING
        self.function = cgutils.get_or_insert_function(builder.module, shape, symbol)

    def place(self, kind: Any, value: Any, start: Any) -> Any:
        data = self.context.make_array(kind)(self.context, self.builder, value).data
        return self.builder.bitcast(self.builder.gep(data, [start]), POINTER)

    def call(self, *given: Any) -> Any:
        """With nothing for the array that types of unknown size are asked about."""
        return self.builder.call(self.function, [*given, ir.Constant(POINTER, None)])


@intrinsic
def sort_numbers(typing: Any, x: Any, start: Any, count: Any) -> Any:
    """Sort `count` elements of the vector `x` from `start` on."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        caller = Caller(context, builder, "sort", x.dtype)
        caller.call(caller.place(x, *values[:2]), values[2])
        return context.get_dummy_value()

    return types.none(x, types.int64, types.int64), generate


@intrinsic
def sort_places(typing: Any, x: Any, order: Any, start: Any, count: Any) -> Any:
    """Sort `count` elements of `order` from `start` on by what `x` has there, counted from
    `start`; whether equal ones are in any order."""
    fast = isinstance(x.dtype, types.Float)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        caller = Caller(context, builder, "argsort" if fast else "stable", x.dtype)
        keys = caller.place(x, values[0], values[2])
        status = caller.call(keys, caller.place(order, values[1], values[2]), values[3])
        failed = builder.icmp_signed("!=", status, ir.Constant(INT, 0))
        return ir.Constant(failed.type, 1) if fast else failed

    return types.boolean(x, order, types.int64, types.int64), generate


@njit(error_model="numpy", nogil=True)
def settle(x, n, start, order):
    """Put those of `n` places from `start` on in order that belong to equal elements."""
    first = 0
    for i in range(1, n + 1):
        last = x[start + order[start + first]]
        if i == n or before(last, x[start + order[start + i]]):
            if i - first > 1:
                sort_numbers(order, start + first, i - first)  # pyright: ignore[reportCallIssue]
            first = i


@njit(error_model="numpy", nogil=True)
def argsort_fast(x, n, order):
    """`order`: for each `n` elements of `x` the indices that sort them, equal ones in order."""
    for start in range(0, len(x), max(n, 1)):
        for i in range(n):
            order[start + i] = i
        if sort_places(x, order, start, n):  # pyright: ignore[reportCallIssue]
            settle(x, n, start, order)


@njit(error_model="numpy", nogil=True)
def sort_fast(x, n, out):
    """`out`: each `n` elements of `x` in ascending order."""
    for i in range(len(x)):
        out[i] = x[i]
    for start in range(0, len(x), max(n, 1)):
        sort_numbers(out, start, n)  # pyright: ignore[reportCallIssue]


INTERPRETED = vars(config)["DISABLE_JIT"]
argsort: Any = sorting.argsort if INTERPRETED else argsort_fast
sort: Any = sorting.sort if INTERPRETED else sort_fast
