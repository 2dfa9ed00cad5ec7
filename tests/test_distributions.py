"""Distributions of `scipy.stats` in traced functions: SciPy's numbers, with derivatives."""

import itertools

import numpy as np
import pytest
import scipy.stats
from scipy.stats import norm

import tracegrad as tg
from tests.oracle import interpreted
from tracegrad.ops.distributions import DISTRIBUTIONS, METHODS

X = np.array([-1.3, -0.2, 0.3, 0.9, 2.5])
UNIT = np.array([0.1, 0.35, 0.5, 0.8, 0.9])
K = np.array([0.0, 1.0, 2.0, 5.0])

CONTINUOUS = {
    "norm": (X, ()),
    "uniform": (X, ()),
    "expon": (X, ()),
    "laplace": (X, ()),
    "cauchy": (X, ()),
    "logistic": (X, ()),
    "t": (X, (3.5,)),
    "gamma": (X, (2.2,)),
    "beta": (UNIT, (1.5, 2.5)),
    "lognorm": (X, (0.7,)),
    "chi2": (X, (3.2,)),
    "f": (X, (3.5, 4.5)),
}
DISCRETE = {"poisson": (2.1,), "bernoulli": (0.3,), "binom": (5.0, 0.4), "nbinom": (3.0, 0.6)}


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("method", ["logpdf", "pdf"])
def test_densities(name, method):
    x, shapes = CONTINUOUS[name]

    distribution = getattr(scipy.stats, name)

    def density(x, loc, scale, *shapes):
        return getattr(distribution, method)(x, *shapes, loc, scale)

    arguments = (x, 0.05, 0.9, *shapes)
    np.testing.assert_allclose(
        tg.trace(density)(*arguments), density(*arguments), rtol=1e-12, atol=1e-15
    )
    inside = density(*arguments) > (-np.inf if method == "logpdf" else 0)
    numbers = (x[inside], *arguments[1:])
    tg.testing.check_grads(lambda *args: np.sum(density(*args)), numbers, order=2)


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("method", ["cdf", "logcdf", "sf", "logsf"])
def test_probabilities_up_to_a_number(name, method):
    x, shapes = CONTINUOUS[name]
    distribution = getattr(scipy.stats, name)

    def below(x, loc, scale):
        return getattr(distribution, method)(x, *shapes, loc=loc, scale=scale)

    np.testing.assert_allclose(
        tg.trace(below)(x, 0.03, 1.2), below(x, 0.03, 1.2), rtol=1e-11, atol=1e-15
    )
    inside = np.isfinite(distribution.logpdf(x, *shapes, 0.03, 1.2)) & (below(x, 0.03, 1.2) != 0)
    tg.testing.check_grads(below, (x[inside & (x > 0.05)], 0.03, 1.2), order=1)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_quantiles(name):
    _, shapes = CONTINUOUS[name]
    distribution = getattr(scipy.stats, name)

    def quantile(q, loc, scale):
        return distribution.ppf(q, *shapes, loc=loc, scale=scale)

    np.testing.assert_allclose(
        tg.trace(quantile)(UNIT, 0.1, 1.2), quantile(UNIT, 0.1, 1.2), rtol=1e-11, atol=1e-15
    )
    smooth = UNIT[UNIT != 0.5]  # where the second derivative of laplace's jumps
    tg.testing.check_grads(quantile, (smooth, 0.1, 1.2), order=1)


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("method", ["cdf", "sf", "logcdf", "logsf"])
def test_counts_up_to_a_number(name, method):
    k, shapes = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 4.7, 5.0, 8.0]), DISCRETE[name]
    distribution = getattr(scipy.stats, name)

    def below(k, *shapes):
        return getattr(distribution, method)(k, *shapes)

    traced = tg.trace(below)
    with np.errstate(divide="ignore"):
        want = below(k, *shapes)
    np.testing.assert_allclose(traced(k, *shapes), want, rtol=1e-11, atol=1e-15)
    if method in ("cdf", "sf"):
        constant = shapes[:-1]
        tg.testing.check_grads(
            lambda p: getattr(distribution, method)(k, *constant, p), (shapes[-1],), order=1
        )
        found = tg.grad(lambda k: np.sum(getattr(distribution, method)(k, *shapes)))(k)
        np.testing.assert_array_equal(found, 0.0)


