"""erf and erfc.

erf(x) = x + x P(x**2) near 0. Elsewhere erfc(x) = exp(-x**2) (1 + G(t)) / (1 + 2 x) with
t = (x - K) / (x + K) and a small G (M. M. Shepherd, J. G. Laframboise, Math. Comp. 36, 1981, with
K = 3.75; K = 3 here). The rounding errors of x**2, 1 + 2 x, 1 + G and the quotient are carried
along.

    erf_f64(1.0) = 0.8427007929497149
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.vecmath.exact import copysign_float, fabs_float
from codegen.vecmath.exponential import (
    HALF_F32,
    ONE_F32,
    TWO_F32,
    exp_f32,
    exp_f64,
)
from codegen.vecmath.primitives import fma, horner, scalar

CENTRE, CENTRE_F32 = 3.0, np.float32(3.0)
ERF_LIMIT_F32, ERFC_ZERO_F32 = np.float32(0.89), np.float32(11.0)

# derive.py: erf(x) / x - 1 in x**2 and (1 + 2 x) exp(x**2) erfc(x) - 1 in t
ERF = (
    -8.53621676347397e-10,
    1.4069401597364901e-08,
    -1.6279804830070894e-07,
    1.6455666957811058e-06,
    -1.4925329153929145e-05,
    0.00012055322267965675,
    -0.0008548326787695081,
    0.00522397762214909,
    -0.02686617064485963,
    0.11283791670953967,
    -0.3761263890318373,
    0.1283791670955126,
)
ERF_F32 = (
    -0.0006136138376119452,
    0.005020718313396183,
    -0.026784760458258845,
    0.11282300259052559,
    -0.37612538484871055,
    0.1283791561258936,
)
ERFC = (
    -9.85794982865335e-10,
    -6.3187510968849605e-09,
    -6.025656742540638e-09,
    4.0535119417157056e-08,
    9.011403842892679e-08,
    -1.4306872481527702e-07,
    -6.058372517631328e-07,
    3.596630498883202e-07,
    3.4661538511560907e-06,
    -7.335570768129778e-07,
    -2.0098196188046335e-05,
    4.950317414056146e-06,
    0.00012509876076464822,
    -0.0001051600037376515,
    -0.0007798321767914059,
    0.001888690388986364,
    0.0025293918066130157,
    -0.023770514921093396,
    0.06830802734450442,
    -0.1192736634152087,
    0.12964515870274695,
    -0.04756229435345231,
    -0.13562110612458106,
    0.25300805826972966,
)
ERFC_F32 = (
    -0.0002679561351094911,
    -0.000777605277626065,
    0.0020012326436703275,
    0.0025671394398531964,
    -0.023797195871927797,
    0.06829590694430097,
    -0.11927104914575598,
    0.12964639240927192,
    -0.04756239329560251,
    -0.13562113851125976,
    0.2530080590348292,
)


@scalar
def erfc_positive_f64(x: Any) -> Any:
    """erfc(x) for 0 <= x."""
    bounded = 28.0 if x > 28.0 else x
    square = bounded * bounded
    square_low = fma(bounded, bounded, -square)
    divisor = fma(2.0, bounded, 1.0)
    divisor_low = fma(2.0, bounded, 1.0 - divisor)
    above = bounded + CENTRE
    both = 1.0 / (divisor * above)
    inverse = above * both
    small = horner((bounded - CENTRE) * (divisor * both), ERFC)
    series = 1.0 + small
    series_low = (1.0 - series) + small
    quotient = series * inverse
    rest = fma(-quotient, divisor, series) + fma(-quotient, divisor_low, series_low)
    e = exp_f64(-square)
    return fma(e, quotient, e * fma(rest, inverse, -square_low * quotient))


@scalar
def erfc_positive_f32(x: Any) -> Any:
    bounded = ERFC_ZERO_F32 if x > ERFC_ZERO_F32 else x
    square = bounded * bounded
    square_low = fma(bounded, bounded, -square)
    divisor = fma(TWO_F32, bounded, ONE_F32)
    divisor_low = fma(TWO_F32, bounded, ONE_F32 - divisor)
    above = bounded + CENTRE_F32
    both = ONE_F32 / (divisor * above)
    inverse = above * both
    small = horner((bounded - CENTRE_F32) * (divisor * both), ERFC_F32)
    series = ONE_F32 + small
    series_low = (ONE_F32 - series) + small
    quotient = series * inverse
    rest = fma(-quotient, divisor, series) + fma(-quotient, divisor_low, series_low)
    e = exp_f32(-square)
    return fma(e, quotient, e * fma(rest, inverse, -square_low * quotient))


@scalar
def erf_f64(x: Any) -> Any:
    magnitude = fabs_float(x)
    near_zero = fma(x, horner(x * x, ERF), x)
    far = copysign_float(1.0 - erfc_positive_f64(magnitude), x)
    return far if magnitude > 0.89 else near_zero


@scalar
def erf_f32(x: Any) -> Any:
    magnitude = fabs_float(x)
    near_zero = fma(x, horner(x * x, ERF_F32), x)
    far = copysign_float(ONE_F32 - erfc_positive_f32(magnitude), x)
    return far if magnitude > ERF_LIMIT_F32 else near_zero


@scalar
def erfc_f64(x: Any) -> Any:
    """2 - erfc(-x) for x < -1/2, 1 - erf(x) up to 1/2."""
    magnitude = fabs_float(x)
    positive = erfc_positive_f64(magnitude)
    far = 2.0 - positive if x < 0.0 else positive
    return far if magnitude > 0.5 else 1.0 - fma(x, horner(x * x, ERF), x)


@scalar
def erfc_f32(x: Any) -> Any:
    magnitude = fabs_float(x)
    positive = erfc_positive_f32(magnitude)
    far = TWO_F32 - positive if x < 0 else positive
    return far if magnitude > HALF_F32 else ONE_F32 - fma(x, horner(x * x, ERF_F32), x)
