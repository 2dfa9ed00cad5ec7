"""Transformations of transformations, to depth three, of programs of every family of operations.

Each layer is checked on its own: what it makes of the function inside, traced, against its meaning
in numbers, computed from values of the function inside. A derivative's meaning is a central
difference along its direction; that of `vmap`, `scan`, `cond`, `checkpoint` is plain Python.

    jvp(vmap(grad(f)))(x)     =     (g(x + h v) - g(x - h v)) / 2h     with     g = vmap(grad(f))
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tests import oracle
from tracegrad.ops.op import SAMPLES

Vector = Callable[[Any], Any]
"""A function from vectors to vectors."""

STEP = 1e-5
DRAWN = 20
"""How many combinations a run draws; the seed is fixed."""


def direction(size: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size)


def weighted(f: Vector, x: Any) -> Any:
    """A scalar of a function's result; the weights are told apart by where they stand."""
    y = f(x)
    return np.sum(y * np.cos(1.0 + tg.arange(y.shape[0])))


def weights(size: int) -> np.ndarray:
    return np.cos(1.0 + np.arange(size))


def unit_sum(f: Vector) -> Vector:
    """The derivative of the weighted sum along every unit vector: the gradient, by differences."""
    return lambda x: np.array(
        [slope(lambda z: weights(len(f(z))) @ f(z), x, e) for e in np.eye(len(x))]
    )


def slope(f: Callable[..., Any], x: np.ndarray, t: np.ndarray) -> Any:
    return (f(x + STEP * t) - f(x - STEP * t)) / (2 * STEP)


def along(f: Vector) -> Vector:
    return lambda x: slope(f, x, direction(len(x)))


def custom(f: Vector) -> Vector:
    """`f` behind a rule that is its own derivative."""
    whole = tg.custom_jvp(f)
    whole.defjvp(lambda primals, tangents: tg.jvp(f, primals, tangents))
    return whole


def looped(f: Vector) -> Vector:
    def run(x: Any) -> Any:
        return tg.scan(lambda c, s: (0.9 * c, s * f(c)), x, np.array([1.0, 0.5]))[1].sum(axis=0)

    return run


def repeated(f: Vector) -> Vector:
    def run(x: Any) -> Any:
        zero = (0, x, 0 * f(x))
        return tg.while_loop(
            lambda s: s[0] < 2, lambda s: (s[0] + 1, 0.9 * s[1], s[2] + f(s[1])), zero
        )[2]

    return run


@dataclass(frozen=True)
class Layer:
    """A transformation, made a function from vectors to vectors, and what it means in numbers."""

    name: str
    traced: Callable[[Vector], Vector]
    meaning: Callable[[Vector], Vector]
    derivative: bool = True


def plain(f: Vector) -> Vector:
    return f


LAYERS = (
    Layer("grad", lambda f: tg.grad(lambda x: weighted(f, x)), unit_sum),
    Layer("vjp", lambda f: lambda x: pulled(f, x), unit_sum),
    Layer("jacrev", lambda f: lambda x: contracted(tg.jacrev(f)(x)), unit_sum),
    Layer("jvp", lambda f: lambda x: tg.jvp(f, (x,), (direction_like(x),))[1], along),
    Layer("linearize", lambda f: lambda x: tg.linearize(f, x)[1](direction_like(x)), along),
    Layer("jacfwd", lambda f: lambda x: tg.jacfwd(f)(x) @ direction_like(x), along),
    Layer(
        "hvp",
        lambda f: lambda x: tg.hvp(lambda x: weighted(f, x))(x, direction_like(x)),
        lambda f: along(unit_sum(f)),
    ),
    Layer(
        "hessian",
        lambda f: lambda x: tg.hessian(lambda x: weighted(f, x))(x) @ direction_like(x),
        lambda f: along(unit_sum(f)),
    ),
    Layer("checkpoint", tg.checkpoint, plain, False),
    Layer("custom_jvp", custom, plain, False),
    Layer(
        "cond",
        lambda f: lambda x: tg.cond(x[0] < 50, f, lambda x: 2 * f(x), x),
        plain,
        False,
    ),
    Layer(
        "vmap",
        lambda f: lambda x: tg.vmap(f)(np.stack([x, 0.9 * x])).sum(axis=0),
        lambda f: lambda x: f(x) + f(0.9 * x),
        False,
    ),
    Layer("scan", looped, lambda f: lambda x: f(x) + 0.5 * f(0.9 * x), False),
    Layer("while", repeated, lambda f: lambda x: f(x) + f(0.9 * x), False),
)


def direction_like(x: Any) -> np.ndarray:
    return direction(int(SIZE[-1])) if SIZE else direction(len(x))


SIZE: list[int] = []
"""The length of the vector that the present program takes."""


def pulled(f: Vector, x: Any) -> Any:
    y, pullback = tg.vjp(f, x)
    return pullback(np.cos(1.0 + tg.arange(y.shape[0])))[0]


