"""Loops that write into arrays, in reverse: what their gradients keep, and that they are right."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tracegrad.control import loop

RNG = np.random.default_rng(3)


def arrays_of(source: str) -> list[str]:
    """The shapes of the arrays that a generated function allocates."""
    return re.findall(r"= np\.(?:empty|zeros)\((.*)\)$", source, re.MULTILINE)


def product(a: Any, b: Any) -> Any:
    c = np.zeros((a.shape[0], b.shape[1]))
    for i in tg.range(a.shape[0]):
        for j in tg.range(b.shape[1]):
            for k in tg.range(a.shape[1]):
                c[i, j] += a[i, k] * b[k, j]
    return np.sum(c * c)


def test_linear_writes_keep_nothing() -> None:
    """Neither indices nor the array are kept; cotangents are added up where they belong."""
    a, b = RNG.normal(size=(3, 4)), RNG.normal(size=(4, 5))
    gradient = tg.trace(tg.grad(product, argnums=(0, 1)))
    d_a, d_b = gradient(a, b)
    np.testing.assert_allclose(d_a, 2 * (a @ b) @ b.T, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(d_b, 2 * a.T @ (a @ b), rtol=1e-13, atol=1e-13)
    found = arrays_of(gradient.source(a, b))
    assert len(found) == 3, found  # c (and its cotangent in its place), d_a, d_b
    tg.testing.check_grads(product, (a, b), order=2)


def test_a_counter_is_compared_with_the_extent_before_the_loop() -> None:
    """A guard says that it stays inside; calls where it does not have a version that checks."""
    f = tg.trace(product)
    f(np.ones((2, 3)), np.ones((3, 2)))
    assert "in_bounds" not in f.source(np.ones((2, 3)), np.ones((3, 2)))
    assert f(np.ones((2, 3)), np.ones((5, 2))) == 36.0
    with pytest.raises(IndexError, match="out of bounds"):
        f(np.ones((2, 3)), np.ones((2, 2)))
    assert f(np.ones((0, 3)), np.ones((2, 2))) == 0.0


def shifted(x: Any, at: Any) -> Any:
    s = np.zeros(3)
    for i in tg.range(at.shape[0]):
        s[at[i]] += x[at[i] + 1] * x[i]
    return np.sum(s * s)


def test_indices_from_data_are_checked_once() -> None:
    x, at = RNG.normal(size=4), np.array([0, -1, 1, 0])
    gradient = tg.trace(tg.grad(shifted))
    steps = 1e-6 * np.eye(4)
    expected = [(shifted(x + step, at) - shifted(x - step, at)) / 2e-6 for step in steps]
    np.testing.assert_allclose(gradient(x, at), expected, rtol=1e-7, atol=1e-8)
    with pytest.raises(IndexError, match="out of bounds"):
        gradient(x, np.array([0, -1, 7, 0]))
    backward = gradient.source(x, at).split("for ")[-1]
    assert "in_bounds" not in backward


def test_a_sum_starts_from_what_it_is_added_to() -> None:
    """Unless that is computed from another result of the same loop."""

    def apart(x: Any) -> Any:
        y = np.zeros_like(x)
        z = np.zeros_like(x)
        for i in tg.range(x.shape[0]):
            y[i] += x[i] * 2.0
            z[i] += np.sin(x[i])
        return np.sum((y + z) * (z * z + y) + (x + y))

    tg.testing.check_grads(apart, (RNG.normal(size=4),), order=2)


def lu(a: Any) -> Any:
    a = a.copy()
    for i in tg.range(a.shape[0]):
        for j in tg.range(i):
            a[i, j] -= a[i, :j] @ a[:j, j]
            a[i, j] /= a[j, j]
        for j in tg.range(i, a.shape[0]):
            a[i, j] -= a[i, :i] @ a[:i, j]
    return np.sum(a * a)


def cholesky(a: Any) -> Any:
    a = a.copy()
    a[0, 0] = np.sqrt(a[0, 0])
    for i in tg.range(1, a.shape[0]):
        for j in tg.range(i):
            a[i, j] = (a[i, j] - a[i, :j] @ a[j, :j]) / a[j, j]
        a[i, i] = np.sqrt(a[i, i] - a[i, :i] @ a[i, :i])
    return np.sum(a * a)


def sweeps(x: Any) -> Any:
    """Elements are overwritten again and again, each time from their neighbours."""
    u = x.copy()
    for _ in tg.range(3):
        for i in tg.range(1, u.shape[0]):
            u[i] = np.sin(u[i]) * u[i - 1] + u[i] ** 2
    return np.sum(u * u)


def all_pairs(x: Any) -> Any:
    p = np.exp(np.outer(x, 1 + x) / 3)
    n = x.shape[0]
    for k in tg.range(n):
        for i in tg.range(n):
            for j in tg.range(n):
                p[i, j] = np.minimum(p[i, j], 0.7 * p[i, k] * p[k, j])
    return np.sum(p * p)


def read_before_and_used_after(x: Any) -> Any:
    """What unwinds the inner loop depends on what the array was before it."""
    u = x.copy()
    n = u.shape[0]
    for k in tg.range(n):
        pivot = u[k]
        for i in tg.range(n):
            u[i] = u[i] * u[n - 1 - i] + 0.3
        u[0] *= pivot
        u[n - 1] = np.sin(pivot * u[0])
    return np.sum(u * u)


def data_decides(x: Any) -> Any:
    u = x.copy()
    for _ in tg.range(4):
        at = np.argmax(u)
        u[at] = u[at] * u[0] * 0.5
        u[np.argmin(u)] *= u[at]
    return np.sum(u * u)


def a_copy_inside(x: Any) -> Any:
    u = x.copy()
    for k in tg.range(x.shape[0]):
        old = u.copy()
        u[k] = np.sum(old * old)
        u[1:] = u[1:] * old[:-1]
        old[k] = 2.0
        u[0] += np.sum(old) * u[k]
    return np.sum(u)


def two_arrays(x: Any) -> Any:
    u, v = x.copy(), np.exp(x)
    count = np.zeros(x.shape[0], int)
    for k in tg.range(x.shape[0]):
        u[k] = u[k] * v[k] * u[0]
        v[k] = v[k] * u[k]
        count[k] += k
        v[-1] = v[-1] * u[count[k]]
    return np.sum(u * v)


def rows_and_columns(x: Any) -> Any:
    a = np.outer(x, x + 1)
    n = x.shape[0]
    for k in tg.range(n - 1):
        a[:, k] = a[:, k] * a[k, k]
        a[k + 1 :, k] /= 2 + a[k, k] ** 2
        a[k] = np.tanh(a[k]) * a[k + 1]
    return np.sum(a * a)


def under_a_condition(x: Any) -> Any:
    u = x.copy()
    for k in tg.range(1, x.shape[0]):
        if k % 2 == 0:
            u[k] = u[k] * u[k - 1] ** 2
        else:
            u[k - 1] = u[k] * u[k]
        u[k] *= u[0]
    return np.sum(u * u)


def returned_and_kept(x: Any) -> Any:
    u, total = x.copy(), 0.0
    for k in tg.range(x.shape[0]):
        u[k] = u[k] ** 2 * u[0]
        total += np.sum(u * u)
    v = u.copy()
    for k in tg.range(x.shape[0]):
        v[k] = v[k] * u[k] * v[0]
    return total + np.sum(u * v)


def no_steps(x: Any) -> Any:
    u = x.copy()
    for k in tg.range(x.shape[0]):
        for j in tg.range(k, 1):
            u[j] = u[j] * u[k] * np.sin(u[j])
        for j in tg.range(k - 5):
            u[j] = u[j] ** 2
    return np.sum(u * u)


def until_it_ends(x: Any) -> Any:
    u, k = x.copy(), 0
    while u[0] < 5.0:
        u[k] = u[k] * u[k] * 0.5 + u[0]
        u[0] = u[0] * 1.3 + 0.1 * u[k]
        k = (k + 1) % 3
    return np.sum(u * u)


VECTORS = [
    sweeps,
    all_pairs,
    read_before_and_used_after,
    data_decides,
    a_copy_inside,
    two_arrays,
    rows_and_columns,
    returned_and_kept,
    no_steps,
]


def spd(size: int) -> np.ndarray:
    a = RNG.normal(size=(size, size))
    return a @ a.T + size * np.eye(size)


PROGRAMS = [
    *((program, RNG.uniform(0.4, 1.2, 4)) for program in VECTORS),
    (tg.trace(python_control_flow=True)(under_a_condition), RNG.uniform(0.4, 1.2, 4)),
    (tg.trace(python_control_flow=True)(until_it_ends), RNG.uniform(0.4, 1.2, 4)),
    (lu, spd(4)),
    (cholesky, spd(4)),
]


@pytest.fixture(params=["by cost", "always"])
def undone(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether writes are undone where the cost says so, or wherever they can be."""
    if request.param == "always":
        monkeypatch.setattr(loop, "is_cheaper", lambda found, plain: True)
    return request.param


@pytest.mark.parametrize(("program", "x"), PROGRAMS, ids=lambda p: getattr(p, "__name__", ""))
def test_gradients(program: Any, x: np.ndarray, undone: str) -> None:
    """Both modes; of two programs the second order too, for it takes long to compile."""
    order = 2 if program in (sweeps, read_before_and_used_after) else 1
    tg.testing.check_grads(tg.trace(program), (x,), order=order)
