"""Distributions of `scipy.stats` at traced arrays: densities, probabilities, their logarithms.

    norm.logpdf(x, mu, s)   is   -((x - mu) / s)**2 / 2 - log(s) - log(2*pi) / 2

A continuous one is given by its density in standard form, `log p(z)`, with `z = (x - loc) / scale`:
`logpdf(x) = log p(z) - log(scale)`. Formulas: Johnson, Kotz, Balakrishnan, Continuous Univariate
Distributions; the parameters are SciPy's. Derivatives follow from the formulas, in all parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.errors import UnsupportedError
from tracegrad.ops.op import PUBLIC, as_operand

Formula = Callable[..., Any]


def _of(name: str) -> Formula:
    return lambda *args: PUBLIC[name](*args)


log, log1p, exp, arctan, gammaln, betaln, xlogy, xlog1py, where, ndtr, log_ndtr, sigmoid = map(
    _of,
    (
        *("log", "log1p", "exp", "arctan", "gammaln", "betaln", "xlogy", "xlog1py", "where"),
        *("ndtr", "log_ndtr", "sigmoid"),
    ),
)


@dataclass(frozen=True)
class Distribution:
    """`logarithm(z, *shapes)` of the density or the probability; `below(z, *shapes)` of what lies
    up to `z`, and its logarithm, where there is a formula for them."""

    name: str
    shapes: int
    logarithm: Formula
    below: Formula | None = None
    log_below: Formula | None = None
    discrete: bool = False

    def logpdf(self, x: Any, *shapes: Any, loc: Any = 0, scale: Any = 1) -> Any:
        return self.logarithm(self._standard(x, loc, scale), *shapes) - log(as_operand(scale) * 1.0)

    def pdf(self, x: Any, *shapes: Any, loc: Any = 0, scale: Any = 1) -> Any:
        return exp(self.logpdf(x, *shapes, loc=loc, scale=scale))

    def logpmf(self, k: Any, *shapes: Any, loc: Any = 0) -> Any:
        return self.logarithm(as_operand(k) - loc, *shapes)

    def pmf(self, k: Any, *shapes: Any, loc: Any = 0) -> Any:
        return exp(self.logpmf(k, *shapes, loc=loc))

    def cdf(self, x: Any, *shapes: Any, loc: Any = 0, scale: Any = 1) -> Any:
        return self._has(self.below, "cdf")(self._standard(x, loc, scale), *shapes)

    def sf(self, x: Any, *shapes: Any, loc: Any = 0, scale: Any = 1) -> Any:
        if self.name in SYMMETRIC:
            return self._has(self.below, "sf")(-self._standard(x, loc, scale), *shapes)
        return 1 - self.cdf(x, *shapes, loc=loc, scale=scale)

    def logcdf(self, x: Any, *shapes: Any, loc: Any = 0, scale: Any = 1) -> Any:
        if self.log_below is not None:
            return self.log_below(self._standard(x, loc, scale), *shapes)
        return log(self.cdf(x, *shapes, loc=loc, scale=scale))

    def logsf(self, x: Any, *shapes: Any, loc: Any = 0, scale: Any = 1) -> Any:
        if self.log_below is not None and self.name in SYMMETRIC:
            return self.log_below(-self._standard(x, loc, scale), *shapes)
        return log(self.sf(x, *shapes, loc=loc, scale=scale))

    def _standard(self, x: Any, loc: Any, scale: Any) -> Any:
        return (as_operand(x) - loc) / scale

    def _has(self, formula: Formula | None, method: str) -> Formula:
        if formula is None:
            raise UnsupportedError(
                f"scipy.stats.{self.name}.{method} is not supported on traced or eager arrays"
            )
        return formula

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """SciPy's method: shape parameters, then `loc` and `scale`, by position or by name."""
        places = ("loc",) if self.discrete else ("loc", "scale")
        x, *given = args
        named = [kwargs.pop(name) for name in _NAMED.get(self.name, ()) if name in kwargs]
        shapes = (*given[: self.shapes - len(named)], *named)
        rest = given[self.shapes - len(named) :]
        if len(shapes) != self.shapes or len(rest) > len(places):
            raise TypeError(f"scipy.stats.{self.name}.{method}: wrong number of parameters")
        return getattr(self, method)(x, *shapes, **dict(zip(places, rest, strict=False)), **kwargs)


