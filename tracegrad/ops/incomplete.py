"""Incomplete gamma and beta functions, their inverses, and the distributions that they are.

    gammainc(a, x)   =>   d_x = d_y * exp((a - 1) * log(x) - x - gammaln(a));   by a: no formula

The derivative is a density, that of an inverse function one over it. The functions of statistics
(`chdtr`, `fdtr`, `bdtr`, ...) are these with their arguments transformed; counts are whole numbers.
"""

from __future__ import annotations

import math
from typing import Any

from tracegrad.ops.elementwise import Masked
from tracegrad.ops.exponential import EXP, LOG, LOG1P
from tracegrad.ops.op import PUBLIC
from tracegrad.ops.rounding import FLOOR
from tracegrad.ops.scipys import scipys
from tracegrad.ops.special import GAMMALN, XLOG1PY, XLOGY, betaln

SHAPE, UNIT = (0.5, 3.0), (0.1, 0.9)


def _log_gamma(a: Any, x: Any) -> Any:
    """The logarithm of the density of the gamma distribution."""
    return XLOGY(a - 1, x) - x - GAMMALN(a)


def _log_beta(a: Any, b: Any, x: Any) -> Any:
    """The logarithm of the density of the beta distribution."""
    return XLOGY(a - 1, x) + XLOG1PY(b - 1, -x) - betaln(a, b)


def _log_t(df: Any, t: Any) -> Any:
    """The logarithm of the density of Student's distribution."""
    front = GAMMALN((df + 1) / 2) - GAMMALN(df / 2) - LOG(df * math.pi) / 2
    return front - (df + 1) / 2 * LOG1P(t * t / df)


def _gamma(a: Any, x: Any) -> Masked:
    return Masked(PUBLIC["isfinite"](x), EXP(_log_gamma(a, x)))


def _beta(a: Any, b: Any, x: Any) -> Any:
    return EXP(_log_beta(a, b, x))


def _fraction(n: Any, d: Any, x: Any) -> Any:
    """F's argument as that of the beta distribution of `n / 2` and `d / 2`."""
    return n * x / (d + n * x)


def _f(n: Any, d: Any, x: Any) -> Any:
    density = _log_beta(n / 2, d / 2, _fraction(n, d, x))
    return EXP(density) * n * d / (d + n * x) ** 2


def _negative(partial: Any) -> Any:
    return Masked(partial.keep, -partial.factor) if isinstance(partial, Masked) else -partial


def _scaled(factor: Any, partial: Masked) -> Masked:
    return Masked(partial.keep, factor * partial.factor)


OF_GAMMA = (SHAPE, (0.2, 4.0))
GAMMAINC = scipys("gammainc", "a", lambda a, x, y: _gamma(a, x), domain=OF_GAMMA)
GAMMAINCC = scipys("gammaincc", "a", lambda a, x, y: _negative(_gamma(a, x)), domain=OF_GAMMA)
GAMMAINCINV = scipys(
    "gammaincinv", "a", lambda a, p, y: EXP(-_log_gamma(a, y)), domain=(SHAPE, UNIT)
)
GAMMAINCCINV = scipys(
    "gammainccinv", "a", lambda a, p, y: -EXP(-_log_gamma(a, y)), domain=(SHAPE, UNIT)
)

OF_BETA = (SHAPE, SHAPE, UNIT)
BETAINC = scipys("betainc", "a", "b", lambda a, b, x, y: _beta(a, b, x), domain=OF_BETA)
BETAINCC = scipys("betaincc", "a", "b", lambda a, b, x, y: -_beta(a, b, x), domain=OF_BETA)
BETAINCINV = scipys(
    "betaincinv", "a", "b", lambda a, b, p, y: EXP(-_log_beta(a, b, y)), domain=OF_BETA
)
BETAINCCINV = scipys(
    "betainccinv", "a", "b", lambda a, b, p, y: -EXP(-_log_beta(a, b, y)), domain=OF_BETA
)

