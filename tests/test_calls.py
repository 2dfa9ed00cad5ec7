"""Calls: which arguments go straight to compiled code; all others are normalised or refused."""

from __future__ import annotations

import linecache
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

import tracegrad as tg
from tracegrad.function import ENTRIES, Function


@dataclass
class Layer:
    w: Any
    b: Any


class Pair(NamedTuple):
    w: Any
    b: Any


class LongRoad:
    """Counts the calls that no entry took."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        version_of = Function.version_of

        def counted(function: Function, *args: Any) -> Any:
            self.count += 1
            return version_of(function, *args)

        monkeypatch.setattr(Function, "version_of", counted)


@pytest.fixture
def long_road(monkeypatch: pytest.MonkeyPatch) -> LongRoad:
    return LongRoad(monkeypatch)


W, B = np.arange(6.0).reshape(2, 3), np.array([1.0, -2.0, 0.5])


def squares(p: Any) -> Any:
    match p:
        case dict():
            w, b = p["w"], p["b"]
        case list() | tuple():
            w, b = p
        case _:
            w, b = p.w, p.b
    return np.sum((w * b) ** 2)


PARAMETERS = {
    "dict": {"w": W, "b": B},
    "ordered": OrderedDict(w=W, b=B),
    "default": defaultdict(list, w=W, b=B),
    "list": [W, B],
    "tuple": (W, B),
    "namedtuple": Pair(W, B),
    "dataclass": Layer(W, B),
}


@pytest.mark.parametrize("kind", PARAMETERS)
def test_structures_of_parameters(kind: str, long_road: LongRoad) -> None:
    given = PARAMETERS[kind]
    loss = tg.trace(squares)
    for _ in range(3):
        value, gradient = loss.value_and_grad(given)
        assert value == squares(given)
        assert type(value) is np.float64
        assert type(gradient) is type(given)
        d_w, d_b = (
            gradient.values()
            if isinstance(gradient, dict)
            else vars(gradient).values()
            if (isinstance(gradient, Layer))
            else gradient
        )
        np.testing.assert_allclose(d_w, 2 * W * B**2, rtol=1e-15)
        np.testing.assert_allclose(d_b, 2 * B * np.sum(W**2, axis=0), rtol=1e-15)
    assert long_road.count == 1


def test_counted_numbers_are_values() -> None:
    product = tg.trace(lambda counts: counts["a"] * counts["b"] ** 2)
    assert product(Counter(a=2, b=3)) == 18
    value, gradient = product.value_and_grad(Counter(a=2.0, b=3.0))
    assert (value, gradient) == (18.0, {"a": 9.0, "b": 12.0})
    assert type(gradient) is Counter


def test_nested_structures(long_road: LongRoad) -> None:
    @tg.trace
    def total(layers: Any, scale: float) -> Any:
        return {"sum": sum(np.sum(layer.w @ layer.b["b"]) for layer in layers) * scale, "n": 2}

    layers = [Layer(W, {"b": B}), Layer(2 * W, {"b": B})]
    for _ in range(2):
        assert total(layers, 0.5) == {"sum": 1.5 * np.sum(W @ B), "n": 2}
    assert long_road.count == 1


def test_the_order_of_a_dict_is_that_of_its_gradient() -> None:
    loss = tg.trace(squares)
    assert list(loss.grad({"w": W, "b": B})) == ["w", "b"]
    assert list(loss.grad({"b": B, "w": W})) == ["b", "w"]
    assert list(loss.grad({"w": W, "b": B})) == ["w", "b"]


def power(x: Any, n: int = 2, *, shift: Any = None) -> Any:
    y = x**n
    return np.sum(y if shift is None else y + shift)


def test_arguments_by_position_and_by_name_are_one_version(long_road: LongRoad) -> None:
    f = tg.trace(power)
    calls = [
        lambda: f(B, 3),
        lambda: f(B, n=3),
        lambda: f(x=B, n=3),
        lambda: f(n=3, x=B),
    ]
    assert [call() for call in calls * 2] == [np.sum(B**3)] * 8
    assert len(f.versions) == 1
    assert long_road.count == 1


def test_gradients_with_respect_to_arguments_by_name() -> None:
    f = tg.trace(power)
    np.testing.assert_allclose(f.grad(x=B, n=3), 3 * B**2, rtol=1e-15)
    value, d_x = f.value_and_grad(n=3, x=B)
    np.testing.assert_allclose(d_x, 3 * B**2, rtol=1e-15)
    assert value == np.sum(B**3)
    assert len(f.value_and_grad.versions) == 1


def test_versions_that_alternate_do_not_take_the_long_road(long_road: LongRoad) -> None:
    f = tg.trace(power)
    single, column = B.astype(np.float32), B[:, None]
    calls = [
        lambda: f(B),
        lambda: f(single),
        lambda: f(column),
        lambda: f(B, 3),
        lambda: f(B, shift=B),
        lambda: f(B, 3, shift=0.5),
    ]
    first = [call() for call in calls]
    assert long_road.count == len(calls)
    for _ in range(3):
        again = [call() for call in calls]
        assert [type(y) for y in again] == [type(y) for y in first]
        assert again == first
    assert long_road.count == len(calls)


def test_guards_that_alternate(long_road: LongRoad) -> None:
    @tg.trace
    def scaled(x: Any, y: Any) -> Any:
        return x * y

    x, one = np.arange(4.0), np.array([3.0])
    for _ in range(3):
        np.testing.assert_array_equal(scaled(x, x), x * x)
        np.testing.assert_array_equal(scaled(x, one), 3 * x)
        np.testing.assert_array_equal(scaled(one, x), 3 * x)
    assert len(scaled.versions) == 3
    assert long_road.count == 3
    with pytest.raises(ValueError, match="4"):
        scaled(x, np.ones(3))
    assert scaled.latest is not None


def test_more_versions_than_entries() -> None:
    f = tg.trace(power)
    for _ in range(2):
        for n in range(ENTRIES + 3):
            assert f(B, n) == pytest.approx(np.sum(B**n), rel=1e-15)


def test_what_the_latest_version_is() -> None:
    f = tg.trace(power)
    f(B)
    f(B, 3)
    f(B)
    assert f.latest is not None
    assert "n=3" not in repr(f.latest)
    f(B, 3)
    assert "n=3" in repr(f.latest)


class Weighted(np.ndarray):
    """A subclass that counts as the array that it is."""


def readonly(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def unaligned(x: np.ndarray) -> np.ndarray:
    raw = np.zeros(x.nbytes + 1, np.uint8)
    found = raw[1:].view(x.dtype).reshape(x.shape)
    found[...] = x
    return found


@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        readonly,
        unaligned,
        lambda x: x.astype(">f8"),
        lambda x: x.view(Weighted),
        lambda x: x.repeat(2, axis=1)[:, ::2],
        lambda x: x[::-1],
        lambda x: np.broadcast_to(x[0], x.shape),
    ],
)
def test_arrays_that_compiled_code_does_not_take_as_they_are(change: Any) -> None:
    f = tg.trace(lambda x: np.sum(x * np.array([1.0, 10.0, 100.0])))
    f(W)
    x = change(W)
    for _ in range(2):
        assert f(x) == np.sum(np.asarray(x) * [1, 10, 100])
    assert len(f.versions) == 1


@pytest.mark.filterwarnings("ignore:the matrix subclass")  # an argument of that class is meant
def test_arrays_of_another_type_after_a_first_call() -> None:
    f = tg.trace(lambda x: np.sum(x) / 2)
    f(W)
    assert f(W.astype(np.int64)) == W.sum() / 2
    assert type(f(W.astype(np.float32))) is np.float32
    assert f(W[0]) == W[0].sum() / 2
    assert f(np.float64(3.0)) == f(np.array(3.0)) == f(3.0) == 1.5
    with pytest.raises(tg.UnsupportedError, match="masked"):
        f(np.ma.masked_array(W, W > 2))
    with pytest.raises(tg.UnsupportedError, match="matrix"):
        f(np.asmatrix(W))
    with pytest.raises(tg.UnsupportedError, match="complex"):
        f(W + 1j)


def test_scalars_of_all_kinds(long_road: LongRoad) -> None:
    f = tg.trace(lambda x, s: x * s)
    for s in (2.0, np.float64(2.0), np.array(2.0), np.float32(2.0)):
        for _ in range(2):
            result = f(B, s)
            assert result.dtype == np.float64
            np.testing.assert_array_equal(result, B * 2)
    assert long_road.count == 3  # an array of rank 0 is the number in it


def test_results_are_new_arrays_each_time() -> None:
    f = tg.trace(lambda x: (x, x + 1.0, (x + 1.0).reshape(-1)))
    first = f(W)
    kept = [y.copy() for y in first]
    second = f(W)
    for y, again, expected in zip(first, second, kept, strict=True):
        again[...] = 7.0
        np.testing.assert_array_equal(y, expected)
        assert not np.may_share_memory(y, W)


def test_signatures(long_road: LongRoad) -> None:
    def ordinary(x: Any, /, y: Any, *rest: Any, factor: Any = 1.0, **named: Any) -> Any:
        total = x * y * factor
        for other in (*rest, *named.values()):
            total = total + other
        return total

    f = tg.trace(ordinary)
    calls = [
        ((W, B), {}),
        ((W, B, B, B), {}),
        ((W, B), {"factor": 2.0}),
        ((W, B), {"bias": B, "other": W}),
        ((W,), {"y": B}),
    ]
    for args, kwargs in calls * 2:
        np.testing.assert_allclose(f(*args, **kwargs), ordinary(*args, **kwargs), rtol=1e-15)
    assert len(f.versions) == 4
    assert long_road.count == 4


@pytest.mark.parametrize(
    "name", ["run", "empty", "other", "ndarray", "float64", "absent", "n", "d_x"]
)
def test_parameters_may_have_any_name(name: str) -> None:
    space: dict[str, Any] = {}
    exec(f"def f(x, {name}=2, *, y=None): return x * {name} if y is None else y", space)
    f = tg.trace(space["f"])
    for _ in range(2):
        np.testing.assert_array_equal(f(B), 2 * B)
        np.testing.assert_array_equal(f(B, 3), 3 * B)
        np.testing.assert_array_equal(f(B, **{name: 4.0}), 4 * B)
        np.testing.assert_array_equal(f(B, y=W), W)


@pytest.mark.parametrize("name", ["run", "empty", "type", "len", "float64"])
def test_functions_and_their_parameters_may_be_called_what_an_entry_uses(name: str) -> None:
    space: dict[str, Any] = {"tg": tg}
    text = (
        f"@tg.trace\ndef {name}({name}, *, scale=2.0): return 2 * scale * {name}['a'], {name}['b']"
    )
    exec(text, space)
    for size in (3, 4, 4):
        doubled, b = space[name]({"a": np.ones(size), "b": 1.0})
        assert b == 1.0 and doubled.tolist() == [4.0] * size


def test_wrong_arguments_are_type_errors() -> None:
    f = tg.trace(power)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"power\(\) missing a? ?.*argument"):
            f()
        with pytest.raises(TypeError, match=r"power\(\) .*unexpected keyword argument 'm'"):
            f(B, m=3)
        with pytest.raises(TypeError, match=r"power\(\) .*"):
            f(B, 2, 3)
        f(B)


def test_an_error_in_compiled_code_comes_once() -> None:
    f = tg.trace(lambda a: np.linalg.cholesky(a))
    np.testing.assert_allclose(f(np.eye(3)), np.eye(3), rtol=1e-15)
    for _ in range(2):
        with pytest.raises(np.linalg.LinAlgError):
            f(-np.eye(3))


def test_empty_arrays_and_results_of_other_shapes() -> None:
    f = tg.trace(
        lambda x: (np.diff(x, axis=0), np.outer(x[:, 0], x[0]), np.zeros((2, 3)) + x[0, 0])
    )
    for shape in ((4, 3), (1, 5), (3, 2)):
        x = np.random.default_rng(0).normal(size=shape)
        for _ in range(2):
            d, o, z = f(x)
            np.testing.assert_array_equal(d, np.diff(x, axis=0))
            np.testing.assert_array_equal(o, np.outer(x[:, 0], x[0]))
            np.testing.assert_array_equal(z, np.full((2, 3), x[0, 0]))


def test_functions_that_come_and_go_leave_nothing_behind() -> None:
    kept = []
    for _ in range(3):
        tg.trace(squares).value_and_grad(PARAMETERS["tuple"])
        kept.append(len(linecache.cache))
    assert kept[0] == kept[-1]


def test_a_function_traced_twice_is_a_function_of_its_own() -> None:
    f = tg.trace(squares)
    f.grad(PARAMETERS["dict"])
    g = tg.trace(f)
    np.testing.assert_array_equal(g.grad(PARAMETERS["dict"])["w"], f.grad(PARAMETERS["dict"])["w"])
    assert g.grad is not f.grad


def weighted(x: Any, w: Any, n: Any = 2) -> Any:
    return {"loss": np.sum(w * x**n), "norm": np.sum(x * x)}


def test_tensors_take_an_entry_of_their_own(long_road: LongRoad) -> None:
    f = tg.trace(weighted)
    x, w = tg.tensor(B, requires_grad=True), tg.tensor(B + 1.0)
    v = tg.tensor(B + 1.0, requires_grad=True)
    calls = [(x, w), (x, v), (w, v), (w, w), (x, B), (B, v), (B, B), (x, v, 3)]
    for _ in range(3):
        for call in calls:
            found = f(*call)
            kind = np.float64 if call[0] is call[1] is B else tg.Tensor
            assert {type(y) for y in found.values()} == {kind}
            expected = weighted(
                *[np.asarray(a.detach()) if isinstance(a, tg.Tensor) else a for a in call]
            )
            for name, y in found.items():
                assert float(y) == pytest.approx(expected[name], rel=1e-15)
            needs = any(isinstance(a, tg.Tensor) and a.requires_grad for a in call)
            assert (kind is tg.Tensor and found["loss"].requires_grad) == needs
    with tg.no_grad():
        for _ in range(2):
            assert not f(x, v)["loss"].requires_grad
    assert long_road.count == len(calls)


def test_gradients_of_a_call_and_of_what_is_around_it() -> None:
    f = tg.trace(lambda x, s: np.sum(s * x * x))
    for step in range(3):
        x: Any = tg.tensor(B, requires_grad=True)
        s: Any = tg.tensor(2.0, requires_grad=True)
        f(x, s).backward()
        np.testing.assert_allclose(x.grad.numpy(), 4 * B, rtol=1e-15)
        assert s.grad.numpy().shape == ()
        assert float(s.grad) == pytest.approx(np.sum(B * B), rel=1e-15)
        grad = x.grad
        (f(x * 3.0, s) * 2.0).backward()
        assert x.grad is grad
        np.testing.assert_allclose(x.grad.numpy(), 4 * B + 72 * B, rtol=1e-15)
        seen: list[Any] = []
        x.register_hook(seen.append)
        f(x, 1.0 + step).backward()
        np.testing.assert_allclose(seen[0].numpy(), 2 * (1.0 + step) * B, rtol=1e-15)


def test_what_a_short_backward_refuses() -> None:
    f = tg.trace(lambda x: np.sum(np.exp(x)))
    x: Any = tg.tensor(B, requires_grad=True)
    y = f(x)
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.exp(B), rtol=1e-15)
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()
    z = f(x)
    with tg.no_grad():
        x *= 2.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()
    with pytest.raises(RuntimeError, match="Mismatch in shape"):
        f(x).backward(np.ones(2))
    f(x).backward(3.0)


def leaf(data: np.ndarray) -> Any:
    return tg.tensor(data, requires_grad=True)


def test_non_contiguous_tensors() -> None:
    f = tg.trace(lambda x: np.sum(x * np.array([1.0, 2.0])))
    for _ in range(2):
        x = leaf(W)
        f(x.T).backward()
        np.testing.assert_array_equal(x.grad.numpy(), [[1, 1, 1], [2, 2, 2]])
