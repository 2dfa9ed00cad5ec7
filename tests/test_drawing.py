"""Random numbers drawn in loops, branches and checkpoints that a derivative runs again: NumPy's
numbers, each drawn once, and the generator left where NumPy leaves it."""

from __future__ import annotations

import numpy as np
import pytest

import tracegrad as tg

A = 1.3
SEED = 5


def accepted(rng, a):
    """Rejection sampling: the number of steps, and the result, depend on the draws."""

    def body(state):
        x, _ = state
        return x + a * rng.normal(), rng.random()

    return tg.while_loop(lambda s: s[1] > 0.5, body, (a * 1.0, 1.0))[0]


def in_fori(rng, a):
    return tg.fori_loop(0, 4, lambda i, v: v + np.sin(accepted(rng, a) * v), a)


def in_scan(rng, a):
    xs = np.arange(1.0, 4.0)
    return np.sum(tg.scan(lambda c, x: (c + accepted(rng, x * c), c * 2), a, xs)[1])


def in_cond(rng, a):
    return tg.cond(a > 0, lambda: accepted(rng, a) ** 2, lambda: a)


def in_while(rng, a):
    def body(state):
        k, v = state
        return k + 1, v + np.sin(accepted(rng, v))

    return tg.while_loop(lambda s: s[0] < 3, body, (0, a))[1]


def in_vmap(rng, a):
    items = tg.map if isinstance(rng, np.random.Generator) else lambda f, xs: tg.vmap(f)(xs)
    return np.sum(items(lambda x: accepted(rng, x * a) ** 2, np.arange(1.0, 5.0)))


def drawn_length(rng, a):
    def step(c, _):
        return tg.fori_loop(0, rng.poisson(3.0), lambda i, v: np.sin(v + a * rng.normal()), c), ()

    return tg.scan(step, a, None, length=4)[0]


def in_switch(rng, a):
    def step(c, _):
        sides = [
            lambda: np.sin(c + a * rng.normal()),
            lambda: c * a,
            lambda: accepted(rng, c),
        ]
        return tg.switch(rng.integers(3), sides), ()

    return tg.scan(step, a, None, length=6)[0]


def long(rng, a, checkpoint: int | str = "sqrt"):
    def body(state):
        x, _ = state
        return x + np.sin(a * rng.normal() * x), rng.random()

    return tg.while_loop(lambda s: s[1] > 0.1, body, (a, 1.0), checkpoint=checkpoint)[0]


def long_by_number(rng, a):
    return long(rng, a, 4)


def in_checkpoints(rng, a):
    @tg.checkpoint
    def layer(rng, c):
        return np.sin(tg.fori_loop(0, 3, lambda i, v: v + a * rng.normal() * v, c * rng.normal()))

    return layer(rng, layer(rng, a))


PROGRAMS = (
    in_fori,
    in_scan,
    in_cond,
    in_while,
    in_vmap,
    drawn_length,
    in_switch,
    long,
    long_by_number,
)


def eagerly(f, a):
    """By NumPy, and the generator's state after it."""
    rng = np.random.default_rng(SEED)
    return f(rng, a), rng.bit_generator.state


def slope(f, a, step=1e-6):
    return (eagerly(f, a + step)[0] - eagerly(f, a - step)[0]) / (2 * step)


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_gradients_draw_what_numpy_draws_and_leave_the_generator_where_numpy_does(f):
    value, state = eagerly(f, A)
    rng = np.random.default_rng(SEED)
    found, gradient = tg.value_and_grad(f, 1)(rng, A)
    np.testing.assert_allclose(found, value, rtol=1e-12)
    np.testing.assert_allclose(gradient, slope(f, A), rtol=1e-6, atol=1e-7)
    assert rng.bit_generator.state == state


