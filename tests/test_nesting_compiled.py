"""Nests of transformations compiled, dumped and exported; structures, names and auxiliary values.

`--seeds 20` draws twenty times as many. See `tests/nests.py`.
"""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tests import nests, oracle
from tests.nests import FAMILIES, LAYERS
from tests.test_nesting import allowed

DRAWN = 6
STEP = 1e-5


def drawn(count: int, depth: int, seed: int) -> list[tuple[str, tuple[str, ...]]]:
    """Programs and nests; the third derivatives of compiled programs are left to the long run."""
    rng, found = random.Random(f"{depth} {seed}"), []
    while len(found) < count:
        names = tuple(rng.choice(sorted(LAYERS)) for _ in range(depth))
        if allowed(names) and not nests.lacks_a_rule(names) and (seed or nests.order(names) < 3):
            found.append((rng.choice(FAMILIES[rng.choice(sorted(FAMILIES))]), names))
    return found


@pytest.mark.parametrize("depth", [2, 3])
def test_compiled(depth: int, seed: int) -> None:
    for program, names in drawn(DRAWN // depth, depth, seed):
        nests.check_compiled(program, names, seed)


def test_dumps(seed: int) -> None:
    """The dump of a nest is a program that computes what its graph does."""
    for program, names in drawn(4 * DRAWN, 2, seed):
        f, x = nests.PROGRAMS[program].at(seed)
        function = tg.trace(nests.nested(f, names))
        expected = nests.Numbers(function, x)(x)
        for after in ("trace", "simplify"):
            found = function.dump(x, which="primal", after=after).function()(x)
            scale = 1 + np.max(np.abs(expected), initial=0)
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * scale)


def parameters() -> dict[str, Any]:
    rng = np.random.default_rng(2)
    return {
        "w": rng.normal(size=(3, 2)),
        "layers": [{"b": rng.normal(size=2)}, {"b": rng.normal(size=2)}],
    }


def loss(scale: Any, p: Any, x: Any, *, power: int = 2, shift: Any = 0.0) -> tuple[Any, Any]:
    hidden = np.tanh(x @ p["w"] + p["layers"][0]["b"])
    y = np.sum((scale * hidden + p["layers"][1]["b"] - shift) ** power)
    return y, {"hidden": hidden, "count": 3}


def test_structures_through_a_nest(tmp_path: Path) -> None:
    """Gradients of each example by two arguments, with an auxiliary value and keywords; names are
    kept in the result, the dump and the exported module."""
    each = tg.vmap(
        tg.value_and_grad(loss, argnums=(0, 1), has_aux=True),
        in_axes=(None, {"w": None, "layers": None}, 0),
        out_axes=((0, {"hidden": 1, "count": None}), 0),
    )
    p, xs, shift = parameters(), np.random.default_rng(3).normal(size=(4, 3)), np.arange(4.0)
    (values, aux), (d_scale, d_p) = each(1.5, p, xs, shift=shift)
    assert values.shape == d_scale.shape == (4,) and aux["hidden"].shape == (2, 4)
    assert aux["count"] == 3 and list(d_p) == ["w", "layers"]
    assert d_p["w"].shape == (4, 3, 2) and d_p["layers"][1]["b"].shape == (4, 2)
    single = tg.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    for item in range(4):
        wanted = oracle.interpreted(lambda *a, b=shift[item]: single(*a, shift=b), 1.5, p, xs[item])
        value, hidden, *gradient = wanted
        np.testing.assert_allclose(values[item], value, rtol=1e-13)
        np.testing.assert_allclose(aux["hidden"][:, item], hidden, rtol=1e-13)
        for got, want in zip(oracle.flat((d_scale, d_p)), gradient, strict=True):
            np.testing.assert_allclose(got[item], want, rtol=1e-11, atol=1e-13)
    dump = str(each.dump(1.5, p, xs, shift=shift))
    assert "p_w" in dump and "p_layers_0_b" in dump, dump
    path = tmp_path / "each.py"
    each.export(path, 1.5, p, xs, shift=shift)
    module = exported(path)
    flat = [1.5, *oracle.flat(p), xs, shift]
    found = getattr(module, each.name + "_forward", None) or getattr(module, each.name)
    results = found(*flat)
    np.testing.assert_allclose(results[0], values, rtol=1e-13)


def exported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_second_order_of_structures() -> None:
    """jvp(grad), hvp and rows of the Hessian of a function of a structure are one another."""
    p, x = parameters(), np.array([0.3, -0.2, 0.5])

    def value(p: Any) -> Any:
        return loss(1.5, p, x, power=2)[0]

    v = {"w": np.ones((3, 2)), "layers": [{"b": np.array([1.0, 0.0])}, {"b": np.zeros(2)}]}

    def everything(p: Any, v: Any) -> Any:
        pushed = tg.jvp(tg.grad(value), (p,), (v,))[1]
        return pushed, tg.hvp(value)(p, v), tg.hessian(value)(p)

    count = len(oracle.flat(p))
    found = oracle.interpreted(everything, p, v)
    pushed, product, rest = found[:count], found[count : 2 * count], found[2 * count :]
    for got, want in zip(pushed, product, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)
    assert len(rest) == count * count
    leaves = oracle.flat(v)
    for row, want in enumerate(product):
        blocks = rest[row * count : (row + 1) * count]
        total = sum(
            np.tensordot(block, t, axes=np.ndim(t)) for block, t in zip(blocks, leaves, strict=True)
        )
        np.testing.assert_allclose(total, want, rtol=1e-12, atol=1e-13)


