"""arcsinh, arccosh, arctanh: logarithms of an argument near which nothing is lost.

arcsinh_f64(1.0) = 0.881373587019543
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.vecmath.exact import copysign_float, fabs_float, sqrt_float
from codegen.vecmath.exponential import LN2_HIGH, LN2_HIGH_F32, LN2_LOW, LN2_LOW_F32
from codegen.vecmath.floating import exponent, significand, two_to
from codegen.vecmath.logarithm import ATANH, INFINITY_F32, LOG_F32, NAN_F32
from codegen.vecmath.primitives import F32, bits, cast_like, fma, from_bits, horner, scalar

# derive.py: (2 atanh(s) - 2 s) / s**3 in s**2
ATANH_F32 = (
    0.30454448036081444,
    0.39953359091422713,
    0.6666699265838794,
)


@scalar
def log_of_sum_f64(high: Any, low: Any) -> Any:
    """log(1 + high + low) for 0 <= high < infinity, |low| tiny beside high."""
    whole = 1.0 + high
    lost = (high - (whole - 1.0) if high < 1.0 else 1.0 - (whole - high)) + low
    e = exponent(whole)
    f = (significand(whole) - 1.0) + lost * two_to(-(1000.0 if e > 1000.0 else e))
    s = f / (2.0 + f)
    z = s * s
    rest = fma(e, LN2_LOW, s * (z * horner(z, ATANH) - f))
    return fma(e, LN2_HIGH, f + rest)


@scalar
def log_of_sum_f32(high: Any, low: Any) -> Any:
    whole = F32(1.0) + high
    lost = (high - (whole - F32(1.0)) if high < F32(1.0) else F32(1.0) - (whole - high)) + low
    e = exponent(whole)
    f = (significand(whole) - F32(1.0)) + lost * two_to(-(F32(100.0) if e > F32(100.0) else e))
    rest = fma(f * f, fma(f, horner(f, LOG_F32), F32(-0.5)), e * LN2_LOW_F32)
    return fma(e, LN2_HIGH_F32, f + rest)


@scalar
def arcsinh_f64(x: Any) -> Any:
    """log(1 + |x| + x**2 / (1 + sqrt(1 + x**2))); log(|x|) + log 2 beyond 2**60."""
    magnitude = fabs_float(x)
    huge = magnitude > 1152921504606846976.0
    a = 1.0 if huge else magnitude
    square = a * a
    extra = square / (1.0 + sqrt_float(1.0 + square))
    high = a + extra
    low = (a - high) + extra
    result = log_of_sum_f64(magnitude if huge else high, 0.0 if huge else low)
    result = result + (LN2_HIGH + LN2_LOW if huge else 0.0)
    inside = (magnitude > 1e-300) & (magnitude < np.inf)
    return copysign_float(result, x) if inside else x


@scalar
def arcsinh_f32(x: Any) -> Any:
    magnitude = fabs_float(x)
    huge = magnitude > F32(1073741824.0)
    a = F32(1.0) if huge else magnitude
    square = a * a
    extra = square / (F32(1.0) + sqrt_float(F32(1.0) + square))
    high = a + extra
    low = (a - high) + extra
    result = log_of_sum_f32(magnitude if huge else high, F32(0.0) if huge else low)
    result = result + (LN2_HIGH_F32 + LN2_LOW_F32 if huge else F32(0.0))
    inside = (magnitude > F32(1e-30)) & (magnitude < INFINITY_F32)
    return copysign_float(result, x) if inside else x


@scalar
def arccosh_f64(x: Any) -> Any:
    """With t = x - 1: log(1 + t + sqrt(2 t + t**2)); log(x) + log 2 beyond 2**60."""
    huge = x > 1152921504606846976.0
    t = 1.0 if huge else x - 1.0
    root = sqrt_float(fma(t, t, 2.0 * t))
    high = t + root
    low = (root - high) + t
    result = log_of_sum_f64(x if huge else high, 0.0 if huge else low)
    result = result + (LN2_HIGH + LN2_LOW if huge else 0.0)
    return (result if x < np.inf else x) if x >= 1.0 else np.nan


@scalar
def arccosh_f32(x: Any) -> Any:
    huge = x > F32(1073741824.0)
    t = F32(1.0) if huge else x - F32(1.0)
    root = sqrt_float(fma(t, t, F32(2.0) * t))
    high = t + root
    low = (root - high) + t
    result = log_of_sum_f32(x if huge else high, F32(0.0) if huge else low)
    result = result + (LN2_HIGH_F32 + LN2_LOW_F32 if huge else F32(0.0))
    return (result if x < INFINITY_F32 else x) if x >= F32(1.0) else NAN_F32


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
