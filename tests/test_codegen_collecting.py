"""Garbage is collected less often while something is compiled, and as before after it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from codegen.collecting import OBJECTS, rarely


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(701, 11, 12)
    yield
    gc.set_threshold(*before)


def test_thresholds_are_put_back_by_the_outermost() -> None:
    with rarely():
        with rarely():
            assert gc.get_threshold()[:2] == (OBJECTS, 11)
        assert gc.get_threshold()[0] == OBJECTS
    assert gc.get_threshold()[:2] == (701, 11)


def test_thresholds_are_put_back_after_an_error() -> None:
    with pytest.raises(KeyError), rarely():
        raise KeyError
    assert gc.get_threshold()[0] == 701


@pytest.mark.parametrize("own", [0, OBJECTS + 1])
def test_who_collects_more_rarely_is_left_alone(own: int) -> None:
    gc.set_threshold(own, 11, 12)
    with rarely():
        assert gc.get_threshold()[0] == own
    assert gc.get_threshold()[0] == own


def test_a_change_from_inside_stays() -> None:
    with rarely():
        gc.set_threshold(5, 11, 12)
    assert gc.get_threshold()[0] == 5


def test_the_last_of_two_threads_puts_them_back() -> None:
    started, ended = threading.Event(), threading.Event()

    def other() -> None:
        with rarely():
            started.set()
            ended.wait(10)

    thread = threading.Thread(target=other)
    with rarely():
        thread.start()
        assert started.wait(10)
    assert gc.get_threshold()[0] == OBJECTS
    ended.set()
    thread.join(10)
    assert gc.get_threshold()[0] == 701


def test_a_first_call_is_traced_inside_and_a_second_one_is_not() -> None:
    seen = []

    def f(x: np.ndarray) -> Any:
        seen.append(gc.get_threshold()[0])
        return np.sum(x * x * 3.125)

    gradient = tg.grad(f)
    for size in (3, 4):
        np.testing.assert_array_equal(gradient(np.ones(size)), np.full(size, 6.25))
    assert set(seen) == {OBJECTS}
    assert gc.get_threshold()[0] == 701


def test_an_error_of_the_users_leaves_the_thresholds() -> None:
    def f(x: np.ndarray) -> np.ndarray:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        tg.grad(f)(np.ones(3))
    assert gc.get_threshold()[0] == 701
