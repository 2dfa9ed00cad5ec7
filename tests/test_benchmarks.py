"""Every benchmark's own programs agree with its reference, at tiny sizes and untimed; the
report is made from figures alone. Peers that are not installed are replaced by nothing."""

from __future__ import annotations

import importlib
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import MagicMock

import pytest

HOME = Path(__file__).parents[1] / "benchmarks"
PEERS = (
    "autograd",
    "autograd.numpy",
    "autograd.scipy",
    "autograd.scipy.special",
    "jax",
    "jax.numpy",
    "torch",
)
ABSENT = {name for name in PEERS if find_spec(name.split(".")[0]) is None}
SIZES = {
    "attention": {"SIZES": ((6, 3),)},
    "black_scholes": {"SIZES": (5,)},
    "hessian": {"SIZES": ((30, 9),)},
    "hvp": {"BATCHES": (4,), "WIDTHS": (9, 8, 7, 3)},
    "layer_norm": {"SIZES": ((4, 6, 3),)},
    "logistic_regression": {"SIZES": ((12, 3),)},
    "lstm": {"SIZES": ((12, 2, 3),)},
    "mlp": {"BATCHES": (4,), "WIDTHS": (9, 8, 7, 3)},
    "nbody": {"SIZES": ((3, 10),)},
    "ode": {"DAMPINGS": (5.0,)},
    "reprojection": {"OBSERVATIONS": 3},
    "rosenbrock": {"SIZES": (6,)},
    "transcendental": {"SIZES": (40,)},
    "two_line": {"SHAPES": ((2, 3),)},
}
APART = {"cold_start", "cost_table", "digits", "ragged", "vecmath"}
"""Files that are no list of workloads, or measure what an example's own test runs."""

UNTESTED = {"numba by hand", "tracegrad, loop"}
"""What takes long to compile. The runner checks either before it times it, as it does all."""


@pytest.fixture
def benchmark(monkeypatch):
    """Loads a file of `benchmarks/` by name; its modules are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(HOME))
    for name in ABSENT:
        monkeypatch.setitem(sys.modules, name, MagicMock())
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(HOME) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("name", SIZES)
def test_implementations_agree(name, benchmark, monkeypatch):
    runner, module = benchmark("runner"), benchmark(name)
    for constant, value in SIZES[name].items():
        monkeypatch.setattr(module, constant, value)
    workload = next(iter(module.workloads()))
    wanted = workload.reference(*map(runner.as_float64, workload.arguments))
    names = set()
    for entry in workload.entries:
        if not entry.library.peer or entry.library is runner.NUMPY:
            if entry.name == "HIPS autograd" and "autograd" in ABSENT:
                continue
            names.add(entry.name)
            if entry.name not in UNTESTED:
                runner.check(workload, entry, entry.function(*workload.arguments), wanted)
    assert "numba by hand" in names and any(name.startswith("tracegrad") for name in names)


def test_every_file_is_reported_and_described(benchmark):
    report = benchmark("report")
    assert set(report.WORKLOADS) == set(SIZES)
    readme = (HOME / "README.md").read_text("utf-8")
    for name in {*SIZES, *APART}:
        assert f"`{name}.py`" in readme, f"{name}.py is missing in benchmarks/README.md"


def test_tables_are_made_anew_and_others_stay(benchmark):
    report = benchmark("report")
    row = {
        "name": "one",
        "medians": [{"tracegrad": 2e-6, "numba by hand": 1e-6, "jax.jit": 4e-6, "PyTensor": 8e-6}]
        * 2,
        "peers": ["jax.jit", "PyTensor"],
        "first": {"tracegrad": 1.0, "jax.jit": 0.5},
        "memory": {"tracegrad": 2**20, "jax.jit": 2**21, "PyTorch eager": None},
    }
    measured = {"mlp": {"machine": {"cpu": "x", "cpus used": 2}, "rows": [row]}}
    page = "a <!-- table: workloads -->\nold<!-- end of table -->\nb\n"
    page += "<!-- table: ragged -->\nkept\n<!-- end of table -->\n"
    made = report.render(measured, page)
    cells = "2 | 2.00 | 0.50 jax.jit, 0.25 PyTensor"
    assert f"| one | {cells} | {cells} | 1.0 / 0.5 | 1.0 / 2.0 / - |" in made
    assert "old" not in made and "kept" in made and made.startswith("a <!-- table: workloads -->")
    assert report.render(measured, made) == made


def test_the_page_has_what_was_measured(benchmark):
    report = benchmark("report")
    measured = report.json.loads(report.MEASURED.read_text("utf-8"))
    page = report.PAGE.read_text("utf-8")
    assert report.render(measured, page) == page
    assert set(re.findall("<!-- table: (.+) -->", page)) == set(report.TABLES)


def test_slow_entries_sit_out(benchmark):
    runner = benchmark("runner")

    class Fake(runner.Held):
        def __init__(self, seconds):
            self.seconds = seconds

        def timed(self, repeat):
            return self.seconds

    taking = [(runner.Result(n, 0, 0, 0, True), Fake(s)) for n, s in (("fast", 1), ("slow", 9))]
    runner.take_turns(taking, 5, 10)
    assert [len(result.rounds) for result, _ in taking] == [5, 1]


def test_a_missing_library_is_a_row(benchmark, monkeypatch):
    runner = benchmark("runner")
    numpy = runner.Entry("NumPy by hand", runner.NUMPY, lambda x: (x,))

    def absent(x):
        raise ModuleNotFoundError("not here")

    entries = (numpy, runner.Entry("gone", runner.NUMPY, absent, optional=True))
    workload = runner.Workload("w", (runner.np.ones(2),), lambda x: (x,), entries)
    results, left_out = runner.measure(workload, 1, False)
    assert left_out == {"gone": "not here"}
    assert "| gone | left out: not here |" in runner.table(workload, results, left_out)
