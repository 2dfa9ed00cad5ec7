"""exp and its relatives: exp2, expm1, sigmoid, softplus, tanh, sinh, cosh, logaddexp.

x = n log 2 + r with |r| <= log(2)/2, then exp(x) = 2**n exp(r): no table, no branch.

    exp_f64(1.0) = 2.718281828459045
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.vecmath.exact import copysign_float, fabs_float, rint_float
from codegen.vecmath.floating import scale, two_to
from codegen.vecmath.primitives import fma, horner, scalar

LOG2_E = 1.4426950408889634
# log 2 in two parts; the high one is short enough for n * LN2_HIGH to be exact.
LN2_HIGH = 0.6931471803691238
LN2_LOW = 1.9082149292705877e-10

# The same and the other constants of the float32 functions, with their type.
LOG2_E_F32 = np.float32(LOG2_E)
LN2_HIGH_F32 = np.float32(0.693145751953125)
LN2_LOW_F32 = np.float32(1.428606765330187e-06)
ZERO_F32, HALF_F32 = np.float32(0.0), np.float32(0.5)
ONE_F32, TWO_F32 = np.float32(1.0), np.float32(2.0)
EXP_LOW_F32, EXP_HIGH_F32 = np.float32(-104.0), np.float32(89.0)
EXP2_LOW_F32, EXP2_HIGH_F32 = np.float32(-152.0), np.float32(129.0)
EXPM1_LOW_F32, TANH_ONE_F32 = np.float32(-20.0), np.float32(10.0)
TINY_F32 = np.float32(1e-30)

# derive.py: (exp(r) - 1 - r) / r**2, (exp(r) - 1 - r) / r**2, (2**r - 1) / r
EXP = (
    2.5117744247627754e-08,
    2.763141263853838e-07,
    2.755721671031904e-06,
    2.4801489596142916e-05,
    0.0001984126991688534,
    0.0013888888947323058,
    0.008333333333307444,
    0.04166666666651436,
    0.166666666666667,
    0.5000000000000013,
)
EXP_F32 = (
    0.0013950648970092524,
    0.008368953965953045,
    0.04166620318165723,
    0.16666518301812147,
    0.5000000096176691,
)
EXPM1 = (
    2.0924541011721106e-09,
    2.5109148429997163e-08,
    2.755724244399619e-07,
    2.7557243908667073e-06,
    2.4801587360923223e-05,
    0.00019841269886404047,
    0.0013888888888866655,
    0.00833333333332153,
    0.0416666666666667,
    0.16666666666666677,
    0.5,
)
EXPM1_F32 = (
    0.00019914515636935357,
    0.0013941103627931716,
    0.008333272422761488,
    0.041666353550183964,
    0.16666666819721232,
    0.5000000046637649,
)
EXP2 = (
    4.457391095999258e-10,
    7.073860396367138e-09,
    1.0178046431318858e-07,
    1.3215434815746568e-06,
    1.5252733867623523e-05,
    0.00015403530458081577,
    0.001333355814637894,
    0.009618129107593331,
    0.05550410866482174,
    0.24022650695910133,
    0.6931471805599453,
)
EXP2_F32 = (
    0.00015476465837870466,
    0.0013400271937087566,
    0.009618003260375721,
    0.05550327791849438,
    0.24022651351304256,
    0.6931472062360976,
)


@scalar
def clamp_float(x: Any, low: Any, high: Any) -> Any:
    """`x` kept in [low, high]; NaN stays NaN."""
    raised = low if x < low else x
    return high if raised > high else raised


@scalar
def exp_f64(x: Any) -> Any:
    """1 + r + r**2 q(r), the rounding error of 1 + r added back."""
    inside = clamp_float(x, -746.0, 710.0)
    n = rint_float(inside * LOG2_E)
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, inside))
    head = 1.0 + r
    return scale(head + fma(r * r, horner(r, EXP), (1.0 - head) + r), n)


@scalar
def exp_f32(x: Any) -> Any:
    """1 + r + r**2 q(r), the rounding error of 1 + r added back."""
    inside = clamp_float(x, EXP_LOW_F32, EXP_HIGH_F32)
    n = rint_float(inside * LOG2_E_F32)
    r = fma(n, -LN2_LOW_F32, fma(n, -LN2_HIGH_F32, inside))
    head = ONE_F32 + r
    return scale(head + fma(r * r, horner(r, EXP_F32), (ONE_F32 - head) + r), n)


@scalar
def exp2_f64(x: Any) -> Any:
    inside = clamp_float(x, -1080.0, 1025.0)
    n = rint_float(inside)
    r = inside - n
    return scale(fma(r, horner(r, EXP2), 1.0), n)


@scalar
def exp2_f32(x: Any) -> Any:
    inside = clamp_float(x, EXP2_LOW_F32, EXP2_HIGH_F32)
    n = rint_float(inside)
    r = inside - n
    return scale(fma(r, horner(r, EXP2_F32), ONE_F32), n)


@scalar
def expm1_f64(x: Any) -> Any:
    """2**n (exp(r) - 1) + (2**n - 1), halved first so that n = 1024 does not overflow early."""
    inside = clamp_float(x, -45.0, 710.0)
    n = rint_float(inside * LOG2_E)
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, inside))
    half = two_to(n - 1.0)
    small = fma(r * r, horner(r, EXPM1), r)
    return x if fabs_float(x) < 1e-300 else 2.0 * fma(half, small, half - 0.5)


@scalar
def expm1_f32(x: Any) -> Any:
    """2**n (exp(r) - 1) + (2**n - 1), halved first so that n = 1024 does not overflow early."""
    inside = clamp_float(x, EXPM1_LOW_F32, EXP_HIGH_F32)
    n = rint_float(inside * LOG2_E_F32)
    r = fma(n, -LN2_LOW_F32, fma(n, -LN2_HIGH_F32, inside))
    half = two_to(n - ONE_F32)
    small = fma(r * r, horner(r, EXPM1_F32), r)
    return x if fabs_float(x) < TINY_F32 else TWO_F32 * fma(half, small, half - HALF_F32)


@scalar
def sigmoid_f64(x: Any) -> Any:
    """1 / (1 + exp(-x)) without overflow: with e = exp(-|x|), 1 / (1 + e) or e / (1 + e).

    The rounding error of 1 + e, which counts where e is small, is taken from the quotient.
    """
    e = exp_f64(-fabs_float(x))
    whole = 1.0 + e
    quotient = (e if x < 0.0 else 1.0) / whole
    return fma(quotient, (whole - 1.0) - e, quotient)


@scalar
def sigmoid_f32(x: Any) -> Any:
    """1 / (1 + exp(-x)) without overflow: with e = exp(-|x|), 1 / (1 + e) or e / (1 + e).

    The rounding error of 1 + e, which counts where e is small, is taken from the quotient.
    """
    e = exp_f32(-fabs_float(x))
    whole = ONE_F32 + e
    quotient = (e if x < 0 else ONE_F32) / whole
    return fma(quotient, (whole - ONE_F32) - e, quotient)


@scalar
def tanh_f64(x: Any) -> Any:
    """With e = exp(2|x|) - 1: e / (e + 2), corrected by the rounding errors of sum and quotient."""
    magnitude = fabs_float(x)
    twice = 2.0 * (20.0 if magnitude > 20.0 else magnitude)
    n = rint_float(twice * LOG2_E)
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, twice))
    power = two_to(n)
    e = fma(power, fma(r * r, horner(r, EXPM1), r), power - 1.0)
    whole = 2.0 + e
    inverse = 1.0 / whole
    quotient = e * inverse
    rest = fma(quotient, (whole - 2.0) - e, fma(-quotient, whole, e))
    return copysign_float(fma(rest, inverse, quotient), x)


@scalar
def tanh_f32(x: Any) -> Any:
    """With e = exp(2|x|) - 1: e / (e + 2), corrected by the rounding errors of sum and quotient."""
    magnitude = fabs_float(x)
    twice = TWO_F32 * (TANH_ONE_F32 if magnitude > TANH_ONE_F32 else magnitude)
    n = rint_float(twice * LOG2_E_F32)
    r = fma(n, -LN2_LOW_F32, fma(n, -LN2_HIGH_F32, twice))
    power = two_to(n)
    e = fma(power, fma(r * r, horner(r, EXPM1_F32), r), power - ONE_F32)
    whole = TWO_F32 + e
    inverse = ONE_F32 / whole
    quotient = e * inverse
    rest = fma(quotient, (whole - TWO_F32) - e, fma(-quotient, whole, e))
    return copysign_float(fma(rest, inverse, quotient), x)
