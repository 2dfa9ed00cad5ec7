"""Explanations, drawings, compiled functions, exported modules, and what errors show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numba import njit

import tracegrad as tg
from codegen import expr, loops
from tests.golden_programs import PROGRAMS
from tracegrad.compile import PASSES
from tracegrad.inspect.kernels import Layout
from tracegrad.inspect.memory import peak

X = np.arange(6.0).reshape(2, 3)


def without_times(text: str) -> str:
    """Milliseconds, seconds and paths differ from run to run."""
    text = text.replace("\n" + " " * 21, " ")  # where lines are broken depends on them
    text = re.sub(r"\(\d+\.\d ms\)", "(- ms)", text)
    return re.sub(r"in \d+\.\d\d s; disk cache: .*", "in - s", text)


@pytest.mark.parametrize("name", ["loss", "cross_entropy", "folded"])
def test_golden_explanation(name: str, golden: Any) -> None:
    function, args = PROGRAMS[name]
    fresh = tg.trace(function.python)
    golden(f"{name}_explain.txt", without_times(fresh.explain(*args)))


def test_an_explanation_says_how_it_was_compiled() -> None:
    function = tg.trace(lambda x: np.sum(x * x + 3))
    function(X)
    text = function.explain(which="primal")
    assert re.search(r"compiled +in \d+\.\d\d s; disk cache: \S+", text)
    assert "not yet" in function.explain(which="backward")


def test_an_explanation_tells_of_the_programs_that_ran() -> None:
    function = tg.trace(lambda x: np.exp(x) * 2)
    assert "primal" not in function.explain(X)
    function(X)
    text = without_times(function.explain(X))
    into = "function_into"
    assert f"as {into}, which takes its result arrays, in - s" in text
    assert text.count("not yet") == 2
    function(tg.tensor(X, requires_grad=True)).sum().backward()
    text = without_times(function.explain(X))
    assert "not yet" not in text
    assert f"# calls run {into}, with its result arrays" in function.source(which="primal")


def test_the_explanation_of_a_gradient() -> None:
    function = tg.trace(lambda x: np.sum(x * x))
    function.value_and_grad(X)
    text = function.value_and_grad.explain()
    assert "primal" in text
    assert "backward" not in text
    assert "not yet" not in text
    assert "backward" in function.value_and_grad.explain(which="backward")


def test_no_version_yet() -> None:
    with pytest.raises(tg.TraceError, match="no version yet: call it first, or give example"):
        tg.trace(lambda x: x).dump()


def test_without_arguments_the_latest_version_is_shown() -> None:
    function = tg.trace(lambda x: np.sum(x * 2))
    function(X)
    function(X[0])
    assert "x: f64[n]  ->" in function.dump()
    function(X)
    assert "x: f64[n, m]  ->" in function.dump()


def test_wrong_choices_are_named() -> None:
    function = PROGRAMS["loss"][0]
    with pytest.raises(
        ValueError, match="choose one of primal, forward, backward, consuming, joint"
    ):
        function.dump(X, which="sideways")
    with pytest.raises(ValueError, match=r"the passes are trace, .*simplify, .*name"):
        function.dump(X, after="magic")
    with pytest.raises(tg.NotDifferentiableError, match='look at which="primal"'):
        PROGRAMS["squares"][0].dump(np.arange(12).reshape(3, 4), which="backward")


def test_stages_are_the_whole_road() -> None:
    function = PROGRAMS["loss"][0]
    stages = function.stages(X)
    names = ["trace", *(name for name, _ in PASSES)]
    programs = ["primal", "joint", "forward", "backward"]
    assert [(s.which, s.name) for s in stages] == [(p, name) for p in programs for name in names]
    simplified = stages[names.index("simplify")]
    assert stages[0].nodes == 6 and simplified.nodes == 5
    assert "primal · simplify: 5 operations" in str(simplified)
    assert simplified.dump == function.dump(X, which="primal", after="simplify")


def test_notebook_forms_are_escaped() -> None:
    function = tg.trace(lambda x: np.sum(np.where(x < 1, x, 2.0)))
    for shown in (function.dump(X), function.explain(X), function.source(X)):
        assert "&lt;" in shown._repr_html_() and "x < 1" not in shown._repr_html_()
    root = ElementTree.fromstring(function.graph(X)._repr_svg_())
    texts = [part.text for part in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "v1 = x < 1.0" in texts and "x" in texts


def test_the_boxes_of_a_drawing_do_not_overlap() -> None:
    function, args = PROGRAMS["cross_entropy"]
    root = ElementTree.fromstring(str(function.graph(*args, which="backward")))
    boxes = [
        tuple(float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
        for rect in root.iter("{http://www.w3.org/2000/svg}rect")
    ]
    assert len(boxes) > 20
    for number, (x, y, width, _) in enumerate(boxes):
        for other_x, other_y, other_width, _ in boxes[:number]:
            assert y != other_y or x + width <= other_x or other_x + other_width <= x


def test_compiled_functions_are_called_from_njit() -> None:
    compiled = PROGRAMS["loss"][0].compiled(X)
    forward, backward, both = compiled.forward, compiled.backward, compiled.value_and_grad

    @njit
    def step(x: Any) -> Any:
        value = forward(x)
        return value, x - 0.1 * backward(1.0, x), both(x)[1]

    value, moved, gradient = step(X)
    assert value == pytest.approx(np.mean(2 * (X + 1) ** 2), rel=1e-14)
    np.testing.assert_allclose(gradient, 4 / 6 * (X + 1), rtol=1e-14)
    np.testing.assert_allclose(moved, X - 0.1 * gradient, rtol=1e-14)
    assert "loss_backward(d_y: f64, x: f64[n, m]) -> d_x: f64[n, m]" in repr(compiled)


def test_compiled_needs_no_arguments_once_there_is_a_version() -> None:
    function = tg.trace(lambda p, k: np.sum(p["w"] ** k))
    function({"w": X}, 2)
    value, gradient = function.compiled().value_and_grad(X)
    assert value == 55.0
    np.testing.assert_array_equal(gradient, 2 * X)


SCRIPT = """
import sys, numpy as np, {name}
args = [np.load(path) for path in sys.argv[1:]]
print(repr(float({name}.{name}(*args))))
value, *gradients = {name}.{name}_value_and_grad(*args)
print(repr(float(value)), [g.ravel().tolist() for g in gradients])
print([m for m in sys.modules if m.split(".")[0] in ("tracegrad", "codegen")])
"""


@pytest.mark.parametrize("name", ["gate", "weighted"])
def test_an_exported_module_stands_alone(name: str, tmp_path: Path) -> None:
    function, args = PROGRAMS[name]
    function.export(tmp_path / f"{name}.py", *args)
    arrays = [v for arg in args for v in (arg.values() if isinstance(arg, dict) else [arg])]
    paths = [tmp_path / f"{number}.npy" for number in range(len(arrays))]
    for path, array in zip(paths, arrays, strict=True):
        np.save(path, array)
    printed = [run_script(name, tmp_path, paths, disable) for disable in ("0", "1")]
    assert printed[0] == printed[1]
    value, _, modules = printed[0].splitlines()
    assert modules == "[]"
    assert float(value) == pytest.approx(float(function(*args)), rel=1e-6)


def run_script(name: str, folder: Path, paths: list[Path], disable: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(name=name), *map(str, paths)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "", "NUMBA_DISABLE_JIT": disable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_kernels_and_memory_of_a_program_with_buffers() -> None:
    function = tg.trace(lambda x: np.sum(np.exp(x), axis=0) + np.max(x))
    subject = function._subject((X,), {})
    layout = Layout(subject.version.primal.final)
    places = {node.name: place for node, place in layout.places.items()}
    assert places["y"].where == "output b1", "in the memory of the sum"
    assert places["v1"].where == "register"
    worst = peak(layout, subject.extents)
    assert worst.here == 8 * 3 and [m.name for m in worst.arrays] == ["v2"]
    assert "8*m bytes = 24 bytes at the peak: v2 (later y)" in function.explain(X, which="primal")


def test_a_refused_program_shows_the_users_line_and_the_dump() -> None:
    function = tg.trace(lambda x: np.sum(x * x))
    program = function._subject((X,), {}).version.primal
    f64 = np.dtype(float)
    wrong = expr.Load("x_size", (expr.integer(0),), f64)
    body = (
        loops.Assign(expr.Var("y", f64), wrong, "7│ x * x"),
        loops.Return((expr.Var("y", f64),)),
    )
    sizes = (("x_size", "x", 0),)
    parameters = (loops.Parameter("x", f64, 2),)
    refused = loops.Function(program.name, parameters, body, sizes=sizes)
    program.__dict__["module"] = loops.Module((refused,))
    with pytest.raises(tg.CompileError) as caught:
        function(X)
    error = caught.value
    assert "test_explain.py:7, x * x" in str(error)
    assert error.__cause__ is None and error.__suppress_context__
    assert "v1 = x * x" in error.dump and "v1 = x * x" in error.__notes__[0]
    assert "x_size[0]" in error.source and error.details


@tg.trace
def mismatch(x, w):
    hidden = np.tanh(x) * 2
    return np.sum(hidden + w)


@tg.trace
def unfit(x):
    return np.reshape(x * 3, (-1, 4))


@tg.trace
def branch(x):
    if np.sum(x) > 0:
        return x
    return -x


@tg.trace
def unknown(x):
    return np.linalg.eigvals(x)


@tg.trace
def overwrite(x):
    x[0] = 1.0
    return x


FAILING = {
    "mismatch": (mismatch, (X, np.ones((2, 4)))),
    "mismatch_grad": (mismatch.grad, (X, np.ones((2, 4)))),
    "unfit": (unfit, (X,)),
    "branch": (branch, (X,)),
    "unknown": (unknown, (X,)),
    "overwrite": (overwrite, (X,)),
    "integers": (mismatch.grad, (np.arange(3), 2.0)),
}


def test_golden_errors(golden: Any) -> None:
    texts = []
    for name, (function, args) in FAILING.items():
        with pytest.raises(tg.TracegradError) as caught:
            function(*args)
        texts.append(f"[{name}]\n{type(caught.value).__name__}: {caught.value}\n")
    golden("errors.txt", "\n".join(texts))


def test_eager_graphs_are_dumped() -> None:
    w = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    hidden = np.tanh(w * 2 + 1)
    total = (hidden * hidden).sum()
    dump = total.dump()
    assert "hidden = np.tanh(v2)" in dump and "w: f64[3]" in dump
    assert dump.function()(w.detach().numpy()) == total.item()


def test_tensors_are_arguments_for_looking() -> None:
    function, (x,) = PROGRAMS["loss"]
    assert function.dump(tg.tensor(x, requires_grad=True)) == function.dump(x)
