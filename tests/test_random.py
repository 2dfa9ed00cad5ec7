"""Draws in traced code: NumPy's numbers bit for bit, in order, through every transformation."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest

import tracegrad as tg

X = np.array([0.5, -1.0, 2.0, 0.25])
BITS = (np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64)


def same(f, *args, seed=3, bits=np.random.PCG64, traced=None):
    """`f(rng, *args)` eagerly and traced: the same results and the same state afterwards."""
    eager, compiled = (np.random.Generator(bits(seed)) for _ in range(2))
    expected = f(eager, *args)
    found = (traced or tg.trace(f))(compiled, *args)
    for a, b in zip(leaves(expected), leaves(found), strict=True):
        assert np.array_equal(a, b), (a, b)
        assert np.asarray(a).dtype == np.asarray(b).dtype
    assert eager.bit_generator.random_raw() == compiled.bit_generator.random_raw()
    return found


def leaves(value):
    if isinstance(value, tuple | list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


COV = np.diag([1.0, 2.0, 0.5, 3.0]) + 0.25

CALLS = {
    "random": lambda r: (r.random(), r.random(3), r.random((2, 3)), r.random(5, dtype=np.float32)),
    "standard_normal": lambda r: (
        r.standard_normal(),
        r.standard_normal((2, 3)),
        r.standard_normal(7, dtype=np.float32),
    ),
    "standard_exponential": lambda r: (
        r.standard_exponential(),
        r.standard_exponential(4, np.float32),
        r.standard_exponential(4, method="inv"),
    ),
    "normal": lambda r: (
        r.normal(),
        r.normal(1.0, 2.0),
        r.normal(X),
        r.normal(0, abs(X), (2, 4)),
        r.normal(size=3),
    ),
    "uniform": lambda r: (r.uniform(), r.uniform(-1, 1, 3), r.uniform(X, X + 1), r.uniform(0, 7)),
    "exponential": lambda r: (r.exponential(), r.exponential(2.0, 3), r.exponential(abs(X))),
    "gamma": lambda r: (r.gamma(2.0), r.gamma(abs(X), 3.0), r.standard_gamma(0.5, 4)),
    "beta": lambda r: (r.beta(2.0, 0.5, 5), r.beta(abs(X), 1.0)),
    "chisquare": lambda r: r.chisquare(3.0, 4),
    "f": lambda r: r.f(3.0, 4.0, 4),
    "noncentral": lambda r: (r.noncentral_chisquare(3.0, 1.0, 4), r.noncentral_f(3.0, 4.0, 1.0, 4)),
    "cauchy": lambda r: (r.standard_cauchy(), r.standard_cauchy(3)),
    "standard_t": lambda r: r.standard_t(4.0, 4),
    "shapes": lambda r: (r.pareto(3.0, 4), r.weibull(2.0, 4), r.power(2.0, 4), r.zipf(2.5, 4)),
    "located": lambda r: (r.laplace(X, 2.0), r.gumbel(1.0, 2.0, 3), r.logistic(1.0, 2.0)),
    "lognormal": lambda r: (r.lognormal(), r.lognormal(X, 0.5), r.rayleigh(2.0, 3)),
    "others": lambda r: (r.wald(1.0, 2.0, 3), r.vonmises(0.5, 2.0, 3), r.triangular(0, 1, 3, 5)),
    "poisson": lambda r: (r.poisson(), r.poisson(4.5, 5), r.poisson(100.0, 3), r.poisson(abs(X))),
    "discrete": lambda r: (
        r.geometric(0.3, 4),
        r.negative_binomial(5.0, 0.4, 4),
        r.logseries(0.4, 4),
    ),
    "binomial": lambda r: (
        r.binomial(10, 0.3),
        r.binomial(1000, 0.8, 5),
        r.binomial(10, abs(X / 4)),
    ),
    "integers": lambda r: (
        r.integers(10),
        r.integers(-5, 5, 7),
        r.integers(0, 1, 3),
        r.integers(0, 9, 3, endpoint=True),
    ),
    "small integers": lambda r: [
        r.integers(0, 2, 5, dtype)
        for dtype in (bool, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.uint64)
    ],
    "permutation": lambda r: (
        r.permutation(5),
        r.permutation(X),
        r.permutation(np.ones((3, 2)), 1),
    ),
    "choice": lambda r: (
        r.choice(5),
        r.choice(5, 3),
        r.choice(X, (2, 3)),
        r.choice(X, 3, p=[0.1, 0.2, 0.3, 0.4]),
        r.choice(100, 10, replace=False),
        r.choice(X, 2, replace=False, shuffle=False),
        r.gamma(np.arange(1.0, 4.0), 2.0, (2, 3)),
        r.binomial(np.arange(3), 0.5, (2, 3)),
        r.choice(X, (2, 2), replace=False, p=[0.1, 0.2, 0.3, 0.4]),
        r.choice(X, 3, replace=False, p=[0.9, 0.05, 0.0, 0.05]),
        r.choice(X, replace=False, p=[0.0, 0.0, 1.0, 0.0]),
    ),
    "multinomial": lambda r: (
        r.multinomial(20, [0.2, 0.3, 0.5]),
        r.multinomial(20, [0.2, 0.8, 0.0], size=(2, 3)),
        r.multinomial(np.array([[3], [20]]), [0.2, 0.3, 0.5], size=(2, 2)),
        r.multinomial(np.array([9, 30]), np.array([[0.2, 0.3, 0.5], [0.9, 0.1, 0]])),
        r.multinomial(0, [0.2, 0.8], size=3),
    ),
    "urns": lambda r: (
        r.hypergeometric(10, 5, 7),
        r.hypergeometric(np.array([10, 200]), 5, np.array([[3], [9]])),
        r.multivariate_hypergeometric([10, 5, 7], 9),
        r.multivariate_hypergeometric([10, 5, 7], 9, size=(3, 2)),
        r.multivariate_hypergeometric([10, 5, 7], 9, size=4, method="count"),
    ),
    "dirichlet": lambda r: (
        r.dirichlet([1.0, 2.0, 3.0]),
        r.dirichlet([1.0, 0.0, 0.03], size=(2, 2)),
        r.dirichlet([0.01, 0.02, 0.03], size=5),
        r.dirichlet([0.01, 0.0, 0.0], 2),
    ),
    "permuted": lambda r: (
        r.permuted(X),
        r.permuted(np.arange(12.0).reshape(3, 4)),
        r.permuted(np.arange(24).reshape(2, 3, 4), axis=1),
        r.permuted(np.arange(24).reshape(2, 3, 4), axis=-1),
    ),
    "multivariate_normal": lambda r: r.multivariate_normal(X, COV, (2, 3), method="cholesky"),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_same_numbers_and_the_same_state(name):
    traced = tg.trace(CALLS[name])
    for bits in BITS[:2] if name != "random" else BITS:
        same(CALLS[name], bits=bits, traced=traced)
    same(CALLS[name], seed=8, traced=traced)


def test_order_and_unused_draws():
    def f(rng, x):
        a = rng.normal(size=x.shape)
        rng.random(3)
        b = [rng.standard_normal(2) for _ in range(3)]
        rng.integers(0, 100)
        return x + a, sum(b)

    traced = tg.trace(f)
    for n in (2, 4):
        same(f, X[:n], traced=traced)
    assert len(traced.versions) == 1
    rng = np.random.default_rng(0)
    expected = f(np.random.default_rng(0), X)
    found = traced.dump(rng, X, which="primal").function()(np.random.default_rng(0), X)
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    assert rng.random() == np.random.default_rng(0).random()  # a dump draws nothing


def test_shuffle():
    def f(rng, x):
        y = x * 2
        rng.shuffle(y)
        return y

    same(f, X)
    same(f, X.reshape(2, 2))


def test_a_generator_in_a_pytree():
    def f(state):
        return state["x"] + state["rng"].normal(size=2)

    eager, compiled = np.random.default_rng(1), np.random.default_rng(1)
    expected = f({"x": X[:2], "rng": eager})
    assert np.array_equal(expected, tg.trace(f)({"x": X[:2], "rng": compiled}))
    assert eager.random() == compiled.random()


def test_two_generators():
    def f(a, b):
        return a.random(2), b.random(2), a.random()

    one = [np.random.default_rng(s) for s in (1, 2)]
    two = [np.random.default_rng(s) for s in (1, 2)]
    for x, y in zip(f(*one), tg.trace(f)(*two), strict=True):
        assert np.array_equal(x, y)
    with pytest.raises(ValueError, match="passed twice"):
        tg.trace(f)(one[0], one[0])


def test_loops_and_branches():
    def walk(rng, x):
        def step(x, _):
            x = x + rng.normal(size=x.shape)
            return x, rng.random()

        x, us = tg.scan(step, x, None, length=5)
        x = tg.fori_loop(0, 3, lambda i, x: x * rng.uniform(), x)
        x = tg.while_loop(lambda x: np.sum(x * x) < 1e3, lambda x: 2 * x + rng.normal(), x)
        y = tg.cond(x[0] > 0, lambda: rng.normal() + x[0], lambda: x[0])
        return x, us, y, rng.random()

    traced = tg.trace(walk)
    for seed in range(4):
        same(walk, X, seed=seed, traced=traced)


def test_long_python_loops():
    def walk(rng, x):
        for _ in range(60):
            x = 0.9 * x + rng.standard_normal(x.shape)
        return x

    same(walk, X)


def test_reparameterised_gradients():
    def loss(params, rng, weights):
        loc, log_scale = params
        z = rng.normal(loc, np.exp(log_scale), (5, 4))
        rng.random()
        u = rng.laplace(loc, np.exp(log_scale)) + rng.gumbel(0.0, np.exp(log_scale))
        e = rng.exponential(np.exp(loc)) + rng.lognormal(loc, 0.5) + rng.weibull(2 + loc**2)
        g = rng.gamma(2.0, np.exp(loc)) * rng.pareto(3 + loc**2) * rng.power(1 + loc**2)
        return np.sum(weights * z**2) + np.sum(u * u) + np.sum(e) + np.sum(np.tanh(g))

    params = (X, 0.3 * X[::-1])
    value_and_grad = tg.value_and_grad(loss)

    def at(loc, log_scale):
        return loss((loc, log_scale), np.random.default_rng(4), X)

    rng = np.random.default_rng(4)
    value, (d_loc, d_scale) = value_and_grad(params, rng, X)
    np.testing.assert_allclose(value, at(*params), rtol=1e-13)
    after = np.random.default_rng(4)
    loss(params, after, X)
    assert rng.random() == after.random()  # drawn once
    step = 1e-6
    for i in range(4):
        e = step * np.eye(4)[i]
        slope = (at(params[0] + e, params[1]) - at(params[0] - e, params[1])) / (2 * step)
        np.testing.assert_allclose(d_loc[i], slope, rtol=1e-6)
        slope = (at(params[0], params[1] + e) - at(params[0], params[1] - e)) / (2 * step)
        np.testing.assert_allclose(d_scale[i], slope, rtol=1e-6)


def dropout(rng, x, rate):
    keep = rng.random(x.shape) >= rate
    return np.where(keep, x / (1 - rate), 0.0)


@pytest.mark.parametrize("method", ["svd", "eigh", "cholesky"])
def test_multivariate_normal(method):
    """NumPy's numbers up to the rounding of its LAPACK; by the mean, and by cov if possible."""

    def draw(mean, cov, rng):
        return rng.multivariate_normal(mean, cov, 3, method=method)

    f, rngs = tg.trace(draw), [np.random.default_rng(4) for _ in range(2)]
    np.testing.assert_allclose(f(X, COV, rngs[0]), draw(X, COV, rngs[1]), rtol=1e-12, atol=1e-12)
    assert rngs[0].random() == rngs[1].random()
    weights = np.arange(12.0).reshape(3, 4)

    def loss(mean, cov):
        return np.sum(weights * draw(mean, cov, np.random.default_rng(4)))

    g = tg.grad(lambda m, c, rng: np.sum(weights * draw(m, c, rng)), argnums=(0, 1))
    if method != "cholesky":
        by_mean = tg.grad(lambda m, rng: np.sum(weights * draw(m, COV, rng)))
        np.testing.assert_allclose(by_mean(X, np.random.default_rng(4)), weights.sum(0))
        return
    d_mean, d_cov = g(X, COV, np.random.default_rng(4))
    np.testing.assert_allclose(d_mean, weights.sum(0))
    change = np.array([[1.0, 0.5, 0.0, 0.2], [0.5, 1, 0, 0], [0, 0, 0.3, 0], [0.2, 0, 0, 1]])
    step = 1e-6
    moved = (loss(X, COV + step * change) - loss(X, COV - step * change)) / (2 * step)
    np.testing.assert_allclose(np.sum(d_cov * change), moved, rtol=1e-8)


