"""Rounding: piecewise constant, so the derivative is zero (and there is none for integers).

y = floor(x)  =>  d_x = 0
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.expr import Expr
from tracegrad.ops.constant import astype
from tracegrad.ops.elementwise import Elementwise, row
from tracegrad.ops.op import PUBLIC, as_operand, public, sample, type_of
from tracegrad.ops.shape import copy


class Rounding(Elementwise):
    """To a whole number; integers are whole."""

    def scalar_code(self, operands: tuple[Expr, ...], dtype: np.dtype) -> Expr:
        return super().scalar_code(operands, dtype) if dtype.kind == "f" else operands[0]


FLOOR = row("floor", np.floor, [lambda x, y: 0], kind=Rounding)
CEIL = row("ceil", np.ceil, [lambda x, y: 0], kind=Rounding)
TRUNC = row("trunc", np.trunc, [lambda x, y: 0], kind=Rounding)
RINT = row("rint", np.rint, [lambda x, y: 0])


@public(np.fix)
def fix(x: Any, out: Any = None) -> Any:
    """`x` rounded towards zero."""
    return TRUNC(x)


@public(np.round, np.around, name="round")
def round_(a: Any, decimals: int = 0, out: Any = None) -> Any:
    """`a` rounded to `decimals` places, halves to even, as NumPy: scaled, rounded, scaled back."""
    a = as_operand(a)
    dtype = type_of(a).dtype
    if dtype.kind in "iub" and decimals >= 0:
        return copy(a)
    if decimals == 0:
        return RINT(a)
    scale = 10.0 ** abs(decimals)
    if decimals > 0:
        return RINT(a * scale) / scale
    return astype(RINT(a / scale) * scale, dtype)


PUBLIC["around"] = round_


@public(np.modf)
def modf(x: Any) -> tuple[Any, Any]:
    """`(fraction, whole)`: the parts after and before the point, both with the sign of `x`."""
    x = as_operand(x)
    whole = PUBLIC["trunc"](x)
    fraction = PUBLIC["where"](PUBLIC["isinf"](x), 0.0, x - whole)
    return PUBLIC["copysign"](fraction, x), whole


@public(np.ldexp)
def ldexp(x1: Any, x2: Any) -> Any:
    """`x1 * 2**x2`, for integers `x2`."""
    x1, x2 = as_operand(x1), as_operand(x2)
    if type_of(x2).dtype.kind not in "iu":
        raise TypeError("ldexp takes an integer power of 2 as its second argument")
    kind = type_of(x1).dtype
    return x1 * PUBLIC["exp2"](astype(x2, kind if kind.kind == "f" else np.float64))


sample(lambda x: np.modf(3 * x)[0] * x + np.modf(x)[1], (5,))
sample(lambda x: np.ldexp(x, np.arange(-2, 3)) * x, (5,))
