"""Arithmetic as table rows: name, NumPy function, partial derivatives, weight in flops.

y = a / b   =>   d_a = d_y * (1 / b),   d_b = d_y * (-y / b)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.ir.op import Array
from tracegrad.ops.constant import astype
from tracegrad.ops.elementwise import Elementwise, Masked, row
from tracegrad.ops.op import PUBLIC, as_operand, bind, public, type_of
from tracegrad.ops.reduction import unbroadcast
from tracegrad.ops.selection import where
from tracegrad.ops.shape import COPY

POSITIVE = ((0.2, 4.0),)
AWAY_FROM_ZERO = ((-2.0, 2.0), (0.3, 2.5))


class Divide(Elementwise):
    """`y = a / b`  =>  `d_a = d_y * r`, `d_b = -(d_a * y)` with the same `r = 1 / b`; where `b` is
    broadcast its reciprocal is taken once and stands outside the sum: `d_b = -sum(d_y * y) * r`.
    """

    def vjp(self, wanted: tuple[bool, ...], ct: Array, out: Array, *inputs: Array):
        _, b = inputs
        inverse = 1 / b
        d_a = ct * inverse
        if not wanted[1]:
            return d_a, None
        total = unbroadcast(ct * out, b.type)
        d_b = -(d_a * out) if total.type.shape == out.type.shape else -total * inverse
        return d_a if wanted[0] else None, d_b


ADD = row("add", np.add, [lambda a, b, y: 1, lambda a, b, y: 1], infix="+", verb="add")
SUBTRACT = row(
    "subtract", np.subtract, [lambda a, b, y: 1, lambda a, b, y: -1], infix="-", verb="subtract"
)
MULTIPLY = row(
    "multiply", np.multiply, [lambda a, b, y: b, lambda a, b, y: a], infix="*", verb="multiply"
)
DIVIDE = row(
    "divide",
    np.true_divide,
    [lambda a, b, y: 1 / b, lambda a, b, y: -y * (1 / b)],
    kind=Divide,
    infix="/",
    verb="divide",
    domain=AWAY_FROM_ZERO,
    also=("true_divide",),
)
NEGATIVE = row("negative", np.negative, [lambda x, y: -1], infix="-")
FLOOR_DIVIDE = row(
    "floor_divide",
    np.floor_divide,
    [lambda a, b, y: 0, lambda a, b, y: 0],
    integer="total_floor_divide",
    infix="//",
    verb="divide",
    domain=AWAY_FROM_ZERO,
)
REMAINDER = row(
    "remainder",
    np.remainder,
    [lambda a, b, y: 1, lambda a, b, y: -(a // b)],
    integer="total_remainder",
    infix="%",
    verb="divide",
    domain=AWAY_FROM_ZERO,
    also=("mod",),
)
FMOD = row(
    "fmod",
    np.fmod,
    [lambda a, b, y: 1, lambda a, b, y: -PUBLIC["trunc"](a / b)],
    verb="divide",
    domain=AWAY_FROM_ZERO,
)

SQRT = row("sqrt", np.sqrt, [lambda x, y: 0.5 / y], domain=POSITIVE)
SQUARE = row("square", np.square, [lambda x, y: 2 * x])
RECIPROCAL = row("reciprocal", np.reciprocal, [lambda x, y: -y * y], weight=4, domain=((0.3, 2.5),))
CBRT = row("cbrt", np.cbrt, [lambda x, y: 1 / (3 * y * y)], domain=POSITIVE)

ABSOLUTE = row("absolute", np.absolute, [lambda x, y: PUBLIC["sign"](x)], also=("abs",))
FABS = row("fabs", np.fabs, [lambda x, y: PUBLIC["sign"](x)], scalar="absolute")
SIGN = row("sign", np.sign, [lambda x, y: 0], weight=2)


def _share(a: Array, length: Array) -> Array:
    """`a / length`; at the origin 0, the subgradient that a norm has there."""
    return where(length == 0, 0, a / length)


HYPOT = row(
    "hypot",
    np.hypot,
    [lambda a, b, y: _share(a, y), lambda a, b, y: _share(b, y)],
)


def _power_base(a: Any, b: Any, y: Any) -> Masked:
    """`b * a**(b - 1)`, and 0 for the exponent 0 even where `a**-1` is infinite: its own derivative
    by `a` is 0 there too, of a power that is 1."""
    used = b != 0
    return Masked(used, b * POWER(a, where(used, b - 1, 0)))


def _power_exponent(a: Any, b: Any, y: Any) -> Masked:
    """`a**b * log(a)`; `0**b` is constant for every b >= 0."""
    return Masked((a != 0) | ~(b >= 0), y * PUBLIC["log"](a))


POWER = row(
    "power",
    np.power,
    [_power_base, _power_exponent],
    integer="total_power",
    infix="**",
    verb="raise",
    domain=POSITIVE,
)
FLOAT_POWER = row(
    "float_power",
    np.float_power,
    [_power_base, _power_exponent],
    scalar="power",
    verb="raise",
    domain=POSITIVE,
)


@public(np.power)
def power(x1: Any, x2: Any, /) -> Any:
    """`x1 ** x2`; the constant exponents -1, 0.5, 1, 2, 3 and 4 cost no power function.

    Raises ValueError for a constant negative power of integers, as NumPy does for any.
    """
    x1, x2 = as_operand(x1), as_operand(x2)
    types = type_of(x1), type_of(x2)
    dtype = POWER.loop_dtypes(types)[-1]
    constant = _constant_exponent(x2)
    if constant is None:
        return POWER(x1, x2)
    if dtype.kind in "iu" and constant < 0:
        raise ValueError("Integers to negative integer powers are not allowed.")
    weak = all(type.weak for type in types)
    short = None if weak else _short_power(x1 if weak else astype(x1, dtype), constant)
    return POWER(x1, x2) if short is None else short


def _constant_exponent(exponent: Any) -> float | None:
    if isinstance(exponent, np.ndarray) and exponent.ndim == 0:
        exponent = exponent[()]
    return exponent if isinstance(exponent, bool | int | float | np.number | np.bool_) else None  # type: ignore[return-value]


def _short_power(x: Any, exponent: float) -> Any:
    """As NumPy computes it for -1, 0.5, 1 and 2; the products are within 1 ulp of the power."""
    match exponent:
        case 1:
            return bind(COPY, x)
        case 2:
            return SQUARE(x)
        case 3:
            return SQUARE(x) * x
        case 4:
            return SQUARE(SQUARE(x))
        case 0.5:
            return SQRT(x)
        case -1:
            return RECIPROCAL(x)
    return None


PUBLIC["pow"] = power


@public(np.positive)
def positive(x: Any, /) -> Any:
    """`+x`: a copy."""
    return _copied(np.positive, x)


@public(np.conjugate, name="conj")
def conjugate(x: Any, /) -> Any:
    """`x`, which is real: a copy."""
    return _copied(np.conjugate, x)


PUBLIC["conjugate"] = conjugate


def _copied(ufunc: np.ufunc, x: Any) -> Any:
    x = as_operand(x)
    dtype = ufunc.resolve_dtypes((type_of(x).dtype, None))[-1]
    return bind(COPY, astype(x, dtype))


@public(np.real)
def real(val: Any) -> Any:
    """The real part of `val`, which is real."""
    return as_operand(val)


@public(np.imag)
def imag(val: Any) -> Any:
    """The imaginary part of `val`: zeros of its dtype."""
    val = as_operand(val)
    return where(False, val, type_of(val).dtype.type(0))


@public(np.real_if_close)
def real_if_close(a: Any, tol: Any = 100) -> Any:
    """`a`, which is real."""
    return as_operand(a)


@public(np.angle)
def angle(z: Any, deg: Any = False) -> Any:
    """The angle of a number in the complex plane: 0, or pi (180 degrees) for a negative one."""
    z = as_operand(z)
    z = z if type_of(z).is_float else astype(z, np.float64)
    half = type_of(z).dtype.type(180 if deg else np.pi)
    return where(z != z, z, where(PUBLIC["signbit"](z), half, type_of(z).dtype.type(0)))


@public(np.divmod)
def divmod_(x1: Any, x2: Any, /) -> tuple[Any, Any]:
    """`(x1 // x2, x1 % x2)`."""
    return FLOOR_DIVIDE(x1, x2), REMAINDER(x1, x2)


PUBLIC["divmod"] = PUBLIC.pop("divmod_")
