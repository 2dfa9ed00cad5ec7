"""linearize, vjp, jvp and the rest of the surface that JAX users know; rules of the user's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tests.oracle import interpreted

X = np.array([0.3, 0.7, 1.1])
P = {"x": X, "w": np.arange(6.0).reshape(2, 3)}
COUNTS = np.array([1, 2])


def model(p: Any, n: int, counts: Any) -> dict:
    return {"y": np.tanh(p["w"] @ p["x"]) * counts, "s": np.sum(p["x"] ** n), "n": n}


def directions() -> tuple[dict, dict]:
    rng = np.random.default_rng(1)
    return (
        {"w": rng.normal(size=(2, 3)), "x": rng.normal(size=3)},  # keys in another order
        {"s": 0.7, "n": None, "y": rng.normal(size=2)},
    )


def test_linearize_and_vjp_keep_what_they_need_and_are_adjoint() -> None:
    t, ct = directions()
    value, linear = tg.linearize(model, P, 2, COUNTS)
    np.testing.assert_allclose(value["y"], np.tanh(P["w"] @ X) * COUNTS)
    pushed = linear(t, None, None)
    expected = interpreted(lambda p, k, t: tg.jvp(model, (p, 2, k), (t, None, None)), P, COUNTS, t)
    np.testing.assert_allclose(pushed["y"], expected[2], rtol=1e-13)
    assert value["n"] == pushed["n"] == 2
    _again, pullback = tg.vjp(model, P, 2, COUNTS)
    d_p, d_n, d_counts = pullback(ct)
    assert d_n is None and not d_counts.any()
    left = np.sum(pushed["y"] * ct["y"]) + pushed["s"] * ct["s"]
    right = np.sum(d_p["x"] * t["x"]) + np.sum(d_p["w"] * t["w"])
    assert left == pytest.approx(right, rel=1e-13)
    code = [line.split("#")[0] for line in linear.dump().splitlines()]
    assert not any("np.tanh" in line for line in code)
    assert "def " in linear.source()


def test_the_linear_map_is_itself_differentiable_and_traceable() -> None:
    y, linear, aux = tg.linearize(lambda x: (np.sin(x), x[0]), X, has_aux=True)
    np.testing.assert_allclose(y, np.sin(X))
    assert aux == X[0]
    got = interpreted(tg.grad(lambda t: np.sum(linear(t) ** 2)), X)[0]
    np.testing.assert_allclose(got, 2 * np.cos(X) ** 2 * X)
    inside = interpreted(lambda x, t: tg.linearize(np.sin, x)[1](t), X, X)[0]
    np.testing.assert_allclose(inside, np.cos(X) * X)
    t = tg.tensor(X, requires_grad=True)
    linear(t).sum().backward()
    np.testing.assert_allclose(t.grad.numpy(), np.cos(X))  # type: ignore[union-attr]


def test_derivatives_that_do_not_fit_are_refused() -> None:
    _, linear = tg.linearize(lambda p: np.sum(p["x"]), P)
    with pytest.raises(
        TypeError, match=r"tangent 0 is a dict with 'x', where a dict with 'x', 'w'"
    ):
        linear({"x": X})
    with pytest.raises(tg.ShapeError, match=r"shape \(2,\) is given for f64\[3\]"):
        linear({"x": np.ones(2), "w": None})
    with pytest.raises(TypeError, match="2 primals, but 1 tangents"):
        tg.jvp(np.add, (X, X), (X,))
    with pytest.raises(TypeError, match="the cotangent is a float64, where a dict"):
        tg.vjp(model, P, 2, COUNTS)[1](np.float64(1.0))
    with pytest.raises(TypeError, match="argnums=3, but sin was called with 1"):
        tg.jacfwd(np.sin, argnums=3)(X)


def test_jvp_with_aux_and_zero_tangents() -> None:
    def f(x: Any, y: Any) -> Any:
        return x * np.sin(y), np.sum(x)

    run = lambda x, y: tg.jvp(f, (x, y), (None, y), has_aux=True)  # noqa: E731
    value, tangent, aux = interpreted(run, X, X)
    np.testing.assert_allclose(tangent, X * np.cos(X) * X)
    np.testing.assert_allclose([np.sum(value), aux], [np.sum(X * np.sin(X)), np.sum(X)])


def test_hvp_and_hessian_take_argnums_aux_and_keywords() -> None:
    def f(a: Any, x: Any, *, power: Any = 3.0) -> Any:
        return np.sum(a * x**power), x[0]

    product, aux = interpreted(
        lambda x, v: tg.hvp(f, argnums=1, has_aux=True)(2.0, x, v, power=4.0), X, X
    )
    np.testing.assert_allclose(product, 24 * X**3)
    assert aux == X[0]
    both = interpreted(
        lambda a, x: tg.hvp(lambda a, x: np.sum(a * x**3), (0, 1))(a, x, (a, x)), X, X
    )
    np.testing.assert_allclose(both[0], 3 * X**2 * X)
    np.testing.assert_allclose(both[1], 3 * X**2 * X + 6 * X * X * X)
    matrix, aux = interpreted(tg.hessian(lambda x: (np.sum(x**3), x[1]), has_aux=True), X)
    np.testing.assert_allclose(matrix, np.diag(6 * X))
    assert aux == X[1]


@tg.custom_vjp
def scaled(params: dict, x: Any, how: str = "up") -> dict:
    return {"y": params["a"] * x, "b": params["b"]}


scaled.defvjp(
    lambda params, x, how: (scaled(params, x, how), (params, x)),
    lambda kept, ct: ({"b": ct["b"], "a": np.sum(ct["y"] * kept[1])}, 10 * ct["y"], None),
)


def test_custom_vjp_with_pytrees_keywords_and_constants() -> None:
    def loss(params: Any, x: Any) -> Any:
        out = scaled(params, x=x)
        return np.sum(out["y"] ** 2) + out["b"]

    params = {"a": 2.0, "b": 1.0}
    a, b, d_x = interpreted(tg.grad(loss, (0, 1)), params, X)
    np.testing.assert_allclose([a, b], [2 * 2 * np.sum(X**2), 1.0])
    np.testing.assert_allclose(d_x, 10 * 2 * 2 * X)


@tg.custom_jvp
def product(x: Any, y: Any) -> Any:
    return x * y


product.defjvps(lambda t, out, x, y: t * y, lambda t, out, x, y: 3 * x * t)


@pytest.mark.parametrize(
    "around",
    [
        lambda f: f,
        lambda f: tg.checkpoint(f),
        lambda f: lambda x: tg.scan(lambda c, _: (c + f(x), None), 0.0 * x, None, 2)[0] / 2,
        lambda f: lambda x: tg.vmap(lambda z: f(z))(np.stack([x, x]))[0],
        lambda f: lambda x: tg.cond(x[0] > 0, lambda: f(x), lambda: x),
        lambda f: lambda x: tg.linearize(f, x)[0],
    ],
)
def test_rules_hold_inside_of_everything(around: Any) -> None:
    f = around(lambda x: product(x, np.sin(x)))
    expected = np.sin(X) + 3 * X * np.cos(X)
    np.testing.assert_allclose(interpreted(tg.grad(lambda x: np.sum(f(x))), X)[0], expected)
    pushed = interpreted(lambda x: tg.jvp(f, (x,), (np.ones(3),))[1], X)[0]
    np.testing.assert_allclose(pushed, expected)
    second = interpreted(lambda x: tg.hvp(lambda x: np.sum(f(x)))(x, np.ones(3)), X)[0]
    by_rule = np.cos(X) + 3 * np.cos(X) + 3 * X * -np.sin(X)
    np.testing.assert_allclose(second, by_rule, rtol=1e-12)


def test_rules_on_tensors() -> None:
    t = tg.tensor(X, requires_grad=True)
    product(t, 2.0).sum().backward()
    np.testing.assert_allclose(t.grad.numpy(), [2.0, 2.0, 2.0])  # type: ignore[union-attr]


def wrong(bwd: Any = None, fwd: Any = None) -> Any:
    f = tg.custom_vjp(lambda x, y: x * y)
    f.name = "f"
    f.defvjp(fwd or (lambda x, y: (x * y, None)), bwd or (lambda kept, ct: (ct, ct)))
    return f


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (wrong(lambda kept, ct: (ct,)), "bwd rule of f must return a tuple of 2 cotangents"),
        (wrong(lambda kept, ct: ct), "bwd rule of f must return a tuple of 2 cotangents"),
        (
            wrong(lambda kept, ct: (np.sum(ct), ct)),
            r"returns f64 for argument 0, which is f64\[3\]",
        ),
        (wrong(lambda kept, ct: ({"a": ct}, ct)), "the cotangent of argument 0 is a dict"),
        (wrong(fwd=lambda x, y: x * y), r"fwd rule of f must return a pair \(result, residuals\)"),
    ],
)
def test_a_wrong_rule_is_named(f: Any, message: str) -> None:
    with pytest.raises(tg.NotDifferentiableError, match=message):
        tg.grad(lambda x: np.sum(f(x, x)))(X)


def test_what_a_rule_does_not_see_is_not_lost_silently() -> None:
    def loss(x: Any) -> Any:
        scale = np.sum(x)
        f = tg.custom_vjp(lambda y: scale * y)
        f.defvjp(lambda y: (scale * y, None), lambda kept, ct: (ct,))
        return np.sum(f(x))

    with pytest.raises(
        tg.NotDifferentiableError, match=r"uses scale \(f64\), which is diff.* argument"
    ):
        tg.grad(loss)(X)
