"""Compiled functions loaded from disk without numba: the same values, errors and refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import config

import tracegrad as tg
from codegen import cache, known, native
from tracegrad.compile import Program
from tracegrad.passes.fingerprint import fingerprint

ROOT = Path(__file__).parents[1]

PROGRAM = """
import json, sys
if sys.argv[1] == "first":
    import numba
import numpy as np, tracegrad as tg

def loss(w, b, x):
    hidden = np.maximum(x @ w + b, 0)
    return np.mean(np.log(np.sum(np.exp(hidden), axis=1)))

def checked(x):
    tg.check(np.all(x > 0), "x has to be positive")
    return np.sum(np.sqrt(x))

def stepped(x):
    return np.sum(tg.scan(lambda h, x: (np.tanh(h + x), h * x), x[0], x)[1])

positive = tg.trace(lambda x: x[x > 0] * 2)
rng = np.random.default_rng(0)
w, b, x = rng.normal(size=(4, 3)), rng.normal(size=3), rng.normal(size=(5, 4))
found = {"loss": tg.grad(loss)(w, b, x).tolist(), "step": tg.grad(stepped)(x[0]).tolist()}
found["solve"] = tg.grad(lambda a: np.sum(np.linalg.solve(a, x[:3])))(w[:3] + np.eye(3)).tolist()
found["values"] = tg.trace(checked)(np.abs(x)).item()
many = np.linspace(0, 1, 200_000)
found["large"] = tg.grad(lambda x: np.sum(np.exp(np.sin(x))))(many)[::50_000].tolist()
loaded = "numba" in sys.modules
try:
    tg.trace(checked)(x)
except ValueError as error:
    found["error"] = str(error)
try:
    tg.trace(lambda a: np.linalg.inv(a))(np.zeros((2, 2)))
except np.linalg.LinAlgError as error:
    found["singular"] = str(error)
found["boxed"] = positive(x[0]).tolist()
import numba
found["after"] = numba.njit(lambda x: x[x > 0] + 1)(x[0]).tolist()
found["again"] = tg.grad(loss)(w, b, x).tolist()
state = tg.grad(loss).explain(w, b, x)
print(json.dumps([loaded, "disk cache: hit, by the graph" in " ".join(str(state).split()), found]))
"""


def run(script: Path, *arguments: str, **environment: str) -> Any:
    result = subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    return json.loads(result.stdout)


@pytest.fixture
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tracegrad"


def test_a_second_process_needs_no_numba(private_cache: Path, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    loaded, _, expected = run(script, "")
    assert loaded
    loaded, hit, found = run(script, "")
    assert not loaded
    assert hit
    assert found == expected
    assert expected["error"] == "x has to be positive"
    loaded, _, found = run(script, "first")  # numba is there already
    assert loaded
    assert found == expected
    for entry in cache.all_entries():
        if entry.path.parent == cache.by_graph():
            (entry.path / cache.CODE).write_bytes(b"damaged")
    loaded, _, found = run(script, "")
    assert loaded
    assert found == expected
    loaded, _, found = run(script, "")
    assert not loaded


def graph_of(function: Any, *args: Any) -> Any:
    return tg.trace(function).compiled(*args)._subject.version.primal


def compiled(function: Any, *args: Any) -> tuple[Program, native.Loaded]:
    program = graph_of(function, *args)
    assert program.built is not None
    found = known.load(program.key, lambda: program.built)
    assert found is not None
    return program, found


x = np.arange(6.0).reshape(2, 3)


def test_what_is_no_such_array_is_refused(private_cache: Path) -> None:
    _, found = compiled(lambda x, n: np.sum(x * n), x, 2.0)
    assert found.function(x, 2.0) == 30.0
    locked, packed = x.copy(), np.zeros(49, np.int8)[1:].view(np.float64).reshape(2, 3)
    locked.flags.writeable = False
    for wrong in (x.T, x[0], x[:, ::2], x[None], locked, packed, 1.0, None, np.ma.array(x), [x]):
        with pytest.raises(TypeError):
            found.function(wrong, 2.0)
    for arguments in ((), (x,), (x, 2.0, x)):
        with pytest.raises(TypeError):
            found.function(*arguments)


def test_a_key_depends_on_everything(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = graph_of(lambda x: np.sum(np.sin(x)), x)
    key = program.key

    def again() -> Any:
        known.surroundings.cache_clear()
        known.sources.cache_clear()
        fresh = Program(program.graph, program.name)
        return fresh.key

    assert again() == key
    with monkeypatch.context() as patched:
        patched.setenv("NUMBA_OPT", "1")
        assert again() != key
    with monkeypatch.context() as patched:
        patched.setattr(known, "package", lambda name: "another one")
        assert again() != key
    with monkeypatch.context() as patched:
        patched.setattr(known, "ROOTS", known.ROOTS[:1])
        assert again() != key
    with monkeypatch.context() as patched:
        patched.setattr(known, "STARTED", 0.0)
        assert again() is None
    with monkeypatch.context() as patched:
        patched.setenv("NUMBA_DISABLE_JIT", "1")
        assert again() is None
    assert again() == key


def test_no_key_with_settings_changed_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    program = graph_of(lambda x: np.sum(np.cos(x)), x)
    assert program.key is not None
    monkeypatch.setattr(config, "OPT", 1)
    assert Program(program.graph, program.name).key is None


def test_fingerprints_tell_graphs_apart() -> None:
    def of(function: Any, *args: Any) -> str | None:
        return fingerprint(graph_of(function, *args).final)

    def f(x, c):
        return np.sum(x * c)

    texts = [
        of(f, x, 2.0),
        of(f, x, np.float32(2)),
        of(f, x.astype(np.float32), 2.0),
        of(f, x[0], 2.0),
        of(f, x, x),
        of(f, x, 3),
        of(f, x, 4),
        *(of(lambda x, c=c: np.sum(x + np.array(c)), x) for c in ([1, 2, 3.0], [1, 2, 4.0])),
        *(of(lambda x, t=t: np.sum(x, axis=t), x) for t in (0, 1)),
        *(of(lambda x, n=n: tg.fori_loop(0, 5, lambda i, h: h * n, x), x) for n in (2.0, 3.0)),
    ]
    assert None not in texts
    assert len(set(texts)) == len(texts)
    assert of(f, x, 2.0) == of(f, x + 1, 5.0)


def test_a_graph_with_functions_of_the_user_has_none() -> None:
    doubled = tg.primitive(numba.njit(lambda x: 2 * x), shape=lambda x: x)
    assert fingerprint(graph_of(lambda x: np.sum(doubled(x)), x).final) is None


OPERATION = """
import json, sys
import numpy as np, tracegrad as tg
from codegen.expr import Call, Const
from tracegrad.ops.elementwise import Elementwise, row

factor = float(sys.argv[1])

class Scaled(Elementwise):
    def scalar_code(self, operands, dtype):
        return Call("multiply", (*operands, Const(factor, dtype)), dtype)

partials = [lambda x, y: 0 * x + factor]
options = dict(kind=Scaled, arity=1, like=np.exp, text="{0} * f")
scaled = row("scaled", lambda x: x * factor, partials, **options)
print(json.dumps(tg.trace(lambda x: np.sum(scaled(x)))(np.ones(3)).item()))
"""


def test_operations_of_the_user_are_not_found_by_their_name(
    private_cache: Path, tmp_path: Path
) -> None:
    script = tmp_path / "program.py"
    script.write_text(OPERATION)
    assert run(script, "2") == 6.0
    assert run(script, "5") == 15.0
