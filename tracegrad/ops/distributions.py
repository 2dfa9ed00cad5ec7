"""Distributions of `scipy.stats` at traced arrays: densities, probabilities, their logarithms.

    norm.logpdf(x, mu, s)   is   -((x - mu) / s)**2 / 2 - log(s) - log(2*pi) / 2

A continuous one is given by its density in standard form, `log p(z)`, with `z = (x - loc) / scale`:
`logpdf(x) = log p(z) - log(scale)`. Formulas: Johnson, Kotz, Balakrishnan, Continuous Univariate
Distributions; the parameters are SciPy's. Derivatives follow from the formulas, in all parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.errors import UnsupportedError
from tracegrad.ops.op import PUBLIC, as_operand

Formula = Callable[..., Any]


def _of(name: str) -> Formula:
    return lambda *args: PUBLIC[name](*args)


log, log1p, exp, expm1, arctan, tan, gammaln, betaln, xlogy, xlog1py, where = map(
    _of,
    (
        *("log", "log1p", "exp", "expm1", "arctan", "tan", "gammaln", "betaln"),
        *("xlogy", "xlog1py", "where"),
    ),
)
ndtr, ndtri, log_ndtr, sigmoid, logit, gammainc, gammaincc, gammaincinv = map(
    _of,
    (
        *("ndtr", "ndtri", "log_ndtr", "sigmoid", "logit"),
        *("gammainc", "gammaincc", "gammaincinv"),
    ),
)
betainc, betaincc, betaincinv, stdtr, stdtrit, fdtr, fdtrc, fdtri = map(
    _of,
    ("betainc", "betaincc", "betaincinv", "stdtr", "stdtrit", "fdtr", "fdtrc", "fdtri"),
)
pdtr, pdtrc, bdtr, bdtrc = map(_of, ("pdtr", "pdtrc", "bdtr", "bdtrc"))


@dataclass(frozen=True)
class Distribution:
    """`logarithm(z, *shapes)` of the density or the probability; `below(z, *shapes)` of what lies
    up to `z`, its logarithm and what lies `above`, where there is a formula for them; `inverse(q,
    *shapes)` of `below`. `valid(*shapes)`: whether there is such a distribution; all is NaN if not.
    """

    name: str
    shapes: int
    logarithm: Formula
    below: Formula | None = None
    log_below: Formula | None = None
    discrete: bool = False
    above: Formula | None = None
    inverse: Formula | None = None
    valid: Formula = lambda *shapes: _all(shape > 0 for shape in shapes)

    def logpdf(self, x: Any, *shapes: Any, loc: Any = 0, scale: Any = 1) -> Any:
        z = _if(self.valid(*shapes), (as_operand(x) - loc) / scale)
        return self.logarithm(z, *shapes) - log(as_operand(scale) * 1.0)

    def pdf(self, x: Any, *shapes: Any, loc: Any = 0, scale: Any = 1) -> Any:
        return exp(self.logpdf(x, *shapes, loc=loc, scale=scale))

    def logpmf(self, k: Any, *shapes: Any, loc: Any = 0) -> Any:
        return self.logarithm(_if(self.valid(*shapes), as_operand(k) - loc), *shapes)

    def pmf(self, k: Any, *shapes: Any, loc: Any = 0) -> Any:
        return exp(self.logpmf(k, *shapes, loc=loc))

    def cdf(self, x: Any, *shapes: Any, loc: Any = 0, scale: Any = 1) -> Any:
        return self._has(self.below, "cdf")(self._valid(x, loc, scale, shapes), *shapes)

    def ppf(self, q: Any, *shapes: Any, loc: Any = 0, scale: Any = 1) -> Any:
        q = as_operand(q) * 1.0
        valid = _all((self.valid(*shapes), scale > 0, q >= 0, q <= 1))
        return self._has(self.inverse, "ppf")(_if(valid, q), *shapes) * scale + loc

    def sf(self, x: Any, *shapes: Any, loc: Any = 0, scale: Any = 1) -> Any:
        if self.above is not None:
            return self.above(self._valid(x, loc, scale, shapes), *shapes)
        if self.name in SYMMETRIC:
            return self._has(self.below, "sf")(-self._valid(x, loc, scale, shapes), *shapes)
        return 1 - self.cdf(x, *shapes, loc=loc, scale=scale)

    def logcdf(self, x: Any, *shapes: Any, loc: Any = 0, scale: Any = 1) -> Any:
        if self.log_below is not None:
            return self.log_below(self._valid(x, loc, scale, shapes), *shapes)
        return log(self.cdf(x, *shapes, loc=loc, scale=scale))

    def logsf(self, x: Any, *shapes: Any, loc: Any = 0, scale: Any = 1) -> Any:
        if self.log_below is not None and self.name in SYMMETRIC:
            return self.log_below(-self._valid(x, loc, scale, shapes), *shapes)
        return log(self.sf(x, *shapes, loc=loc, scale=scale))

    def _valid(self, x: Any, loc: Any, scale: Any, shapes: tuple[Any, ...]) -> Any:
        """`x` as a number of the standard distribution; NaN where there is none."""
        z = (as_operand(x) - loc) / scale
        if self.discrete:
            z = PUBLIC["stop_gradient"](PUBLIC["floor"](z))
        return _if(_all((self.valid(*shapes), scale > 0)), z)

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
    False: ("pdf", "logpdf", "cdf", "logcdf", "sf", "logsf", "ppf"),
    True: ("pmf", "logpmf", "cdf", "logcdf", "sf", "logsf"),
}
"""What is there of continuous distributions, and of discrete ones."""
SYMMETRIC = ("norm", "laplace", "cauchy", "logistic", "t")
_NAMED = {
    "t": ("df",),
    "gamma": ("a",),
    "beta": ("a", "b"),
    "lognorm": ("s",),
    "chi2": ("df",),
    "f": ("dfn", "dfd"),
    "poisson": ("mu",),
    "bernoulli": ("p",),
    "binom": ("n", "p"),
    "nbinom": ("n", "p"),
}
NEVER = -np.inf


def _all(conditions: Iterable[Any]) -> Any:
    """Whether all hold; those that are known need no code."""
    found: Any = True
    for condition in conditions:
        if isinstance(condition, bool | np.bool_):
            found = found if condition else False
        elif found is not False:
            found = condition if found is True else found & condition
    return found


def _if(condition: Any, z: Any) -> Any:
    """`z` where the condition holds, else NaN."""
    return z if condition is True else where(condition, z, np.nan)


def _within(outside: Any, z: Any, inside: Formula, safe: float) -> Any:
    """log(0) outside, where derivatives are 0, else `inside(z)`; a NaN is not outside."""
    return where(outside, NEVER, inside(where(outside, safe, z)))


def _at_counts(inside: Formula, most: Formula = lambda *shapes: np.inf) -> Formula:
    """`inside(k, *shapes)` at 0, 1, ..., `most`; else log(0)."""

    def logarithm(k: Any, *shapes: Any) -> Any:
        k = as_operand(k) * 1.0
        outside = (k < 0) | (k > PUBLIC["floor"](k)) | (k > most(*shapes)) | (k == np.inf)
        return _within(outside, k, lambda k: inside(k, *shapes), 0.0)

    return logarithm


def _choices(n: Any, k: Any) -> Any:
    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)


def _t(z: Any, df: Any) -> Any:
    df = as_operand(df) * 1.0
    front = gammaln((df + 1) / 2) - gammaln(df / 2) - log(df * math.pi) / 2
    return front - (df + 1) / 2 * log1p(z**2 / df)


def _gamma(z: Any, a: Any) -> Any:
    return _within(z < 0, z, lambda z: xlogy(a - 1.0, z) - z - gammaln(as_operand(a) * 1.0), 1.0)


def _beta(z: Any, a: Any, b: Any) -> Any:
    def inside(z: Any) -> Any:
        return xlogy(a - 1.0, z) + xlog1py(b - 1.0, -z) - betaln(a, b)

    return _within((z < 0) | (z > 1), z, inside, 0.5)


def _lognorm(z: Any, s: Any) -> Any:
    def inside(z: Any) -> Any:
        return _norm(log(z) / s) - log(as_operand(s) * z)

    return _within(z <= 0, z, inside, 1.0)


def _norm(z: Any) -> Any:
    return -(z**2) / 2 - math.log(2 * math.pi) / 2


def _logistic(z: Any) -> Any:
    return -abs(z) - 2 * log1p(exp(-abs(z)))


def _chi2(z: Any, df: Any) -> Any:
    return _gamma(z / 2, df / 2) - math.log(2)


def _f(z: Any, dfn: Any, dfd: Any) -> Any:
    n, d = as_operand(dfn) * 1.0, as_operand(dfd) * 1.0
    front = xlogy(n / 2, n) + xlogy(d / 2, d) - betaln(n / 2, d / 2)

    def inside(z: Any) -> Any:
        return front + xlogy(n / 2 - 1, z) - (n + d) / 2 * log(d + n * z)

    return _within(z < 0, z, inside, 1.0)


def _from_zero(inside: Formula, outside: float) -> Formula:
    """`inside(z, *shapes)` of positive numbers, `outside` of the others; a NaN is neither."""

    def below(z: Any, *shapes: Any) -> Any:
        out = z <= 0
        return where(out, outside, inside(where(out, 1.0, z), *shapes))

    return below


def _unit(z: Any) -> Any:
    return PUBLIC["clip"](z, 0.0, 1.0)


def _laplace_below(z: Any) -> Any:
    half = exp(-abs(z)) / 2
    return where(z < 0, half, 1 - half)


def _laplace_inverse(q: Any) -> Any:
    low = q < 0.5
    return where(low, log(2 * where(low, q, 0.25)), -log(2 * (1 - where(low, 0.5, q))))


def _cauchy_inverse(q: Any) -> Any:
    low = q < 0.5
    cotangent = 1 / tan(math.pi * where(low, q, 1 - q))
    return where(low, -cotangent, cotangent)


def _t_inverse(q: Any, df: Any) -> Any:
    return where(q <= 0, -np.inf, stdtrit(df, where(q <= 0, 0.5, q)))


def _counted(inside: Formula, outside: float) -> Formula:
    """`inside(k, *shapes)` of counts, `outside` of negative ones."""

    def below(k: Any, *shapes: Any) -> Any:
        out = k < 0
        return where(out, outside, _if(k == k, inside(where(out, 0.0, k), *shapes)))

    return below


def _binom_below(k: Any, n: Any, p: Any) -> Any:
    full = k >= n
    return where(full, 1.0, bdtr(where(full, 0.0, k), n, p))


def _binom_above(k: Any, n: Any, p: Any) -> Any:
    full = k >= n
    return where(full, 0.0, bdtrc(where(full, 0.0, k), n, p))


DISTRIBUTIONS = {
    found.name: found
    for found in (
        Distribution("norm", 0, _norm, ndtr, log_ndtr, inverse=ndtri),
        Distribution(
            *("uniform", 0, lambda z: where((z < 0) | (z > 1), NEVER, 0.0 * z), _unit),
            inverse=lambda q: q * 1.0,
        ),
        Distribution(
            *("expon", 0, lambda z: where(z < 0, NEVER, -z)),
            _from_zero(lambda z: -expm1(-z), 0.0),
            above=_from_zero(lambda z: exp(-z), 1.0),
            inverse=lambda q: -log1p(-q),
        ),
        Distribution(
            *("laplace", 0, lambda z: -abs(z) - math.log(2), _laplace_below),
            inverse=_laplace_inverse,
        ),
        Distribution(
            *("cauchy", 0, lambda z: -log1p(z**2) - math.log(math.pi)),
            lambda z: 0.5 + arctan(z) / math.pi,
            inverse=_cauchy_inverse,
        ),
        Distribution(
            *("logistic", 0, _logistic, sigmoid, lambda z: PUBLIC["log_sigmoid"](z)),
            inverse=logit,
        ),
        Distribution(*("t", 1, _t, lambda z, df: stdtr(df, z)), inverse=_t_inverse),
        Distribution(
            *("gamma", 1, _gamma, _from_zero(lambda z, a: gammainc(a, z), 0.0)),
            above=_from_zero(lambda z, a: gammaincc(a, z), 1.0),
            inverse=lambda q, a: gammaincinv(a, q),
        ),
        Distribution(
            *("chi2", 1, _chi2, _from_zero(lambda z, df: gammainc(df / 2, z / 2), 0.0)),
            above=_from_zero(lambda z, df: gammaincc(df / 2, z / 2), 1.0),
            inverse=lambda q, df: 2 * gammaincinv(df / 2, q),
        ),
        Distribution(
            *("f", 2, _f, _from_zero(lambda z, n, d: fdtr(n, d, z), 0.0)),
            above=_from_zero(lambda z, n, d: fdtrc(n, d, z), 1.0),
            inverse=lambda q, n, d: fdtri(n, d, q),
        ),
        Distribution(
            *("beta", 2, _beta, lambda z, a, b: betainc(a, b, _unit(z))),
            above=lambda z, a, b: betaincc(a, b, _unit(z)),
            inverse=lambda q, a, b: betaincinv(a, b, q),
        ),
        Distribution(
            *("lognorm", 1, _lognorm, _from_zero(lambda z, s: ndtr(log(z) / s), 0.0)),
            above=_from_zero(lambda z, s: ndtr(-log(z) / s), 1.0),
            inverse=lambda q, s: exp(s * ndtri(q)),
        ),
        Distribution(
            *("poisson", 1, _at_counts(lambda k, mu: xlogy(k, mu) - gammaln(k + 1.0) - mu)),
            valid=lambda mu: mu >= 0,
            below=_counted(pdtr, 0.0),
            above=_counted(pdtrc, 1.0),
            discrete=True,
        ),
        Distribution(
            *("bernoulli", 1),
            _at_counts(lambda k, p: xlogy(k, p) + xlog1py(1.0 - k, -p), lambda p: 1),
            valid=lambda p: _all((p >= 0, p <= 1)),
            below=_counted(lambda k, p: where(k < 1, 1 - p, 1.0), 0.0),
            above=_counted(lambda k, p: where(k < 1, p, 0.0), 1.0),
            discrete=True,
        ),
        Distribution(
            *("binom", 2),
            _at_counts(
                lambda k, n, p: _choices(n, k) + xlogy(k, p) + xlog1py(n - k, -p), lambda n, p: n
            ),
            valid=lambda n, p: _all((n >= 0, n == n // 1, p >= 0, p <= 1)),
            below=_counted(_binom_below, 0.0),
            above=_counted(_binom_above, 1.0),
            discrete=True,
        ),
        Distribution(
            *("nbinom", 2),
            _at_counts(
                lambda k, n, p: (
                    gammaln(n + k)
                    - gammaln(k + 1)
                    - gammaln(n * 1.0)
                    + xlogy(n, p)
                    + xlog1py(k, -p)
                )
            ),
            valid=lambda n, p: _all((n > 0, p > 0, p <= 1)),
            below=_counted(lambda k, n, p: betainc(n, k + 1, p), 0.0),
            above=_counted(lambda k, n, p: betaincc(n, k + 1, p), 1.0),
            discrete=True,
        ),
    )
}
