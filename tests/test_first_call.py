"""The version for which a function is first called gets its calls, and hands on those for the other
one: the same bits either way, and only what is called is compiled."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

import tracegrad as tg
from codegen import threads

ROOT = Path(__file__).parents[1]
RANDOM = np.random.default_rng(3)


def softmax(x: Any) -> Any:
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    return np.sum((e / np.sum(e, axis=1, keepdims=True)) ** 2, axis=0)


def layers(w: Any, b: Any, x: Any) -> Any:
    return np.mean(np.tanh(np.tanh(x @ w + b) @ w + b) ** 2)


MAKE: dict[str, Callable[[int], tuple[Any, ...]]] = {
    "vector": lambda n: (RANDOM.normal(size=100 * n),),
    "rows": lambda n: (RANDOM.normal(size=(n, 37)),),
    "weights": lambda n: (
        RANDOM.normal(size=(24, 24)).astype("f4"),
        RANDOM.normal(size=24).astype("f4"),
        RANDOM.normal(size=(n, 24)).astype("f4"),
    ),
}

PROGRAMS: dict[str, tuple[str, Callable[[], Callable[..., Any]]]] = {
    "a sum and its gradient": (
        "vector",
        lambda: tg.value_and_grad(lambda x: np.sum(np.exp(-x * x) + np.sin(x))),
    ),
    "a map": ("vector", lambda: tg.trace(lambda x: np.cos(x) * x)),
    "rows to columns": ("rows", lambda: tg.trace(softmax)),
    "second derivatives": (
        "vector",
        lambda: tg.grad(lambda x: np.sum(tg.grad(lambda x: np.sum(np.sin(x) * x * x))(x) * x)),
    ),
    "layers": ("weights", lambda: tg.value_and_grad(layers, argnums=(0, 1, 2))),
    "what data decides on": ("vector", lambda: tg.trace(lambda x: (np.exp(x[x > 0]), np.sum(x)))),
}


def flat(value: Any) -> list[np.ndarray]:
    parts = value if isinstance(value, tuple) else (value,)
    return [a for p in parts for a in (flat(p) if isinstance(p, tuple) else [np.asarray(p)])]


@pytest.mark.parametrize("name", PROGRAMS)
def test_both_orders_of_calls_give_the_same_bits(name: str) -> None:
    kind, make = PROGRAMS[name]
    small, large = MAKE[kind](30), MAKE[kind](6_000)
    first_small, first_large = make(), make()
    a, b = flat(first_small(*small)), flat(first_small(*large))
    d, c = flat(first_large(*large)), flat(first_large(*small))
    for x, y in zip(a + b, c + d, strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_large_first_call_compiles_one_version() -> None:
    f = tg.trace(lambda x: np.sum(np.sqrt(x) * 7))
    assert f(np.ones(3_000_000)) == 21_000_000
    (version,) = f.versions
    built = version.primal.built
    assert built.threads and "single = single_version()" in built.source
    cell = threads.VERSIONS.cell(built.path.stem)
    assert cell.value == 0
    assert f(np.ones(10)) == 70 and cell.value > 0


def test_the_source_is_that_of_the_sizes_asked_for() -> None:
    f = tg.trace(lambda x: np.sum(np.sqrt(x) * 11))
    f(np.ones(3_000_000))
    assert "parallel(" in f.source(np.ones(3_000_000), which="primal")
    assert "parallel(" not in f.source(np.ones(3), which="primal")


def test_small_calls_go_on_where_they_are_without_the_other_version() -> None:
    f = tg.trace(lambda x: np.sum(np.tanh(x) * 13))
    f(np.zeros(2_000_000))
    stem = f.versions[0].primal.built.path.stem

    def refuse() -> int:
        raise RuntimeError("no such luck")

    threads.offer(stem, refuse)
    with pytest.warns(RuntimeWarning, match="one version for small and large arrays: no such luck"):
        assert f(np.zeros(10)) == 0
    x = RANDOM.normal(size=10)
    assert f(x) == tg.trace(lambda x: np.sum(np.tanh(x) * 13))(x)


def test_the_users_compiled_code_calls_both() -> None:
    small, large = MAKE["vector"](1), MAKE["vector"](6_000)
    f = tg.trace(lambda x: np.sum(np.exp(-x * x) * 3))
    f.value_and_grad(*large)
    compiled = f.compiled(*large)
    forward, value_and_grad = compiled.forward, compiled.value_and_grad

    @numba.njit
    def both(x: Any) -> Any:
        return forward(x), value_and_grad(x)

    for (x,) in (large, small):
        value, (again, gradient) = both(x)
        expected, slopes = f.value_and_grad(x)
        assert again == expected and value == pytest.approx(expected, rel=1e-14)
        np.testing.assert_array_equal(gradient, slopes)


PROGRAM = """
import sys
import numpy as np, tracegrad as tg
loss = tg.trace(lambda x: np.sum(np.exp(-x * x)))
for size in map(int, sys.argv[1:]):
    x = np.linspace(-1, 1, size)
    value, gradient = loss.value_and_grad(x)
    assert np.allclose(gradient, -2 * x * np.exp(-x * x))
print("compiled" if "numba" in sys.modules else "loaded")
"""


@pytest.mark.parametrize("first, then", [(400_000, 9), (9, 400_000)])
def test_either_version_is_found_by_its_graph(tmp_path: Path, first: int, then: int) -> None:
    """Whichever was first called; the other one is kept when it is compiled."""

    def run(*sizes: int) -> str:
        line = [sys.executable, "-c", PROGRAM, *map(str, sizes)]
        settings = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
        done = subprocess.run(line, env=settings, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    found = [run(first), run(first), run(then, first), run(then), run(first, then)]
    assert found == ["compiled", "loaded", "compiled", "loaded", "loaded"]
