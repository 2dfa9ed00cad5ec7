"""Random numbers drawn by NumPy's own C functions, so that they are NumPy's, bit for bit.

In: the parameters (scalars, or arrays of as many elements as are drawn), the address of a
generator's `bitgen_t`, and the array to fill. The generator is left in the state in which NumPy
would leave it. The functions of NumPy's C API (numpy/random/distributions.h) are found in the
extension module that contains them, as NumPy's documentation shows for cffi.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, config
from numba.core.errors import TypingError
from numba.extending import intrinsic

from codegen.distributions import DISTRIBUTIONS, FILLS, SYMBOL, Distribution
from codegen.library import interpreted

DOUBLE, FLOAT, WORD, BYTE = ir.DoubleType(), ir.FloatType(), ir.IntType(64), ir.IntType(8)
COMPILED = not vars(config)["DISABLE_JIT"]


def register(name: str) -> str:
    """Make a function known to LLVM; its symbol. Raises ImportError if NumPy does not export it."""
    symbol = SYMBOL + name
    if not llvm.address_of_symbol(symbol):
        try:
            found = interpreted.STATES.get(name) or getattr(interpreted.extension(), name)
            address = ctypes.cast(found, ctypes.c_void_p).value
        except AttributeError:
            raise ImportError(
                f"this build of NumPy does not export {name}: draw the numbers before the call "
                "and pass them as an argument"
            ) from None
        assert address is not None
        llvm.add_symbol(symbol, address)
    return symbol


class Site:
    """The place in the code of one intrinsic where its calls are made."""

    def __init__(self, context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> None:
        self.context, self.builder = context, builder
        self.types, self.values = signature.args, values

    def state(self, number: int) -> Any:
        """The `bitgen_t *` that is passed as an integer, or that begins an array of words."""
        if isinstance(self.types[number], types.Array):
            return self.builder.bitcast(self.array(number).data, BYTE.as_pointer())
        return self.builder.inttoptr(self.values[number], BYTE.as_pointer())

    def array(self, number: int) -> Any:
        return self.context.make_array(self.types[number])(
            self.context, self.builder, self.values[number]
        )

    def element(self, number: int, index: Any) -> Any:
        """A parameter for the element at `index`."""
        if not isinstance(self.types[number], types.Array):
            return self.values[number]
        return self.builder.load(self.builder.gep(self.array(number).data, [index]))

    def call(self, name: str, result: Any, *args: Any) -> Any:
        kind = ir.FunctionType(result, [arg.type for arg in args])
        function = cgutils.get_or_insert_function(self.builder.module, kind, register(name))
        return self.builder.call(function, args)


def place(rng: Any) -> Any:
    """The type of a generator: an address, or the words of one that `open_state` made."""
    return rng if isinstance(rng, types.Array) else types.intp


def checked(kind: Any, *dtypes: Any) -> None:
    good = isinstance(kind, types.Array) and kind.layout == "C" and kind.dtype in dtypes
    if not good:
        raise TypingError(f"a C-contiguous array of {dtypes} is wanted, not {kind}")


def typed_fill(function: str) -> Callable[..., Any]:
    def typing(typing_context: Any, rng: Any, out: Any) -> Any:
        checked(out, types.float64, types.float32)
        name = function + ("_f" if out.dtype == types.float32 else "")

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            site = Site(context, builder, signature, values)
            array = site.array(1)
            site.call(name, ir.VoidType(), site.state(0), array.nitems, array.data)
            return context.get_dummy_value()

        return types.void(place(rng), out), generate

    return typing


def typed_elements(found: Distribution) -> Callable[..., Any]:
    """One call per element, each with the parameters at its place."""

    def build(params: Sequence[Any], rng: Any, out: Any) -> Any:
        checked(out, types.int64 if found.whole else types.float64)

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            site, count = Site(context, builder, signature, values), len(params)
            state, array = site.state(count), site.array(count + 1)
            with cgutils.for_range(builder, array.nitems) as loop:
                given = [site.element(k, loop.index) for k in range(count)]
                value = site.call(found.function, WORD if found.whole else DOUBLE, state, *given)
                builder.store(value, builder.gep(array.data, [loop.index]))
            return context.get_dummy_value()

        scalar = types.int64 if found.counting else types.float64
        kinds = [p if isinstance(p, types.Array) else scalar for p in params]
        return types.void(*kinds, place(rng), out), generate

    def none(typing_context: Any, rng: Any, out: Any) -> Any:
        return build((), rng, out)

    def one(typing_context: Any, a: Any, rng: Any, out: Any) -> Any:
        return build((a,), rng, out)

    def two(typing_context: Any, a: Any, b: Any, rng: Any, out: Any) -> Any:
        return build((a, b), rng, out)

    def three(typing_context: Any, a: Any, b: Any, c: Any, rng: Any, out: Any) -> Any:
        return build((a, b, c), rng, out)

    return (none, one, two, three)[found.parameters]


def typed_binomial(typing_context: Any, n: Any, p: Any, rng: Any, out: Any) -> Any:
    checked(out, types.int64)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        site = Site(context, builder, signature, values)
        state, array = site.state(2), site.array(3)
        scratch = cgutils.alloca_once(builder, ir.ArrayType(WORD, interpreted.SCRATCH))
        builder.store(ir.Constant(ir.ArrayType(WORD, interpreted.SCRATCH), None), scratch)
        room = builder.bitcast(scratch, BYTE.as_pointer())
        with cgutils.for_range(builder, array.nitems) as loop:
            count, chance = site.element(0, loop.index), site.element(1, loop.index)
            value = site.call("random_binomial", WORD, state, chance, count, room)
            builder.store(value, builder.gep(array.data, [loop.index]))
        return context.get_dummy_value()

    kinds = [
        kind if isinstance(kind, types.Array) else scalar
        for kind, scalar in ((n, types.int64), (p, types.float64))
    ]
    return types.void(*kinds, place(rng), out), generate


def typed_multinomial(typing_context: Any, n: Any, p: Any, rng: Any, out: Any) -> Any:
    """A row of `out` for each of `n`, with the row of `p` for it, or the only one."""
    checked(out, types.int64)
    checked(p, types.float64)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        site = Site(context, builder, signature, values)
        state, chances, array = site.state(2), site.array(1), site.array(3)
        scratch = cgutils.alloca_once(builder, ir.ArrayType(WORD, interpreted.SCRATCH))
        builder.store(ir.Constant(ir.ArrayType(WORD, interpreted.SCRATCH), None), scratch)
        room = builder.bitcast(scratch, BYTE.as_pointer())
        width = cgutils.unpack_tuple(builder, array.shape)[-1]
        step = width if p.ndim == out.ndim and out.ndim > 1 else ir.Constant(WORD, 0)
        with cgutils.for_range(builder, builder.udiv(array.nitems, width)) as loop:
            row = builder.gep(array.data, [builder.mul(loop.index, width)])
            with cgutils.for_range(builder, width) as inner:
                builder.store(ir.Constant(WORD, 0), builder.gep(row, [inner.index]))
            chance = builder.gep(chances.data, [builder.mul(loop.index, step)])
            args = (site.element(0, loop.index), row, chance, width, room)
            site.call("random_multinomial", ir.VoidType(), state, *args)
        return context.get_dummy_value()

    count = n if isinstance(n, types.Array) else types.int64
    return types.void(count, p, place(rng), out), generate


def typed_without_replacement(function: str) -> Callable[..., Any]:
    """`function(bitgen, total, colours, counts, sample, rows, out)`, `out` all zero."""

    def typing(
        typing_context: Any, total: Any, colors: Any, sample: Any, rng: Any, out: Any
    ) -> Any:
        checked(out, types.int64)
        checked(colors, types.int64)
        result = ir.IntType(32) if function.endswith("count") else ir.VoidType()

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            site = Site(context, builder, signature, values)
            counts, array = site.array(1), site.array(4)
            rows = builder.udiv(array.nitems, counts.nitems)
            args = (values[0], counts.nitems, counts.data, values[2], rows, array.data)
            site.call(function, result, site.state(3), *args)
            return context.get_dummy_value()

        return types.void(types.int64, colors, types.int64, place(rng), out), generate

    return typing


def typed_integers(typing_context: Any, low: Any, span: Any, rng: Any, out: Any) -> Any:
    """`span` is the largest number to be added to `low`."""
    bits = 1 if out.dtype == types.boolean else out.dtype.bitwidth
    name = "random_bounded_bool_fill" if bits == 1 else f"random_bounded_uint{bits}_fill"
    width = ir.IntType(max(bits, 8))

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        site = Site(context, builder, signature, values)
        array = site.array(3)
        first, most = values[0], values[1]
        if width.width < WORD.width:
            first, most = builder.trunc(first, width), builder.trunc(most, width)
        unmasked = ir.Constant(ir.IntType(1), 0)
        data = builder.bitcast(array.data, width.as_pointer())
        args = (site.state(2), first, most, array.nitems, unmasked, data)
        site.call(name, ir.VoidType(), *args)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, place(rng), out), generate


def typed_bounded(typing_context: Any, rng: Any, largest: Any) -> Any:
    """An integer from 0 to `largest`, both included."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        site = Site(context, builder, signature, values)
        zero, unmasked = ir.Constant(WORD, 0), ir.Constant(ir.IntType(1), 0)
        args = (site.state(0), zero, values[1], zero, unmasked)
        return site.call("random_bounded_uint64", WORD, *args)

    return types.int64(place(rng), types.int64), generate


