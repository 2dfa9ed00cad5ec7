"""Threads: the same bits for every number of them, and no way to bring the process down."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from codegen import threads
from tracegrad.tree import flatten

ROOT = Path(__file__).resolve().parents[1]
RANDOM = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = tg.get_num_threads()
    yield
    tg.set_num_threads(before)


def arrays(value: Any) -> list[np.ndarray]:
    found: list[tuple[str, Any]] = []
    flatten("", value, lambda x: isinstance(x, np.ndarray | np.generic), found)
    return [np.asarray(x) for _, x in found]


def normal(*shape: int, dtype: str = "f8") -> np.ndarray:
    return RANDOM.normal(size=shape).astype(dtype)


def layer_norm(x: Any, g: Any, b: Any) -> Any:
    centred = x - np.mean(x, axis=1, keepdims=True)
    v = np.mean(centred * centred, axis=1, keepdims=True)
    return np.sum(np.tanh(centred / np.sqrt(v + 1e-5) * g + b))


def logistic(w: Any, x: Any, y: Any) -> Any:
    return np.mean(np.logaddexp(0, -y * (x @ w)))


def item(a: Any, b: Any) -> Any:
    return np.sin(a) @ b, np.sum(a * a)


def powers(a: Any, b: Any) -> Any:
    """An item with steps of its own."""
    return tg.fori_loop(0, 3, lambda _, b: np.tanh(a @ b), b)


PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "a sum and its gradient": (
        tg.trace(lambda x: np.sum(np.exp(-x * x))).value_and_grad,
        (normal(300_001),),
    ),
    "a sum in float32": (
        tg.trace(lambda x: np.mean(2 * (x + 1) * (x + 1))).value_and_grad,
        (normal(700, 701, dtype="f4"),),
    ),
    "sums over columns": (tg.trace(lambda x: np.sum(np.cos(x), axis=0)), (normal(5_000, 31),)),
    "largest and product": (
        tg.trace(lambda x: (np.max(x), np.min(x, axis=0), np.prod(1 + 1e-6 * x))),
        (normal(200_000, 2),),
    ),
    "rows": (
        tg.value_and_grad(layer_norm, argnums=(0, 1, 2)),
        (normal(3_000, 60), normal(60), normal(60)),
    ),
    "a matrix and a vector": (
        tg.trace(logistic).value_and_grad,
        (normal(50), normal(4_000, 50), np.sign(normal(4_000))),
    ),
    "items": (tg.vmap(item), (normal(4_000, 20), normal(4_000, 20))),
    "items with matrix products": (
        tg.vmap(powers),
        (normal(400, 24, 24) / 10, normal(400, 24, 24)),
    ),
    "a table that many rows add to": (
        tg.grad(lambda t, at: np.sum(np.exp(np.sin(t[at])))),
        (normal(50), RANDOM.integers(0, 50, 200_000)),
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_results_do_not_depend_on_the_number_of_threads(name: str) -> None:
    function, given = PROGRAMS[name]
    found = []
    for count in (2, 1, 3, 2):
        tg.set_num_threads(count)
        found.append(arrays(function(*given)))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", PROGRAMS)
def test_these_programs_do_run_on_threads(name: str) -> None:
    """A loop of each of them is one for several threads, at its size."""
    function, given = PROGRAMS[name]
    function(*given)
    for version in function.versions:  # type: ignore[attr-defined]
        assert "parallel(" in version.primal.into.built.source


def test_large_arrays_give_what_numpy_gives() -> None:
    x = normal(400_000)
    value, gradient = PROGRAMS["a sum and its gradient"][0](x)
    inside = np.exp(-x * x)
    size = np.sum(np.abs(inside))
    assert abs(value - np.sum(inside)) <= 40 * np.finfo(float).eps * size
    np.testing.assert_allclose(gradient, -2 * x * inside, rtol=1e-13)


def test_small_calls_compile_nothing_for_threads() -> None:
    f = tg.trace(lambda x: np.sum(np.sqrt(x) * 3))
    f(np.ones(10))
    (version,) = f.versions
    cell = threads.VERSIONS.cell(version.primal.built.path.stem)
    assert cell.value == 0
    f(np.ones(3_000_000))
    assert cell.value > 0


def test_a_version_that_cannot_be_made_is_warned_about_once() -> None:
    f = tg.trace(lambda x: np.sum(np.tanh(x) * 5))
    f(np.ones(10))
    (version,) = f.versions
    stem = version.primal.built.path.stem

    def refuse() -> int:
        raise RuntimeError("no such luck")

    threads.offer(stem, refuse)
    with pytest.warns(RuntimeWarning, match="one version for small and large arrays: no"):
        assert f(np.zeros(2_000_000)) == 0
    assert f(np.zeros(2_000_000)) == 0 and threads.VERSIONS.cell(stem).value == threads.NONE


def test_a_step_of_a_time_loop_runs_on_threads() -> None:
    def smooth(u: Any) -> Any:
        def step(i: Any, u: Any) -> Any:
            return u + 0.1 * (np.roll(u, 1) - 2 * u + np.roll(u, -1))

        return tg.fori_loop(0, 3, step, u)

    u = normal(2_000_000)
    found = tg.trace(smooth)(u)
    for _ in range(3):
        u = u + 0.1 * (np.roll(u, 1) - 2 * u + np.roll(u, -1))
    np.testing.assert_allclose(found, u, rtol=1e-12, atol=1e-12)


def test_guards_hold_for_large_arrays_too() -> None:
    f = tg.trace(lambda x, y: np.sum(np.exp(x) * y))
    f(np.ones(500_000), np.ones(500_000))
    assert f(np.ones(400_000), np.ones(1)) == pytest.approx(400_000 * np.e)
    with pytest.raises(tg.ShapeError):
        f(np.ones(500_000), np.ones(499_999))


def test_wrong_numbers_of_threads() -> None:
    with pytest.raises(ValueError, match="at least 1 thread, not 0"):
        tg.set_num_threads(0)
    with pytest.raises(TypeError):
        tg.set_num_threads(1.5)  # type: ignore[arg-type]


def test_what_is_said_of_threads() -> None:
    f = tg.trace(lambda x: np.sum(np.exp(x)))
    assert "one here (n = 3)" in f.explain(np.ones(3))
    large = f.explain(np.ones(1_000_000))
    assert "several where n >=" in large and "several here (n = 1000000)" in large
    assert "one: no loop" in tg.trace(lambda x: x * 2.0).explain(1.0)
    source = f.source(np.ones(3), which="primal")
    assert "threaded = threads_version()" in source and "parallel(" not in source


def test_an_exported_module_may_have_threads(tmp_path: Path) -> None:
    f = tg.trace(logistic)
    given = (normal(40), normal(30_000, 40), np.sign(normal(30_000)))
    f.export(tmp_path / "exported.py", *given, threads=True)
    text = (tmp_path / "exported.py").read_text()
    assert "parallel=True" in text and "in prange(blocks):" in text and "codegen" not in text
    f.export(tmp_path / "plain.py", *given)
    assert "prange" not in (tmp_path / "plain.py").read_text()
    np.savez(tmp_path / "given.npz", *given)
    code = f"""
