"""Scalar functions still taken from the C library: right, but not vectorised."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from codegen.vecmath.primitives import cast_like, scalar


@scalar
def sin_f64(x: Any) -> Any:
    return cast_like(np.sin(x), x)


@scalar
def sin_f32(x: Any) -> Any:
    return cast_like(np.sin(x), x)


@scalar
def cos_f64(x: Any) -> Any:
    return cast_like(np.cos(x), x)


@scalar
def cos_f32(x: Any) -> Any:
    return cast_like(np.cos(x), x)


@scalar
def tan_f64(x: Any) -> Any:
    return cast_like(np.tan(x), x)


@scalar
def tan_f32(x: Any) -> Any:
    return cast_like(np.tan(x), x)


@scalar
def sinh_f64(x: Any) -> Any:
    return cast_like(np.sinh(x), x)


@scalar
def sinh_f32(x: Any) -> Any:
    return cast_like(np.sinh(x), x)


@scalar
def cosh_f64(x: Any) -> Any:
    return cast_like(np.cosh(x), x)


@scalar
def cosh_f32(x: Any) -> Any:
    return cast_like(np.cosh(x), x)


@scalar
def arcsin_f64(x: Any) -> Any:
    return cast_like(np.arcsin(x), x)


@scalar
def arcsin_f32(x: Any) -> Any:
    return cast_like(np.arcsin(x), x)


@scalar
def arccos_f64(x: Any) -> Any:
    return cast_like(np.arccos(x), x)


@scalar
def arccos_f32(x: Any) -> Any:
    return cast_like(np.arccos(x), x)


@scalar
def arctan_f64(x: Any) -> Any:
    return cast_like(np.arctan(x), x)


@scalar
def arctan_f32(x: Any) -> Any:
    return cast_like(np.arctan(x), x)


@scalar
def arcsinh_f64(x: Any) -> Any:
    return cast_like(np.arcsinh(x), x)


@scalar
def arcsinh_f32(x: Any) -> Any:
    return cast_like(np.arcsinh(x), x)


@scalar
def arccosh_f64(x: Any) -> Any:
    return cast_like(np.arccosh(x), x)


@scalar
def arccosh_f32(x: Any) -> Any:
    return cast_like(np.arccosh(x), x)


@scalar
def arctanh_f64(x: Any) -> Any:
    return cast_like(np.arctanh(x), x)


@scalar
def arctanh_f32(x: Any) -> Any:
    return cast_like(np.arctanh(x), x)


@scalar
def cbrt_f64(x: Any) -> Any:
    return cast_like(np.cbrt(x), x)


@scalar
def cbrt_f32(x: Any) -> Any:
    return cast_like(np.cbrt(x), x)


@scalar
def arctan2_f64(a: Any, b: Any) -> Any:
    return cast_like(np.arctan2(a, b), a)


@scalar
def arctan2_f32(a: Any, b: Any) -> Any:
    return cast_like(np.arctan2(a, b), a)


@scalar
def hypot_f64(a: Any, b: Any) -> Any:
    return cast_like(np.hypot(a, b), a)


@scalar
def hypot_f32(a: Any, b: Any) -> Any:
    return cast_like(np.hypot(a, b), a)


@scalar
def power_f64(a: Any, b: Any) -> Any:
    return cast_like(a**b, a)


@scalar
def power_f32(a: Any, b: Any) -> Any:
    return cast_like(a**b, a)


@scalar
def erf_f64(x: Any) -> Any:
    return cast_like(math.erf(x), x)


@scalar
def erf_f32(x: Any) -> Any:
    return cast_like(math.erf(x), x)


@scalar
def erfc_f64(x: Any) -> Any:
    return cast_like(math.erfc(x), x)


@scalar
def erfc_f32(x: Any) -> Any:
    return cast_like(math.erfc(x), x)


@scalar
def gammaln_f64(x: Any) -> Any:
    return cast_like(math.lgamma(x), x)


@scalar
def gammaln_f32(x: Any) -> Any:
    return cast_like(math.lgamma(x), x)