def typed_interval(typing_context: Any, rng: Any, largest: Any) -> Any:
    """The same by rejection of masked bits, which is another sequence of numbers."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        site = Site(context, builder, signature, values)
        return site.call("random_interval", WORD, site.state(0), values[1])

    return types.int64(place(rng), types.int64), generate


def typed_save_state(typing_context: Any, rng: Any, out: Any) -> Any:
    """Keep the generator in the words of `out`; 0 if that is not known how."""
    checked(out, types.int64)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        site = Site(context, builder, signature, values)
        words = (builder.ptrtoint(x, WORD) for x in (site.state(0), site.array(1).data))
        return site.call("save_state", WORD, *words)

    return types.int64(place(rng), out), generate


def typed_open_state(typing_context: Any, saved: Any, out: Any) -> Any:
    """Make `out` a generator of its own in the state that was kept."""
    checked(saved, types.int64)
    checked(out, types.int64)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        site = Site(context, builder, signature, values)
        words = (builder.ptrtoint(site.array(number).data, WORD) for number in (0, 1))
        return site.call("open_state", WORD, *words)

    return types.int64(saved, out), generate


@intrinsic
def address(typing_context: Any, generator: Any) -> Any:
    """A `bitgen_t` for a `numpy.random.Generator` in compiled code, on the caller's stack: the
    state, and the functions that step it (the last one, for raw bits, no distribution calls)."""
    if not isinstance(generator, types.NumPyRandomGeneratorType):
        raise TypingError(f"a numpy.random.Generator is wanted, not {generator}")

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        whole = cgutils.create_struct_proxy(generator)(context, builder, value=values[0])
        kind = types.NumPyRandomBitGeneratorType("bit_generator")
        inner = cgutils.create_struct_proxy(kind)(context, builder, value=whole.bit_generator)
        words = (inner.state, inner.fnptr_next_uint64, inner.fnptr_next_uint32)
        words = (*words, inner.fnptr_next_double, inner.fnptr_next_uint64)
        room = cgutils.alloca_once(builder, ir.ArrayType(WORD, len(words)))
        for number, word in enumerate(words):
            builder.store(word, cgutils.gep_inbounds(builder, room, 0, number))
        return builder.ptrtoint(room, WORD)

    return types.intp(generator), generate


up_to: Any = intrinsic(typed_bounded) if COMPILED else interpreted.bounded
uniform: Any = (
    intrinsic(typed_fill(FILLS["random"])) if COMPILED else interpreted.fill(FILLS["random"])
)
masked_up_to: Any = intrinsic(typed_interval) if COMPILED else interpreted.interval


MARGINALS = "random_multivariate_hypergeometric_marginals"
COUNT = "random_multivariate_hypergeometric_count"
GAMMA, BETA = DISTRIBUTIONS["standard_gamma"], DISTRIBUTIONS["beta"]
by_marginals: Any = (
    intrinsic(typed_without_replacement(MARGINALS))
    if COMPILED
    else interpreted.without_replacement(MARGINALS)
)
by_count: Any = (
    intrinsic(typed_without_replacement(COUNT))
    if COMPILED
    else interpreted.without_replacement(COUNT)
)
gamma_fill: Any = intrinsic(typed_elements(GAMMA)) if COMPILED else interpreted.elements(GAMMA)
beta_fill: Any = intrinsic(typed_elements(BETA)) if COMPILED else interpreted.elements(BETA)


@njit(nogil=True)
def multivariate_hypergeometric(colors: Any, sample: int, rng: int, out: Any) -> None:
    out[...] = 0
    if out.size:
        by_marginals(np.sum(colors), colors, sample, rng, out)


@njit(nogil=True)
def multivariate_hypergeometric_count(colors: Any, sample: int, rng: int, out: Any) -> None:
    out[...] = 0
    if out.size:
        by_count(np.sum(colors), colors, sample, rng, out)


@njit(nogil=True)
def dirichlet(alpha: Any, rng: int, out: Any) -> None:
    """Normalised gamma numbers; for small parameters parts broken off a stick by beta numbers, as
    NumPy does it."""
    width = len(alpha)
    below = np.zeros(width)
    for j in range(width - 2, -1, -1):
        below[j] = below[j + 1] + alpha[j + 1]
    one = np.empty(1)
    for start in range(0, len(out), width):
        row = out[start : start + width]
        if np.max(alpha) >= 0.1:
            gamma_fill(alpha, rng, row)
            total = 0.0
            for j in range(width):
                total += row[j]
            for j in range(width):
                row[j] *= 1.0 / total
            continue
        rest = 1.0
        for j in range(width):
            row[j] = 0.0
        for j in range(width - 1):
            beta_fill(alpha[j], below[j], rng, one)
            row[j] = rest * one[0]
            rest *= 1.0 - one[0]
            if below[j] == 0.0:
                break
        row[width - 1] = rest


@njit(nogil=True)
def permuted(width: int, rng: int, out: Any) -> None:
    """The numbers 0, 1, 2, ... in random order in each row, `width` elements of `out`."""
    for start in range(0, len(out), max(width, 1)):
        permutation(rng, out[start : start + width])


@njit(nogil=True)
def permutation(rng: int, out: Any) -> None:
    """The numbers 0, 1, 2, ... in random order, by Fisher and Yates' shuffle."""
    for i in range(len(out)):
        out[i] = i
    for i in range(len(out) - 1, 0, -1):
        j = masked_up_to(rng, i)
        out[i], out[j] = out[j], out[i]


