"""Polynomials in their coefficients and the variable, the highest power first, as NumPy has them.

    polyval(p, x)   is   (p[0] * x + p[1]) * x + p[2] ...        (Horner's rule)

How many coefficients there are is fixed in a compiled version: it is a guard.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.errors import UnsupportedError
from tracegrad.ir.dims import Size, in_figures, same
from tracegrad.ops.constant import astype
from tracegrad.ops.joining import stack
from tracegrad.ops.op import PUBLIC, as_operand, public, sample, type_of

MOST = 256
"""Coefficients: each is an operation of its own."""


def _count(size: Size, what: str) -> int:
    """An extent as a number that the version depends on. Raises UnsupportedError beyond `MOST`."""
    count = in_figures(size)
    if not isinstance(count, int) or count > MOST:
        raise UnsupportedError(
            f"{what} with {count} terms: each is an operation of its own, up to {MOST}; use "
            "tg.scan over the coefficients"
        )
    assert same(size, count)
    return count


@public(np.polyval)
def polyval(p: Any, x: Any) -> Any:
    """The polynomial with coefficients `p` (highest power first, up to 256) at `x`."""
    p, x = as_operand(p), as_operand(x)
    coefficients = [p[i] for i in range(_count(type_of(p).shape[0], "polyval"))]
    total = PUBLIC["zeros_like"](x)
    for coefficient in coefficients:
        total = total * x + coefficient
    return total


@public(np.vander)
def vander(x: Any, N: Any = None, increasing: bool = False) -> Any:
    """The powers of the vector `x` as columns, `N` of them (its length), falling or rising."""
    x = as_operand(x)
    if type_of(x).rank != 1:
        raise ValueError("x must be a one-dimensional array or sequence.")
    count = _count(type_of(x).shape[0], "vander") if N is None else _count(N, "vander")
    x = astype(x, np.promote_types(type_of(x).dtype, int))
    powers = [PUBLIC["ones_like"](x)]
    while len(powers) < count:
        powers.append(powers[-1] * x)
    columns = powers[:count] if increasing else powers[:count][::-1]
    return stack(columns, 1) if columns else PUBLIC["zeros"]((type_of(x).shape[0], 0))


@public(np.polyder)
def polyder(p: Any, m: int = 1) -> Any:
    """The coefficients of the `m`-th derivative."""
    p = as_operand(p)
    for _ in range(m):
        count = _count(type_of(p).shape[0], "polyder")
        p = p[:-1] * np.arange(count - 1, 0, -1)
    return p


@public(np.polyint)
def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    """The coefficients of the `m`-th integral; `k` are the constants of integration, first the
    one of the first integral (zeros)."""
    p = as_operand(p)
    constants = [0.0] * m if k is None else [k] * m if np.ndim(k) == 0 else list(k)
    if m < 0:
        raise ValueError("Order of integral must be positive (see polyder)")
    if len(constants) == 1:
        constants *= m
    if len(constants) < m:
        raise ValueError("k must be a scalar or a rank-1 array of length 1 or >m.")
    for constant in constants[:m]:
        count = _count(type_of(p).shape[0], "polyint")
        end = PUBLIC["reshape"](as_operand(constant), (1,))
        p = PUBLIC["concatenate"]((p / np.arange(count, 0, -1), end))
    return p


def _aligned(a1: Any, a2: Any) -> tuple[Any, Any]:
    """Both coefficients as vectors of one length, the shorter one after zeros."""
    first, second = (PUBLIC["atleast_1d"](as_operand(a)) for a in (a1, a2))
    sizes = [_count(type_of(a).shape[0], "a sum of polynomials") for a in (first, second)]
    most = max(sizes)
    padded = [
        a if size == most else PUBLIC["pad"](a, (most - size, 0))
        for a, size in zip((first, second), sizes, strict=True)
    ]
    return padded[0], padded[1]


@public(np.polyadd)
def polyadd(a1: Any, a2: Any) -> Any:
    """The coefficients of the sum of two polynomials."""
    first, second = _aligned(a1, a2)
    return first + second


@public(np.polysub)
def polysub(a1: Any, a2: Any) -> Any:
    """The coefficients of the difference of two polynomials."""
    first, second = _aligned(a1, a2)
    return first - second


@public(np.polymul)
def polymul(a1: Any, a2: Any) -> Any:
    """The coefficients of the product of two polynomials; leading zeros stay."""
    first, second = (PUBLIC["atleast_1d"](as_operand(a)) for a in (a1, a2))
    return PUBLIC["convolve"](first, second)


@public(np.polyfit)
def polyfit(
    x: Any, y: Any, deg: int, rcond: Any = None, full: bool = False, w: Any = None, cov: Any = False
) -> Any:
    """The coefficients of the polynomial of degree `deg` that fits `y` at `x` best: least squares
    on the columns of `vander(x)`, each divided by its length, as NumPy does it.

    `w` weighs the residuals. Raises UnsupportedError for `full` and `cov`.
    """
    if full or cov:
        raise UnsupportedError("polyfit: full= and cov= are not supported; it returns coefficients")
    x, y = as_operand(x) + 0.0, as_operand(y) + 0.0
    kind = type_of(x).dtype
    columns = vander(x, deg + 1)
    if w is not None:
        weights = as_operand(w)
        columns = astype(columns * weights[:, None], kind)
        weighted = y * (weights[:, None] if type_of(y).rank == 2 else weights)
        y = astype(weighted, type_of(y).dtype)
    scale = PUBLIC["sqrt"](PUBLIC["sum"](columns * columns, axis=0))
    found = PUBLIC["linalg.lstsq"](columns / scale, y, rcond)[0]
    return found / (scale[:, None] if type_of(found).rank == 2 else scale)


sample(lambda p, x: np.polyval(p, x), (4,), (2, 3))
sample(lambda p: (np.polyint(p), np.polyint(p, 2, k=[1.0, 2.0]), np.polyint(p, 0)), (3,))
sample(lambda p, q: (np.polyadd(p, q), np.polysub(p, q), np.polymul(p, q)), (4,), (2,))
sample(lambda p: np.polyadd(p, 2.0) * np.polysub([1.0, 0.0, 1.0], p[:2]), (3,))
sample(lambda y: np.polyfit(np.arange(5.0).astype(y.dtype), y, 2), (5,))
sample(lambda y: np.polyfit(np.arange(5.0), y, 1, w=np.arange(1.0, 6.0)), (5, 2))
sample(lambda p, x: np.polyval(p, x[0]) * np.polyval([1.0, 2.0], x), (3,), (2,))
sample(lambda p: np.polyval([2, 0, 1], p), (3,), kinds="fi", smooth=False)
sample(lambda x: (np.vander(x), np.vander(x, 2), np.vander(x, 4, increasing=True)), (3,))
sample(lambda p, x: np.polyval(np.polyder(p), x) + np.polyval(np.polyder(p, 2), x), (5,), (3,))
sample(lambda x, y: np.polyfit(x + np.arange(5.0), y, 2), (5,), (5,))
