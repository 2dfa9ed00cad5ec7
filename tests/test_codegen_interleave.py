"""Loops with vector math are interleaved, and a slow path spares the registers around it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numba.core import config

import tracegrad as tg
from codegen.vecmath import rare

pytestmark = pytest.mark.skipif(vars(config)["DISABLE_JIT"], reason="needs compiled code")


@pytest.fixture(autouse=True)
def fresh_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """numba shows no code of what comes from disk."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def code_of(function: object, *arguments: np.ndarray) -> str:
    traced = tg.trace(function)
    traced(*arguments)
    (text,) = traced.compiled(*arguments).forward.inspect_llvm().values()
    return text


def wave(x: np.ndarray) -> np.ndarray:
    return np.sin(x)


def twice(x: np.ndarray) -> np.ndarray:
    return 2 * x


def test_two_vectors_at_a_time() -> None:
    text = code_of(wave, np.ones(100))
    lanes = [int(found) for found in re.findall(r"call \S* ?<(\d+) x double> @rare_sin", text)]
    assert lanes.count(max(lanes)) >= 2  # one more where the rest is vectorised


def heads(x: np.ndarray) -> np.ndarray:
    return np.transpose(np.reshape(x, (4, 32, 4, 16)), (0, 2, 1, 3))


def small(x: np.ndarray) -> np.ndarray:
    return np.transpose(np.reshape(x, (3, 4, 5)), (2, 0, 1))


def test_long_nests_of_known_extents_are_not_written_out() -> None:
    x = np.arange(4 * 32 * 4 * 16).astype("f4")
    text = code_of(heads, x)
    assert "llvm.loop.unroll.disable" in text
    assert text.count("\n") < 1_000
    np.testing.assert_array_equal(tg.trace(heads)(x), heads(x))


def test_short_nests_are_left_to_the_compiler() -> None:
    assert "llvm.loop.unroll.disable" not in code_of(small, np.arange(60.0))


def test_plain_loops_are_left_to_the_compiler() -> None:
    assert "llvm.loop.interleave.count" not in code_of(twice, np.ones(100))


def test_every_lane_and_the_rest_may_take_the_slow_path() -> None:
    x = np.linspace(-3, 3, 67)
    for at in range(len(x)):
        y = x.copy()
        y[at] = 1e22
        assert np.allclose(tg.trace(wave)(y), np.sin(y), rtol=1e-15, atol=1e-16)


@pytest.mark.parametrize(
    ("features", "keeps"),
    [({"avx": True}, False), ({"avx": True, "avx512f": True}, True), ({"avx": False}, True)],
)
def test_registers_are_kept_where_nothing_clears_them(
    monkeypatch: pytest.MonkeyPatch, features: dict[str, bool], keeps: bool
) -> None:
    monkeypatch.setattr(rare, "X86", True)
    monkeypatch.setattr(rare.llvm, "get_host_cpu_features", lambda: features)
    assert bool(rare.convention()) == keeps
