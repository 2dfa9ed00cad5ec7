"""Linear algebra: values and errors as NumPy's in every mode, batches, loops, exports, programs.

The samples beside the ops are walked by test_ops.py; here is what they cannot say.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from numba.core.runtime import _nrt_python, rtsys

import tracegrad as tg
from codegen.library import factorisations, lapack, small
from tests import oracle

EPS = np.finfo(float).eps
SIDE = 5


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def regular(*batch: int, side: int = SIDE) -> np.ndarray:
    """Well-conditioned matrices that are not symmetric."""
    return draw(*batch, side, side) / side + 2 * np.eye(side)


def definite(*batch: int, side: int = SIDE) -> np.ndarray:
    x = draw(*batch, side, side)
    return x @ np.swapaxes(x, -1, -2) + side * np.eye(side)


def slope(f: Callable[..., Any], args: Any, directions: Any, step: float = 1e-5) -> float:
    """The derivative of a scalar along a direction by differences: truncation about 1e-9."""
    up = f(*(x + step * t for x, t in zip(args, directions, strict=True)))
    down = f(*(x - step * t for x, t in zip(args, directions, strict=True)))
    return float((up - down) / (2 * step))


def assert_gradient(f: tg.Function, *args: np.ndarray) -> None:
    """The compiled gradient against differences of the function as plain NumPy."""
    directions = [draw(*x.shape, seed=9) for x in args]
    everywhere = tuple(range(len(args)))
    found = tg.grad(f, argnums=everywhere)(*args)
    along = sum(np.sum(d * t) for d, t in zip(found, directions, strict=True))
    want = slope(f.python, args, directions)
    assert abs(along - want) <= 1e-6 * (1 + abs(want))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("compiled", [True, False], ids=["lapack", "plain"])
@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (37, 37), (2, 2, 6, 6)])
def test_factorisations_solve_what_they_factor(
    dtype: Any, compiled: bool, shape: tuple[int, ...]
) -> None:
    """Backward errors are a few `n * eps` times the norms (Higham 2002, theorems 9.4 and 10.4)."""
    side, functions = shape[-1], factorisations
    a = regular(*shape[:-2], side=side).astype(dtype)
    s = definite(*shape[:-2], side=side).astype(dtype)
    bound = 8 * max(side, 1) * np.finfo(dtype).eps
    lower = np.tril(s)
    lu, pivots = a.copy(), np.empty(shape[:-1], np.int32)
    if compiled:
        assert tg.trace(np.linalg.cholesky)(s).dtype == dtype
        lower, x = tg.trace(np.linalg.cholesky)(s), tg.trace(np.linalg.inv)(a)
    else:
        assert functions.cholesky.py_func(lower)
        functions.lu_factor.py_func(lu, pivots)
        x = np.broadcast_to(np.eye(side, dtype=dtype), shape).copy()
        assert functions.lu_solve.py_func(lu, pivots, False, x)
    error = lower @ np.swapaxes(lower, -1, -2) - s
    assert np.abs(error).max(initial=0) <= bound * np.abs(s).max(initial=0) * side
    error = a @ x - np.eye(side)
    size = np.abs(a).max(initial=0) * np.abs(x).max(initial=0)
    assert np.abs(error).max(initial=0) <= bound * size * side


SYSTEMS = [
    ((5, 5), (5,)),
    ((5, 5), (5, 3)),
    ((4, 5, 5), (5,)),
    ((4, 5, 5), (5, 2)),
    ((5, 5), (4, 5, 2)),
    ((4, 1, 5, 5), (3, 5, 2)),
    ((0, 5, 5), (5,)),
    ((5, 5), (5, 0)),
]


@pytest.mark.parametrize(("left", "right"), SYSTEMS)
def test_systems_broadcast_as_numpys(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = regular(*left[:-2]), draw(*right, seed=1)
    want = np.linalg.solve(a, b)
    got = tg.trace(np.linalg.solve)(a, b)
    oracle.assert_similar(got, want, 100 * SIDE)
    oracle.assert_similar(np.linalg.solve(tg.tensor(a), b).numpy(), want, 100 * SIDE)
    oracle.assert_similar(tg.linalg.solve(a, b), want, 0)


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("trans", [0, "T"])
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("side", [SIDE, small.MOST + 3])
def test_triangular_systems_as_scipys(lower: bool, trans: Any, unit: bool, side: int) -> None:
    options: dict[str, Any] = {"lower": lower, "trans": trans, "unit_diagonal": unit}
    a = regular(side=side)
    for b in (draw(side, seed=1), draw(side, 3, seed=1)):
        want = scipy.linalg.solve_triangular(a, b, **options)
        f = tg.trace(lambda a, b: tg.linalg.solve_triangular(a, b, **options))
        oracle.assert_similar(f(a, b), want, 50 * SIDE)
        dump = f.dump(a, b)
        assert "scipy.linalg.solve_triangular(a, b" in dump
        oracle.assert_similar(dump.function()(a, b), want, 0)


SIDES = [0, 1, 2, 3, 8, small.MOST_DEFINITE, small.MOST_DEFINITE + 1, small.MOST, small.MOST + 1]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_small_and_large_systems(dtype: Any) -> None:
    """Matrices that need their rows changed; LAPACK's own results, whoever factorises."""
    f = tg.trace(lambda a, b: np.linalg.solve(a, b))
    turned = tg.trace(lambda a, b: np.linalg.solve(a.T, b))
    adjoint = tg.grad(lambda a, b, w: np.sum(w * np.linalg.solve(a, b)), argnums=1)
    for side in SIDES:
        a = (draw(side, side) - 2 * np.eye(side)[::-1]).astype(dtype)
        b, s = draw(side, 3, seed=1).astype(dtype), definite(side=side).astype(dtype)
        steps = 100 * max(side, 1) * (np.linalg.cond(a) if side else 1)
        oracle.assert_similar(f(a, b), np.linalg.solve(a, b), steps)
        oracle.assert_similar(turned(a, b), np.linalg.solve(a.T, b), steps)
        oracle.assert_similar(adjoint(a, b, b), np.linalg.solve(a.T, b), steps)
        oracle.assert_similar(tg.trace(np.linalg.cholesky)(s), np.linalg.cholesky(s), 100 * side)


