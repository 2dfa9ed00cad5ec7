"""Scalar functions still taken from the C library: right, but not vectorised."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from codegen.vecmath.primitives import cast_like, scalar


@scalar
def gammaln_f64(x: Any) -> Any:
    return cast_like(math.lgamma(x), x)


@scalar
def gammaln_f32(x: Any) -> Any:
    return cast_like(math.lgamma(x), x)
