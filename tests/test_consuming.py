"""The two variants of the compiled backward: the retaining one leaves the residuals as they are,
the consuming one may write the gradients into them."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tracegrad.version import Split

ROOT = Path(__file__).resolve().parents[1]
RANDOM = np.random.default_rng(0)


def elementwise(x: Any) -> Any:
    return np.sum(np.tanh(np.sin(x) * x))


def network(x: Any, w1: Any, w2: Any) -> Any:
    return np.sum(np.tanh(np.tanh(x @ w1) @ w2))


def normalised(x: Any, w: Any) -> Any:
    h = np.exp(x @ w)
    return np.sum(np.log1p(h / np.sum(h, axis=1, keepdims=True)) ** 2)


def running(x: Any) -> Any:
    return np.sum(np.cumsum(np.exp(np.cumsum(x, axis=0)), axis=0) ** 2)


def scanned(x: Any, w: Any) -> Any:
    def step(state: Any, row: Any) -> Any:
        state = np.tanh(state @ w + row)
        return state, state * state

    last, rows = tg.scan(step, x[0], x)
    return np.sum(last) + np.sum(np.exp(rows))


def several(x: Any) -> Any:
    h = np.tanh(x @ x)
    return h, np.exp(h @ x)


def matrix(n: int, m: int) -> np.ndarray:
    return RANDOM.normal(size=(n, m)) / m


PROGRAMS: dict[str, tuple[Any, tuple[np.ndarray, ...]]] = {
    "elementwise": (tg.trace(elementwise), (matrix(6, 5),)),
    "network": (tg.trace(network), (matrix(7, 6), matrix(6, 5), matrix(5, 4))),
    "normalised": (tg.trace(normalised), (matrix(7, 6), matrix(6, 6))),
    "running": (tg.trace(running), (matrix(6, 5),)),
    "scanned": (tg.trace(scanned), (matrix(6, 5), matrix(5, 5))),
    "several": (tg.trace(several), (matrix(6, 6),)),
}


def tensors(arrays: tuple[np.ndarray, ...]) -> list[tg.Tensor]:
    return [tg.tensor(array.copy(), requires_grad=True) for array in arrays]


def called(name: str) -> tuple[list[tg.Tensor], list[tg.Tensor]]:
    """Arguments and results of a program."""
    function, arrays = PROGRAMS[name]
    given = tensors(arrays)
    results = function(*given)
    return given, list(results) if isinstance(results, tuple) else [results]


def back(results: list[tg.Tensor], retain: bool = False) -> None:
    weights = [tg.ones_like(result) for result in results]
    tg.autograd.backward(results, weights, retain_graph=retain)


def split(name: str) -> Split:
    """Forward and backward of a program that was called on tensors."""
    return next(iter(PROGRAMS[name][0].versions[-1].splits.values()))


def gradient(x: tg.Tensor) -> np.ndarray:
    assert x.grad is not None
    return x.grad.numpy()


def node(result: tg.Tensor) -> Any:
    """The node of the traced call, also behind one of several results."""
    fn: Any = result.grad_fn
    return fn if hasattr(fn, "given") else fn.inputs[0]


def residuals(result: tg.Tensor) -> list[np.ndarray]:
    return [saved.value for saved in node(result).saved if isinstance(saved.value, np.ndarray)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_both_variants_give_the_same_and_retaining_changes_nothing(name: str) -> None:
    given, results = called(name)
    before = [array.copy() for array in residuals(results[0])]
    back(results, retain=True)
    retained = [gradient(x).copy() for x in given]
    for array, copy in zip(residuals(results[0]), before, strict=True):
        assert array.tobytes() == copy.tobytes()
    for x in given:
        x.grad = None
    back(results, retain=True)
    for x, want in zip(given, retained, strict=True):
        assert gradient(x).tobytes() == want.tobytes()
        x.grad = None
    back(results)
    for x, want in zip(given, retained, strict=True):
        assert gradient(x).tobytes() == want.tobytes()
    with pytest.raises(RuntimeError, match="second time"):
        back(results)


@pytest.mark.parametrize("name", PROGRAMS)
def test_arguments_and_results_are_never_written_to(name: str) -> None:
    given, results = called(name)
    seen = [t.detach().numpy() for t in (*given, *results)]
    before = [array.copy() for array in seen]
    back(results)
    for array, copy in zip(seen, before, strict=True):
        assert array.tobytes() == copy.tobytes()
    grads = [gradient(x) for x in given]
    for at, grad in enumerate(grads):
        assert not any(np.shares_memory(grad, other) for other in (*seen, *grads[:at]))


def test_a_gradient_is_written_into_a_residual() -> None:
    (x,), (y,) = called("elementwise")
    kept = residuals(y)[-1]
    back([y], retain=True)
    assert not np.shares_memory(gradient(x), kept)
    x.grad = None
    back([y])
    assert np.shares_memory(gradient(x), kept), "neither allocated nor copied"


def test_a_residual_lives_as_long_as_the_gradient_in_it() -> None:
    (x,), (y,) = called("elementwise")
    kept = weakref.ref(residuals(y)[-1])
    back([y])
    first = gradient(x).copy()
    del y
    gc.collect()
    others = [np.full((6, 5), 7.0) for _ in range(50)]
    np.testing.assert_array_equal(gradient(x), first)
    x.grad = None
    gc.collect()
    assert kept() is None and others


ONE_VARIANT = {
    "nothing is kept": lambda x: np.sum(x * x),
    "no array fits": lambda x: np.sum(np.log(np.sum(np.exp(x), axis=1))),
}


@pytest.mark.parametrize("name", ONE_VARIANT)
def test_one_variant_is_compiled_where_there_is_nothing_to_reuse(name: str) -> None:
    function = tg.trace(ONE_VARIANT[name])
    (x,) = tensors((matrix(3, 4),))
    function(x).backward()
    halves = next(iter(function.versions[-1].splits.values()))
    kept = [residual for residual in halves.cut.residuals if residual.origin == "kept"]
    assert bool(kept) == (name == "no array fits")
    assert halves.consuming is halves.backward


def test_the_consuming_variant_has_a_name_of_its_own_and_says_what_it_reuses() -> None:
    back(called("network")[1])
    found = split("network")
    assert found.consuming is not found.backward
    assert found.consuming.name == "network_backward_consuming"
    text = found.consuming.built.source
    assert "reuses the buffer of h" in text or "reuses the buffer of v" in text
    assert found.consuming.stages is found.backward.stages


def test_create_graph_without_retain_graph() -> None:
    (x,), (y,) = called("elementwise")
    (d_x,) = tg.autograd.grad(y, [x], create_graph=True, retain_graph=False)
    (again,) = tg.autograd.grad(d_x.sum(), [x])
    (z,), (value,) = called("elementwise")
    (d_z,) = tg.autograd.grad(value, [z], create_graph=True)
    (want,) = tg.autograd.grad(d_z.sum(), [z])
    np.testing.assert_array_equal(again.numpy(), want.numpy())


MEASURED = """
import json, tracemalloc
from numba.core.runtime import _nrt_python as nrt, rtsys
nrt.memsys_use_cpython_allocator()   # tracemalloc sees arrays of compiled code
nrt.memsys_enable_stats()
import numpy as np
import tracegrad as tg

