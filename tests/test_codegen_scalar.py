"""Infix and builtin scalar functions over the dtypes: text = NumPy, in Python and in numba."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import codegen
from codegen import scalar
from codegen.expr import BOOL, INT, Call, Cast, Const, Expr, Load, Select, Var
from codegen.loops import Alloc, Assign, For, Function, Module, Parameter, Return, Store

DTYPES = [np.dtype(c) for c in ("f8", "f4", "i8", "i4", "i1", "u1", "u8", "?")]
TABLES = {"sign": 0} | scalar.INTEGER | scalar.COMPARISON | scalar.LOGICAL | scalar.FLOATING
COUNTER, N = Var("i"), Var("n")


def run(exprs: list[Expr], arguments: dict[str, np.ndarray], compiled: bool) -> list[np.ndarray]:
    """Each expression at every index of the arguments."""
    outs = [f"out{k}" for k in range(len(exprs))]
    allocs = [Alloc(o, (N,), e.dtype, temporary=False) for o, e in zip(outs, exprs, strict=True)]
    stores = [Store(o, (COUNTER,), e) for o, e in zip(outs, exprs, strict=True)]
    parameters = tuple(Parameter(k, v.dtype, 1) for k, v in arguments.items())
    sizes = (("n", parameters[0].name, 0),)
    body = (*allocs, For(COUNTER, N, tuple(stores)), Return(tuple(outs)))
    module = Module((Function("f", parameters, body, "", sizes),))
    if compiled:
        function = codegen.build(module).functions["f"]
    else:
        space: dict = {}
        exec(codegen.print_module(module).replace("from numba import njit", NO_JIT), space)
        function = space["f"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = function(*arguments.values())
    return list(results) if len(outs) > 1 else [results]


NO_JIT = "njit = lambda **options: lambda function: function"


def samples(dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    if dtype == BOOL:
        return generator.random(40) < 0.5, generator.random(40) < 0.5
    if dtype.kind == "f":
        special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -2.5, 1e30])
        a, b = (p.ravel() for p in np.meshgrid(special, special))
        return a.astype(dtype), b.astype(dtype)
    info = np.iinfo(dtype)
    a = generator.integers(info.min, info.max, 40, dtype, endpoint=True)
    b = generator.integers(1, 7, 40).astype(dtype)
    return a, b


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("compiled", [False, True], ids=["python", "numba"])
def test_functions_are_numpys(dtype: np.dtype, compiled: bool) -> None:
    a, b = samples(dtype)
    calls, expected = [], []
    for name in TABLES:
        ufunc = getattr(np, name)
        try:
            with np.errstate(all="ignore"):
                value = ufunc(*(a, b)[: ufunc.nin])
        except TypeError:
            continue
        if value.dtype != BOOL and value.dtype != dtype:
            continue  # int / int, sqrt(int): NumPy's float16 and the like are for Cast to ask for
        if dtype.kind != "f" and name in scalar.FLOATING and name not in scalar.INTEGER:
            continue
        if dtype.kind == "f" and name in ("maximum", "minimum", "power", "sign", "floor_divide",
                                          "remainder"):  # fmt: skip
            continue  # vecmath's
        args = (Load("a", (COUNTER,), dtype), Load("b", (COUNTER,), dtype))[: ufunc.nin]
        if dtype == BOOL and name in ("power", "sign", "floor_divide", "remainder", "left_shift",
                                      "right_shift"):  # fmt: skip
            continue
        calls.append(Call(name, args, value.dtype))
        expected.append((name, value))
    results = run(calls, {"a": a, "b": b}, compiled)
    for (name, value), result in zip(expected, results, strict=True):
        assert result.dtype == value.dtype, name
        np.testing.assert_array_equal(result, value, err_msg=name)


@pytest.mark.parametrize("compiled", [False, True], ids=["python", "numba"])
def test_mixed_dtypes_and_casts(compiled: bool) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "u": rng.integers(2**62, 2**64, 20, np.uint64),
        "i": rng.integers(-5, 5, 20),
        "f": rng.normal(size=20).astype(np.float32) * 1000,
        "d": rng.normal(size=20) * 1e5,
    }
    u, i, f, d = (Load(k, (Var("i"),), v.dtype) for k, v in arrays.items())
    f4, f8, u8, i1 = (np.dtype(c) for c in ("f4", "f8", "u8", "i1"))
    arrays = {f"x{k}": v for k, v in arrays.items()}
    u, i, f, d = (Load(k, (COUNTER,), v.dtype) for k, v in arrays.items())
    au, ai, af, ad = arrays.values()
    cases = [
        (Call("add", (u, Const(1, INT)), u8), au + np.uint64(1)),
        (Call("add", (u, i), u8), au + ai.astype(u8)),
        (Call("multiply", (f, Const(2.0, f8)), f4), af * np.float32(2)),
        (Call("multiply", (f, d), f8), af * ad),
        (Call("divide", (i, Const(4, INT)), f8), ai / 4),
        (Call("add", (f, i), f8), af + ai),
        (Call("add", (f, i), f4), af + ai.astype(f4)),
        (Cast(d, i1), ad.astype(np.int64).astype(i1)),
        (Cast(u, f4), au.astype(f4)),
        (Call("logical_and", (i, d), BOOL), np.logical_and(ai, ad)),
        (Select(i, f, Const(0, INT), f4), np.where(ai != 0, af, np.float32(0))),
        (Call("less", (u, i), BOOL), au < ai),
    ]
    results = run([expr for expr, _ in cases], arrays, compiled)
    for (expr, value), result in zip(cases, results, strict=True):
        assert result.dtype == value.dtype, expr
        np.testing.assert_array_equal(result, value, err_msg=str(expr))


def test_an_expression_prints_with_the_fewest_parentheses() -> None:
    a, b, c = (Var(name, np.dtype(float)) for name in "abc")

    def call(name: str, *args: Expr) -> Call:
        return Call(name, args, np.dtype(float))

    cases = {
        "a * (b + c)": call("multiply", a, call("add", b, c)),
        "a + b + c": call("add", call("add", a, b), c),
        "a + (b + c)": call("add", a, call("add", b, c)),
        "a - (b - c)": call("subtract", a, call("subtract", b, c)),
        "-(a + b) * c": call("multiply", call("negative", call("add", a, b)), c),
        "-a * c": call("multiply", call("negative", a), c),
        "a / (b * c)": call("divide", a, call("multiply", b, c)),
    }
    for text, expr in cases.items():
        body = (Assign(Var("y", expr.dtype), expr), Return((Var("y", expr.dtype),)))
        parameters = tuple(Parameter(name, expr.dtype, 0) for name in "abc")
        assert f"    y = {text}\n" in codegen.print_module(
            Module((Function("f", parameters, body),))
        )
