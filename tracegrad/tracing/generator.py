"""The traced generator: what a traced function sees in place of a `numpy.random.Generator`.

    rng.normal(m, s, size=3)      ->      z = draw(state of rng);  m + s * z

Its methods draw the numbers that NumPy draws, in the same order, when the compiled code runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracegrad.errors import ShapeError, TraceError, UnsupportedError
from tracegrad.ir.dims import Size, must_be_same, product
from tracegrad.ir.graph import Node
from tracegrad.ops.barrier import FIXED
from tracegrad.ops.broadcast import broadcast_shapes
from tracegrad.ops.constant import astype
from tracegrad.ops.draw import AFTER, DRAW
from tracegrad.ops.op import PUBLIC, SizeValue, as_operand, bind, type_of
from tracegrad.ops.reduction import broadcast_to
from tracegrad.ops.shape import as_shape, as_size, normal_axis
from tracegrad.tracing.array import Traced
from tracegrad.tracing.size import sized
from tracegrad.tracing.trace import Trace, current_trace

FLOAT, INT = np.dtype(np.float64), np.dtype(np.int64)
Check = tuple[Any, str, str]
"""A boolean that must hold, the error, the message."""
LARGEST_MEAN = 9.223372006484771e18
"""NumPy's limit for `poisson`."""
LARGEST_URN = 1_000_000_000
TOO_MANY = "both ngood and nbad must be less than 1000000000"
INDEFINITE = "covariance is not symmetric positive-semidefinite."
NO_DERIVATIVE = (
    "draws of rng.multivariate_normal have no derivative with respect to cov by method={!r}, whose "
    "factor is not unique: use method='cholesky'"
)


def not_negative(value: Any, name: str) -> Check:
    return PUBLIC["logical_not"](PUBLIC["any"](value < 0)), "ValueError", f"{name} < 0"


def at_least(value: Any, limit: float, message: str) -> Check:
    return PUBLIC["all"](value >= limit), "ValueError", message


def above(value: Any, limit: float, message: str) -> Check:
    return PUBLIC["all"](value > limit), "ValueError", message


def at_most(value: Any, limit: float, message: str) -> Check:
    return PUBLIC["all"](value <= limit), "ValueError", message


def _spread(shape: tuple[Size, ...], *params: Any) -> list[Any]:
    """One of each parameter for each element; numbers are the same for all."""
    return [broadcast_to(p, shape) if type_of(p).rank else p for p in params]


def _chances(p: Any) -> list[Check]:
    """`p` holds the probabilities of all there is."""
    off = PUBLIC["abs"](PUBLIC["sum"](p) - 1.0)
    return [
        at_least(p, 0, "Probabilities are not non-negative"),
        at_most(off, 1.5e-8, "Probabilities do not sum to 1."),
    ]


def probability(p: Any, name: str = "p") -> tuple[Check, ...]:
    message = f"{name} < 0, {name} > 1 or {name} is NaN"
    return at_least(p, 0, message), at_most(p, 1, message)


def positive_probability(p: Any, name: str = "p") -> tuple[Check, ...]:
    message = f"{name} <= 0, {name} > 1 or {name} contains NaNs"
    return above(p, 0, message), at_most(p, 1, message)


