"""Large results lie in memory that is used again, and never in memory that somebody still sees."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tracegrad import blocks

LARGE = blocks.LARGE // 8


@pytest.fixture(autouse=True)
def own_blocks() -> Iterator[None]:
    tg.set_buffer_limit(0)
    tg.set_buffer_limit(512 * 2**20)
    yield
    tg.set_buffer_limit(0)
    tg.set_buffer_limit(512 * 2**20)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@tg.trace
def shifted(x: Any, by: Any) -> Any:
    return x + by


X = np.zeros(LARGE)


def test_a_dropped_result_is_used_again() -> None:
    y = shifted(X, 1.0)
    place = address(y)
    assert place % blocks.ALIGNMENT == 0
    assert y.flags.writeable
    del y
    gc.collect()
    assert blocks.kept_bytes() >= X.nbytes
    z = shifted(X, 2.0)
    assert address(z) == place
    assert blocks.kept_bytes() == 0
    np.testing.assert_array_equal(z, 2.0)


@pytest.mark.parametrize(
    "view",
    [
        lambda y: y[5:],
        lambda y: y.reshape(2, -1)[1],
        lambda y: y.view(np.int64),
        lambda y: memoryview(y),
        lambda y: np.asarray(memoryview(y))[::2],
        lambda y: {"kept": [y[:1].T]},
        lambda y: np.broadcast_to(y[:1], (3, 1)),
    ],
)
def test_a_result_that_is_seen_through_a_view_is_not(view: Any) -> None:
    y = shifted(X, 1.0)
    place = address(y)
    seen = view(y)
    del y
    gc.collect()
    z = shifted(X, 2.0)
    assert address(z) != place
    del seen
    gc.collect()
    assert blocks.kept_bytes() >= X.nbytes


def test_small_results_are_ordinary_arrays() -> None:
    y = shifted(X[:10], 1.0)
    assert y.flags.owndata


def test_blocks_fit_within_bounds() -> None:
    del_me = shifted(np.zeros(2 * LARGE), 1.0)
    del del_me
    kept = blocks.kept_bytes()
    y = shifted(X, 1.0)  # half as large: another block
    assert blocks.kept_bytes() == kept
    np.testing.assert_array_equal(y, 1.0)


def test_the_limit() -> None:
    assert tg.set_buffer_limit(X.nbytes * 3) == 512 * 2**20
    results = [shifted(X, float(k)) for k in range(5)]
    del results
    gc.collect()
    assert 0 < blocks.kept_bytes() <= X.nbytes * 3
    assert tg.set_buffer_limit(0) == X.nbytes * 3
    assert blocks.kept_bytes() == 0
    shifted(X, 1.0)
    assert blocks.kept_bytes() == 0
    for wrong in (-1, 1.5, True, None):
        with pytest.raises(ValueError, match="number of bytes"):
            tg.set_buffer_limit(wrong)  # type: ignore[arg-type]


def test_a_training_loop_allocates_no_large_array() -> None:
    @tg.trace
    def loss(w: Any, x: Any) -> Any:
        return np.sum(np.tanh(w * x) ** 2)

    w, x = np.full(LARGE, 0.5), np.linspace(0, 1, LARGE)
    made: list[int] = []
    empty = np.empty

    def counted(shape: Any, dtype: Any = float) -> np.ndarray:
        made.append(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        return empty(shape, dtype)

    for step in range(4):
        value, d_w = loss.value_and_grad(w, x)
        w = shifted(w, 0.0)
        del d_w
        if step == 1:
            blocks.np.empty = counted  # type: ignore[assignment]
    blocks.np.empty = empty
    assert not made
    assert np.isfinite(value)


def leaf(data: np.ndarray) -> Any:
    return tg.tensor(data, requires_grad=True)


def test_tensors_in_a_training_loop() -> None:
    @tg.trace
    def loss(w: Any) -> Any:
        return np.sum(np.exp(np.sin(w)) ** 2)

    start = np.linspace(0, 1, LARGE)
    expected = 2 * np.exp(2 * np.sin(start)) * np.cos(start)
    for _ in range(3):
        w = leaf(start)
        loss(w).backward()
        np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-13)
    retained = loss(w)
    retained.backward(retain_graph=True)
    loss(w * 2.0).backward()
    other = leaf(start)
    loss(other).backward()
    w.grad.zero_()
    retained.backward()
    np.testing.assert_array_equal(w.grad.numpy(), other.grad.numpy())


def test_threads_never_share_a_block() -> None:
    wrong: list[float] = []

    def work(number: int) -> None:
        for step in range(20):
            by = float(100 * number + step)
            y = shifted(X, by)
            z = shifted(y, 0.5)
            if not (y[0] == y[-1] == by and z[0] == z[-1] == by + 0.5 and np.all(y == by)):
                wrong.append(by)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_error_loses_nothing() -> None:
    f = tg.trace(lambda a: np.linalg.cholesky(a) + 0.0)
    a = np.eye(1024)
    for _ in range(3):
        with pytest.raises(np.linalg.LinAlgError):
            f(-a)
        np.testing.assert_array_equal(f(a), a)