@pytest.mark.parametrize("side", [small.MOST_DEFINITE - 1, small.MOST + 1])
def test_bad_matrices_of_every_size(side: int) -> None:
    singular, indefinite, unknown = np.eye(side), np.eye(side), np.eye(side)
    singular[-1, -1], indefinite[-1, -1], unknown[1, 1] = 0, -1, np.nan
    with pytest.raises(np.linalg.LinAlgError, match="Singular matrix"):
        tg.trace(np.linalg.inv)(singular)
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        tg.trace(np.linalg.cholesky)(indefinite)
    for f in (np.linalg.cholesky, np.linalg.inv):
        assert np.isnan(tg.trace(f)(unknown)[1, 1])


def test_cholesky_systems_as_scipys() -> None:
    a, b = definite(), draw(SIDE, seed=1)
    for lower in (True, False):
        f = tg.trace(lambda a, b: tg.linalg.cho_solve(tg.linalg.cho_factor(a, lower), b))  # noqa: B023
        want = scipy.linalg.cho_solve(scipy.linalg.cho_factor(a, lower), b)
        oracle.assert_similar(f(a, b), want, 100 * SIDE)
        oracle.assert_similar(f.python(a, b), want, 100 * SIDE)


def test_dtypes_as_numpys() -> None:
    for a in (np.eye(2, dtype=np.float32), np.eye(2, dtype=int), np.eye(2, dtype=bool)):
        for f in (np.linalg.inv, np.linalg.det, np.linalg.cholesky):
            oracle.assert_type(oracle.interpreted(f, a)[0], f(a), f.__name__)
    mixed = oracle.interpreted(np.linalg.solve, np.eye(2, dtype=np.float32), np.ones(2, int))[0]
    oracle.assert_type(mixed, np.linalg.solve(np.eye(2, dtype=np.float32), np.ones(2, int)))
    with pytest.raises(TypeError, match="float16 is unsupported in linalg"):
        tg.linalg.inv(np.eye(2, dtype=np.float16))