def test_steps_that_differ_from_item_to_item() -> None:
    """The number of steps of a loop inside of a loop is that of the step at hand, backwards too."""

    def f(x: Any) -> Any:
        def body(c: Any, count: Any) -> Any:
            y = tg.while_loop(
                lambda s: s[0] < count, lambda s: (s[0] + 1, np.sin(s[1]) * s[1] + 0.3), (0, c * x)
            )[1]
            return y, np.sum(y)

        return np.sum(tg.scan(body, x, np.array([1, 4, 2, 0, 3]))[1])

    x = np.array([0.3, 0.4])
    run, gradient = nests.Numbers(f, x), nests.Numbers(tg.grad(f), x)
    np.testing.assert_allclose(tg.grad(f)(x), gradient(x), rtol=1e-13)
    for k, e in enumerate(np.eye(2)):
        np.testing.assert_allclose(nests.slope(run, x, e), gradient(x)[k], rtol=1e-8)
        row = nests.Numbers(tg.hessian(f), x)(x)[k]
        np.testing.assert_allclose(nests.slope(gradient, x, e), row, rtol=1e-7, atol=1e-8)


DERIVATIVES = {
    "grad": lambda f: tg.grad(lambda x: np.sum(f(x))),
    "jvp": lambda f: lambda x: tg.jvp(f, (x,), (np.ones(3),))[1],
    "jacrev": lambda f: lambda x: tg.jacrev(f)(x).sum(axis=0),
    "jacfwd": lambda f: lambda x: tg.jacfwd(f)(x).sum(axis=1),
    "hvp": lambda f: lambda x: tg.hvp(lambda x: np.sum(f(x)))(x, np.ones(3)),
    "checkpoint": tg.checkpoint,
    "cond": lambda f: lambda x: tg.cond(x[0] < 9, f, lambda x: -f(x), x),
    "while_loop": lambda f: (
        lambda x: tg.while_loop(lambda s: s[0] < 1, lambda s: (s[0] + 1, f(s[1])), (0, x))[1]
    ),
    "vmap": lambda f: lambda x: tg.vmap(f)(x[None])[0],
}


@pytest.mark.parametrize("outer", DERIVATIVES)
def test_stop_gradient_is_a_constant_at_any_depth(outer: str) -> None:
    x = np.array([0.3, 0.8, 1.2])

    def held(x: Any) -> Any:
        return np.sin(x) * tg.stop_gradient(np.exp(x))

    def constant(z: Any) -> Any:
        return np.sin(z) * np.exp(x)

    for inner in DERIVATIVES:
        nest = lambda f, inner=inner: DERIVATIVES[outer](DERIVATIVES[inner](f))  # noqa: E731
        found, wanted = (oracle.interpreted(nest(f), x)[0] for f in (held, constant))
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14, err_msg=inner)


@tg.custom_vjp
def tripled(x: Any) -> Any:
    """The exponential with three times its derivative, which tells rule and operations apart."""
    return np.exp(x)


tripled.defvjp(lambda x: (np.exp(x), x), lambda x, ct: (3 * ct * np.exp(x),))

AROUND = {
    "call": lambda x: np.sin(tripled(x)),
    "vmap": lambda x: np.sin(tg.vmap(tripled)(x)),
    "cond": lambda x: tg.cond(x[0] < 9, lambda x: np.sin(tripled(x)), lambda x: x, x),
    "scan": lambda x: np.sin(tg.scan(lambda c, _: (c, tripled(x)), 0.0, None, 1)[1][0]),
    "while_loop": lambda x: np.sin(
        tg.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, tripled(c[1])), (0, x))[1]
    ),
    "checkpoint": tg.checkpoint(lambda x: np.sin(tripled(x))),
}


@pytest.mark.parametrize("around", AROUND)
def test_a_vjp_answers_one_backward_pass(around: str) -> None:
    """d/dx of 3 cos(exp(x)) exp(x), by all pairs of modes; forward mode alone has no rule."""
    x = np.array([0.3, 0.5])

    def f(x: Any) -> Any:
        return np.sum(AROUND[around](x))

    e = np.exp(x)
    wanted = 3 * (np.cos(e) * e - np.sin(e) * e * e)
    ones = np.ones(2)
    for second in (
        lambda x: tg.hvp(f)(x, ones),
        lambda x: tg.grad(lambda x: np.sum(tg.grad(f)(x)))(x),
        lambda x: tg.jacrev(tg.jacrev(f))(x) @ ones,
        lambda x: tg.hessian(f)(x) @ ones,
        lambda x: tg.linearize(tg.grad(f), x)[1](ones),
    ):
        np.testing.assert_allclose(oracle.interpreted(second, x)[0], wanted, rtol=1e-12)
    with pytest.raises(tg.NotDifferentiableError, match="has a custom vjp but no jvp"):
        tg.jvp(f, (x,), (ones,))
