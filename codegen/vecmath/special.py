"""The gamma function, its logarithm, and their derivatives digamma and polygamma.

Arguments below 8 are moved up by the recurrence, Gamma(x) = Gamma(x + 8) / (x (x+1) ... (x+7)),
for the series of Stirling in 1/y**2; negative ones are reflected. The logarithms are pairs of
floats, so that gamma may take an exponential of the sum.

    digamma_f64(1.0) = -0.5772156649015329      gamma_f64(5.0) = 24.0
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.vecmath.exact import fabs_float, floor_float, rint_float
from codegen.vecmath.logarithm import log_f64
from codegen.vecmath.pairs import exp_pair_f64, log_pair_f64
from codegen.vecmath.power import power_f64
from codegen.vecmath.primitives import cast_like, fma, horner, scalar
from codegen.vecmath.trigonometric import tan_f64, turned_f64

HALF_LOG_TWO_PI, HALF_LOG_TWO_PI_LOW = 0.9189385332046728, -3.878294158067242e-17
DIGAMMA_ZERO, DIGAMMA_ZERO_LOW = 1.4616321449683622, 9.549995429965697e-17

# derive.py: (log Gamma(y) - (y - 1/2) log y + y - log(2 pi) / 2) y in 1/y**2;
# (log y - 1/(2 y) - digamma(y)) y**2 in 1/y**2; log Gamma(1 + e) / e and log Gamma(2 + e) / e;
# digamma(ZERO + e) / e at the positive zero
STIRLING = (
    -0.020877742708820753,
    0.006209338242716388,
    -0.001914991792132343,
    0.0008417328033744818,
    -0.0005952380249474431,
    0.0007936507935157013,
    -0.0027777777777776786,
    0.08333333333333333,
)
DIGAMMA = (
    -0.2998160339075101,
    0.0800447901788065,
    -0.021051522313144697,
    0.007575464852724691,
    -0.004166665528604001,
    0.003968253966070614,
    -0.008333333333331734,
    0.08333333333333333,
)
DIGAMMA_ROOT = (
    0.001322376551468151,
    -0.0018917909989780819,
    0.0022598497706282036,
    -0.003318431182367715,
    0.004931252422083921,
    -0.007208903798915002,
    0.010538534984612468,
    -0.015424555720668528,
    0.022597656902526318,
    -0.03316113219025585,
    0.048804287998822055,
    -0.07219956117420245,
    0.10782405069285231,
    -0.16394270544293732,
    0.2584997609556451,
    -0.4427631689835911,
    0.9676722454476212,
)
LGAMMA_1 = (
    0.07398701349307474,
    -0.07931110209315895,
    0.08331244846183018,
    -0.09092109847783938,
    0.10009980025240982,
    -0.11133449107444574,
    0.12550966799461968,
    -0.14404989597891907,
    0.16955717700094716,
    -0.20738555102999265,
    0.2705808084277809,
    -0.4006856343865306,
    0.8224670334241132,
    -0.5772156649015329,
)
LGAMMA_2 = (
    2.066105218219849e-05,
    -4.521059799131396e-05,
    9.945542177098224e-05,
    -0.00022315155484124363,
    0.0005096695385097329,
    -0.0011927539283270749,
    0.0028905103306969358,
    -0.007385551028635004,
    0.020580808427784612,
    -0.06735230105319813,
    0.3224670334241132,
    0.42278433509846713,
)

# Bernoulli numbers B_2, B_4, ..., B_20 (Abramowitz & Stegun 23.1.3).
BERNOULLI = (
    1 / 6,
    -1 / 30,
    1 / 42,
    -1 / 30,
    5 / 66,
    -691 / 2730,
    7 / 6,
    -3617 / 510,
    43867 / 798,
    -174611 / 330,
)


@scalar
def add_pairs_f64(a: Any, a_low: Any, b: Any, b_low: Any) -> Any:
    """(a + a_low) + (b + b_low) as a pair of floats, any order of magnitudes (D. E. Knuth)."""
    total = a + b
    part = total - a
    low = ((a - (total - part)) + (b - part)) + (a_low + b_low)
    high = total + low
    return high, (total - high) + low


@scalar
def sine_of_pi_f64(x: Any) -> Any:
    """|sin(pi x)|, 0 at integers."""
    r = x - rint_float(x)
    turns = rint_float(2.0 * r)
    return fabs_float(turned_f64((r - 0.5 * turns) * np.pi, turns))


@scalar
def rising_product_f64(x: Any) -> Any:
    """(x+1) (x+2) ... (x+7) as a pair of floats, 0 <= x < 8."""
    high, low = x + 1.0, (1.0 - (x + 1.0)) + x if x < 1.0 else (x - (x + 1.0)) + 1.0
    for k in range(2, 8):
        factor = x + k
        factor_low = (k - factor) + x if x < k else (x - factor) + k
        product = high * factor
        low = fma(high, factor, -product) + (low * factor + high * factor_low)
        high = product
    return high, low


@scalar
def log_gamma_pair_f64(x: Any) -> Any:
    """log |Gamma(x)| as a pair, x finite; for x < 0 by pi / (|x| |sin(pi x)| Gamma(|x|))."""
    magnitude = fabs_float(x)
    lifted = magnitude < 8.0
    negative = (x < 0.0) & (magnitude > 1e-20)  # log |Gamma(x)| = -log |x| on both sides of 0
    y = magnitude + 8.0 if lifted else magnitude
    y_low = (8.0 - y) + magnitude if lifted else 0.0
    log_y, log_y_low = log_pair_f64(y)
    shifted = y - 0.5
    main = shifted * log_y
    main_low = fma(shifted, log_y, -main) + shifted * log_y_low
    series = (horner(1.0 / (y * y), STIRLING) + 0.5 * -y_low) / y + y_low * log_y
    high, low = add_pairs_f64(main, main_low, -y, HALF_LOG_TWO_PI_LOW + series)
    high, low = add_pairs_f64(high, low, HALF_LOG_TWO_PI, 0.0)
    product, product_low = rising_product_f64(magnitude if lifted else 0.0)
    product, product_low = (product, product_low) if lifted else (1.0 / magnitude, 0.0)
    sine = sine_of_pi_f64(x)
    other = (np.pi if negative else magnitude) / (sine if negative & (sine > 0.0) else 1.0)
    factor = other * product if lifted | negative else 1.0
    factor_low = fma(other, product, -factor) + other * product_low
    log_factor, log_factor_low = log_pair_f64(factor if factor > 0.0 else 1.0)
    log_factor_low = log_factor_low + (factor_low / factor if lifted else 0.0)
    high, low = add_pairs_f64(high, low, -log_factor, -log_factor_low)
    return (-high, -low) if negative else (high, low)


@scalar
def gammaln_f64(x: Any) -> Any:
    """log |Gamma(x)|; around its zeros 1 and 2 by polynomials, infinite at the poles."""
    pole = (x <= 0.0) & (floor_float(x) == x)
    ordinary = (fabs_float(x) < 2.5e305) & (not pole)
    high, low = log_gamma_pair_f64(x if ordinary else 3.0)
    result = high + low if ordinary else (x if (x != x) | (x == -np.inf) else np.inf)
    one, two = x - 1.0, x - 2.0
    result = fma(one, horner(one, LGAMMA_1), 0.0) if fabs_float(one) < 0.1 else result
    return fma(two, horner(two, LGAMMA_2), 0.0) if fabs_float(two) < 0.1 else result


@scalar
def gammaln_f32(x: Any) -> Any:
    return cast_like(gammaln_f64(np.float64(x)), x)


@scalar
def gamma_f64(x: Any) -> Any:
    """exp(log |Gamma(x)|) with the sign of Gamma; NaN at negative integers."""
    whole = floor_float(x)
    pole = (x <= 0.0) & (whole == x)
    ordinary = (fabs_float(x) < 200.0) & (not pole)
    high, low = log_gamma_pair_f64(x if ordinary else 3.0)
    size = exp_pair_f64(high, low)
    odd = (x < 0.0) & (whole != 2.0 * floor_float(0.5 * whole))
    value = -size if odd else size
    far = np.inf if x > 0.0 else (-0.0 if odd else 0.0)
    special = 1.0 / x if x == 0.0 else (np.nan if pole | (x != x) else far)
    return value if ordinary else special


@scalar
def gamma_f32(x: Any) -> Any:
    return cast_like(gamma_f64(np.float64(x)), x)


@scalar
def digamma_f64(x: Any) -> Any:
    """log y - 1/(2 y) - ... at y = x + 8 less the sum of 1 / (x + k), k < 8, as one fraction.

    x < 0: digamma(1 - x) - pi / tan(pi x). The positive zero has a polynomial of its own; else
    the error is about 1e-15 of the larger of 1 and the result.
    """
    negative = x < 0.0
    a = 1.0 - x if negative else x
    lifted = a < 8.0
    y = a + 8.0 if lifted else a
    top, bottom = 1.0, a if lifted else 1.0
    for k in range(1, 8):
        factor = a + k if lifted else 1.0
        top, bottom = fma(top, factor, bottom), bottom * factor
    inverse = 1.0 / y
    z = inverse * inverse
    tail = fma(z, horner(z, DIGAMMA), 0.5 * inverse)
    result = (log_f64(y) - tail) - (top / bottom if lifted else 0.0)
    turn = x - rint_float(x)
    reflected = result - np.pi / tan_f64(np.pi * (turn if negative else 0.25))
    special = np.nan if negative | (x != x) else (x if x > 0.0 else -1.0 / x)
    regular = (x != 0.0) & (x < np.inf) & ((turn != 0.0) | (x > 0.0))
    from_zero = (x - DIGAMMA_ZERO) - DIGAMMA_ZERO_LOW
    close = fabs_float(from_zero) < 0.3
    result = from_zero * horner(from_zero, DIGAMMA_ROOT) if close else result
    return (reflected if negative else result) if regular else special


@scalar
def digamma_f32(x: Any) -> Any:
    return cast_like(digamma_f64(np.float64(x)), x)


@scalar
def polygamma_f64(n: Any, x: Any) -> Any:
    """The n-th derivative of digamma, x > 0 by recurrence and asymptotic series (A&S 6.4.11)."""
    if n == 0:
        return digamma_f64(x)
    sign = 1.0 if n % 2 == 1 else -1.0
    factorial = 1.0
    for k in range(2, int(min(n, 172))):
        factorial *= k
    if x <= 0 and x == np.floor(x):
        return sign * np.inf
    if x < -100000.0:
        return np.float64(np.nan)
    power = np.float64(n)
    shifted = 0.0
    while x < 15.0 + power:
        shifted += power_f64(x, -(power + 1.0))
        x += 1.0
    z = 1.0 / (x * x)
    total = 1.0 + power / (2.0 * x)
    term = power * (power + 1.0) / 2.0 * z
    for k in range(len(BERNOULLI)):
        total += BERNOULLI[k] * term
        m = np.float64(2 * k + 2)
        term *= (power + m) * (power + m + 1.0) / ((m + 1.0) * (m + 2.0)) * z
    return sign * factorial * (total * power_f64(x, -power) + power * shifted)


@scalar
def polygamma_f32(n: Any, x: Any) -> Any:
    return cast_like(polygamma_f64(n, np.float64(x)), x)