def test_dropout_keeps_its_mask():
    def loss(x, rng):
        return np.sum(dropout(rng, np.tanh(x), 0.5) ** 2)

    x = np.linspace(-1, 1, 40)
    keep = np.random.default_rng(5).random(40) >= 0.5
    expected = np.where(keep, 8 * np.tanh(x) * (1 - np.tanh(x) ** 2), 0.0)
    np.testing.assert_allclose(tg.grad(loss)(x, np.random.default_rng(5)), expected, atol=1e-13)
    tensor = tg.tensor(x, requires_grad=True)
    rng = np.random.default_rng(5)
    tg.trace(loss)(tensor, rng).backward()
    np.testing.assert_allclose(tensor.grad.numpy(), expected, atol=1e-13)
    once = np.random.default_rng(5)
    once.random(40)
    assert rng.random() == once.random()


def test_derivatives_through_loops_draw_once():
    def end(a, rng):
        def step(x, _):
            return a * x + rng.normal(0.0, 0.1), x

        x, xs = tg.scan(step, 1.0, None, length=6)
        return x + np.sum(xs)

    def at(a):
        rng, x, total = np.random.default_rng(2), 1.0, 0.0
        for _ in range(6):
            total += x
            x = a * x + rng.normal(0.0, 0.1)
        return x + total

    slope = (at(0.8 + 1e-6) - at(0.8 - 1e-6)) / 2e-6
    last = np.random.default_rng(2)
    last.normal(size=6)

    def forward(a, rng):
        return tg.jvp(lambda a: end(a, rng), (a,), (1.0,))[1]

    for derivative in (tg.grad(end), tg.trace(forward)):
        rng = np.random.default_rng(2)
        np.testing.assert_allclose(derivative(0.8, rng), slope, rtol=1e-7)
        assert rng.bit_generator.state == last.bit_generator.state
    second = (
        tg.grad(end)(0.8 + 1e-5, np.random.default_rng(2))
        - tg.grad(end)(0.8 - 1e-5, np.random.default_rng(2))
    ) / 2e-5
    hessian = tg.grad(lambda a, rng: tg.grad(end)(a, rng))(0.8, np.random.default_rng(2))
    np.testing.assert_allclose(hessian, second, rtol=1e-5)


