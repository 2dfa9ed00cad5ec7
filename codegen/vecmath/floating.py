"""Floats taken apart: scaling by a power of two, exponent and significand, exact small sums.

x = significand(x) * 2 ** exponent(x)      with sqrt(1/2) <= significand(x) < sqrt(2)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import RequireLiteralValue

from codegen.vecmath.primitives import fma, instruction

# Mantissa bits, exponent bias, the bits of sqrt(1/2) rounded up, and 1.5 * 2**mantissa bits: adding
# that to a small integer leaves the integer in the low bits of the sum, on every instruction set.
FORMATS = {
    64: (52, 1023, 0x3FE6A09E667F3BCD, 6755399441055744.0),
    32: (23, 127, 0x3F3504F4, 12582912.0),
}

WHOLE_F64, WHOLE_F32 = FORMATS[64][3], np.float32(FORMATS[32][3])

# What a third of the bits is taken from for x**(-1/3): 4/3 of the bias, less 0.068, which makes the
# largest error least. For float64 in units of the upper half of the bits, with 4/3 2**52 and 2**51
# for what makes its numbers integers.
GUESS_32, GUESS_64 = 1419900544.0, 8256600747032270.0


def integer_of(x: Any) -> np.integer:
    return x.view(np.int32 if type(x) is np.float32 else np.int64)


def whole(builder: Any, n: Any) -> Any:
    """LLVM code for the integer value of an integer-valued float of small magnitude."""
    width = 64 if n.type == ir.DoubleType() else 32
    magic = ir.Constant(n.type, FORMATS[width][3])
    integer = ir.IntType(width)
    moved = builder.bitcast(builder.fadd(n, magic), integer)
    return builder.sub(moved, builder.bitcast(magic, integer))


def two_to_integer(builder: Any, count: Any, target: Any) -> Any:
    """LLVM code for the float 2**count, which must be normal."""
    mantissa, bias, _, _ = FORMATS[count.type.width]
    biased = builder.add(count, ir.Constant(count.type, bias))
    return builder.bitcast(builder.shl(biased, ir.Constant(count.type, mantissa)), target)


def two_to_plain(n: Any) -> Any:
    return np.ldexp(type(n)(1), int(min(max(n, -5000), 5000))) if np.isfinite(n) else n


@instruction(two_to_plain)
def two_to(typing: Any, n: types.Type) -> Any:
    """`2**n` for an integer-valued float n with a normal result (anything if n is NaN)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return two_to_integer(builder, whole(builder, args[0]), args[0].type)

    return (n(n), generate) if isinstance(n, types.Float) else None


@instruction(lambda x, n: np.ldexp(x, int(n)) if np.isfinite(n) else x)
def scale(typing: Any, x: types.Type, n: types.Type) -> Any:
    """`x * 2**n` for an integer-valued float n, in two exact steps and one rounding.

    Right while half of n is a normal exponent: |n| <= 2044 (float64), 252 (float32). Where n is
    NaN x must be NaN too.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, power = args
        count = whole(builder, power)
        half = builder.ashr(count, ir.Constant(count.type, 1))
        for part in (half, builder.sub(count, half)):
            value = builder.fmul(value, two_to_integer(builder, part, value.type))
        return value

    return (x(x, x), generate) if isinstance(x, types.Float) and x == n else None


def scale_normal_plain(x: Any, moved: Any) -> Any:
    count = np.float64(moved) - FORMATS[8 * x.itemsize][3]
    return np.ldexp(x, int(np.clip(count, -5000, 5000))) if np.isfinite(count) else x


@instruction(scale_normal_plain)
def scale_normal(typing: Any, x: types.Type, moved: types.Type) -> Any:
    """`x * 2**n` for `moved = WHOLE + n`, from the bits; x and the result are normal."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, power = args
        integer = ir.IntType(signature.args[0].bitwidth)
        mantissa = ir.Constant(integer, FORMATS[integer.width][0])
        count = builder.shl(builder.bitcast(power, integer), mantissa)  # WHOLE has zeros there
        return builder.bitcast(builder.add(builder.bitcast(value, integer), count), value.type)

    return (x(x, moved), generate) if isinstance(x, types.Float) and x == moved else None


@instruction(lambda n: np.bool_(np.isfinite(n) and int(n) & 1))
def is_odd(typing: Any, n: types.Type) -> Any:
    """Whether an integer-valued float of at most 50 (float32: 21) bits is odd."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.trunc(whole(builder, args[0]), ir.IntType(1))

    return (types.boolean(n), generate) if isinstance(n, types.Float) else None


@instruction(lambda x, n, bit: -x if np.isfinite(n) and int(n) >> int(bit) & 1 else x)
def negate_by_bit(typing: Any, x: types.Type, n: types.Type, bit: types.Type) -> Any:
    """`-x` where that bit of the integer-valued float n is set, else `x`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, power, _ = args
        count = whole(builder, power)
        left = ir.Constant(count.type, count.type.width - 1 - signature.args[2].literal_value)
        sign = builder.and_(builder.shl(count, left), sign_bit(count.type))
        flipped = builder.xor(builder.bitcast(value, count.type), sign)
        return builder.bitcast(flipped, value.type)

    if not isinstance(bit, types.Literal):
        raise RequireLiteralValue("the bit number is a literal integer")
    return (x(x, x, bit), generate) if isinstance(x, types.Float) and x == n else None


