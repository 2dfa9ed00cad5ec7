"""Float functions whose result is exact: rounding, signs, comparisons, remainders, accumulators.

One source serves float32 and float64 (suffix `_float`), bit for bit as NumPy's array loops:

    maximum_float(nan, 1.0) = nan      fmax_float(nan, 1.0) = 1.0
    remainder_float(-5.0, 3.0) = 1.0   fmod_float(-5.0, 3.0) = -2.0
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from codegen.vecmath.primitives import (
    bits,
    cast_like,
    fma,
    from_bits,
    llvm_function,
    reassociable,
    scalar,
)
from codegen.vecmath.rare import rare_pair

floor_float = llvm_function("floor_float", "floor", 1, np.floor)
ceil_float = llvm_function("ceil_float", "ceil", 1, np.ceil)
trunc_float = llvm_function("trunc_float", "trunc", 1, np.trunc)
rint_float = llvm_function("rint_float", "rint", 1, np.rint)
fabs_float = llvm_function("fabs_float", "fabs", 1, np.fabs)
sqrt_float = llvm_function("sqrt_float", "sqrt", 1, np.sqrt)
copysign_float = llvm_function("copysign_float", "copysign", 2, np.copysign)

# Accumulators: `acc = add_reassoc_f64(acc, x)` vectorises although everything else stays strict.
add_reassoc_f64 = reassociable("add_reassoc_f64", "fadd", operator.add)
add_reassoc_f32 = reassociable("add_reassoc_f32", "fadd", operator.add)
multiply_reassoc_f64 = reassociable("multiply_reassoc_f64", "fmul", operator.mul)
multiply_reassoc_f32 = reassociable("multiply_reassoc_f32", "fmul", operator.mul)


@scalar
def square_float(x: Any) -> Any:
    return x * x


@scalar
def reciprocal_float(x: Any) -> Any:
    return cast_like(1, x) / x


@scalar
def sign_float(x: Any) -> Any:
    """-1, 0 or 1; `sign(-0.0)` is 0.0 and NaN stays."""
    return cast_like((x > 0) * 1 - (x < 0) * 1, x) if x == x else x


@scalar
def signbit_float(x: Any) -> Any:
    return bits(x) < 0


@scalar
def isnan_float(x: Any) -> Any:
    return x != x


@scalar
def isinf_float(x: Any) -> Any:
    return fabs_float(x) == np.inf


@scalar
def isfinite_float(x: Any) -> Any:
    return fabs_float(x) < np.inf


@scalar
def maximum_float(a: Any, b: Any) -> Any:
    """NaN wins; of two equal values the second, as NumPy's SIMD loops choose."""
    return a if (a > b) | (a != a) else b


@scalar
def minimum_float(a: Any, b: Any) -> Any:
    return a if (a < b) | (a != a) else b


@scalar
def fmax_float(a: Any, b: Any) -> Any:
    """NaN loses."""
    return a if (a > b) | (b != b) else b


@scalar
def fmin_float(a: Any, b: Any) -> Any:
    return a if (a < b) | (b != b) else b


reduce_maximum_float = llvm_function("reduce_maximum_float", "maximum", 2, maximum_float)
reduce_minimum_float = llvm_function("reduce_minimum_float", "minimum", 2, minimum_float)


@scalar
def heaviside_float(x: Any, at_zero: Any) -> Any:
    return at_zero if x == 0 else (cast_like(x > 0, x) if x == x else x)


@scalar
def nextafter_float(x: Any, y: Any) -> Any:
    """Step the bit pattern: away from zero if `|y| > |x|` on the same side, else towards it."""
    one = cast_like(1, bits(x))
    away = (y > x) == (x > 0)
    stepped = from_bits(cast_like(bits(x) + (one if away else -one), one))
    smallest = copysign_float(from_bits(one), y)
    moved = smallest if x == 0 else stepped
    return y if x == y else (moved if (x == x) & (y == y) else x + y)


@scalar
def fmod_slow(a: Any, b: Any) -> Any:
    return np.fmod(a, b)


@scalar
def fmod_f64(a: Any, b: Any) -> Any:
    """`a - b trunc(a / b)`, exact in one fma while the quotient has at most 53 bits.

    A quotient rounded up across an integer leaves a remainder of the wrong sign: `b` is added back.
    """
    x, y = fabs_float(a), fabs_float(b)
    quotient = x / y
    rest = fma(-trunc_float(quotient), y, x)
    rest = rest + y if rest < 0.0 else rest
    rest = x if (y == np.inf) & (x < np.inf) else rest
    return rare_pair(copysign_float(rest, a), quotient, 9007199254740992, fmod_slow, a, b)


@scalar
def fmod_f32(a: Any, b: Any) -> Any:
    x, y = fabs_float(a), fabs_float(b)
    quotient = x / y
    rest = fma(-trunc_float(quotient), y, x)
    rest = rest + y if rest < 0 else rest
    rest = x if (y == np.inf) & (x < np.inf) else rest
    return rare_pair(copysign_float(rest, a), quotient, 16777216, fmod_slow, a, b)


@scalar
def remainder_f64(a: Any, b: Any) -> Any:
    """The remainder with the sign of `b` (Python's `%`)."""
    rest = fmod_f64(a, b)
    shifted = rest + b if (b < 0) != (rest < 0) else rest
    return shifted if rest != 0 else (copysign_float(rest, b) if b != 0 else rest)


@scalar
def remainder_f32(a: Any, b: Any) -> Any:
    rest = fmod_f32(a, b)
    shifted = rest + b if (b < 0) != (rest < 0) else rest
    return shifted if rest != 0 else (copysign_float(rest, b) if b != 0 else rest)


@scalar
def floor_divide_f64(a: Any, b: Any) -> Any:
    """`(a - a mod b) / b` rounded to the nearest integer, so that it agrees with `remainder`."""
    rest = fmod_f64(a, b)
    wraps = (rest != 0) & ((b < 0) != (rest < 0))
    quotient = (a - rest) / b - cast_like(wraps, a)
    floored = floor_float(quotient)
    rounded = floored + cast_like(quotient - floored > 0.5, a)
    whole = rounded if quotient != 0 else copysign_float(quotient, a / b)
    return whole if b != 0 else a / b


@scalar
def floor_divide_f32(a: Any, b: Any) -> Any:
    rest = fmod_f32(a, b)
    wraps = (rest != 0) & ((b < 0) != (rest < 0))
    quotient = (a - rest) / b - cast_like(wraps, a)
    floored = floor_float(quotient)
    rounded = floored + cast_like(quotient - floored > 0.5, a)
    whole = rounded if quotient != 0 else copysign_float(quotient, a / b)
    return whole if b != 0 else a / b


@scalar
def deg2rad_float(x: Any) -> Any:
    return x * (cast_like(np.pi, x) / cast_like(180, x))


@scalar
def rad2deg_float(x: Any) -> Any:
    return x * (cast_like(180, x) / cast_like(np.pi, x))
