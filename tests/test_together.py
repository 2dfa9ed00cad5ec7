"""Sines and cosines of one number stand together, and nothing else moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from codegen.expr import BOOL, Call, Const, Expr, Load, Select, Var
from codegen.loops import Alloc, Assign, For, Function, Parameter, Return, Statement, Store
from codegen.schedule.together import together

F8 = np.dtype(np.float64)
K, N, V = Var("i"), Var("n"), Var("v", F8)
X = Load("x", (K,), F8)


def call(function: str, *args: Expr) -> Call:
    return Call(function, args, F8)


def moved(*body: Statement) -> list[str]:
    """The names to which the loop gives values, in order, after the pass."""
    arrays = (Alloc("y", (N,), F8, temporary=False), For(K, N, body), Return(("y",)))
    function = Function("f", (Parameter("x", F8, 1),), arrays, sizes=(("n", "x", 0),))
    (loop,) = (s for s in together(function).body if isinstance(s, For))
    return [s.target.name if isinstance(s, Assign) else "y" for s in loop.body if s]


FIRST = Assign(V, X), Assign(Var("s", F8), call("sin", V)), Assign(Var("t", F8), call("exp", V))


def test_a_cosine_follows_its_sine() -> None:
    last = Store("y", (K,), call("multiply", Var("t", F8), call("cos", V)))
    assert moved(*FIRST, last) == ["v", "s", "cos_v", "t", "y"]


@pytest.mark.parametrize(
    "value",
    [
        call("cos", Var("s", F8)),
        call("sinh", V),
        Select(Call("less", (V, Const(0.0, F8)), BOOL), call("cos", V), V, F8),
    ],
    ids=["another argument", "another kind", "one that is chosen"],
)
def test_others_stay(value: Expr) -> None:
    assert moved(*FIRST, Store("y", (K,), value)) == ["v", "s", "t", "y"]


def test_an_argument_that_changed_is_another() -> None:
    y = Load("y", (K,), F8)
    first = Assign(Var("s", F8), call("sin", y))
    body = first, Store("y", (K,), Var("s", F8)), Store("y", (K,), call("cos", y))
    assert moved(*body) == ["s", "y", "y"]
    assert moved(FIRST[1], Assign(V, X), Store("y", (K,), call("cos", V))) == ["s", "v", "y"]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_numbers_are_the_same(dtype: Any) -> None:
    def f(x: Any) -> Any:
        return np.sum(np.exp(np.sin(3 * x) * np.sinh(x)))

    x = np.linspace(-2, 2, 301, dtype=dtype)
    s, c, h, k = np.sin(3 * x), np.cos(3 * x), np.sinh(x), np.cosh(x)
    wanted = np.exp(s * h) * (3 * c * h + s * k)
    traced = tg.trace(f)
    # 20 roundings at the most, and those of the exponent, which is below 4
    scale = 40 * np.finfo(dtype).eps * np.max(np.abs(wanted))
    np.testing.assert_allclose(traced.grad(x), wanted, atol=scale)
    assert "cos_v" in traced.grad.source(x) and "cosh_" in traced.grad.source(x)
