"""Loops and branches: values, both derivative modes, second order, and the errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tests import oracle
from tracegrad.ir.interpret import interpret

RNG = np.random.default_rng(3)
A = RNG.uniform(0.2, 0.9, 3)
XS = RNG.normal(size=(4, 3))


def scanned(a: Any, xs: Any) -> Any:
    def step(carry: Any, x: Any) -> tuple[Any, Any]:
        carry = np.tanh(carry * a + x)
        return carry, carry * carry

    carry, ys = tg.scan(step, a * 0, xs)
    return np.sum(ys) + np.sum(carry)


def backwards(a: Any, xs: Any) -> Any:
    carry, ys = tg.scan(lambda c, x: (c * a + x, np.sum(c)), a, xs, reverse=True)
    return np.sum(carry * carry) + np.sum(ys * ys)


def matrix_steps(a: Any, xs: Any) -> Any:
    w = np.outer(a, a)
    carry, _ = tg.scan(lambda h, x: (np.tanh(w @ h + x), ()), a, xs)
    return np.sum(carry)


def counted(a: Any, xs: Any) -> Any:
    return np.sum(tg.fori_loop(0, xs.shape[0], lambda i, s: np.sin(s) * a + i, a))


def nested(a: Any, xs: Any) -> Any:
    def outer(carry: Any, x: Any) -> tuple[Any, Any]:
        inner = tg.fori_loop(0, 3, lambda i, s: s * np.cos(s) + x, carry)
        return inner, np.sum(inner * a)

    carry, ys = tg.scan(outer, a, xs)
    return np.sum(carry) + np.sum(ys)


def branching(a: Any, xs: Any) -> Any:
    def step(carry: Any, x: Any) -> tuple[Any, Any]:
        new = tg.cond(np.sum(x) > 0, lambda c: c * a, lambda c: np.sin(c) + x, carry)
        return new, ()

    return np.sum(tg.scan(step, a, xs)[0])


def switched(a: Any, xs: Any) -> Any:
    parts = [lambda v: v, lambda v: v * v, lambda v: np.exp(v)]
    index = np.argmax(a)
    return np.sum(tg.switch(index, parts, a)) * xs[0, 0]


def newton(a: Any, xs: Any) -> Any:
    return np.sum(
        tg.while_loop(lambda x: np.max(np.abs(x * x - a)) > 1e-13, lambda x: 0.5 * (x + a / x), a)
        * xs[0]
    )


def dynamic(a: Any, xs: Any) -> Any:
    steps = np.sum(xs > 0)
    return np.sum(tg.fori_loop(0, steps, lambda i, s: s * a + 0.1, a))


PROGRAMS = [
    scanned, backwards, matrix_steps, counted, nested, branching, switched, newton, dynamic,
]  # fmt: skip


def central(f: Callable[..., Any], a: np.ndarray, xs: np.ndarray, step: float = 1e-6) -> np.ndarray:
    return np.array([(f(a + step * d, xs) - f(a - step * d, xs)) / (2 * step) for d in np.eye(3)])


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_values_and_derivatives(program: Callable[..., Any]) -> None:
    traced = tg.trace(program)
    expected = program(A, XS)
    np.testing.assert_allclose(traced(A, XS), expected, rtol=1e-12)
    version = traced.versions[0]
    np.testing.assert_allclose(interpret(version.primal.final, [A, XS])[0], expected, rtol=1e-12)
    dump = traced.dump(A, XS, which="primal")
    np.testing.assert_allclose(dump.function()(A, XS), expected, rtol=1e-12)
    gradient = traced.grad(A, XS)
    np.testing.assert_allclose(gradient, central(program, A, XS), rtol=1e-6, atol=1e-8)
    direction = RNG.normal(size=3)
    value, tangent = tg.jvp(lambda a: program(a, XS), (A,), (direction,))
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(tangent, gradient @ direction, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("program", [scanned, branching, newton, dynamic], ids=lambda f: f.__name__)
def test_second_order(program: Callable[..., Any]) -> None:
    direction = RNG.normal(size=3)
    first = tg.grad(program)
    hvp = tg.grad(lambda a, xs: np.sum(first(a, xs) * direction))
    step = 1e-5
    expected = (first(A + step * direction, XS) - first(A - step * direction, XS)) / (2 * step)
    np.testing.assert_allclose(hvp(A, XS), expected, rtol=1e-5, atol=1e-7)


def test_forward_and_backward_are_split_across_the_loop() -> None:
    traced = tg.trace(scanned)
    a = tg.tensor(A, requires_grad=True)
    traced(a, XS).backward()
    np.testing.assert_allclose(a.grad.numpy(), central(scanned, A, XS), rtol=1e-6)


def test_any_length_is_one_version() -> None:
    traced = tg.trace(scanned)
    for count in (4, 7, 2):
        xs = RNG.normal(size=(count, 3))
        np.testing.assert_allclose(traced(A, xs), scanned(A, xs))
    assert len(traced.versions) == 1


def test_outside_of_a_trace_it_is_python() -> None:
    a = tg.tensor(A, requires_grad=True)
    scanned(a, XS).backward()
    np.testing.assert_allclose(a.grad.numpy(), central(scanned, A, XS), rtol=1e-6)


def test_outside_of_a_trace_no_items_have_stacks_too() -> None:
    def step(carry: Any, x: Any) -> Any:
        return carry + x[0], {"twice": 2 * x, "small": x > 0}

    carry, ys = tg.scan(step, 1.0, np.zeros((0, 3), np.float32))
    assert carry == 1.0 and ys["twice"].shape == (0, 3) == ys["small"].shape
    assert (ys["twice"].dtype, ys["small"].dtype) == (np.float32, np.bool_)


@pytest.mark.parametrize("wrap", [lambda f: f, tg.trace], ids=["plain", "traced"])
def test_numbers_are_conditions_and_bounds_have_names(wrap: Any) -> None:
    def program(x: Any, n: Any) -> Any:
        chosen = tg.cond(n, lambda y: y, lambda y: -y, x)
        total = tg.fori_loop(lower=0, upper=3, body_fun=lambda i, c: c + i, init_val=chosen)
        return (
            total,
            tg.cond(n * 0.5 - 0.5, lambda: 1.0, lambda: 2.0),
            tg.map(np.sin, x, batch_size=2),
        )

    x = np.array([1.0, 2.0])
    for n, sign, other in ((0, -1, 1.0), (1, 1, 2.0), (2, 1, 1.0)):
        got = wrap(program)(x, np.int64(n))
        np.testing.assert_allclose(got[0], sign * x + 3)
        assert got[1] == other
        np.testing.assert_allclose(got[2], np.sin(x))


def changing_shape(a: Any) -> Any:
    return tg.fori_loop(0, 3, lambda i, s: np.concatenate([s, s]), a)


def changing_dtype(a: Any) -> Any:
    return tg.fori_loop(0, 3, lambda i, s: s * 0.5, np.sum(a > 0))


def vector_condition(a: Any) -> Any:
    return tg.cond(a > 0, lambda: a, lambda: -a)


def different_branches(a: Any) -> Any:
    return tg.cond(a[0] > 0, lambda: a, lambda: a[0])


def lengths(a: Any) -> Any:
    return tg.scan(lambda c, x: (c, x[0]), a, (a, np.ones(5)))[1]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (changing_shape, "carry changes"),
        (changing_dtype, "carry changes"),
        (vector_condition, "not a boolean scalar"),
        (different_branches, "branch"),
        (lengths, "different lengths"),
    ],
)
def test_errors_name_the_line(program: Callable[..., Any], message: str) -> None:
    with pytest.raises(tg.TracegradError, match=message) as caught:
        tg.trace(program)(A)
    assert "test_control.py" in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [
        np.arange(3.0),
        np.arange(6.0)[::2],
        np.frombuffer(bytearray(24)),
        np.from_dlpack(np.arange(3.0)),
    ],
    ids=["own", "view", "buffer", "capsule"],
)
def test_arrays_around_a_body_stay_as_they_were(table: np.ndarray) -> None:
    """While a body is traced they are read-only; that of a capsule NumPy would not give back."""

    @tg.trace
    def f(x: Any) -> Any:
        return tg.cond(np.sum(x) > 0.0, lambda: table * x, lambda: x)

    np.testing.assert_array_equal(f(np.ones(3)), table)
    assert table.flags.writeable


def test_a_body_must_not_write_outside() -> None:
    def program(a: Any) -> Any:
        seen = np.zeros_like(a)

        def step(i: Any, s: Any) -> Any:
            seen[0] = s[0]
            return s * 2

        return tg.fori_loop(0, 3, step, a) + seen

    with pytest.raises(tg.TraceError, match="outside"):
        tg.trace(program)(A)


def test_products_with_a_cotangent_itself() -> None:
    """The seed of the backward, of a carry or of a stack, is a factor of a weight's gradient; so is
    a value that is the same in every step.
    """

    def moving(w: Any, c: Any, xs: Any) -> Any:
        c, ys = tg.scan(lambda c, x: (c @ w, x @ w), c, xs)
        return np.sum(np.sin(c)) + np.sum(ys * ys)

    def steady(w: Any, c: Any, a: Any) -> Any:
        c, ys = tg.scan(lambda c, _: (a @ w, c @ w), c, None, length=4)
        return np.sum(np.sin(c)) + np.sum(np.cos(ys))

    rng = np.random.default_rng(0)
    w, c = 0.5 * rng.normal(size=(3, 3)), rng.normal(size=(2, 3))
    for f, last in ((moving, rng.normal(size=(4, 2, 3))), (steady, rng.normal(size=(2, 3)))):
        tg.testing.check_grads(f, (w, c, last), order=1)
        oracle.check_second_order(f, w, c, last)


def test_one_operand_by_keyword() -> None:
    def pair(x: Any, k: Any) -> Any:
        both = [lambda v: v, lambda v: (v[1], v[0])]
        return tg.switch(k, both, operand=(x, 2.0))[0]

    with pytest.raises(TypeError, match="not both"):
        tg.cond(True, np.sin, np.sin, 1.0, operand=1.0)
    x = np.float64(0.5)
    for k, slope in ((0, 1.0), (1, 0.0)):
        assert tg.grad(pair)(x, np.int64(k)) == slope
    assert tg.cond(False, lambda _: 1, lambda _: 2, operand=None) == 2
    assert tg.trace(lambda x: tg.cond(x > 0, np.sin, np.cos, operand=x))(x) == np.sin(x)