MODES: dict[str, Callable[..., Any]] = {
    "compiled": lambda f, *args: tg.trace(f)(*args),
    "interpreted": lambda f, *args: oracle.interpreted(f, *args)[0],
    "eager": lambda f, *args: f(*(tg.tensor(x) for x in args)),
    "plain": lambda f, *args: f(*args),
}

FAILURES = [
    (tg.linalg.solve, (np.ones((2, 2)), np.ones(2)), "Singular matrix"),
    (tg.linalg.solve, (np.zeros((3, 2, 2)), np.ones((2, 1))), "Singular matrix"),
    (tg.linalg.inv, (np.zeros((1, 1)),), "Singular matrix"),
    (tg.linalg.cholesky, (np.array([[1.0, 2.0], [2.0, 1.0]]),), "Matrix is not positive definite"),
    (tg.linalg.solve_triangular, (np.ones((2, 2)) - np.eye(2), np.ones(2)), "Singular matrix"),
    (tg.linalg.inv, (np.ones((2, 3)),), "Last 2 dimensions of the array must be square"),
    (tg.linalg.det, (np.ones(3),), "Array must be at least two-dimensional"),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("function", "args", "message"), FAILURES)
def test_numpys_errors_in_every_mode(mode: str, function: Any, args: Any, message: str) -> None:
    with pytest.raises(np.linalg.LinAlgError, match=message):
        MODES[mode](lambda *args: function(*args), *args)


def test_one_bad_matrix_in_a_loop_raises_and_leaks_nothing() -> None:
    f = tg.vmap(lambda a, b: np.linalg.solve(a, b) + np.linalg.cholesky(a)[0])
    good = definite(4, side=3)
    bad, b = good.copy(), np.ones((4, 3))
    bad[2] = 1.0
    want = np.stack(
        [np.linalg.solve(a, c) + np.linalg.cholesky(a)[0] for a, c in zip(good, b, strict=True)]
    )
    oracle.assert_similar(f(good, b), want, 500)
    dispatcher = f.compiled(bad, b).primal
    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    for _ in range(3):
        with pytest.raises(np.linalg.LinAlgError, match="Singular matrix"):
            dispatcher(bad, b)
    after = rtsys.get_allocation_stats()
    assert after.alloc - before.alloc == after.free - before.free > 0


def test_nan_passes_through_as_in_numpy() -> None:
    a = np.full((2, 2), np.nan)
    for f in (np.linalg.cholesky, np.linalg.inv):
        oracle.assert_exact(tg.trace(f)(a), f(a))
    with np.errstate(invalid="ignore"):
        for got, want in zip(tg.trace(np.linalg.slogdet)(a), np.linalg.slogdet(a), strict=True):
            oracle.assert_exact(got, want)


def test_determinants_of_singular_and_turned_matrices() -> None:
    turned = np.eye(4)[[1, 0, 2, 3]] * 2.0
    for a in (np.zeros((2, 2)), turned, -turned, np.diag([2.0, -1.0, 0.5]), np.ones((3, 3))):
        got, want = tg.trace(np.linalg.slogdet)(a), np.linalg.slogdet(a)
        assert (got.sign, got.logabsdet) == (want.sign, pytest.approx(want.logabsdet, rel=8 * EPS))
        assert tg.trace(np.linalg.det)(a) == pytest.approx(np.linalg.det(a), rel=8 * EPS)


def test_the_factors_are_shared_by_value_and_gradient() -> None:
    @tg.trace
    def f(a, b):
        return b @ np.linalg.solve(a, b) + np.linalg.slogdet(a)[1]

    both = tg.trace(lambda a, b: tg.value_and_grad(f, argnums=(0, 1))(a, b))
    a, b = definite(), draw(SIDE)
    assert both.source(a, b).count(" lu_factor(") == 1
    assert f.source(a, b).count(" lu_factor(") == 1
    assert_gradient(f, a, b)


def calls(source: str) -> dict[str, int]:
    """How often a module calls each library function that factors or solves."""
    names = ("lu_factor", "lu_solve", "cholesky", "solve_triangular", "eigh", "svd", "qr_factor")
    code = "\n".join(line.split("#")[0] for line in source.split("@njit", 1)[1].splitlines())
    found = {name: len(re.findall(rf"\b{name}\(", code)) for name in names}
    return {name: count for name, count in found.items() if count}


