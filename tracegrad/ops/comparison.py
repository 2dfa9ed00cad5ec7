"""Comparisons, logic, and tests of floats: boolean results, which have no derivative."""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.expr import Const, Expr
from tracegrad.ir.dims import holds
from tracegrad.ops.elementwise import BOOL, Elementwise, row
from tracegrad.ops.op import PUBLIC, as_operand, public, sample, type_of

MASK = 0.25
"""The weight of what makes and combines masks: an instruction on a register of bits."""


class Comparison(Elementwise):
    """A relation of two numbers; a Python integer may lie outside of the other operand's dtype."""

    def __call__(self, *args: Any) -> Any:
        args = tuple(as_operand(arg) for arg in args)
        for number, arg in enumerate(args):
            other = type_of(args[1 - number]) if len(args) == 2 else None
            if type(arg) is int and other is not None and not _holds_integer(other.dtype, arg):
                zero = [0, 0]
                zero[number] = arg
                answer = np.bool_(self.numpy(*map(int, zero)))
                return PUBLIC["broadcast_to"](answer, other.shape)
        return super().__call__(*args)


def _holds_integer(dtype: np.dtype, value: int) -> bool:
    """Whether an array of `dtype` can hold `value` (floats and booleans are promoted)."""
    if dtype.kind not in "iu":
        return True
    info = np.iinfo(dtype)
    return info.min <= value <= info.max


def _comparison(name: str, numpy: np.ufunc, symbol: str) -> Elementwise:
    return row(
        name, numpy, [None, None], kind=Comparison, infix=symbol, verb="compare", weight=MASK
    )


EQUAL = _comparison("equal", np.equal, "==")
NOT_EQUAL = _comparison("not_equal", np.not_equal, "!=")
LESS = _comparison("less", np.less, "<")
LESS_EQUAL = _comparison("less_equal", np.less_equal, "<=")
GREATER = _comparison("greater", np.greater, ">")
GREATER_EQUAL = _comparison("greater_equal", np.greater_equal, ">=")

LOGICAL_AND = row("logical_and", np.logical_and, [None, None], weight=MASK)
LOGICAL_OR = row("logical_or", np.logical_or, [None, None], weight=MASK)
LOGICAL_XOR = row("logical_xor", np.logical_xor, [None, None], weight=MASK)
LOGICAL_NOT = row("logical_not", np.logical_not, [None], weight=MASK)


class FloatTest(Elementwise):
    """A property that integers have by their kind: they are all finite."""

    def scalar_code(self, operands: tuple[Expr, ...], dtype: np.dtype) -> Expr:
        if operands[0].dtype.kind == "f":
            return super().scalar_code(operands, dtype)
        return Const(self is ISFINITE, BOOL)


ISNAN = row("isnan", np.isnan, [None], kind=FloatTest)
ISINF = row("isinf", np.isinf, [None], kind=FloatTest)
ISFINITE = row("isfinite", np.isfinite, [None], kind=FloatTest)
SIGNBIT = row("signbit", np.signbit, [None])


@public(np.isclose)
def isclose(
    a: Any, b: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Any:
    """Whether `|a - b| <= atol + rtol * |b|`, per element."""
    a, b = as_operand(a), as_operand(b)
    if type_of(b).dtype.kind != "f":
        b = PUBLIC["astype"](b, np.result_type(type_of(b).dtype, 1.0))
    near = LESS_EQUAL(PUBLIC["abs"](a - b), atol + rtol * PUBLIC["abs"](b))
    result = (near & ISFINITE(b)) | EQUAL(a, b)
    return result | (ISNAN(a) & ISNAN(b)) if equal_nan else result


@public(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    """Whether shapes and elements are equal; NaN equals NaN only with `equal_nan`."""
    a, b = as_operand(a1), as_operand(a2)
    mine, yours = type_of(a).shape, type_of(b).shape
    if len(mine) != len(yours) or any(
        not holds(x, "==", y) for x, y in zip(mine, yours, strict=True)
    ):
        return False
    equal = PUBLIC["equal"](a, b)
    if equal_nan:
        equal = equal | (PUBLIC["isnan"](a) & PUBLIC["isnan"](b))
    return PUBLIC["all"](equal)


sample(lambda x: np.array_equal(x, x) & np.array_equal(x, x[:2]), (3,), smooth=False)
sample(lambda x: np.array_equal(x, x + 1), (2, 3), smooth=False)
sample(lambda x: np.array_equal(x, x, equal_nan=True), (2, 3), smooth=False)


@public(np.allclose)
def allclose(
    a: Any, b: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Any:
    """Whether all elements are close, see `isclose`. A boolean scalar."""
    return PUBLIC["all"](isclose(a, b, rtol, atol, equal_nan))
