"""Singular values, QR, pseudo-inverses and least squares: values, derivatives, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg

import tracegrad as tg
from codegen.library import factorisations
from tests.oracle import interpreted

RNG = np.random.default_rng(4)


def draw(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_factors_are_numpys(dtype: Any) -> None:
    """To a few roundings: LAPACK's own errors are `n * eps` times the norm."""
    both = tg.trace(lambda a: (*np.linalg.svd(a, full_matrices=False), *np.linalg.qr(a)))
    for shape in ((7, 4), (4, 7), (5, 5), (3, 6, 2), (1, 1)):
        a = draw(*shape).astype(dtype)
        tolerance = {"rtol": 0, "atol": 200 * np.finfo(dtype).eps}
        want = (*np.linalg.svd(a, full_matrices=False), *np.linalg.qr(a))
        for found, expected in zip(both(a), want, strict=True):
            assert found.dtype == dtype
            np.testing.assert_allclose(found, expected, **tolerance)
    assert len(both.versions) <= 2 * 2 + 1  # ranks, and which extent is the shorter one


@pytest.mark.parametrize("shape", [(6, 4), (4, 4), (2, 5, 3)])
def test_the_plain_functions_do_the_same(shape: tuple[int, ...]) -> None:
    a = draw(*shape)
    *stack, m, n = shape
    work, tau, x = np.empty(1), np.empty((*stack, n)), a.copy()
    factorisations.qr_factor.py_func(work, tau, x)
    q, r = np.linalg.qr(a)
    np.testing.assert_allclose(np.triu(x[..., :n, :]), r, atol=1e-13)
    factorisations.qr_vectors.py_func(work, tau, x)
    np.testing.assert_allclose(x, q, atol=1e-13)
    s, u, v = np.empty((*stack, n)), np.empty((*stack, n, m)), np.empty((*stack, n, n))
    flipped = np.ascontiguousarray(np.swapaxes(a, -1, -2))
    assert factorisations.svd.py_func(True, work, work, s, u, v, flipped)
    again = np.swapaxes(u, -1, -2) * s[..., None, :] @ np.swapaxes(v, -1, -2)
    np.testing.assert_allclose(again, a, atol=1e-13)


def rebuilt(u: Any, s: Any, v: Any) -> Any:
    return (u * s) @ v


def slope(f: Any, a: np.ndarray, t: np.ndarray, step: float = 1e-6) -> float:
    return float((f(a + step * t) - f(a - step * t)) / (2 * step))


@pytest.mark.parametrize(
    "f",
    [
        lambda a: np.sum(np.linalg.svdvals(a) ** 3),
        lambda a: np.sum(rebuilt(*np.linalg.svd(a, False)) * np.cos(a)),
        lambda a: np.sum(np.sin(np.linalg.pinv(a))),
        lambda a: np.sum(np.linalg.lstsq(a, np.cos(a[:, 0]))[0] ** 2),
        lambda a: np.sum(np.sin(np.linalg.qr(a)[0])) + np.sum(np.linalg.qr(a)[1] ** 3),
        lambda a: np.linalg.norm(a, "nuc") + np.linalg.norm(a, 2) ** 2 + np.linalg.norm(a, -2),
    ],
)
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_derivatives_in_both_modes_and_to_second_order(f: Any, shape: tuple[int, ...]) -> None:
    """Differences at step 1e-6 are good to about 1e-9 relative to values of order 10."""
    a, t, u = draw(*shape), draw(*shape), draw(*shape)
    (gradient,) = interpreted(tg.grad(f), a)
    assert np.sum(gradient * t) == pytest.approx(slope(f, a, t), rel=2e-6, abs=1e-7)
    (pushed,) = interpreted(lambda a: tg.jvp(f, (a,), (t,))[1], a)
    assert pushed == pytest.approx(np.sum(gradient * t), rel=1e-10, abs=1e-11)
    (second,) = interpreted(lambda a: np.sum(tg.hvp(f)(a, t) * u), a)
    along = slope(lambda a: np.sum(interpreted(tg.grad(f), a)[0] * t), a, u)
    assert second == pytest.approx(along, rel=1e-5, abs=1e-5)


