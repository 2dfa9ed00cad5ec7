"""sin, cos, tan: two polynomials after reduction modulo pi/2, right for every argument.

x = n pi/2 + r with |r| <= pi/4; the last two bits of n choose sin(r) or cos(r) and the sign. Up to
2**42 (float32: 2**15) three floats of pi/2 are enough. Larger arguments are reduced with as many
digits of 1/pi as it takes (M. Payne, R. Hanek, SIGNUM Newsletter 18, 1983) by a slow path that
leaves loops vectorised.

    cos_f64(1e22) = 0.5232147853951389
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.vecmath.exact import fabs_float, rint_float
from codegen.vecmath.exponential import HALF_F32, ONE_F32, TINY_F32
from codegen.vecmath.floating import is_odd, negate_by_bit, two_to
from codegen.vecmath.primitives import bits, cast_like, fma, horner, scalar
from codegen.vecmath.rare import ordinary, rare

TWO_OVER_PI = 0.6366197723675814
# pi/2 as a sum of floats: three of float64, three of float32.
PI_1, PI_2, PI_3 = 1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33
TWO_OVER_PI_F32 = np.float32(TWO_OVER_PI)
PI_1_F32 = np.float32(1.57079637)
PI_2_F32 = np.float32(-4.371139e-08)
PI_3_F32 = np.float32(-1.7151245e-15)

# derive.py: (sin(r) / r - 1) / r**2 and (cos(r) - 1 + r**2 / 2) / r**4 in r**2
SIN = (
    1.5896800414600876e-10,
    -2.5050758255293447e-08,
    2.755731369324684e-06,
    -0.0001984126982981306,
    0.008333333333322422,
    -0.16666666666666632,
)
SIN_F32 = (
    -0.00019517227300693978,
    0.008332177676935585,
    -0.1666665493796851,
)
COS = (
    -1.1359651726151953e-11,
    2.087572335825016e-09,
    -2.755731435302979e-07,
    2.480158728948486e-05,
    -0.001388888888887413,
    0.0416666666666666,
)
COS_F32 = (
    2.4438351642161064e-05,
    -0.0013887366674644145,
    0.041666646850137254,
)
TAN_F32 = (
    0.009467334404851594,
    0.0029717820720316234,
    0.024529739771323132,
    0.05338089170334548,
    0.13339203875662595,
    0.33333139383527294,
)


def digits_of_inverse_pi(count: int) -> np.ndarray:
    """1/pi in base 2**28 after two zeros, from Machin's pi/4 = 4 atan(1/5) - atan(1/239)."""
    one = 1 << (28 * count + 64)

    def inverse_tangent(n: int) -> int:
        total, power, k = 0, one // n, 1
        while power:
            total, power, k = total + power // k * (2 - k % 4), power // (n * n), k + 2
        return total

    pi = 4 * (4 * inverse_tangent(5) - inverse_tangent(239))
    inverse = one * one // pi >> 64
    digits = [inverse >> (28 * (count - k - 1)) & 0xFFFFFFF for k in range(count)]
    return np.array([0, 0, *digits], np.int64)


DIGITS = digits_of_inverse_pi(46)


@scalar
def reduce_large(x: Any) -> Any:
    """(n, r, rest) with |x| = n pi/2 + r + rest modulo 2 pi and r least, for |x| >= 2**42.

    With |x| = m 2**e the digits of 1/pi that only add multiples of 4 are skipped; the next eight
    times m, in limbs of 28 bits, leave 70 good bits after the worst cancellation.
    """
    pattern = bits(x)
    mantissa = (pattern & 0xFFFFFFFFFFFFF) | 0x10000000000000
    e = ((pattern >> 52) & 0x7FF) - 1075
    first = (e + 54) // 28
    fraction_bits = 28 * (first + 6) - e
    limbs = np.empty(8, np.int64)
    carry, digit = np.int64(0), np.int64(0)
    for k in range(8):
        above, digit = digit, DIGITS[first + 7 - k]
        column = digit * (mantissa & 0xFFFFFFF) + above * (mantissa >> 28) + carry
        limbs[k] = column & 0xFFFFFFF
        carry = column >> 28
    limbs[7] &= (1 << (fraction_bits - 195)) - 1
    weight = two_to(np.float64(197 - fraction_bits))  # doubled: multiples of 1/pi to those of 2/pi
    n = rint_float((limbs[7] + limbs[6] * 2.0**-28) * weight)
    total, rest = limbs[7] * weight - n, 0.0
    for k in range(1, 8):
        term = limbs[7 - k] * weight * two_to(np.float64(-28 * k))
        whole = total + term
        rest += term - (whole - total)
        total = whole
    r = total * PI_1
    low = fma(total, PI_1, -r) + (total * PI_2 + rest * PI_1)
    high = r + low
    return n, high, (r - high) + low


@scalar
def turned_f64(r: Any, n: Any) -> Any:
    """sin(r + n pi/2) for |r| <= pi/4."""
    z = r * r
    sine = fma(r * z, horner(z, SIN), r)
    cosine = fma(z, fma(z, horner(z, COS), -0.5), 1.0)
    return negate_by_bit(cosine if is_odd(n) else sine, n, 1)


