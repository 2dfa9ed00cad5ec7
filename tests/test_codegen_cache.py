"""The disk cache: hits across processes, and every kind of damage is a miss that heals itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numba
import numpy as np
import pytest

import codegen
from codegen import cache, keys, module
from codegen.expr import INT, Call, Const, Expr, Load, Var
from codegen.loops import (
    Accumulate,
    Alloc,
    Assign,
    Check,
    For,
    Function,
    Module,
    Parameter,
    Return,
    Store,
)

F8 = np.dtype(np.float64)
ROOT = Path(__file__).parents[1]


def scaled_sum(factor: float, name: str = "scaled") -> Module:
    """`out = factor * x`, and the sum of it."""
    i, n = Var("i"), Var("n")
    value: Expr = Call("multiply", (Load("x", (i,), F8), Const(factor, F8)), F8)
    body = (
        Alloc("out", (n,), F8, temporary=False),
        Assign(Var("total", F8), Const(0.0, F8)),
        Check(Call("greater", (n, Const(0, INT)), np.dtype(bool)), "ValueError", "x is empty"),
        For(i, n, (Store("out", (i,), value), Accumulate("total", None, "add", value, F8))),
        Return(("out", Var("total", F8))),
    )
    return Module((Function(name, (Parameter("x", F8, 1),), body, "", (("n", "x", 0),)),))


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache, "_warned", set())
    return tmp_path / "tracegrad"


def check(built: module.Built, factor: float, name: str = "scaled") -> None:
    out, total = built.functions[name](np.arange(5.0))
    np.testing.assert_array_equal(out, factor * np.arange(5.0))
    assert total == factor * 10
    with pytest.raises(ValueError, match="x is empty"):
        built.functions[name](np.zeros(0))


def test_a_second_build_is_a_hit_and_calls_from_njit_work() -> None:
    assert codegen.build(scaled_sum(2.0)).cache == "miss: not compiled before"
    built = codegen.build(scaled_sum(2.0))
    assert built.cache == "hit"
    check(built, 2.0)
    function = built.functions["scaled"]
    user = numba.njit(lambda x: function(x)[1] + 1.0)
    assert user(np.arange(5.0)) == 21.0


def test_a_miss_says_what_differed() -> None:
    first = codegen.build(scaled_sum(2.0))
    other = codegen.build(scaled_sum(3.0))
    assert other.cache == f"miss: another text than {first.path.stem}"
    check(other, 3.0)


def damage(folder: Path, kind: str) -> None:
    code, record = folder / cache.CODE, folder / cache.RECORD
    match kind:
        case "truncated code":
            code.write_bytes(code.read_bytes()[:100])
        case "a flipped bit":
            data = bytearray(code.read_bytes())
            data[len(data) // 2] ^= 1
            code.write_bytes(data)
        case "empty record":
            record.write_text("")
        case "another record":
            record.write_text("[1, 2]")
        case "no code":
            code.unlink()
        case "edited module":
            next(folder.glob("*.py")).write_text("x = 1\n")
        case "open to others":
            folder.chmod(0o777)
        case "a link":
            moved = folder.rename(folder.with_name("elsewhere"))
            folder.symlink_to(moved)


KINDS = ["truncated code", "a flipped bit", "empty record", "another record", "no code",
         "edited module", "open to others", "a link"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_a_miss_and_heals(kind: str) -> None:
    folder = codegen.build(scaled_sum(2.0)).path.parent
    damage(folder, kind)
    built = codegen.build(scaled_sum(2.0))
    assert built.cache.startswith("miss: the entry is damaged"), built.cache
    check(built, 2.0)
    assert codegen.build(scaled_sum(2.0)).cache == "hit"


def test_verify_and_clear() -> None:
    good, bad = codegen.build(scaled_sum(2.0)).path, codegen.build(scaled_sum(3.0)).path
    damage(bad.parent, "a flipped bit")
    assert cache.verify() == {good.stem: "ok", bad.stem: "its digests do not agree"}
    assert [entry.name for entry in cache.entries()] == [good.stem]
    assert cache.clear() == 1
    assert cache.entries() == []


def test_prune_keeps_what_was_used_last() -> None:
    paths = [codegen.build(scaled_sum(float(k))).path.parent for k in (2, 3, 4)]
    for age, path in zip((30, 10, 20), paths, strict=True):
        for file in path.iterdir():
            os.utime(file, (time.time() - age, time.time() - age))
    sizes = {entry.path: entry.bytes for entry in cache.entries()}
    cache.prune(limit=sizes[paths[1]] + sizes[paths[2]])
    assert [entry.path for entry in cache.entries()] == [paths[1], paths[2]]


def test_a_cache_that_cannot_be_written_warns_once(private_cache: Path) -> None:
    private_cache.parent.joinpath("tracegrad").write_text("a file where the directory should be")
    with pytest.warns(cache.CacheWarning, match="not kept"):
        check(codegen.build(scaled_sum(2.0)), 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(codegen.build(scaled_sum(3.0)), 3.0)


def test_a_full_disk_leaves_nothing_behind(
    private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    with pytest.warns(cache.CacheWarning, match="No space left"):
        check(codegen.build(scaled_sum(2.0)), 2.0)
    assert list(private_cache.iterdir()) == []


def test_the_key_covers_what_makes_the_code(tmp_path: Path) -> None:
    """Functions in LLVM of few unknowns were missing: a later release would have used old ones."""
    package, copy = Path(codegen.__file__).parent, tmp_path / "codegen"
    shutil.copytree(package, copy)
    own = keys.sources(copy)
    assert own in (text for _, text in keys.surroundings())
    for changed in ("compiler.py", "emit/lowering.py", "library/small.py", "vecmath/special.py"):
        path = copy / changed
        text = path.read_text("utf-8")
        path.write_text(text + "# changed\n", "utf-8")
        assert keys.sources(copy) != own, changed
        path.write_text(text, "utf-8")
    assert keys.sources(copy) == own


def test_the_key_covers_numbas_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    codegen.build(scaled_sum(2.0))
    monkeypatch.setattr(numba.config, "OPT", numba.config.OPT.__class__(1), raising=False)
    assert codegen.build(scaled_sum(2.0)).cache.startswith("miss: another numba settings")


SCRIPT = """
import sys
import numpy as np
sys.path.insert(0, {tests!r})
from test_codegen_cache import check, codegen, scaled_sum
built = codegen.build(scaled_sum(2.0))
check(built, 2.0)
print(built.cache)
"""


def start() -> subprocess.Popen[str]:
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment
    )


def test_processes_share_one_cold_cache() -> None:
    together = [start() for _ in range(3)]
    for process in together:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0 and output.startswith(("miss", "hit"))
    output, _ = start().communicate(timeout=120)
    assert output == "hit\n"
    assert list(cache.verify().values()) == ["ok"]
    assert not list(cache.directory().glob(".*/"))


def test_threads_may_build_at_the_same_time() -> None:
    found: list[module.Built] = []
    threads = [
        threading.Thread(
            target=lambda k=k: found.append(codegen.build(scaled_sum(float(k % 2 + 2))))
        )
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(built.functions["scaled"](np.ones(1))[1] for built in found) == [2, 2, 3, 3]


def test_what_numba_refuses_carries_the_text() -> None:
    body = (Return((Load("x", (Var("i"), Var("i")), F8),)),)
    wrong = Module((Function("f", (Parameter("x", F8, 1),), body, "", (("i", "x", 0),)),))
    with pytest.raises(codegen.CompileError, match="numba refused f") as caught:
        codegen.build(wrong)
    assert "return x[i, i]" in caught.value.source


def test_bounds_are_checked_on_request() -> None:
    body = (Return((Load("x", (Var("n"),), F8),)),)
    past = Module((Function("f", (Parameter("x", F8, 1),), body, "", (("n", "x", 0),)),))
    built = codegen.build(past, options=module.Options(boundscheck=True))
    with pytest.raises(IndexError):
        built.functions["f"](np.zeros(3))
