"""What the functions are measured against: mpmath, in units in the last place (ulp).

Used by the tests and by `benchmarks/vecmath.py`; mpmath is a test extra.

    ulps(np.array([1.0000000000000002]), [mp.mpf(1)], np.dtype(float)) = [1.0]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath as mp
import numpy as np


@dataclass(frozen=True)
class Reference:
    """A function, the interval its users live in, and how far it is defined and worth testing."""

    name: str
    function: Callable[..., Any]
    low: float
    high: float
    floor: float = -np.inf
    ceiling: float = np.inf
    arity: int = 1
    ulp: float = 2.0


def sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def softplus(x: Any) -> Any:
    return mp.log1p(mp.exp(x))


def log_add(a: Any, b: Any) -> Any:
    return max(a, b) + mp.log1p(mp.exp(-abs(a - b)))


def log_add_2(a: Any, b: Any) -> Any:
    return max(a, b) + mp.log1p(mp.mpf(2) ** -abs(a - b)) / mp.log(2)


def log_abs_gamma(x: Any) -> Any:
    return mp.log(abs(mp.gamma(x)))


REFERENCES = (
    Reference("exp", mp.exp, -10, 10, -760, 720),
    Reference("expm1", mp.expm1, -3, 3, -760, 720),
    Reference("exp2", lambda x: mp.mpf(2) ** x, -10, 10, -1100, 1030),
    Reference("log", mp.log, 0.1, 10, 0),
    Reference("log1p", mp.log1p, -0.9, 5, -1),
    Reference("log2", lambda x: mp.log(x) / mp.log(2), 0.1, 10, 0),
    Reference("log10", lambda x: mp.log(x) / mp.log(10), 0.1, 10, 0),
    Reference("sigmoid", sigmoid, -10, 10, -760, 760),
    Reference("softplus", softplus, -10, 10, -760, 760),
    Reference("tanh", mp.tanh, -3, 3, -760, 760),
    Reference("sinh", mp.sinh, -5, 5, -720, 720),
    Reference("cosh", mp.cosh, -5, 5, -720, 720),
    Reference("sin", mp.sin, -10, 10),
    Reference("cos", mp.cos, -10, 10),
    Reference("tan", mp.tan, -10, 10),
    Reference("arcsin", mp.asin, -1, 1, -1, 1),
    Reference("arccos", mp.acos, -1, 1, -1, 1),
    Reference("arctan", mp.atan, -5, 5),
    Reference("arcsinh", mp.asinh, -5, 5),
    Reference("arccosh", mp.acosh, 1, 9, 1),
    Reference("arctanh", mp.atanh, -0.999, 0.999, -0.9999999, 0.9999999),
    Reference("cbrt", lambda x: mp.sign(x) * mp.cbrt(abs(x)), -10, 10),
    Reference("erf", mp.erf, -4, 4, -30, 30),
    Reference("erfc", mp.erfc, -4, 9, -30, 30),
    Reference("gammaln", log_abs_gamma, 0.1, 20, 0, 1e30),
    Reference("gamma", mp.gamma, 0.1, 20, 1e-300, 175),
    Reference("arctan2", mp.atan2, -5, 5, arity=2),
    Reference("hypot", mp.hypot, -5, 5, arity=2),
    Reference("power", lambda x, y: x**y, 0.1, 10, 0, 1e6, arity=2),
)
# Their error stays small beside the larger operand only: the terms of the sum may cancel.
ABSOLUTE = (
    Reference("logaddexp", log_add, -5, 5, -700, 700, arity=2),
    Reference("logaddexp2", log_add_2, -5, 5, -700, 700, arity=2),
    Reference("digamma", mp.digamma, 0.1, 20, 1e-3, 1e30, ulp=10.0),
)


def sample(row: Reference, dtype: np.dtype, count: int, seed: int = 0) -> list[np.ndarray]:
    """Arguments: from the usual interval, near zero, and random bit patterns (all exponents)."""
    random = np.random.default_rng(seed)
    whole = np.dtype(f"i{dtype.itemsize}")
    limits = np.iinfo(whole)
    columns = []
    for _ in range(row.arity):
        usual = random.uniform(row.low, row.high, count)
        near = random.uniform(row.low, row.high, count) * 2.0 ** -random.integers(1, 40, count)
        patterns = random.integers(limits.min, limits.max, 4 * count, whole).view(dtype)
        patterns = patterns[np.isfinite(patterns)]
        if row.floor == 0:
            patterns = np.abs(patterns)
        values = np.concatenate([usual, near, patterns[:count].astype(float)]).astype(dtype)
        values[(values < row.floor) | (values > row.ceiling)] = dtype.type(row.high)
        columns.append(random.permutation(values))
    return columns


def exact(row: Reference, columns: Sequence[np.ndarray]) -> list[Any]:
    """The function on these arguments with 40 digits more than float64 has."""
    with mp.workprec(200):
        return [
            row.function(*map(mp.mpf, map(float, point))) for point in zip(*columns, strict=True)
        ]


def ulps(result: np.ndarray, expected: Sequence[Any], dtype: np.dtype, unit: float = 0.0) -> Any:
    """|result - expected| in units in the last place of `expected` (at least of `unit`)."""
    info = np.finfo(dtype)
    errors = np.zeros(len(expected))
    for k, (got, want) in enumerate(zip(result, expected, strict=True)):
        size = max(abs(want), mp.mpf(unit), mp.mpf(float(info.tiny)))
        step = mp.ldexp(1, mp.frexp(size)[1] - 1 - info.nmant)
        if abs(want) >= mp.mpf(float(info.max)) + step / 2:
            errors[k] = 0.0 if np.isinf(got) and (got > 0) == (want > 0) else np.inf
        else:
            errors[k] = float(abs(mp.mpf(float(got)) - want) / step)
    return errors
