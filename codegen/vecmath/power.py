"""power, cbrt and hypot.

x**y = 2**(y log2 x) needs log2 x to 63 bits (30 in float32): with s = (m - 1) / (m + 1),

    log2 x = e + s (2 / log 2 + (2/3) / log 2 s**2 + s**4 P(s**2))

where s, the factor beside it and the sum are pairs of floats (high, low). NumPy's special cases are
C's.

    power_f64(2.0, 0.5) = 1.4142135623730951
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.vecmath.exact import copysign_float, fabs_float, sqrt_float, trunc_float
from codegen.vecmath.exponential import (
    EXP2,
    EXP2_F32,
    HALF_F32,
    ONE_F32,
    ZERO_F32,
    clamp_float,
)
from codegen.vecmath.floating import (
    WHOLE_F32,
    WHOLE_F64,
    exponent,
    inverse_root_guess,
    scale,
    scale_normal,
    significand,
    two_to,
)
from codegen.vecmath.logarithm import (
    INFINITY_F32,
    LIFT_F32,
    LIFT_POWER_F32,
    NAN_F32,
    SMALLEST_NORMAL_F32,
)
from codegen.vecmath.primitives import F32, fma, horner, scalar
from codegen.vecmath.rare import ordinary, ordinary_power

# 2 / log 2, and 2/3 of 1 / log 2, each as a sum of two floats.
ATANH_TO_LOG2, ATANH_TO_LOG2_LOW = 2.8853900817779268, 4.0710547481862066e-17
CUBE_TO_LOG2, CUBE_TO_LOG2_LOW = 0.9617966939259756, 5.0577616648125907e-17
ATANH_TO_LOG2_F32, ATANH_TO_LOG2_LOW_F32 = F32(2.88539), F32(3.851926067000022e-08)
CUBE_TO_LOG2_F32 = F32(CUBE_TO_LOG2)
# (1 - h)**(-1/3) = 1 + h (1/3 + 2/9 h + 14/81 h**2 + ...)
ROOT_SERIES = (14 / 81, 2 / 9, 1 / 3)

THIRD_F32 = F32(1.0 / 3.0)
# Results are zero or infinite from here on, whatever the exponent.
FAR, FAR_F32 = 1100.0, F32(160.0)

# derive.py: (2 atanh(s) - 2 s - 2/3 s**3) / (s**5 log 2) and (2 atanh(s) - 2 s) / (s**3 log 2), in
# s**2
POW = (
    0.19050055024238802,
    0.19124314458450611,
    0.22198449563678468,
    0.26230769075067284,
    0.32059890238663813,
    0.41219858309134105,
    0.5770780163556192,
)
POW_F32 = (
    0.3403299707647098,
    0.41170085018890773,
    0.5770829316479097,
    0.9617966788745442,
)


@scalar
def log2_pair_f64(e: Any, m: Any) -> Any:
    """log2(m 2**e) for m in [sqrt(1/2), sqrt(2)) as a sum of two floats, to 2**-63; the second is
    below 2**-12 of the first."""
    f, whole = m - 1.0, m + 1.0
    inverse = 1.0 / whole
    s = f * inverse
    s_low = fma(-s, (1.0 - whole) + m, fma(-s, whole, f)) * inverse
    z = s * s
    square = z * CUBE_TO_LOG2
    square_low = fma(z, CUBE_TO_LOG2, -square) + fma(
        fma(s, s, -z), CUBE_TO_LOG2, fma(z, CUBE_TO_LOG2_LOW, ATANH_TO_LOG2_LOW)
    )
    factor = ATANH_TO_LOG2 + square
    factor_low = ((ATANH_TO_LOG2 - factor) + square) + fma(z * z, horner(z, POW), square_low)
    # the derivative of atanh(s) is 1 + s**2 + ...
    slope = fma(z, ATANH_TO_LOG2, ATANH_TO_LOG2)
    high = fma(s, factor, e)  # |s factor| <= 1/2, so e - high is exact
    return high, fma(s, factor, e - high) + fma(s, factor_low, s_low * slope)


@scalar
def power_parts_f64(high: Any, low: Any, y: Any) -> Any:
    """2**r and n, as WHOLE_F64 + n, for y (high + low) = n + r."""
    moved = fma(y, high + low, WHOLE_F64)
    r = fma(y, low, fma(y, high, WHOLE_F64 - moved))
    return fma(r, horner(r, EXP2), 1.0), moved


@scalar
def power_anywhere_f64(x: Any, y: Any) -> Any:
    """With all special cases of C's pow."""
    magnitude = fabs_float(x)
    whole = trunc_float(y) == y
    odd = whole & (trunc_float(0.5 * y) != 0.5 * y)
    ordinary = (magnitude > 0.0) & (magnitude < np.inf)
    base = magnitude if ordinary else 1.0
    small = base < 2.2250738585072014e-308
    base = base * 18014398509481984.0 if small else base
    high, low = log2_pair_f64(exponent(base) - (54.0 if small else 0.0), significand(base))
    product = y * high
    near = fabs_float(product) < FAR
    far = clamp_float(product, -FAR, FAR)
    value, moved = power_parts_f64(high if near else far, low if near else 0.0, y if near else 1.0)
    result = scale(value, moved - WHOLE_F64)
    vanishes = (magnitude == 0.0) == (y > 0.0)
    result = result if ordinary else (0.0 if vanishes else np.inf)
    result = result if (whole | (x >= 0.0)) | (not ordinary) else np.nan
    result = -result if odd & (copysign_float(1.0, x) < 0.0) else result
    one = (x == 1.0) | (y == 0.0) | ((magnitude == 1.0) & (fabs_float(y) == np.inf))
    return 1.0 if one else (result if (x == x) & (y == y) else x + y)


