"""power, cbrt and hypot.

x**y = exp(y log x) needs log x to 64 bits: with s = (m - 1) / (m + 1),

    log x = e log 2 + 2 s + (2/3) s**3 + s**5 P(s**2)

where s, 2/3 s**3 and the sums are pairs of floats (high, low). NumPy's special cases are C's.

    power_f64(2.0, 0.5) = 1.4142135623730951
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.vecmath.exact import (
    copysign_float,
    fabs_float,
    rint_float,
    sqrt_float,
    trunc_float,
)
from codegen.vecmath.exponential import (
    EXP,
    HALF_F32,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    ONE_F32,
    ZERO_F32,
    clamp_float,
)
from codegen.vecmath.floating import exponent, inverse_root_guess, scale, significand, two_to
from codegen.vecmath.logarithm import INFINITY_F32, LN2, NAN_F32
from codegen.vecmath.primitives import F32, fma, horner, scalar
from codegen.vecmath.rare import ordinary, ordinary_power

# 2/3 as a sum of two floats.
TWO_THIRDS, TWO_THIRDS_LOW = 0.6666666666666666, 3.700743415417188e-17
# (1 - h)**(-1/3) = 1 + h (1/3 + 2/9 h + 14/81 h**2 + ...)
ROOT_SERIES = (14 / 81, 2 / 9, 1 / 3)

THIRD_F32 = F32(1.0 / 3.0)

# derive.py: (2 atanh(s) - 2 s - 2/3 s**3) / s**5 in s**2
POW = (
    0.13204491929562948,
    0.13255964647016838,
    0.15386792727865878,
    0.18181783628301892,
    0.22222222527991134,
    0.2857142857005674,
    0.4000000000000234,
)
# (2 atanh(s) - 2 s) / s**3 in s**2 and (exp(r) - 1 - r) / r**2, as short as float32 needs
POW_F32 = (
    0.19592168264154572,
    0.22175670953775145,
    0.2857212051950247,
    0.3999999552548641,
    0.6666666667604787,
)
EXP_SHORT = (
    0.00019918576721059784,
    0.0013946176313346882,
    0.00833326394580742,
    0.04166626855228188,
    0.16666666862919668,
    0.5000000078281905,
)


@scalar
def log_pair_parts(e: Any, m: Any) -> Any:
    """log(m 2**e) for m in [sqrt(1/2), sqrt(2)] as a sum of two floats, to about 2**-65."""
    f, whole = m - 1.0, m + 1.0
    inverse = 1.0 / whole
    s = f * inverse
    s_low = fma(-s, (1.0 - whole) + m, fma(-s, whole, f)) * inverse
    z = s * s
    z_low = fma(s, s, -z) + 2.0 * s * s_low
    cube = s * z
    cube_low = fma(s, z, -cube) + fma(s, z_low, s_low * z)
    third = TWO_THIRDS * cube
    third_low = fma(TWO_THIRDS, cube, -third) + fma(TWO_THIRDS, cube_low, TWO_THIRDS_LOW * cube)
    rest = fma(cube * z, horner(z, POW), third_low)
    twice = 2.0 * s
    inner = twice + third
    inner_low = ((twice - inner) + third) + fma(2.0, s_low, rest)
    base = e * LN2_HIGH
    high = base + inner
    low = ((base - high) + inner) + fma(e, LN2_LOW, inner_low)
    total = high + low
    return total, (high - total) + low


@scalar
def log_pair_f64(x: Any) -> Any:
    """log x for 0 < x < infinity as a sum of two floats."""
    small = x < 2.2250738585072014e-308
    lifted = x * 18014398509481984.0 if small else x
    return log_pair_parts(exponent(lifted) - (54.0 if small else 0.0), significand(lifted))


@scalar
def exp_pair_f64(product: Any, low: Any) -> Any:
    """exp(product + low), |low| tiny beside product."""
    inside = clamp_float(product, -750.0, 715.0)
    n = rint_float(inside * LOG2_E)
    reduced = fma(n, -LN2_HIGH, inside)
    low = (low if inside == product else 0.0) - n * LN2_LOW
    r = reduced + low
    lost = (reduced - r) + low
    head = 1.0 + r
    tail = ((1.0 - head) + r) + fma(r, lost, lost)
    return scale(head + fma(r * r, horner(r, EXP), tail), n)


@scalar
def power_anywhere_f64(x: Any, y: Any) -> Any:
    """With all special cases of C's pow."""
    magnitude = fabs_float(x)
    whole = trunc_float(y) == y
    odd = whole & (trunc_float(0.5 * y) != 0.5 * y)
    ordinary = (magnitude > 0.0) & (magnitude < np.inf)
    log_high, log_low = log_pair_f64(magnitude if ordinary else 1.0)
    limited = clamp_float(y, -1e30, 1e30)
    product = limited * log_high
    result = exp_pair_f64(product, fma(limited, log_high, -product) + limited * log_low)
    vanishes = (magnitude == 0.0) == (y > 0.0)
    result = result if ordinary else (0.0 if vanishes else np.inf)
    result = result if (whole | (x >= 0.0)) | (not ordinary) else np.nan
    result = -result if odd & (copysign_float(1.0, x) < 0.0) else result
    one = (x == 1.0) | (y == 0.0) | ((magnitude == 1.0) & (fabs_float(y) == np.inf))
    return 1.0 if one else (result if (x == x) & (y == y) else x + y)