@njit(nogil=True)
def shuffle(order: Any, first: int, rng: int) -> None:
    """The same shuffle from the end down to `first`, as `choice` does it."""
    for i in range(len(order) - 1, first - 1, -1):
        j = up_to(rng, i)
        order[i], order[j] = order[j], order[i]


@njit(nogil=True)
def sample(population: int, shuffled: bool, rng: int, out: Any) -> None:
    """Different numbers below `population`: of large shares by shuffling the end of all numbers,
    else by R. Floyd's algorithm (Bentley and Floyd 1987, "A sample of brilliance")."""
    size = len(out)
    if population > 10000 and size > population // (50 if shuffled else 20):
        order = np.arange(population)
        shuffle(order, max(population - size, 1), rng)
        out[:] = order[population - size :]
        return
    places = 1
    while places < 2 * size + 2:
        places *= 2
    table = np.full(places, -1)
    for j in range(population - size, population):
        value = up_to(rng, j)
        at = value % places
        while table[at] != -1 and table[at] != value:
            at = (at + 1) % places
        if table[at] == value:
            value = j
            at = value % places
            while table[at] != -1:
                at = (at + 1) % places
        table[at] = value
        out[j - population + size] = value
    if shuffled:
        shuffle(out, 1, rng)


@njit(nogil=True)
def weighted_sample(p: Any, rng: int, out: Any) -> None:
    """Different places of `p`, each with these probabilities among those that are left.

    As NumPy does it: as many uniform numbers as are missing fall among the cumulated probabilities;
    a place that was found before counts no more, and in the next round it has none.
    """
    cumulated, numbers = np.empty(len(p)), np.empty(len(out))
    taken, count = np.zeros(len(p), np.bool_), 0
    while count < len(out):
        total = 0.0
        for i in range(len(p)):
            total += 0.0 if taken[i] else p[i]
            cumulated[i] = total
        missing = numbers[: len(out) - count]
        uniform(rng, missing)
        for number in missing:
            low, high = 0, len(p)
            while low < high:
                middle = (low + high) // 2
                if cumulated[middle] / total <= number:
                    low = middle + 1
                else:
                    high = middle
            if not taken[low]:
                taken[low] = True
                out[count] = low
                count += 1


@functools.cache
def draw(name: str) -> Any:
    """The function of that name for generated modules; without numba's compiler a plain one."""
    if not COMPILED:
        return interpreted.draw(name)
    if name in MADE:
        return intrinsic(MADE[name])
    if name in FILLS:
        return intrinsic(typed_fill(FILLS[name]))
    return intrinsic(typed_elements(DISTRIBUTIONS[name]))


MADE = {
    "binomial": typed_binomial,
    "integers": typed_integers,
    "multinomial": typed_multinomial,
    "open_state": typed_open_state,
    "save_state": typed_save_state,
}


def __getattr__(name: str) -> Any:
    if name in FILLS or name in DISTRIBUTIONS or name in MADE:
        return draw(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