METHODS = {
    False: ("pdf", "logpdf", "cdf", "logcdf", "sf", "logsf"),
    True: ("pmf", "logpmf"),
}
"""What is there of continuous distributions, and of discrete ones."""
SYMMETRIC = ("norm", "laplace", "cauchy", "logistic")
_NAMED = {
    "t": ("df",),
    "gamma": ("a",),
    "beta": ("a", "b"),
    "lognorm": ("s",),
    "poisson": ("mu",),
    "bernoulli": ("p",),
    "binom": ("n", "p"),
    "nbinom": ("n", "p"),
}
NEVER = -np.inf


def _within(condition: Any, z: Any, inside: Formula, safe: float) -> Any:
    """`inside(z)` where the condition holds, else log(0); derivatives outside are 0."""
    return where(condition, inside(where(condition, z, safe)), NEVER)


def _choices(n: Any, k: Any) -> Any:
    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)


def _t(z: Any, df: Any) -> Any:
    df = as_operand(df) * 1.0
    front = gammaln((df + 1) / 2) - gammaln(df / 2) - log(df * math.pi) / 2
    return front - (df + 1) / 2 * log1p(z**2 / df)


def _gamma(z: Any, a: Any) -> Any:
    return _within(z >= 0, z, lambda z: xlogy(a - 1.0, z) - z - gammaln(as_operand(a) * 1.0), 1.0)


def _beta(z: Any, a: Any, b: Any) -> Any:
    def inside(z: Any) -> Any:
        return xlogy(a - 1.0, z) + xlog1py(b - 1.0, -z) - betaln(a, b)

    return _within((z >= 0) & (z <= 1), z, inside, 0.5)


def _lognorm(z: Any, s: Any) -> Any:
    def inside(z: Any) -> Any:
        return _norm(log(z) / s) - log(as_operand(s) * z)

    return _within(z > 0, z, inside, 1.0)


def _norm(z: Any) -> Any:
    return -(z**2) / 2 - math.log(2 * math.pi) / 2


def _logistic(z: Any) -> Any:
    return -abs(z) - 2 * log1p(exp(-abs(z)))


DISTRIBUTIONS = {
    found.name: found
    for found in (
        Distribution("norm", 0, _norm, ndtr, log_ndtr),
        Distribution("uniform", 0, lambda z: where((z >= 0) & (z <= 1), 0.0 * z, NEVER)),
        Distribution("expon", 0, lambda z: where(z >= 0, -z, NEVER)),
        Distribution("laplace", 0, lambda z: -abs(z) - math.log(2)),
        Distribution(
            *("cauchy", 0, lambda z: -log1p(z**2) - math.log(math.pi)),
            lambda z: 0.5 + arctan(z) / math.pi,
        ),
        Distribution("logistic", 0, _logistic, sigmoid, lambda z: PUBLIC["log_sigmoid"](z)),
        Distribution("t", 1, _t),
        Distribution("gamma", 1, _gamma),
        Distribution("beta", 2, _beta),
        Distribution("lognorm", 1, _lognorm),
        Distribution(
            "poisson", 1, lambda k, mu: xlogy(k, mu) - gammaln(k + 1.0) - mu, discrete=True
        ),
        Distribution(
            "bernoulli", 1, lambda k, p: xlogy(k, p) + xlog1py(1.0 - k, -p), discrete=True
        ),
        Distribution(
            *("binom", 2, lambda k, n, p: _choices(n, k) + xlogy(k, p) + xlog1py(n - k, -p)),
            discrete=True,
        ),
        Distribution(
            *("nbinom", 2),
            lambda k, n, p: (
                gammaln(n + k * 1.0)
                - gammaln(k + 1.0)
                - gammaln(n * 1.0)
                + xlogy(n, p)
                + xlog1py(k, -p)
            ),
            discrete=True,
        ),
    )
}
