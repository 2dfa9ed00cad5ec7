"""log and exp in natural units with results or arguments of 65 bits, as gamma needs them.

log x to 65 bits: with s = (m - 1) / (m + 1),

    log x = e log 2 + 2 s + (2/3) s**3 + s**5 P(s**2)

where s, 2/3 s**3 and the sums are pairs of floats (high, low).

    log_pair_f64(2.0) = (0.6931471805599453, 2.3190468138462996e-17)
"""

from __future__ import annotations

from typing import Any

from codegen.vecmath.exact import rint_float
from codegen.vecmath.exponential import EXP, LN2_HIGH, LN2_LOW, LOG2_E, clamp_float
from codegen.vecmath.floating import exponent, scale, significand
from codegen.vecmath.primitives import fma, horner, scalar

# 2/3 as a sum of two floats.
TWO_THIRDS, TWO_THIRDS_LOW = 0.6666666666666666, 3.700743415417188e-17

# derive.py: (2 atanh(s) - 2 s - 2/3 s**3) / s**5 in s**2
LOG_TAIL = (
    0.13204491929562948,
    0.13255964647016838,
    0.15386792727865878,
    0.18181783628301892,
    0.22222222527991134,
    0.2857142857005674,
    0.4000000000000234,
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
    rest = fma(cube * z, horner(z, LOG_TAIL), third_low)
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
