"""Where the first largest or smallest of a few numbers stands: vectors, compared as a whole.

    at = first_largest(x, start, n)      the place, counted from `start`, among n <= 64 elements
    at = first_smallest(x, start, n)     of the vector x; that of the first NaN, if there is one

The numbers are loaded into vectors, those beyond the last replaced by the worst there is. What is
best of them all is compared with each again; the answers are the bits of one word, and the place is
the number of zeros at its end. Nothing depends on a jump but how many vectors there are: 64 float32
take a third of the time of a loop that counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype

from codegen.library import portable
from codegen.library.products import word

MOST = 64
"""Elements: as many as a word has bits."""
BYTES = 64
"""Of a vector; LLVM takes several of the processor's for one where those are shorter."""
WORD, NARROW, BOOL = word(0).type, ir.IntType(32), ir.IntType(1)


class Row:
    """Writes the search among `count` elements at an address."""

    def __init__(self, builder: Any, dtype: np.dtype, data: Any, count: Any, sign: str) -> None:
        self.builder, self.dtype, self.sign, self.count = builder, dtype, sign, count
        self.data, self.element = data, data.type.pointee
        self.lanes = BYTES // dtype.itemsize
        self.kind = ir.VectorType(self.element, self.lanes)

    def place(self, vectors: int) -> Any:
        """The place, if there are no more elements than these vectors have."""
        builder = self.builder
        found = cgutils.alloca_once(builder, WORD)
        values = [self.loaded(k) for k in range(vectors)]
        best = self.splat(self.best(values))
        equal = self.word_of([self.compared("==", value, best) for value in values])
        builder.store(self.zeros(equal), found)
        if self.dtype.kind == "f":
            pairs = zip(values[::2], values[1::2] or values, strict=True)
            missing = [builder.fcmp_unordered("uno", a, b) for a, b in pairs]
            bits = builder.bitcast(reduce(builder.or_, missing), ir.IntType(self.lanes))
            some = builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))
            with builder.if_then(some, likely=False):
                nans = [builder.fcmp_unordered("uno", value, value) for value in values]
                builder.store(self.zeros(self.word_of(nans)), found)
        return builder.load(found)

    def loaded(self, number: int) -> Any:
        """A vector of elements, where they are no more, of the worst number."""
        builder, lanes = self.builder, self.lanes
        places = ir.VectorType(NARROW, lanes)
        numbers = ir.Constant(places, [number * lanes + lane for lane in range(lanes)])
        count = self.splat(builder.trunc(self.count, NARROW))
        there = builder.icmp_unsigned("<", numbers, count)
        address = builder.gep(self.data, [word(number * lanes)])
        address = builder.bitcast(address, self.kind.as_pointer())
        worst = ir.Constant(self.kind, [self.worst()] * lanes)
        letter = "f" if self.dtype.kind == "f" else "i"
        name = f"llvm.masked.load.v{lanes}{letter}{8 * self.dtype.itemsize}.p0"
        given = [address, ir.Constant(NARROW, self.dtype.itemsize), there, worst]
        shape = ir.FunctionType(self.kind, [value.type for value in given])
        function = cgutils.get_or_insert_function(builder.module, shape, name)
        return builder.call(function, given)

    def worst(self) -> Any:
        if self.dtype.kind == "f":
            return -np.inf if self.sign == ">" else np.inf
        limits = np.iinfo(self.dtype)
        return int(limits.min if self.sign == ">" else limits.max)

    def splat(self, value: Any) -> Any:
        kind = ir.VectorType(value.type, self.lanes)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, NARROW(0))
        same = ir.Constant(ir.VectorType(NARROW, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(one, one, same)

    def compared(self, sign: str, a: Any, b: Any) -> Any:
        if self.dtype.kind == "f":
            return self.builder.fcmp_ordered(sign, a, b)
        signed = self.dtype.kind == "i"
        compare = self.builder.icmp_signed if signed else self.builder.icmp_unsigned
        return compare(sign, a, b)

    def better(self, a: Any, b: Any) -> Any:
        """The better number of each lane; `b` where `a` is NaN."""
        return self.builder.select(self.compared(self.sign, a, b), a, b)

    def best(self, values: list[Any]) -> Any:
        """The best of all numbers; of NaNs it may be anything."""
        values = [*values]
        while len(values) > 1:
            values = [self.better(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
        (value,), lanes = values, self.lanes
        while lanes > 1:
            lanes //= 2
            value = self.better(self.half(value, 0, lanes), self.half(value, lanes, lanes))
        return self.builder.extract_element(value, NARROW(0))

    def half(self, value: Any, first: int, count: int) -> Any:
        lanes = ir.Constant(ir.VectorType(NARROW, count), list(range(first, first + count)))
        return self.builder.shuffle_vector(value, value, lanes)

    def word_of(self, answers: list[Any]) -> Any:
        """The answers of all lanes as bits of a word, the first one lowest."""
        whole: Any = word(0)
        for number, answer in enumerate(answers):
            bits = self.builder.bitcast(answer, ir.IntType(self.lanes))
            bits = self.builder.zext(bits, WORD) if self.lanes < MOST else bits
            bits = self.builder.shl(bits, word(number * self.lanes))
            whole = self.builder.or_(whole, bits)
        return whole

    def zeros(self, bits: Any) -> Any:
        return self.builder.cttz(bits, BOOL(0))


def search(builder: Any, dtype: np.dtype, data: Any, count: Any, sign: str) -> Any:
    """The place, with as many vectors as it takes: 1, 2, 4 or 8."""
    row, result = Row(builder, dtype, data, count, sign), cgutils.alloca_once(builder, WORD)
    end = builder.append_basic_block("found")
    vectors, most = 1, MOST // row.lanes
    while vectors <= most:
        following = None
        if vectors < most:
            fits = builder.icmp_signed("<=", count, word(vectors * row.lanes))
            here, following = (builder.append_basic_block(name) for name in ("fits", "more"))
            builder.cbranch(fits, here, following)
            builder.position_at_end(here)
        builder.store(row.place(vectors), result)
        builder.branch(end)
        if following is not None:
            builder.position_at_end(following)
        vectors *= 2
    builder.position_at_end(end)
    return builder.load(result)


def typed(sign: str) -> Callable[..., Any]:
    def typing(typing_context: Any, x: Any, start: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            data = context.make_array(x)(context, builder, values[0]).data
            data = builder.gep(data, [values[1]])
            return search(builder, as_dtype(x.dtype), data, values[2], sign)

        return types.int64(x, types.int64, types.int64), generate

    return typing


INTERPRETED = vars(config)["DISABLE_JIT"]
first_largest: Any = portable.first_largest if INTERPRETED else intrinsic(typed(">"))
first_smallest: Any = portable.first_smallest if INTERPRETED else intrinsic(typed("<"))