def test_python_loops_and_branches_of_traced_values():
    @tg.trace(python_control_flow=True)
    def walk(rng, x, n):
        for _ in tg.range(n):
            x = x + rng.normal(size=4)
        if np.sum(x) > 0:
            x = x * rng.random()
        return x, rng.random()

    def plain(rng, x, n):
        for _ in range(n):
            x = x + rng.normal(size=4)
        if np.sum(x) > 0:
            x = x * rng.random()
        return x, rng.random()

    for seed in range(3):
        same(plain, X, np.int64(5), seed=seed, traced=walk)


def test_gradients_of_rolled_loops_draw_once():
    def loss(x, rng):
        for _ in range(60):
            x = 0.99 * x + 0.1 * rng.standard_normal(x.shape)
        return np.sum(x**2)

    rng, other = np.random.default_rng(6), np.random.default_rng(6)
    gradient = tg.grad(loss)(X, rng)
    x = X
    for _ in range(60):
        x = 0.99 * x + 0.1 * other.standard_normal(4)
    np.testing.assert_allclose(gradient, 2 * x * 0.99**60, rtol=1e-12)
    assert rng.bit_generator.state == other.bit_generator.state
    checkpointed = tg.grad(lambda x, rng: tg.checkpoint(lambda x: loss(x, rng))(x))
    np.testing.assert_allclose(checkpointed(X, np.random.default_rng(6)), gradient, rtol=1e-12)


