"""Dumps: their exact texts, and that they run and say what the kernels compute."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tests.golden_programs import PROGRAMS
from tracegrad.inspect.dump import Dump, dump_graph
from tracegrad.inspect.subject import WHICH
from tracegrad.ir.dims import evaluate
from tracegrad.ir.graph import Node
from tracegrad.ir.interpret import interpret
from tracegrad.ops.op import SAMPLES, Sample

DIFFERENTIABLE = [name for name in PROGRAMS if name != "squares"]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("which", WHICH)
def test_golden_dump(name: str, which: str, golden: Any) -> None:
    function, args = PROGRAMS[name]
    if name in DIFFERENTIABLE or which == "primal":
        golden(f"{name}_{which}.txt", function.dump(*args, which=which))


@pytest.mark.parametrize("name", ["loss", "cross_entropy"])
def test_golden_module(name: str, golden: Any) -> None:
    function, args = PROGRAMS[name]
    for which in ("forward", "backward"):
        text = function.source(*args, which=which)
        path, _, module = text.partition("\n")
        assert path == f"# {text.path}" and text.path.read_text() == module
        golden(f"{name}_{which}.py", module)


def leaves(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple) else [value]


def arguments(args: tuple[Any, ...]) -> list[Any]:
    flat: list[Any] = []
    for arg in args:
        flat += arg.values() if isinstance(arg, dict) else [arg]
    return flat


def agree(found: Any, wanted: Any, steps: int) -> None:
    """Equal up to the rounding of `steps` operations in another order, relative to the largest."""
    for a, b in zip(leaves(found), leaves(wanted), strict=True):
        scalar = np.ndim(b) == 0  # compiled code returns Python numbers
        a, b = np.asarray(a), np.asarray(b, np.asarray(a).dtype if scalar else None)
        assert a.dtype == b.dtype and a.shape == b.shape
        if b.dtype.kind != "f":
            np.testing.assert_array_equal(a, b)
            continue
        largest = np.max(np.abs(b), initial=0.0, where=np.isfinite(b))
        np.testing.assert_allclose(a, b, rtol=0, atol=steps * np.finfo(b.dtype).eps * largest)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_dump_computes_what_the_kernels_compute(name: str) -> None:
    function, args = PROGRAMS[name]
    given = arguments(args)
    steps = 4 * max(np.size(value) for value in given) + 16
    compiled = function.compiled(*args)
    agree(function.dump(*args, which="primal").function()(*given), compiled.primal(*given), steps)
    if name not in DIFFERENTIABLE:
        return
    forward = function.dump(*args).function()(*given)
    agree(forward, compiled.forward(*given), steps)
    split = function._subject(args, {}).split
    results = leaves(forward)
    kept = {
        r.name: results[split.cut.outputs + r.index]
        for r in split.cut.residuals
        if r.origin == "kept"
    }
    known = {**dict(zip([n.name for n in split.forward.final.inputs], given, strict=True)), **kept}
    known |= {n.name: v for n, v in zip(split.forward.final.outputs, results, strict=True)}
    ct = np.ones_like(results[0])[()]
    backward_args = [ct, *(known[r.name] for r in split.cut.residuals)]
    dumped = function.dump(*args, which="backward").function()(*backward_args)
    agree(dumped, compiled.backward(*backward_args), steps)
    joint = function.dump(*args, which="joint").function()(*given, ct)
    agree(tuple(leaves(joint)[1:]), tuple(leaves(dumped)), steps)


@tg.trace
def last_value(x, a):
    def step(level, x_t):
        level = a * level + x_t
        return level, np.exp(level)

    return tg.scan(step, 0.0, x)[0]


def test_statements_of_a_body_have_their_type_and_line() -> None:
    dump = last_value.dump(np.ones(5), 0.5)
    (head,) = (line for line in dump.splitlines() if "for index in range(n):" in line)
    (step,) = (line for line in dump.splitlines() if " * carry" in line)
    assert head.endswith("tg.scan(step, 0.0, x)") and "loop" in head
    assert step.endswith("│ a * level") and "# f64 " in step


def test_results_of_a_loop_that_nobody_uses_get_no_cotangent() -> None:
    """`exp(level)` is stacked and dropped: the backward does not start from zeros for it."""
    x, a = np.array([0.3, -0.2, 0.5]), 0.5
    dump = last_value.dump(x, a, which="joint")
    assert "exp" not in dump and "0.0 +" not in dump
    np.testing.assert_allclose(last_value.grad(x, a), [0.25, 0.5, 1.0])


def sample_arguments(sample: Sample, kind: str) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    low, high = sample.domain
    values = [rng.uniform(low, high, shape) for shape in sample.shapes]
    match kind:
        case "f":
            return values
        case "b":
            return [value > (low + high) / 2 for value in values]
    return [np.floor(np.abs(value) * 3).astype(kind + "8") for value in values]


@pytest.mark.parametrize("number", range(len(SAMPLES)))
def test_the_dump_of_every_sample_runs(number: int) -> None:
    """Before and after the passes, forward and backward: each op's text says what it computes."""
    sample = SAMPLES[number]
    for kind in sample.kinds:
        args = sample_arguments(sample, kind)
        function = tg.trace(sample.program)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            subject = function._subject(tuple(args), {})
            for graph in (subject.version.graph, subject.version.primal.final):
                same_as_interpreted(dump_graph(graph, "sample", "primal"), graph, args)
            if subject.differentiable and sample.smooth:
                final = subject.split.joint.final
                shapes = [in_figures(node, subject.sizes("joint")) for node in final.inputs]
                cts = [np.ones(shape)[()] for shape in shapes[len(args) :]]
                same_as_interpreted(dump_graph(final, "sample", "joint"), final, [*args, *cts])


def in_figures(node: Node, sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(evaluate(size, sizes) for size in node.type.shape)


def same_as_interpreted(dump: Dump, graph: Any, args: list[Any]) -> None:
    for found, wanted in zip(leaves(dump.function()(*args)), interpret(graph, args), strict=True):
        assert np.asarray(found).dtype == np.asarray(wanted).dtype, dump
        np.testing.assert_array_equal(found, wanted, err_msg=str(dump))
