"""log, log2, log10, log1p.

x = 2**e m with m in [sqrt(1/2), sqrt(2)); log(1 + f) of f = m - 1 goes through s = f / (2 + f):
log(1 + f) = 2 atanh(s) = f - s (f - s**2 P(s**2)) in float64, a plain polynomial in float32.

    log_f64(8.0) = 2.0794415416798357
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.vecmath.exact import copysign_float
from codegen.vecmath.exponential import (
    HALF_F32,
    LN2_HIGH,
    LN2_HIGH_F32,
    LN2_LOW,
    LN2_LOW_F32,
    ONE_F32,
    ZERO_F32,
)
from codegen.vecmath.floating import exponent, significand, unscaled
from codegen.vecmath.primitives import fma, horner, scalar
from codegen.vecmath.rare import ordinary_at, ordinary_positive

LN2 = 0.6931471805599453
# 1 / log 2, 1 / log 10 and log10(2), each as a sum of two floats.
LOG2_E_HIGH, LOG2_E_LOW = 1.4426950408889634, 2.0355273740931033e-17
LOG10_E_HIGH, LOG10_E_LOW = 0.4342944819032518, 1.098319650216765e-17
LOG10_2_HIGH, LOG10_2_LOW = 0.30102999566361177, 3.694239077158931e-13

INFINITY_F32, NAN_F32 = np.float32(np.inf), np.float32(np.nan)
LN2_F32 = np.float32(LN2)
LOG2_E_HIGH_F32, LOG2_E_LOW_F32 = np.float32(1.442695), np.float32(1.925963033500011e-08)
LOG10_E_HIGH_F32, LOG10_E_LOW_F32 = np.float32(0.4342945), np.float32(-1.010305e-08)
LOG10_2_F32, LOG10_2_LOW_F32 = np.float32(0.30103), np.float32(-1.4320989e-08)
SMALLEST_NORMAL_F32, LIFT_F32 = np.float32(2.0**-126), np.float32(2.0**24)
LIFT_POWER_F32, HUGE_F32 = np.float32(24.0), np.float32(1e30)

# derive.py: (2 atanh(s) - 2 s) / s**3 in s**2, twice; (log(1 + f) - f + f**2 / 2) / f**3;
# log2(1 + f) / f, log10(1 + f) / f
LOG = (
    0.14804478694728154,
    0.15313245616476145,
    0.18183593825839506,
    0.22222198045628674,
    0.2857142874711296,
    0.39999999999395425,
    0.6666666666666737,
)
ATANH = (
    0.1395325969467525,
    0.13156787843332546,
    0.1539214617541674,
    0.18181633059831473,
    0.22222224865512644,
    0.28571428550585354,
    0.40000000000079405,
    0.6666666666666656,
)
LOG2_F32 = (
    0.12922944539133896,
    -0.20892482727388292,
    0.215219502023684,
    -0.2386771106411714,
    0.28793860361859247,
    -0.36071620195591186,
    0.4809102908200422,
    -0.7213471999515753,
    1.442695004851941,
)
LOG10_F32 = (
    0.03890193938581346,
    -0.062892639848355,
    0.0647875257609938,
    -0.07184896958140338,
    0.08667815659879768,
    -0.10858639671071592,
    0.14476842276032126,
    -0.21714714447364766,
    0.4342944710550271,
)
LOG_F32 = (
    -0.07856844424994743,
    0.12880713242630878,
    -0.13129309167235564,
    0.14181357493545313,
    -0.16624519106063648,
    0.20002277952359204,
    -0.250008110500628,
    0.33333316826014925,
)


@scalar
def log_parts_f64(e: Any, f: Any) -> Any:
    """log((1 + f) 2**e) for 1 + f in [sqrt(1/2), sqrt(2)]."""
    s = f / (2.0 + f)
    z = s * s
    rest = fma(e, LN2_LOW, s * (z * horner(z, LOG) - f))
    return fma(e, LN2_HIGH, f + rest)


@scalar
def log_anywhere_f64(x: Any) -> Any:
    small = x < 2.2250738585072014e-308
    lifted = x * 18014398509481984.0 if small else x
    e, f = exponent(lifted) - (54.0 if small else 0.0), significand(lifted) - 1.0
    result = log_parts_f64(e, f)
    result = result if x < np.inf else x
    return result if x > 0.0 else (-np.inf if x == 0.0 else np.nan)


@scalar
def log_f64(x: Any) -> Any:
    value = log_parts_f64(exponent(x), significand(x) - 1.0)
    return ordinary_positive(value, x, -1022, 1024, log_anywhere_f64)


@scalar
def log_parts_f32(e: Any, f: Any) -> Any:
    """log((1 + f) 2**e) for 1 + f in [sqrt(1/2), sqrt(2)]."""
    rest = fma(f * f, fma(f, horner(f, LOG_F32), -HALF_F32), e * LN2_LOW_F32)
    return fma(e, LN2_HIGH_F32, f + rest)


@scalar
def log_anywhere_f32(x: Any) -> Any:
    small = x < SMALLEST_NORMAL_F32
    lifted = x * LIFT_F32 if small else x
    e = exponent(lifted) - (LIFT_POWER_F32 if small else ZERO_F32)
    f = significand(lifted) - ONE_F32
    result = log_parts_f32(e, f)
    result = result if x < INFINITY_F32 else x
    return result if x > 0 else (-INFINITY_F32 if x == 0 else NAN_F32)


@scalar
def log_f32(x: Any) -> Any:
    value = log_parts_f32(exponent(x), significand(x) - ONE_F32)
    return ordinary_positive(value, x, -126, 128, log_anywhere_f32)


@scalar
def log2_parts_f64(e: Any, f: Any) -> Any:
    """log2((1 + f) 2**e)."""
    s = f / (2.0 + f)
    z = s * s
    y = f + s * (z * horner(z, LOG) - f)
    return fma(y, LOG2_E_HIGH, fma(y, LOG2_E_LOW, e))


@scalar
def log2_anywhere_f64(x: Any) -> Any:
    small = x < 2.2250738585072014e-308
    lifted = x * 18014398509481984.0 if small else x
    e, f = exponent(lifted) - (54.0 if small else 0.0), significand(lifted) - 1.0
    result = log2_parts_f64(e, f)
    result = result if x < np.inf else x
    return result if x > 0.0 else (-np.inf if x == 0.0 else np.nan)


@scalar
def log2_f64(x: Any) -> Any:
    value = log2_parts_f64(exponent(x), significand(x) - 1.0)
    return ordinary_positive(value, x, -1022, 1024, log2_anywhere_f64)


@scalar
def log2_parts_f32(e: Any, f: Any) -> Any:
    """log2((1 + f) 2**e)."""
    return fma(f, horner(f, LOG2_F32), e)


@scalar
def log2_anywhere_f32(x: Any) -> Any:
    small = x < SMALLEST_NORMAL_F32
    lifted = x * LIFT_F32 if small else x
    e = exponent(lifted) - (LIFT_POWER_F32 if small else ZERO_F32)
    f = significand(lifted) - ONE_F32
    result = log2_parts_f32(e, f)
    result = result if x < INFINITY_F32 else x
    return result if x > 0 else (-INFINITY_F32 if x == 0 else NAN_F32)


@scalar
def log2_f32(x: Any) -> Any:
    value = log2_parts_f32(exponent(x), significand(x) - ONE_F32)
    return ordinary_positive(value, x, -126, 128, log2_anywhere_f32)


@scalar
def log10_parts_f64(e: Any, f: Any) -> Any:
    """log10((1 + f) 2**e)."""
    s = f / (2.0 + f)
    z = s * s
    y = f + s * (z * horner(z, LOG) - f)
    rest = fma(y, LOG10_E_HIGH, fma(y, LOG10_E_LOW, e * LOG10_2_LOW))
    return fma(e, LOG10_2_HIGH, rest)


@scalar
def log10_anywhere_f64(x: Any) -> Any:
    small = x < 2.2250738585072014e-308
    lifted = x * 18014398509481984.0 if small else x
    e, f = exponent(lifted) - (54.0 if small else 0.0), significand(lifted) - 1.0
    result = log10_parts_f64(e, f)
    result = result if x < np.inf else x
    return result if x > 0.0 else (-np.inf if x == 0.0 else np.nan)


@scalar
def log10_f64(x: Any) -> Any:
    value = log10_parts_f64(exponent(x), significand(x) - 1.0)
    return ordinary_positive(value, x, -1022, 1024, log10_anywhere_f64)


@scalar
def log10_parts_f32(e: Any, f: Any) -> Any:
    """log10((1 + f) 2**e)."""
    rest = fma(f, horner(f, LOG10_F32), e * LOG10_2_LOW_F32)
    return fma(e, LOG10_2_F32, rest)


@scalar
def log10_anywhere_f32(x: Any) -> Any:
    small = x < SMALLEST_NORMAL_F32
    lifted = x * LIFT_F32 if small else x
    e = exponent(lifted) - (LIFT_POWER_F32 if small else ZERO_F32)
    f = significand(lifted) - ONE_F32
    result = log10_parts_f32(e, f)
    result = result if x < INFINITY_F32 else x
    return result if x > 0 else (-INFINITY_F32 if x == 0 else NAN_F32)


@scalar
def log10_f32(x: Any) -> Any:
    value = log10_parts_f32(exponent(x), significand(x) - ONE_F32)
    return ordinary_positive(value, x, -126, 128, log10_anywhere_f32)


@scalar
def log_of_sum_f64(high: Any, low: Any) -> Any:
    """log(1 + high + low) for 0 < 1 + high < 2**1000, |low| tiny beside high: what 1 + high loses
    to rounding is added to f at the scale of f."""
    whole = 1.0 + high
    virtual = whole - high
    lost = ((high - (whole - virtual)) + (1.0 - virtual)) + low
    e, f = exponent(whole), fma(lost, unscaled(whole), significand(whole) - 1.0)
    return log_parts_f64(e, f)


@scalar
def log1p_anywhere_f64(x: Any) -> Any:
    inside = (x > -1.0) & (x < 1e300) & (x != 0.0)
    large = log_f64(x) if x > 0.0 else (-np.inf if x == -1.0 else np.nan)
    return log_of_sum_f64(x, 0.0) if inside else (x if x == 0.0 else large)


@scalar
def log1p_f64(x: Any) -> Any:
    value = copysign_float(log_of_sum_f64(x, 0.0), x)
    return ordinary_at(value, 1.0 + x, -60, 900, log1p_anywhere_f64, x)


@scalar
def log_of_sum_f32(high: Any, low: Any) -> Any:
    """log(1 + high + low) for 0 < 1 + high < 2**100, |low| tiny beside high: what 1 + high loses
    to rounding is added to f at the scale of f."""
    whole = ONE_F32 + high
    virtual = whole - high
    lost = ((high - (whole - virtual)) + (ONE_F32 - virtual)) + low
    e, f = exponent(whole), fma(lost, unscaled(whole), significand(whole) - ONE_F32)
    return log_parts_f32(e, f)


@scalar
def log1p_anywhere_f32(x: Any) -> Any:
    inside = (x > -ONE_F32) & (x < HUGE_F32) & (x != ZERO_F32)
    large = log_f32(x) if x > ZERO_F32 else (-INFINITY_F32 if x == -ONE_F32 else NAN_F32)
    return log_of_sum_f32(x, ZERO_F32) if inside else (x if x == ZERO_F32 else large)


@scalar
def log1p_f32(x: Any) -> Any:
    value = copysign_float(log_of_sum_f32(x, ZERO_F32), x)
    return ordinary_at(value, ONE_F32 + x, -30, 90, log1p_anywhere_f32, x)