def test_second_derivatives_see_the_same_draws():
    """Forward over reverse, two times forward, and a recorded backward, through loops that draw."""

    def end(a, rng):
        def step(x, _):
            return a * np.sin(x) + rng.normal(0.0, 0.1), x

        x, xs = tg.scan(step, 1.0, None, length=6)
        return x * x + np.sum(xs) * rng.random()

    def tangent(f):
        return lambda a, rng: tg.jvp(lambda a: f(a, rng), (a,), (1.0,))[1]

    expected = tg.grad(lambda a, rng: tg.grad(end)(a, rng))(0.8, np.random.default_rng(2))
    step = 1e-5
    slopes = [tg.grad(end)(0.8 + s, np.random.default_rng(2)) for s in (step, -step)]
    np.testing.assert_allclose(expected, (slopes[0] - slopes[1]) / (2 * step), rtol=1e-7)
    last = np.random.default_rng(2)
    last.normal(size=6), last.random()
    for f in (
        tangent(tg.grad(end)),
        tangent(tangent(end)),
        tg.grad(tangent(end)),
        lambda a, rng: tg.hvp(lambda a: end(a, rng))(a, 1.0),
        lambda a, rng: tangent(tg.grad(end))(a, rng) * 1.0,
    ):
        rng = np.random.default_rng(2)
        np.testing.assert_allclose(tg.trace(f)(0.8, rng), expected, rtol=1e-12)
        assert rng.bit_generator.state == last.bit_generator.state
    rng, a = np.random.default_rng(2), tg.tensor(0.8, requires_grad=True, dtype=np.float64)
    (first,) = tg.autograd.grad(tg.trace(end)(a, rng), [a], create_graph=True)
    assert rng.bit_generator.state == last.bit_generator.state
    first.backward()
    np.testing.assert_allclose(np.asarray(a.grad), expected, rtol=1e-12)
    assert rng.bit_generator.state == last.bit_generator.state


