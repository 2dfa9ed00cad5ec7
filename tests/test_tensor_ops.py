"""Every sample program on eager tensors: NumPy's values and dtypes, gradients, second order."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tracegrad.leaves import leaves_of
from tracegrad.ops.op import SAMPLES, Sample


def identity(number: int) -> str:
    code = SAMPLES[number].program.__code__
    return f"{number}:{Path(code.co_filename).name}:{code.co_firstlineno}"


def arguments(sample: Sample, dtype: Any = np.float64) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    low, high = sample.domain
    return [np.asarray(rng.uniform(low, high, shape)).astype(dtype) for shape in sample.shapes]


def floating(sample: Sample) -> bool:
    return "f" in sample.kinds


def outputs(sample: Sample, args: list[Any]) -> list[Any]:
    result = sample.program(*args)
    return [result] if isinstance(result, bool) else leaves_of(result)[0]


def unless_overwritten(test: Callable[[int], None]) -> Callable[[int], None]:
    """Skip a program that writes over what its derivative needs: an error, as in PyTorch."""

    @wraps(test)
    def run(number: int) -> None:
        try:
            test(number)
        except RuntimeError as error:
            if "modified by an inplace operation" not in str(error):
                raise
            pytest.skip("writes over what its derivative needs")

    return run


def values(found: list[Any]) -> list[np.ndarray]:
    return [np.asarray(x.detach() if isinstance(x, tg.Tensor) else x) for x in found]


@pytest.mark.parametrize("number", range(len(SAMPLES)), ids=identity)
def test_values_and_dtypes_are_numpys(number: int) -> None:
    sample = SAMPLES[number]
    for dtype in (np.float64, np.float32) if floating(sample) else (np.int64,):
        args = arguments(sample, dtype)
        found = values(outputs(sample, [tg.tensor(a) for a in args]))
        wanted = values(outputs(sample, args))
        assert len(found) == len(wanted)
        for got, want in zip(found, wanted, strict=True):
            assert got.dtype == want.dtype and got.shape == want.shape
            # Compositions (mean, var, softmax) round differently from NumPy's own: a few units.
            rtol = 64 * np.finfo(got.dtype).eps if got.dtype.kind == "f" else 0
            np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


def weighted(sample: Sample, args: list[Any], seed: int) -> Any:
    """A scalar that depends on every floating output."""
    rng = np.random.default_rng(seed)
    total: Any = 0.0
    for y in outputs(sample, args):
        if np.dtype(y.dtype).kind == "f":
            total = total + (y * rng.uniform(0.5, 1.5, np.shape(y))).sum()
    return total


def makes_arrays(sample: Sample) -> bool:
    """`np.array([[c, s]])` of tensors that require gradients raises, as in PyTorch."""
    return "array" in sample.program.__code__.co_names


SMOOTH = [n for n, s in enumerate(SAMPLES) if s.smooth and floating(s) and not makes_arrays(s)]


def slope(
    function: Any, args: list[np.ndarray], direction: list[np.ndarray]
) -> tuple[float, float]:
    """The directional derivative by central differences (Richardson), and what it is good to."""

    def at(h: float) -> float:
        ahead = function([a + h * d for a, d in zip(args, direction, strict=True)])
        back = function([a - h * d for a, d in zip(args, direction, strict=True)])
        return (float(ahead) - float(back)) / (2 * h)

    h = 2.0**-9
    coarse, fine, finest = at(h), at(h / 2), at(h / 4)
    best = (16 * (4 * finest - fine) / 3 - (4 * fine - coarse) / 3) / 15
    scale = 1 + abs(float(function(args))) + abs(best)
    # What extrapolation changed bounds the truncation; rounding of values is amplified by 4/h.
    return best, abs(best - (4 * finest - fine) / 3) + 256 * np.finfo(float).eps / h * scale


@pytest.mark.parametrize("number", SMOOTH, ids=identity)
@unless_overwritten
def test_gradient(number: int) -> None:
    sample = SAMPLES[number]
    args = arguments(sample)
    rng = np.random.default_rng(1)
    direction = [rng.uniform(-1, 1, a.shape) for a in args]
    leaves = [tg.tensor(a, requires_grad=True) for a in args]
    y = weighted(sample, leaves, 3)
    if not isinstance(y, tg.Tensor) or not y.requires_grad:
        pytest.skip("no floating output depends on the arguments")
    y.backward()
    got = sum(
        float(np.sum(x.grad.numpy() * d))
        for x, d in zip(leaves, direction, strict=True)
        if x.grad is not None
    )
    want, error = slope(lambda xs: weighted(sample, xs, 3), args, direction)
    assert abs(got - want) <= error


@pytest.mark.parametrize("number", SMOOTH, ids=identity)
@unless_overwritten
def test_gradient_of_the_gradient(number: int) -> None:
    sample = SAMPLES[number]
    args = arguments(sample)
    rng = np.random.default_rng(2)
    direction = [rng.uniform(-1, 1, a.shape) for a in args]
    weights = [rng.uniform(-1, 1, a.shape) for a in args]

    def first(xs: list[Any]) -> Any:
        leaves = [x if isinstance(x, tg.Tensor) else tg.tensor(x, requires_grad=True) for x in xs]
        y = weighted(sample, leaves, 3)
        found = tg.autograd.grad(y, leaves, create_graph=True, allow_unused=True)
        terms = [(g * w).sum() for g, w in zip(found, weights, strict=True) if g is not None]
        return sum(terms[1:], terms[0])

    leaves = [tg.tensor(a, requires_grad=True) for a in args]
    y = weighted(sample, leaves, 3)
    if not isinstance(y, tg.Tensor) or not y.requires_grad:
        pytest.skip("no floating output depends on the arguments")
    d = first(leaves)
    found = (
        tg.autograd.grad(d, leaves, allow_unused=True) if d.requires_grad else [None] * len(args)
    )
    got = sum(
        float(np.sum(g.numpy() * t)) for g, t in zip(found, direction, strict=True) if g is not None
    )
    want, error = slope(first, args, direction)
    assert abs(got - want) <= error