@scalar
def turned_f32(r: Any, n: Any) -> Any:
    z = r * r
    sine = fma(r * z, horner(z, SIN_F32), r)
    cosine = fma(z, fma(z, horner(z, COS_F32), -HALF_F32), ONE_F32)
    return negate_by_bit(cosine if is_odd(n) else sine, n, 1)


@scalar
def sin_large_f64(x: Any) -> Any:
    n, r, _ = reduce_large(x)
    value = turned_f64(r, n)
    return np.nan if fabs_float(x) == np.inf else (-value if x < 0.0 else value)


@scalar
def sin_f64(x: Any) -> Any:
    n = rint_float(x * TWO_OVER_PI)
    r = fma(n, -PI_3, fma(n, -PI_2, fma(n, -PI_1, x)))
    return rare(turned_f64(r, n) if x != 0.0 else x, x, 4398046511104, sin_large_f64)


@scalar
def sin_large_f32(x: Any) -> Any:
    return np.float32(sin_f64(np.float64(x)))


@scalar
def sin_f32(x: Any) -> Any:
    n = rint_float(x * TWO_OVER_PI_F32)
    r = fma(n, -PI_3_F32, fma(n, -PI_2_F32, fma(n, -PI_1_F32, x)))
    return rare(turned_f32(r, n) if x != 0 else x, x, 32768, sin_large_f32)


@scalar
def cos_large_f64(x: Any) -> Any:
    n, r, _ = reduce_large(x)
    return np.nan if fabs_float(x) == np.inf else turned_f64(r, n + 1.0)


@scalar
def cos_f64(x: Any) -> Any:
    """sin(x + pi/2)."""
    n = rint_float(x * TWO_OVER_PI)
    r = fma(n, -PI_3, fma(n, -PI_2, fma(n, -PI_1, x)))
    return rare(turned_f64(r, n + 1.0), x, 4398046511104, cos_large_f64)


@scalar
def cos_large_f32(x: Any) -> Any:
    return np.float32(cos_f64(np.float64(x)))


@scalar
def cos_f32(x: Any) -> Any:
    n = rint_float(x * TWO_OVER_PI_F32)
    r = fma(n, -PI_3_F32, fma(n, -PI_2_F32, fma(n, -PI_1_F32, x)))
    return rare(turned_f32(r, n + ONE_F32), x, 32768, cos_large_f32)


@scalar
def precise_quotient_float(a: Any, a_low: Any, b: Any, b_low: Any) -> Any:
    """(a + a_low) / (b + b_low) with hardly more than the last rounding."""
    inverse = cast_like(1, b) / b
    quotient = a * inverse
    rest = fma(-quotient, b, a) + fma(-quotient, b_low, a_low)
    return fma(rest, inverse, quotient)


@scalar
def tan_reduced_f64(r: Any, rest: Any, n: Any) -> Any:
    """sin / cos or, for odd n, -cos / sin of r + rest, both with their rounding errors."""
    z = r * r
    sine_tail = fma(r * z, horner(z, SIN), rest)
    sine = r + sine_tail
    sine_low = (r - sine) + sine_tail
    cosine_tail = z * fma(z, horner(z, COS), -0.5)
    cosine = 1.0 + cosine_tail
    cosine_low = (1.0 - cosine) + cosine_tail
    if is_odd(n):
        sine, sine_low, cosine, cosine_low = -cosine, -cosine_low, sine, sine_low
    return precise_quotient_float(sine, sine_low, cosine, cosine_low)


@scalar
def tan_large_f64(x: Any) -> Any:
    n, r, rest = reduce_large(x)
    value = tan_reduced_f64(r, rest, n)
    return np.nan if fabs_float(x) == np.inf else (-value if x < 0.0 else value)


@scalar
def tan_middle_f64(x: Any) -> Any:
    n = rint_float(x * TWO_OVER_PI)
    whole = fma(n, -PI_1, x)
    r = fma(n, -PI_2, whole)
    rest = fma(n, -PI_3, fma(n, -PI_2, whole - r))
    return tan_reduced_f64(r, rest, n)


@scalar
def tan_anywhere_f64(x: Any) -> Any:
    value = x if fabs_float(x) < 1e-300 else tan_middle_f64(x)
    return rare(value, x, 4398046511104, tan_large_f64)


@scalar
def tan_f64(x: Any) -> Any:
    return ordinary(tan_middle_f64(x), x, -900, 42, tan_anywhere_f64)


@scalar
def tan_large_f32(x: Any) -> Any:
    return np.float32(tan_f64(np.float64(x)))


@scalar
def tan_middle_f32(x: Any) -> Any:
    """t = tan(r + rest) or, for odd n, -1 / t."""
    n = rint_float(x * TWO_OVER_PI_F32)
    whole = fma(n, -PI_1_F32, x)
    r = fma(n, -PI_2_F32, whole)
    rest = fma(n, -PI_3_F32, fma(n, -PI_2_F32, whole - r))
    z = r * r
    t = r + fma(r * z, horner(z, TAN_F32), fma(rest, z, rest))
    return -ONE_F32 / t if is_odd(n) else t


@scalar
def tan_anywhere_f32(x: Any) -> Any:
    value = tan_middle_f32(x)
    return rare(x if fabs_float(x) < TINY_F32 else value, x, 32768, tan_large_f32)


@scalar
def tan_f32(x: Any) -> Any:
    return ordinary(tan_middle_f32(x), x, -60, 15, tan_anywhere_f32)