def sign_bit(integer: Any) -> Any:
    return ir.Constant(integer, 1 << (integer.width - 1))


def exponent_plain(x: Any) -> Any:
    mantissa, _, root_half, _ = FORMATS[8 * x.itemsize]
    return type(x)((int(integer_of(x)) - root_half) >> mantissa)


@instruction(exponent_plain)
def exponent(typing: Any, x: Any) -> Any:
    """The integer e, as a float, for which `x / 2**e` is in [sqrt(1/2), sqrt(2)); x normal, > 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (value,) = args
        width = x.bitwidth
        mantissa, _, root_half, magic = FORMATS[width]
        integer = ir.IntType(width)
        offset = builder.sub(builder.bitcast(value, integer), ir.Constant(integer, root_half))
        count = builder.ashr(offset, ir.Constant(integer, mantissa))
        if width == 32:
            return builder.sitofp(count, value.type)
        start = ir.Constant(value.type, magic)
        moved = builder.bitcast(builder.add(count, builder.bitcast(start, integer)), value.type)
        return builder.fsub(moved, start)

    return (x(x), generate) if isinstance(x, types.Float) else None


def significand_plain(x: Any) -> Any:
    mantissa, _, root_half, _ = FORMATS[8 * x.itemsize]
    offset = (int(integer_of(x)) - root_half) & ((1 << mantissa) - 1)
    return np.array(offset + root_half, integer_of(x).dtype).view(x.dtype)[()]


@instruction(significand_plain)
def significand(typing: Any, x: Any) -> Any:
    """`x / 2**exponent(x)`, in [sqrt(1/2), sqrt(2)); x normal, > 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (value,) = args
        width = x.bitwidth
        mantissa, _, root_half, _ = FORMATS[width]
        integer = ir.IntType(width)
        offset = builder.sub(builder.bitcast(value, integer), ir.Constant(integer, root_half))
        kept = builder.and_(offset, ir.Constant(integer, (1 << mantissa) - 1))
        whole = builder.add(kept, ir.Constant(integer, root_half))
        return builder.bitcast(whole, value.type)

    return (x(x), generate) if isinstance(x, types.Float) else None


def unscaled_plain(x: Any) -> Any:
    return np.ldexp(type(x)(1), -int(exponent_plain(x)))


@instruction(unscaled_plain)
def unscaled(typing: Any, x: Any) -> Any:
    """`2**-exponent(x)`, from the bits; for an exponent below the largest."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (value,) = args
        width = x.bitwidth
        mantissa, bias, root_half, _ = FORMATS[width]
        integer = ir.IntType(width)
        offset = builder.sub(builder.bitcast(value, integer), ir.Constant(integer, root_half))
        scaled = builder.and_(offset, ir.Constant(integer, -1 << mantissa))
        power = builder.sub(ir.Constant(integer, bias << mantissa), scaled)
        return builder.bitcast(power, value.type)

    return (x(x), generate) if isinstance(x, types.Float) else None


def inverse_root_guess_plain(x: Any) -> Any:
    pattern = integer_of(x)
    if x.itemsize == 4:
        guess = fma(np.float32(pattern), np.float32(-1 / 3), np.float32(GUESS_32))
        return np.int32(guess).view(np.float32)
    high = np.float64((int(pattern) >> 32) + 2**52)
    guess = fma(high, np.float64(-1 / 3), np.float64(GUESS_64))
    return np.int64((int(integer_of(guess)) & 0xFFFFFFFF) << 32).view(np.float64)


@instruction(inverse_root_guess_plain)
def inverse_root_guess(typing: Any, x: Any) -> Any:
    """`x**(-1/3)` to 3.4 % for a normal x > 0: a third of the bits, which are nearly a logarithm.

    (R. W. Hamming's idea; W. Kahan, "Computing a real cube root", 1991.)
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (value,) = args
        kind, integer = value.type, ir.IntType(x.bitwidth)
        pattern = builder.bitcast(value, integer)
        third = ir.Constant(kind, float(np.float32(-1 / 3)) if x.bitwidth == 32 else -1 / 3)
        if x.bitwidth == 32:
            number = builder.sitofp(pattern, kind)
            guess = builder.fma(number, third, ir.Constant(kind, GUESS_32))
            return builder.bitcast(builder.fptosi(guess, integer), kind)
        half = ir.Constant(integer, 32)
        high = builder.or_(builder.lshr(pattern, half), ir.Constant(integer, 0x4330000000000000))
        guess = builder.fma(builder.bitcast(high, kind), third, ir.Constant(kind, GUESS_64))
        return builder.bitcast(builder.shl(builder.bitcast(guess, integer), half), kind)

    return (x(x), generate) if isinstance(x, types.Float) else None
