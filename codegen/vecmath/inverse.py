"""arctan, arctan2, arcsin, arccos, arcsinh, arccosh, arctanh, hypot and cbrt.

arctan turns its argument by 0, pi/4 or pi/2 until it is at most tan(pi/8); arcsin and arccos go
through sqrt((1 - |x|) / 2) from 1/2 on; the hyperbolic ones are logarithms.

    arctan2_f64(1.0, -1.0) = 2.356194490192345
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.vecmath.exact import copysign_float, fabs_float, sqrt_float
from codegen.vecmath.exponential import (
    LN2_HIGH,
    LN2_HIGH_F32,
    LN2_LOW,
    LN2_LOW_F32,
    clamp_float,
)
from codegen.vecmath.floating import exponent, significand, two_to
from codegen.vecmath.logarithm import ATANH, INFINITY_F32, LOG_F32, NAN_F32
from codegen.vecmath.primitives import bits, cast_like, fma, from_bits, horner, scalar
from codegen.vecmath.trigonometric import precise_quotient_float

# pi/2 and pi/4 as sums of two floats; tan(pi/8) and tan(3 pi/8).
HALF_PI, HALF_PI_LOW = 1.5707963267948966, 6.123233995736766e-17
QUARTER_PI, QUARTER_PI_LOW = 0.7853981633974483, 3.061616997868383e-17
TAN_EIGHTH, TAN_THREE_EIGHTHS = 0.41421356237309503, 2.414213562373095
# Where arctan2 scales both arguments by a power of two, against overflow and underflow.
LARGE, SHRINK, SMALL, GROW = 2.0**600, 2.0**-300, 2.0**-300, 2.0**600

F32 = np.float32
HALF_PI_F32, HALF_PI_LOW_F32 = F32(1.5707964), F32(-4.371139e-08)
QUARTER_PI_F32, QUARTER_PI_LOW_F32 = F32(0.7853982), F32(-2.1855695e-08)
TAN_EIGHTH_F32, TAN_THREE_EIGHTHS_F32 = F32(TAN_EIGHTH), F32(TAN_THREE_EIGHTHS)
LARGE_F32, SHRINK_F32, SMALL_F32, GROW_F32 = F32(2.0**80), F32(2.0**-40), F32(2.0**-40), F32(2.0**90)

# derive.py: (atan(t) / t - 1) / t**2, (asin(t) / t - 1) / t**2 in t**2
ATAN = (
    -0.017919829655617982,
    0.0380761304748645,
    -0.050397612351602096,
    0.05847990669794822,
    -0.06663117942920899,
    0.07692061428577607,
    -0.09090897825091239,
    0.11111110785756055,
    -0.14285714280241144,
    0.19999999999954013,
    -0.333333333333332,
)
ATAN_F32 = (
    -0.06082957872968166,
    0.10595837582693605,
    -0.14243832466768508,
    0.1999848902791051,
    -0.3333331551030823,
)
ASIN = (
    0.03267701851826902,
    -0.021077508051461604,
    0.021763661102852827,
    0.00368297027450902,
    0.010786549825676665,
    0.011397771865038472,
    0.01398096202132899,
    0.017351600037183838,
    0.02237221566385665,
    0.030381942683467465,
    0.044642857175124576,
    0.07499999999970257,
    0.16666666666666763,
)
ASIN_F32 = (
    0.04221950655130712,
    0.02414737292832896,
    0.04547705331228888,
    0.07495243141868119,
    0.16666753862840913,
)
ATANH_F32 = (
    0.30454448036081444,
    0.39953359091422713,
    0.6666699265838794,
)


@scalar
def arctan_turned_f64(a: Any, b: Any, flip: Any) -> Any:
    """atan(a / b) for a, b >= 0, or pi minus that; no overflow in a + b."""
    far, middle = a > TAN_THREE_EIGHTHS * b, a > TAN_EIGHTH * b
    top = -b if far else (a - b if middle else a)
    bottom = a if far else (a + b if middle else b)
    bottom_low = (a - bottom) + b if middle & (a > b) else (b - bottom) + a
    bottom_low = bottom_low if middle & (not far) else 0.0
    t = precise_quotient_float(top, 0.0, bottom, bottom_low)
    turns = 2.0 if far else (1.0 if middle else 0.0)
    turns, t = (4.0 - turns, -t) if flip else (turns, t)
    z = t * t
    base = turns * QUARTER_PI
    low = fma(turns, QUARTER_PI, -base) + turns * QUARTER_PI_LOW
    return base + (t + fma(t * z, horner(z, ATAN), low))


@scalar
def arctan_turned_f32(a: Any, b: Any, flip: Any) -> Any:
    far, middle = a > TAN_THREE_EIGHTHS_F32 * b, a > TAN_EIGHTH_F32 * b
    top = -b if far else (a - b if middle else a)
    bottom = a if far else (a + b if middle else b)
    bottom_low = (a - bottom) + b if middle & (a > b) else (b - bottom) + a
    bottom_low = bottom_low if middle & (not far) else F32(0.0)
    t = precise_quotient_float(top, F32(0.0), bottom, bottom_low)
    turns = F32(2.0) if far else (F32(1.0) if middle else F32(0.0))
    turns, t = (F32(4.0) - turns, -t) if flip else (turns, t)
    z = t * t
    base = turns * QUARTER_PI_F32
    low = fma(turns, QUARTER_PI_F32, -base) + turns * QUARTER_PI_LOW_F32
    return base + (t + fma(t * z, horner(z, ATAN_F32), low))


@scalar
def arctan_f64(x: Any) -> Any:
    magnitude = fabs_float(x)
    bounded = 1e300 if magnitude > 1e300 else magnitude
    return copysign_float(arctan_turned_f64(bounded, 1.0, False), x)


@scalar
def arctan_f32(x: Any) -> Any:
    magnitude = fabs_float(x)
    bounded = F32(1e37) if magnitude > F32(1e37) else magnitude
    return copysign_float(arctan_turned_f32(bounded, F32(1.0), False), x)


@scalar
def arctan2_f64(y: Any, x: Any) -> Any:
    """The angle of the point (x, y); infinities count as equal, two zeros as (+-1, 0)."""
    a, b = fabs_float(y), fabs_float(x)
    infinite = (a == np.inf) | (b == np.inf)
    a = (1.0 if a == np.inf else 0.0) if infinite else a
    b = (1.0 if b == np.inf else 0.0) if infinite else b
    larger = a if a > b else b
    factor = SHRINK if larger > LARGE else (GROW if larger < SMALL else 1.0)
    b = 1.0 if larger == 0.0 else b * factor
    result = arctan_turned_f64(a * factor, b, bits(x) < 0)
    return copysign_float(result, y) if (x == x) & (y == y) else x + y


@scalar
def arctan2_f32(y: Any, x: Any) -> Any:
    a, b = fabs_float(y), fabs_float(x)
    infinite = (a == INFINITY_F32) | (b == INFINITY_F32)
    a = (F32(1.0) if a == INFINITY_F32 else F32(0.0)) if infinite else a
    b = (F32(1.0) if b == INFINITY_F32 else F32(0.0)) if infinite else b
    larger = a if a > b else b
    factor = SHRINK_F32 if larger > LARGE_F32 else (GROW_F32 if larger < SMALL_F32 else F32(1.0))
    b = F32(1.0) if larger == F32(0.0) else b * factor
    result = arctan_turned_f32(a * factor, b, bits(x) < 0)
    return copysign_float(result, y) if (x == x) & (y == y) else x + y


@scalar
def arcsin_f64(x: Any) -> Any:
    """x + x**3 P(x**2) up to 1/2, above that pi/2 - 2 asin(sqrt((1 - x) / 2))."""
    magnitude = fabs_float(x)
    outer = magnitude > 0.5
    z = fma(magnitude, -0.5, 0.5) if outer else x * x
    s = sqrt_float(z) if outer else magnitude
    tail = s * z * horner(z, ASIN)
    near_one = fma(-2.0, s + (tail - 0.5 * HALF_PI_LOW), HALF_PI)
    return copysign_float(near_one if outer else s + tail, x)


@scalar
def arcsin_f32(x: Any) -> Any:
    magnitude = fabs_float(x)
    outer = magnitude > F32(0.5)
    z = fma(magnitude, -F32(0.5), F32(0.5)) if outer else x * x
    s = sqrt_float(z) if outer else magnitude
    tail = s * z * horner(z, ASIN_F32)
    near_one = fma(-F32(2.0), s + (tail - F32(0.5) * HALF_PI_LOW_F32), HALF_PI_F32)
    return copysign_float(near_one if outer else s + tail, x)


@scalar
def arccos_f64(x: Any) -> Any:
    magnitude = fabs_float(x)
    outer = magnitude > 0.5
    z = fma(magnitude, -0.5, 0.5) if outer else x * x
    s = sqrt_float(z) if outer else x
    tail = s * z * horner(z, ASIN)
    near_minus_one = fma(-2.0, s + (tail - HALF_PI_LOW), 2.0 * HALF_PI)
    near_one = near_minus_one if x < 0.0 else 2.0 * (s + tail)
    return near_one if outer else HALF_PI - (s + (tail - HALF_PI_LOW))


@scalar
def arccos_f32(x: Any) -> Any:
    magnitude = fabs_float(x)
    outer = magnitude > F32(0.5)
    z = fma(magnitude, -F32(0.5), F32(0.5)) if outer else x * x
    s = sqrt_float(z) if outer else x
    tail = s * z * horner(z, ASIN_F32)
    near_minus_one = fma(-F32(2.0), s + (tail - HALF_PI_LOW_F32), F32(2.0) * HALF_PI_F32)
    near_one = near_minus_one if x < F32(0.0) else F32(2.0) * (s + tail)
    return near_one if outer else HALF_PI_F32 - (s + (tail - HALF_PI_LOW_F32))


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
    exactly x where c is 1. The quotient that gives k is good to 6 %, from the bits of 1 - x.
    """
    magnitude = fabs_float(x)
    left = 1.0 - magnitude
    inverse = from_bits(9214364837600034816 - bits(left if left > 0.0 else 1.0))
    k = exponent((1.0 + magnitude) * inverse * 0.94)
    c = two_to(k)
    s = fma(magnitude, 1.0 + c, 1.0 - c) / fma(magnitude, 1.0 - c, 1.0 + c)
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
    s = fma(magnitude, F32(1.0) + c, F32(1.0) - c) / fma(magnitude, F32(1.0) - c, F32(1.0) + c)
    z = s * s
    rest = fma(F32(0.5) * k, LN2_LOW_F32, s * (F32(0.5) * z * horner(z, ATANH_F32)))
    result = fma(F32(0.5) * k, LN2_HIGH_F32, s + rest)
    special = INFINITY_F32 if magnitude == F32(1.0) else NAN_F32
    return copysign_float(result if magnitude < F32(1.0) else special, x)


@scalar
def hypot_f64(x: Any, y: Any) -> Any:
    """sqrt(x**2 + y**2), scaled by a power of two; infinity wins over NaN."""
    a, b = fabs_float(x), fabs_float(y)
    e = clamp_float(exponent(a if a > b else b), -1000.0, 1000.0)
    down = two_to(-e)
    p, q = a * down, b * down
    result = sqrt_float(fma(p, p, q * q)) * two_to(e)
    return np.inf if (a == np.inf) | (b == np.inf) else result


@scalar
def hypot_f32(x: Any, y: Any) -> Any:
    """In float64, where the squares are exact and cannot overflow."""
    p, q = np.float64(x), np.float64(y)
    infinite = (fabs_float(p) == np.inf) | (fabs_float(q) == np.inf)
    return np.float32(np.inf if infinite else sqrt_float(fma(p, p, q * q)))
