"""Exceptions that compiled code raises: `tg.check`, and `raise` and `assert` on traced values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracegrad as tg

Program = Callable[..., Any]
GOOD, BAD = np.array([1.0, 4.0, 9.0]), np.array([1.0, -4.0, 9.0])


class Refused(ValueError):
    """A class of the user's own, with a signature of its own."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code

    def __str__(self) -> str:
        return f"{self.code}: {self.args[1]}"


def plain(x: Any) -> Any:
    tg.check(np.all(x > 0), "x > 0")
    return np.sum(np.sqrt(x))


def scanned(x: Any) -> Any:
    def step(total: Any, item: Any) -> Any:
        tg.check(item > 0, "x > 0")
        return total + np.sqrt(item), total

    return tg.scan(step, 0.0, x)[0]


def chosen(x: Any) -> Any:
    def other(x: Any) -> Any:
        tg.check(x[1] > 9, "x > 0")
        return np.sum(x)

    return tg.cond(x[1] > 0, lambda x: np.sum(np.sqrt(x)), other, x)


def unrolled(x: Any) -> Any:
    total = 0.0
    for k in range(24):
        tg.check(x[k % 3] > 0, "x > 0")
        total = total * 0.9 + np.sqrt(x[k % 3])
    return total


@tg.trace(python_control_flow=True)
def looped(x: Any) -> Any:
    total = 0.0
    for i in tg.range(x.shape[0]):
        if x[i] <= 0:
            raise ValueError("x > 0")
        total = total + np.sqrt(x[i])
    return total


@tg.trace(python_control_flow=True)
def nested(x: Any) -> Any:
    if x[0] > 0:
        if x[1] <= 0:
            y = x * 2
            raise ValueError("x > 0")
        y = np.sqrt(x)
    else:
        y = x
    return np.sum(y)


PROGRAMS = {
    "plain": plain,
    "scan": scanned,
    "cond": chosen,
    "unrolled": unrolled,
    "range": looped,
    "nested": nested,
}


@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt")  # of the dump, as NumPy
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_derivatives(name: str) -> None:
    """A condition that holds changes nothing; one that does not raises in whatever is computed."""
    program = PROGRAMS[name]
    f = tg.trace(program)
    weights = np.array([np.sum(0.9 ** np.arange(23 - k, -1, -3)) for k in range(3)])
    weights = weights if name == "unrolled" else np.ones(3)
    slope = 0.5 * weights / np.sqrt(GOOD)
    np.testing.assert_allclose(f(GOOD), weights @ np.sqrt(GOOD), rtol=1e-14)
    np.testing.assert_allclose(f.grad(GOOD), slope, rtol=1e-14)
    np.testing.assert_allclose(tg.hvp(f)(GOOD, GOOD), -slope / 2, rtol=1e-13)
    tensor = tg.tensor(GOOD, requires_grad=True)
    f(tensor).backward()
    np.testing.assert_allclose(np.asarray(tensor.grad), slope, rtol=1e-14)
    pairs = np.stack([GOOD, GOOD])
    np.testing.assert_allclose(tg.vmap(f)(pairs), [weights @ np.sqrt(GOOD)] * 2, rtol=1e-14)
    runs: list[Program] = [f, f.grad, lambda x: tg.jvp(f, (x,), (x,)), lambda x: tg.hvp(f)(x, x)]
    runs += [lambda x: f(tg.tensor(x, requires_grad=True)), f.value_and_grad]
    runs += [lambda x: tg.vmap(f)(np.stack([GOOD, x])), f.dump(GOOD, which="primal").function()]
    for run in runs:
        for _ in range(2):
            with pytest.raises(ValueError, match=r"^x > 0$"):
                run(BAD)


def with_jvp(f: Program) -> Program:
    whole = tg.custom_jvp(f)
    whole.defjvp(lambda primals, tangents: tg.jvp(f, primals, tangents))
    return whole


def with_vjp(f: Program) -> Program:
    whole = tg.custom_vjp(f)
    whole.defvjp(lambda x: (f(x), x), lambda x, ct: (ct * tg.grad(f)(x),))
    return whole


@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt")
@pytest.mark.parametrize("name", ["plain", "scan", "cond", "nested"])
@pytest.mark.parametrize("wrap", [tg.checkpoint, with_jvp, with_vjp])
def test_in_functions_with_rules_of_their_own_and_checkpoints(wrap: Any, name: str) -> None:
    f = tg.trace(wrap(PROGRAMS[name]))
    slope, pair = 0.5 / np.sqrt(GOOD), np.stack([GOOD, GOOD])
    np.testing.assert_allclose(f.grad(GOOD), slope, rtol=1e-14)
    np.testing.assert_allclose(tg.hvp(f)(GOOD, GOOD), -slope / 2, rtol=1e-13)
    np.testing.assert_allclose(tg.vmap(f.grad)(pair), [slope, slope], rtol=1e-14)
    runs: list[Program] = [f, f.grad, lambda x: tg.hvp(f)(x, x)]
    runs += [lambda x: tg.vmap(f.grad)(np.stack([GOOD, x])), f.dump(GOOD).function()]
    if wrap is not with_vjp:
        runs.append(lambda x: tg.jvp(f, (x,), (x,)))
    for run in runs:
        with pytest.raises(ValueError, match=r"^x > 0$"):
            run(BAD)