class TracedGenerator:
    """A generator in a function being traced."""

    def __init__(self, trace: Trace, generator: str) -> None:
        self._trace, self._generator = trace, generator

    def __repr__(self) -> str:
        return f"<traced generator {self._generator}>"

    def random(self, size: Any = None, dtype: Any = FLOAT, out: Any = None) -> Any:
        """Numbers in [0, 1)."""
        return self._plain("random", size, dtype, out)

    def standard_normal(self, size: Any = None, dtype: Any = FLOAT, out: Any = None) -> Any:
        return self._plain("standard_normal", size, dtype, out)

    def standard_exponential(
        self, size: Any = None, dtype: Any = FLOAT, method: str = "zig", out: Any = None
    ) -> Any:
        if method not in ("zig", "inv"):
            raise ValueError(f"standard_exponential: method={method!r} is not 'zig' or 'inv'")
        suffix = "_inv" if method == "inv" else ""
        return self._plain(f"standard_exponential{suffix}", size, dtype, out)

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        loc, scale = _float(loc), _float(scale)
        shape = _shape(size, loc, scale)
        z = self._draw("standard_normal", shape, FLOAT, (), [not_negative(scale, "scale")])
        return loc + scale * z

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        low, high = _float(low), _float(high)
        span = high - low
        finite = PUBLIC["all"](PUBLIC["isfinite"](span))
        checks = [
            (finite, "OverflowError", "high - low range exceeds valid bounds"),
            at_least(span, 0, "high < low"),
        ]
        u = self._draw("random", _shape(size, low, high), FLOAT, (), checks)
        return low + span * u

    def exponential(self, scale: Any = 1.0, size: Any = None) -> Any:
        scale = _float(scale)
        shape, checks = _shape(size, scale), [not_negative(scale, "scale")]
        return scale * self._draw("standard_exponential", shape, FLOAT, (), checks)

    def standard_gamma(
        self, shape: Any, size: Any = None, dtype: Any = FLOAT, out: Any = None
    ) -> Any:
        if np.dtype(dtype) != FLOAT or out is not None:
            raise UnsupportedError("rng.standard_gamma: dtype and out are not supported")
        return self._elements("standard_gamma", size, _checked(at_least, shape, 0, "shape < 0"))

    def gamma(self, shape: Any, scale: Any = 1.0, size: Any = None) -> Any:
        shape, scale = _float(shape), _float(scale)
        checks = (at_least(shape, 0, "shape < 0"), not_negative(scale, "scale"))
        extent = _shape(size, shape, scale)
        return scale * self._draw("standard_gamma", extent, FLOAT, _spread(extent, shape), checks)

    def beta(self, a: Any, b: Any, size: Any = None) -> Any:
        first, second = _checked(above, a, 0, "a <= 0"), _checked(above, b, 0, "b <= 0")
        return self._elements("beta", size, first, second)

    def chisquare(self, df: Any, size: Any = None) -> Any:
        return self._elements("chisquare", size, _checked(above, df, 0, "df <= 0"))

    def f(self, dfnum: Any, dfden: Any, size: Any = None) -> Any:
        first = _checked(above, dfnum, 0, "dfnum <= 0")
        return self._elements("f", size, first, _checked(above, dfden, 0, "dfden <= 0"))

    def noncentral_chisquare(self, df: Any, nonc: Any, size: Any = None) -> Any:
        first, second = _checked(above, df, 0, "df <= 0"), _checked(at_least, nonc, 0, "nonc < 0")
        return self._elements("noncentral_chisquare", size, first, second)

    def noncentral_f(self, dfnum: Any, dfden: Any, nonc: Any, size: Any = None) -> Any:
        first = _checked(above, dfnum, 0, "dfnum <= 0")
        second = _checked(above, dfden, 0, "dfden <= 0")
        third = _checked(at_least, nonc, 0, "nonc < 0")
        return self._elements("noncentral_f", size, first, second, third)

    def standard_cauchy(self, size: Any = None) -> Any:
        return self._draw("standard_cauchy", _shape(size), FLOAT)

    def standard_t(self, df: Any, size: Any = None) -> Any:
        return self._elements("standard_t", size, _checked(above, df, 0, "df <= 0"))

    def pareto(self, a: Any, size: Any = None) -> Any:
        return self._elements("pareto", size, _checked(above, a, 0, "a <= 0"))

    def weibull(self, a: Any, size: Any = None) -> Any:
        return self._elements("weibull", size, _checked(at_least, a, 0, "a < 0"))

    def power(self, a: Any, size: Any = None) -> Any:
        return self._elements("power", size, _checked(above, a, 0, "a <= 0"))

    def laplace(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        return self._located("laplace", loc, scale, size)

    def gumbel(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        return self._located("gumbel", loc, scale, size)

    def logistic(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        return self._located("logistic", loc, scale, size)

    def lognormal(self, mean: Any = 0.0, sigma: Any = 1.0, size: Any = None) -> Any:
        return self._located("lognormal", mean, sigma, size, "sigma")

    def rayleigh(self, scale: Any = 1.0, size: Any = None) -> Any:
        return self._elements("rayleigh", size, _checked(at_least, scale, 0, "scale < 0"))

    def wald(self, mean: Any, scale: Any, size: Any = None) -> Any:
        first = _checked(above, mean, 0, "mean <= 0")
        return self._elements("wald", size, first, _checked(above, scale, 0, "scale <= 0"))

    def vonmises(self, mu: Any, kappa: Any, size: Any = None) -> Any:
        return self._elements(
            "vonmises", size, (_float(mu), ()), _checked(at_least, kappa, 0, "kappa < 0")
        )

    def triangular(self, left: Any, mode: Any, right: Any, size: Any = None) -> Any:
        left, mode, right = _float(left), _float(mode), _float(right)
        checks = (
            at_least(mode - left, 0, "left > mode"),
            at_least(right - mode, 0, "mode > right"),
            above(right - left, 0, "left == right"),
        )
        return self._elements("triangular", size, (left, checks), (mode, ()), (right, ()))

    def poisson(self, lam: Any = 1.0, size: Any = None) -> Any:
        lam = _float(lam)
        checks = (
            at_least(lam, 0, "lam < 0 or lam is NaN"),
            at_most(lam, LARGEST_MEAN, "lam value too large"),
        )
        return self._elements("poisson", size, (lam, checks), dtype=INT)

    def geometric(self, p: Any, size: Any = None) -> Any:
        p = _float(p)
        return self._elements("geometric", size, (p, positive_probability(p)), dtype=INT)

    def negative_binomial(self, n: Any, p: Any, size: Any = None) -> Any:
        first, p = _checked(above, n, 0, "n <= 0 or n is NaN"), _float(p)
        largest = at_most((1.0 - p) / p * first[0], LARGEST_MEAN, "n too large or p too small")
        second = (p, (*positive_probability(p), largest))
        return self._elements("negative_binomial", size, first, second, dtype=INT)

    def logseries(self, p: Any, size: Any = None) -> Any:
        p, message = _float(p), "p < 0, p >= 1 or p is NaN"
        below = (PUBLIC["all"](p < 1), "ValueError", message)
        return self._elements("logseries", size, (p, (at_least(p, 0, message), below)), dtype=INT)

    def zipf(self, a: Any, size: Any = None) -> Any:
        return self._elements("zipf", size, _checked(above, a, 1, "a <= 1 or a is NaN"), dtype=INT)

    def binomial(self, n: Any, p: Any, size: Any = None) -> Any:
        n, p = astype(as_operand(n), INT), _float(p)
        checks = (at_least(n, 0, "n < 0"), *probability(p))
        shape = _shape(size, n, p)
        return self._draw("binomial", shape, INT, _spread(shape, n, p), checks)

    def hypergeometric(self, ngood: Any, nbad: Any, nsample: Any, size: Any = None) -> Any:
        good, bad, sample = (astype(as_operand(x), INT) for x in (ngood, nbad, nsample))
        checks = [
            *(not_negative(x, name) for x, name in ((good, "ngood"), (bad, "nbad"))),
            not_negative(sample, "nsample"),
            *(at_most(x, LARGEST_URN - 1, TOO_MANY) for x in (good, bad)),
            at_least(good + bad - sample, 0, "ngood + nbad < nsample"),
        ]
        shape = _shape(size, good, bad, sample)
        params = _spread(shape, good, bad, sample)
        return self._draw("hypergeometric", shape, INT, params, checks)

    def multivariate_hypergeometric(
        self, colors: Any, nsample: Any, size: Any = None, method: str = "marginals"
    ) -> Any:
        """How many of each colour are among `nsample` balls: int64 of shape (*size, colours)."""
        if method not in ("marginals", "count"):
            raise ValueError('method must be "count" or "marginals".')
        colors, sample = astype(as_operand(colors), INT), _whole(nsample)
        if type_of(colors).rank != 1:
            raise ValueError("colors must be a one-dimensional sequence of nonnegative integers")
        total = PUBLIC["sum"](colors)
        checks = [not_negative(colors, "colors"), not_negative(sample, "nsample")]
        if method == "marginals":
            most = 'When method is "marginals", sum(colors) must be less than 1000000000.'
            checks.append(at_most(total, LARGEST_URN - 1, most))
        checks.append(at_least(total - sample, 0, "nsample > sum(colors)"))
        shape = (*_rows(size), *type_of(colors).shape)
        suffix = "_count" if method == "count" else ""
        params = (colors, sample)
        return self._draw(f"multivariate_hypergeometric{suffix}", shape, INT, params, checks)

    def multinomial(self, n: Any, pvals: Any, size: Any = None) -> Any:
        """How often each of `pvals.shape[-1]` outcomes occurs in `n` trials: int64, along the last
        axis.
        """
        n, p = astype(as_operand(n), INT), _float(pvals)
        if not type_of(p).rank:
            raise ValueError("pvals must be an array of at least one dimension")
        checks = [
            not_negative(n, "n"),
            *probability(p, "pvals"),
            at_most(PUBLIC["sum"](p[..., :-1], axis=-1), 1 + 1e-12, "sum(pvals[:-1]) > 1.0"),
        ]
        wide = type_of(p).shape
        rows = _shape(size, n, p[..., 0])
        if type_of(n).rank:
            n = broadcast_to(n, rows)
        if len(wide) > 1:
            p = broadcast_to(p, (*rows, *wide[-1:]))
        return self._draw("multinomial", (*rows, *wide[-1:]), INT, (n, p), checks)

    def dirichlet(self, alpha: Any, size: Any = None) -> Any:
        """Numbers that add up to 1, along the last axis."""
        alpha = _float(alpha)
        if type_of(alpha).rank != 1:
            raise ValueError("alpha must be a one-dimensional sequence")
        shape = (*_rows(size), *type_of(alpha).shape)
        checks = [at_least(alpha, 0, "alpha < 0")]
        return self._draw("dirichlet", shape, FLOAT, (alpha,), checks)

    def multivariate_normal(
        self,
        mean: Any,
        cov: Any,
        size: Any = None,
        check_valid: str = "warn",
        tol: float = 1e-8,
        *,
        method: str = "svd",
    ) -> Any:
        """`mean + z @ factor.T` with `factor @ factor.T = cov`: f64[*size, d].

        Derivatives by the mean pass through; by `cov` with `method="cholesky"` only, since the
        other factors are not unique. Compiled code gives no warnings: `check_valid="raise"` makes
        what would be one a ValueError.
        """
        mean, cov = _float(mean), _float(cov)
        _check_normal(type_of(mean), type_of(cov), check_valid, method)
        size = _rows(size)
        factor, good = cov_factor(cov, method, tol)
        checks = [(good, "ValueError", INDEFINITE)] if check_valid == "raise" else []
        z = self._draw("standard_normal", (*size, *type_of(mean).shape), FLOAT, (), checks)
        return mean + PUBLIC["matmul"](z, PUBLIC["transpose"](factor))

    def permuted(self, x: Any, axis: Any = None, out: Any = None) -> Any:
        """`x` with each of its lines along `axis` in a random order of its own; None: all
        elements.
        """
        if out is not None:
            raise UnsupportedError("rng.permuted: out= is not supported in traced code")
        x = as_operand(x)
        shape = type_of(x).shape
        if axis is None:
            flat = PUBLIC["reshape"](x, (-1,))
            return PUBLIC["reshape"](self.permutation(flat), shape)
        axis = normal_axis(axis, len(shape))
        lines = (*shape[:axis], *shape[axis + 1 :], shape[axis])
        order = PUBLIC["moveaxis"](
            self._draw("permuted", lines, INT, (_number(shape[axis]),)), -1, axis
        )
        return PUBLIC["take_along_axis"](x, order, axis)

    def integers(
        self,
        low: Any,
        high: Any = None,
        size: Any = None,
        dtype: Any = INT,
        endpoint: bool = False,
    ) -> Any:
        """Whole numbers from `low` (0 if it alone is given) to below `high`."""
        if high is None:
            low, high = 0, low
        dtype = np.dtype(dtype)
        if dtype.kind not in "iub":
            raise TypeError(f"Unsupported dtype {dtype!r} for integers")
        for value in (low, high):
            if type_of(as_operand(value)).rank:
                raise UnsupportedError("rng.integers: low and high have to be numbers, not arrays")
        self._in_range(low, high, dtype, endpoint)
        low, high = _whole(low), _whole(high)
        span = high - low - (0 if endpoint else 1)
        checks = [at_least(span, 0, "low > high" if endpoint else "low >= high")]
        return self._draw("integers", _shape(size), dtype, (low, span), checks)

    def permutation(self, x: Any, axis: int = 0) -> Any:
        """0 ... x-1 in random order, or the items of an array along `axis`."""
        if isinstance(x, int | np.integer | SizeValue):
            return self._order(as_size(x))
        x = as_operand(x)
        if not type_of(x).rank:
            raise UnsupportedError("rng.permutation: x is an int, a size or an array")
        axis = axis % type_of(x).rank
        return PUBLIC["take"](x, self._order(type_of(x).shape[axis]), axis)

    def shuffle(self, x: Any, axis: int = 0) -> None:
        """The items of a traced array in random order, in place."""
        if not isinstance(x, Traced):
            raise UnsupportedError(
                "rng.shuffle: only traced arrays can be shuffled in place: use rng.permutation(x)"
            )
        axis = axis % x.ndim
        x[...] = PUBLIC["take"](x, self._order(x.type.shape[axis]), axis)

    def choice(
        self,
        a: Any,
        size: Any = None,
        replace: bool = True,
        p: Any = None,
        axis: int = 0,
        shuffle: bool = True,
    ) -> Any:
        """Items of `a` along `axis`, or numbers below `a`."""
        items = None if isinstance(a, int | np.integer | SizeValue) else as_operand(a)
        if items is not None and not type_of(items).rank:
            raise ValueError("a must be a sequence or an integer")
        population = as_size(a) if items is None else type_of(items).shape[axis]
        index = self._chosen(population, size, replace, p, shuffle)
        return index if items is None else PUBLIC["take"](items, index, axis)

    def _chosen(self, population: Size, size: Any, replace: bool, p: Any, shuffle: bool) -> Any:
        shape = _shape(size)
        if p is not None:
            p = _float(p)
            if type_of(p).rank != 1:
                raise ValueError("p must be 1-dimensional")
            if not must_be_same(type_of(p).shape[0], population):
                raise ValueError("a and p must have same size")
            return self._weighted(shape, p) if replace else self._different(shape, population, p)
        if replace:
            return self.integers(0, sized(population), tuple(map(sized, shape)))
        return self._different(shape, population, None, shuffle)

    def _different(
        self, shape: tuple[Size, ...], population: Size, p: Any, shuffle: bool = False
    ) -> Any:
        """Numbers below `population`, none of them twice."""
        flat = (product(shape),) if shape else (1,)
        count, wanted = _number(population), _number(flat[0])
        fits = at_least(
            count - wanted, 0, "Cannot take a larger sample than population when replace is False"
        )
        if p is None:
            drawn = self._draw("sample", flat, INT, (count, _number(int(bool(shuffle)))), [fits])
        else:
            few = "Fewer non-zero entries in p than size"
            checks = [*_chances(p), fits, at_least(PUBLIC["sum"](p > 0) - wanted, 0, few)]
            drawn = self._draw("weighted_sample", flat, INT, (p,), checks)
        return PUBLIC["reshape"](drawn, tuple(map(sized, shape)))

    def _weighted(self, shape: tuple[Size, ...], p: Any) -> Any:
        """Where uniform numbers fall among the cumulated probabilities."""
        cumulated = PUBLIC["cumsum"](p)
        cumulated = cumulated / cumulated[-1]
        u = self._draw("random", shape, FLOAT, (), _chances(p))
        return PUBLIC["sum"](cumulated <= PUBLIC["expand_dims"](u, -1), axis=-1)

    def _order(self, size: Size) -> Any:
        return self._draw("permutation", (size,), INT)

    def _in_range(self, low: Any, high: Any, dtype: np.dtype, endpoint: bool) -> None:
        """Raises ValueError for plain bounds outside of the dtype."""
        least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        if isinstance(low, int) and low < least:
            raise ValueError(f"low is out of bounds for {dtype}")
        if isinstance(high, int) and high - (not endpoint) > most:
            raise ValueError(f"high is out of bounds for {dtype}")
        if isinstance(high, int) and high > np.iinfo(INT).max:
            raise UnsupportedError("rng.integers: numbers beyond int64 are not supported")

    def _plain(self, method: str, size: Any, dtype: Any, out: Any) -> Any:
        if out is not None:
            raise UnsupportedError(f"rng.{method}: out= is not supported in traced code")
        kind = np.dtype(dtype)
        if kind.kind != "f" or kind.itemsize not in (4, 8):
            raise TypeError(f"Unsupported dtype {kind!r} for {method}")
        return self._draw(method, _shape(size), kind)

    def _located(self, method: str, loc: Any, scale: Any, size: Any, name: str = "scale") -> Any:
        scale = _checked(at_least, scale, 0, f"{name} < 0")
        return self._elements(method, size, (_float(loc), ()), scale)

    def _elements(
        self,
        method: str,
        size: Any,
        *params: tuple[Any, Sequence[Check]],
        dtype: np.dtype = FLOAT,
    ) -> Any:
        """One draw per element of the broadcast parameters."""
        values = [value for value, _ in params]
        checks = [check for _, own in params for check in own]
        shape = _shape(size, *values)
        return self._draw(method, shape, dtype, _spread(shape, *values), checks)

    def _draw(
        self,
        method: str,
        shape: tuple[Size, ...],
        dtype: np.dtype,
        params: Sequence[Any] = (),
        checks: Sequence[Check] = (),
    ) -> Traced:
        """Record the draw in the present trace, and the state after it."""
        trace = current_trace()
        if trace is None or self._trace.finished:
            raise self._trace.leaked()
        checks = [check for check in checks if not _holds(*check)]
        operands = [_node(trace, x) for x in (*params, *(good for good, _, _ in checks))]
        attrs = {
            "method": method,
            "shape": shape,
            "dtype": np.dtype(dtype),
            "checks": tuple((error, message) for _, error, message in checks),
        }
        state = trace.state(self._generator)
        node = trace.record(DRAW, (state, *operands), attrs)
        trace.advance(
            self._generator, trace.record(AFTER, (state, node), {"generator": self._generator})
        )
        return Traced(trace, node)


def _rows(size: Any) -> tuple[Size, ...]:
    """The shape of what is drawn, apart from the axis that each draw has of its own."""
    return () if size is None else _shape(size)


def _check_normal(mean: Any, cov: Any, check_valid: str, method: str) -> None:
    """NumPy's conditions, with its words."""
    if method not in ("eigh", "svd", "cholesky"):
        raise ValueError("method must be one of {'eigh', 'svd', 'cholesky'}")
    if check_valid not in ("warn", "raise", "ignore"):
        raise ValueError("check_valid must equal 'warn', 'raise', or 'ignore'")
    if mean.rank != 1:
        raise ValueError("mean must be 1 dimensional")
    if cov.rank != 2 or not must_be_same(*cov.shape):
        raise ValueError("cov must be 2 dimensional and square")
    if not must_be_same(mean.shape[0], cov.shape[0]):
        raise ValueError("mean and cov must have same length")


def cov_factor(cov: Any, method: str, tol: float) -> tuple[Any, Any]:
    """A square root of a covariance matrix, as NumPy takes it; whether it is one."""
    if method == "cholesky":
        factor = PUBLIC["linalg.cholesky"](cov)
        again = PUBLIC["matmul"](factor, PUBLIC["transpose"](factor))
        return factor, PUBLIC["allclose"](again, cov, rtol=tol, atol=tol)
    fixed = bind(FIXED, cov, reason=NO_DERIVATIVE.format(method))
    if method == "eigh":
        values, vectors = PUBLIC["linalg.eigh"](fixed)
        good = PUBLIC["all"](values >= -tol)
        values = PUBLIC["abs"](values)
    else:
        vectors, values, other = PUBLIC["linalg.svd"](fixed)
        again = PUBLIC["matmul"](PUBLIC["transpose"](other) * values, other)
        good = PUBLIC["allclose"](again, fixed, rtol=tol, atol=tol)
    return vectors * PUBLIC["sqrt"](values), good


def _holds(good: Any, error: str, message: str) -> bool:
    """Whether a condition on plain numbers holds. Raises its error if it does not."""
    if isinstance(good, Traced):
        return False
    if not good:
        raise (OverflowError if error == "OverflowError" else ValueError)(message)
    return True


def _node(trace: Trace, value: Any) -> Node:
    if isinstance(value, Traced):
        return trace.capture(value._trace, value.node)
    return trace.lift(value)


def _float(value: Any) -> Any:
    """A parameter as NumPy takes it: float64."""
    return astype(as_operand(value), FLOAT)


def _whole(value: Any) -> Any:
    if isinstance(value, SizeValue):
        return _number(value.dim)
    if type_of(value).dtype.kind not in "iub":
        raise TypeError("rng.integers: low and high have to be integers")
    return astype(as_operand(value), INT)


def _number(size: Size) -> Any:
    """An extent as an integer of the program."""
    found = sized(size)
    return np.int64(found) if isinstance(found, int) else found.value


def _checked(test: Callable[..., Check], value: Any, limit: float, message: str) -> Any:
    """A parameter and its condition."""
    value = _float(value)
    return value, (test(value, limit, message),)


def _shape(size: Any, *params: Any) -> tuple[Size, ...]:
    """The shape of a draw: `size`, or that of the broadcast parameters."""
    types = [type_of(p) for p in params]
    if size is None:
        return broadcast_shapes("draw with", *types)
    if isinstance(size, Traced):
        raise TraceError(
            "the size of a draw is computed by the program: use ints or sizes of arrays"
        )
    shape = as_shape(size)
    if any(isinstance(extent, int) and extent < 0 for extent in shape):
        raise ValueError("negative dimensions are not allowed")
    for type in types:
        if type.rank > len(shape):
            raise ShapeError(f"Output size {shape} is not compatible with a parameter of {type}")
    return shape


def _unsupported(name: str) -> Callable[..., Any]:
    def method(self: TracedGenerator, *args: Any, **kwargs: Any) -> Any:
        raise UnsupportedError(
            f"rng.{name} is not supported in traced code: call it before, and pass the result as "
            "an argument"
        )

    return method


for _name in (
    "bytes",
    "spawn",
):
    setattr(TracedGenerator, _name, _unsupported(_name))