def test_tangents_through_while_loops_and_branches_draw_once():
    def walk(a, rng):
        x = tg.while_loop(lambda x: x < 5, lambda x: x + a * rng.random(), a)
        return tg.cond(x > 0, lambda x: x * rng.normal(), lambda x: x, x) + rng.random()

    def at(a):
        rng, x = np.random.default_rng(4), a
        while x < 5:
            x = x + a * rng.random()
        return x * rng.normal() + rng.random(), rng

    rng = np.random.default_rng(4)
    f = tg.trace(lambda a, rng: tg.jvp(lambda a: walk(a, rng), (a,), (1.0,)))
    value, tangent = f(0.8, rng)
    assert value == at(0.8)[0] and rng.random() == at(0.8)[1].random()
    slope = (at(0.8 + 1e-6)[0] - at(0.8 - 1e-6)[0]) / 2e-6
    np.testing.assert_allclose(tangent, slope, rtol=1e-8)


def test_vmap_draws_item_after_item():
    def item(x, rng):
        return x + rng.normal(size=2), rng.random()

    xs = np.arange(6.0).reshape(3, 2)
    eager, compiled = np.random.default_rng(7), np.random.default_rng(7)
    expected = [item(x, eager) for x in xs]
    found = tg.vmap(item, in_axes=(0, None))(xs, compiled)
    assert np.array_equal(found[0], np.stack([a for a, _ in expected]))
    assert np.array_equal(found[1], np.stack([b for _, b in expected]))
    assert eager.random() == compiled.random()


