"""Loops that write into arrays, in reverse: what their gradients keep, and that they are right."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import tracegrad as tg

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