def contracted(jacobian: Any) -> Any:
    return np.cos(1.0 + tg.arange(jacobian.shape[0])) @ jacobian


def vector_program(number: int) -> tuple[Vector, np.ndarray]:
    """A sample as a function of one vector, and a point."""
    sample = SAMPLES[number]
    args = oracle.drawn_arguments(sample, np.dtype(float), number)
    sizes = np.cumsum([0, *(np.size(x) for x in args)])

    def program(v: Any) -> Any:
        parts = [
            v[start:stop].reshape(np.shape(x)) if np.ndim(x) else v[start]
            for start, stop, x in zip(sizes, sizes[1:], args, strict=False)
        ]
        found = [np.reshape(y, (-1,)) for y in oracle.flat(sample.program(*parts)) if is_float(y)]
        return np.concatenate(found)

    return program, np.concatenate([np.reshape(x, -1) for x in args])


def is_float(y: Any) -> bool:
    kind = y.type.dtype.kind if hasattr(y, "type") else np.asarray(y).dtype.kind
    return kind == "f"


def usable(number: int) -> bool:
    """Samples of a few smooth floating numbers."""
    sample = SAMPLES[number]
    sizes = [int(np.prod(shape)) for shape in sample.shapes]
    return sample.smooth and "f" in sample.kinds and 0 < sum(sizes) <= 9 and all(sizes)


PROGRAMS = [number for number in range(len(SAMPLES)) if usable(number)]


FOUND = (
    ("jvp", "while", "jacrev"),  # the number of steps of a loop of an outer trace
    ("jvp", "cond", "cond"),  # a region in a body, around a value from outside of it
    ("while", "hessian", "vjp"),  # the bound of a loop that is differentiated in another loop
    ("while", "jacfwd", "vjp"),  # the number of steps of one step of another loop
    ("custom_jvp", "hessian", "cond"),  # a rule with a loop inside, transposed
)
"""Combinations that have been wrong once."""


def combinations(count: int, seed: int = 0) -> list[tuple[int, tuple[str, ...]]]:
    """Programs with three layers each; at most two of them make a Hessian or the like."""
    rng = random.Random(seed)
    found = []
    while len(found) < count:
        layers = tuple(rng.choice(LAYERS).name for _ in range(3))
        if sum(name in ("hvp", "hessian") for name in layers) < 2:
            found.append((rng.choice(PROGRAMS), layers))
    return found


NAMED = {layer.name: layer for layer in LAYERS}


def check(number: int, names: tuple[str, ...]) -> None:
    """Every layer from the inside out, against the layer inside it."""
    f, x = vector_program(number)
    SIZE[:] = [len(x)]
    for name in names:
        layer, inside = NAMED[name], f
        f = layer.traced(inside)

        def numbers(z: Any, inside: Vector = inside) -> np.ndarray:
            return np.asarray(oracle.interpreted(inside, z)[0])

        found, expected = np.asarray(oracle.interpreted(f, x)[0]), layer.meaning(numbers)(x)
        assert found.shape == expected.shape
        twice = name in ("hvp", "hessian")
        scale = 1 + np.max(np.abs(expected), initial=0) + np.max(np.abs(numbers(x)), initial=0)
        # A difference of differences loses eps / h**2 and h**2, one difference eps / h and h**2.
        bound = (1e-4 if twice else 1e-6) * scale * (10 if layer.derivative else 1e-4)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=bound, err_msg=str(names))


@pytest.mark.parametrize("names", FOUND)
def test_found(names: tuple[str, ...]) -> None:
    check(PROGRAMS[3], names)


@pytest.mark.parametrize(("number", "names"), combinations(DRAWN))
def test_nested(number: int, names: tuple[str, ...]) -> None:
    check(number, names)


def test_steps_that_differ_from_item_to_item() -> None:
    """The number of steps of a loop inside of a loop is that of the step at hand, backwards too."""

    def f(x: Any) -> Any:
        def body(c: Any, count: Any) -> Any:
            y = tg.while_loop(
                lambda s: s[0] < count, lambda s: (s[0] + 1, np.sin(s[1]) * s[1] + 0.3), (0, c * x)
            )[1]
            return y, np.sum(y)

        return np.sum(tg.scan(body, x, np.array([1, 4, 2, 0, 3]))[1])

    x = np.array([0.3, 0.4])
    run, gradient = tg.trace(f), tg.grad(f)(x)
    expected = [slope(run, x, e) for e in np.eye(2)]
    np.testing.assert_allclose(gradient, expected, rtol=1e-8)
    np.testing.assert_allclose(oracle.interpreted(tg.grad(f), x)[0], gradient, rtol=1e-13)
    matrix = [slope(lambda z: oracle.interpreted(tg.grad(f), z)[0], x, e) for e in np.eye(2)]
    np.testing.assert_allclose(
        oracle.interpreted(tg.hessian(f), x)[0], matrix, rtol=1e-7, atol=1e-8
    )
