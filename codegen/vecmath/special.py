"""Gamma-function derivatives: digamma and polygamma.

    digamma_f64(1.0) = -0.5772156649015329
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.vecmath.primitives import cast_like, horner, scalar

# B_2k / (2k) of the asymptotic series, k = 8 ... 1 (Abramowitz & Stegun 6.3.18).
DIGAMMA_SERIES = (
    -3617 / 8160,
    1 / 12,
    -691 / 32760,
    1 / 132,
    -1 / 240,
    1 / 252,
    -1 / 120,
    1 / 12,
)

# Bernoulli numbers B_2, B_4, ..., B_20 (A&S 23.1.3).
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
def digamma_f64(x: Any) -> Any:
    """Reflection for negative arguments, recurrence up to 10, then the asymptotic series."""
    if x == 0:
        return np.copysign(np.inf, -x)
    if x < 0 and x == np.floor(x):
        return np.float64(np.nan)
    reflected = 0.0
    if x < 0:
        reflected = -np.pi / np.tan(np.pi * (x - np.floor(x)))
        x = 1.0 - x
    shifted = 0.0
    while x < 10.0:
        shifted += 1.0 / x
        x += 1.0
    if x == np.inf:
        return x
    z = 1.0 / (x * x)
    return np.log(x) - 0.5 / x - z * horner(z, DIGAMMA_SERIES) - shifted + reflected


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
    for k in range(2, int(n)):
        factorial *= k
    if x <= 0 and (x == np.floor(x) or x < -100000.0):
        return np.float64(np.nan) if x < -100000.0 else sign * np.inf
    power = np.float64(n)
    shifted = 0.0
    while x < 15.0 + power:
        shifted += x ** -(power + 1.0)
        x += 1.0
    z = 1.0 / (x * x)
    total = 1.0 + power / (2.0 * x)
    term = power * (power + 1.0) / 2.0 * z
    for k in range(len(BERNOULLI)):
        total += BERNOULLI[k] * term
        m = np.float64(2 * k + 2)
        term *= (power + m) * (power + m + 1.0) / ((m + 1.0) * (m + 2.0)) * z
    return sign * factorial * (total * x**-power + power * shifted)


@scalar
def polygamma_f32(n: Any, x: Any) -> Any:
    return cast_like(polygamma_f64(n, np.float64(x)), x)
