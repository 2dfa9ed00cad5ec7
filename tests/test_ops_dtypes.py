"""Result dtypes of every elementwise row for every pair of operand dtypes: NEP 50, as NumPy has it.

Only types are computed: nothing is traced or compiled.
"""

from __future__ import annotations

from importlib.metadata import version
from itertools import product
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tests import oracle
from tracegrad.errors import UnsupportedError
from tracegrad.ops import REGISTRY
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.op import type_of
from tracegrad.ops.scipy import SciPy

ROWS = [op for op in REGISTRY.values() if isinstance(op, Elementwise)]
ARRAYS = [
    np.ones(1, dtype) for dtype in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")
]
OPERANDS: list[Any] = [*ARRAYS, 1, 1.0]
OURS = ("softplus", "relu")
"""Rows that no library has as such: their references take arrays only."""


NEWER_SCIPY = tuple(map(int, version("scipy").split(".")[:2])) >= (1, 18)
"""From 1.18 on `scipy.special` computes in float32 with small integers; ours are float64, as they
were, whatever SciPy there is."""


def is_floating(arg: Any) -> bool:
    return isinstance(arg, np.ndarray) and arg.dtype.kind == "f"


def loop_of(op: Elementwise, args: tuple[Any, ...]) -> Any:
    """Our result dtype, or the class of the error."""
    try:
        return op.loop_dtypes([type_of(arg) for arg in args])[-1]
    except UnsupportedError:
        return np.dtype(np.float16)
    except TypeError:
        return TypeError


def loop_of_numpy(op: Elementwise, args: tuple[Any, ...]) -> Any:
    try:
        with np.errstate(all="ignore"):
            return np.asarray(op.numpy(*args)).dtype
    except TypeError:
        return TypeError


@pytest.mark.parametrize("op", [op for op in ROWS if op.arity < 3], ids=lambda op: op.name)
def test_result_dtypes(op: Elementwise) -> None:
    for args in product(OPERANDS, repeat=op.arity):
        if op.name in OURS and not isinstance(args[0], np.ndarray):
            continue
        if not any(isinstance(arg, np.ndarray) for arg in args):
            continue
        if isinstance(op.numpy, SciPy) and NEWER_SCIPY and not all(map(is_floating, args)):
            continue
        ours, numpys = loop_of(op, args), loop_of_numpy(op, args)
        kinds = ", ".join(str(getattr(arg, "dtype", type(arg).__name__)) for arg in args)
        assert ours == numpys, f"{op.name}({kinds}): {ours}, NumPy {numpys}"


@pytest.mark.parametrize("pair", list(product(OPERANDS, repeat=2)), ids=lambda p: "")
def test_where_and_clip(pair: tuple[Any, Any]) -> None:
    a, b = pair
    where, clip = REGISTRY["where"], REGISTRY["clip"]
    condition = np.ones(1, bool)
    assert loop_of(where, (condition, a, b)) == np.where(condition, a, b).dtype  # type: ignore[arg-type]
    if isinstance(a, np.ndarray):
        assert loop_of(clip, (a, a, b)) == np.clip(a, a, b).dtype  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("program", "x", "error"),
    [
        (lambda x: x + 300, np.ones(2, np.uint8), OverflowError),
        (lambda x: x - (-1), np.ones(2, np.uint8), OverflowError),
        (lambda x: np.maximum(x, 2**70), np.ones(2, np.int64), OverflowError),
        (lambda x: x - x, np.ones(2, bool), TypeError),
        (lambda x: -x, np.ones(2, bool), TypeError),
        (lambda x: x << 1, np.ones(2), TypeError),
        (lambda x: ~x, np.ones(2), TypeError),
        (lambda x: x ** (-1), np.ones(2, int), ValueError),
        (lambda x: np.positive(x), np.ones(2, bool), TypeError),
    ],
)
def test_errors_are_numpys(program: Any, x: np.ndarray, error: type[Exception]) -> None:
    with pytest.raises(error):
        program(x)
    with pytest.raises(error):
        oracle.interpreted(program, x)


@pytest.mark.parametrize(
    "program",
    [
        lambda x: (x < 300, x >= 300, x == 300, x != 300),
        lambda x: (x > -1, x <= -1, np.less(-1, x), np.greater(2**70, x)),
        lambda x: (x < 2**64, x == 2**70),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "int64", "uint64"])
def test_comparison_with_integers_out_of_range(program: Any, dtype: str) -> None:
    x = np.array([[0, 7], [100, 255]]).astype(dtype)
    for got, want in zip(oracle.interpreted(program, x), program(x), strict=True):
        oracle.assert_exact(got, want)


def test_half_precision_is_refused_with_the_cure() -> None:
    with pytest.raises(UnsupportedError, match=r"exp of i8 gives float16.*astype\(np.float32\)"):
        oracle.interpreted(np.exp, np.ones(2, np.int8))


@pytest.mark.parametrize(
    "program",
    [
        lambda x: x / x.shape[0] ** 0.5,
        lambda x: x * (x.shape[0] / 2),
        lambda x: x * (1 / x.size),
        lambda x: x * (x.shape[0] / 3 + 1) ** 0.5,
        lambda x: x * 2.0 ** x.shape[0] - (-len(x)) / 2,
    ],
)
def test_arithmetic_of_extents_is_pythons(program: Any) -> None:
    """`n / 2` is a Python float: it does not turn float32 into float64."""
    x = np.linspace(1, 2, 5, dtype=np.float32)
    assert tg.trace(program)(x).dtype == program(x).dtype == np.float32
    np.testing.assert_allclose(tg.trace(program)(x), program(x), rtol=1e-6)
    assert tg.grad(lambda x: np.sum(program(x)))(x).dtype == np.float32
