"""Long programs: recorded quickly, no pass compares all pairs, and the user is told what to do."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from codegen import schedule, waiting
from codegen.schedule.dependence import effects
from codegen.schedule.fusion import fuse
from tests.test_codegen_progress import Terminal
from tracegrad.autodiff.mincut import INFINITE, Network
from tracegrad.inspect import unrolled
from tracegrad.ops.elementwise import Elementwise


def different(steps: int) -> Callable[[Any], Any]:
    """A loop whose steps differ: nothing to roll."""
    rng = np.random.default_rng(0)
    plan = [(int(rng.integers(4)), float(rng.uniform(0.5, 1.5))) for _ in range(steps)]

    def program(x: Any) -> Any:
        y = x
        for kind, c in plan:
            if kind == 0:
                y = np.sin(y) + c
            elif kind == 1:
                y = y * x - c
            elif kind == 2:
                y = np.tanh(y) + np.sum(x) * c
            else:
                y = c * y
        return np.sum(y)

    return program


def test_types_of_equal_operands_are_inferred_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count, infer = 0, Elementwise.infer

    def counted(self: Elementwise, *types: Any) -> Any:
        nonlocal count
        count += 1
        return infer(self, *types)

    def steps(x: Any) -> Any:
        for _ in range(300):
            x = 0.5 * np.sin(x) + x * x
        return x

    monkeypatch.setattr(Elementwise, "infer", counted)
    tg.trace(steps).version_for((np.ones(4),), {})
    assert count < 60  # 1,200 operations were recorded


def test_numbers_keep_their_signs_and_kinds() -> None:
    def f(x: Any) -> Any:
        return np.stack([x / 0.0, x / -0.0, x * 2, x * 2.0, x * True, 0.0 * x, -0.0 * x])

    for x in (np.array([1.0, -2.0]), np.array([1.5, -2.5], np.float32)):
        with np.errstate(divide="ignore"):
            want = f(x)
        got = tg.trace(f)(x)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


def seconds_of(program: Callable[[Any], Any], x: np.ndarray) -> float:
    """Processor time of everything before machine code is made."""
    start = time.process_time()
    version, _ = tg.value_and_grad(program).version_for((x,), {})
    schedule.scheduled(version.primal.into.module)
    return time.process_time() - start


def test_time_is_nearly_linear_in_operations() -> None:
    x = np.ones(7)
    seconds_of(different(20), x)
    short, long = seconds_of(different(60), x), seconds_of(different(480), x)
    assert long < 8 * short * 3  # a quadratic pass would need 64 times as long


def test_a_long_chain_needs_no_deep_recursion() -> None:
    program = different(sys.getrecursionlimit() + 100)
    version, _ = tg.value_and_grad(program).version_for((np.ones(3),), {})
    assert len(version.primal.final.nodes) > 2 * sys.getrecursionlimit()


def test_fused_loops_keep_what_has_to_stay_in_order() -> None:
    version, _ = tg.value_and_grad(different(60)).version_for((np.ones(7),), {})
    (function,) = version.primal.module.functions
    known: set[str] = {p.name for p in function.parameters} | {n for n, _, _ in function.sizes}
    for statement in fuse(function).body:
        own = effects(statement, {}, frozenset())
        assert own.reads - own.writes <= known
        known |= own.writes


def test_minimum_cut_of_a_ladder() -> None:
    network = Network()
    for step in range(2000):
        network.edge(("a", step), ("a", step + 1), INFINITE if step != 700 else 2.0)
    network.edge("source", ("a", 0), 3.0)
    network.edge(("a", 2000), "sink", 5.0)
    side = network.source_side("source", "sink")
    assert side == {"source", *(("a", step) for step in range(701))}


def test_the_loop_of_a_long_compilation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    version, _ = tg.grad(different(200)).version_for((np.ones(3),), {})
    graph = version.primal.final
    text = unrolled.advice(graph, 12.4)
    assert "took 12 s" in text and "`for kind, c in plan` (test_long_programs.py:" in text
    assert "tg.fori_loop or tg.scan, or over tg.range(n)" in text
    assert not unrolled.advice(graph, 5.0)
    short, _ = tg.grad(different(5)).version_for((np.ones(3),), {})
    assert not unrolled.advice(short.primal.final, 30.0)


def test_who_waits_long_is_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unrolled, "LONG", 0.0)
    monkeypatch.setattr(unrolled, "MANY", 10)
    program = tg.grad(different(60))
    with pytest.warns(tg.LongCompilation, match="for kind, c in plan") as told:
        program(np.ones(3))
    assert [warning.filename for warning in told] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program(np.ones(3))


def test_tracing_and_passes_show_their_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.01)
    monkeypatch.setattr(waiting, "STEP", 0.002)
    monkeypatch.delenv("TRACEGRAD_PROGRESS", raising=False)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    version, _ = tg.grad(different(400)).version_for((np.ones(3),), {})
    _ = version.primal.stages
    shown = terminal.getvalue()
    assert "tracegrad: tracing program_grad, " in shown and " operations, 0." in shown
    assert "operations: simplify, " in shown
    assert shown.endswith(f"\r{'':{waiting.WIDTH}}\r")