def test_without_numba_s_compiler():
    """Every kind of draw, as plain Python: NUMBA_DISABLE_JIT=1."""
    root = str(Path(__file__).parents[1])
    code = (
        "import numpy as np; from tests.test_random import CALLS, same\n"
        "for call in CALLS.values(): same(call)\n"
        "print('the same')"
    )
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": root}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=root
    )
    assert found.stdout.strip() == "the same", found.stderr


def test_inside_njit():
    draw = tg.njit_function(
        lambda rng, x: x + rng.normal(size=x.shape), np.random.default_rng(0), X
    )

    @numba.njit
    def walk(rng, x, steps):
        for _ in range(steps):
            x = draw(rng, x)
        return x, rng.random()

    x, u = walk(np.random.default_rng(3), X, 10)
    rng, expected = np.random.default_rng(3), X
    for _ in range(10):
        expected = expected + rng.normal(size=4)
    assert np.array_equal(x, expected) and u == rng.random()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r, x: r.normal(0.0, x), "scale < 0"),
        (lambda r, x: r.uniform(1.0, x), "high < low"),
        (lambda r, x: r.exponential(x), "scale < 0"),
        (lambda r, x: r.poisson(x), "lam < 0"),
        (lambda r, x: r.poisson(x * np.nan), "NaN"),
        (lambda r, x: r.beta(x, 1.0), "a <= 0"),
        (lambda r, x: r.gamma(x), "shape < 0"),
        (lambda r, x: r.binomial(3, x), "p < 0"),
        (lambda r, x: r.zipf(x), "a <= 1"),
        (lambda r, x: r.integers(0, x.astype(int)), "low >= high"),
        (lambda r, x: r.choice(3, p=[x, 0.5, 0.5]), "not non-negative"),
        (lambda r, x: r.choice(3, 4, replace=False) + x, "larger sample"),
        (lambda r, x: r.choice(3, 2, replace=False, p=[0, 1, 0]) + x, "Fewer non-zero entries"),
        (lambda r, x: r.multinomial(9, [0.5, x]), "pvals < 0"),
        (lambda r, x: r.multinomial(9, [0.5, -x, 0.0]), "pvals.* > 1.0"),
        (lambda r, x: r.multinomial(x.astype(int), [0.5, 0.5]), "n < 0"),
        (lambda r, x: r.dirichlet([x, 1.0]), "alpha < 0"),
        (lambda r, x: r.hypergeometric(x.astype(int), 1, 1), "ngood < 0"),
        (lambda r, x: r.hypergeometric(3, 1, (6 + x).astype(int)), r"ngood \+ nbad < nsample"),
        (lambda r, x: r.multivariate_hypergeometric([3, 1], (6 + x).astype(int)), "nsample > sum"),
        (lambda r, x: r.multivariate_normal(X, x * COV, check_valid="raise"), "semidefinite"),
        (lambda r, x: r.multivariate_normal(X, x * COV, method="cholesky"), "not positive"),
    ],
)
def test_wrong_parameters(call, message):
    with pytest.raises(ValueError, match=message):
        tg.trace(call)(np.random.default_rng(0), -1.0)


def test_what_has_no_derivative_or_no_traced_form():
    rng = np.random.default_rng(0)
    with pytest.raises(tg.NotDifferentiableError, match=r"rng.beta have no derivative.*to a"):
        tg.grad(lambda a, rng: rng.beta(a, 1.0))(1.0, rng)
    with pytest.raises(tg.NotDifferentiableError, match=r"rng.dirichlet have no derivative"):
        tg.grad(lambda a, rng: rng.dirichlet([a, 2.0])[0])(1.0, rng)
    with pytest.raises(tg.NotDifferentiableError, match=r"by method='svd'.*use method='cholesky'"):
        tg.grad(lambda c, rng: np.sum(rng.multivariate_normal(X, c)))(COV, rng)
    with pytest.raises(tg.UnsupportedError, match=r"rng\.bytes is not supported"):
        tg.trace(lambda rng: rng.bytes(3))(rng)
    with pytest.raises(tg.UnsupportedError, match="RandomState"):
        tg.trace(lambda rng: rng.normal())(np.random.RandomState(0))
    with pytest.raises(tg.TraceError, match="size of a draw"):
        tg.trace(lambda rng, x: rng.normal(size=np.argmax(x)))(rng, X)
    with pytest.raises(tg.UnsupportedError, match="cannot be exported"):
        tg.trace(lambda rng: rng.normal()).export("nowhere.py", rng)


