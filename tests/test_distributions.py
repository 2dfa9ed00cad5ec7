"""Distributions of `scipy.stats` in traced functions: SciPy's numbers, with derivatives."""

import numpy as np
import pytest
import scipy.stats
from scipy.stats import norm

import tracegrad as tg

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
}
DISCRETE = {"poisson": (2.1,), "bernoulli": (0.3,), "binom": (5.0, 0.4), "nbinom": (3.0, 0.6)}
WITH_CDF = ("norm", "cauchy", "logistic")


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


@pytest.mark.parametrize("name", WITH_CDF)
@pytest.mark.parametrize("method", ["cdf", "logcdf", "sf", "logsf"])
def test_probabilities_up_to_a_number(name, method):
    distribution = getattr(scipy.stats, name)

    def below(x, loc, scale):
        return getattr(distribution, method)(x, loc=loc, scale=scale)

    np.testing.assert_allclose(tg.trace(below)(X, 0.1, 1.2), below(X, 0.1, 1.2), rtol=1e-12)
    tg.testing.check_grads(below, (X, 0.1, 1.2), order=1)


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


def test_what_is_missing_says_so():
    with pytest.raises(tg.errors.UnsupportedError, match=r"scipy.stats.t.cdf is not supported"):
        tg.trace(lambda x: scipy.stats.t.cdf(x, 3.0))(X)
    with pytest.raises(TypeError, match="wrong number of parameters"):
        tg.trace(lambda x: scipy.stats.t.logpdf(x))(X)
