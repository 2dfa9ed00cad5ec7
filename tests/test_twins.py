"""Kernels that differ in names alone are emitted once, and give what they gave."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from codegen.expr import INT, Call, Const, Expr, Load, Var, integer
from codegen.loops import Alloc, For, Function, Launch, Module, Parameter, Return, Store
from codegen.schedule.twins import shared, unique

F8, AT = np.dtype(float), Var("i")


def kernel(name: str, out: str, given: tuple[str, str], factor: float = 2.0) -> Function:
    """`out[i] = given[0][i] * factor - given[1][i]`."""
    a, b = (Load(array, (AT,), F8) for array in given)
    scaled: Expr = Call("multiply", (a, Const(factor, F8)), F8)
    body = For(
        AT, Var("stop"), (Store(out, (AT,), Call("subtract", (scaled, b), F8), name),), Var("start")
    )
    own = tuple(Parameter(n, INT, 0) for n in ("block", "start", "stop"))
    arrays = (Parameter(n, F8, 1) for n in (out, *sorted(given)))
    return Function(name, (*own, *arrays), (body, Return(())), kernel=True)


def launch(kernel: Function) -> Launch:
    args = tuple(p.name for p in kernel.parameters[3:])
    return Launch(kernel.name, Var("n"), integer(9), Var("blocks"), Var("block"), (), args)


def module(*kernels: Function) -> Module:
    outs = tuple(Alloc(k.parameters[3].name, (Var("n"),), F8) for k in kernels)
    loop = For(Var("t"), integer(2), tuple(map(launch, kernels)), sequential=True)
    parameters = tuple(Parameter(n, F8, 1) for n in "xyz")
    return Module((*kernels, Function("f", parameters, (*outs, loop, Return(("u",))))))


def test_a_launch_gives_its_arrays_where_the_other_kernel_takes_them() -> None:
    """The parameters of the two stand in different orders: those of names, not of use."""
    found = unique(module(kernel("k", "u", ("x", "y")), kernel("k_2", "v", ("z", "x"))))
    assert [f.name for f in found.functions] == ["k", "f"]
    _, _, loop, _ = found.functions[-1].body
    assert isinstance(loop, For)
    first, second = loop.body
    assert isinstance(first, Launch) and isinstance(second, Launch)
    assert (first.kernel, first.args) == ("k", ("u", "x", "y"))
    assert (second.kernel, second.args) == ("k", ("v", "z", "x"))


@pytest.mark.parametrize(
    "other",
    [
        kernel("k_2", "v", ("z", "x"), 3.0),
        kernel("k_2", "v", ("z", "z")),
        kernel("k_2", "z", ("z", "x")),
        replace(kernel("k_2", "v", ("z", "x")), apart=("v",)),
        replace(kernel("k_2", "v", ("z", "x")), extents=(("v", 0, 8),)),
    ],
    ids=["number", "one array twice", "in place", "apart", "extent"],
)
def test_kernels_that_differ_stay(other: Function) -> None:
    both = module(kernel("k", "u", ("x", "y")), other)
    assert unique(both) is both


def test_zero_has_a_sign() -> None:
    both = module(kernel("k", "u", ("x", "y"), 0.0), kernel("k_2", "v", ("z", "x"), -0.0))
    assert unique(both) is both


def layers(parameters: Any, x: Any) -> Any:
    for w, b in parameters:
        x = np.tanh(x @ w + b)
    return np.mean(x * x)


def test_layers_share_their_kernels() -> None:
    """Nine loops, four of them tanh forwards, four of them backwards."""
    random = np.random.default_rng(2)
    parameters = [(random.normal(size=(30, 30)) / 5, random.normal(size=30)) for _ in range(5)]
    x = random.normal(size=(9_000, 30))
    f = tg.value_and_grad(layers, argnums=(0, 1))
    value, (slopes, d_x) = f(parameters, x)
    source = f.versions[0].primal.into.built.source
    assert source.count("    parallel(") == 9 and source.count("\ndef ") <= 5
    single = tg.value_and_grad(layers, argnums=(0, 1))
    single(parameters, x[:3])
    again, (others, d_again) = single(parameters, x)
    assert value == again
    np.testing.assert_array_equal(d_x, d_again)
    for pair, other in zip(slopes, others, strict=True):
        for a, b in zip(pair, other, strict=True):
            np.testing.assert_array_equal(a, b)
    step = 1e-6 * random.normal(size=x.shape)
    change = (layers(parameters, x + step) - layers(parameters, x - step)) / 2
    assert np.sum(d_x * step) == pytest.approx(change, rel=1e-5)


def deep(parameters: Any, x: Any) -> Any:
    """Layers of one kind, with much to compute for each element."""
    for w, b in parameters:
        y = np.tanh(x @ w + b)
        x = x + np.exp(-y * y) / (1 + np.sqrt(np.abs(y) + 1e-3))
    return np.mean(x * x)


def example(layers: int) -> tuple[Any, np.ndarray]:
    random = np.random.default_rng(6)
    parameters = [(random.normal(size=(7, 7)) / 3, random.normal(size=7)) for _ in range(layers)]
    return parameters, random.normal(size=(5, 7))


def test_nests_of_layers_are_calls_of_one_kernel(tmp_path: Path) -> None:
    parameters, x = example(6)
    f = tg.value_and_grad(deep, argnums=(0, 1))
    value, (_, d_x) = f(parameters, x)
    assert value == pytest.approx(deep(parameters, x), rel=1e-13)
    step = 1e-6 * np.random.default_rng(1).normal(size=x.shape)
    change = (deep(parameters, x + step) - deep(parameters, x - step)) / 2
    assert np.sum(d_x * step) == pytest.approx(change, rel=1e-5)
    source = f.versions[0].primal.into.built.source
    assert source.count("\n    deep_value_and_grad_into_nest(") >= 4
    assert source.count("\ndef ") <= 5
    path = tmp_path / "exported.py"
    tg.trace(deep).export(path, parameters, x)
    text = path.read_text()
    assert "_nest(" in text and "codegen" not in text
    code = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
import numpy as np, exported
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_twins import example
parameters, x = example(6)
leaves = [a for pair in parameters for a in pair]
value, *rest = exported.deep_value_and_grad(*leaves, x)
print(repr(float(value)))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    for more in ({}, {"NUMBA_DISABLE_JIT": "1"}):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment | more,
            capture_output=True,
            text=True,
            check=True,
        )
        assert float(done.stdout) == pytest.approx(value, rel=1e-13)


def test_nests_beside_loops_on_threads_are_shared() -> None:
    """Loops of a few known steps are too short for threads; those that are alike are one kernel."""

    def program(vs: Any, x: Any) -> Any:
        total = np.sum(np.sin(x))
        for v in vs:
            w = np.reshape(v, (4, 4))
            total = total * np.sum(np.exp(np.tanh(w.T @ w) + w) / (1 + np.sqrt(w * w + 1)))
        return total

    random = np.random.default_rng(3)
    vs, x = [random.normal(size=16) for _ in range(5)], random.normal(size=100_000)
    f = tg.value_and_grad(program)
    value, slopes = f(vs, x)
    assert value == pytest.approx(program(vs, x), rel=1e-12)
    source = f.versions[0].primal.into.built.source
    assert "parallel(" in source
    assert source.count("\n    program_value_and_grad_into_nest(") >= 3
    step = [1e-6 * random.normal(size=16) for _ in vs]
    up, down = ([v + sign * s for v, s in zip(vs, step, strict=True)] for sign in (1, -1))
    change = (program(up, x) - program(down, x)) / 2
    assert sum(d @ s for d, s in zip(slopes, step, strict=True)) == pytest.approx(change, rel=1e-5)


def test_a_few_small_nests_stay_where_they_are() -> None:
    parameters, x = example(2)
    f = tg.value_and_grad(lambda parameters, x: layers(parameters, x), argnums=(0, 1))
    f(parameters, x)
    assert "_nest" not in f.versions[0].primal.into.built.source


def parts(x: Any, y: Any) -> Any:
    """One nest for rows of C order, for a transposed array and for a slice."""
    found = [np.exp(-a * a) * np.sin(a) + np.sqrt(np.abs(a)) / (2 + np.cos(a)) for a in (x, x.T, y)]
    return found[0] @ found[1], found[1] * 2, found[2][1:], np.sort(found[2], axis=0)


def test_arrays_of_other_layouts_and_results() -> None:
    random = np.random.default_rng(9)
    x, y = random.normal(size=(6, 6)), random.normal(size=(6, 6))
    for got, wanted in zip(tg.trace(parts)(x, y), parts(x, y), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-13)


def rescaled(x: Any, numbers: tuple[float, ...]) -> Any:
    """Nests of one kind with numbers of their own, and 1.25 in all of them."""
    total = 0.0
    for c in numbers:
        x = np.tanh(x @ x.T) / (c + 0.7) * c - 1.25 * c
        total = total + np.sort(x, axis=0)
    return np.sum(total)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nests_that_differ_in_numbers_are_one_kernel(dtype: type) -> None:
    x = np.random.default_rng(4).normal(size=(4, 4)).astype(dtype) / 3
    numbers = (0.3, 0.45, 0.6, 0.35, 0.9)
    f = tg.value_and_grad(lambda x: rescaled(x, numbers))
    value, d_x = f(x)
    exact = 1e-4 if dtype is np.float32 else 1e-12
    assert value == pytest.approx(rescaled(x, numbers), rel=exact)
    step = 1e-6 * np.random.default_rng(5).normal(size=x.shape)
    wide = x.astype(float)
    change = (rescaled(wide + step, numbers) - rescaled(wide - step, numbers)) / 2
    assert np.sum(d_x * step) == pytest.approx(change, rel=1e-2 if dtype is np.float32 else 1e-5)
    source = f.versions[0].primal.into.built.source
    assert source.count("_nest(") >= 4
    assert "factor" in source


def assignments(*values: float) -> Function:
    """`u0[i] = a0 + u0[i] * exp(x[i])`, and so on."""
    body: list[Any] = []
    for number, value in enumerate(values):
        out = f"u{number}"
        load, x = Load(out, (AT,), F8), Load("x", (AT,), F8)
        product = Call("multiply", (load, Call("exp", (x,), F8)), F8)
        stored = Call("add", (Const(value, F8), product), F8)
        body.append(For(AT, Var("n"), (Store(out, (AT,), stored),)))
    arrays = tuple(Parameter(name, F8, 1) for name in ("x", *(f"u{k}" for k in range(len(values)))))
    sizes = (("n", "x", 0),)
    return Function("f", arrays, (*body, Return(())), sizes=sizes)


@pytest.mark.parametrize(
    ("values", "kernels"),
    [((0.3, 0.7, -0.1), 1), ((1.5, 1.5, 1.5), 1), ((0.0, -0.0, 1.0), 0), ((2.0, 4.0, 0.5), 0)],
    ids=["given", "common", "zeros", "powers of two"],
)
def test_which_numbers_are_given(values: tuple[float, ...], kernels: int) -> None:
    """Of x + 0.0 and x * 2.0 LLVM makes something simpler."""
    (*made, function) = shared(Module((assignments(*values),))).functions
    assert len(made) == kernels
    if made:
        given = "factor" in [p.name for p in made[0].parameters]
        assert given == (len(set(values)) > 1)
    assert len(function.body) == len(values) + 1