def test_a_shape_without_a_derivative():
    with pytest.raises(tg.NotDifferentiableError, match="with respect to a has no formula"):
        tg.grad(lambda a: scipy.stats.gamma.cdf(1.5, a))(2.0)


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("method", ["logpmf", "pmf"])
def test_probabilities(name, method):
    k, shapes = np.array([0.0, 1.0]) if name == "bernoulli" else K, DISCRETE[name]

    distribution = getattr(scipy.stats, name)

    def mass(*shapes):
        return getattr(distribution, method)(k, *shapes)

    np.testing.assert_allclose(tg.trace(mass)(*shapes), mass(*shapes), rtol=1e-12)
    number = len(shapes) - 1
    order = 1 if name == "bernoulli" else 2  # it is linear in p
    tg.testing.check_grads(lambda p: mass(*shapes[:number], p), (shapes[-1],), order=order)


PRIOR = norm(0.5, scale=2.0)


@pytest.mark.parametrize(
    "program",
    [
        lambda x: norm.logpdf(x).sum(),
        lambda x: norm(x[0], 1.5).logpdf(x).sum(),
        lambda x: PRIOR.logpdf(x).sum() + PRIOR.mean() + norm.ppf(0.9),
        lambda x: scipy.stats.t.logpdf(x, df=4.0, scale=2.0).sum(),
        lambda x: np.sum(x) * norm.pdf(1.0),
    ],
)
def test_ways_to_say_it(program):
    np.testing.assert_allclose(tg.trace(program)(X), program(X), rtol=1e-12)
    tg.testing.check_grads(program, (X,), order=1)


def test_outside_of_the_support_the_logarithm_has_no_slope():
    value, gradient = tg.value_and_grad(lambda x: scipy.stats.gamma.logpdf(x, 2.0))(-1.0)
    assert value == -np.inf and gradient == 0


def test_missing_parameters():
    with pytest.raises(TypeError, match="wrong number of parameters"):
        tg.trace(lambda x: scipy.stats.t.logpdf(x))(X)


EDGES = np.array([-np.inf, -2, -0.5, -0.0, 0, 0.25, 0.5, 1, 1.5, 2, 3, 5, 6, 40, np.inf, np.nan])
CHANCES = np.array([-0.5, 0.0, 1e-9, 0.25, 0.5, 0.75, 1.0, 1.5, np.nan])
SHAPES: dict[str, list[tuple[float, ...]]] = {
    "t": [(3.0,), (0.5,), (-1.0,)],
    "gamma": [(2.0,), (0.5,), (-1.0,)],
    "beta": [(2.0, 3.0), (0.5, 0.5), (-1.0, 2.0)],
    "chi2": [(3.0,), (-1.0,)],
    "f": [(3.0, 4.0), (-1.0, 2.0)],
    "lognorm": [(0.7,), (-1.0,)],
    "poisson": [(2.5,), (0.0,), (-1.0,)],
    "bernoulli": [(0.3,), (0.0,), (1.5,)],
    "binom": [(5, 0.3), (5, 0.0), (5, 1.0), (5, 1.5), (0, 0.5)],
    "nbinom": [(4, 0.3), (4, 1.0), (4, 0.0), (2.5, 0.3)],
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_edges_and_parameters_of_no_distribution(name):
    """NaN in, NaN out; nothing outside of the support; NaN where there is no such distribution."""
    discrete = DISTRIBUTIONS[name].discrete
    places = [(0,), (1,)] if discrete else [(0.5, scale) for scale in (2.0, 0.0, -1.0)]
    for method, shapes in itertools.product(METHODS[discrete], SHAPES.get(name, [()])):
        for place in places:
            check_edges(name, method, (*shapes, *place))


def check_edges(name, method, parameters):
    distribution = getattr(scipy.stats, name)

    def theirs(x, *parameters):
        return getattr(distribution, method)(x, *parameters)

    x = CHANCES if method == "ppf" else EDGES
    wanted = theirs(x, *parameters)
    (fixed,) = interpreted(lambda x: theirs(x, *parameters), x)
    (free,) = interpreted(theirs, x, *parameters)
    sane = np.full(x.shape, True)
    if DISTRIBUTIONS[name].discrete:
        sane = ~np.isinf(x)  # SciPy says NaN or 0
        if method == "logcdf" and np.isnan(wanted).any():
            sane &= wanted != 0  # log(1) beyond the support, whatever the parameters
    for found in (fixed, free):
        np.testing.assert_allclose(
            found[sane], wanted[sane], rtol=1e-9, atol=1e-15, err_msg=f"{method} {parameters}"
        )
