"""Transforms made again of one function: what is shared, and when it must not be."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import random
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

import tracegrad as tg
from tracegrad.shared import MARK, known_of

x = np.array([1.0, 2.0, 3.0])
scale = 2.0
data = np.array([[1.0, 0.5], [2.0, -1.0]])
settings: dict[str, Any] = {"power": [2.0]}


def square(x):
    return np.sum(x * x)


def scaled(x):
    return scale * np.sum(x)


def by_callee(x):
    return scaled(x) + np.sum(x)


def fit(w):
    return np.sum((data @ w) ** 2)


def by_settings(x):
    return np.sum(x * settings["power"][0])


@dataclass
class Model:
    factor: float
    weights: np.ndarray

    def scores(self, x):
        return np.sum(self.weights * self.factor * x)


class Pair(NamedTuple):
    a: float
    b: Any


MADE = {
    "grad": lambda f: tg.grad(f),
    "value_and_grad": lambda f: tg.value_and_grad(f),
    "options": lambda f: tg.grad(f, argnums=(0,)),
    "nested": lambda f: tg.grad(lambda_free_sum(tg.grad(f))),
    "jacfwd": lambda f: tg.jacfwd(f),
    "jacrev": lambda f: tg.jacrev(f),
    "jacobian": lambda f: tg.jacobian(f),
    "hessian": lambda f: tg.hessian(f),
    "hvp": lambda f: tg.hvp(f),
    "vmap": lambda f: tg.vmap(f),
    "vmap of grad": lambda f: tg.vmap(tg.grad(f), in_axes=(0,)),
}


def lambda_free_sum(f):
    return f


@pytest.mark.parametrize("name", MADE)
def test_a_transform_made_again_is_the_one_made_before(name: str) -> None:
    make = MADE[name]
    assert make(square) is make(square)
    assert make(scaled) is not make(square)


def test_options_and_functions_are_told_apart() -> None:
    def f(a, b):
        return np.sum(a * b)

    assert tg.grad(f) is not tg.grad(f, argnums=1)
    assert tg.vmap(f, in_axes=(0, None)) is not tg.vmap(f, in_axes=(None, 0))
    assert tg.vmap(f, in_axes=(0, 0)) is tg.vmap(f, in_axes=(0, 0))
    np.testing.assert_array_equal(tg.vmap(f, in_axes=[0, None])(x, 2.0), 2 * x)  # not hashable
    np.testing.assert_array_equal(tg.grad(f, argnums=1)(x, 2 * x), x)


def test_a_new_function_object_is_another_function() -> None:
    def power(n):
        return lambda x: np.sum(x**n)

    assert tg.grad(power(2)) is not tg.grad(power(2))
    for n in (2, 3):
        np.testing.assert_allclose(tg.grad(power(n))(x), n * x ** (n - 1), rtol=4e-16)


def test_traced_once_and_compiled_once() -> None:
    calls = [0]

    def counted(x):
        calls[0] = calls[0]  # read and written, but the same afterwards
        return np.sum(np.sin(x))

    for step in range(4):
        np.testing.assert_allclose(tg.grad(counted)(x + step), np.cos(x + step), rtol=1e-14)
    assert len(tg.grad(counted).versions) == 1
    for step in range(3):
        y, t = tg.jvp(counted, (x + step,), (x,))
        np.testing.assert_allclose((y, t), (np.sum(np.sin(x + step)), np.cos(x + step) @ x))
        tg.vjp(counted, x + step)


def test_globals_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (3.0, 5.0, 0.0, -0.0, 7):
        monkeypatch.setitem(globals(), "scale", value)
        assert tg.grad(scaled)(x)[0] == value
        assert np.signbit(tg.grad(scaled)(x)[0]) == np.signbit(value)
        assert tg.grad(by_callee)(x)[0] == value + 1


def test_arrays_changed_in_place_are_read_again() -> None:
    w = np.array([1.0, 2.0])
    for _ in range(3):
        data[0, 1] += 1.0
        np.testing.assert_allclose(tg.grad(fit)(w), 2 * data.T @ data @ w, rtol=1e-14)
    first = tg.grad(fit)
    assert tg.grad(fit) is first


def test_containers_and_objects_changed_in_place_are_read_again() -> None:
    for value in (3.0, 4.0):
        settings["power"][0] = value
        assert tg.grad(by_settings)(x)[0] == value

    model, pair = Model(1.0, np.ones(3)), Pair(1.0, [2.0])

    def loss(x):
        return model.scores(x) * pair.b[0]

    for step in range(3):
        model.factor += 1
        model.weights[1] -= 0.5
        pair.b[0] = 1.0 + step
        expected = model.factor * model.weights * pair.b[0]
        np.testing.assert_allclose(tg.grad(loss)(x), expected, rtol=4e-16)
    assert tg.grad(loss) is tg.grad(loss)


def test_cells_defaults_attributes_and_code() -> None:
    factor = 1.0

    def loss(x, power=[2.0]):  # noqa: B006
        return factor * np.sum(x ** power[0]) * loss.times

    loss.times = 1.0  # type: ignore[attr-defined]
    for step in (1.0, 2.0):
        factor = step
        loss.times = step + 1  # type: ignore[attr-defined]
        loss.__defaults__[0][0] = step + 1  # type: ignore[index]
        expected = step * (step + 1) ** 2 * x**step
        np.testing.assert_allclose(tg.grad(loss)(x), expected, rtol=4e-15)
    loss.__code__ = (lambda x: np.sum(3 * x) + 0 * factor + 0 * loss.times).__code__
    np.testing.assert_array_equal(tg.grad(loss)(x), [3.0, 3.0, 3.0])


def test_a_class_changed_after_the_first_call() -> None:
    model = Model(2.0, np.ones(3))

    def loss(x):
        return model.scores(x)

    assert tg.grad(loss)(x)[0] == 2.0
    before = Model.scores
    try:
        Model.scores = lambda self, x: np.sum(x) * 7  # type: ignore[method-assign]
        assert tg.grad(loss)(x)[0] == 7.0
    finally:
        Model.scores = before  # type: ignore[method-assign]


def clock(x):
    return x * time.perf_counter()


def dice(x):
    return x * random.random()


def shown(x):
    print("traced")
    return x * x


def imported(x):
    import time as clock  # what it names is no global

    return x * clock.perf_counter()


@pytest.mark.parametrize("f", [clock, dice, shown, imported])
def test_what_cannot_be_told_is_not_shared(f: Any) -> None:
    assert known_of(f) is None
    assert tg.grad(f) is not tg.grad(f)


theirs = ModuleType("theirs")
theirs.state = {"beta": 1.0}  # type: ignore[attr-defined]
exec(
    "def __getattr__(name):\n"
    "    if name in state: return state[name]\n"
    "    raise AttributeError(name)",
    vars(theirs),
)
sys.modules["theirs"] = theirs


def alpha_of(module):
    return module.alpha


def by_import(x):
    import theirs.inner  # type: ignore[import-not-found]

    return theirs.alpha * x


def by_globals(x):
    return by_globals.__globals__["scale"] * x


def by_fallback(x):
    try:
        return absent * x  # type: ignore[name-defined]
    except NameError:
        return scale * x


class Meta(type):
    @property
    def factor(cls):
        return scale


class WithMeta(metaclass=Meta):
    pass


class WithSlots:
    __slots__ = ("__dict__", "factor")

    def __init__(self) -> None:
        self.factor = 1.0


class Attributes:
    first = 1.0


def renamed_attribute() -> None:
    del Attributes.first
    Attributes.second = 1.0  # type: ignore[attr-defined]


@functools.cache
def cached():
    return scale


@functools.cache
def nodes(n=3):
    return np.arange(n)


slotted, spans = WithSlots(), [range(0, 1, 2)]

CHANGES: dict[str, tuple[Callable[[Any], Any], Callable[[], Any]]] = {
    "getattr": (lambda x: getattr(theirs, "alpha") * x, lambda: set_alpha(2.0)),  # noqa: B009
    "__dict__": (lambda x: theirs.__dict__["alpha"] * x, lambda: set_alpha(2.0)),
    "module as argument": (lambda x: alpha_of(theirs) * x, lambda: set_alpha(2.0)),
    "import of a submodule": (by_import, lambda: set_alpha(2.0)),
    "module's __getattr__": (lambda x: theirs.beta * x, lambda: theirs.state.update(beta=2.0)),
    "__globals__": (by_globals, lambda: set_scale(2.0)),
    "another global of two": (by_fallback, lambda: globals().update(absent=2.0)),
    "metaclass": (lambda x: WithMeta.factor * x, lambda: set_scale(2.0)),
    "__slots__": (lambda x: slotted.factor * x, lambda: setattr(slotted, "factor", 2.0)),
    "name of an attribute": (
        lambda x: (1.0 if hasattr(Attributes, "first") else 2.0) * x,
        renamed_attribute,
    ),
    "cache": (lambda x: cached() * x, lambda: (set_scale(2.0), cached.cache_clear())),
    "equal ranges": (
        lambda x: spans[0].stop * x,
        lambda: spans.__setitem__(0, range(0, 2, 2)),
    ),
}


def set_alpha(value: float) -> None:
    theirs.alpha = value  # type: ignore[attr-defined]


def set_scale(value: float) -> None:
    global scale
    scale = value


@pytest.mark.parametrize("way", CHANGES)
def test_ways_to_what_is_not_named(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "theirs.inner", ModuleType("theirs.inner"))
    monkeypatch.setitem(globals(), "scale", 1.0)
    set_alpha(1.0)
    f, change = CHANGES[way]
    assert tg.grad(f)(3.0) == 1.0
    change()
    assert tg.grad(f)(3.0) == 2.0


def test_a_cache_whose_function_changed_and_came_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "scale", 1.0)
    cached.cache_clear()
    loss = CHANGES["cache"][0]
    assert tg.grad(loss)(3.0) == 1.0
    set_scale(2.0)
    assert tg.grad(loss)(3.0) == 1.0  # as the function itself
    cached.cache_clear()
    assert tg.grad(loss)(3.0) == 2.0
    cached.cache_clear()


def test_a_cache_of_what_depends_on_nothing() -> None:
    def loss(x):
        return np.sum(nodes() * x)

    assert tg.grad(loss) is tg.grad(loss)


def test_files_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    under_another_name = np.loadtxt
    losses = (
        lambda x: np.load("w.npy") * x,
        lambda x: under_another_name("w.txt") * x,
    )
    for value in (1.0, 2.0):
        np.save("w.npy", np.array(value))
        np.savetxt("w.txt", [value])
        for loss in losses:
            assert tg.grad(loss)(3.0) == value


def test_relative_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs_too").mkdir()
    (tmp_path / "theirs_too" / "constants.py").write_text("alpha = 1.0")
    (tmp_path / "theirs_too" / "__init__.py").write_text(
        "def loss(x):\n    from .constants import alpha\n    return alpha * x"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import theirs_too  # type: ignore[import-not-found]
    import theirs_too.constants  # type: ignore[import-not-found]

    for value in (1.0, 2.0):
        theirs_too.constants.alpha = value
        assert tg.grad(theirs_too.loss)(3.0) == value


def test_methods_share_with_their_object() -> None:
    model = Model(2.0, np.ones(3))
    assert tg.grad(model.scores) is tg.grad(model.scores)
    for factor in (3.0, 4.0):
        model.factor = factor
        np.testing.assert_array_equal(tg.grad(model.scores)(x), [factor] * 3)
    for other in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other.factor = 5.0
        np.testing.assert_array_equal(tg.grad(other.scores)(x), [5.0] * 3)
        np.testing.assert_array_equal(tg.grad(model.scores)(x), [4.0] * 3)
    gone = weakref.ref(model)
    del model, other
    gc.collect()
    assert gone() is None


def test_partial_functions_share_what_they_are_made_of() -> None:
    powers = [2.0]
    loss = functools.partial(lambda powers, x: np.sum(x ** powers[0]), powers)
    assert tg.grad(loss) is tg.grad(loss)
    np.testing.assert_array_equal(tg.grad(loss)(x), 2 * x)
    powers[0] = 1.0
    np.testing.assert_array_equal(tg.grad(loss)(x), [1.0, 1.0, 1.0])


def test_long_lists_are_not_looked_through() -> None:
    numbers = [1.0] * 100_000

    def loss(x):
        return x * numbers[0]

    assert known_of(loss) is None
    assert tg.grad(loss)(2.0) == 1.0


def test_attributes_that_wraps_has_copied() -> None:
    tg.grad(square)

    @functools.wraps(square)
    def cube(x):
        return np.sum(x * x * x)

    assert cube.__dict__[MARK] is square.__dict__[MARK]
    np.testing.assert_allclose(tg.grad(cube)(x), 3 * x * x, rtol=4e-16)
    np.testing.assert_array_equal(tg.grad(square)(x), 2 * x)


def test_transforms_go_with_their_function() -> None:
    def made():
        held = np.ones(5)

        def loss(x):
            return np.sum(x * held)

        tg.grad(loss)(np.ones(5))
        return weakref.ref(loss)

    gone = made()
    gc.collect()
    assert gone() is None


def test_inside_a_trace_nothing_is_kept() -> None:
    def inner(x):
        return np.sum(x * x * x)

    outer = tg.trace(lambda x: tg.grad(inner)(x) * 2)
    np.testing.assert_allclose(outer(x), 6 * x * x, rtol=4e-16)
    assert MARK not in inner.__dict__
