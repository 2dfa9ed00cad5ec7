"""Arrays that traced functions make with plain NumPy, and SciPy's functions that take no traced
arrays: programs as they stand, against NumPy and central differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from math import erf
from typing import Any

import numpy as np
import pytest
from numpy import zeros as nought
from scipy import integrate, linalg, special

import tracegrad as tg
from tests.oracle import flat, interpreted

X = np.array([0.3, -1.2, 2.5])


def rotation(angle: Any) -> Any:
    made = np.eye(2)
    made[0, 0] = np.cos(angle)
    made[1, 1] = made[0, 0]
    made[0, 1] = -np.sin(angle)
    made[1, 0] = -made[0, 1]
    return made


def through_helpers(x: Any) -> Any:
    return rotation(x[0]) @ rotation(x[1]) @ x[1:]


def known_out(x: Any) -> Any:
    out = np.zeros(3)
    np.add(out, 2, out=out)
    np.multiply(out, x, out=out)
    matrix = np.zeros((3, 3))
    np.fill_diagonal(matrix, 2.0)
    matrix[0] = x
    return matrix @ out


def element_by_element(x: Any) -> Any:
    out = np.zeros(3)
    for k in range(3):
        out[k] = x[0] ** k
    return out


def views(x: Any) -> Any:
    out = np.ones((3, 4))
    row, part = out[1], out[:, 1:3].T
    out[0] = 5.0
    part[0] = x
    row[1:] *= x
    out.T[3] += 1.0
    return out, row, part


def known_until_written(x: Any) -> Any:
    order, mask, table = np.zeros(3, int), np.ones(3, bool), np.full((3, 3), 2.0)
    order[0], order[1], mask[1] = 2, 1, False
    table[np.arange(3), np.arange(3)] -= 1
    total = 0.0
    for k in order:
        if k and table[k, k] == 1.0:
            total = total + x[k]
    return x[order], x[mask], table @ x, np.linalg.inv(table + 3 * np.eye(3)) @ x, total


def lists_of_rows(x: Any) -> Any:
    return np.array([x, 2 * x]), np.array([[x[0], 1.0], [0.0, x[1]]]) @ x[:2], np.asarray(x)


def by_another_name(x: Any) -> Any:
    out = nought((2, 3), dtype=x.dtype)
    out[1] = x
    np.fill_diagonal(out, 7.0)
    return out


def alike(x: Any) -> Any:
    constant = np.arange(3.0)
    out, like = np.zeros_like(constant), np.full_like(constant, 2.0)
    out[1:] = x[1:]
    np.add.at(like, [0, 0, 2], x)
    return out, like


def filled_with(x: Any) -> Any:
    return np.full(4, x[0]), np.full((2, 3), fill_value=x), np.full_like(np.ones(2), x[1])


def nested(x: Any) -> Any:
    def squares(v: Any) -> Any:
        out = np.empty(len(v))
        for k, item in enumerate(v):
            out[k] = item**2
        return out

    return squares(x) + squares(2 * x)


def never_written(x: Any) -> Any:
    weights = np.zeros(3)
    weights[:2] = 0.5
    return np.sum(weights * x), weights, weights.sum() * x, np.cumsum(weights)


def scipys(x: Any) -> Any:
    square = np.outer(x, x) + 3 * np.eye(3)
    factor = linalg.cho_factor(square, lower=True)
    triangle = np.linalg.cholesky(square)
    return (
        special.logsumexp(x),
        special.softmax(x),
        linalg.cho_solve(factor, x),
        linalg.solve_triangular(triangle, x, lower=True),
        linalg.solve(square, x),
    )


def numbers(x: Any) -> Any:
    a, b = x[0], x[2]
    angles = math.atan2(b, a) + math.cos(a) * math.asin(a / 2) + math.pi
    some = angles, math.log(b, 2), math.sqrt(b) * erf(a), math.lgamma(b) + math.pow(b, 1.5)
    return np.array(some, dtype=x.dtype)  # of float32 numbers they are float32 here


def more_of_scipy(x: Any) -> Any:
    a, b = np.abs(x) + 0.5, np.abs(x[::-1]) + 0.2
    square = np.outer(x, x) + 3 * np.eye(3)
    return (
        special.betaln(a, b) + special.beta(a, b) + special.poch(a, b) + special.binom(a + b, a),
        special.multigammaln(a + 2, 3)  # type: ignore[attr-defined]
        + special.polygamma(1, a)
        + special.rgamma(a),
        special.boxcox(a, 0.5) + special.boxcox(a, 0.0) + special.huber(1.0, x),
        special.pseudo_huber(0.5, x) + special.expm1(x) + special.log1p(a) + special.cbrt(a),
        linalg.cholesky(square) + linalg.cholesky(square, lower=True),
        linalg.block_diag(square, x[:2], 2.0),
        linalg.toeplitz(x) + linalg.toeplitz(x, x**2),
        linalg.norm(square) + linalg.det(square) + linalg.inv(square),
    )


PROGRAMS = (
    filled_with,
    more_of_scipy,
    numbers,
    through_helpers,
    known_out,
    element_by_element,
    views,
    known_until_written,
    lists_of_rows,
    by_another_name,
    alike,
    nested,
    never_written,
    scipys,
)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("program", PROGRAMS)
def test_values(program: Callable[..., Any], dtype: Any) -> None:
    x = X.astype(dtype)
    for found, wanted in zip(flat(interpreted(program, x)), flat(program(x)), strict=True):
        assert found.dtype == np.asarray(wanted).dtype
        np.testing.assert_allclose(found, wanted, rtol=256 * np.finfo(dtype).eps)


@pytest.mark.parametrize("program", PROGRAMS)
def test_gradients(program: Callable[..., Any]) -> None:
    def loss(x: Any) -> Any:
        results = program(x)
        return sum(np.sum(y * y) for y in (results if isinstance(results, tuple) else (results,)))

    (found,) = interpreted(tg.grad(loss), X)
    for k, slope in enumerate(found):
        step = 1e-6 * np.eye(3)[k]
        wanted = (loss(X + step) - loss(X - step)) / 2e-6
        assert slope == pytest.approx(wanted, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(
    "program",
    [
        lambda x: np.delete(x, [0, -1]),
        lambda x: np.delete(x, x > 0),
        lambda x: np.insert(x, [0, 1], 2.0),
        lambda x: np.histogram(x, "auto"),
        lambda x: np.piecewise(x[None], x[None] > 0, [1.0]),  # type: ignore[call-overload]
        lambda x: special.fresnel(x),
    ],
)
def test_refused(program: Callable[..., Any]) -> None:
    with pytest.raises(tg.UnsupportedError, match=r"np\.|scipy\.special\.fresnel"):
        tg.trace(program)(X)


def test_compiled() -> None:
    for found, wanted in zip(tg.trace(views)(X), views(X), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_loops_and_branches_write_into_it() -> None:
    @tg.trace(python_control_flow=True)
    def running(x):
        out, flags = np.zeros(len(x)), np.zeros(2, int)
        flags[1] = 1
        for k in tg.range(1, x.shape[0]):
            out[k] = out[k - 1] + flags[1] * x[k]
            if x[k] > 0:
                out[k] += 1.0
        return out

    np.testing.assert_allclose(running(X), [0.0, -1.2, 2.3])


def test_lists_that_grew_in_a_loop() -> None:
    @tg.trace
    def path(x):
        points, last = [x[0]], x[0]
        for k in tg.range(3):
            last = last + x[k]
            points.append(last)
        return np.array(points)

    np.testing.assert_allclose(path(X), np.cumsum(np.concatenate([X[:1], X])))


def test_a_body_writes_what_it_took_for_constant() -> None:
    def careless(x):
        out = np.zeros(2)

        def body(i, s):
            s = s + out.sum().item()
            out[0] = s
            return s

        return tg.fori_loop(0, 3, body, x)

    with pytest.raises(
        tg.TraceError, match=r"writes into an array from outside|make it with tg\.z"
    ):
        tg.trace(careless)(1.0)


def test_math_is_for_numbers() -> None:
    with pytest.raises(TypeError, match=r"math\.exp is for numbers: for arrays, tg\.exp"):
        tg.trace(lambda x: math.exp(x))(X)


def test_nothing_is_changed_for_others() -> None:
    def helper(x):
        out = np.zeros(2)
        out[0] = x
        return out

    @tg.trace
    def traced(x):
        return np.sum(helper(x))

    assert traced(2.0) == 2.0
    assert type(helper(2.0)) is np.ndarray and type(np.zeros(2)) is np.ndarray
    assert traced.python.__globals__["np"] is np


def test_globals_are_the_modules() -> None:
    """A function that sets globals runs with its own, so plain NumPy arrays stay what they are."""
    scope: dict[str, Any] = {"np": np}
    exec("def f(x):\n    global seen\n    seen = np.zeros(2)\n    return x + seen", scope)
    assert interpreted(scope["f"], 1.0)[0].tolist() == [1.0, 1.0]
    assert type(scope["seen"]) is np.ndarray


def test_recursion_and_methods() -> None:
    class Model:
        def features(self, x, depth):
            out = np.zeros(2)
            out[0], out[1] = x, depth
            return out if depth == 0 else out + self.features(x, depth - 1)

        @tg.trace
        def total(self, x):
            out = np.zeros(2)
            out[:] = x
            return np.sum(out)

    def powers(x, n):
        out = np.ones(1)
        out[0] = x
        return out if n == 0 else out * powers(x, n - 1)

    assert Model().total(1.5) == 3.0
    assert interpreted(lambda x: powers(x, 3), 2.0)[0].tolist() == [16.0]
    with pytest.raises(tg.TraceError, match="stored in a plain NumPy array"):
        tg.trace(lambda x: Model().features(x, 1))(1.0)


def test_extents_stay_open() -> None:
    """What is made of traced extents is an operation: one version serves every size."""

    @tg.trace
    def f(x: Any) -> Any:
        n = len(x)
        k = np.exp(-((x[:, None] - x) ** 2)) + 0.5 * np.eye(n) + np.tri(n, n + 0, -1)
        t = np.linspace(0.0, 1.0, n) + np.full(n, 2.0) + np.arange(n)[::-1] / n
        w = np.ones(x.shape)
        w[0] = w[-1] = 0.5
        return np.linalg.solve(k, t) @ w + np.zeros((n, 2)).sum()

    def by_numpy(x: np.ndarray) -> Any:
        return f.python(x)

    for n in (3, 5, 8):
        x = np.linspace(-1, 1, n) ** 3
        np.testing.assert_allclose(f(x), by_numpy(x), rtol=1e-12)
    assert len(f.versions) == 1
    tg.testing.check_grads(f, (np.array([0.1, -0.4, 0.7, 1.0]),), order=2)


def test_an_extent_that_becomes_a_number_gives_the_arrays_of_it_values() -> None:
    def f(x: Any) -> Any:
        n = len(x)
        second, times = np.zeros((n, n)), np.linspace(0, 1, n) * 2
        total = np.arange(n)[-1] * 1.0
        for i in range(n):
            second[i, i] = -2
            if i:
                second[i, i - 1] = second[i - 1, i] = 1
        for k, t in zip(np.arange(n)[::-1] // 2, times, strict=True):
            if t > 0.5:
                total = total + x[k] * t
        order = np.argsort(np.cos(np.arange(n)))
        return total + np.sum(second @ x * x[order.tolist()])

    x = np.array([0.3, -1.0, 2.0, 0.7])
    traced = tg.trace(f)
    np.testing.assert_allclose(traced(x), f(x), rtol=1e-14)
    assert "[-2. 1. 0. 0.]" in traced.dump(x)
    tg.testing.check_grads(traced, (x,), order=2)


def test_a_traced_value_written_before_the_extent_is_a_number_stays() -> None:
    def f(x: Any) -> Any:
        out = np.zeros(len(x))
        out[0] = x[1]
        total = 0.0
        for i in range(len(x)):
            total = total + out[i] * (i + 1)
            out[i] += x[i]
        return total + np.sum(out**2)

    x = np.array([0.5, 2.0, -1.0])
    np.testing.assert_allclose(tg.trace(f)(x), f(x), rtol=1e-14)
    tg.testing.check_grads(tg.trace(f), (x,), order=2)


def test_every_spelling_of_numpys() -> None:
    """The order, keywords, distances that are no integers, objects: as NumPy, pinned if it must."""

    def f(x: Any) -> Any:
        n = len(x)
        boxes = np.empty(n, dtype=object)
        boxes[0] = x[0]
        return (
            np.zeros(n, float, "C").sum()
            + np.ones((n, 2), np.float32, order="F").sum()
            + np.arange(start=1, stop=n, step=2).sum()
            + np.arange(start=0.0, stop=n, step=0.5).sum()
            + np.full(n, 2.0, like=None).sum()
            + boxes[0]
        )

    for x in (np.ones(3), np.ones(4)):
        np.testing.assert_allclose(tg.trace(f)(x), f(x), rtol=1e-15)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8])
def test_integrals_of_samples(count: int) -> None:
    rng = np.random.default_rng(count)
    y, x = rng.normal(size=count), np.cumsum(rng.uniform(0.1, 1.0, count))
    programs = [
        lambda y, x: integrate.simpson(y, dx=0.3),
        lambda y, x: integrate.simpson(y, x),
        lambda y, x: integrate.trapezoid(y, x),
        lambda y, x: integrate.cumulative_trapezoid(y, x),
        lambda y, x: integrate.cumulative_trapezoid(y, x, initial=0),
    ]
    for program in programs:
        found, expected = tg.trace(program)(y, x), program(y, x)
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)
        assert np.shape(found) == np.shape(expected)


def test_simpsons_rule_serves_odd_and_even_numbers() -> None:
    f = tg.trace(lambda y: integrate.simpson(y, dx=0.1))
    for count in (9, 8, 7, 6):
        y = np.linspace(0, 1, count) ** 3
        np.testing.assert_allclose(f(y), integrate.simpson(y, dx=0.1), rtol=1e-14)
    assert len(f.versions) == 1
    with pytest.raises(ValueError, match="initial"):
        tg.cumulative_trapezoid(y, initial=1)


def test_equations_between_tensors_and_ranks() -> None:
    a = np.random.default_rng(0).normal(size=(2, 3, 6))
    singular = a[0] @ np.diag([1.0, 1, 0, 0, 0, 0]) @ a[0].T
    programs = [
        (lambda a: np.linalg.matrix_rank(a), singular),
        (lambda a: np.linalg.matrix_rank(a, tol=np.array([1.0, 2.0])), a),
        (lambda a: np.linalg.matrix_rank(a, rtol=0.5), a),
        (lambda a: np.linalg.matrix_rank(a), np.zeros(3)),
        (lambda a: np.linalg.tensorsolve(a, a[..., 0]), a),
        (lambda a: np.linalg.tensorinv(a), a),
    ]
    for program, x in programs:
        np.testing.assert_allclose(tg.trace(program)(x), program(x), rtol=1e-10, atol=1e-12)
    for wrong in (
        lambda a: np.linalg.tensorsolve(a, a[0, :, 0]),
        lambda a: np.linalg.tensorinv(a, 1),
    ):
        with pytest.raises(np.linalg.LinAlgError):
            tg.trace(wrong)(a)
