"""Every row of the elementwise tables against NumPy: values, special values, layouts, derivatives.

Rows of one arity and dtype are compiled together, a dozen a program; derivatives are interpreted,
which costs no compilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tests import oracle
from tracegrad.function import Function
from tracegrad.ir.types import ArrayType
from tracegrad.ops import REGISTRY
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.scipy import SciPy

ROWS = [op for op in REGISTRY.values() if isinstance(op, Elementwise)]
BY_NAME = {op.name: op for op in ROWS}
CHUNK = 12
COLUMNS = 8

INEXACT = set(
    "exp exp2 expm1 log log2 log10 log1p logaddexp logaddexp2 sinh cosh tanh arcsinh arccosh "
    "arctanh sin cos tan arcsin arccos arctan arctan2 hypot cbrt power float_power deg2rad "
    "rad2deg sinc softplus".split()
)
"""NumPy's functions that do not round exactly; scipy's (`SciPy` references) do not either."""

VECMATH_ULPS = 2
"""What codegen.vecmath promises, against the true value."""

SCIPY_ULPS = 64
"""Between two implementations of a special function, each a chain of some 16 roundings of values
no larger than a few times the result."""


def program_of(ops: Sequence[Elementwise]) -> Any:
    return lambda *xs: tuple(op(*xs) for op in ops)


def runs_on(op: Elementwise, dtype: np.dtype) -> bool:
    """Whether NumPy has a loop of the op that computes in `dtype` itself."""
    if dtype.kind not in op.kinds:
        return False
    try:
        loop = op.loop_dtypes([ArrayType(dtype)] * op.arity)
    except TypeError:
        return False
    return dtype in loop[: op.arity]


def chunks() -> list[Any]:
    found = []
    for arity in (1, 2, 3):
        for dtype in oracle.dtypes_of("fiub"):
            ops = [op for op in ROWS if op.arity == arity and runs_on(op, dtype)]
            for start in range(0, len(ops), CHUNK):
                names = tuple(op.name for op in ops[start : start + CHUNK])
                label = f"{dtype.name}-{arity}-{start // CHUNK}"
                found.append(pytest.param(names, dtype, arity, id=label))
    return found


@cache
def special_arguments(dtype: np.dtype, arity: int) -> tuple[np.ndarray, ...]:
    """All combinations of special values, and random ones of everyday size, as matrices."""
    values = oracle.special_values(dtype)
    if arity == 3:
        values = values[:: max(1, len(values) // 12)]
    grids = [grid.ravel() for grid in np.meshgrid(*[values] * arity, indexing="ij")]
    rng = np.random.default_rng(arity)
    everyday = [oracle.draw(rng, (200,), dtype, (-5, 5)) for _ in range(arity)]
    columns = [np.concatenate(parts) for parts in zip(grids, everyday, strict=True)]
    padding = -len(columns[0]) % COLUMNS
    return tuple(np.pad(c, (0, padding), mode="edge").reshape(-1, COLUMNS) for c in columns)


def replaces_arguments(op: Elementwise, dtype: np.dtype) -> bool:
    whole = dtype.kind in "iu" and op.name in ("power", "reciprocal")
    return whole or op.name == "polygamma"


def arguments_for(op: Elementwise, columns: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """`columns` where the op and its reference are defined."""
    first = columns[0]
    if op.name == "power" and first.dtype.kind == "i":  # NumPy raises for negative exponents
        return first, np.abs(columns[1] % 64)
    if op.name == "reciprocal" and first.dtype.kind in "iu":  # 1/0: what C happens to do
        return (np.where(first == 0, first.dtype.type(1), first),)
    if isinstance(op.numpy, SciPy):
        columns = tuple(map(without_scipy_errors, columns))
    if op.name == "polygamma":
        return np.arange(first.size).reshape(first.shape).astype(first.dtype) % 4, columns[1]
    return columns


def without_scipy_errors(x: np.ndarray) -> np.ndarray:
    """Subnormal numbers overflow in scipy's kl_div and gammaln; beside the poles of the gamma
    function, the negative integers, its results depend on how the argument was rounded."""
    small = np.abs(x) < np.finfo(x.dtype).tiny
    pole = (x < -1e-3) & (x != np.rint(x)) & (np.abs(x - np.rint(x)) < 1e-3)
    return np.where(small, x.dtype.type(0), np.where(pole, x.dtype.type(-0.5), x))


def truth(op: Elementwise, columns: tuple[np.ndarray, ...]) -> tuple[Any, float, Any]:
    """What the op should give, to how many ulps, in units of at least which size."""
    with np.errstate(all="ignore"):
        plain = op.numpy(*columns)
        if isinstance(op.numpy, SciPy):  # which does not keep the sign of zero
            size = _everyday_size(plain, columns)
            return plain, SCIPY_ULPS, np.maximum(size, np.finfo(size.dtype).tiny)
        if op.name == "sinc":  # NumPy rounds pi x first; both sines are within 2 ulp (f32: 4)
            return plain, 8, 0.0
        if op.name not in INEXACT or plain.dtype.kind != "f":
            return plain, 0, 0.0
        wider = oracle.WIDER[plain.dtype]
        wide = op.numpy(*(column.astype(wider) for column in columns)).astype(plain.dtype)
    return wide, VECMATH_ULPS, _everyday_size(plain, columns) if "add" in op.name else 0.0


def _everyday_size(plain: Any, columns: tuple[np.ndarray, ...]) -> Any:
    """Sums of terms of the arguments' size may cancel: rounding counts in units of the terms."""
    size = np.zeros(plain.shape, plain.dtype)
    for column in columns:
        size = np.maximum(size, np.where(np.isfinite(column), np.abs(column), 0))
    return size


@pytest.mark.parametrize(("names", "dtype", "arity"), chunks())
def test_values_and_special_values(names: tuple[str, ...], dtype: np.dtype, arity: int) -> None:
    ops = [BY_NAME[name] for name in names]
    columns = special_arguments(dtype, arity)
    plain = [op for op in ops if not replaces_arguments(op, dtype)]
    results = dict(zip(plain, oracle.compiled(program_of(plain), *columns), strict=True))
    failures = []
    for op in ops:
        mine = arguments_for(op, columns)
        got = results[op] if op in results else oracle.compiled(program_of([op]), *mine)[0]
        want, ulps, scale = truth(op, mine)
        try:
            oracle.assert_close(got, want, ulps, op.name, mine, scale)
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)
