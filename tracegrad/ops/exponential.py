"""Exponentials, logarithms and hyperbolic functions as table rows.

y = exp(x)   =>   d_x = d_y * y
"""

from __future__ import annotations

import math

import numpy as np

from tracegrad.ops.arithmetic import HYPOT, SQRT
from tracegrad.ops.elementwise import row
from tracegrad.ops.op import PUBLIC
from tracegrad.ops.selection import where

LN2, LN10 = math.log(2.0), math.log(10.0)
POSITIVE = ((0.1, 4.0),)

EXP = row("exp", np.exp, [lambda x, y: y])
EXP2 = row("exp2", np.exp2, [lambda x, y: y * LN2])
EXPM1 = row("expm1", np.expm1, [lambda x, y: y + 1])
LOG = row("log", np.log, [lambda x, y: 1 / x], domain=POSITIVE)
LOG2 = row("log2", np.log2, [lambda x, y: 1 / (x * LN2)], domain=POSITIVE)
LOG10 = row("log10", np.log10, [lambda x, y: 1 / (x * LN10)], domain=POSITIVE)
LOG1P = row("log1p", np.log1p, [lambda x, y: 1 / (1 + x)], domain=((-0.8, 4.0),))


def _share(a: object, b: object, scale: float) -> object:
    """`exp(a) / (exp(a) + exp(b))`; a half where both are the same infinity."""
    difference = (a - b) * scale if scale != 1 else a - b  # type: ignore[operator]
    alike = (a == b) & PUBLIC["isinf"](a)
    return where(alike, 0.5, PUBLIC["sigmoid"](difference))


LOGADDEXP = row(
    "logaddexp",
    np.logaddexp,
    [lambda a, b, y: _share(a, b, 1), lambda a, b, y: _share(b, a, 1)],
)
LOGADDEXP2 = row(
    "logaddexp2",
    np.logaddexp2,
    [lambda a, b, y: _share(a, b, LN2), lambda a, b, y: _share(b, a, LN2)],
)

SINH = row("sinh", np.sinh, [lambda x, y: COSH(x)])
COSH = row("cosh", np.cosh, [lambda x, y: SINH(x)])
TANH = row("tanh", np.tanh, [lambda x, y: 1 - y * y])
ARCSINH = row("arcsinh", np.arcsinh, [lambda x, y: 1 / HYPOT(x, 1)], also=("asinh",))
ARCCOSH = row(
    "arccosh",
    np.arccosh,
    [lambda x, y: 1 / (SQRT(x - 1) * SQRT(x + 1))],
    domain=((1.1, 4.0),),
    also=("acosh",),
)
ARCTANH = row(
    "arctanh",
    np.arctanh,
    [lambda x, y: 1 / ((1 - x) * (1 + x))],
    domain=((-0.9, 0.9),),
    also=("atanh",),
)
