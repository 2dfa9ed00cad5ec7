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


@pytest.mark.parametrize(
    ("program", "message", "line"),
    [
        (grows, r"scan: the carry changes from f64\[.*\] to f64\[.*\]", "return tg.scan("),
        (widens, r"fori_loop: the carry changes from i64\[3\] to f64\[3\]", "tg.fori_loop(0, 3"),
        (
            changes,
            "the carry that the body returns differs in the kinds of its containers",
            "return tg.while_loop(",
        ),
        (keeps, "a traced value of step is used after step returned", "+ KEPT[-1]"),
        (writes, "the body step writes into an array from outside", "out[0] = c[0]"),
        (stores, "cannot be stored in a plain NumPy array", "PLAIN[0] = c[0]"),
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
