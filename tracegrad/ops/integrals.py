"""Exponential, error and elliptic integrals, and the hypergeometric functions behind them.

    expn(n, x)    =>   d_x = -d_y * expn(n - 1, x)
    ellipk(m)     =>   d_m = d_y * pi / 8 * hyp2f1(1/2, 1/2, 2, m) / (1 - m)

Rules: DLMF 6.2, 7.10, 8.19.13, 13.3.15, 13.3.22, 15.5.1, 19.4.1 and 19.5.1-2. Those of `ellipk`,
`exprel` and `spence` are written as hypergeometric functions, which do not cancel at 0 or 1.
"""

from __future__ import annotations

import math
from typing import Any

from tracegrad.ops.exponential import EXP
from tracegrad.ops.op import PUBLIC
from tracegrad.ops.scipys import scipys
from tracegrad.ops.selection import where
from tracegrad.ops.special import ERF, ERF_SLOPE, NORMAL_DENSITY

POSITIVE, MODULUS, SHAPE, SMALL = ((0.3, 4.0),), ((-2.0, 0.8),), (0.5, 3.0), (-0.8, 0.8)

HYP0F1 = scipys("hyp0f1", "b", lambda b, x, y: HYP0F1(b + 1, x) / b, domain=(SHAPE, SMALL))
HYP1F1 = scipys(
    "hyp1f1",
    "a",
    "b",
    lambda a, b, x, y: a / b * HYP1F1(a + 1, b + 1, x),
    domain=(SHAPE, SHAPE, SMALL),
)
HYP2F1 = scipys(
    "hyp2f1",
    *("a", "b", "c"),
    lambda a, b, c, x, y: a * b / c * HYP2F1(a + 1, b + 1, c + 1, x),
    domain=(SHAPE, SHAPE, SHAPE, (-0.8, 0.5)),
)
HYPERU = scipys(
    "hyperu",
    "a",
    "b",
    lambda a, b, x, y: -a * HYPERU(a + 1, b + 1, x),
    domain=(SHAPE, SHAPE, (0.5, 4.0)),
)


def _exprel_slope(x: Any, y: Any) -> Any:
    """Near 0, where the others cancel, Kummer's function."""
    near = abs(x) < 1
    far = where(near, 1.0, x)
    beyond = where(far > 0, y * (1 - 1 / far) + 1 / far, (EXP(far) - y) / far)
    return where(near, HYP1F1(2, 3, where(near, x, 0.0)) / 2, beyond)


EXPREL = scipys("exprel", _exprel_slope, domain=((-3.0, 3.0),))
EXPI = scipys("expi", lambda x, y: EXP(x) / x, domain=POSITIVE)
EXP1 = scipys("exp1", lambda x, y: -EXP(-x) / x, domain=POSITIVE)


def _expn_slope(n: Any, x: Any, y: Any) -> Any:
    """Of order 0 it is `exp(-x) / x`."""
    below = EXPN(PUBLIC["maximum"](n - 1, 0), x)
    return -where(n == 0, y * (1 + 1 / x), below)


EXPN = scipys("expn", "n", _expn_slope, domain=((2.0, 2.0), (0.3, 4.0)))

DAWSN = scipys("dawsn", lambda x, y: 1 - 2 * x * y, domain=((-2.0, 2.0),))
ERFCX = scipys("erfcx", lambda x, y: 2 * x * y - ERF_SLOPE, domain=((-1.0, 2.0),))
ERFI = scipys("erfi", lambda x, y: ERF_SLOPE * EXP(x * x), domain=((-1.0, 1.0),))
NDTRI_EXP = scipys(
    "ndtri_exp", lambda x, y: EXP(x + 0.5 * y * y) / NORMAL_DENSITY, domain=((-4.0, -0.2),)
)
OWENS_T = scipys(
    "owens_t",
    lambda h, a, y: -0.5 * NORMAL_DENSITY * ERF(a * h * math.sqrt(0.5)) * EXP(-0.5 * h * h),
    lambda h, a, y: EXP(-0.5 * h * h * (1 + a * a)) / (2 * math.pi * (1 + a * a)),
    domain=((-2.0, 2.0),),
)
SPENCE = scipys("spence", lambda x, y: -HYP2F1(1, 1, 2, 1 - x), domain=((0.2, 1.8),))
COSM1 = scipys("cosm1", lambda x, y: -PUBLIC["sin"](x), domain=((-2.0, 2.0),))
WRIGHTOMEGA = scipys("wrightomega", lambda x, y: y / (1 + y), domain=((-2.0, 2.0),))


def _bounded(m: Any) -> Any:
    return HYP2F1(0.5, 0.5, 2, m)


ELLIPK = scipys("ellipk", lambda m, y: math.pi / 8 * _bounded(m) / (1 - m), domain=MODULUS)
ELLIPKM1 = scipys("ellipkm1", lambda p, y: -math.pi / 8 * _bounded(1 - p) / p, domain=((0.2, 3.0),))
ELLIPE = scipys("ellipe", lambda m, y: -math.pi / 8 * HYP2F1(0.5, 1.5, 2, m), domain=MODULUS)