@scalar
def power_f64(x: Any, y: Any) -> Any:
    high, low = log2_pair_f64(exponent(x), significand(x))
    value, moved = power_parts_f64(high, low, y)
    return ordinary_power(scale_normal(value, moved), moved, -1021, 1024, power_anywhere_f64, x, y)


@scalar
def log2_pair_f32(e: Any, m: Any) -> Any:
    """log2(m 2**e) for m in [sqrt(1/2), sqrt(2)) as a sum of two floats, to 2**-30; the second is
    below the last place of the first."""
    f, whole = m - ONE_F32, m + ONE_F32
    inverse = ONE_F32 / whole
    s = f * inverse
    s_low = fma(-s, (ONE_F32 - whole) + m, fma(-s, whole, f)) * inverse
    z = s * s
    z_low = fma(s, s, -z)
    square = fma(z, horner(z, POW_F32), fma(z_low, CUBE_TO_LOG2_F32, ATANH_TO_LOG2_LOW_F32))
    factor = ATANH_TO_LOG2_F32 + square
    factor_low = (ATANH_TO_LOG2_F32 - factor) + square
    slope = fma(z, ATANH_TO_LOG2_F32, ATANH_TO_LOG2_F32)
    high = fma(s, factor, e)
    return high, fma(s, factor, e - high) + fma(s, factor_low, s_low * slope)


@scalar
def power_parts_f32(high: Any, low: Any, y: Any) -> Any:
    """2**r and n, as WHOLE_F32 + n, for y (high + low) = n + r."""
    moved = fma(y, high, WHOLE_F32)
    r = fma(y, low, fma(y, high, WHOLE_F32 - moved))
    return fma(r, horner(r, EXP2_F32), ONE_F32), moved


