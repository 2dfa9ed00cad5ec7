"""Traced functions in pickles and copies, and methods of objects of all kinds."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest

import tracegrad as tg

x = np.array([1.0, 2.0])


@tg.trace
def decorated(x):
    return np.sum(x * x)


@tg.trace(python_control_flow=True)
def branching(x):
    if x[0] > 0:
        return np.sum(x)
    return x[0]


def plain(x):
    return np.sum(x * x * x)


traced = tg.trace(plain)


class Model:
    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.own = tg.trace(self.plain)

    @tg.trace
    def loss(self, x):
        return self.scale * np.sum(x)

    def plain(self, x):
        return self.scale * np.sum(x * x)


PICKLED = {
    "decorated": decorated,
    "with control flow": branching,
    "made of a function": traced,
    "gradient": tg.grad(plain),
    "gradient with options": tg.value_and_grad(plain, argnums=(0,)),
    "gradient of a decorated one": decorated.grad,
    "method": Model(2.0).loss,
    "made of a method": Model(2.0).own,
}


@pytest.mark.parametrize("name", PICKLED)
def test_a_pickled_function_computes_the_same(name: str) -> None:
    function = PICKLED[name]
    again = pickle.loads(pickle.dumps(function))
    assert type(again) is type(function)
    expected, found = function(x), again(x)
    assert str(found) == str(expected)


def test_a_decorated_function_stays_the_same_one() -> None:
    assert pickle.loads(pickle.dumps(decorated)) is decorated
    assert copy.copy(decorated) is copy.deepcopy(decorated) is decorated
    assert copy.deepcopy([traced])[0] is traced


def test_in_another_process() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        found = list(pool.map(decorated.grad, [x, 3 * x]))
    np.testing.assert_array_equal(found, [2 * x, 6 * x])


def test_what_has_no_name_says_so() -> None:
    with pytest.raises(pickle.PicklingError, match=r"cannot pickle plain_vmap: .* make the trans"):
        pickle.dumps(tg.vmap(plain))
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(tg.trace(lambda x: x))


def test_a_copied_object_has_methods_of_its_own() -> None:
    model = Model(2.0)
    assert model.loss(x) == 6.0
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other.scale = 5.0
        assert (other.loss(x), other.own(x)) == (15.0, 25.0)
    other = copy.copy(model)
    other.scale = 7.0
    assert other.loss(x) == 21.0
    assert model.loss(x) == 6.0


@dataclass
class Compared:
    """Its objects have no hash."""

    scale: float

    @tg.trace
    def loss(self, x):
        return self.scale * np.sum(x)


@dataclass(slots=True)
class Slotted:
    scale: float

    @tg.trace
    def loss(self, x):
        return self.scale * np.sum(x)


class Equal(Model):
    def __eq__(self, other: Any) -> bool:
        return True

    def __hash__(self) -> int:
        return 1


@pytest.mark.parametrize("kind", [Model, Compared, Slotted, Equal])
def test_each_object_has_its_own_traced_method(kind: Any) -> None:
    models = [kind(float(k)) for k in range(12)]
    assert [model.loss(x) for model in models] == [3.0 * k for k in range(12)]
    assert models[11].loss is models[11].loss
    np.testing.assert_array_equal(models[3].loss.grad(x), [3.0, 3.0])


def test_a_traced_method_does_not_keep_its_object() -> None:
    model = Model(2.0)
    model.loss(x)
    model.loss.grad(x)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