def likelihood(a: Any, b: Any) -> Any:
    lower = np.linalg.cholesky(a)
    z = tg.linalg.solve_triangular(lower, b, lower=True)
    return np.sum(z * z) / 2 + np.sum(np.log(np.diagonal(lower)))


# The calls of value and gradient in one program, of the backward alone, of the second derivative.
FACTORED: dict[str, tuple[Any, Any, Any, Any]] = {
    "solve": (
        lambda a, b: np.sum(np.linalg.solve(a, b) ** 2),
        {"lu_factor": 1, "lu_solve": 2},
        {"lu_solve": 1},
        {"lu_factor": 1, "lu_solve": 4},
    ),
    "inv": (
        lambda a, b: b @ np.linalg.inv(a) @ b,
        {"lu_factor": 1, "lu_solve": 1},
        {},
        {"lu_factor": 1, "lu_solve": 1},
    ),
    "slogdet": (
        lambda a, b: np.linalg.slogdet(a)[1] * b[0],
        {"lu_factor": 1, "lu_solve": 1},
        {},
        {"lu_factor": 1, "lu_solve": 1},
    ),
    "solve and det": (
        lambda a, b: b @ np.linalg.solve(a, b) * np.linalg.det(a),
        {"lu_factor": 1, "lu_solve": 3},
        {"lu_solve": 1},
        {"lu_factor": 1, "lu_solve": 5},
    ),
    "cholesky": (
        likelihood,
        {"cholesky": 1, "solve_triangular": 4},
        {"solve_triangular": 3},
        {"cholesky": 1, "solve_triangular": 10},
    ),
    "lstsq": (
        lambda a, b: np.sum(np.linalg.lstsq(a, b, rcond=None)[0] ** 2),
        {"svd": 1},
        {},
        {"svd": 1},
    ),
    "eigh": (
        lambda a, b: np.sum(np.linalg.eigh(a)[0] ** 2 * np.linalg.eigh(a)[1][0]) * b[0],
        {"eigh": 1},
        {},
        {"eigh": 1},
    ),
}


@pytest.mark.parametrize("name", FACTORED)
def test_a_matrix_is_factored_once(name: str) -> None:
    """However the derivative is taken: in one program, by a backward that runs later, twice."""
    f, both, backward, second = FACTORED[name]
    f, a, b = tg.trace(f), definite(), draw(SIDE)
    assert calls(oracle.printed(tg.value_and_grad(f, argnums=(0, 1)), a, b)) == both
    assert calls(oracle.printed(f, a, b, which="backward")) == backward
    slope = tg.trace(lambda a, b: sum(np.sum(d * d) for d in tg.grad(f, argnums=(0, 1))(a, b)))
    assert calls(oracle.printed(tg.grad(slope, argnums=(0, 1)), a, b)) == second
    forward = tg.trace(lambda a, b: tg.jvp(f, (a, b), (a, b)))
    found = calls(oracle.printed(forward, a, b))
    assert sum(found.get(k, 0) for k in ("lu_factor", "cholesky", "svd")) <= 1


def test_the_backward_of_a_tensor_solves_with_the_kept_factors() -> None:
    f = tg.trace(lambda a, b: b @ np.linalg.solve(a, b) + np.linalg.slogdet(a)[1])
    a, b = definite(), draw(SIDE)
    want = tg.grad(f)(a, b)
    for call in (f, f.python):
        t = tg.tensor(a, requires_grad=True)
        y = call(t, b)
        y.backward(retain_graph=True)
        y.backward()
        assert np.abs(t.grad.numpy() - 2 * want).max() <= 100 * EPS * np.abs(want).max()
    assert "lu_factor" in str(f.dump(a, b, which="forward"))
    assert "lu_solve((" in str(f.dump(a, b, which="backward"))