@scalar
def power_f64(x: Any, y: Any) -> Any:
    high, low = log_pair_parts(exponent(x), significand(x))
    product = y * high
    low = fma(y, high, -product) + y * low
    n = rint_float(product * LOG2_E)
    low = low - n * LN2_LOW
    reduced = fma(n, -LN2_HIGH, product)
    r = reduced + low
    lost = (reduced - r) + low
    head = 1.0 + r
    tail = ((1.0 - head) + r) + fma(r, lost, lost)
    value = (head + fma(r * r, horner(r, EXP), tail)) * two_to(n)
    return ordinary_power(value, product, 9, power_anywhere_f64, x, y)


@scalar
def positive_power_f32(x: Any, y: Any) -> Any:
    """x**y for 0 < x < infinity in float64 with shorter polynomials, not yet rounded."""
    e = exponent(x)
    f = significand(x) - 1.0
    s = f / (2.0 + f)
    z = s * s
    log = fma(e, LN2, fma(s * z, horner(z, POW_F32), 2.0 * s))
    product = clamp_float(y * log, -110.0, 100.0)
    n = rint_float(product * LOG2_E)
    r = fma(n, -LN2, product)
    return fma(r * r, horner(r, EXP_SHORT), 1.0 + r) * two_to(n)


@scalar
def power_anywhere_f32(x: Any, y: Any) -> Any:
    magnitude = fabs_float(x)
    whole = trunc_float(y) == y
    odd = whole & (trunc_float(HALF_F32 * y) != HALF_F32 * y)
    ordinary = (magnitude > 0) & (magnitude < INFINITY_F32)
    base = np.float64(magnitude) if ordinary else 1.0
    result = np.float32(positive_power_f32(base, np.float64(y)))
    vanishes = (magnitude == 0) == (y > 0)
    result = result if ordinary else (ZERO_F32 if vanishes else INFINITY_F32)
    result = result if (whole | (x >= 0)) | (not ordinary) else NAN_F32
    result = -result if odd & (copysign_float(ONE_F32, x) < 0) else result
    one = (x == 1) | (y == 0) | ((magnitude == 1) & (fabs_float(y) == INFINITY_F32))
    return ONE_F32 if one else (result if (x == x) & (y == y) else x + y)


@scalar
def power_f32(x: Any, y: Any) -> Any:
    base = np.float64(x)
    f = significand(base) - 1.0
    s = f / (2.0 + f)
    z = s * s
    log = fma(exponent(base), LN2, fma(s * z, horner(z, POW_F32), 2.0 * s))
    product = np.float64(y) * log
    n = rint_float(product * LOG2_E)
    r = fma(n, -LN2, product)
    value = fma(r * r, horner(r, EXP_SHORT), 1.0 + r) * two_to(n)
    return ordinary_power(np.float32(value), np.float32(product), 6, power_anywhere_f32, x, y)


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
