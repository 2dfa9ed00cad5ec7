"""Products: every dtype, layout and size against NumPy; compiled and as a stand-alone module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit

import codegen
from codegen.expr import INT, Call, Var
from codegen.library import products
from codegen.loops import Alloc, Function, LibraryCall, Module, Parameter, Return, View

DTYPES = ["f8", "f4", "i8", "i4", "?"]
SIZES = [(0, 2, 3), (2, 0, 3), (2, 3, 0), (1, 1, 1), (1, 4, 3), (4, 1, 3), (4, 3, 1), (5, 40, 33)]


@njit
def dot(a: Any, b: Any, out: Any) -> None:
    products.dot(a, b, out)


@njit
def batched_dot(a: Any, b: Any, out: Any) -> None:
    products.batched_dot(a, b, out)


def laid_out(x: np.ndarray, layout: str) -> np.ndarray:
    """`x` in rows, in columns, as part of a larger array, or with gaps between all elements."""
    if layout in "CF":
        return np.array(x, order="C" if layout == "C" else "F")
    larger = np.empty((x.shape[0] + 2, 2 * x.shape[1]), x.dtype)
    view = larger[1:-1, : x.shape[1]] if layout == "part" else larger[1:-1, ::2]
    view[...] = x
    return view


def small_integers(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.random.default_rng(5).integers(-3, 4, shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_matrix_products(dtype: str) -> None:
    layouts = ("C", "F", "part", "gaps") if dtype == "f8" else ("C", "F")
    for rows, inner, columns in SIZES:
        a, b = small_integers((rows, inner), dtype), small_integers((inner, columns), dtype)
        for la in layouts:
            for lb in layouts:
                out = np.full((rows, columns), 7).astype(dtype)
                dot(laid_out(a, la), laid_out(b, lb), out)
                np.testing.assert_array_equal(out, a @ b, err_msg=f"{rows, inner, columns, la, lb}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_with_vectors(dtype: str) -> None:
    for rows, inner, _ in SIZES:
        a, v = small_integers((rows, inner), dtype), small_integers((inner,), dtype)
        for order in ("C", "F"):
            out = np.full(rows, 7).astype(dtype)
            dot(laid_out(a, order), v, out)
            np.testing.assert_array_equal(out, a @ v)
            dot(v, laid_out(a.T, order), out)
            np.testing.assert_array_equal(out, v @ a.T)


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8"])
def test_batched_products(dtype: str) -> None:
    for rows, inner, columns in SIZES:
        a, b = small_integers((3, rows, inner), dtype), small_integers((3, inner, columns), dtype)
        out = np.full((3, rows, columns), 7).astype(dtype)
        batched_dot(a, b, out)
        np.testing.assert_array_equal(out, a @ b)
        batched_dot(np.ascontiguousarray(a.transpose(0, 2, 1)).transpose(0, 2, 1), b, out)
        np.testing.assert_array_equal(out, a @ b)


def gram(dtype: str) -> Module:
    """`x.T @ x`, and the same for a stack `s` of matrices, doubled through `add`."""
    kind = np.dtype(dtype)
    n, k, m = (Var(name) for name in "nkm")
    body = (
        View("xt", "x", axes=(1, 0)),
        Alloc("g", (m, m), kind, temporary=False),
        LibraryCall("dot", ("xt", "x"), ("g",)),
        View("st", "s", axes=(0, 2, 1)),
        Alloc("h", (k, m, m), kind, temporary=False),
        LibraryCall("batched_dot", ("st", "s"), ("h",)),
        Return(("g", "h", Call("add", (n, m), INT))),
    )
    parameters = (Parameter("x", kind, 2), Parameter("s", kind, 3))
    return Module((Function("gram", parameters, body, "", (("n", "x", 0), ("m", "x", 1),
                                                           ("k", "s", 0))),))  # fmt: skip


CALL = """
with open({path!r}) as file:
    exec(compile(file.read(), {path!r}, "exec"))
x = np.arange(6).reshape(2, 3).astype({dtype!r})
s = np.arange(12).reshape(2, 2, 3).astype({dtype!r})
g, h, total = gram(x, s)
assert g.dtype == x.dtype and (g == x.T @ x).all(), g
assert (h == s.transpose(0, 2, 1) @ s).all(), h
assert total == 5
"""


@pytest.mark.parametrize("disabled", ["0", "1"], ids=["numba", "python"])
def test_an_exported_module_stands_alone(disabled: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.py"
    for dtype in ("f8", "f4", "i8"):
        exported = tmp_path / f"exported_{dtype}.py"
        exported.write_text(codegen.export_source(gram(dtype)))
        assert "codegen" not in exported.read_text()
        with path.open("a") as calls:
            calls.write(CALL.format(path=str(exported), dtype=dtype))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["NUMBA_DISABLE_JIT"] = disabled
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", path],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_built_module_calls_blas(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for expected in ("miss", "hit"):
        built = codegen.build(gram("f8"))
        assert built.cache.startswith(expected)
        x, s = np.random.default_rng(0).random((70, 9)), np.zeros((1, 2, 9))
        g, _, _ = built.functions["gram"](x, s)
        # Each element is a sum of 70 products of numbers below 1.
        np.testing.assert_allclose(g, x.T @ x, rtol=70 * np.finfo(float).eps)