@pytest.mark.parametrize("f", (in_scan, in_cond, in_checkpoints), ids=lambda f: f.__name__)
def test_second_derivatives_and_jacobians(f):
    gradient = tg.grad(f, 1)

    def at(a):
        return gradient(np.random.default_rng(SEED), a)

    expected = (at(A + 1e-6) - at(A - 1e-6)) / 2e-6
    last = np.random.default_rng(SEED)
    at_last = tg.trace(f)(last, A)
    assert np.isfinite(at_last)
    made = {
        "hessian": tg.hessian(lambda rng, x: f(rng, x[0]), 1),
        "jacfwd of grad": tg.jacfwd(lambda rng, x: tg.grad(f, 1)(rng, x[0]), 1),
        "jacrev of grad": tg.jacrev(lambda rng, x: tg.grad(f, 1)(rng, x[0]), 1),
        "hvp": tg.trace(lambda rng, x: tg.hvp(lambda x: f(rng, x))(x[0], 1.0)),
        "grad of grad": lambda rng, x: tg.grad(tg.grad(f, 1), 1)(rng, x[0]),
    }
    for name, transform in made.items():
        rng = np.random.default_rng(SEED)
        found = np.ravel(transform(rng, np.array([A])))
        np.testing.assert_allclose(found, [expected], rtol=1e-5, err_msg=name)
        assert rng.bit_generator.state == last.bit_generator.state, name


@pytest.mark.parametrize("mode", (tg.jacrev, tg.jacfwd), ids=("jacrev", "jacfwd"))
def test_jacobians_draw_once_for_all_directions(mode):
    def both(rng, x):
        return np.stack([accepted(rng, x[0]) * x[1], in_cond(rng, x[1])])

    x, rng = np.array([1.3, 0.7]), np.random.default_rng(SEED)
    found = mode(both, 1)(rng, x)
    for k in range(2):
        step = np.zeros(2)
        step[k] = 1e-6
        ends = [both(np.random.default_rng(SEED), x + s * step) for s in (1, -1)]
        np.testing.assert_allclose(found[:, k], (ends[0] - ends[1]) / 2e-6, rtol=1e-6, atol=1e-8)
    last = np.random.default_rng(SEED)
    both(last, x)
    assert rng.bit_generator.state == last.bit_generator.state


@pytest.mark.parametrize("kind", ("PCG64", "MT19937", "Philox", "SFC64", "PCG64DXSM"))
def test_every_bit_generator_of_numpy_is_replayed(kind):
    def made():
        return np.random.Generator(getattr(np.random, kind)(SEED))

    rng, other = made(), made()
    found = tg.grad(in_scan, 1)(rng, A)
    ends = [in_scan(made(), A + step) for step in (1e-6, -1e-6)]
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / 2e-6, rtol=1e-6)
    in_scan(other, A)
    np.testing.assert_array_equal(rng.random(3), other.random(3))


def test_a_tensor_s_backward_draws_nothing_from_the_user_s_generator():
    rng, x = np.random.default_rng(SEED), tg.tensor(A, requires_grad=True, dtype=np.float64)
    y = tg.trace(in_scan)(rng, x)
    before = rng.bit_generator.state
    y.backward(retain_graph=True)
    y.backward()
    assert rng.bit_generator.state == before == eagerly(in_scan, A)[1]
    np.testing.assert_allclose(np.asarray(x.grad), 2 * slope(in_scan, A), rtol=1e-6)


def test_the_dump_of_what_is_drawn_again_is_a_program():
    gradient = tg.grad(in_scan, 1)
    text = gradient.dump(np.random.default_rng(SEED), A)
    found = text.function()(np.random.default_rng(SEED), A)
    np.testing.assert_allclose(found, gradient(np.random.default_rng(SEED), A), rtol=1e-12)
    assert "pickle.dumps(" in text


def test_a_generator_in_the_closure_of_a_mapped_function_is_an_error():
    rng = np.random.default_rng(SEED)
    with pytest.raises(tg.TraceError, match="random numbers were drawn from rng"):
        tg.vmap(lambda x: x * rng.normal())(np.arange(3.0))
