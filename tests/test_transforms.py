"""Jacobians, Hessians, Hessian-vector products and custom rules."""

from __future__ import annotations

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

    with pytest.raises(tg.NotDifferentiableError, match="lonely.*defvjp"):
        tg.grad(lambda x: np.sum(lonely(x)))(X)
