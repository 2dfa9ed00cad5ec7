"""arcsinh, arccosh, arctanh: logarithms of an argument near which nothing is lost.

arcsinh_f64(1.0) = 0.881373587019543
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.vecmath.exact import copysign_float, fabs_float, sqrt_float
from codegen.vecmath.exponential import LN2_HIGH, LN2_HIGH_F32, LN2_LOW, LN2_LOW_F32
from codegen.vecmath.floating import exponent, significand, two_to
from codegen.vecmath.logarithm import (
    ATANH,
    INFINITY_F32,
    LN2_F32,
    NAN_F32,
    log_of_sum_f32,
    log_of_sum_f64,
    log_parts_f32,
    log_parts_f64,
)
from codegen.vecmath.primitives import F32, bits, cast_like, fma, from_bits, horner, scalar
from codegen.vecmath.rare import ordinary, ordinary_positive

# derive.py: (2 atanh(s) - 2 s) / s**3 in s**2
ATANH_F32 = (
    0.30454448036081444,
    0.39953359091422713,
    0.6666699265838794,
)


@scalar
def arcsinh_positive_f64(a: Any) -> Any:
    """log(1 + a + a**2 / (1 + sqrt(1 + a**2)))."""
    square = a * a
    extra = square / (1.0 + sqrt_float(1.0 + square))
    high = a + extra
    return log_of_sum_f64(high, (a - high) + extra)


@scalar
def arcsinh_anywhere_f64(x: Any) -> Any:
    """log(|x|) + log 2 beyond 2**60; x near 0."""
    magnitude = fabs_float(x)
    huge = magnitude > 1152921504606846976.0
    result = arcsinh_positive_f64(1.0 if huge else magnitude)
    large = log_parts_f64(exponent(magnitude), significand(magnitude) - 1.0) + (LN2_HIGH + LN2_LOW)
    result = large if huge else result
    return copysign_float(result, x) if (magnitude > 1e-150) & (magnitude < np.inf) else x


@scalar
def arcsinh_f64(x: Any) -> Any:
    value = copysign_float(arcsinh_positive_f64(fabs_float(x)), x)
    return ordinary(value, x, -400, 60, arcsinh_anywhere_f64)


@scalar
def arcsinh_positive_f32(a: Any) -> Any:
    """log(1 + a + a**2 / (1 + sqrt(1 + a**2)))."""
    square = a * a
    extra = square / (F32(1.0) + sqrt_float(F32(1.0) + square))
    high = a + extra
    return log_of_sum_f32(high, (a - high) + extra)


@scalar
def arcsinh_anywhere_f32(x: Any) -> Any:
    """log(|x|) + log 2 beyond 2**30; x near 0."""
    magnitude = fabs_float(x)
    huge = magnitude > F32(1073741824.0)
    result = arcsinh_positive_f32(F32(1.0) if huge else magnitude)
    large = log_parts_f32(exponent(magnitude), significand(magnitude) - F32(1.0)) + LN2_F32
    result = large if huge else result
    return copysign_float(result, x) if (magnitude > F32(1e-20)) & (magnitude < INFINITY_F32) else x


@scalar
def arcsinh_f32(x: Any) -> Any:
    value = copysign_float(arcsinh_positive_f32(fabs_float(x)), x)
    return ordinary(value, x, -60, 30, arcsinh_anywhere_f32)


@scalar
def arccosh_middle_f64(t: Any) -> Any:
    """With t = x - 1: log(1 + t + sqrt(2 t + t**2))."""
    root = sqrt_float(fma(t, t, 2.0 * t))
    high = t + root
    return log_of_sum_f64(high, (root - high) + t)


@scalar
def arccosh_anywhere_f64(x: Any) -> Any:
    """log(x) + log 2 beyond 2**60."""
    huge = x > 1152921504606846976.0
    result = arccosh_middle_f64(1.0 if huge else x - 1.0)
    large = log_parts_f64(exponent(x), significand(x) - 1.0) + (LN2_HIGH + LN2_LOW)
    result = large if huge else result
    return (result if x < np.inf else x) if x >= 1.0 else np.nan


@scalar
def arccosh_f64(x: Any) -> Any:
    return ordinary_positive(arccosh_middle_f64(x - 1.0), x, 0, 60, arccosh_anywhere_f64)


@scalar
def arccosh_middle_f32(t: Any) -> Any:
    """With t = x - 1: log(1 + t + sqrt(2 t + t**2))."""
    root = sqrt_float(fma(t, t, F32(2.0) * t))
    high = t + root
    return log_of_sum_f32(high, (root - high) + t)


@scalar
def arccosh_anywhere_f32(x: Any) -> Any:
    """log(x) + log 2 beyond 2**30."""
    huge = x > F32(1073741824.0)
    result = arccosh_middle_f32(F32(1.0) if huge else x - F32(1.0))
    large = log_parts_f32(exponent(x), significand(x) - F32(1.0)) + LN2_F32
    result = large if huge else result
    return (result if x < INFINITY_F32 else x) if x >= F32(1.0) else NAN_F32


@scalar
def arccosh_f32(x: Any) -> Any:
    return ordinary_positive(arccosh_middle_f32(x - F32(1.0)), x, 0, 30, arccosh_anywhere_f32)


@scalar
def arctanh_f64(x: Any) -> Any:
    """log((1 + x) / (1 - x)) / 2 with the power of two c near the quotient taken out:

    k log(2) / 2 + atanh(s),  s = (1 + x - c (1 - x)) / (1 + x + c (1 - x)),  c = 2**k,
    exactly x where c is 1. The quotient that gives k is good to 6 %, from the bits of 1 - x. Near
    1 the sum 1 + c would round c (1 - x) away; there 1 - x is exact.
    """
    magnitude = fabs_float(x)
    left = 1.0 - magnitude
    inverse = from_bits(9214364837600034816 - bits(left if left > 0.0 else 1.0))
    k = exponent((1.0 + magnitude) * inverse * 0.94)
    c = two_to(k)
    top, bottom = fma(magnitude, 1.0 + c, 1.0 - c), fma(magnitude, 1.0 - c, 1.0 + c)
    far, whole = c < 1024.0, 1.0 + magnitude
    s = (top if far else fma(-c, left, whole)) / (bottom if far else fma(c, left, whole))
    z = s * s
    rest = fma(0.5 * k, LN2_LOW, s * (0.5 * z * horner(z, ATANH)))
    result = fma(0.5 * k, LN2_HIGH, s + rest)
    special = np.inf if magnitude == 1.0 else np.nan
    return copysign_float(result if magnitude < 1.0 else special, x)


@scalar
def arctanh_f32(x: Any) -> Any:
    magnitude = fabs_float(x)
    left = F32(1.0) - magnitude
    bounded = left if left > F32(0.0) else F32(1.0)
    inverse = from_bits(cast_like(0x7F000000 - bits(bounded), bits(x)))
    k = exponent((F32(1.0) + magnitude) * inverse * F32(0.94))
    c = two_to(k)
    one = F32(1.0)
    top, bottom = fma(magnitude, one + c, one - c), fma(magnitude, one - c, one + c)
    far, whole = c < F32(1024.0), one + magnitude
    s = (top if far else fma(-c, left, whole)) / (bottom if far else fma(c, left, whole))
    z = s * s
    rest = fma(F32(0.5) * k, LN2_LOW_F32, s * (F32(0.5) * z * horner(z, ATANH_F32)))
    result = fma(F32(0.5) * k, LN2_HIGH_F32, s + rest)
    special = INFINITY_F32 if magnitude == F32(1.0) else NAN_F32
    return copysign_float(result if magnitude < F32(1.0) else special, x)