STDTR = scipys("stdtr", "df", lambda df, t, y: EXP(_log_t(df, t)), domain=((1.5, 6.0), (-2.0, 2.0)))
STDTRIT = scipys("stdtrit", "df", lambda df, p, y: EXP(-_log_t(df, y)), domain=((1.5, 6.0), UNIT))
CHDTR = scipys("chdtr", "v", lambda v, x, y: _scaled(0.5, _gamma(v / 2, x / 2)), domain=OF_GAMMA)
CHDTRC = scipys("chdtrc", "v", lambda v, x, y: _scaled(-0.5, _gamma(v / 2, x / 2)), domain=OF_GAMMA)
CHDTRI = scipys(
    "chdtri", "v", lambda v, p, y: -2 * EXP(-_log_gamma(v / 2, y / 2)), domain=((1.5, 4.0), UNIT)
)
OF_F = ((1.5, 6.0), (1.5, 6.0), (0.3, 3.0))
FDTR = scipys("fdtr", "dfn", "dfd", lambda n, d, x, y: _f(n, d, x), domain=OF_F)
FDTRC = scipys("fdtrc", "dfn", "dfd", lambda n, d, x, y: -_f(n, d, x), domain=OF_F)
FDTRI = scipys(
    "fdtri", "dfn", "dfd", lambda n, d, p, y: 1 / _f(n, d, y), domain=((3.0, 6.0), (6.0, 9.0), UNIT)
)
OF_GDTR = ((0.5, 2.0), SHAPE, (0.2, 3.0))
GDTR = scipys(
    "gdtr",
    lambda a, b, x, y: _scaled(x, _gamma(b, a * x)),
    "b",
    lambda a, b, x, y: _scaled(a, _gamma(b, a * x)),
    domain=OF_GDTR,
)
GDTRC = scipys(
    "gdtrc",
    lambda a, b, x, y: _scaled(-x, _gamma(b, a * x)),
    "b",
    lambda a, b, x, y: _scaled(-a, _gamma(b, a * x)),
    domain=OF_GDTR,
)

COUNT, FLOORED, MEAN = (2.0, 2.0), (2.3, 2.7), (0.5, 4.0)
PDTR = scipys(
    "pdtr",
    lambda k, m, y: 0,
    lambda k, m, y: _negative(_gamma(FLOOR(k) + 1, m)),
    domain=(FLOORED, MEAN),
)
PDTRC = scipys(
    "pdtrc", lambda k, m, y: 0, lambda k, m, y: _gamma(FLOOR(k) + 1, m), domain=(FLOORED, MEAN)
)
PDTRI = scipys(
    "pdtri", "k", lambda k, p, y: -EXP(-_log_gamma(FLOOR(k) + 1, y)), domain=(COUNT, UNIT)
)
OF_CHOICES, OF_TRIALS = (FLOORED, (6.0, 6.0), UNIT), (COUNT, (6.0, 6.0), UNIT)
BDTR = scipys(
    "bdtr",
    lambda k, n, p, y: 0,
    "n",
    lambda k, n, p, y: -_beta(FLOOR(k) + 1, n - FLOOR(k), p),
    domain=OF_CHOICES,
)
BDTRC = scipys(
    "bdtrc",
    lambda k, n, p, y: 0,
    "n",
    lambda k, n, p, y: _beta(FLOOR(k) + 1, n - FLOOR(k), p),
    domain=OF_CHOICES,
)
BDTRI = scipys(
    "bdtri",
    lambda k, n, q, y: 0,
    "n",
    lambda k, n, q, y: -EXP(-_log_beta(FLOOR(k) + 1, n - FLOOR(k), y)),
    domain=OF_CHOICES,
)
NBDTR = scipys("nbdtr", "k", "n", lambda k, n, p, y: _beta(n, k + 1, p), domain=OF_TRIALS)
NBDTRC = scipys("nbdtrc", "k", "n", lambda k, n, p, y: -_beta(n, k + 1, p), domain=OF_TRIALS)
NBDTRI = scipys(
    "nbdtri", "k", "n", lambda k, n, q, y: EXP(-_log_beta(n, k + 1, y)), domain=OF_TRIALS
)
