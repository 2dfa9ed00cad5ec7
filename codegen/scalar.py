"""The scalar functions of loop programs: how each is written, and what numba needs beside it.

In: `Call("add", (x_i, Const(1, int32)), int32)`, named as NumPy's ufuncs are. Out: an expression
whose Python text means the same to numba and to plain Python over NumPy scalars. numba widens
32-bit integers, so that call becomes `Cast(Call("add", ..., int64), int32)` and prints as

    np.int32(x[i] + np.int32(1))
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codegen import vecmath
from codegen.expr import BOOL, INT, Call, Cast, Const, Expr, Select, rewrite
from codegen.records import dataclass


@dataclass(frozen=True)
class Infix:
    """`a symbol b`; a higher precedence binds tighter."""

    symbol: str
    precedence: int


@dataclass(frozen=True)
class Prefix:
    """`symbol a`, as in `-a` and `not a`."""

    symbol: str
    precedence: int


@dataclass(frozen=True)
class Named:
    """`name(a, b)`, a builtin or an attribute of `np`."""

    name: str


@dataclass(frozen=True)
class Imported:
    """`name(a, b)` after `from module import name`: a function of `codegen.vecmath`."""

    module: str
    name: str


Form = Infix | Prefix | Named | Imported

# Python's own precedences (language reference, 6.17), from the loosest to the tightest.
TERNARY, OR, AND, NOT, COMPARE, BIT_OR, BIT_XOR, BIT_AND, SHIFT, SUM, PRODUCT, SIGN, POWER, ATOM = (
    range(14)
)

ARITHMETIC: dict[str, Form] = {
    "add": Infix("+", SUM),
    "subtract": Infix("-", SUM),
    "multiply": Infix("*", PRODUCT),
    "divide": Infix("/", PRODUCT),
    "negative": Prefix("-", SIGN),
}
INTEGER: dict[str, Form] = ARITHMETIC | {
    "floor_divide": Infix("//", PRODUCT),
    "remainder": Infix("%", PRODUCT),
    "power": Infix("**", POWER),
    "bitwise_and": Infix("&", BIT_AND),
    "bitwise_or": Infix("|", BIT_OR),
    "bitwise_xor": Infix("^", BIT_XOR),
    "invert": Prefix("~", SIGN),
    "left_shift": Infix("<<", SHIFT),
    "right_shift": Infix(">>", SHIFT),
    "maximum": Named("max"),
    "minimum": Named("min"),
    "absolute": Named("abs"),
}
COMPARISON: dict[str, Form] = {
    "equal": Infix("==", COMPARE),
    "not_equal": Infix("!=", COMPARE),
    "less": Infix("<", COMPARE),
    "less_equal": Infix("<=", COMPARE),
    "greater": Infix(">", COMPARE),
    "greater_equal": Infix(">=", COMPARE),
}
LOGICAL: dict[str, Form] = {
    "logical_and": Infix("&", BIT_AND),
    "logical_or": Infix("|", BIT_OR),
    "logical_xor": Infix("^", BIT_XOR),
    "logical_not": Prefix("not ", NOT),
}
# Single instructions, which numba and LLVM vectorise as they are.
FLOATING: dict[str, Form] = {
    "absolute": Named("abs"),
    "sqrt": Named("np.sqrt"),
    "floor": Named("np.floor"),
    "ceil": Named("np.ceil"),
    "trunc": Named("np.trunc"),
    "isnan": Named("np.isnan"),
    "isinf": Named("np.isinf"),
    "isfinite": Named("np.isfinite"),
}
ALIASES = {
    "true_divide": "divide",
    "mod": "remainder",
    "abs": "absolute",
    "fabs": "absolute",
    "pow": "power",
    "bitwise_not": "invert",
}
# On booleans NumPy's arithmetic is logic.
BOOLEAN_ARITHMETIC = {
    "add": "logical_or",
    "multiply": "logical_and",
    "maximum": "logical_or",
    "minimum": "logical_and",
    "bitwise_and": "logical_and",
    "bitwise_or": "logical_or",
    "bitwise_xor": "logical_xor",
    "invert": "logical_not",
    "absolute": "logical_or",
}


def form(function: str, dtype: np.dtype) -> Form:
    """How `function` is written when it computes in `dtype` (the dtype of its arguments).

    Raises LookupError for a function that neither this table nor `vecmath` knows.
    """
    tables: tuple[dict[str, Form], ...] = (COMPARISON, LOGICAL)
    tables += (ARITHMETIC, FLOATING) if dtype.kind == "f" else (INTEGER,)
    for table in tables:
        if function in table:
            return table[function]
    if function in ("running_max", "running_min"):
        return Imported("codegen.library", function)
    if function == "rounding_error":
        return Imported("codegen.library", f"rounding_error_f{8 * dtype.itemsize}")
    return Imported("codegen.vecmath", vecmath.named(function, dtype))


def computed_in(call: Call) -> np.dtype:
    """The dtype in which a call computes: its result's, or for a predicate its arguments'."""
    if call.dtype != BOOL:
        return call.dtype
    return np.result_type(*(arg.dtype for arg in call.args)) if call.args else BOOL


def legal(expr: Expr) -> Expr:
    """`expr` with every conversion written out that numba would do otherwise than NumPy."""
    return rewrite(expr, _legal_node)


def _legal_node(expr: Expr) -> Expr:
    match expr:
        case Call():
            return _legal_call(replace(expr, function=ALIASES.get(expr.function, expr.function)))
        case Cast():
            return converted(expr.value, expr.dtype)
        case Select():
            yes, no = converted(expr.yes, expr.dtype), converted(expr.no, expr.dtype)
            return replace(expr, condition=truth(expr.condition), yes=yes, no=no)
    return expr


def _legal_call(call: Call) -> Expr:
    if call.function in COMPARISON:
        return call
    if call.function in LOGICAL:
        return replace(call, args=tuple(truth(arg) for arg in call.args))
    if call.dtype == BOOL and all(arg.dtype == BOOL for arg in call.args):
        return _legal_boolean(call)
    if call.dtype.kind in "iu":
        return _legal_integer(call)
    return replace(call, args=_float_arguments(call))


def _legal_boolean(call: Call) -> Expr:
    if call.function not in BOOLEAN_ARITHMETIC:
        raise TypeError(f"{call.function} is not defined on booleans")
    if call.function == "absolute":
        return call.args[0]
    return replace(call, function=BOOLEAN_ARITHMETIC[call.function])


def _legal_integer(call: Call) -> Expr:
    """Integer arithmetic is done in 64 bits and wrapped back to the dtype that NumPy keeps."""
    args = tuple(converted(arg, call.dtype) for arg in call.args)
    if call.function == "sign":
        return _integer_sign(args[0])
    if call.dtype == INT:
        return replace(call, args=args)
    if call.dtype == np.uint64:
        wide = replace(call, args=args)
        return Cast(wide, call.dtype) if call.function == "negative" else wide
    return Cast(replace(call, args=args, dtype=INT), call.dtype)


def _integer_sign(value: Expr) -> Expr:
    """`1 if x > 0 else -1 if x < 0 else 0`, shorter where x has no sign."""
    zero, one = (Const(number, value.dtype) for number in (0, 1))
    if value.dtype.kind == "u":
        return Select(Call("greater", (value, zero), BOOL), one, zero, value.dtype)
    below = Select(Call("less", (value, zero), BOOL), Const(-1, value.dtype), zero, value.dtype)
    return Select(Call("greater", (value, zero), BOOL), one, below, value.dtype)


def _float_arguments(call: Call) -> tuple[Expr, ...]:
    """Arguments in the dtype the call computes in, where promotion does not see to it.

    An infix operator with one float64 operand promotes the other by itself (`n * 2.0`), and `/`
    makes float64 of two integers, in numba as in NumPy.
    """
    target = computed_in(call)
    infix = isinstance(ARITHMETIC.get(call.function), Infix)
    kinds = {arg.dtype.kind for arg in call.args}
    if infix and target == np.float64:
        promotes = any(arg.dtype == target for arg in call.args)
        if promotes or (call.function == "divide" and kinds <= set("iu")):
            args = tuple(converted(a, target) if isinstance(a, Const) else a for a in call.args)
            return _without_casts(args)
    return tuple(converted(arg, target) for arg in call.args)


def _without_casts(args: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """`y / (n * m)` for `y / np.float64(n * m)`: the other operand promotes the integer."""
    match args:
        case (Cast(value), other) if _is_integer(value) and not isinstance(other, Cast):
            return (value, other)
        case (other, Cast(value)) if _is_integer(value) and not isinstance(other, Cast):
            return (other, value)
    return args


def _is_integer(value: Expr) -> bool:
    return value.dtype.kind in "iu" and not isinstance(value, Const)


def converted(expr: Expr, dtype: np.dtype) -> Expr:
    """`expr` in `dtype`: the same object where it is so already, a literal where it is one."""
    if expr.dtype == dtype:
        return expr
    if dtype == BOOL:
        return truth(expr)
    if isinstance(expr, Const):
        return _literal(expr, dtype)
    narrow = dtype.kind in "iu" and dtype != INT
    if narrow and _is_float(expr.dtype):  # float to a narrow integer goes through int64, as in C
        return Cast(Cast(expr, INT), dtype)
    return Cast(expr, dtype)


def _literal(expr: Const, dtype: np.dtype) -> Expr:
    if dtype.kind in "iu" and not np.isfinite(expr.value):
        return Cast(expr, dtype)
    with np.errstate(over="ignore"):
        return Const(np.asarray(expr.value, expr.dtype).astype(dtype).item(), dtype)


def truth(expr: Expr) -> Expr:
    """`expr` as a boolean: `expr != 0`."""
    if expr.dtype == BOOL:
        return expr
    return Call("not_equal", (expr, Const(expr.dtype.type(0).item(), expr.dtype)), BOOL)


def _is_float(dtype: np.dtype) -> bool:
    return dtype.kind == "f"
