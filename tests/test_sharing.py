"""Arrays that NumPy has as one and a program has as two: the same numbers, or an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracegrad as tg

X = np.arange(4.0) + 1


def appended_and_written_behind(x: Any, n: Any) -> Any:
    ys: list[Any] = []
    a = x
    for i in range(n):
        a = x * i
        ys.append(a)
    a[0] = 5.0
    return np.stack(ys)


def in_the_list_before(x: Any, n: Any) -> Any:
    a = x * 2.0
    ys = [a]
    for i in range(n):
        ys.append(x * i)
    a[0] = 5.0
    return np.stack(ys)


def appended_behind(x: Any, n: Any) -> Any:
    ys: list[Any] = []
    for i in range(n):
        ys.append(x * i)
    a = x * 3
    ys.append(a)
    a[0] = 5.0
    return np.stack(ys)


def item_taken_before_an_append(x: Any, n: Any) -> Any:
    ys: list[Any] = []
    for i in range(n):
        ys.append(x * i)
    b = ys[0]
    ys.append(x * 3)
    b[0] = 5.0
    return np.stack(ys)


def appended_twice(x: Any, n: Any) -> Any:
    ys: list[Any] = []
    for i in range(n):
        a = x * i
        ys.append(a)
        ys.append(a)
    ys[0][0] = 5.0
    return np.stack(ys)


def in_two_lists(x: Any, n: Any) -> Any:
    ys: list[Any] = []
    zs: list[Any] = []
    for i in range(n):
        a = x * i
        ys.append(a)
        zs.append(a)
    ys[0][0] = 5.0
    return np.stack(ys) + 2 * np.stack(zs)


def written_by_the_next_step(x: Any, n: Any) -> Any:
    ys: list[Any] = []
    a = x * 1.0
    for i in range(n):
        a[0] = 7.0
        a = x * i
        ys.append(a)
    return np.stack(ys)


def added_to_by_the_next_step(x: Any, n: Any) -> Any:
    ys: list[Any] = []
    a = x * 1.0
    for i in range(n):
        a += 7.0
        a = x * i
        ys.append(a)
    return np.stack(ys)


def written_under_another_name(x: Any, n: Any) -> Any:
    a = x * 1.0
    b = x * 2.0
    for i in range(n):
        a = x * i
        b = a
    a[1] = 9.0
    return b


def written_as_a_view(x: Any, n: Any) -> Any:
    a = x * 1.0
    v = a[1:]
    for i in range(n):
        a = a + i
        v = a[1:]
    a[1] = 9.0
    return v


def chosen_by_an_if(x: Any, n: Any) -> Any:
    a = x * 1.0
    if n > 2:
        b = a
    else:
        b = x * 3.0
        b += 1.0
    b[0] = 8.0
    return a


def chosen_by_an_expression(x: Any, n: Any) -> Any:
    u, v = x * 1.0, x * 2.0
    b = u if n > 2 else v
    u[0] = 4.0
    return b


def read_in_a_step_by_another_name(x: Any, n: Any) -> Any:
    a = x * 1.0
    s, b = 0.0, a
    for i in range(n):
        s = s + b[0]
        a[0] = i
        a = a * 2.0
    return s


def two_variables_written_as_one(x: Any, n: Any) -> Any:
    a = x * 1.0
    b = a
    for i in range(n):
        b[1] = i
        b = a * 2.0
        a = b
    return a + b


REFUSED = [
    appended_and_written_behind,
    in_the_list_before,
    appended_behind,
    item_taken_before_an_append,
    appended_twice,
    in_two_lists,
    written_by_the_next_step,
    added_to_by_the_next_step,
    written_under_another_name,
    written_as_a_view,
    chosen_by_an_if,
    chosen_by_an_expression,
    read_in_a_step_by_another_name,
    two_variables_written_as_one,
]


@pytest.mark.parametrize("python", REFUSED, ids=lambda f: f.__name__)
def test_what_may_have_changed_is_not_read(python: Callable[..., Any]) -> None:
    with pytest.raises(tg.TraceError, match=r"\.copy\(\)"):
        tg.trace(python, python_control_flow=True)(X, np.int64(3))


def written_before_the_end_of_the_step(x: Any, n: Any) -> Any:
    ys: list[Any] = []
    for i in range(n):
        a = x * i
        ys.append(a)
        a[0] = 5.0
    return np.stack(ys)


def items_written_behind(x: Any, n: Any) -> Any:
    ys: list[Any] = []
    a = x * 1.0
    for _ in range(n):
        ys.append(a)
        a = a * 2.0
    ys[0][0] = 5.0
    return np.stack(ys)


def an_array_of_the_list_is_a_new_one(x: Any, n: Any) -> Any:
    ys: list[Any] = []
    for i in range(n):
        ys.append(x * i)
    out, other = np.stack(ys), np.array(ys)
    out[0] = 100.0
    ys[1][0] = 50.0
    return out + other + np.stack(ys)


def first_item_written_by_the_loop(x: Any, n: Any) -> Any:
    a = x * 1.0
    ys = [a]
    for i in range(n):
        a[0] = a[0] + i
        ys.append(a * 2.0)
    return np.stack(ys)


def exchanged(x: Any, n: Any) -> Any:
    a, b = x * 1.0, x * 2.0
    for _ in range(n):
        a, b = b, a
        a[0] += 1.0
    return a + 3 * b


def two_steps_kept(x: Any, n: Any) -> Any:
    before, now = x * 1.0, x * 2.0
    for _ in range(n):
        new = now * 2 - before
        new[0] = 0.0
        before = now
        now = new
    now[1] = 3.0
    return now + before


def read_before_the_write(x: Any, n: Any) -> Any:
    u, v = x * 1.0, x * 2.0
    if n > 2:
        b = u
    else:
        b = v
        b += 1.0
    s = b.sum()
    u[0] = 4.0
    return s + u


DONE = [
    written_before_the_end_of_the_step,
    items_written_behind,
    an_array_of_the_list_is_a_new_one,
    first_item_written_by_the_loop,
    exchanged,
    two_steps_kept,
    read_before_the_write,
]


@pytest.mark.parametrize("python", DONE, ids=lambda f: f.__name__)
def test_what_nobody_reads_may_change(python: Callable[..., Any]) -> None:
    traced = tg.trace(python, python_control_flow=True)
    for n in (np.int64(3), np.int64(4)):
        np.testing.assert_array_equal(traced(X, n), python(X, n))


def test_the_first_array_is_not_the_last_where_the_loop_has_a_step() -> None:
    def python(x: Any) -> Any:
        a = x * 1.0
        first = a
        for i in tg.range(len(x)):
            a = a * x[i]
        a[0] = 9.0
        return first + a

    traced = tg.trace(python, python_control_flow=True)
    want = X + np.where(np.arange(4) == 0, 9.0, X * np.prod(X))
    np.testing.assert_array_equal(traced(X), want)
