"""Results into arrays of the caller's: `out` and `grad_out`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tracegrad.out import Into

X = np.arange(6.0).reshape(2, 3)


@tg.trace
def scaled(x: Any, factor: Any = 2.0) -> Any:
    return x * factor + 1.0


@tg.trace
def loss(params: Any, x: Any) -> Any:
    return np.sum((x @ params["w"] + params["b"]) ** 2)


PARAMS = {"w": np.array([1.0, -1.0, 2.0]), "b": np.array([0.5, 0.25])}


def test_a_result_goes_where_it_is_told() -> None:
    y = np.full((2, 3), np.nan)
    for _ in range(2):
        assert scaled(X, out=y) is y
        np.testing.assert_array_equal(y, X * 2 + 1)
        y[...] = 0
    assert scaled(X, 3.0, out=(y,)) is y
    np.testing.assert_array_equal(y, X * 3 + 1)


def test_no_result_is_allocated() -> None:
    x, y = np.ones((1000, 1000)), np.empty((1000, 1000))
    scaled(x, out=y)
    seen: list[Any] = []
    empty = np.empty
    try:
        np.empty = lambda *a, **k: seen.append(a) or empty(*a, **k)  # type: ignore[assignment]
        scaled(x, out=y)
    finally:
        np.empty = empty
    assert not seen


def test_gradients() -> None:
    wanted = loss.grad(PARAMS, X)
    g = {"b": np.empty(2), "w": np.empty(3)}
    value, found = loss.value_and_grad(PARAMS, X, grad_out=g)
    assert value == loss(PARAMS, X)
    assert found["w"] is g["w"]
    assert list(found) == ["w", "b"]
    np.testing.assert_array_equal(g["w"], wanted["w"])
    np.testing.assert_array_equal(g["b"], wanted["b"])
    g["w"][...] = 0
    value, found = loss.value_and_grad(PARAMS, X, grad_out={"w": g["w"], "b": None})
    assert found["b"] is not g["b"]
    np.testing.assert_array_equal(g["w"], wanted["w"])
    assert loss.grad(PARAMS, X, out=g)["b"] is g["b"]
    total = np.empty(())
    assert loss(PARAMS, X, out=total) is total
    assert total == loss(PARAMS, X)


def test_gradients_with_aux() -> None:
    both = tg.value_and_grad(lambda x: (np.sum(x * x), x + 1.0), has_aux=True)
    alone = tg.grad(lambda x: (np.sum(x * x), x + 1.0), has_aux=True)
    g = np.empty_like(X)
    (value, aux), found = both(X, grad_out=g)
    assert found is g
    assert value == np.sum(X * X)
    found, aux = alone(X, out=g)
    assert found is g
    np.testing.assert_array_equal(aux, X + 1)


@pytest.mark.parametrize(
    "out",
    [
        lambda x: x,
        lambda x: x[::-1],
        lambda x: np.lib.stride_tricks.as_strided(x, x.shape, x.strides),
    ],
)
def test_an_argument_may_be_the_result(out: Any) -> None:
    x = X.copy()
    expected = x[::-1] * 2 + 1
    y = out(x)
    assert scaled(x[::-1], out=y) is y
    np.testing.assert_array_equal(y, expected)


def test_arrays_that_are_not_contiguous() -> None:
    room = np.zeros((3, 4))
    y = room[:, ::2].T
    assert scaled(X, out=y) is y
    np.testing.assert_array_equal(y, X * 2 + 1)
    assert not room[:, 1::2].any()
    fortran = np.asfortranarray(np.zeros((2, 3)))
    scaled(np.asfortranarray(X), out=fortran)
    np.testing.assert_array_equal(fortran, X * 2 + 1)


def readonly() -> np.ndarray:
    array = np.empty((2, 3))
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("out", "error", "text"),
    [
        (np.empty(3), ValueError, r"scaled: out has shape \(3,\), the result \(2, 3\)"),
        (np.empty((2, 3), np.float32), TypeError, "out has dtype float32, the result float64"),
        (readonly(), ValueError, "out is read-only"),
        ([0.0], TypeError, "out is a list: give a NumPy array"),
    ],
)
def test_arrays_that_cannot_hold_the_result(out: Any, error: type, text: str) -> None:
    for _ in range(2):
        with pytest.raises(error, match=text):
            scaled(X, out=out)


def test_structures_that_are_not_the_results() -> None:
    w = np.empty(3)
    with pytest.raises(TypeError, match=r"out\[1\] must be a dict of w, b"):
        loss.value_and_grad(PARAMS, X, grad_out={"w": w})
    pair = tg.trace(lambda x: (x + 1.0, x + 2.0))
    with pytest.raises(TypeError, match="must be a tuple of 0, 1"):
        pair(X, out=w)
    y = np.empty((2, 3))
    with pytest.raises(ValueError, match="share memory"):
        pair(X, out=(y, y))


def test_a_parameter_of_the_users_own_wins() -> None:
    f = tg.trace(lambda x, out=None: x if out is None else x + out)
    np.testing.assert_array_equal(f(X, out=X), 2 * X)
    named = tg.trace(lambda x, **options: x + options["out"])
    np.testing.assert_array_equal(named(X, out=X), 2 * X)
    g = tg.trace(lambda x, grad_out: np.sum(x * grad_out))
    np.testing.assert_array_equal(g.value_and_grad(X, grad_out=X)[1], X)


def test_tensors_and_traced_arrays_are_refused() -> None:
    y = np.empty((2, 3))
    with pytest.raises(tg.UnsupportedError, match="Tensor"):
        scaled(tg.tensor(X, requires_grad=True), out=y)
    with pytest.raises(tg.UnsupportedError, match="traced array"):
        tg.trace(lambda x: scaled(x, out=y))(X)


def test_sizes_that_a_version_was_not_traced_with() -> None:
    total = tg.trace(lambda x, y: x + y)
    for n in (1, 4, 4, 1):
        out = np.empty((2, 4))
        np.testing.assert_array_equal(
            total(np.ones((2, 4)), np.ones((2, n)), out=out), 2 * np.ones((2, 4))
        )


def test_results_that_are_views_sums_and_filled_arrays() -> None:
    @tg.trace
    def several(x: Any) -> Any:
        return np.sum(x, axis=0), np.exp(x).reshape(-1), x.T, np.zeros((2, 2)), np.max(x)

    wanted = several(X)
    out = tuple(np.full(np.shape(y), np.nan) for y in wanted)
    for found, y, right in zip(several(X, out=out), out, wanted, strict=True):
        assert found is y
        np.testing.assert_array_equal(y, right)


def test_arrays_of_a_structure_are_filled_without_the_long_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    f = tg.trace(lambda p, x: np.sum((x @ p["w"] + p["b"]) ** 2))
    p, x = {"w": np.ones((3, 2)), "b": np.zeros(2)}, np.arange(6.0).reshape(2, 3)
    _, expected = f.value_and_grad(p, x)
    flat = np.zeros(8)
    given = {"w": np.zeros((3, 2)), "b": flat[:2]}
    monkeypatch.setattr(Into, "__call__", None)
    for _ in range(2):
        value, found = f.value_and_grad(p, x, grad_out=given)
        assert value == f(p, x)
        assert found["w"] is given["w"]
        assert all(np.array_equal(found[k], expected[k]) for k in p)
    assert flat[:2].all()


@pytest.mark.parametrize(
    "out",
    [
        lambda x: x,
        lambda x: x[:],
        lambda x: x.reshape(3, 2).reshape(2, 3),
        lambda x: np.frombuffer(memoryview(x)).reshape(2, 3),
        lambda x: np.lib.stride_tricks.as_strided(x, (2, 3), x.strides),
        lambda x: np.asarray(memoryview(x)),
    ],
)
def test_memory_of_an_argument_seen_in_another_way(out: Any) -> None:
    f = tg.trace(lambda x: np.cumsum(x[::-1].T).reshape(3, 2).T + x)
    for owner in (lambda: np.arange(6.0).reshape(2, 3), lambda: np.ones((2, 3))):
        x = owner()
        expected = f(x)
        given = out(x)
        assert f(x, out=given) is given
        np.testing.assert_array_equal(given, expected)


def test_two_results_in_one_array_after_a_call_that_was_fine() -> None:
    f = tg.trace(lambda x: (x + 1, x * 2))
    x, both, other = np.arange(3.0), np.empty(6), np.empty(3)
    for _ in range(2):
        f(x, out=(both[:3], other))
        f(x, out=(both[:3], both[3:]))
        np.testing.assert_array_equal(both, [1, 2, 3, 0, 2, 4])
        with pytest.raises(ValueError, match="share memory"):
            f(x, out=(both[:3], both[2:5]))
        with pytest.raises(ValueError, match="shape"):
            f(x, out=(both[:2], other))
        with pytest.raises(TypeError, match="dtype"):
            f(x, out=(both[:3], np.empty(3, np.float32)))
    np.testing.assert_array_equal(f(np.arange(2.0), out=(both[:2], other[:2]))[1], [0, 2])


def test_many_arrays_share_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    f = tg.trace(lambda xs: [2 * x for x in xs])
    xs = [np.full(2, float(number)) for number in range(6)]
    f(xs)
    given = [np.zeros(2) for _ in xs]
    with monkeypatch.context() as patch:
        patch.setattr(Into, "__call__", None)
        for got, x in zip(f(xs, out=given), xs, strict=True):
            np.testing.assert_array_equal(got, 2 * x)
    with pytest.raises(ValueError, match="share memory"):
        f(xs, out=[*given[:-1], given[0]])
    expected = [2 * x for x in xs]
    for got, want in zip(f(xs, out=xs[::-1]), expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_results_that_are_no_arrays() -> None:
    """What depends on static arguments alone is returned: there is nothing to write into."""
    twice = tg.trace(lambda n: (2 * n, n))
    assert twice(3) == (6, 3) and twice(4) == (8, 4)
