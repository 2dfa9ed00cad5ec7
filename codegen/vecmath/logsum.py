"""Logarithms of sums of exponentials: softplus, logaddexp, logaddexp2.

softplus_f64(0.0) = 0.6931471805599453
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.vecmath.exact import fabs_float
from codegen.vecmath.exponential import (
    HALF_F32,
    ZERO_F32,
    exp2_f32,
    exp2_f64,
    exp_f32,
    exp_f64,
)
from codegen.vecmath.logarithm import ATANH, LN2, LN2_F32, LOG2_E_HIGH, LOG2_E_HIGH_F32, LOG_F32
from codegen.vecmath.primitives import fma, horner, scalar

ROOT_F32 = np.float32(0.41421357)


@scalar
def log_near_one_f32(f: Any) -> Any:
    """log(1 + f) for 1 + f in [sqrt(1/2), sqrt(2)]."""
    return fma(f * f, fma(f, horner(f, LOG_F32), -HALF_F32), f)


@scalar
def log1p_unit_f64(e: Any) -> Any:
    """log(1 + e) for 0 <= e <= 1: directly up to 1/2, above that log 2 + log((1 + e) / 2)."""
    above = e > 0.5
    f = fma(0.5, e, -0.5) if above else e
    s = f / (2.0 + f)
    z = s * s
    return (f + s * (z * horner(z, ATANH) - f)) + (LN2 if above else 0.0)


@scalar
def log1p_unit_f32(e: Any) -> Any:
    above = e > ROOT_F32
    f = fma(HALF_F32, e, -HALF_F32) if above else e
    return log_near_one_f32(f) + (LN2_F32 if above else ZERO_F32)


@scalar
def softplus_f64(x: Any) -> Any:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))."""
    return (x if x > 0.0 else 0.0) + log1p_unit_f64(exp_f64(-fabs_float(x)))


@scalar
def softplus_f32(x: Any) -> Any:
    return (x if x > 0 else ZERO_F32) + log1p_unit_f32(exp_f32(-fabs_float(x)))


@scalar
def logaddexp_f64(a: Any, b: Any) -> Any:
    """log(exp(a) + exp(b)) = max(a, b) + log(1 + exp(-|a - b|)); equal infinities stay."""
    gap = 0.0 if a == b else fabs_float(a - b)
    return (a if a > b else b) + log1p_unit_f64(exp_f64(-gap))


@scalar
def logaddexp_f32(a: Any, b: Any) -> Any:
    gap = ZERO_F32 if a == b else fabs_float(a - b)
    return (a if a > b else b) + log1p_unit_f32(exp_f32(-gap))


@scalar
def logaddexp2_f64(a: Any, b: Any) -> Any:
    """log2(2**a + 2**b)."""
    gap = 0.0 if a == b else fabs_float(a - b)
    return (a if a > b else b) + log1p_unit_f64(exp2_f64(-gap)) * LOG2_E_HIGH


@scalar
def logaddexp2_f32(a: Any, b: Any) -> Any:
    gap = ZERO_F32 if a == b else fabs_float(a - b)
    return (a if a > b else b) + log1p_unit_f32(exp2_f32(-gap)) * LOG2_E_HIGH_F32