@tg.trace(python_control_flow=True)
def classes(x: Any) -> Any:
    total = np.sum(x)
    if total < -9:
        raise Refused(3, "too low")
    if total < 0:
        raise ZeroDivisionError
    assert total < 99, "too high"
    tg.check(total != 5, "no five", np.linalg.LinAlgError)
    tg.check(total != 6, error=KeyError)
    return np.sqrt(total)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-10.0, Refused, "3: too low"),
        (-1.0, ZeroDivisionError, ""),
        (100.0, AssertionError, "too high"),
        (5.0, np.linalg.LinAlgError, "no five"),
        (6.0, KeyError, "''"),
    ],
)
def test_classes(value: float, error: type[Exception], text: str) -> None:
    """The user's class and message, from every kind of call."""
    tensor = tg.tensor(np.array([value]), requires_grad=True)
    given = [(classes, np.array([value])), (classes.grad, np.array([value])), (classes, tensor)]
    for run, x in given:
        with pytest.raises(error) as found:
            run(x)
        assert type(found.value) is error
        assert str(found.value) == text
    assert getattr(found.value, "code", 3) == 3


def test_endless_loops_end() -> None:
    """A check in a while loop is made in every step, not behind the loop."""

    @tg.trace(python_control_flow=True)
    def newton(a: Any, tol: Any) -> Any:
        x, steps = a, 0
        while abs(x * x - a) > tol:
            if steps == 50:
                raise RuntimeError("50 steps")
            x, steps = 0.5 * (x + a / x), steps + 1
        return x

    np.testing.assert_allclose(newton(2.0, 1e-12), np.sqrt(2), rtol=1e-14)
    np.testing.assert_allclose(newton.grad(2.0, 1e-12), 0.5 / np.sqrt(2), rtol=1e-10)
    for run in (newton, newton.grad):
        with pytest.raises(RuntimeError, match=r"^50 steps$"):
            run(2.0, -1.0)


def test_a_check_is_no_part_of_the_result() -> None:
    """It is made though nothing depends on it; a condition that is known is decided at once."""

    @tg.trace
    def constant(x: Any) -> Any:
        tg.check(x.shape[0] > 1, "known")
        tg.check(np.any(x), "nothing")
        return 3.0

    assert constant(GOOD) == 3.0
    for x, text in ((np.zeros(2), "nothing"), (np.ones(1), "known")):
        with pytest.raises(ValueError, match=text):
            constant(x)
    tg.check(True, "fine")
    with pytest.raises(ValueError, match="plain"):
        tg.check(np.False_, "plain")
    with pytest.raises(TypeError, match="eager"):
        tg.check(tg.tensor(1.0) > 2, "eager", TypeError)


ANY: Any = KeyboardInterrupt


def caught(x: Any) -> Any:
    try:
        if x > 0:
            raise ValueError("caught")
        y = x
    except Exception:
        y = 2 * x
    return y


def asserted(x: Any) -> Any:
    try:
        assert x > 0
    except AssertionError:
        return x
    return 2 * x


def formatted(x: Any) -> Any:
    if x > 0:
        raise ValueError(f"bad {x}")
    return x


def by_condition(x: Any) -> Any:
    def go(x: Any) -> Any:
        tg.check(x > 0, "x")
        return x < 1

    return tg.while_loop(go, lambda x: x + 1, x)


ERRORS: list[tuple[Program, str]] = [
    (caught, "ValueError is raised on a traced condition, inside of a try that could catch it"),
    (asserted, "AssertionError is raised on a traced condition, inside of a try"),
    (formatted, "has a value in it that is known when the compiled code runs"),
    (by_condition, "a check in the condition of a loop"),
    (lambda x: tg.check(x * np.ones(2) > 0, "x"), "has to be one truth value, use np.all"),
    (lambda x: tg.check(x > 0, "x", ANY), "which is no class of exceptions"),
]


@pytest.mark.parametrize(("program", "words"), ERRORS)
def test_what_is_refused(program: Program, words: str) -> None:
    with pytest.raises(tg.TraceError, match=words):
        tg.trace(program, python_control_flow=True)(1.0)


def test_caught_where_python_decides() -> None:
    """A try around what is known while tracing works as before."""

    @tg.trace(python_control_flow=True)
    def f(x: Any, n: int) -> Any:
        try:
            if n > 1:
                raise ValueError("known")
            return x
        except ValueError:
            return 2 * x

    assert f(3.0, 1) == 3.0
    assert f(3.0, 2) == 6.0