sys.path.insert(0, {str(tmp_path)!r})
from exported import logistic_value_and_grad
given = [array for array in np.load({str(tmp_path / "given.npz")!r}).values()]
value, gradient = logistic_value_and_grad(*given)
np.savez({str(tmp_path / "found.npz")!r}, value, gradient)
"""
    run(code)
    found = np.load(tmp_path / "found.npz")
    value, gradient = f.value_and_grad(*given)
    np.testing.assert_allclose(found["arr_0"], value, rtol=1e-13)
    np.testing.assert_allclose(found["arr_1"], gradient, rtol=1e-11, atol=1e-16)


PRELUDE = """
import os, sys, threading
import numpy as np, tracegrad as tg
from codegen import threads
f = tg.trace(lambda x: np.sum(np.exp(-x * x))).value_and_grad
x = np.linspace(-2, 2, 300_000)
"""


def run(code: str, **environment: str) -> str:
    """What a process of its own prints."""
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, env=given
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_two_python_threads_at_once() -> None:
    code = """
tg.set_num_threads(3)
right = f(x)
wrong = []
def work():
    for _ in range(50):
        value, gradient = f(x)
        if value != right[0] or (gradient != right[1]).any():
            wrong.append(value)
many = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in many]
[t.join() for t in many]
print(len(wrong))
"""
    assert run(code) == "0"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_computes_on() -> None:
    code = """
tg.set_num_threads(2)
right = f(x)
child = os.fork()
if not child:
    ok = f(x)[0] == right[0] and threads.STATE.pool is not None
    ok = ok and threading.active_count() == 2
    os._exit(0 if ok else 1)
print(os.waitpid(child, 0)[1], f(x)[0] == right[0])
"""
    assert run(code) == "0 True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork_while_another_thread_is_in_a_loop() -> None:
    code = """
tg.set_num_threads(2)
right = f(x)
stop = threading.Event()
def work():
    while not stop.is_set():
        f(x)
other = threading.Thread(target=work)
other.start()
states = []
for _ in range(5):
    child = os.fork()
    if not child:
        os._exit(0 if f(x)[0] == right[0] else 1)
    states.append(os.waitpid(child, 0)[1])
