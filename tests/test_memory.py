"""Steady state: calls that were made before find all their memory, and share it with nobody."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numba import njit

import codegen
import tracegrad as tg
from codegen import memory
from codegen.expr import Var
from codegen.loops import Alloc, Function, Module, Parameter, Return

resource = pytest.importorskip("resource")

LARGE = 2**20
"""Elements of 8 bytes: 8 MiB, 2048 pages."""
FEW = 200
"""Page faults that have other reasons, of Python's own objects."""


@pytest.fixture(autouse=True)
def own_memory() -> Iterator[None]:
    tg.set_buffer_limit(0)
    tg.set_buffer_limit(512 * 2**20)
    yield
    tg.set_buffer_limit(0)
    tg.set_buffer_limit(512 * 2**20)


def faults(step: Callable[[], Any], warm: int = 3, times: int = 4) -> int:
    """The page faults of a few steps after the first ones."""
    for _ in range(warm):
        step()
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def running(x: Any) -> Any:
    """Three full-size temporaries in the forward, more in the backward."""
    return np.sum(np.cumsum(x) * np.cumsum(x[::-1]) * np.cumsum(x * x))


def data(number: int = 1) -> np.ndarray:
    return np.random.default_rng(number).normal(size=LARGE) / LARGE


@cache
def allocator() -> Any:
    """A generated function that makes an array."""
    count = Var("count")
    body = (Alloc("out", (count,), np.dtype(np.float64), temporary=False), Return(("out",)))
    function = Function("allocate", (Parameter("count", count.dtype, 0),), body)
    return codegen.build(Module((function,))).functions["allocate"]


def fresh(count: int) -> np.ndarray:
    """An array that compiled code allocates."""
    return allocator()(count)


def test_value_and_gradient() -> None:
    loss, x = tg.trace(running), data()
    assert faults(lambda: loss.value_and_grad(x)) < FEW
    gradient = np.empty_like(x)
    assert faults(lambda: loss.value_and_grad(x, grad_out=gradient)) < FEW
    assert memory.kept_bytes() >= 2 * x.nbytes
    tg.set_buffer_limit(0)
    assert memory.kept_bytes() == 0
    loss.value_and_grad(x, grad_out=gradient)
    assert memory.kept_bytes() == 0


def test_forward_and_backward_with_residuals() -> None:
    loss, x = tg.trace(lambda x: running(np.exp(x))), data()

    def step() -> None:
        leaf.grad = None
        loss(leaf).backward()

    leaf = tg.tensor(x, requires_grad=True)
    assert faults(step) < FEW


def test_a_training_loop_with_tensors() -> None:
    loss, x = tg.trace(lambda w, x: running(np.tanh(w) * x)), data(2)
    w = tg.tensor(data(), requires_grad=True)

    def step() -> None:
        w.grad = None
        loss(w, x).backward()
        with tg.no_grad():
            w.sub_(w.grad, alpha=1.0)

    assert faults(step) < FEW


def test_results_of_compiled_functions_called_from_compiled_code() -> None:
    f, x = tg.trace(lambda x: np.cumsum(x) * 2.0), data()
    compiled = f.compiled(x).primal

    @njit
    def last(x: Any) -> float:
        return compiled(x)[-1]

    assert faults(lambda: last(x)) < FEW
    assert last(x) == f(x)[-1]


def test_kept_memory_has_a_limit() -> None:
    loss, x = tg.trace(running), data()
    tg.set_buffer_limit(x.nbytes + 8192)
    loss.value_and_grad(x)
    assert 0 < memory.kept_bytes() <= x.nbytes + 8192


def test_threads_never_share_a_block() -> None:
    loss = tg.trace(running)
    inputs = [data(number)[: LARGE // 8] for number in range(4)]
    expected = [loss.value_and_grad(x) for x in inputs]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(15):
            value, gradient = loss.value_and_grad(inputs[number])
            same = value == expected[number][0]
            if not (same and np.array_equal(gradient, expected[number][1])):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_more_blocks_than_places() -> None:
    """Results that compiled code allocates: of the size that data decides."""
    many = memory.PLACES + 10
    shapes = [(memory.LARGE // 8 + 512 * number,) for number in range(many)]
    arrays = [fresh(shape[0]) for shape in shapes]
    for number, array in enumerate(arrays):
        array[:] = number
    assert all(np.all(array == number) for number, array in enumerate(arrays))
    del arrays, array
    gc.collect()
    assert memory.kept_bytes() > 0
    again = [fresh(shape[0]) for shape in shapes]
    starts = sorted((a.__array_interface__["data"][0], a.nbytes) for a in again)
    assert all(start + size <= later for (start, size), (later, _) in pairwise(starts))


def test_too_large_is_a_memory_error() -> None:
    with pytest.raises(MemoryError):
        fresh(2**58)
