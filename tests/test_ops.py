"""Every sample of the registry, traced, compiled and eager, with its derivatives, against NumPy.

One traced program per sample computes value, pullback, tangent and the derivative of the pullback;
interpreted, it costs no compilation. Values and pullbacks of a dozen samples are compiled together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tests import oracle
from tracegrad.function import Function
from tracegrad.ir.graph import Graph
from tracegrad.ir.interpret import interpret
from tracegrad.ops import REGISTRY
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.op import SAMPLES
from tracegrad.passes.simplify import simplify

CHUNK = 8
ROUNDINGS = 256
"""Samples have some ten operations on arrays of up to a hundred elements of unit size; sums may go
in another order. Each rounding is at most one unit of the largest value on the way."""

SMALL = 1e-5
"""Step of central differences: truncation 1e-10, cancellation eps / 1e-5 = 2e-11 relative."""

DIFFERENCE_TOLERANCE = 1e-7
"""Both errors of the differences, with derivatives up to the third of size 100."""


PYTORCH_REFUSES = (
    "Can't call numpy() on Tensor that requires grad",
    "one of the variables needed for gradient computation has been modified by an inplace",
)
"""What a traced program may do and an eager one may not: `np.array([tensor, tensor])`, and writing
into an array that a derivative still needs."""

CONTROL = {
    "branch",
    "loop",
    "replay",
    "snapshot",
    "repeat",
    "strips",
    "unset",
    "within",
    "call",
    "checkpoint",
    "foreign",
    "barrier",
    "named",
    "bound",
    "project",
    "draw",
    "after",
    "check",
    "unchecked",
    "fixed",
    "unknown",
}
"""Ops with whole programs as attributes, and the parts of their results: see test_control.py; what
raises, see test_checks.py; what no derivative is taken by, see test_random.py and
test_special.py."""

PULLBACKS = SINGLE = 8
"""Compilation is what takes time, so of every so many samples one has its pullback compiled too,
and one is compiled for float32. Interpreted, all are."""


def label(number: int) -> str:
    code = SAMPLES[number].program.__code__
    return (
        f"{code.co_filename.rsplit('/', 1)[-1].removesuffix('.py')}-{code.co_firstlineno}-{number}"
    )


def smooth_samples() -> list[Any]:
    return [pytest.param(i, id=label(i)) for i, s in enumerate(SAMPLES) if s.smooth]


def sampled() -> list[Any]:
    return [
        pytest.param(i, dtype, id=f"{label(i)}-{dtype}")
        for i, s in enumerate(SAMPLES)
        for dtype in oracle.dtypes_of(s.kinds)
    ]


def by_numpy(program: Callable[..., Any], *args: Any) -> list[Any]:
    with np.errstate(all="ignore"):
        return [np.asarray(value) for value in oracle.flat(program(*args))]


def cotangents_for(values: Sequence[Any], seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [
        oracle.draw(rng, v.shape, v.dtype, (0.5, 1.5)) if v.dtype.kind == "f" else v for v in values
    ]


def flat_program(program: Callable[..., Any]) -> Callable[..., list[Any]]:
    return lambda *args: oracle.flat(program(*args))


@cache
def derived(number: int) -> tuple[Callable[..., Any], tuple[Any, ...], list[Any], tuple[Any, ...]]:
    """The program of value, pullback, tangent and derivative of the pullback; its arguments.

    As a function `run(args) -> (values, cotangents, tangents, second)`, all by one traced graph.
    """
    sample = SAMPLES[number]
    args = oracle.drawn_arguments(sample, np.dtype(np.float64), number)
    directions = tuple(
        oracle.draw(np.random.default_rng(number + 1 + i), np.shape(x), x.dtype, (-1.0, 1.0))
        for i, x in enumerate(args)
    )
    cts = cotangents_for(by_numpy(sample.program, *args), number)
    program = flat_program(sample.program)

    def everything(args: Any, directions: Any, cts: Any) -> Any:
        def pulled(*args: Any) -> Any:
            return tg.vjp(program, *args)[1](cts)

        values, tangents = tg.jvp(program, args, directions)
        cotangents, second = tg.jvp(pulled, args, directions)
        return values, cotangents, tangents, second

    version, _ = Function(everything).version_for((args, directions, cts), {})
    counts = (len(cts), len(args), len(cts), len(args))

    def run(args: Any) -> list[list[Any]]:
        leaves = iter(interpret(version.graph, [*args, *directions, *cts]))
        return [[next(leaves) for _ in range(count)] for count in counts]

    run.graph = version.graph  # type: ignore[attr-defined]
    return run, args, cts, directions


def pairing(left: Sequence[Any], right: Sequence[Any]) -> tuple[float, float]:
    """`<left, right>` over the floats, and the sum of the magnitudes of its terms."""
    pairs = [
        np.asarray(a * b, np.float64).ravel()
        for a, b in zip(left, right, strict=True)
        if np.asarray(a).dtype.kind == "f"
    ]
    terms = np.concatenate([*pairs, np.zeros(1)])
    return float(terms.sum()), float(np.abs(terms).sum())


def graphs_of_samples() -> Iterator[Graph]:
    """Values, then derivatives, then these simplified, which takes longest."""
    for number, sample in enumerate(SAMPLES):
        for dtype in oracle.dtypes_of(sample.kinds[-1:]):
            args = oracle.drawn_arguments(sample, dtype, number)
            yield Function(flat_program(sample.program)).version_for(args, {})[0].graph
    smooth = [number for number, sample in enumerate(SAMPLES) if sample.smooth]
    yield from (derived(number)[0].graph for number in smooth)
    yield from (simplify(derived(number)[0].graph) for number in smooth)


def test_every_op_has_a_sample() -> None:
    rows = {name for name, op in REGISTRY.items() if isinstance(op, Elementwise)}
    missing = REGISTRY.keys() - rows - CONTROL
    for graph in graphs_of_samples():
        missing -= {node.op.name for node in graph.nodes}
        if not missing:
            return
    raise AssertionError(f"ops without a sample: {', '.join(sorted(missing))}")


@pytest.mark.parametrize(("number", "dtype"), sampled())
def test_interpreted_value(number: int, dtype: np.dtype) -> None:
    sample = SAMPLES[number]
    args = oracle.drawn_arguments(sample, dtype, number)
    got = oracle.interpreted(flat_program(sample.program), *args)
    for mine, want in zip(got, by_numpy(sample.program, *args), strict=True):
        oracle.assert_similar(mine, want, ROUNDINGS, label(number))


@pytest.mark.parametrize("number", smooth_samples())
def test_derivatives(number: int) -> None:
    run, args, cts, directions = derived(number)
    values, cotangents, tangents, second = run(args)
    for x, d_x in zip(args, cotangents, strict=True):
        oracle.assert_type(d_x, x, "the gradient")
    inner, size = pairing(cts, tangents)
    assert abs(inner - pairing(cotangents, directions)[0]) <= 1e-13 * (size + 1), (
        "<ct, jvp> = <vjp, t>"
    )
    ahead, behind = (
        [x + s * t for x, t in zip(args, directions, strict=True)] for s in (SMALL, -SMALL)
    )
    program = SAMPLES[number].program
    steps = zip(by_numpy(program, *ahead), by_numpy(program, *behind), tangents, strict=True)
    for up, down, tangent in steps:
        if up.dtype.kind == "f":
            assert_near((up - down) / (2 * SMALL), tangent, "jvp against differences")
    steps = zip(run(ahead)[1], run(behind)[1], second, strict=True)
    for up, down, curvature in steps:
        assert_near((up - down) / (2 * SMALL), curvature, "second order against differences")
    del values


def assert_near(differences: Any, derivative: Any, about: str) -> None:
    error = np.abs(differences - derivative)
    bound = DIFFERENCE_TOLERANCE * (1 + np.abs(derivative).max(initial=0))
    assert np.all(error <= bound), f"{about}: off by {error.max()}\n{differences}\n{derivative}"


def chunked() -> list[Any]:
    """Samples whose arguments exist in a dtype, several to one compiled program."""
    found = []
    for dtype in oracle.dtypes_of("fiub"):
        numbers = [i for i, s in enumerate(SAMPLES) if dtype.kind in s.kinds]
        if dtype == np.float32:
            numbers = numbers[1::SINGLE]
        for start in range(0, len(numbers), CHUNK):
            chunk = tuple(numbers[start : start + CHUNK])
            found.append(pytest.param(chunk, dtype, id=f"{dtype}-{label(chunk[0])}"))
    return found


def value_and_pullback(program: Callable[..., Any], args: Any, cts: Any) -> tuple[Any, Any]:
    value, pullback = tg.vjp(program, *args)
    return value, pullback(cts)


@pytest.mark.parametrize(("numbers", "dtype"), chunked())
def test_compiled(numbers: tuple[int, ...], dtype: np.dtype) -> None:
    """Kernels compute what NumPy does: values, and in float64 the pullbacks too."""
    programs = [flat_program(SAMPLES[i].program) for i in numbers]
    args = tuple(oracle.drawn_arguments(SAMPLES[i], dtype, i) for i in numbers)
    wants = [by_numpy(p, *a) for p, a in zip(programs, args, strict=True)]
    cts = tuple(cotangents_for(want, i) for want, i in zip(wants, numbers, strict=True))
    pulls = [dtype == np.float64 and SAMPLES[i].smooth and i % PULLBACKS == 0 for i in numbers]

    def program(args: Any, cts: Any) -> Any:
        return [
            value_and_pullback(f, x, ct) if pull else (f(*x), ())
            for f, x, ct, pull in zip(programs, args, cts, pulls, strict=True)
        ]

    function = Function(program)
    results = function(args, cts)
    version, leaves = function.version_for((args, cts), {})
    oracle_results = iter(interpret(version.graph, leaves))
    for i, want, result in zip(numbers, wants, results, strict=True):
        for got in oracle.flat(result):
            steps = roundings(dtype, got)
            oracle.assert_similar(got, next(oracle_results), steps, f"{label(i)}: interpreter")
        for got, expected in zip(oracle.flat(result[0]), want, strict=True):
            oracle.assert_similar(got, expected, roundings(dtype, got), label(i))


def roundings(dtype: np.dtype, got: Any) -> float:
    """A float64 that was made of float32 has the roundings of these: `np.interp(float32, ...)`."""
    narrow = dtype == np.float32 and np.asarray(got).dtype == np.float64
    return ROUNDINGS * (2.0**29 if narrow else 1.0)


@pytest.mark.parametrize("number", smooth_samples())
def test_eager(number: int) -> None:
    """Tensors give the values and gradients of the traced program, gradients of gradients too."""
    run, args, cts, directions = derived(number)
    values, cotangents, _, second = run(args)
    tensors = [tg.tensor(x, requires_grad=True) for x in args]
    try:
        results = oracle.flat(SAMPLES[number].program(*tensors))
    except RuntimeError as error:
        if not str(error).startswith(PYTORCH_REFUSES):
            raise
        pytest.skip(f"as in PyTorch: {error}")
    for got, want in zip(results, values, strict=True):
        oracle.assert_similar(as_numpy(got), want, ROUNDINGS, label(number))
    try:
        gradients = eager_gradients(results, tensors, [tg.tensor(ct) for ct in cts])
    except RuntimeError as error:
        if not str(error).startswith(PYTORCH_REFUSES):
            raise
        pytest.skip(f"as in PyTorch: {error}")
    compare(gradients, cotangents, "gradient")
    compare(
        eager_gradients(gradients, tensors, [tg.tensor(t) for t in directions]), second, "second"
    )


def as_numpy(value: Any) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, tg.Tensor) else np.asarray(value)


def eager_gradients(results: Any, tensors: Any, cts: Any) -> list[Any]:
    """`tg.autograd.grad` over the results that depend on the tensors, None for the rest."""
    roots = [
        (y, ct)
        for y, ct in zip(results, cts, strict=True)
        if isinstance(y, tg.Tensor) and y.requires_grad
    ]
    if not roots:
        return [None] * len(tensors)
    outputs, weights = zip(*roots, strict=True)
    return tg.autograd.grad(
        list(outputs), tensors, list(weights), create_graph=True, allow_unused=True
    )


def compare(gradients: Sequence[Any], wanted: Sequence[Any], about: str) -> None:
    for got, want in zip(gradients, wanted, strict=True):
        got = np.zeros_like(want) if got is None else as_numpy(got)
        oracle.assert_similar(got, want, 16 * ROUNDINGS, about)
