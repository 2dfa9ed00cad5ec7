"""Functions of probability and information: x log y and its kin, logit, normal quantiles, sinc.

xlogy_f64(0.0, 0.0) = 0.0      ndtri_f64(0.975) = 1.9599639845400536
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from codegen.vecmath.errorfunction import erfc_f64
from codegen.vecmath.exact import copysign_float, fabs_float, sqrt_float
from codegen.vecmath.logarithm import log1p_f32, log1p_f64, log_f32, log_f64
from codegen.vecmath.primitives import cast_like, horner, scalar
from codegen.vecmath.special import HALF_LOG_TWO_PI
from codegen.vecmath.trigonometric import sin_f32, sin_f64

ROOT_HALF = math.sqrt(0.5)

# The normal quantile by M. J. Wichura, "Algorithm AS 241", Applied Statistics 37 (1988), PPND16:
# numerators and denominators near the median, in the flanks, in the tails; highest power first.
MEDIAN = (
    2509.0809287301226727,
    33430.575583588128105,
    67265.770927008700853,
    45921.953931549871457,
    13731.693765509461125,
    1971.5909503065514427,
    133.14166789178437745,
    3.3871328727963666080,
)
MEDIAN_BELOW = (
    5226.4952788528545610,
    28729.085735721942674,
    39307.895800092710610,
    21213.794301586595867,
    5394.1960214247511077,
    687.18700749205790830,
    42.313330701600911252,
    1.0,
)
FLANK = (
    7.74545014278341407640e-4,
    2.27238449892691845833e-2,
    2.41780725177450611770e-1,
    1.27045825245236838258,
    3.64784832476320460504,
    5.76949722146069140550,
    4.63033784615654529590,
    1.42343711074968357734,
)
FLANK_BELOW = (
    1.05075007164441684324e-9,
    5.47593808499534494600e-4,
    1.51986665636164571966e-2,
    1.48103976427480074590e-1,
    6.89767334985100004550e-1,
    1.67638483018380384940,
    2.05319162663775882187,
    1.0,
)
TAIL = (
    2.01033439929228813265e-7,
    2.71155556874348757815e-5,
    1.24266094738807843860e-3,
    2.65321895265761230930e-2,
    2.96560571828504891230e-1,
    1.78482653991729133580,
    5.46378491116411436990,
    6.65790464350110377720,
)
TAIL_BELOW = (
    2.04426310338993978564e-15,
    1.42151175831644588870e-7,
    1.84631831751005468180e-5,
    7.86869131145613259100e-4,
    1.48753612908506148525e-2,
    1.36929880922735805310e-1,
    5.99832206555887937690e-1,
    1.0,
)


@scalar
def xlogy_f64(x: Any, y: Any) -> Any:
    """x log(y), and 0 where x is 0 unless y is NaN."""
    return 0.0 if (x == 0) & (y == y) else x * log_f64(y)


@scalar
def xlogy_f32(x: Any, y: Any) -> Any:
    return cast_like(0, x) if (x == 0) & (y == y) else x * log_f32(y)


@scalar
def xlog1py_f64(x: Any, y: Any) -> Any:
    """x log(1 + y), and 0 where x is 0 unless y is NaN."""
    return 0.0 if (x == 0) & (y == y) else x * log1p_f64(y)


@scalar
def xlog1py_f32(x: Any, y: Any) -> Any:
    return cast_like(0, x) if (x == 0) & (y == y) else x * log1p_f32(y)


@scalar
def entr_f64(x: Any) -> Any:
    """-x log(x); 0 at 0, -inf below."""
    value = -xlogy_f64(x, x)
    return value if (x > 0) | (x != x) else (0.0 if x == 0 else -np.inf)


@scalar
def entr_f32(x: Any) -> Any:
    value = -xlogy_f32(x, x)
    other = cast_like(0, x) if x == 0 else cast_like(-np.inf, x)
    return value if (x > 0) | (x != x) else other


@scalar
def rel_entr_f64(x: Any, y: Any) -> Any:
    """x log(x / y) for positive arguments; 0 for x = 0 <= y, infinite elsewhere."""
    if (x != x) | (y != y):
        return x + y
    if (x > 0) & (y > 0):
        ratio = x / y
        if (ratio > 0.5) & (ratio < 2.0):
            return x * log1p_f64((x - y) / y)
        if (ratio > 0.0) & (ratio < np.inf):
            return x * log_f64(ratio)
        return x * (log_f64(x) - log_f64(y))
    return 0.0 if (x == 0) & (y >= 0) else np.inf


@scalar
def rel_entr_f32(x: Any, y: Any) -> Any:
    return cast_like(rel_entr_f64(np.float64(x), np.float64(y)), x)


@scalar
def kl_div_f64(x: Any, y: Any) -> Any:
    """x log(x / y) - x + y, infinite for negative arguments."""
    if (x == 0) & (y >= 0):
        return y
    return rel_entr_f64(x, y) - x + y if (x > 0) & (y > 0) else rel_entr_f64(x, y)


@scalar
def kl_div_f32(x: Any, y: Any) -> Any:
    return cast_like(kl_div_f64(np.float64(x), np.float64(y)), x)


@scalar
def logit_f64(p: Any) -> Any:
    """log(p / (1 - p)); near 1/2 by log1p, where the quotient rounds to 1."""
    twice = 2.0 * (p - 0.5)
    middle = log1p_f64(twice) - log1p_f64(-twice)
    return middle if fabs_float(twice) < 0.4 else log_f64(p / (1.0 - p))


@scalar
def logit_f32(p: Any) -> Any:
    return cast_like(logit_f64(np.float64(p)), p)


@scalar
def normal_quantile_f64(middle: Any, tail: Any) -> Any:
    """The quantile of probability p from `p - 1/2` and `min(p, 1 - p)`, each exact (AS 241)."""
    if fabs_float(middle) <= 0.425:
        r = 0.180625 - middle * middle
        return middle * horner(r, MEDIAN) / horner(r, MEDIAN_BELOW)
    if not tail > 0.0:
        return copysign_float(np.inf, middle) if tail == 0.0 else np.float64(np.nan)
    r = sqrt_float(-log_f64(tail))
    if r <= 5.0:
        value = horner(r - 1.6, FLANK) / horner(r - 1.6, FLANK_BELOW)
    else:
        value = horner(r - 5.0, TAIL) / horner(r - 5.0, TAIL_BELOW)
    return copysign_float(value, middle)


@scalar
def ndtri_f64(p: Any) -> Any:
    return normal_quantile_f64(p - 0.5, p if p < 0.5 else 1.0 - p)


@scalar
def ndtri_f32(p: Any) -> Any:
    return cast_like(ndtri_f64(np.float64(p)), p)


@scalar
def erfinv_f64(x: Any) -> Any:
    """`ndtri((1 + x) / 2) / sqrt(2)` without rounding the probability."""
    return ROOT_HALF * normal_quantile_f64(0.5 * x, 0.5 * (1.0 - fabs_float(x)))


@scalar
def erfinv_f32(x: Any) -> Any:
    return cast_like(erfinv_f64(np.float64(x)), x)


@scalar
def erfcinv_f64(x: Any) -> Any:
    """`-ndtri(x / 2) / sqrt(2)`."""
    tail = 0.5 * x if x < 1.0 else 0.5 * (2.0 - x)
    tail = tail if x >= 0.0 else np.nan
    return ROOT_HALF * normal_quantile_f64(0.5 - 0.5 * x, tail)


@scalar
def erfcinv_f32(x: Any) -> Any:
    return cast_like(erfcinv_f64(np.float64(x)), x)


@scalar
def ndtr_f64(x: Any) -> Any:
    """The normal distribution function."""
    return 0.5 * erfc_f64(-ROOT_HALF * x)


@scalar
def ndtr_f32(x: Any) -> Any:
    return cast_like(ndtr_f64(np.float64(x)), x)


@scalar
def log_ndtr_f64(x: Any) -> Any:
    """log of the normal distribution function; far below by its asymptotic series.

    ndtr(x) = exp(-x**2/2) / (-x sqrt(2 pi)) * (1 - 1/x**2 + 3/x**4 - 15/x**6 + ...)
    (Abramowitz & Stegun 26.2.12).
    """
    if x > 0.0:
        return log1p_f64(-0.5 * erfc_f64(ROOT_HALF * x))
    if x > -30.0:
        return log_f64(0.5 * erfc_f64(-ROOT_HALF * x))
    if x != x:
        return x
    z = 1.0 / (x * x)
    series = z * (-1.0 + z * (3.0 + z * (-15.0 + z * 105.0)))
    return -0.5 * x * x - log_f64(-x) - HALF_LOG_TWO_PI + log1p_f64(series)


@scalar
def log_ndtr_f32(x: Any) -> Any:
    return cast_like(log_ndtr_f64(np.float64(x)), x)


@scalar
def sinc_f64(x: Any) -> Any:
    """sin(pi x) / (pi x), as numpy.sinc."""
    z = np.pi * x
    z = 2.220446049250313e-16 if z == 0 else z
    return sin_f64(z) / z


@scalar
def sinc_f32(x: Any) -> Any:
    z = cast_like(np.pi, x) * x
    z = cast_like(1.1920929e-07, x) if z == 0 else z
    return sin_f32(z) / z