@scalar
def power_anywhere_f32(x: Any, y: Any) -> Any:
    """With all special cases of C's pow."""
    magnitude = fabs_float(x)
    whole = trunc_float(y) == y
    odd = whole & (trunc_float(HALF_F32 * y) != HALF_F32 * y)
    ordinary = (magnitude > 0) & (magnitude < INFINITY_F32)
    base = magnitude if ordinary else ONE_F32
    small = base < SMALLEST_NORMAL_F32
    base = base * LIFT_F32 if small else base
    lifted = LIFT_POWER_F32 if small else ZERO_F32
    high, low = log2_pair_f32(exponent(base) - lifted, significand(base))
    product = y * high
    near = fabs_float(product) < FAR_F32
    far = clamp_float(product, -FAR_F32, FAR_F32)
    value, moved = power_parts_f32(
        high if near else far, low if near else ZERO_F32, y if near else ONE_F32
    )
    result = scale(value, moved - WHOLE_F32)
    vanishes = (magnitude == 0) == (y > 0)
    result = result if ordinary else (ZERO_F32 if vanishes else INFINITY_F32)
    result = result if (whole | (x >= 0)) | (not ordinary) else NAN_F32
    result = -result if odd & (copysign_float(ONE_F32, x) < 0) else result
    one = (x == 1) | (y == 0) | ((magnitude == 1) & (fabs_float(y) == INFINITY_F32))
    return ONE_F32 if one else (result if (x == x) & (y == y) else x + y)


@scalar
def power_f32(x: Any, y: Any) -> Any:
    high, low = log2_pair_f32(exponent(x), significand(x))
    value, moved = power_parts_f32(high, low, y)
    return ordinary_power(scale_normal(value, moved), moved, -125, 128, power_anywhere_f32, x, y)


@scalar
def cbrt_anywhere_f64(x: Any) -> Any:
    """cbrt of denormals too; 0, infinity and NaN stay."""
    magnitude = fabs_float(x)
    small = magnitude < 2.2250738585072014e-308
    m = magnitude * 18014398509481984.0 if small else magnitude
    y = inverse_root_guess(m)
    h = fma(-m * y, y * y, 1.0)
    y = fma(y * h, horner(h, ROOT_SERIES), y)
    h = fma(-m * y, y * y, 1.0)
    y = fma(y * h, fma(h, 2.0 / 9.0, 1.0 / 3.0), y)
    square = y * y
    root = m * square
    root = fma(fma(-root, root * root, m), square * (1.0 / 3.0), root)
    result = copysign_float(root * 3.814697265625e-06 if small else root, x)
    return result if (magnitude > 0.0) & (magnitude < np.inf) else x


@scalar
def cbrt_anywhere_f32(x: Any) -> Any:
    magnitude = fabs_float(x)
    small = magnitude < F32(1.1754944e-38)
    m = magnitude * F32(16777216.0) if small else magnitude
    y = inverse_root_guess(m)
    h = fma(-m * y, y * y, ONE_F32)
    y = fma(y * h, horner(h, ROOT_SERIES), y)
    square = y * y
    root = m * square
    root = fma(fma(-root, root * root, m), square * THIRD_F32, root)
    result = copysign_float(root * F32(0.00390625) if small else root, x)
    return result if (magnitude > F32(0.0)) & (magnitude < INFINITY_F32) else x


@scalar
def cbrt_f64(x: Any) -> Any:
    """y near x**(-1/3), twice y (1 - h)**(-1/3) for h = 1 - x y**3; then a step from x y**2."""
    magnitude = fabs_float(x)
    y = inverse_root_guess(magnitude)
    h = fma(-magnitude * y, y * y, 1.0)
    y = fma(y * h, horner(h, ROOT_SERIES), y)
    h = fma(-magnitude * y, y * y, 1.0)
    y = fma(y * h, fma(h, 2.0 / 9.0, 1.0 / 3.0), y)
    square = y * y
    root = magnitude * square
    root = fma(fma(-root, root * root, magnitude), square * (1.0 / 3.0), root)
    return ordinary(copysign_float(root, x), x, -1022, 1024, cbrt_anywhere_f64)


@scalar
def cbrt_f32(x: Any) -> Any:
    magnitude = fabs_float(x)
    y = inverse_root_guess(magnitude)
    h = fma(-magnitude * y, y * y, ONE_F32)
    y = fma(y * h, horner(h, ROOT_SERIES), y)
    square = y * y
    root = magnitude * square
    root = fma(fma(-root, root * root, magnitude), square * THIRD_F32, root)
    return ordinary(copysign_float(root, x), x, -126, 128, cbrt_anywhere_f32)


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