def test_vjp_and_linearize_draw_once():
    rng, other = np.random.default_rng(0), np.random.default_rng(0)
    z = other.normal(size=4)
    y, pullback = tg.vjp(lambda x, rng: np.sin(x) * rng.normal(size=4), X, rng)
    assert rng.bit_generator.state == other.bit_generator.state
    np.testing.assert_allclose(y, np.sin(X) * z)
    for _ in range(2):
        np.testing.assert_allclose(pullback(np.ones(4))[0], np.cos(X) * z)
    with pytest.raises(tg.NotDifferentiableError, match="would be drawn again"):
        tg.trace(lambda ct: pullback(ct)[0])(np.ones(4))

    @tg.trace
    def pulled(x, rng):
        y, pullback = tg.vjp(lambda x: x * rng.normal(size=4), x)
        return y, pullback(np.ones(4))[0]

    y, d_x = pulled(X, np.random.default_rng(0))
    np.testing.assert_allclose(y, X * d_x)


def test_a_generator_shared_by_nested_functions():
    @tg.trace
    def noise(rng, n):
        return rng.normal(size=n)

    @tg.trace
    def f(rng, x):
        return x + noise(rng, 4), noise(rng, 2)

    same(lambda rng, x: (x + rng.normal(size=4), rng.normal(size=2)), X, traced=f)


def test_the_lock_is_held_and_given_back():
    rng = np.random.default_rng(0)
    f = tg.trace(lambda rng, x: rng.normal(0.0, x))
    with pytest.raises(ValueError, match="scale < 0"):
        f(rng, -1.0)
    with ThreadPoolExecutor(1) as other:
        assert np.isfinite(other.submit(rng.random).result(timeout=10))
    assert np.isfinite(f(rng, 1.0))


def test_what_comes_after_a_checkpoint_that_draws():
    """The draws in it are kept, and are made before later ones."""

    def f(x, rng):
        noisy = tg.checkpoint(lambda x: np.sin(x) * rng.random() + rng.normal() * x**2)
        return noisy(x) * rng.random()

    last = np.random.default_rng(3)
    a, b, c = last.random(), last.normal(), last.random()
    value, slope = (np.sin(0.7) * a + b * 0.49) * c, (np.cos(0.7) * a + 1.4 * b) * c
    pushed = tg.trace(lambda x, rng: tg.jvp(lambda x: f(x, rng), (x,), (1.0,)))
    for run in (tg.value_and_grad(f), pushed):
        rng = np.random.default_rng(3)
        np.testing.assert_allclose(run(0.7, rng), (value, slope), rtol=1e-13)
        assert rng.bit_generator.state == last.bit_generator.state


def test_a_function_with_rules_of_its_own_does_not_draw():
    def f(x, rng):
        return tg.custom_jvp(lambda x: x * rng.random())(x)

    whole = tg.custom_vjp(lambda x, rng: x * rng.random(), nondiff_argnums=(1,))
    whole.defvjp(lambda x, rng: (x, rng.random()), lambda rng, u, ct: (ct * u,))
    for program in (f, whole):
        with pytest.raises(tg.TracegradError, match=r"draws random numbers|before it is passed"):
            tg.trace(program)(1.0, np.random.default_rng(0))


def grows(x, rng):
    """Two loops whose numbers of steps, and what they compute, depend on draws."""
    y = tg.while_loop(lambda y: y < 20.0, lambda y: y * 1.5 + rng.random() * y, x)
    z = rng.normal()

    def step(state):
        y, w = state
        y = tg.cond(y < 100.0, lambda: y * 1.2 + rng.exponential(y), lambda: y * 1.1 + z)
        return y, np.sin(w) + rng.normal(size=2) * y

    y, w = tg.while_loop(lambda s: s[0] < 400.0, step, (y, np.zeros(2)))
    return y * z + w @ w * 1e-3


