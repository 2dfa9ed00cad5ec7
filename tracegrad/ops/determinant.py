"""Determinants from the LU factors: `slogdet`, and `det` as NumPy has it, `sign * exp(logabsdet)`.

    y = logabsdet(a)    =>    d_a = d_y * inv(a).T

The derivative at a singular matrix raises `numpy.linalg.LinAlgError`; the value is -inf (det: 0).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tracegrad.ir.op import Array
from tracegrad.ops.axes import expand_dims, matrix_transpose
from tracegrad.ops.constant import ARANGE, astype
from tracegrad.ops.exponential import EXP
from tracegrad.ops.known import Known
from tracegrad.ops.linalg import square
from tracegrad.ops.lu import factors
from tracegrad.ops.op import PUBLIC, bind, public, register, sample, type_of
from tracegrad.ops.solving import inverse


class LogAbsDet(Known):
    """`d_a = d_y * inv(a).T`; the factors of `a` stand between it and the value."""

    name = "logabsdet"

    def vjp(
        self,
        wanted: tuple[bool, ...],
        ct: Array,
        out: Array,
        a: Array,
        lu: Array,
        pivots: Array,
        y: Array,
    ) -> tuple[Array | None, ...]:
        transposed = matrix_transpose(inverse(a, lu, pivots))
        return expand_dims(ct, (-2, -1)) * transposed, None, None, None


LOGABSDET = register(LogAbsDet())


class SlogdetResult(NamedTuple):
    """As NumPy's: `det(a) = sign * exp(logabsdet)`."""

    sign: Any
    logabsdet: Any


@public(np.linalg.slogdet, name="linalg.slogdet")
def slogdet(a: Any) -> SlogdetResult:
    """Sign and logarithm of the absolute determinant: 0 and -inf for a singular matrix."""
    a = square(a)
    lu, pivots = factors(a)
    diagonal = PUBLIC["diagonal"](lu, 0, -2, -1)
    size = PUBLIC["sum"](_logarithms(diagonal), axis=-1)
    return SlogdetResult(_sign(diagonal, pivots), bind(LOGABSDET, a, lu, pivots, size))


def _logarithms(diagonal: Any) -> Any:
    """`log(abs(d))`; of 0 it is no surprise here, so NumPy does not warn."""
    where, zero = PUBLIC["where"], diagonal == 0
    return where(zero, -np.inf, PUBLIC["log"](where(zero, 1.0, PUBLIC["abs"](diagonal))))


def _sign(diagonal: Any, pivots: Any) -> Any:
    """The sign of the product of the diagonal, turned by each change of rows."""
    where = PUBLIC["where"]
    swapped = pivots != bind(ARANGE, size=type_of(pivots).shape[-1])
    turned = where((diagonal < 0) != swapped, -1.0, 1.0)
    sign = where(diagonal == 0, 0.0, turned)
    return astype(PUBLIC["prod"](sign, axis=-1), type_of(diagonal).dtype)


@public(np.linalg.det, name="linalg.det")
def det(a: Any) -> Any:
    """The determinant of each matrix."""
    sign, logarithm = slogdet(a)
    return sign * EXP(logarithm)


sample(lambda x: np.linalg.det(x + 3 * np.eye(3)), (3, 3))
sample(lambda x: np.linalg.det(x @ np.swapaxes(x, -1, -2) + np.eye(3)), (2, 3, 3))
sample(lambda x: np.linalg.slogdet(x - 3 * np.eye(3)), (3, 3))
sample(lambda x: np.linalg.slogdet(x[:, ::-1] + 3 * np.eye(3))[1] ** 2, (2, 3, 3))
sample(lambda x: np.linalg.slogdet(x), (0, 0))
sample(lambda x: np.linalg.det(x), (3, 3), kinds="i", smooth=False)
sample(lambda x: np.linalg.det(x * 0), (2, 2), smooth=False)
