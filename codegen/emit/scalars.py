"""Scalar expressions as LLVM values.

In: legal expressions of `codegen.expr` (see `scalar.legal`). Out: values in the current block.
`Call("add", (x_i, Const(1.0)), float64)` is `fadd double %x_i, 1.0`: one instruction where there
is one, a function of `codegen.vecmath`, or what numba has for the operator (`//`, `**`, shifts).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.np.numpy_support import as_dtype

from codegen import scalar
from codegen.emit.kinds import scalar_type
from codegen.emit.typed import Typed, call, imported
from codegen.expr import BOOL, Call, Cast, Const, Expr, Load, Select, Var
from codegen.scalar import COMPARISON, LOGICAL, Imported

BIT = ir.IntType(1)
FLOAT_INSTRUCTIONS = {"add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv"}
INTEGER_INSTRUCTIONS = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "bitwise_and": "and_",
    "bitwise_or": "or_",
    "bitwise_xor": "xor",
}
LOGICAL_INSTRUCTIONS = {"logical_and": "and_", "logical_or": "or_", "logical_xor": "xor"}
OPERATORS = {
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "power": operator.pow,
    "left_shift": operator.lshift,
    "right_shift": operator.rshift,
}
"""What takes more than one instruction on integers: as numba has it."""
DIVISIONS = ("floor_divide", "remainder")
COMPARISONS = {
    "equal": ("==", operator.eq),
    "not_equal": ("!=", operator.ne),
    "less": ("<", operator.lt),
    "less_equal": ("<=", operator.le),
    "greater": (">", operator.gt),
    "greater_equal": (">=", operator.ge),
}
INTRINSICS = {"absolute": "fabs", "sqrt": "sqrt", "floor": "floor", "ceil": "ceil"}
INTRINSICS |= {"trunc": "trunc"}
PREDICATES = ("isnan", "isinf", "isfinite")


class Scalars:
    """Expressions at one place of a function; who derives from it knows variables and arrays."""

    context: Any
    builder: Any

    def variable(self, name: str) -> tuple[Any, np.dtype]:
        """The value of a variable, and its dtype."""
        raise NotImplementedError

    def element(self, array: str, index: tuple[Expr, ...]) -> Any:
        """The address of an element."""
        raise NotImplementedError

    def evaluated(self, expr: Expr, dtype: np.dtype | None = None) -> Any:
        """The value of any expression, in `dtype` if that is given."""
        if dtype is not None:
            expr = scalar.converted(expr, dtype)
        return self.value(scalar.legal(expr))

    def condition(self, expr: Expr) -> Any:
        return self.value(scalar.legal(scalar.truth(expr)))

    def value(self, expr: Expr) -> Any:
        """The value of a legal expression, of the type of its dtype."""
        match expr:
            case Const(value, dtype):
                return self.context.get_constant(scalar_type(dtype), value)
            case Var(name, dtype):
                value, own = self.variable(name)
                return self.cast(value, own, dtype)
            case Load(array, index, dtype):
                return self.load(self.element(array, index), dtype)
            case Cast(value, dtype):
                return self.cast(self.value(value), value.dtype, dtype)
            case Select():
                return self.select(expr)
            case Call():
                return self.call(expr)

    def load(self, address: Any, dtype: np.dtype) -> Any:
        if dtype == BOOL:  # a byte in memory
            return self.context.unpack_value(self.builder, types.boolean, address)
        return self.builder.load(address)

    def store(self, value: Any, dtype: np.dtype, address: Any) -> None:
        if dtype == BOOL:
            self.context.pack_value(self.builder, types.boolean, value, address)
        else:
            self.builder.store(value, address)

    def cast(self, value: Any, old: np.dtype, new: np.dtype) -> Any:
        if old == new:
            return value
        return self.context.cast(self.builder, value, scalar_type(old), scalar_type(new))

    def select(self, expr: Select) -> Any:
        """A choice between two values, or where one of them is much work or may not be looked at
        otherwise, a branch."""
        condition = self.value(expr.condition)
        if is_cheap(expr.yes) and is_cheap(expr.no):
            return self.builder.select(condition, self.value(expr.yes), self.value(expr.no))
        found = []
        with self.builder.if_else(condition) as (then, orelse):
            for branch, side in ((then, expr.yes), (orelse, expr.no)):
                with branch:
                    found.append((self.value(side), self.builder.block))
        result = self.builder.phi(found[0][0].type)
        for value, block in found:
            result.add_incoming(value, block)
        return result

    def call(self, expr: Call) -> Any:
        dtype = scalar.computed_in(expr)
        if expr.function in COMPARISON:
            return self.comparison(expr)
        if expr.function in LOGICAL:
            return self.logical(expr)
        form = scalar.form(expr.function, dtype)
        if isinstance(form, Imported) and expr.function != "rounding_error":
            return self.imported(form, expr)
        values = [self.cast(self.value(arg), arg.dtype, dtype) for arg in expr.args]
        if dtype.kind == "f":
            return self.of_floats(expr.function, values)
        return self.of_integers(expr.function, values, dtype)

    def imported(self, form: Imported, expr: Call) -> Any:
        arguments = [(scalar_type(arg.dtype), self.value(arg)) for arg in expr.args]
        return self.as_dtype(self.called(imported(form), arguments), expr.dtype)

    def called(self, function: Callable[..., Any], arguments: list[Typed]) -> Typed:
        return call(self.context, self.builder, function, arguments)

    def as_dtype(self, typed: Typed, dtype: np.dtype) -> Any:
        kind, value = typed
        return self.cast(value, np.dtype(as_dtype(types.unliteral(kind))), dtype)

    def of_floats(self, function: str, values: list[Any]) -> Any:
        builder = self.builder
        if function in FLOAT_INSTRUCTIONS:
            return getattr(builder, FLOAT_INSTRUCTIONS[function])(*values)
        if function == "negative":
            return builder.fneg(*values)
        if function == "rounding_error":
            return self.rounding_error(*values)
        if function == "isnan":
            return builder.fcmp_unordered("uno", values[0], values[0])
        if function in PREDICATES:
            return self.compared_with_infinity("==" if function == "isinf" else "<", values[0])
        return self.intrinsic(INTRINSICS[function], values[0])

    def compared_with_infinity(self, symbol: str, value: Any) -> Any:
        size = self.intrinsic("fabs", value)
        return self.builder.fcmp_ordered(symbol, size, ir.Constant(size.type, float("inf")))

    def rounding_error(self, a: Any, b: Any) -> Any:
        """As `library.sums`, written in place: nearly every sum needs it."""
        builder = self.builder
        total = builder.fadd(a, b)
        taken = builder.fsub(total, a)
        left = builder.fsub(a, builder.fsub(total, taken))
        error = builder.fadd(left, builder.fsub(b, taken))
        finite = self.compared_with_infinity("<", error)
        return builder.select(finite, error, ir.Constant(error.type, 0.0))

    def intrinsic(self, name: str, value: Any) -> Any:
        kind = ir.FunctionType(value.type, [value.type])
        function = self.builder.module.declare_intrinsic(f"llvm.{name}", [value.type], kind)
        return self.builder.call(function, [value])

    def of_integers(self, function: str, values: list[Any], dtype: np.dtype) -> Any:
        builder = self.builder
        if function in INTEGER_INSTRUCTIONS:
            return getattr(builder, INTEGER_INSTRUCTIONS[function])(*values)
        if function == "negative":
            return builder.neg(*values)
        if function == "invert":
            return builder.not_(*values)
        if function in DIVISIONS and dtype.kind == "i" and is_positive(values[1]):
            return self.divided(function, *values)
        if function in OPERATORS:
            arguments = [(scalar_type(dtype), value) for value in values]
            return self.as_dtype(self.called(OPERATORS[function], arguments), dtype)
        compare = builder.icmp_unsigned if dtype.kind == "u" else builder.icmp_signed
        if function == "absolute":
            zero = ir.Constant(values[0].type, 0)
            return builder.select(compare("<", values[0], zero), builder.neg(*values), *values)
        first, second = values
        sign = ">" if function == "maximum" else "<"
        return builder.select(compare(sign, second, first), second, first)

    def divided(self, function: str, value: Any, divisor: Any) -> Any:
        """By a positive number, rounded down; the remainder is not negative."""
        builder, zero = self.builder, ir.Constant(value.type, 0)
        rest = builder.srem(value, divisor)
        below = builder.icmp_signed("<", rest, zero)
        if function == "remainder":
            return builder.select(below, builder.add(rest, divisor), rest)
        return builder.sub(builder.sdiv(value, divisor), builder.zext(below, value.type))

    def comparison(self, expr: Call) -> Any:
        symbol, function = COMPARISONS[expr.function]
        kinds = {arg.dtype.kind for arg in expr.args}
        values = [self.value(arg) for arg in expr.args]
        if kinds == {"i", "u"}:  # no type holds both
            pairs = zip(expr.args, values, strict=True)
            return self.called(function, [(scalar_type(a.dtype), v) for a, v in pairs])[1]
        dtype = np.result_type(*(arg.dtype for arg in expr.args))
        pairs = zip(expr.args, values, strict=True)
        a, b = (self.cast(value, arg.dtype, dtype) for arg, value in pairs)
        if dtype.kind == "f":
            ordered = symbol != "!="
            compare = self.builder.fcmp_ordered if ordered else self.builder.fcmp_unordered
        else:
            compare = self.builder.icmp_signed if dtype.kind == "i" else self.builder.icmp_unsigned
        return compare(symbol, a, b)

    def logical(self, expr: Call) -> Any:
        values = [self.value(arg) for arg in expr.args]
        if expr.function == "logical_not":
            return self.builder.xor(values[0], ir.Constant(BIT, 1))
        return getattr(self.builder, LOGICAL_INSTRUCTIONS[expr.function])(*values)


def is_cheap(expr: Expr) -> bool:
    """Whether a value may be computed and not used: it looks at no array and is a few instructions
    that cannot fail."""
    match expr:
        case Const() | Var():
            return True
        case Cast(value):
            return is_cheap(value)
        case Select(condition, yes, no):
            return is_cheap(condition) and is_cheap(yes) and is_cheap(no)
        case Call(function, args):
            plain = function in COMPARISON or function in LOGICAL or _is_instruction(expr)
            return plain and all(map(is_cheap, args))
    return False


def is_positive(value: Any) -> bool:
    return isinstance(value, ir.Constant) and value.constant > 0


def _is_instruction(expr: Call) -> bool:
    kind = scalar.computed_in(expr).kind
    if kind == "f":
        return expr.function in (*FLOAT_INSTRUCTIONS, "negative", "absolute", *PREDICATES)
    return expr.function in (*INTEGER_INSTRUCTIONS, "negative", "invert", "maximum", "minimum")
