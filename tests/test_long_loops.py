"""`associative_scan`, and long loops whose backward keeps O(sqrt(T)) values."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tracegrad as tg

RNG = np.random.default_rng(5)


def products(a: Any, b: Any) -> Any:
    return a @ b


def affine(left: Any, right: Any) -> Any:
    """Composition of `x -> a*x + b`: associative, not commutative."""
    return {"a": right["a"] * left["a"], "b": right["a"] * left["b"] + right["b"]}


def composed(x: Any) -> Any:
    found = tg.associative_scan(affine, {"a": x, "b": x * x}, reverse=True, axis=-1)
    return np.sum(np.sin(found["a"]) + found["b"])


def test_associative_scan() -> None:
    x = RNG.normal(size=(3, 6))
    for axis in (0, 1, -1):
        f = tg.trace(lambda x, axis=axis: tg.associative_scan(np.add, x, axis=axis))
        np.testing.assert_allclose(f(x), np.cumsum(x, axis))
        g = tg.trace(lambda x, axis=axis: tg.associative_scan(np.add, x, True, axis))
        np.testing.assert_allclose(g(x), np.flip(np.cumsum(np.flip(x, axis), axis), axis))
        np.testing.assert_allclose(tg.associative_scan(np.add, x, axis=axis), f(x))
    matrices = RNG.normal(size=(5, 2, 2))
    expected = [matrices[0]]
    for m in matrices[1:]:
        expected.append(expected[-1] @ m)
    f = tg.trace(lambda m: tg.associative_scan(products, m))
    np.testing.assert_allclose(f(matrices), np.stack(expected))
    for count in (1, 2, 9):
        np.testing.assert_allclose(f(matrices[:1].repeat(count, 0)).shape, (count, 2, 2))


def test_derivatives_of_an_associative_scan() -> None:
    x, d = RNG.normal(size=(2, 5)), RNG.normal(size=(2, 5))
    traced = tg.trace(composed)
    value = composed(x)
    np.testing.assert_allclose(traced(x), value)
    slope = (composed(x + 1e-6 * d) - composed(x - 1e-6 * d)) / 2e-6
    np.testing.assert_allclose(np.sum(traced.grad(x) * d), slope, rtol=1e-6)
    np.testing.assert_allclose(tg.jvp(traced, (x,), (d,))[1], slope, rtol=1e-6)
    with pytest.raises(tg.ShapeError, match="different lengths"):
        tg.trace(lambda x: tg.associative_scan(affine, {"a": x[0], "b": x[0, 1:]}))(x)
    with pytest.raises(tg.ShapeError, match="axis 2"):
        tg.associative_scan(np.add, x, axis=2)


def scanned(x: Any, steps: Any, **options: Any) -> Any:
    def step(c: Any, _: Any) -> Any:
        c = np.sin(c) * 1.1 + 0.1 * x
        return c, c[0]

    c, ys = tg.scan(step, x, None, steps.shape[0], **options)
    return np.sum(c) + np.sum(ys * ys)


def over_items(x: Any, steps: Any, **options: Any) -> Any:
    def step(c: Any, t: Any) -> Any:
        return np.sin(c) * t + x, np.sum(c * t)

    c, ys = tg.scan(step, x, steps, reverse=True, **options)
    return np.sum(c) + np.sum(ys * ys)


def counted(x: Any, steps: Any, **options: Any) -> Any:
    end = steps.shape[0]
    return np.sum(tg.fori_loop(2, end, lambda i, c: np.sin(c) * 1.1 + 0.01 * i * x, x, **options))


def computed(x: Any, steps: Any, **options: Any) -> Any:
    end = np.sum(steps > -10)
    return np.sum(tg.fori_loop(2, end, lambda i, c: np.sin(c) * 1.1 + 0.01 * i * x, x, **options))


def until(x: Any, steps: Any, **options: Any) -> Any:
    end = np.sum(steps > -10)
    c, _ = tg.while_loop(
        lambda s: s[1] < end, lambda s: (np.sin(s[0]) * 1.1 + 0.1 * x, s[1] + 1), (x, 0), **options
    )
    return np.sum(c)


@pytest.mark.parametrize("program", [scanned, over_items, counted, computed, until])
@pytest.mark.parametrize("checkpoint", ["sqrt", 3])
def test_checkpointed_loops(program: Callable[..., Any], checkpoint: Any) -> None:
    x = RNG.normal(size=3)
    plain = tg.trace(program)
    kept = tg.trace(lambda x, steps: program(x, steps, checkpoint=checkpoint))
    for count in (11, 30):
        steps = RNG.uniform(0.5, 1.0, size=count)
        np.testing.assert_allclose(kept(x, steps), plain(x, steps), rtol=1e-12)
        np.testing.assert_allclose(kept.grad(x, steps), plain.grad(x, steps), rtol=1e-9)


def test_snapshots_are_a_positive_number() -> None:
    with pytest.raises(ValueError, match='"sqrt" or a positive number of snapshots, not 0'):
        tg.trace(lambda x: tg.while_loop(lambda c: c < 9, lambda c: 2 * c, x, checkpoint=0))(0.5)


MEASURE = """
import sys
import numpy as np, tracegrad as tg
def resident(field):  # kB, of this process alone; getrusage counts what its parent had
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))
sys.path.insert(0, {tests!r})
from test_long_loops import {program} as program
tg.set_buffer_limit(0)  # what a call took is given back after it
f = tg.grad(lambda x, steps: program(x, steps, **{options}))
x = np.linspace(0, 1, 5000)
f(x, np.ones(8000))
open("/proc/self/clear_refs", "w").write("5")
before = resident("VmRSS")
f(x, np.ones(8000))
print(resident("VmHWM") - before)
"""


def growth(program: str, options: dict[str, Any]) -> float:
    """By how many MB memory grows during a call of 8,000 steps."""
    code = MEASURE.format(tests=str(Path(__file__).parent), program=program, options=options)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(run.stdout) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("program", ["scanned", "until"])
def test_memory_of_a_checkpointed_loop(program: str) -> None:
    """8,000 steps of 40 kB: 320 MB of residuals; with checkpoints 2 sqrt(8,000) * 40 kB = 7 MB.

    Memory that compiling left free is used first: some 90 MB.
    """
    assert growth(program, {"checkpoint": "sqrt"}) < 40
    assert growth(program, {"checkpoint": 90}) < 40
    assert growth(program, {}) > 150


def test_thousands_of_steps_of_a_single_loop_are_kept_while_tracing() -> None:
    def oscillator(x: Any, v: Any) -> Any:
        for _ in range(5000):
            a = -np.sin(x) - 0.1 * v + 0.01 * x**3
            v = v + 0.001 * a
            x = x + 0.001 * v - 1e-5 * np.cos(v) * a
        return np.sum(x * v)

    x, v = np.array([0.3, 1.0]), np.array([1.0, -0.5])
    f = tg.trace(oscillator)
    np.testing.assert_allclose(f(x, v), oscillator(x, v), rtol=1e-11)
    assert "range(5000) at line" in f.explain(x, v) and "kept" in f.explain(x, v)
    tg.testing.check_grads(oscillator, (x, v), order=1)
