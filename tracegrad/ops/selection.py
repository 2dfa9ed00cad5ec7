"""Choosing among operands: where, maximum and minimum, clip; and what they are made to define.

    y = where(c, a, b)  =>  d_a = where(c, d_y, 0),  d_b = where(c, 0, d_y)

At ties and bounds the derivatives are PyTorch's: `maximum(a, a)` gives each operand half, `clip`
passes at its bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.expr import Call, Expr, Select
from tracegrad.ir.op import Array
from tracegrad.ops.elementwise import Elementwise, Masked, row
from tracegrad.ops.op import PUBLIC, as_operand, public, register, type_of


def _where_dtypes(condition: Any, a: Any, b: Any) -> tuple[np.dtype, ...]:
    both = np.add.resolve_dtypes((a, b, None))[-1]
    return np.dtype(bool), both, both, both


class Where(Elementwise):
    """`a if condition else b`; linear in `a` and `b`, whose values are not needed."""

    def __init__(self) -> None:
        super().__init__("where", np.where, arity=3, like=_where_dtypes, verb="select from")
        self.partials = (None, lambda c, a, b, y: 1, lambda c, a, b, y: 1)

    def vjp(self, wanted: tuple[bool, ...], ct: Array, out: Array, *inputs: Array):
        condition, zero = inputs[0], 0
        return (
            None,
            WHERE(condition, ct, zero) if wanted[1] else None,
            WHERE(condition, zero, ct) if wanted[2] else None,
        )

    def jvp(self, tangents: tuple[Array | None, ...], out: Array, *inputs: Array) -> Array:
        _, yes, no = tangents
        return WHERE(inputs[0], 0 if yes is None else yes, 0 if no is None else no)

    def scalar_code(self, operands: tuple[Expr, ...], dtype: np.dtype) -> Expr:
        condition, yes, no = operands
        return Select(condition, yes, no, dtype)


WHERE = Where()
register(WHERE)


@public(np.where)
def where(condition: Any, x: Any = None, y: Any = None, /) -> Any:
    """`x` where `condition` holds, else `y`; all three broadcast. Both are computed.

    With one argument the places where it holds, `nonzero(condition)`.
    """
    if x is None and y is None:
        return PUBLIC["nonzero"](condition)
    if x is None or y is None:
        raise ValueError("either both or neither of x and y should be given")
    return WHERE(condition, x, y)


def _half_at_ties(a: Array, b: Array) -> Any:
    return where(a == b, 0.5, type_of(a).dtype.type(1))


def _larger(a: Array, b: Array, y: Array) -> Masked:
    """1 where `a > b` (or NaN), which is where `y > b`: with `b` a constant only the ties need more
    than the result, which is often kept anyway."""
    return Masked(~(y <= b) | (a == b), _half_at_ties(a, b))


def _smaller(a: Array, b: Array, y: Array) -> Masked:
    return Masked(~(y >= b) | (a == b), _half_at_ties(a, b))


def _larger_number(a: Array, b: Array) -> Masked:
    """`a` is the result if it is larger or the other one is NaN."""
    return Masked((a >= b) | (b != b), _half_at_ties(a, b))


def _smaller_number(a: Array, b: Array) -> Masked:
    return Masked((a <= b) | (b != b), _half_at_ties(a, b))


MAXIMUM = row("maximum", np.maximum, [_larger, lambda a, b, y: _larger(b, a, y)])
MINIMUM = row("minimum", np.minimum, [_smaller, lambda a, b, y: _smaller(b, a, y)])
FMAX = row(
    "fmax",
    np.fmax,
    [lambda a, b, y: _larger_number(a, b), lambda a, b, y: _larger_number(b, a)],
    integer="maximum",
)
FMIN = row(
    "fmin",
    np.fmin,
    [lambda a, b, y: _smaller_number(a, b), lambda a, b, y: _smaller_number(b, a)],
    integer="minimum",
)


_NUMPY_CLIP = np._core.umath.clip  # type: ignore[attr-defined]  # the ufunc behind np.clip


class Clip(Elementwise):
    """`minimum(maximum(x, low), high)`; at a bound the derivative in `x` is 1."""

    def scalar_code(self, operands: tuple[Expr, ...], dtype: np.dtype) -> Expr:
        x, low, high = operands
        return Call("minimum", (Call("maximum", (x, low), dtype), high), dtype)


CLIP = row(
    "clip",
    _NUMPY_CLIP,
    [
        lambda x, low, high, y: (x >= low) & (x <= high),
        lambda x, low, high, y: (x < low) & (low < high),
        lambda x, low, high, y: (x > high) | (high < low),
    ],
    kind=Clip,
    weight=2,
    domain=((-2.0, 2.0), (-1.5, -0.2), (0.2, 1.5)),
)


@public(np.clip)
def clip(
    a: Any,
    a_min: Any = None,
    a_max: Any = None,
    out: Any = None,
    *,
    min: Any = None,
    max: Any = None,
) -> Any:
    """`a` limited to `[a_min, a_max]`; a bound of None does not limit."""
    del out
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    a = as_operand(a)
    least, most = _extremes(type_of(a).dtype)
    if type(low) is int and type_of(a).dtype.kind in "iu" and low <= least:
        low = None
    if type(high) is int and type_of(a).dtype.kind in "iu" and high >= most:
        high = None
    if low is None and high is None:
        return PUBLIC["copy"](a)
    dtypes = CLIP.loop_dtypes([type_of(a if x is None else x) for x in (a, low, high)])
    least, most = _extremes(dtypes[-1])
    return CLIP(a, least if low is None else low, most if high is None else high)


def _extremes(dtype: np.dtype) -> tuple[Any, Any]:
    """The bounds that limit nothing."""
    if dtype.kind == "f":
        return dtype.type(-np.inf), dtype.type(np.inf)
    if dtype.kind == "b":
        return np.False_, np.True_
    info = np.iinfo(dtype)
    return dtype.type(info.min), dtype.type(info.max)


HEAVISIDE = row("heaviside", np.heaviside, [lambda x, at_zero, y: 0, lambda x, at_zero, y: x == 0])
COPYSIGN = row(
    "copysign",
    np.copysign,
    [lambda a, b, y: where(a == 0, 0, y / a), lambda a, b, y: 0],
)
NEXTAFTER = row("nextafter", np.nextafter, [None, None], weight=4)


@public(np.nan_to_num)
def nan_to_num(
    x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    """`x` with NaN replaced by `nan`, and infinities by the largest finite numbers or as given."""
    del copy
    x = as_operand(x)
    dtype = type_of(x).dtype
    if dtype.kind != "f":
        return PUBLIC["copy"](x)
    info = np.finfo(dtype)
    most = info.max if posinf is None else posinf
    least = info.min if neginf is None else neginf
    finite = where(x == np.inf, most, where(x == -np.inf, least, x))
    return where(x != x, nan, finite)
