"""Angles as table rows: trigonometric functions, their inverses, degrees and radians.

y = arctan2(a, b), r = hypot(a, b)   =>   d_a = d_y * b / r / r,   d_b = -d_y * a / r / r
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracegrad.ir.op import Array
from tracegrad.ops.arithmetic import HYPOT, SQRT
from tracegrad.ops.elementwise import row
from tracegrad.ops.selection import where

DEGREE = math.pi / 180
UNIT = ((-0.9, 0.9),)

SIN = row("sin", np.sin, [lambda x, y: COS(x)])
COS = row("cos", np.cos, [lambda x, y: -SIN(x)])
TAN = row("tan", np.tan, [lambda x, y: 1 + y * y], domain=((-1.4, 1.4),))
ARCSIN = row(
    "arcsin",
    np.arcsin,
    [lambda x, y: 1 / SQRT((1 - x) * (1 + x))],
    domain=UNIT,
    also=("asin",),
)
ARCCOS = row(
    "arccos",
    np.arccos,
    [lambda x, y: -1 / SQRT((1 - x) * (1 + x))],
    domain=UNIT,
    also=("acos",),
)
ARCTAN = row("arctan", np.arctan, [lambda x, y: 1 / (1 + x * x)], also=("atan",))


def _turn(a: Array, b: Array) -> Array:
    """`a / (a**2 + b**2)` without overflow."""
    length = HYPOT(a, b)
    return a / length / length


ARCTAN2 = row(
    "arctan2",
    np.arctan2,
    [lambda a, b, y: _turn(b, a), lambda a, b, y: -_turn(a, b)],
    domain=((-2.0, 2.0), (0.3, 2.5)),
    also=("atan2",),
)
DEG2RAD = row("deg2rad", np.deg2rad, [lambda x, y: DEGREE], also=("radians", np.radians))
RAD2DEG = row("rad2deg", np.rad2deg, [lambda x, y: 1 / DEGREE], also=("degrees", np.degrees))

_SINC_SERIES = (-1 / 3, 1 / 30, -1 / 840, 1 / 45360, -1 / 3991680, 1 / 518918400, -1 / 93405312000)
"""Of `d/dz sin(z)/z` over z: coefficients of z**0, z**2, ... (the sine series differentiated)."""


def _sinc_slope(x: Array, y: Array) -> Array:
    """`(cos(pi x) - y) / x`, near 0 by its series: there the difference cancels."""
    small = abs(x) < 0.2
    z = where(small, x, 0) * math.pi
    total: Any = 0.0
    for coefficient in reversed(_SINC_SERIES):
        total = total * (z * z) + coefficient
    return where(small, math.pi * z * total, (COS(math.pi * x) - y) / where(small, 1, x))


def _pi_times(x: Any) -> tuple[np.dtype, ...]:
    """NumPy multiplies by a Python float: only float32 stays single."""
    return (np.dtype(np.float32 if x == np.float32 else np.float64),) * 2


SINC = row("sinc", np.sinc, [_sinc_slope], like=_pi_times, weight=14)
