"""Sparse Jacobians and Hessians against the dense ones; their patterns and colourings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.sparse import csr_array

import tracegrad as tg
from tests.test_vmap import interpreted
from tracegrad.sparsity.colouring import column_colours, count, star_colours

RNG = np.random.default_rng(0)
X, U = RNG.normal(size=20), RNG.normal(size=(5, 6))
WHICH = RNG.integers(0, 20, 30)
STACK = RNG.normal(size=(4, 6, 5))


def laplacian(u: Any) -> Any:
    p = np.pad(u, 1)
    return p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u + np.exp(u)


def scattered(x: Any, i: Any) -> Any:
    y = np.zeros_like(x)
    y[i] = x[i] ** 2
    return y


def until(x: Any) -> Any:
    return tg.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, np.roll(c[1], 1) * x), (0, x))[1]


JACOBIANS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], int]] = {
    "banded": (lambda x: x[1:] - x[:-1] ** 2, (X,), 2),
    "periodic": (lambda x: np.roll(x, 1) * x + np.sin(np.roll(x, -1)), (X,), 5),
    "laplacian": (laplacian, (U,), 7),
    "a dense row": (lambda x: np.concatenate([x[:1] * x.sum(), x[1:] ** 2]), (X,), 2),
    "gathered": (lambda x, i: np.sin(x[i]) * x[0], (X, WHICH), 2),
    "scattered": (scattered, (X, WHICH), 1),
    "block, running": (lambda x: np.cumsum(x.reshape(4, 5), axis=1), (X,), 5),
    "block, a product": (lambda x: x.reshape(4, 5) @ STACK[0].T, (X,), 5),
    "block, from the left": (lambda x: STACK[0] @ x.reshape(4, 5).T, (X,), 5),
    "block, stacks": (lambda x: STACK @ x.reshape(4, 5, 1), (X,), 5),
    "block, one matrix for all": (lambda x: STACK[0] @ x.reshape(4, 5, 1), (X,), 5),
    "block, a vector": (lambda x: x[:5] @ x[5:].reshape(5, 3), (X,), 10),
    "a scan that carries": (lambda x: tg.scan(lambda c, v: (c + v, c * v), 0.0, x)[1], (X,), 20),
    "a scan of neighbours": (lambda x: tg.scan(lambda c, v: (v, c * v), 0.0, x)[1], (X,), 2),
    "maxima of rows": (lambda x: np.max(x.reshape(4, 5), axis=1), (X,), 1),
    "both branches": (lambda x: np.where(x > 0, x**2, np.flip(x)), (X,), 2),
    "cond": (lambda x: tg.cond(x[0] > 0, lambda x: x * 2, np.flip, x), (X,), 2),
    "any number of steps": (until, (X,), 20),
    "an index that depends on x": (lambda x: x[np.argmax(x)] * x[:3], (X,), 3),
    "no dependence": (lambda x: tg.stop_gradient(x)[:3] * 2.0, (X,), 1),
    "batches": (tg.vmap(lambda p: np.stack([p[0] * p[1], np.sin(p[2])])), (U[:, :3],), 2),
}


@pytest.mark.parametrize("name", JACOBIANS)
def test_jacobian_is_the_dense_one(name: str) -> None:
    f, args, most = JACOBIANS[name]
    sparse = tg.sparse_jacobian(f)
    plan = sparse.plan(*args)
    dense = np.asarray(interpreted(tg.jacfwd(f), *args)[0]).reshape(plan.pattern.shape)
    assert not (dense != 0)[~plan.pattern.toarray()].any()
    assert count(plan.colours) <= most
    if not plan.pattern.nnz:
        assert sparse(*args).nnz == 0
        return
    run = sparse._push if plan.forward else sparse._pull
    found = sparse.expanded(plan, interpreted(run, args, {}, plan.seeds))
    np.testing.assert_allclose(found.toarray(), dense, rtol=1e-12, atol=1e-13)


HESSIANS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], int]] = {
    "banded": (lambda x: np.sum((x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2), (X,), 3),
    "arrow": (lambda x: np.sum(x[0] * x**3), (X,), 2),
    "grid": (
        lambda u: np.sum((u[1:] - u[:-1]) ** 4) + np.sum((u[:, 1:] - u[:, :-1]) ** 4),
        (U,),
        6,
    ),
    "gathered": (lambda x: np.sum(np.sin(x[WHICH]) * np.roll(x[WHICH], 1)), (X,), 12),
    "diagonal": (lambda x: np.sum(x**3), (X,), 1),
}


@pytest.mark.parametrize("name", HESSIANS)
def test_hessian_is_the_dense_one_and_symmetric(name: str) -> None:
    f, args, most = HESSIANS[name]
    sparse = tg.sparse_hessian(f)
    plan = sparse.plan(*args)
    dense = np.asarray(interpreted(tg.hessian(f), *args)[0]).reshape(plan.pattern.shape)
    assert count(plan.colours) <= most
    found = sparse.expanded(plan, interpreted(sparse._push, args, {}, plan.seeds))
    np.testing.assert_allclose(found.toarray(), dense, rtol=1e-11, atol=1e-11)
    assert (found != found.T).nnz == 0


def test_one_compilation_for_all_sizes() -> None:
    jacobian = tg.sparse_jacobian(lambda x: x[1:] - x[:-1] ** 2)
    for length in (5, 50, 500):
        x = RNG.normal(size=length)
        found = jacobian(x)
        assert isinstance(found, csr_array)
        assert found.nnz == 2 * (length - 1)
        np.testing.assert_allclose(found @ np.ones(length), 1 - 2 * x[:-1])
    assert len(jacobian._push.versions) == 1


def test_structures_are_columns_one_after_the_other() -> None:
    f = tg.sparse_jacobian(lambda p, s: [p["a"] * p["b"].sum() * s, p["b"] ** 2], argnums=(1, 0))
    plan = f.plan({"a": X[:3], "b": X[:4]}, 2.0)
    assert plan.pattern.shape == (7, 8)
    np.testing.assert_array_equal(plan.pattern.toarray()[:, 0], [True] * 3 + [False] * 4)


def test_least_squares_takes_it() -> None:
    def residuals(x: Any) -> Any:
        return np.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])

    jacobian = tg.sparse_jacobian(residuals)
    found = least_squares(tg.trace(residuals), np.zeros(30), jac=jacobian)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.x, np.ones(30), atol=1e-6)


def test_other_indices_are_another_pattern() -> None:
    f = tg.sparse_jacobian(lambda x, i: x[i] ** 2)
    first, second = f.pattern(X, np.array([0, 1])), f.pattern(X, np.array([3, 1]))
    assert first.indices.tolist() == [0, 1]
    assert second.indices.tolist() == [3, 1]


def test_colourings_are_valid() -> None:
    """Large enough to be compiled; checked against the definitions."""
    pattern = csr_array(RNG.random((400, 300)) < 0.02)
    colours = column_colours(pattern)
    for colour in range(count(colours)):
        assert pattern[:, np.flatnonzero(colours == colour)].sum(axis=1).max() <= 1
    both = csr_array(pattern[:300] + pattern[:300].T + csr_array(np.eye(300, dtype=bool)))
    colours = star_colours(both)
    dense = both.toarray() & ~np.eye(300, dtype=bool)
    assert not (dense & (colours[:, None] == colours)).any()
    for i, j in np.argwhere(dense):
        left = np.flatnonzero(dense[i] & (colours == colours[j]))
        right = np.flatnonzero(dense[j] & (colours == colours[i]))
        assert len(left) == 1 or len(right) == 1


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: tg.sparse_jacobian(lambda x: x > 0)(X), tg.NotDifferentiableError, "is bool"),
        (lambda: tg.sparse_jacobian(lambda x: x, 1)(X), TypeError, "argnums=1"),
        (
            lambda: tg.trace(lambda x: tg.sparse_jacobian(lambda y: y * y)(x))(X),
            tg.NotDifferentiableError,
            "outside of the traced function",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def turned(c: Any) -> Any:
    """Each element moves with its left neighbour."""
    return 0.7 * c + 0.1 * np.sin(np.roll(c, 1))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: tg.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, turned(c[1])), (0, x))[1],
        lambda x: tg.while_loop(lambda c: np.sum(c * c) > 1e-2, lambda c: c * (0.7 - c / 9), x),
        lambda x: tg.while_loop(
            lambda c: np.sum(c * c) > 1e-2,
            lambda c: tg.fori_loop(0, 2, lambda i, d: d * (0.7 - d / 9), c),
            x,
        ),
        tg.vmap(lambda a: tg.while_loop(lambda c: c > 0.1, lambda c: c * (0.7 - c / 9), a * a)),
    ],
)
def test_hessians_of_loops_that_data_ends(f: Any) -> None:
    """How long the loop's stacks are depends on the argument: its pattern is that of any length."""
    hessian = tg.sparse_hessian(lambda x: np.sum(f(x) ** 2))
    dense = tg.hessian(lambda x: np.sum(f(x) ** 2))
    for scale in (0.1, 1.0, 2.0):  # one pattern for all numbers of steps
        x = scale * X[:6]
        np.testing.assert_allclose(hessian(x).toarray(), dense(x), rtol=1e-10, atol=1e-12)


def test_hessians_of_loops_that_data_ends_are_sparse() -> None:
    def f(x: Any) -> Any:
        return np.sum(tg.while_loop(lambda c: np.sum(c * c) > 1, lambda c: c * (0.7 - c / 9), x))

    np.testing.assert_array_equal(
        tg.sparse_hessian(f).pattern(X[:6]).toarray(), np.eye(6, dtype=bool)
    )


def test_a_result_whose_length_the_argument_decides_has_no_pattern() -> None:
    with pytest.raises(tg.UnsupportedError, match="an extent depends on the values of the arg"):
        tg.sparse_jacobian(lambda x: x[x > 0] ** 2)(X)
