"""What is stored, and what is computed again where it is used."""

from __future__ import annotations

from typing import Any

import numpy as np

import tracegrad as tg
from tracegrad.passes.plan import plan


def stored(f: Any, *args: Any) -> set[str]:
    """The names of the user's values that have a variable of their own."""
    traced = tg.trace(f)
    traced(*args)
    graph = traced.versions[0].primal.graph
    return {node.name for node in plan(graph).stored}


def stream(x: Any, y: Any, z: Any, w: Any) -> Any:
    """Each sum is read by a reduction and by the next sum."""
    a = x + y
    b = a + z
    c = b + w
    return np.sum(a @ b.T) + np.sum(b, axis=0) @ np.sum(c * c, axis=0) + np.max(c, axis=0) @ c[0]


def arrays(number: int) -> list[np.ndarray]:
    random = np.random.default_rng(number)
    return [random.normal(size=(6, 5)) for _ in range(number)]


def test_sums_of_many_arrays_are_stored() -> None:
    """c is read in two kernels: by max and by a sum over rows; it takes four loads."""

    def f(x: Any, y: Any, z: Any, w: Any) -> Any:
        c = x + y + z + w
        d = x + y
        return np.sum(c, axis=0) @ np.sum(c * c, axis=0) + np.sum(d, axis=0) @ np.max(d, axis=0)

    names = stored(f, *arrays(4))
    assert "c" in names and "d" not in names


def test_rows_of_numbers_are_no_loads() -> None:
    """The same with vectors, which stay in the nearest cache."""

    def f(x: Any, y: Any, z: Any, w: Any) -> Any:
        c = x + y + z + w
        return np.sum(c, axis=0) @ np.sum(c * c, axis=0)

    x, *others = arrays(4)
    assert "c" not in stored(f, x, *(other[0] for other in others))


def test_what_follows_from_one_stored_value_is_not_stored() -> None:
    def f(x: Any, y: Any) -> Any:
        t = np.tanh(x)
        u = 1 + t
        return np.sum(u @ y.T) + np.sum(t, axis=0) @ np.max(u * u, axis=0) + np.sum(np.sort(t) * u)

    def g(x: Any) -> Any:
        t = np.tanh(x)
        u = 1 + t
        v = np.max(u * u, axis=0)
        return np.sum(t, axis=0) @ v + np.sum(t * u, axis=0) @ np.min(u, axis=0)

    assert {"t", "u"} <= stored(f, *arrays(2))  # a product reads u in memory
    names = stored(g, *arrays(1))
    assert "t" in names and "u" not in names


def test_a_stream_of_sums_and_its_gradient() -> None:
    args = arrays(4)

    f = stream
    value, slopes = tg.value_and_grad(f, argnums=(0, 1, 2, 3))(*args)
    assert np.isclose(value, f(*args), rtol=1e-13)
    steps = [1e-6 * np.random.default_rng(8).normal(size=a.shape) for a in args]
    ahead, behind = ([a + s * h for a, s in zip(args, steps, strict=True)] for h in (0.5, -0.5))
    slope = sum(np.sum(d * s) for d, s in zip(slopes, steps, strict=True))
    assert np.isclose(slope, f(*ahead) - f(*behind), rtol=1e-5)