def turned(x, rng):
    """The same in Python's own statements, as far as they go."""
    y = x
    while y < 30.0:
        u = rng.normal()
        if u > 0:
            y = y * 1.5 + u * np.sin(y)
        else:
            u = rng.exponential()
            y = y * 1.4 + u
    return y * rng.random()


@pytest.mark.parametrize("f", [grows, tg.trace(turned, python_control_flow=True)])
@pytest.mark.parametrize("bits", [*BITS, np.random.PCG64DXSM])
def test_reverse_through_while_loops_that_draw(f, bits):
    """The loop is run ahead to count its steps, and again with the same numbers."""
    plain = f if f is grows else turned

    def at(x):
        rng = np.random.Generator(bits(5))
        return plain(x, rng), rng.random()

    rng = np.random.Generator(bits(5))
    value, slope = tg.value_and_grad(f)(0.9, rng)
    assert value == pytest.approx(at(0.9)[0], rel=1e-13) and rng.random() == at(0.9)[1]
    # Values of 1e3 lose eps / h = 1e-7 in a difference.
    assert slope == pytest.approx((at(0.9 + 1e-6)[0] - at(0.9 - 1e-6)[0]) / 2e-6, rel=1e-6)


def test_second_derivatives_and_tensors_through_while_loops_that_draw():
    def tangent(f, x):
        return tg.jvp(f, (x,), (1.0,))[1]

    def at(x):
        return tg.grad(grows)(x, np.random.default_rng(7))

    expected = (at(0.9 + 1e-6) - at(0.9 - 1e-6)) / 2e-6
    last = np.random.default_rng(7)
    grows(0.9, last)
    for f in (
        tg.grad(tg.grad(grows)),
        tg.trace(lambda x, rng: tg.jvp(lambda x: tg.grad(grows)(x, rng), (x,), (1.0,))[1]),
        tg.trace(
            lambda x, rng: tg.grad(lambda x: tg.jvp(lambda x: grows(x, rng), (x,), (1.0,))[1])(x)
        ),
    ):
        rng = np.random.default_rng(7)
        np.testing.assert_allclose(f(0.9, rng), expected, rtol=1e-6)
        assert rng.bit_generator.state == last.bit_generator.state
    rng, x = np.random.default_rng(7), tg.tensor(0.9, requires_grad=True, dtype=np.float64)
    tg.trace(grows)(x, rng).backward()
    np.testing.assert_allclose(np.asarray(x.grad), at(0.9), rtol=1e-13)
    assert rng.bit_generator.state == last.bit_generator.state


def test_the_dump_of_a_gradient_with_a_loop_run_ahead_is_a_program():
    gradient, rng = tg.grad(grows), np.random.default_rng(7)
    found = gradient.dump(0.9, rng).function()(0.9, np.random.default_rng(7))
    np.testing.assert_allclose(found, gradient(0.9, rng), rtol=1e-12)


def test_module_level_random_is_an_error():
    def frozen(x):
        return x + np.random.normal(size=x.shape[0] * 0 + 4)

    with pytest.raises(tg.TraceError, match=r"np\.random.*pass a.*Generator"):
        tg.trace(frozen)(X)
    captured = np.random.default_rng(0)
    with pytest.raises(tg.TraceError, match=r"captured.*pass it as an argument"):
        tg.trace(lambda x: x + captured.normal())(X)
    before = np.random.get_state()[1].copy()
    tg.trace(lambda x: x + 1.0)(X)
    assert np.array_equal(before, np.random.get_state()[1])


def test_signatures_are_numpy_s():
    from tracegrad.tracing.generator import TracedGenerator

    for name in dir(np.random.Generator):
        if name.startswith("_") or name == "bit_generator":
            continue
        assert hasattr(TracedGenerator, name), name
        own = getattr(TracedGenerator, name)
        try:
            theirs = list(inspect.signature(getattr(np.random.Generator, name)).parameters)
        except ValueError:
            continue
        mine = list(inspect.signature(own).parameters)
        assert mine == ["self", "args", "kwargs"] or mine == theirs, name
