"""The backward of a branch takes what the branch that was taken kept of its forward.

Library calls are counted in the generated source; values and gradients are compared with plain
NumPy and differences, in loops, in both modes, and to second order.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import tracegrad as tg

RNG = np.random.default_rng(11)
W, X = RNG.normal(size=(4, 4)) / 2, RNG.normal(size=(4, 4)) / 2
XS = RNG.normal(size=(5, 4, 4)) / 2


def products(source: str) -> int:
    code = "\n".join(line.split("#")[0] for line in source.split("@njit", 1)[1].splitlines())
    return len(re.findall(r"\bdot\(", code))


def two_sides(w: Any, x: Any, p: Any) -> Any:
    """One side keeps three matrices, the other one and a number; two of them share their places."""

    def deep() -> Any:
        return np.sum(np.tanh(np.tanh(w @ x) @ x) @ w, axis=0)

    def shallow() -> Any:
        return np.sum(w @ w) * np.sum(np.sin(w @ x), axis=0)

    return np.sum(tg.cond(p > 0, deep, shallow) ** 2)


@pytest.mark.parametrize("p", [1.0, -1.0])
def test_only_products_of_the_backward_are_computed_in_the_backward(p: float) -> None:
    f = tg.trace(two_sides)
    value, found = f.value_and_grad(W, X, p)
    plain = np.tanh(np.tanh(W @ X) @ X) @ W if p > 0 else np.sum(W @ W) * np.sin(W @ X)
    assert value == pytest.approx(np.sum(np.sum(plain, axis=0) ** 2), rel=1e-12)
    tg.testing.check_grads(lambda w, x: two_sides(w, x, p), (W, X), order=1)
    source = tg.value_and_grad(f, argnums=(0, 1)).source(W, X, p)
    forward, backward = 3 + 2, 6 + 4
    assert products(source) == forward + backward
    t = tg.tensor(W, requires_grad=True)
    f(t, X, p).backward()
    assert t.grad is not None
    assert np.abs(t.grad.numpy() - found).max() <= 1e-14 * np.abs(found).max()


def test_what_is_cheap_is_computed_again_and_nothing_kept() -> None:
    """Elementwise work of fewer flops than the bytes are worth, by the model of every residual."""

    def f(x: Any, p: Any) -> Any:
        return np.sum(tg.cond(p > 0, lambda: x * x * x, lambda: -x))

    found = tg.trace(f)
    dump = str(found.dump(X, 1.0, which="joint"))
    assert dump.count("if v1:") == 2
    assert "np.empty" not in dump, "nothing is kept, so nothing is unset"
    tg.testing.check_grads(lambda x: f(x, 1.0), (X,), order=2)


def test_the_dump_shows_what_each_side_keeps() -> None:
    dump = str(tg.trace(two_sides).dump(W, X, 1.0, which="joint"))
    assert "np.empty((), np.float64)" in dump or "np.empty((n, n), np.float64)" in dump


def test_switch_with_solves_factors_once() -> None:
    def f(a: Any, b: Any, k: Any) -> Any:
        sides = [
            lambda: np.linalg.solve(a, b),
            lambda: np.linalg.solve(a.T, b) * np.linalg.slogdet(a)[1],
            lambda: b * 2.0,
        ]
        return np.sum(tg.switch(k, sides) ** 2)

    a, b = W + 2 * np.eye(4), X[0]
    found = tg.trace(f)
    source = tg.value_and_grad(found, argnums=(0, 1)).source(a, b, np.int64(1))
    code = "\n".join(line.split("#")[0] for line in source.split("@njit", 1)[1].splitlines())
    assert len(re.findall(r"\blu_factor\(", code)) == 3, "one for each matrix in the forward"
    for k in range(3):
        tg.testing.check_grads(lambda a, b, k=k: f(a, b, np.int64(k)), (a, b), order=1)


def in_a_scan(w: Any, xs: Any) -> Any:
    def step(c: Any, x: Any) -> Any:
        c = tg.cond(np.sum(x) > 0, lambda: np.tanh(c @ w + x), lambda: np.sin(x @ c))
        return c, np.sum(c)

    c, ys = tg.scan(step, np.eye(4), xs)
    return np.sum(c * c) + np.sum(ys)


def in_a_while_loop(w: Any, xs: Any) -> Any:
    def body(state: Any) -> Any:
        c, k = state
        c = tg.cond(k < 2, lambda: np.tanh(c @ w), lambda: tg.cond(k < 3, lambda: c @ c, lambda: c))
        return c, k + 1

    return np.sum(tg.while_loop(lambda s: s[1] < xs.shape[0], body, (xs[0], 0))[0] ** 2)


def nested(w: Any, xs: Any) -> Any:
    def inner(x: Any) -> Any:
        return tg.cond(x[0, 0] > 0, lambda: np.tanh(x @ w), lambda: np.tanh(w @ x) @ w)

    return np.sum(tg.cond(np.sum(w) > 0, lambda: inner(xs[0]) @ w, lambda: inner(xs[1] @ w)))


@pytest.mark.parametrize("function", [in_a_scan, in_a_while_loop, nested])
def test_branches_in_loops_and_branches(function: Any) -> None:
    f = tg.trace(function)
    tg.testing.check_grads(f, (W, XS), order=2 if function is in_a_scan else 1)
    tg.testing.check_grads(f, (-W, XS), order=1)


def test_a_loop_stacks_what_the_branches_kept() -> None:
    f = tg.trace(in_a_scan)
    source = tg.value_and_grad(f, argnums=(0, 1)).source(W, XS)
    forward, backward, after = 2, 3, 1
    assert products(source) == forward + backward + after


def test_numbers_that_a_branch_draws_are_drawn_once() -> None:
    """The side that drew them keeps what depends on them."""

    @tg.trace
    def f(w: Any, p: Any, rng: Any) -> Any:
        return np.sum(tg.cond(p > 0, lambda: np.tanh(w @ rng.normal(size=(4, 4))), lambda: w))

    noise = np.random.default_rng(3).normal(size=(4, 4))
    want = (1 - np.tanh(W @ noise) ** 2) @ noise.T
    got = f.grad(W, 1.0, np.random.default_rng(3))
    assert np.abs(got - want).max() <= 1e-13
    assert np.all(f.grad(W, -1.0, np.random.default_rng(3)) == 1)


def test_batches_of_branches() -> None:
    def f(w: Any, xs: Any) -> Any:
        return np.sum(tg.vmap(lambda x: two_sides(w, x, x[0, 0]))(xs))

    want = sum(two_sides(W, x, x[0, 0]) for x in XS)
    assert tg.trace(f)(W, XS) == pytest.approx(want, rel=1e-12)
    tg.testing.check_grads(tg.trace(f), (W, XS), order=1)


def selecting(x: Any, p: Any) -> Any:
    """The size of what one side keeps is known to that side alone: it is computed again."""
    return tg.cond(p > 0, lambda: np.sum(x[x > 1.5] ** 2), lambda: np.sum(x) * 1.0)


def writing(x: Any, p: Any) -> Any:
    def written() -> Any:
        y = x.copy()
        y[0] = y[0] ** 2
        return y

    return np.sum(tg.cond(p > 0, written, lambda: x) ** 2)


def counting(x: Any, p: Any) -> Any:
    """Results that are no floats have no cotangents; one of the floats is not used."""
    k = (p > 0) * 3
    y, n, _ = tg.cond(k > 1, lambda: (x * k, k + 1, x[0]), lambda: (np.sin(x), k + 2, x[1]))
    return np.sum(y) * n


@pytest.mark.parametrize("function", [selecting, writing, counting])
def test_sides_of_every_kind(function: Any) -> None:
    x, step = np.array([1.0, 3.0, 2.0]), 1e-6
    for p in (1.0, -1.0):
        found = tg.grad(function)(x, p)
        for k, unit in enumerate(np.eye(3) * step):
            want = (function(x + unit, p) - function(x - unit, p)) / (2 * step)
            assert found[k] == pytest.approx(want, rel=1e-7, abs=1e-7)
