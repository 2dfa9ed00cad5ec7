"""What a compilation loads of numba, and that the rest is there for whoever needs it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np

import tracegrad as tg
from codegen import parts, target, vecmath
from codegen.library import sums

ROOT = Path(__file__).parents[1]


def run(program: str, cache: Path) -> str:
    """What a program prints in a process of its own."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


def test_a_first_gradient_loads_little_of_numba(tmp_path: Path) -> None:
    """And a function of the user's own, compiled afterwards, has all of it."""
    program = """
        import sys
        import numpy as np, tracegrad as tg
        loss = tg.trace(lambda x: np.mean(np.tanh(np.sin(x) @ x) + np.exp(x[0])))
        x = np.linspace(0.1, 0.2, 12).reshape(3, 4) @ np.ones((4, 3))
        loss.value_and_grad(x)
        assert not {"numba.np.arraymath", "scipy.linalg"} & {*sys.modules}
        from numba import njit
        forward = loss.compiled(x).forward
        both = njit(lambda x: (forward(x)[0], np.linalg.solve(x + np.eye(3), x).sum(), str(len(x))))
        value, solved, text = both(x)
        assert np.isclose(value, loss(x)) and text == "3"
        assert np.isclose(solved, np.linalg.solve(x + np.eye(3), x).sum())
    """
    run(program, tmp_path)


def test_a_function_of_the_users_own_may_be_compiled_first(tmp_path: Path) -> None:
    program = """
        import numba, numpy as np
        assert numba.njit(lambda x: x.sum())(np.ones(3)) == 3
        import tracegrad as tg
        loss = tg.trace(lambda x: np.sum(np.exp(x) * x))
        value, gradient = loss.value_and_grad(np.ones(3))
        assert np.allclose(gradient, 2 * np.e)
    """
    run(program, tmp_path)


def test_what_is_missing_is_loaded(tmp_path: Path) -> None:
    """A shuffle calls functions of NumPy that are not among the essential ones."""
    program = """
        import sys
        import numpy as np, tracegrad as tg
        f = tg.trace(lambda rng, x: np.sum(x * rng.permutation(5)))
        x = np.arange(5.0)
        assert f(np.random.default_rng(3), x) == np.sum(x * np.random.default_rng(3).permutation(5))
    """
    run(program, tmp_path)


def test_versions_with_threads_are_kept(tmp_path: Path) -> None:
    """Their loops are functions linked into another one, which must not make that unfit to keep."""
    program = """
        import numpy as np, tracegrad as tg
        loss = tg.trace(lambda x: np.sum(np.exp(-x * x)))
        x = np.linspace(-1, 1, 400_000)
        value, gradient = loss.value_and_grad(x)
        assert np.allclose(gradient, -2 * x * np.exp(-x * x))
        print(loss.value_and_grad.versions[0].primal.into.built.cache)
    """
    assert "miss" in run(program, tmp_path)
    assert run(program, tmp_path) == "hit\n"


def test_a_function_is_a_part_once() -> None:
    exp, error = vecmath.lookup("exp", np.dtype(float)), sums.rounding_error_f64
    assert parts.own(exp) and parts.own(error) and not parts.own(np.exp)
    assert parts.part(exp) is parts.part(exp)
    assert isinstance(parts.part(error), target.Dispatcher)
    assert parts.part(exp).py_func is exp.py_func


def test_a_slow_path_with_an_argument_that_is_constant() -> None:
    """LLVM must not remove the parameter: the vector variants of the function have it too."""
    f = tg.trace(lambda x: np.sum(np.exp(x / x.shape[0] ** 0.5)))
    x = np.linspace(0, 1, 7)
    np.testing.assert_allclose(f(x), np.sum(np.exp(x / 7**0.5)), rtol=1e-14)
