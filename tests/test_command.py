"""`python -m tracegrad cache ls|clear|verify` and `doctor`: what they print and what they leave."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import tracegrad as tg
from codegen import cache
from tracegrad import doctor
from tracegrad.__main__ import main

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tracegrad"


def compiled(name: str) -> None:
    """Leave one entry behind."""
    function = tg.trace(lambda x: np.sum(x * x))
    function.name = name
    function(np.ones(3))


def test_ls_tells_entries_and_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    compiled("first")
    compiled("second")
    assert main(["cache", "ls"]) == 0
    *rows, total = capsys.readouterr().out.splitlines()
    names = [re.match(r"(\w+)_[0-9a-f]{24}  +[\d.]+ KiB  used \d{4}-\d\d-\d\d", r) for r in rows]
    assert {match[1] for match in names if match} == {"first", "second"}
    assert re.match(r"2 entries, [\d.]+ KiB of 512.0 MiB in ", total)


def test_clear_removes_everything(capsys: pytest.CaptureFixture[str]) -> None:
    compiled("first")
    assert main(["cache", "clear"]) == 0
    assert "removed 1 entry" in capsys.readouterr().out
    assert not cache.entries()


def test_verify_finds_and_removes_the_damaged(capsys: pytest.CaptureFixture[str]) -> None:
    compiled("sound")
    compiled("broken")
    broken = next(entry for entry in cache.entries() if entry.name.startswith("broken"))
    (broken.path / cache.CODE).write_bytes(b"not code")
    assert main(["cache", "verify"]) == 1
    output = capsys.readouterr().out
    assert f"removed {broken.name}: its digests do not agree" in output
    assert "2 entries checked, 1 damaged" in output
    assert main(["cache", "verify"]) == 0


def test_an_unknown_action_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["cache", "burn"])
    assert exit.value.code == 2
    assert "ls" in capsys.readouterr().err


def test_the_doctor_finds_this_machine_well() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tracegrad", "doctor"], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stdout + result.stderr
    states = [line.split()[:2] for line in result.stdout.splitlines()]
    assert states == [["ok", check.__name__] for check in doctor.CHECKS]


def test_the_doctor_says_what_is_wrong(
    private_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    private_cache.mkdir()
    private_cache.chmod(0o777)
    monkeypatch.setattr(numba.config, "BOUNDSCHECK", 1)
    assert doctor.report() == 1
    output = capsys.readouterr().out
    assert re.search(r"wrong settings  NUMBA_BOUNDSCHECK is set: every index is checked", output)
    assert re.search(r"wrong storage   .* is open to others or not yours: chmod 700 it", output)


def test_a_sweep_is_made_now_and_then(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps: list[Path] = []
    monkeypatch.setattr(cache, "prune", lambda keep: sweeps.append(keep))
    compiled("first")
    compiled("second")
    assert len(sweeps) == 1
    monkeypatch.setattr(cache, "SWEEP", 0.0)
    compiled("third")
    assert len(sweeps) == 2