stop.set()
other.join()
print(states)
"""
    assert run(code) == "[0, 0, 0, 0, 0]"


@pytest.mark.parametrize("layer", ["workqueue", "default"])
def test_inside_the_users_own_prange(layer: str) -> None:
    """Called by numba's threads, which Python does not know, it runs on the one that called."""
    code = """
import numba
tg.set_num_threads(2)
right = f(x)[0]
compiled = f.latest.primal.function
@numba.njit(parallel=True)
def outer(x):
    found = np.empty(6)
    for i in numba.prange(6):
        found[i] = compiled(x)[0]
    return found
print((outer(x) == right).all())
"""
    assert run(code, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2") == "True"


def test_the_first_large_call_may_come_from_the_users_prange() -> None:
    code = """
import numba
f(x[:10])
compiled = f.latest.primal.function
@numba.njit(parallel=True)
def outer(x):
    found = np.empty(6)
    for i in numba.prange(6):
        found[i] = compiled(x)[0]
    return found
print(np.allclose(outer(x), f(x)[0], rtol=1e-14))
"""
    assert run(code, NUMBA_NUM_THREADS="2") == "True"


def test_the_environment_says_how_many() -> None:
    ask = "print(tg.get_num_threads())"
    assert run(ask, NUMBA_NUM_THREADS="3", OMP_NUM_THREADS="5") == "3"
    assert run(ask, NUMBA_NUM_THREADS="", OMP_NUM_THREADS="5,2") == "5"
    assert run(ask, NUMBA_NUM_THREADS="", OMP_NUM_THREADS="") == str(threads.available())


def test_both_blas_follow() -> None:
    code = """
tg.trace(lambda a, b: a @ b)(np.ones((3, 3)), np.ones((3, 3)))
def counts():
    return [threads.function(l, "get_num_threads")() for l in threads.blas_libraries()]
tg.set_num_threads(1)
first = counts()
tg.set_num_threads(2)
g = tg.vmap(lambda a, b: np.tanh(a @ b))
many = np.ones((3000, 16, 16))
g(many, many)
print(first, counts())
"""
    libraries = list(threads.blas_libraries())
    if len(libraries) < 2:
        tg.trace(lambda a, b: a @ b)(np.ones((3, 3)), np.ones((3, 3)))
        libraries = list(threads.blas_libraries())
    one, two = [1] * len(libraries), [2] * len(libraries)
    assert libraries and run(code) == f"{one} {two}"


def test_a_block_that_runs_out_of_memory_raises() -> None:
    """A library may not end the process; the error comes out of the loop as one."""
    code = """
import resource
g = tg.vmap(lambda a, n: np.sum(np.exp(np.tanh(a[:, None] * a[None, :]) @ np.cos(a[:, None] + a))))
small = np.ones((4, 600))
g(small, np.ones(4))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
large = np.ones((20, 9000))
g(large[:, :900], np.ones(20))
resource.setrlimit(resource.RLIMIT_AS, (used + 400_000_000, -1))
try:
    g(large, np.ones(20))
except MemoryError as error:
    print("MemoryError")
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    assert run(code) == "MemoryError"


def test_the_lock_of_the_pool_is_pythons() -> None:
    """A pool without helpers is the caller alone."""
    found = []
    task = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(lambda _, k: found.append(k))
    threads.alone(ctypes.cast(task, ctypes.c_void_p).value or 0, 0, 3, 0)
    assert found == [0, 1, 2]


def failing_items(count: int = 3000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a = normal(count, 6, 6)
    return a @ a.swapaxes(1, 2) + np.eye(6), normal(count, 6), np.arange(count) % 3 + 1


def solved(a: Any, b: Any, k: Any) -> Any:
    """An item with as many solves as it asks for, and a factorisation that may fail too."""

    def step(state: Any) -> Any:
        x, i = state
        return np.linalg.solve(a, b + x), i + 1

    x, _ = tg.while_loop(lambda state: state[1] < k, step, (b, 0))
    return np.sum(np.linalg.cholesky(a)) + np.sum(x)


def test_items_that_may_fail_run_on_threads_and_the_first_error_is_raised() -> None:
    a, b, k = failing_items()
    f = tg.vmap(solved)
    found = {}
    for count in (1, 2):
        tg.set_num_threads(count)
        found[count] = f(a, b, k)
    assert "parallel(" in f.source(a, b, k, which="primal")
    assert found[1].tobytes() == found[2].tobytes()
    want = solved(a[7], b[7], int(k[7]))
    assert found[2][7] == pytest.approx(want, rel=1e-9)
    singular, indefinite = np.zeros((6, 6)), -np.eye(6)
    for places, message in (
        ({2500: singular, 2600: indefinite}, "Singular matrix"),
        ({1200: indefinite, 1201: singular, 2999: singular}, "Matrix is not positive definite"),
        ({2999: singular}, "Singular matrix"),
        ({0: indefinite, 1: singular}, "Matrix is not positive definite"),
    ):
        broken = a.copy()
        for place, matrix in places.items():
            broken[place] = matrix
        with pytest.raises(np.linalg.LinAlgError, match=message):
            f(broken, b, k)
    assert f(a, b, k).tobytes() == found[1].tobytes()
