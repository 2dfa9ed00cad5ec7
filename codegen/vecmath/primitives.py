"""What the scalar functions are made of: the decorator, fma, Horner, bit casts, relaxed adds.

Everything here has two forms chosen once by `numba.config.DISABLE_JIT`: an LLVM instruction, and
a plain Python twin that gives the same bits. Source written against these names is therefore both
a vectorisable kernel and a Python function to step through:

    @scalar
    def square_f64(x):
        return x * x
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.extending import intrinsic

F32 = np.float32
PLAIN = bool(vars(config)["DISABLE_JIT"])
# `forceinline` makes LLVM inline the call, so that the loop around it can be vectorised.
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "forceinline": True,
    "no_cfunc_wrapper": True,
}


def numpy_scalar(value: Any) -> Any:
    """A Python number as the NumPy scalar that numba would give it."""
    match value:
        case bool():
            return np.bool_(value)
        case int():
            return np.int64(value)
        case float():
            return np.float64(value)
    return value


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` on NumPy scalars with hardware semantics: no warning, no exception."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*map(numpy_scalar, args))

    return call


def scalar(function: Callable[..., Any]) -> Any:
    """Compile a scalar function so that LLVM inlines it into the loop that calls it."""
    return plain(function) if PLAIN else njit(**OPTIONS)(function)


def instruction(twin: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Make an intrinsic of a typing function; `twin` is what it does in plain Python."""

    def choose(definition: Callable[..., Any]) -> Any:
        if PLAIN:
            return functools.wraps(definition)(plain(twin))
        return intrinsic(definition)

    return choose


def fma_float32(a: np.float32, b: np.float32, c: np.float32) -> np.float32:
    """The product is exact in float64; rounding the sum to odd makes the last rounding right."""
    product, addend = np.float64(a) * np.float64(b), np.float64(c)
    total = product + addend
    if not np.isfinite(total):
        return np.float32(total)
    virtual = total - product
    error = (product - (total - virtual)) + (addend - virtual)
    if error != 0 and not int(total.view(np.int64)) & 1:
        total = np.nextafter(total, np.copysign(np.inf, error))
    return np.float32(total)


def fma_float64(a: np.float64, b: np.float64, c: np.float64) -> np.float64:
    """One rounding of the exact rational value; zeros and non-finite values need no exactness.

    Python's division of integers is correctly rounded.
    """
    if not (np.isfinite(a) and np.isfinite(b) and np.isfinite(c)) or a == 0 or b == 0:
        return a * b + c
    (p, q), (r, s), (t, u) = (float(x).as_integer_ratio() for x in (a, b, c))
    exact = p * r * u + t * q * s  # over q * s * u
    if exact == 0:
        return np.float64(0.0)  # exact cancellation gives +0
    try:
        return np.copysign(np.float64(exact / (q * s * u)), 1.0 if exact > 0 else -1.0)
    except OverflowError:
        return np.float64(math.inf if exact > 0 else -math.inf)


def fma_plain(a: Any, b: Any, c: Any) -> Any:
    return fma_float32(a, b, c) if type(a) is np.float32 else fma_float64(a, b, c)


@instruction(fma_plain)
def fma(typing: Any, a: types.Type, b: types.Type, c: types.Type) -> Any:
    """`a * b + c` with one rounding; all three of one float type."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return (a(a, a, a), generate) if isinstance(a, types.Float) and a == b == c else None


def horner_plain(x: Any, coefficients: tuple[float, ...]) -> Any:
    result = type(x)(coefficients[0])
    for coefficient in coefficients[1:]:
        result = fma(result, x, type(x)(coefficient))
    return result


@instruction(horner_plain)
def horner(typing: Any, x: types.Type, coefficients: types.Type) -> Any:
    """The polynomial with these coefficients (highest power first), one fma a step.

    A tuple of Python floats is rounded to the type of `x`, so it serves both precisions.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, table = args
        parts = [builder.extract_value(table, k) for k in range(len(signature.args[1]))]
        if signature.args[0] == types.float32:
            parts = [builder.fptrunc(part, ir.FloatType()) for part in parts]
        result = parts[0]
        for part in parts[1:]:
            result = builder.fma(result, value, part)
        return result

    if isinstance(x, types.Float) and isinstance(coefficients, types.UniTuple):
        return x(x, coefficients), generate
    return None


def reinterpreting(source: types.Type, target: types.Type) -> Any:
    """Signature and code of a cast that keeps the bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(target))

    return target(source), generate


@instruction(lambda x: x.view(np.int32 if type(x) is np.float32 else np.int64))
def bits(typing: Any, x: types.Type) -> Any:
    """The bits of a float as a signed integer of the same width."""
    pairs = {types.float64: types.int64, types.float32: types.int32}
    return reinterpreting(x, pairs[x]) if x in pairs else None


@instruction(lambda x: x.view(np.float32 if type(x) is np.int32 else np.float64))
def from_bits(typing: Any, x: types.Type) -> Any:
    """The float that has these bits."""
    pairs = {types.int64: types.float64, types.int32: types.float32}
    return reinterpreting(x, pairs[x]) if x in pairs else None


@instruction(lambda value, like: type(like)(np.asarray(value).astype(type(like))))
def cast_like(typing: Any, value: types.Type, like: types.Type) -> Any:
    """`value` converted to the type of `like`; integers wrap around."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.cast(builder, args[0], value, like)

    return like(value, like), generate


def llvm_function(name: str, llvm_name: str, arity: int, twin: Callable[..., Any]) -> Any:
    """The LLVM intrinsic `llvm.<llvm_name>` on floats of one type; `twin` is its NumPy form."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = args[0].type
        prototype = ir.FunctionType(value, [value] * arity)
        function = builder.module.declare_intrinsic(f"llvm.{llvm_name}", [value], prototype)
        return builder.call(function, args)

    def one(typing: Any, x: types.Type) -> Any:
        return (x(x), generate) if isinstance(x, types.Float) else None

    def two(typing: Any, x: types.Type, y: types.Type) -> Any:
        return (x(x, x), generate) if isinstance(x, types.Float) and x == y else None

    definition = one if arity == 1 else two
    definition.__name__ = name
    return instruction(twin)(definition)


def reassociable(name: str, operation: str, twin: Callable[..., Any]) -> Any:
    """A float operation that a loop may reorder, and nothing else: flags `reassoc nsz`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, operation)(*args, flags=("reassoc", "nsz"))

    def definition(typing: Any, accumulator: types.Type, x: types.Type) -> Any:
        same = isinstance(x, types.Float) and accumulator == x
        return (x(x, x), generate) if same else None

    definition.__name__ = name
    return instruction(twin)(definition)


@instruction(lambda x: np.int64(8 * x.itemsize))
def bit_width(typing: Any, x: Any) -> Any:
    """How many bits the type of `x` has, as an int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant(types.int64, x.bitwidth)

    return types.int64(x), generate