def test_a_loop_keeps_the_factors_of_its_steps_and_no_copy_of_the_matrix() -> None:
    def f(a, xs):
        def step(c, x):
            m = a + c[:, None] * 0.1
            return np.linalg.solve(m, x + c), np.linalg.slogdet(m)[1]

        c, ys = tg.scan(step, np.zeros(SIDE), xs)
        return np.sum(c**2) + np.sum(ys)

    a, xs = regular(), draw(6, SIDE)
    found = tg.trace(f)
    source = oracle.printed(tg.value_and_grad(found, argnums=(0, 1)), a, xs)
    assert calls(source) == {"lu_factor": 1, "lu_solve": 3}
    stacked = re.findall(r"= np.empty\(\(n, 5, 5\)\)", source)
    assert len(stacked) == 2, "the factors, and the inverse for the determinant"
    directions = draw(*a.shape, seed=3), draw(*xs.shape, seed=4)
    got = tg.grad(found, argnums=(0, 1))(a, xs)
    along = sum(np.sum(d * t) for d, t in zip(got, directions, strict=True))
    assert along == pytest.approx(slope(found, (a, xs), directions), rel=1e-6)
    oracle.check_second_order(found, a, xs)


def test_the_gradient_of_cholesky_is_symmetric() -> None:
    """`log det` through the factor has the gradient `inv(a)`, which is symmetric."""
    a = definite()

    @tg.trace
    def logdet(a):
        return 2 * np.sum(np.log(np.diagonal(np.linalg.cholesky(a))))

    oracle.assert_similar(logdet.grad(a), np.linalg.inv(a), 100 * SIDE)
    x = tg.tensor(a, requires_grad=True)
    logdet.python(x).backward()
    oracle.assert_similar(x.grad.numpy(), np.linalg.inv(a), 100 * SIDE)
    hessian = tg.hessian(logdet)(a)
    want = -np.einsum("ik,jl->ijkl", np.linalg.inv(a), np.linalg.inv(a))
    oracle.assert_similar(hessian, (want + want.transpose(0, 1, 3, 2)) / 2, 1000 * SIDE)


def test_eigenvalues_and_vectors() -> None:
    a, b = definite(3), draw(SIDE, SIDE, seed=2)

    @tg.trace
    def f(a, b):
        w, v = np.linalg.eigh(a)
        return np.sum(v @ np.log(w)[..., None] * b) + np.sum(np.abs(v) ** 3)

    assert f.source(a, b).count("= eigh(") == 1
    assert_gradient_of_symmetric(f, a, b)
    for uplo in "LU":
        lopsided = np.tril(a) if uplo == "L" else np.triu(a)
        w, v = tg.trace(lambda x: np.linalg.eigh(x, uplo))(lopsided)  # noqa: B023
        error = np.abs(v * w[:, None, :] - a @ v).max()
        assert error <= 20 * SIDE * EPS * np.abs(a).max()
        oracle.assert_similar(w, np.linalg.eigvalsh(a), 20 * SIDE)
    with pytest.raises(np.linalg.LinAlgError, match="Eigenvalues did not converge"):
        tg.trace(np.linalg.eigvalsh)(np.full((3, 3), np.nan))


def assert_gradient_of_symmetric(f: tg.Function, a: np.ndarray, b: np.ndarray) -> None:
    t = draw(*a.shape, seed=9)
    t = t + np.swapaxes(t, -1, -2)
    want = slope(f.python, (a, b), (t, 0 * b))
    assert abs(np.sum(f.grad(a, b) * t) - want) <= 1e-6 * (1 + abs(want))


def gaussian_process(log_scales: Any, x: Any, y: Any) -> Any:
    """Log marginal likelihood (Rasmussen and Williams 2006, algorithm 2.1)."""
    width, height, noise = np.exp(log_scales[0]), np.exp(log_scales[1]), np.exp(log_scales[2])
    gap = (x[:, None] - x[None, :]) / width
    k = height * np.exp(-0.5 * gap**2) + noise * np.eye(len(x))
    factor = np.linalg.cholesky(k)
    alpha = tg.linalg.solve_triangular(factor, y, lower=True)
    return -0.5 * alpha @ alpha - np.sum(np.log(np.diagonal(factor))) - len(x) * 0.918938533


