"""Jacobians, Hessians, Hessian-vector products and custom rules."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import tracegrad as tg

X = np.array([0.3, 0.7, 1.1])


def vector(x: Any) -> Any:
    return np.stack([x[0] * x[1], np.sin(x[2]), np.sum(x**2), np.exp(x[1])])


def scalar(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def differences(f: Any, x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    columns = [(f(x + step * d) - f(x - step * d)) / (2 * step) for d in np.eye(len(x))]
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("mode", [tg.jacfwd, tg.jacrev, tg.jacobian])
def test_jacobian(mode: Any) -> None:
    np.testing.assert_allclose(mode(vector)(X), differences(vector, X), rtol=1e-6, atol=1e-8)


def test_jacobian_of_pytrees() -> None:
    def f(p: Any) -> Any:
        return {"y": np.outer(p["a"], p["b"]), "z": np.sum(p["a"])}

    found = tg.jacrev(f)({"a": X, "b": X[:2]})
    np.testing.assert_allclose(found["y"]["a"], np.einsum("ik,j->ijk", np.eye(3), X[:2]))
    np.testing.assert_allclose(found["z"]["b"], 0)


def test_hessian_and_its_products() -> None:
    expected = differences(tg.grad(scalar), X)
    hessian = tg.hessian(scalar)
    np.testing.assert_allclose(hessian(X), expected, rtol=1e-5, atol=1e-5)
    direction = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(tg.hvp(scalar)(X, direction), hessian(X) @ direction, rtol=1e-12)
    assert hessian(np.arange(5.0)).shape == (5, 5)
    assert len(hessian.versions) == 1


def test_jacobian_of_integers_is_refused() -> None:
    with pytest.raises(tg.NotDifferentiableError, match="only floating"):
        tg.jacfwd(vector)(np.arange(3))


def test_nested_transformations_agree() -> None:
    by_rows = tg.jacrev(tg.jacfwd(scalar))(X)
    np.testing.assert_allclose(by_rows, tg.hessian(scalar)(X), rtol=1e-10)
    third = tg.jacfwd(tg.hessian(scalar))(X)
    np.testing.assert_allclose(third, differences(tg.hessian(scalar), X), rtol=1e-5, atol=1e-4)


def test_custom_vjp() -> None:
    @tg.custom_vjp
    def f(x: Any, y: Any) -> Any:
        return np.sin(x) * y

    f.defvjp(lambda x, y: (np.sin(x) * y, (x, y)), lambda r, ct: (ct * 10.0, ct * np.sin(r[0])))
    np.testing.assert_allclose(tg.grad(lambda x: np.sum(f(x, x)))(X), 10 + np.sin(X))
    t = tg.tensor(X, requires_grad=True)
    f(t, t).sum().backward()
    np.testing.assert_allclose(t.grad.numpy(), 10 + np.sin(X))
    with pytest.raises(tg.NotDifferentiableError, match="custom_jvp"):
        tg.jvp(lambda x: np.sum(f(x, x)), (X,), (X,))


def test_custom_vjp_with_constants_for_differentiation() -> None:
    def power(n: int, x: Any) -> Any:
        return x**n

    f = tg.custom_vjp(power, nondiff_argnums=(0,))
    f.defvjp(lambda n, x: (x**n, x), lambda n, x, ct: (ct * 100.0 * n,))
    np.testing.assert_allclose(tg.grad(lambda x: np.sum(f(3, x)))(X), 300.0)


def test_custom_jvp_serves_both_modes_and_higher_order() -> None:
    @tg.custom_jvp
    def f(x: Any) -> Any:
        return np.exp(x)

    @f.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        return f(primals[0]), 3 * tangents[0] * f(primals[0])

    gradient = tg.grad(lambda x: np.sum(f(x)))
    np.testing.assert_allclose(gradient(X), 3 * np.exp(X))
    _, tangent = tg.jvp(f, (X,), (np.ones(3),))
    np.testing.assert_allclose(tangent, 3 * np.exp(X))
    second = tg.grad(lambda x: np.sum(gradient(x)))
    np.testing.assert_allclose(second(X), 9 * np.exp(X))


def test_a_missing_rule_is_named() -> None:
    @tg.custom_vjp
    def lonely(x: Any) -> Any:
        return x

    with pytest.raises(tg.NotDifferentiableError, match=r"lonely.*defvjp"):
        tg.grad(lambda x: np.sum(lonely(x)))(X)


def residual(camera: Any, point: Any) -> Any:
    c, s = np.cos(camera[0]), np.sin(camera[0])
    x = c * point[0] - s * point[1] + camera[1]
    y = s * point[0] + c * point[1] + camera[2]
    return np.stack([x / (1 + point[2] ** 2), y * camera[0]])


CAMERAS = np.random.default_rng(0).normal(size=(6, 3))
POINTS = np.random.default_rng(1).normal(size=(6, 3))


def test_vmap_is_the_stack_of_calls() -> None:
    expected = np.stack([residual(c, p) for c, p in zip(CAMERAS, POINTS, strict=True)])
    np.testing.assert_allclose(tg.vmap(residual)(CAMERAS, POINTS), expected)
    shared = tg.vmap(residual, in_axes=(None, 1), out_axes=1)(CAMERAS[0], POINTS.T)
    np.testing.assert_allclose(shared, np.stack([residual(CAMERAS[0], p) for p in POINTS], axis=1))


def test_vmap_nests_with_derivatives() -> None:
    jacobians = tg.vmap(tg.jacfwd(residual))(CAMERAS, POINTS)
    for index in range(6):
        expected = differences(lambda c, i=index: residual(c, POINTS[i]), CAMERAS[index])
        np.testing.assert_allclose(jacobians[index], expected, rtol=1e-6, atol=1e-8)
    gradient = tg.grad(lambda c: np.sum(tg.vmap(residual)(c, POINTS) ** 2))(CAMERAS)
    each = tg.vmap(tg.grad(lambda c, p: np.sum(residual(c, p) ** 2)))(CAMERAS, POINTS)
    np.testing.assert_allclose(gradient, each, rtol=1e-12)
    double = tg.vmap(tg.vmap(lambda a, b: a * b, in_axes=(None, 0)), in_axes=(0, None))
    np.testing.assert_allclose(double(X, X), np.outer(X, X))
    hessians = tg.vmap(tg.hessian(scalar))(CAMERAS)
    np.testing.assert_allclose(hessians[2], tg.hessian(scalar)(CAMERAS[2]), rtol=1e-12)


def test_vmap_says_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="in_axes has 1 entries"):
        tg.vmap(residual, in_axes=(0,))(CAMERAS, POINTS)
    with pytest.raises(tg.ShapeError, match="different lengths"):
        tg.vmap(residual)(CAMERAS, POINTS[:4])
    with pytest.raises(ValueError, match="None"):
        tg.vmap(residual, in_axes=None)(CAMERAS, POINTS)


def test_functions_over_traced_values_take_constants() -> None:
    """Every transformation of a closure over a traced value, called with plain arrays only."""
    w, ones = np.array([0.1, 0.2, 0.3]), np.ones(3)

    def outer(w: Any) -> Any:
        def inner(v: Any) -> Any:
            return np.sum(v**3 * w)

        return (
            tg.vmap(inner)(np.eye(3)),
            tg.grad(inner)(ones),
            tg.hessian(inner)(ones),
            tg.jacobian(lambda v: v * w)(ones),
            tg.jvp(inner, (ones,), (ones,))[1],
            tg.hvp(inner)(ones, ones),
            tg.trace(inner)(ones),
        )

    expected = (w, 3 * w, 6 * np.diag(w), np.diag(w), 3 * w.sum(), 6 * w, w.sum())
    for found, want in zip(tg.trace(outer)(w), expected, strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-14)
    slopes = tg.jacobian(lambda w: outer(w)[1])(w)
    np.testing.assert_allclose(slopes, 3 * np.eye(3), rtol=1e-14)


def test_rules_get_defaults_by_position() -> None:
    @tg.custom_jvp
    def scaled(x: Any, factor: Any = 2.0) -> Any:
        return x * factor

    @scaled.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        return primals[0] * primals[1], 9.0 * tangents[0]

    assert scaled(3.0) == 6.0 and scaled(3.0, factor=4.0) == 12.0
    assert tg.grad(scaled)(3.0) == 9.0 == tg.grad(lambda x: scaled(x, factor=5.0))(3.0)
    with pytest.raises(TypeError, match=r"scaled\(\) missing a required argument: 'x'"):
        scaled()

    @tg.custom_vjp
    def shifted(x: Any, by: Any = 1.0, *, sign: int = 1) -> Any:
        return x + sign * by

    shifted.defvjp(lambda x, by: (x + by, None), lambda _, ct: (3.0 * ct, 5.0 * ct))
    assert tg.grad(shifted)(2.0) == 3.0 and tg.grad(shifted, argnums=(0, 1))(2.0, 1.0) == (3.0, 5.0)
    sine = tg.custom_vjp(np.sin)  # a ufunc has parameters with defaults that are no arguments
    sine.defvjp(lambda x: (np.sin(x), None), lambda _, ct: (2.0 * ct,))
    assert tg.grad(sine)(1.0) == 2.0


def test_stop_gradient_of_a_tree() -> None:
    def program(x: Any) -> Any:
        held = tg.stop_gradient({"a": x, "b": (2.0, [x])})
        return np.sum(held["a"] * x + held["b"][0] * held["b"][1][0])

    np.testing.assert_array_equal(tg.grad(program)(np.arange(3.0)), np.arange(3.0))


def test_stop_gradient_hands_back_what_has_none() -> None:
    assert tg.stop_gradient((None, 3, "a")) == (None, 3, "a")

    def f(x: Any) -> Any:
        kept = tg.stop_gradient({"x": x, "n": 2, "none": None})
        return kept["x"] * x ** kept["n"]

    assert tg.grad(f)(3.0) == 3.0 * 2 * 3.0


def test_the_gradient_of_an_empty_structure_is_empty() -> None:
    assert tg.grad(lambda p: 3.0)({}) == {}
    assert tg.grad(lambda x, p: x**2, argnums=(0, 1))(2.0, (None, ())) == (4.0, (None, ()))
    with pytest.raises(tg.NotDifferentiableError, match=r"\(str\)"):
        tg.grad(lambda s: 3.0)("a")


def test_a_rule_may_return_a_plain_number_as_tangent() -> None:
    @tg.custom_jvp
    def flat(x: Any) -> Any:
        return np.sin(x)

    flat.defjvp(lambda primals, tangents: (flat(primals[0]), 0.0))
    assert tg.jvp(flat, (1.0,), (1.0,)) == (np.sin(1.0), 0.0)
    assert tg.grad(flat)(1.0) == 0.0


def test_a_pullback_takes_one_cotangent() -> None:
    _, pullback = tg.vjp(lambda x: (x, 2 * x), 1.0)
    assert pullback((1.0, 1.0)) == (3.0,)
    with pytest.raises(TypeError, match="as one tuple"):
        pullback(1.0, 1.0)


@dataclasses.dataclass
class Model:
    w: Any
    layers: int


def test_what_is_static_has_no_gradient() -> None:
    """An int came back unchanged: a step along the gradient changed it."""

    def f(p: Any) -> Any:
        return p["w"] ** 2 * p["n"] + p["model"].w * p["model"].layers

    given = {"w": 2.0, "n": 3, "kind": ("relu", True), "model": Model(1.0, 2)}
    expected = {"w": 12.0, "n": None, "kind": (None, None), "model": Model(2.0, 2)}
    assert tg.grad(f)(given) == expected
    assert tg.jacfwd(f)(given) == expected
    assert tg.vjp(f, given)[1](1.0) == (expected,)
    assert tg.jvp(f, (given,), (expected,))[1] == 148.0
    assert tg.hessian(f)(given)["w"] == {"w": 6.0, "n": None, "kind": (None, None)} | {
        "model": Model(0.0, 2)
    }


def test_the_value_is_that_of_the_function_whatever_a_rule_returns() -> None:
    @tg.custom_jvp
    def sign(x: Any) -> Any:
        return np.sign(x)

    sign.defjvp(lambda primals, tangents: (np.tanh(primals[0]), tangents[0]))
    assert tg.value_and_grad(sign)(2.0) == tg.jvp(sign, (2.0,), (1.0,)) == (1.0, 1.0)
    other = tg.custom_vjp(np.sign)
    other.defvjp(lambda x: (np.tanh(x), None), lambda kept, ct: (ct,))
    assert tg.value_and_grad(other)(2.0) == (1.0, 1.0)
