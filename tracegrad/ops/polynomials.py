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


@public(np.polyfit)
def polyfit(x: Any, y: Any, deg: int) -> Any:
    """The coefficients, highest power first, of the polynomial of degree `deg` nearest to `y`, a
    vector or a matrix of columns, at the places `x`."""
    powers = vander(astype(as_operand(x), np.float64), deg + 1)
    scale = PUBLIC["sqrt"](PUBLIC["sum"](powers * powers, axis=0))
    found = PUBLIC["linalg.lstsq"](powers / scale, as_operand(y))[0]
    return PUBLIC["transpose"](PUBLIC["transpose"](found) / scale)


@public(np.polyder)
def polyder(p: Any, m: int = 1) -> Any:
    """The coefficients of the `m`-th derivative."""
    p = as_operand(p)
    for _ in range(m):
        count = _count(type_of(p).shape[0], "polyder")
        p = p[:-1] * np.arange(count - 1, 0, -1)
    return p


sample(lambda p, x: np.polyval(p, x), (4,), (2, 3))
sample(lambda p, x: np.polyval(p, x[0]) * np.polyval([1.0, 2.0], x), (3,), (2,))
sample(lambda p: np.polyval([2, 0, 1], p), (3,), kinds="fi", smooth=False)
sample(lambda x: (np.vander(x), np.vander(x, 2), np.vander(x, 4, increasing=True)), (3,))
sample(lambda p, x: np.polyval(np.polyder(p), x) + np.polyval(np.polyder(p, 2), x), (5,), (3,))
sample(lambda x, y: np.polyfit(x + np.arange(5.0), y, 2), (5,), (5,))
