"""Items with loops of their own run in strips: each as if it were alone."""

from __future__ import annotations

import numpy as np
import pytest

import tracegrad as tg

COUNTS = (0, 1, 31, 32, 33, 64, 100)


def root(a):
    """Newton's method, with another number of steps for each item."""
    return tg.while_loop(
        lambda x: np.abs(x * x * x - a) > 1e-4 * a, lambda x: x - (x - a / (x * x)) / 3, a
    )


def orbit(a):
    def step(state, _):
        x, v = state
        v = v - 0.1 * np.sin(x) * a
        return (x + 0.1 * v, v), x * v

    (x, _), ys = tg.scan(step, (a, 0.5 * a), None, length=20)
    return x + np.sum(ys)


def collatz(n):
    """Whole numbers; the state is a pair."""

    def step(state):
        n, steps = state
        return np.where(n % 2 == 0, n // 2, 3 * n + 1), steps + 1

    return tg.while_loop(lambda s: s[0] > 1, step, (n, 0))[1]


def leaves_the_domain(a):
    """What a finished item would go on to is not a number: it stays what it is."""
    return tg.while_loop(lambda x: x > 1.0, lambda x: np.log(x) + np.sqrt(x - 1.0), a)


def nested(a):
    def step(x, k):
        return tg.while_loop(lambda y: y > 2.0 + k, lambda y: 0.7 * y - 0.1 * a, x + a), None

    return tg.scan(step, 4.0 * a, np.arange(3.0))[0]


def outer(a):
    return tg.while_loop(
        lambda s: s[0] < 30.0,
        lambda s: (s[0] + a + tg.fori_loop(0, 3, lambda i, c: 0.5 * c + 1.5, s[0]), s[1] + 1),
        (a * 1.0, 0),
    )[0]


@pytest.mark.parametrize("f", (root, orbit, leaves_the_domain, nested, outer))
@pytest.mark.parametrize("dtype", (np.float64, np.float32))
def test_items_are_as_if_they_were_alone(f, dtype):
    mapped = tg.vmap(f)
    for count in COUNTS:
        x = np.linspace(0.6, 9.0, count).astype(dtype)
        found = mapped(x)
        expected = np.array([f(item) for item in x], dtype).reshape(count)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=1000 * np.finfo(dtype).eps)


def test_whole_numbers():
    n = np.arange(1, 130)
    np.testing.assert_array_equal(tg.vmap(collatz)(n), [collatz(int(k)) for k in n])


@pytest.mark.parametrize("f", (orbit, nested))
def test_derivatives(f):
    x = np.linspace(0.6, 9.0, 45)
    step = 1e-6
    ends = [np.array([f(item + s) for item in x]) for s in (step, -step)]
    expected = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(tg.vmap(tg.grad(f))(x), expected, rtol=1e-5, atol=1e-6)
    summed = tg.grad(lambda x: np.sum(tg.vmap(f)(x)))
    np.testing.assert_allclose(summed(x), expected, rtol=1e-5, atol=1e-6)
    pushed = tg.trace(lambda x: tg.jvp(tg.vmap(f), (x,), (np.ones(45),))[1])
    np.testing.assert_allclose(pushed(x), expected, rtol=1e-5, atol=1e-6)


def test_what_all_items_share_and_results_that_are_the_same():
    table = np.array([0.5, 0.25, 2.0])

    def f(x, a):
        y = tg.fori_loop(0, 5, lambda i, y: y * a + table[1], x)
        return y, a * 2.0

    x = np.linspace(0.0, 1.0, 70)
    y, same = tg.vmap(f, in_axes=(0, None))(x, 0.9)
    expected = [f(item, 0.9)[0] for item in x]
    np.testing.assert_allclose(y, expected, rtol=1e-14)
    np.testing.assert_allclose(same, np.full(70, 1.8))


def test_strips_in_the_steps_of_a_loop():
    """An implicit time step: every component solves an equation of its own."""

    def advance(u, _):
        def solved(u):
            def improve(v):
                return v - (v + 0.1 * v**3 - u) / (1 + 0.3 * v * v)

            return tg.while_loop(lambda v: np.abs(v + 0.1 * v**3 - u) > 1e-10, improve, u)

        return tg.vmap(solved)(u), None

    start = np.linspace(-2.0, 2.0, 50)
    found = tg.trace(lambda u: tg.scan(advance, u, None, length=5)[0])(start)
    u = start
    for _ in range(5):
        v = u.copy()
        for _ in range(50):
            v -= (v + 0.1 * v**3 - u) / (1 + 0.3 * v * v)
        u = v
    np.testing.assert_allclose(found, u, rtol=1e-9, atol=1e-9)


def test_the_dump_shows_the_strips():
    x = np.linspace(1.0, 5.0, 40)
    mapped = tg.grad(lambda x: np.sum(tg.vmap(orbit)(x)))
    text = mapped.dump(x)
    np.testing.assert_allclose(text.function()(x), mapped(x), rtol=1e-12)
    assert "range(0, n, 64)" in text and "np.minimum(np.arange(" in text


def test_items_that_draw_run_one_by_one():
    @tg.trace
    def drawn(x, rng):
        def item(v):
            return tg.fori_loop(0, 3, lambda i, c: c + rng.random() * v, v)

        return tg.vmap(item)(x)

    x, other = np.linspace(0.5, 3.0, 40), np.random.default_rng(0)
    expected = [v + sum(other.random() * v for _ in range(3)) for v in x]
    np.testing.assert_allclose(drawn(x, np.random.default_rng(0)), expected, rtol=1e-13)
