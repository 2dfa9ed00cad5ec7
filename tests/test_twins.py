"""Kernels that differ in names alone are emitted once, and give what they gave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from codegen.expr import INT, Call, Const, Expr, Load, Var, integer
from codegen.loops import Alloc, For, Function, Launch, Module, Parameter, Return, Store
from codegen.schedule.twins import unique

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
