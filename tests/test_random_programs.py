"""Random programs: the kernel computes what the interpreter and NumPy do, both modes agree.

A program is a list of steps; each applies an operation to earlier values, as in

    (12, 0, 1)      ->      values.append(values[0] * values[1])

Steps that NumPy refuses (shapes that do not go together) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tracegrad as tg
from tests import oracle
from tracegrad.function import Function
from tracegrad.ir.interpret import interpret

UNARY: list[Callable[[Any], Any]] = [
    np.tanh,
    np.sin,
    np.abs,
    lambda a: np.exp(-a * a),
    lambda a: np.sqrt(1 + a * a),
    lambda a: np.log1p(np.abs(a)),
    lambda a: np.sum(a),
    lambda a: np.mean(a, axis=0),
    lambda a: np.max(a, axis=-1, keepdims=True),
    lambda a: a.T,
    lambda a: a.reshape(-1),
    lambda a: a[1:],
    lambda a: a[::-1, ..., None],
    lambda a: np.clip(a, -0.5, 0.7),
]
BINARY: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / (1 + b * b),
    np.maximum,
    lambda a, b: np.where(a < b, a, 2 * b),
    np.hypot,
    np.arctan2,
    np.logaddexp,
    lambda a, b: a @ b,
]
Step = tuple[int, int, int]

steps = st.lists(
    st.tuples(st.integers(0, len(UNARY) + len(BINARY) - 1), st.integers(0, 50), st.integers(0, 50)),
    min_size=2,
    max_size=9,
)
SHAPES = [(3, 4), (4,), (), (4, 3), (1, 4)]


def apply(step: Step, values: Sequence[Any]) -> Any:
    operation, left, right = step
    a, b = values[left % len(values)], values[right % len(values)]
    return UNARY[operation](a) if operation < len(UNARY) else BINARY[operation - len(UNARY)](a, b)


def valid(program: Sequence[Step], arguments: Sequence[Any]) -> list[Step]:
    """The steps that NumPy takes on these arguments."""
    values, kept = list(arguments), []
    for step in program:
        try:
            value = apply(step, values)
        except (ValueError, IndexError):
            continue
        if np.size(value) and np.ndim(value) < 4:
            kept.append(step)
            values.append(value)
    return kept


def run(program: Sequence[Step], arguments: Sequence[Any]) -> tuple[Any, ...]:
    values = list(arguments)
    for step in program:
        values.append(apply(step, values))
    return tuple(values[-2:])


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(program=steps, first=st.sampled_from(SHAPES), second=st.sampled_from(SHAPES))
def test_random_programs(program: list[Step], first: Any, second: Any) -> None:
    rng = np.random.default_rng(0)
    points, directions = ([rng.normal(size=s)[()] for s in (first, second)] for _ in range(2))
    program = valid(program, points)
    wants = run(program, points)
    cts = [rng.normal(size=np.shape(want))[()] for want in wants]

    def everything(points: Any, directions: Any, cts: Any) -> Any:
        def function(*points: Any) -> Any:
            return run(program, points)

        values, pullback = tg.vjp(function, *points)
        _, tangents = tg.jvp(function, points, directions)
        return values, pullback(cts), tangents

    function = Function(everything)
    kernel = function(tuple(points), tuple(directions), tuple(cts))
    version, leaves = function.version_for((tuple(points), tuple(directions), tuple(cts)), {})
    for got, want in zip(oracle.flat(kernel), interpret(version.graph, leaves), strict=True):
        oracle.assert_similar(got, want, ROUNDINGS, "kernel against interpreter")
    values, cotangents, tangents = kernel
    for got, want in zip(values, wants, strict=True):
        oracle.assert_similar(got, want, ROUNDINGS, "kernel against NumPy")
    forward = [np.sum(ct * t) for ct, t in zip(cts, tangents, strict=True)]
    backward = [np.sum(d_x * t) for d_x, t in zip(cotangents, directions, strict=True)]
    size = sum(np.sum(np.abs(ct * t)) for ct, t in zip(cts, tangents, strict=True))
    size += sum(np.sum(np.abs(d * t)) for d, t in zip(cotangents, directions, strict=True))
    assert abs(sum(forward) - sum(backward)) <= 1e-12 * (1 + size), "<ct, jvp> = <vjp, t>"


ROUNDINGS = 4096
"""Nine operations that may each amplify an error by the size of their operands, below 10 or so."""
