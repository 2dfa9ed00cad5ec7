"""sinh and cosh by the addition theorem: x = n log 2 + r.

    sinh(x) = S + (S (cosh r - 1) + C sinh r),  cosh(x) = C + (C (cosh r - 1) + S sinh r),
    S = sinh(n log 2) = (2**n - 2**-n) / 2,  C = cosh(n log 2) = (2**n + 2**-n) / 2

both exact in float64 for n <= 26; everything is halved so that only overflowing results overflow.
"""

from __future__ import annotations

from typing import Any

from codegen.vecmath.exact import copysign_float, fabs_float, rint_float
from codegen.vecmath.exponential import (
    LN2_HIGH,
    LN2_HIGH_F32,
    LN2_LOW,
    LN2_LOW_F32,
    LOG2_E,
    LOG2_E_F32,
)
from codegen.vecmath.floating import two_to
from codegen.vecmath.primitives import F32, fma, horner, scalar

# derive.py: (sinh(r) / r - 1) / r**2 and (cosh(r) - 1) / r**2 in r**2
SINH = (
    2.5109147822985537e-08,
    2.7557243912884314e-06,
    0.00019841269886396553,
    0.008333333333321535,
    0.16666666666666677,
)
SINH_F32 = (
    0.008366647245246816,
    0.16666542515453844,
)
COSH = (
    2.7631482866485036e-07,
    2.4801489375224665e-05,
    0.001388888894756852,
    0.041666666666513245,
    0.5000000000000013,
)
COSH_F32 = (
    0.0013946332331345745,
    0.04166626566658847,
    0.5000000079544571,
)


@scalar
def hyperbolic_parts_f64(magnitude: Any) -> Any:
    """(2**n / 4, 2**-n / 4, sinh r, cosh r - 1) for |x| = n log 2 + r."""
    inside = 710.6 if magnitude > 710.6 else magnitude
    n = rint_float(inside * LOG2_E)
    high = fma(n, -LN2_HIGH, inside)
    r = fma(n, -LN2_LOW, high)
    lost = fma(n, -LN2_LOW, high - r)
    z = r * r
    down = two_to(-2.0 - (100.0 if n > 100.0 else n))
    return two_to(n - 2.0), down, r + fma(r * z, horner(z, SINH), lost), z * horner(z, COSH)


@scalar
def hyperbolic_parts_f32(magnitude: Any) -> Any:
    inside = F32(89.6) if magnitude > F32(89.6) else magnitude
    n = rint_float(inside * LOG2_E_F32)
    high = fma(n, -LN2_HIGH_F32, inside)
    r = fma(n, -LN2_LOW_F32, high)
    lost = fma(n, -LN2_LOW_F32, high - r)
    z = r * r
    down = two_to(-F32(2.0) - (F32(100.0) if n > F32(100.0) else n))
    return (
        two_to(n - F32(2.0)),
        down,
        r + fma(r * z, horner(z, SINH_F32), lost),
        z * horner(z, COSH_F32),
    )


@scalar
def sinh_f64(x: Any) -> Any:
    magnitude = fabs_float(x)
    up, down, sine, cosine = hyperbolic_parts_f64(magnitude)
    base = up - down
    result = 2.0 * (base + fma(base, cosine, (up + down) * sine))
    return x if magnitude < 1e-290 else copysign_float(result, x)


@scalar
def sinh_f32(x: Any) -> Any:
    magnitude = fabs_float(x)
    up, down, sine, cosine = hyperbolic_parts_f32(magnitude)
    base = up - down
    result = F32(2.0) * (base + fma(base, cosine, (up + down) * sine))
    return x if magnitude < F32(1e-30) else copysign_float(result, x)


@scalar
def cosh_f64(x: Any) -> Any:
    up, down, sine, cosine = hyperbolic_parts_f64(fabs_float(x))
    base = up + down
    return 2.0 * (base + fma(base, cosine, (up - down) * sine))


@scalar
def cosh_f32(x: Any) -> Any:
    up, down, sine, cosine = hyperbolic_parts_f32(fabs_float(x))
    base = up + down
    return F32(2.0) * (base + fma(base, cosine, (up - down) * sine))