def test_a_gaussian_process() -> None:
    x = np.linspace(0.0, 3.0, 12)
    arguments = np.array([-0.3, 0.2, -1.5]), x, np.sin(2 * x)
    f = tg.trace(gaussian_process)
    assert f(*arguments) == pytest.approx(gaussian_process(*arguments), rel=1e4 * EPS)
    assert_gradient(f, *arguments)
    curvature = tg.hessian(f)(*arguments)

    def slopes(scales: Any) -> Any:
        return f.grad(scales, *arguments[1:])

    steps = 1e-5 * np.eye(3)
    rows = [(slopes(arguments[0] + e) - slopes(arguments[0] - e)) / 2e-5 for e in steps]
    assert np.abs(curvature - rows).max() <= 1e-6 * (1 + np.abs(curvature).max())


def kalman(f: Any, q: Any, r: Any, ys: Any) -> Any:
    """Log-likelihood of a linear state space model that observes the first coordinate."""
    h = np.eye(2)[:1]

    def step(carry, y):
        m, p, total = carry
        m, p = f @ m, f @ p @ f.T + q @ q.T + 0.01 * np.eye(2)
        s = h @ p @ h.T + r @ r.T + 0.01 * np.eye(1)
        gain = np.linalg.solve(s, h @ p).T
        error = y - h @ m
        total = total - 0.5 * (error @ np.linalg.solve(s, error) + np.linalg.slogdet(s)[1])
        return (m + gain @ error, p - gain @ s @ gain.T, total), m

    start = (np.zeros(2), np.eye(2), 0.0)
    return tg.scan(step, start, ys)[0][2]


def test_a_kalman_filter_in_a_scan() -> None:
    f = tg.trace(kalman)
    args = np.array([[1.0, 0.3], [-0.2, 0.9]]), 0.3 * np.eye(2), np.eye(1), draw(15, 1)
    assert f(*args) == pytest.approx(kalman(*args), rel=1e3 * EPS)
    assert_gradient(f, *args)


@pytest.mark.parametrize("f", [np.linalg.inv, np.linalg.cholesky, np.linalg.det])
def test_vmap_is_the_batch(f: Any) -> None:
    a = definite(6)
    oracle.assert_similar(tg.vmap(lambda x: f(x))(a), tg.trace(lambda x: f(x))(a), 100 * SIDE)
    weights = draw(*np.shape(f(a)))
    one = tg.grad(lambda a: np.sum(weights * tg.vmap(lambda x: f(x))(a)))(a)
    all_at_once = tg.grad(lambda a: np.sum(weights * f(a)))(a)
    oracle.assert_similar(one, all_at_once, 500 * SIDE)


CALL = """
a, b = np.array({a}), np.array([1.0, 2.0])
value = f(a, b)
assert abs(value - {want}) < 1e-12, value
try:
    f(np.zeros((2, 2)), b)
except np.linalg.LinAlgError as error:
    assert "positive definite" in str(error)
else:
    raise AssertionError("no error")
assert "tracegrad" not in sys.modules and "codegen" not in sys.modules
"""


@pytest.mark.parametrize("disabled", ["0", "1"], ids=["numba", "python"])
def test_an_export_stands_alone(disabled: str, tmp_path: Path) -> None:
    def f(a, b):
        factor = np.linalg.cholesky(a)
        x = tg.linalg.solve_triangular(factor, b, lower=True)
        gap = np.linalg.eigh(a).eigenvalues[1] - np.trace(a)
        return x @ np.linalg.solve(a, b) + np.linalg.slogdet(a)[1] + gap

    a, path = [[3.0, 1.0], [1.0, 2.0]], tmp_path / "exported.py"
    traced = tg.trace(f)
    traced.export(path, np.array(a), np.ones(2))
    call = CALL.format(a=a, want=float(f(np.array(a), np.array([1.0, 2.0]))))
    path.write_text("import sys\n" + path.read_text() + call)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", path],
        env={**environment, "NUMBA_DISABLE_JIT": disabled},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_scipys_own_functions_say_what_to_use() -> None:
    def f(a):
        return scipy.linalg.expm(a)

    with pytest.raises(tg.TraceError, match="SciPy's expm"):
        tg.trace(f)(np.eye(2))


def test_compiled_code_needs_the_arrays_it_is_typed_for() -> None:
    assert lapack.cholesky is not factorisations.cholesky
    assert tg.linalg.matrix_power(np.eye(2), 3).shape == (2, 2)
    with pytest.raises(TypeError, match="exponent must be an integer"):
        tg.linalg.matrix_power(np.eye(2), 0.5)
