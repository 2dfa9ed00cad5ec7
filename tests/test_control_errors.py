"""What a loop or a branch cannot do is said with the user's line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracegrad as tg

KEPT: list[Any] = []
PLAIN = np.zeros(3)


def grows(x: Any) -> Any:
    return tg.scan(lambda c, _: (np.concatenate([c, c]), None), x, None, 3)[0]


def widens(x: Any) -> Any:
    return x + tg.fori_loop(0, 3, lambda i, c: c * 0.5, np.arange(3))


def changes(x: Any) -> Any:
    return tg.while_loop(lambda c: c[0] < 3, lambda c: [c[0] + 1, c[1]], (0, x))


def keeps(x: Any) -> Any:
    def step(c: Any, _: Any) -> Any:
        KEPT.append(c)
        return c + 1, None

    return tg.scan(step, x, None, 3)[0] + KEPT[-1]


def writes(x: Any) -> Any:
    out = x.copy()

    def step(i: Any, c: Any) -> Any:
        out[0] = c[0]
        return c + 1

    return tg.fori_loop(0, 3, step, x) + out


def stores(x: Any) -> Any:
    def step(i: Any, c: Any) -> Any:
        PLAIN[0] = c[0]
        return c + 1

    return tg.fori_loop(0, 3, step, x)


def many(x: Any) -> Any:
    return tg.cond(x > 0, lambda: x, lambda: -x)


def number(x: Any) -> Any:
    return tg.while_loop(lambda c: c, lambda c: c - 1, x[0])


def through_integers(x: Any) -> Any:
    count = tg.fori_loop(0, 3, lambda i, c: c + 1, 0)
    return tg.grad(lambda n: x[0] * n)(count)


def by_a_float(x: Any) -> Any:
    return tg.fori_loop(0, x[0], lambda i, c: c + 1, x)


def of_a_computed_length(x: Any) -> Any:
    return tg.scan(lambda c, _: (c, c), x, None, x[0])


@pytest.mark.parametrize(
    ("program", "message", "line"),
    [
        (by_a_float, "a bound is f64, not an integer", "tg.fori_loop(0, x[0]"),
        (of_a_computed_length, "length is f64, a number that the program computes", "tg.scan("),
        (grows, r"scan: the carry changes from f64\[.*\] to f64\[.*\]", "return tg.scan("),
        (widens, r"fori_loop: the carry changes from i64\[3\] to f64\[3\]", "tg.fori_loop(0, 3"),
        (
            changes,
            "the carry that the body returns differs in the kinds of its containers",
            "return tg.while_loop(",
        ),
        (keeps, "a traced value of step is used after step returned", "+ KEPT[-1]"),
        (writes, "the body step writes into an array from outside", "out[0] = c[0]"),
        (stores, "writes into a plain NumPy array from outside", "PLAIN[0] = c[0]"),
        (many, r"cond: the condition is bool\[.*\], not a boolean scalar", "tg.cond(x > 0"),
        (number, "while_loop: the condition is f64, not a boolean scalar", "lambda c: c - 1"),
        (through_integers, "with respect to an argument of dtype int64", "tg.grad(lambda n"),
    ],
)
def test_the_line_is_named(program: Callable[..., Any], message: str, line: str) -> None:
    with pytest.raises(tg.TracegradError, match=message) as info:
        tg.trace(program)(np.ones(3))
    text = str(info.value)
    assert "test_control_errors.py" in text and line in text


def test_a_leaked_value_is_refused_everywhere() -> None:
    def leaks(x: Any) -> Any:
        KEPT.append(2 * x)
        return x

    tg.trace(leaks)(np.ones(3))
    for use in (lambda v: v + 1, np.sum, lambda v: tg.grad(lambda x: np.sum(x * v))(np.ones(3))):
        with pytest.raises(tg.TraceError, match="a traced value of leaks is used after leaks ret"):
            use(KEPT[-1])


NUMBER: Any = 42
WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: tg.scan(NUMBER, 0, np.arange(3)), TypeError, r"scan: 42 \(int\) is not callable"),
    (lambda: tg.fori_loop(0, 1, NUMBER, 0), TypeError, "fori_loop: 42"),
    (lambda: tg.while_loop(lambda c: c < 3, NUMBER, 0), TypeError, "while_loop: 42"),
    (lambda: tg.cond(True, NUMBER, NUMBER), TypeError, "cond: 42"),
    (lambda: tg.switch(0, [NUMBER]), TypeError, "switch: 42"),
    (lambda: tg.map(NUMBER, np.arange(3)), TypeError, "map: 42"),
    (lambda: tg.associative_scan(NUMBER, np.arange(3)), TypeError, "scan: 42"),
    (lambda: tg.cond(None, lambda: 1, lambda: 2), TypeError, "must be a scalar; this is None"),
    (lambda: tg.cond("yes", lambda: 1, lambda: 2), TypeError, "must be a scalar; this is 'yes'"),
    (lambda: tg.cond((1.0, 2.0), lambda: 1, lambda: 2), TypeError, "must be a scalar; this is"),
    (lambda: tg.cond(np.ones(2), lambda: 1, lambda: 2), tg.TraceError, "not a boolean scalar"),
    (lambda: tg.switch("one", [lambda: 1]), TypeError, "the index must be a scalar"),
    (lambda: tg.switch(1.0, [lambda: 1]), tg.TraceError, "not an integer scalar"),
    (lambda: tg.while_loop(lambda c: (1, 2), lambda c: c, 0.0), tg.TraceError, r"is \(1, 2\)"),
    (lambda: tg.while_loop(lambda c: c, lambda c: c, 1.0), tg.TraceError, "not a boolean scalar"),
    (lambda: tg.while_loop(lambda c: True, lambda c: (c, c), 1.0), tg.TraceError, "tuple of 2"),
    (
        lambda: tg.while_loop(lambda c: True, lambda c: c * 0.5, np.int64(1)),
        tg.TraceError,
        "the carry changes from i64 to f64",
    ),
    (lambda: tg.scan(lambda c, x: c, 0.0, np.arange(3)), tg.TraceError, "return a pair"),
    (lambda: tg.scan(lambda c, x: (c, x), 0.0), TypeError, "give xs or length"),
    (lambda: tg.scan(lambda c, x: (c, x), 0.0, None, -2), ValueError, "length is -2, and must not"),
    (lambda: tg.scan(lambda c, x: (c, x), 0.0, None, 2.5), TypeError, "length is 2.5, which is no"),
    (lambda: tg.fori_loop(0, 3.5, lambda i, c: c, 0.0), TypeError, "a bound is 3.5, which is no"),
    (lambda: tg.scan(lambda c, x: (c, x), 0.0, 3.0), tg.ShapeError, "needs an axis"),
    (
        lambda: tg.scan(lambda c, x: (c, x[0]), 0, (np.arange(3), np.arange(4))),
        tg.ShapeError,
        "different lengths, 3 and 4",
    ),
]


@pytest.mark.parametrize(("call", "kind", "words"), WRONG)
@pytest.mark.parametrize("wrap", [lambda f: f, tg.trace], ids=["plain", "traced"])
def test_wrong_arguments_in_and_outside_of_a_trace(
    wrap: Any, call: Callable[[], Any], kind: type[Exception], words: str
) -> None:
    """The same error in both; a condition that is no boolean must not loop for ever."""
    with pytest.raises(kind, match=words):
        wrap(call)()


@pytest.mark.parametrize(
    "use",
    [
        lambda: tg.vmap(NUMBER),
        lambda: tg.checkpoint(NUMBER)(1.0),
        lambda: tg.jvp(NUMBER, (1.0,), (1.0,)),
        lambda: tg.custom_vjp(NUMBER),
        lambda: tg.jacfwd(NUMBER)(1.0),
        lambda: tg.grad(NUMBER),
    ],
)
def test_only_functions_are_transformed(use: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=r"only functions can be (transformed|traced): this is 42"):
        use()


@pytest.mark.parametrize("argnums", ["x", 0.5, (0, None)])
@pytest.mark.parametrize("transform", [tg.grad, tg.value_and_grad, tg.hessian, tg.jacfwd, tg.hvp])
def test_argnums_are_positions(transform: Any, argnums: Any) -> None:
    with pytest.raises(TypeError, match="give a position"):
        transform(lambda x, y: np.sum(x * y), argnums=argnums)(1.0, 2.0)


class Walker:
    def __init__(self, x: Any) -> None:
        self.x = x

    def step(self) -> None:
        self.x = np.sin(self.x)


def test_what_a_method_keeps_of_a_compiled_loop_is_refused() -> None:
    @tg.trace
    def walked(x: Any) -> Any:
        walker = Walker(x)
        for _ in tg.range(3):
            walker.step()
        return walker.x

    with pytest.raises(tg.TraceError, match=r"made in a loop of compiled code .*have it return"):
        walked(np.ones(3))