def test_what_does_not_depend_on_the_vectors_has_derivatives_everywhere() -> None:
    """Equal singular values: the vectors have no derivative, these functions have."""
    unit = np.eye(3)
    for f in (
        lambda a: np.sum(np.linalg.pinv(a)),
        lambda a: np.sum(np.linalg.svdvals(a)),
        lambda a: np.linalg.norm(a, "nuc"),
        lambda a: np.sum(np.linalg.lstsq(a, np.ones(3))[0]),
    ):
        assert np.isfinite(interpreted(tg.grad(f), unit)[0]).all()
    np.testing.assert_allclose(
        interpreted(tg.grad(lambda a: np.sum(np.linalg.pinv(a))), unit)[0], -1
    )


def test_least_squares_as_numpys() -> None:
    run = tg.trace(lambda a, b: np.linalg.lstsq(a, b, rcond=None))
    flat = np.outer(np.arange(1.0, 6), [1.0, 2.0])  # rank 1
    for a, b in (
        (draw(5, 3), draw(5)),
        (draw(5, 3), draw(5, 2)),
        (draw(3, 5), draw(3)),
        (flat, draw(5)),
    ):
        found, want = run(a, b), np.linalg.lstsq(a, b, rcond=None)
        np.testing.assert_allclose(found[0], want[0], rtol=1e-10, atol=1e-12)
        assert found[2] == want[2]
        np.testing.assert_allclose(found[3], want[3], rtol=1e-12, atol=1e-12)
        if want[1].size or a.shape[0] <= a.shape[1]:
            np.testing.assert_allclose(found[1], want[1], rtol=1e-9)


def test_errors() -> None:
    bad = np.full((3, 3), np.nan)
    with pytest.raises(np.linalg.LinAlgError, match="SVD did not converge"):
        tg.trace(np.linalg.svdvals)(bad)
    with pytest.raises(tg.UnsupportedError, match=r"svd of f64\[3, 2\]: full_matrices=True adds"):
        tg.trace(np.linalg.svd)(np.ones((3, 2)))
    with pytest.raises(tg.UnsupportedError, match="mode='complete' is not supported"):
        tg.trace(lambda a: np.linalg.qr(a, mode="complete"))(np.ones((3, 2)))
    with pytest.raises(np.linalg.LinAlgError, match="at least two-dimensional"):
        tg.trace(np.linalg.qr)(np.ones(3))
    with pytest.raises(tg.ShapeError, match="Incompatible dimensions"):
        tg.trace(np.linalg.lstsq)(np.ones((3, 2)), np.ones(4))


def test_tensors_and_vmap() -> None:
    a = draw(4, 3)
    t = tg.tensor(a, requires_grad=True)
    np.linalg.svd(t, full_matrices=False)[1].sum().backward()
    expected = np.linalg.svd(a, full_matrices=False)
    np.testing.assert_allclose(t.grad.numpy(), expected[0] @ expected[2], atol=1e-12)  # type: ignore[union-attr]
    stack = draw(5, 4, 3)
    found = interpreted(tg.vmap(lambda a: np.linalg.qr(a)[1]), stack)[0]
    np.testing.assert_allclose(found, np.linalg.qr(stack)[1], atol=1e-12)


def spd(a: np.ndarray) -> np.ndarray:
    return a @ a.T + 4 * np.eye(len(a))


@pytest.mark.parametrize(
    "f",
    [
        lambda a, b: scipy.linalg.solve(spd(a), b, assume_a="pos", check_finite=False),
        lambda a, b: scipy.linalg.solve(a + a.T, b[:, 0], assume_a="sym", lower=True),
        lambda a, b: scipy.linalg.solve(a, b, transposed=True),
        lambda a, b: scipy.linalg.inv(spd(a), overwrite_a=True) @ b,
        lambda a, b: scipy.linalg.eigh(a + a.T, eigvals_only=True) * b[0, 0],
        lambda a, b: np.abs(scipy.linalg.eigh(np.diag(np.arange(4.0)) * b[0, 0], spd(a))[1]),
        lambda a, b: scipy.linalg.eigh(b @ b.T + a + a.T, spd(a), lower=False)[0],
        lambda a, b: np.array(b[0], ndmin=3) * a[0, 0],
    ],
)
def test_as_scipy_spells_it(f: Any) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(4, 4)), rng.normal(size=(4, 2))
    want, got = f(a, b), tg.trace(f)(a, b)
    assert np.shape(got) == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)
    tg.testing.check_grads(f, (a, b), order=1)


def test_a_solver_that_is_not_there() -> None:
    def f(a: Any) -> Any:
        return scipy.linalg.solve(a, a[0], assume_a="banded")

    with pytest.raises(tg.UnsupportedError, match="assume_a='banded'"):
        tg.trace(f)(np.eye(3))