tg.set_buffer_limit(0)   # or what the warm-up has freed is used again, unseen

@tg.trace
def network(x, w1, w2):
    return np.sum(np.tanh(np.tanh(x @ w1) @ w2))

random = np.random.default_rng(0)
arrays = [random.normal(size=shape) for shape in ((2000, 2), (2, 40), (40, 40))]
found = {}
for retain in (True, False, True, False):
    given = [tg.tensor(array, requires_grad=True) for array in arrays]
    y = network(*given)
    tracemalloc.start()
    before = rtsys.get_allocation_stats()
    y.backward(retain_graph=retain)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    found["retaining" if retain else "consuming"] = (
        peak, rtsys.get_allocation_stats().mi_alloc - before.mi_alloc
    )
print(json.dumps(found))
"""


def test_consuming_takes_less_memory() -> None:
    """Of 2000 x 40 tables the retaining backward holds two at once, the cotangents before and after
    the product with w2; the consuming one only the second. Their other arrays are small."""
    result = subprocess.run(
        [sys.executable, "-c", MEASURED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = json.loads(result.stdout)
    table = 2000 * 40 * 8
    (retained, times), (consumed, fewer) = found["retaining"], found["consuming"]
    assert fewer < times
    assert retained - consumed > 0.9 * table, found


def test_what_is_consumed_is_shown() -> None:
    @tg.trace
    def f(x: Any, w: Any) -> Any:
        h = np.tanh(x @ w)
        return np.sum(h * h)

    x, w = np.ones((4, 3)), np.full((3, 2), 0.25)
    dump = f.dump(x, w, which="consuming")
    assert "(in the memory of h)" in dump
    assert dump.splitlines()[0].startswith("# f · consuming")
    assert "reuses the buffer of h" in f.source(x, w, which="consuming")
    assert "in the memory of" not in f.dump(x, w, which="backward")
    h = np.tanh(x @ w)
    expected = x.T @ (2 * h * (1 - h * h))
    _, d_w = dump.function()(np.float64(1.0), x, w, h)
    np.testing.assert_allclose(d_w, expected, rtol=1e-13)
    assert "consuming" in str(f.explain(x, w, which="consuming"))
