"""What a loop need not do in every step is done before it: factors, invariants, products of inputs.

Counted in the generated source, values against plain NumPy, gradients in both modes and to second
order.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import tracegrad as tg

EPS = np.finfo(float).eps


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def inside_loops(source: str, name: str) -> list[bool]:
    """For every call of a library function whether it stands in a loop."""
    code = [line.split("#")[0] for line in source.split("@njit", 1)[1].splitlines()]
    found = [line for line in code if re.search(rf"\b{name}\(", line)]
    return [line.startswith("        ") for line in found]


def recurrent(w: Any, u: Any, xs: Any) -> Any:
    """A recurrent net: `x @ w` does not wait for the step before."""

    def step(h: Any, x: Any) -> Any:
        h = np.tanh(x @ w + h @ u)
        return h, np.sum(h * h)

    start = np.zeros((*xs.shape[1:-1], u.shape[0]))
    return np.sum(tg.scan(step, start, xs)[1])


def as_python_loop(w: Any, u: Any, xs: Any) -> Any:
    h, total = np.zeros((*xs.shape[1:-1], u.shape[0])), 0.0
    for x in xs:
        h = np.tanh(x @ w + h @ u)
        total = total + np.sum(h * h)
    return total


@pytest.mark.parametrize("function", [recurrent, as_python_loop])
@pytest.mark.parametrize("shape", [(20, 2, 12), (20, 12)], ids=["rows", "vectors"])
def test_products_of_inputs_are_one_product(function: Any, shape: tuple[int, ...]) -> None:
    w, u, xs = draw(12, 9, seed=1) / 3, draw(9, 9, seed=2) / 3, draw(*shape)
    f = tg.trace(function)
    want = as_python_loop(w, u, xs)
    assert abs(f(w, u, xs) - want) <= 100 * EPS * abs(want)
    assert "x @ w: one product for all steps, before the loop" in f.explain(w, u, xs)
    source = tg.value_and_grad(f, argnums=(0, 1, 2)).source(w, u, xs)
    products = inside_loops(source, "dot")
    assert products.count(False) >= 3, "x @ w, d_w and d_xs; d_u comes to it"
    tg.testing.check_grads(
        f, (w, u, xs), order=2 if function is recurrent and len(shape) == 3 else 1
    )


def test_a_product_that_costs_more_memory_than_it_saves_time_stays_in_the_loop() -> None:
    """Many rows and a small matrix: the library works as fast on those of one step."""
    w, u, xs = draw(16, 16), draw(16, 16), draw(3, 400, 16)
    f = tg.trace(recurrent)
    assert "before the loop" not in f.explain(w, u, xs)
    wide = draw(4, 400) / 20, draw(400, 400) / 20, draw(5, 4)
    assert "before the loop" not in f.explain(*wide), "100 times the bytes of xs"


def test_inputs_may_be_prepared_before_the_product() -> None:
    def f(w, xs):
        def step(h, x):
            scaled = np.maximum(x - 0.5, 0.0)
            return np.tanh(h + scaled @ w), h

        return np.sum(tg.scan(step, np.zeros((2, 9)), xs)[1] ** 2)

    w, xs = draw(12, 9) / 3, draw(5, 2, 12)
    found = tg.trace(f)
    assert inside_loops(found.source(w, xs), "dot") == [False]
    tg.testing.check_grads(found, (w, xs), order=2)
    jvp = tg.trace(lambda w, xs: tg.jvp(found, (w, xs), (w, xs))[1])
    assert not any(inside_loops(jvp.source(w, xs), "dot"))


def test_invariants_are_computed_once() -> None:
    def f(a, b, xs):
        def step(c, x):
            return np.linalg.solve(a @ b, x + c) / 2, np.linalg.slogdet(a @ b)[1] * x[0]

        c, ys = tg.scan(step, np.zeros(4), xs)
        return np.sum(c**2) + np.sum(ys)

    a, b, xs = draw(4, 4) / 4 + np.eye(4), np.eye(4) + draw(4, 4, seed=1) / 8, draw(6, 4)
    found = tg.trace(f)
    source = tg.value_and_grad(found, argnums=(0, 1, 2)).source(a, b, xs)
    assert inside_loops(source, "lu_factor") == [False]
    assert inside_loops(source, "lu_solve").count(True) == 2
    tg.testing.check_grads(found, (a, b, xs), order=1)


def test_nothing_that_may_fail_is_done_for_a_loop_without_steps() -> None:
    @tg.trace
    def f(a, xs):
        def step(c, x):
            return c + np.sum(np.linalg.cholesky(a)) * x, x

        return tg.scan(step, 0.0, xs)[0]

    good, bad = np.eye(3), -np.eye(3)
    assert f(good, np.ones(4)) == 12.0
    assert inside_loops(f.source(good, np.ones(4)), "cholesky") == [False]
    assert f(bad, np.ones(0)) == 0.0
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        f(bad, np.ones(2))


def test_random_numbers_stay_where_they_are_drawn() -> None:
    @tg.trace
    def f(w, xs, rng):
        def step(c, x):
            return c + np.sum((x + rng.normal(size=12)) @ w), x

        return tg.scan(step, 0.0, xs)[0]

    w, xs = draw(12, 9), draw(5, 12)
    rng = np.random.default_rng(5)
    want = sum(np.sum((x + rng.normal(size=12)) @ w) for x in xs)
    assert f(w, xs, np.random.default_rng(5)) == pytest.approx(want, rel=1e-12)


def test_loops_inside_loops_and_batches() -> None:
    def f(w, u, xs):
        return np.sum(tg.vmap(lambda x: recurrent(w, u, x))(xs))

    w, u, xs = draw(12, 9, seed=1) / 3, draw(9, 9, seed=2) / 3, draw(3, 5, 12)
    want = sum(as_python_loop(w, u, x) for x in xs)
    assert tg.trace(f)(w, u, xs) == pytest.approx(want, rel=1e-12)
    tg.testing.check_grads(tg.trace(f), (w, u, xs), order=1)
