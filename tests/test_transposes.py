"""Transposes leave elementwise chains, so that elements are computed in the order of memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tests import oracle
from tracegrad.function import Function
from tracegrad.passes.simplify import simplify

RNG = np.random.default_rng(11)
X, Y, Z = (oracle.draw(RNG, (3, 4), np.dtype(float), (-2, 2)) for _ in range(3))
V, W = (oracle.draw(RNG, (size,), np.dtype(float), (-2, 2)) for size in (3, 4))
CUBE = oracle.draw(RNG, (2, 3, 4), np.dtype(float), (-2, 2))

LEFT: dict[str, tuple[int, Callable[..., Any]]] = {
    "a row": (0, lambda x, y, v, w, c: (v * x.T) @ y),
    "a column": (0, lambda x, y, v, w, c: (np.exp(w[:, None] * x.T) - 1) @ y),
    "two alike": (0, lambda x, y, v, w, c: np.where(x.T > 0, y.T, 0.0) @ x),
    "a number": (0, lambda x, y, v, w, c: (x.T * np.sum(v)).astype(np.float32) @ y),
    "spread": (0, lambda x, y, v, w, c: (x.T * np.broadcast_to(v, (4, 3))) @ y),
    "a sum": (0, lambda x, y, v, w, c: np.sum(v * x.T, axis=1)),
    "a mean of all": (0, lambda x, y, v, w, c: np.max(x.T * y.T)),
    "rank three": (0, lambda x, y, v, w, c: np.sum(np.transpose(c, (2, 0, 1)) * v, axis=(0, 2))),
    "a smaller matrix": (
        0,
        lambda x, y, v, w, c: np.sum(np.transpose(c, (1, 2, 0)) * x[..., None]),
    ),
    "the result": (1, lambda x, y, v, w, c: np.tanh(v * x.T)),
    "a kept axis": (
        1,
        lambda x, y, v, w, c: np.sum(np.transpose(c, (2, 1, 0)) * v[:, None], axis=1),
    ),
    "another order": (1, lambda x, y, v, w, c: x.T.reshape(3, 4) * y),
    "not alike": (1, lambda x, y, v, w, c: x.T * (y @ y.T @ x).reshape(4, 3)),
}


ARGS = X, Y, V, W, CUBE


@pytest.mark.parametrize("case", LEFT)
def test_transposes_that_stay(case: str) -> None:
    """How many are left, and that the value is NumPy's."""
    left, program = LEFT[case]
    version, _ = Function(program).version_for(ARGS, {})
    nodes = simplify(version.graph).nodes
    assert sum(node.op.name == "transpose" for node in nodes) == left
    (got,) = oracle.interpreted(program, *ARGS)
    oracle.assert_similar(got, program(*ARGS), 256)


def test_compiled() -> None:
    def programs(*args: Any) -> Any:
        return [program(*args) for _, program in LEFT.values()]

    for got, want in zip(oracle.compiled(programs, *ARGS), programs(*ARGS), strict=True):
        oracle.assert_similar(got, want, 256)


@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (3, 1), (1, 1), (0, 4), (3, 0)])
def test_gradients_and_sizes_of_one(shape: tuple[int, int]) -> None:
    """`f = sum(t @ x)`, `t = tanh(v * x.T)`: `d_t` has the sums of the rows of `x` in each row."""
    x, v = RNG.normal(size=shape), RNG.normal(size=shape[0])

    def program(x: Any, v: Any) -> Any:
        return np.sum(np.tanh(v * x.T) @ x)

    t = np.tanh(v * x.T)
    d_scaled = (1 - t**2) * x.sum(axis=1)
    got = oracle.interpreted(tg.grad(program, argnums=(0, 1)), x, v)
    np.testing.assert_allclose(got[0], (d_scaled * v).T + t.sum(axis=0)[:, None], atol=1e-12)
    np.testing.assert_allclose(got[1], (d_scaled * x.T).sum(axis=0), atol=1e-12)


def test_a_scaled_transpose_is_read_by_rows() -> None:
    """The second derivative of a loss through `x @ w`: one product of what rows give."""

    def loss(w: Any, x: Any) -> Any:
        return np.sum(np.exp(x @ w))

    w, x = RNG.normal(size=4), RNG.normal(size=(30, 4))
    hessian = tg.hessian(loss)
    np.testing.assert_allclose(hessian(w, x), x.T @ (np.exp(x @ w)[:, None] * x), rtol=1e-12)
    text = hessian.source(w, x)
    assert "x[i, j]" in text and "x[j, i]" not in text
