"""arctan, arctan2, arcsin, arccos.

arctan turns its argument by 0, pi/4 or pi/2 until it is at most tan(pi/8); arcsin and arccos go
through sqrt((1 - |x|) / 2) from 1/2 on.

    arctan2_f64(1.0, -1.0) = 2.356194490192345
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.vecmath.exact import copysign_float, fabs_float, sqrt_float
from codegen.vecmath.logarithm import INFINITY_F32
from codegen.vecmath.primitives import F32, bits, fma, horner, scalar
from codegen.vecmath.rare import ordinary_pair
from codegen.vecmath.trigonometric import precise_quotient_float

# pi/2 and pi/4 as sums of two floats; tan(pi/8) and tan(3 pi/8).
HALF_PI, HALF_PI_LOW = 1.5707963267948966, 6.123233995736766e-17
QUARTER_PI, QUARTER_PI_LOW = 0.7853981633974483, 3.061616997868383e-17
TAN_EIGHTH, TAN_THREE_EIGHTHS = 0.41421356237309503, 2.414213562373095
# Where arctan2 scales both arguments by a power of two, against overflow and underflow.
LARGE, SHRINK, SMALL, GROW = 2.0**600, 2.0**-300, 2.0**-300, 2.0**600

HALF_PI_F32, HALF_PI_LOW_F32 = F32(1.5707964), F32(-4.371139e-08)
SMALL_F32, GROW_F32 = F32(2.0**-40), F32(2.0**90)

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
    -0.0018271336685707399,
    0.011064105992494883,
    -0.03145512598773661,
    0.05823403729547623,
    -0.08419434307110304,
    0.10957570154066455,
    -0.1426524489233669,
    0.1999863866451395,
    -0.3333330187261863,
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
def arctan_f64(x: Any) -> Any:
    magnitude = fabs_float(x)
    bounded = 1e300 if magnitude > 1e300 else magnitude
    return copysign_float(arctan_turned_f64(bounded, 1.0, False), x)


@scalar
def arctan_f32(x: Any) -> Any:
    """t + t**3 P(t**2) up to 1, above that pi/2 - atan(1 / |x|)."""
    magnitude = fabs_float(x)
    far = magnitude > F32(1.0)
    t = (F32(-1.0) if far else magnitude) / (magnitude if far else F32(1.0))
    z = t * t
    rest = fma(t * z, horner(z, ATAN_F32), HALF_PI_LOW_F32 if far else F32(0.0))
    return copysign_float((HALF_PI_F32 if far else F32(0.0)) + (t + rest), x)


@scalar
def arctan2_anywhere_f64(y: Any, x: Any) -> Any:
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
def arctan2_f64(y: Any, x: Any) -> Any:
    """Where the product of the two is ordinary, nothing that counts overflows or underflows."""
    value = arctan_turned_f64(fabs_float(y), fabs_float(x), bits(x) < 0)
    return ordinary_pair(copysign_float(value, y), y * x, -600, 600, arctan2_anywhere_f64, y, x)


@scalar
def angle_f32(a: Any, b: Any, flip: Any) -> Any:
    """atan(a / b) for a, b >= 0, or pi minus that: turned by pi/2 if a > b."""
    far = a > b
    t = (-b if far else a) / (a if far else b)
    t = -t if flip else t
    z = t * t
    base = HALF_PI_F32 if far else (F32(2.0) * HALF_PI_F32 if flip else F32(0.0))
    low = HALF_PI_LOW_F32 if far else (F32(2.0) * HALF_PI_LOW_F32 if flip else F32(0.0))
    return base + (t + fma(t * z, horner(z, ATAN_F32), low))


@scalar
def arctan2_anywhere_f32(y: Any, x: Any) -> Any:
    a, b = fabs_float(y), fabs_float(x)
    infinite = (a == INFINITY_F32) | (b == INFINITY_F32)
    a = (F32(1.0) if a == INFINITY_F32 else F32(0.0)) if infinite else a
    b = (F32(1.0) if b == INFINITY_F32 else F32(0.0)) if infinite else b
    larger = a if a > b else b
    factor = GROW_F32 if larger < SMALL_F32 else F32(1.0)
    b = F32(1.0) if larger == F32(0.0) else b * factor
    result = copysign_float(angle_f32(a * factor, b, bits(x) < 0), y)
    return result if (x == x) & (y == y) else x + y


@scalar
def arctan2_f32(y: Any, x: Any) -> Any:
    value = angle_f32(fabs_float(y), fabs_float(x), bits(x) < 0)
    return ordinary_pair(copysign_float(value, y), y * x, -60, 60, arctan2_anywhere_f32, y, x)


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
