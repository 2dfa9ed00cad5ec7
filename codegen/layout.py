"""Expressions as text: minimal parentheses, and line breaks where one line is not enough.

In: legal expressions of `codegen.expr`. Out: strings for `source`.
`Call("multiply", (Call("add", (a, b)), c))` is `(a + b) * c`; what is longer than the line becomes

    v3 = (
        first_long_term
        + second_long_term
    )
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codegen import scalar
from codegen.expr import Call, Cast, Const, Expr, Load, Select, Var
from codegen.records import dataclass
from codegen.scalar import ATOM, SIGN, TERNARY, Imported, Infix, Named, Prefix

WIDTH = 100
Resolve = Callable[[Imported], str]
"""The name under which a module knows an imported function (and a note that it is used)."""


def literal(value: bool | int | float, dtype: np.dtype) -> str:
    """A constant as Python text to which numba gives exactly `dtype`."""
    if dtype.kind == "f" and not np.isfinite(value):
        text = "np.nan" if np.isnan(value) else "np.inf" if value > 0 else "-np.inf"
    elif dtype == np.float32:
        text = _float32(float(value))
    elif dtype.kind == "f":
        text = repr(float(value))
    elif dtype.kind == "b":
        return repr(bool(value))
    else:
        text = repr(int(value))
    return text if dtype in (np.float64, np.int64) else f"np.{dtype.name}({text})"


def _float32(value: float) -> str:
    """The shortest decimal that survives being read as a float64 and rounded to float32."""
    short = repr(np.float32(value).item()) if value == 0 else str(np.float32(value))
    return short if np.float32(float(short)) == np.float32(value) else repr(value)


def tightness(expr: Expr) -> int:
    """The precedence of the outermost operator of the text of `expr`."""
    match expr:
        case Call():
            match scalar.form(expr.function, scalar.computed_in(expr)):
                case Infix(_, precedence) | Prefix(_, precedence):
                    return precedence
        case Select():
            return TERNARY
        case Const(value, dtype) if dtype in (np.float64, np.int64) and _negative(value):
            return SIGN
    return ATOM


def _negative(value: float) -> bool:
    return bool(np.signbit(value)) and not np.isnan(value)


def write(expr: Expr, resolve: Resolve, outer: int = TERNARY) -> str:
    """`expr` on one line, in parentheses if it binds less tightly than `outer`."""
    text = _bare(expr, resolve)
    return f"({text})" if tightness(expr) < outer else text


def _bare(expr: Expr, resolve: Resolve) -> str:
    match expr:
        case Const(value, dtype):
            return literal(value, dtype)
        case Var(name):
            return name
        case Load(array, index):
            return f"{array}[{_indices(index, resolve)}]"
        case Cast(value, dtype):
            return f"np.{dtype.name}({write(value, resolve)})"
        case Select(condition, yes, no):
            parts = (write(yes, resolve, 1), write(condition, resolve, 1), write(no, resolve))
            return "{} if {} else {}".format(*parts)
        case Call():
            return _call(expr, resolve)


def _indices(index: tuple[Expr, ...], resolve: Resolve) -> str:
    return ", ".join(write(part, resolve) for part in index) or "()"


def element(array: str, index: tuple[Expr, ...], resolve: Resolve) -> str:
    return f"{array}[{_indices(index, resolve)}]"


def _call(call: Call, resolve: Resolve) -> str:
    match scalar.form(call.function, scalar.computed_in(call)):
        case Infix(symbol, precedence):
            left, right = _sides(call, precedence)
            a, b = write(call.args[0], resolve, left), write(call.args[1], resolve, right)
            return f"{a} {symbol} {b}"
        case Prefix(symbol, precedence):
            return symbol + write(call.args[0], resolve, precedence)
        case Named(name):
            return f"{name}({', '.join(write(arg, resolve) for arg in call.args)})"
        case Imported() as imported:
            return f"{resolve(imported)}({', '.join(write(arg, resolve) for arg in call.args)})"


def _sides(call: Call, precedence: int) -> tuple[int, int]:
    """How tightly the operands must bind: operators group to the left, `**` to the right, and
    comparisons would chain. A tree of integer additions and products needs no grouping."""
    if precedence == scalar.POWER:
        return precedence + 1, SIGN
    if precedence == scalar.COMPARE:
        return precedence + 1, precedence + 1
    match call.args[1]:
        case Call(function) if function == call.function and _associative(call):
            return precedence, precedence
    return precedence, precedence + 1


def _associative(call: Call) -> bool:
    exact = call.dtype.kind in "iub" and call.function in ("add", "multiply")
    return exact or call.function in scalar.LOGICAL


def lines(
    prefix: str, expr: Expr, suffix: str, indent: int, resolve: Resolve, bracket: bool = False
) -> list[str]:
    """`prefix expr suffix` as one line, or broken inside brackets at the outermost operator.

    With `bracket` the expression needs the brackets, also where it fits one line without them.
    """
    whole = " " * indent + prefix + write(expr, resolve) + suffix
    opening, parts = _broken(expr, resolve)
    if not parts or (len(whole) <= WIDTH and not bracket):
        return [whole]
    inside = [line for part in parts for line in _operand(part, indent + 4, resolve)]
    return [" " * indent + prefix + opening, *inside, " " * indent + ")" + suffix]


@dataclass(frozen=True)
class _Part:
    """One line of a broken expression; it must bind at least as tightly as `outer`."""

    prefix: str
    expr: Expr
    suffix: str = ""
    outer: int = TERNARY


def _broken(expr: Expr, resolve: Resolve) -> tuple[str, list[_Part]]:
    """The opening bracket and the parts of an expression that is written over several lines."""
    match expr:
        case Select(condition, yes, no):
            return "(", [_Part("", yes, "", 1), _Part("if ", condition, "", 1), _Part("else ", no)]
        case Cast(value, dtype):
            return f"np.{dtype.name}(", [_Part("", value)]
        case Call(args=args):
            match scalar.form(expr.function, scalar.computed_in(expr)):
                case Infix():
                    return "(", _chain(expr)
                case Prefix(symbol):
                    return symbol + "(", [_Part("", args[0])]
                case Named(name):
                    return f"{name}(", [_Part("", arg, ",") for arg in args]
                case Imported() as imported:
                    return f"{resolve(imported)}(", [_Part("", arg, ",") for arg in args]
    return "", []


def _chain(call: Call) -> list[_Part]:
    """`a + b - c` as the parts `a`, `+ b`, `- c`: the operators of one precedence."""
    match scalar.form(call.function, scalar.computed_in(call)):
        case Infix(symbol, precedence):
            left, right = _sides(call, precedence)
            first, second = call.args
            head = [_Part("", first, "", left)]
            if isinstance(first, Call) and tightness(first) == precedence == left:
                head = _chain(first)
            return [*head, _Part(f"{symbol} ", second, "", right)]
    return [_Part("", call)]


def _operand(part: _Part, indent: int, resolve: Resolve) -> list[str]:
    text = write(part.expr, resolve, part.outer)
    if len(text) + indent + len(part.prefix) + len(part.suffix) <= WIDTH:
        return [" " * indent + part.prefix + text + part.suffix]
    bracketed, loose = _broken(part.expr, resolve)[0] == "(", tightness(part.expr) < part.outer
    if loose and not bracketed:
        return lines(part.prefix + "(", part.expr, ")" + part.suffix, indent, resolve)
    return lines(part.prefix, part.expr, part.suffix, indent, resolve, loose)
