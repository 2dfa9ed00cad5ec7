"""Extents of loop programs read back as sizes: what `ops.extent` writes, the other way round.

Call("multiply", (Var("n"), Var("m")))      =>      n*m
"""

from __future__ import annotations

from codegen.expr import Call, Const, Expr, Var
from tracegrad.ir.dims import Size, quotient, symbol


def size_of(expr: Expr) -> Size | None:
    """The size that an index expression computes; None where it is none (`min(i + 64, n)`)."""
    match expr:
        case Const(value):
            return int(value)
        case Var(name):
            return symbol(name)
        case Call(function, (left, right)):
            a, b = size_of(left), size_of(right)
            if a is None or b is None:
                return None
            match function:
                case "add":
                    return a + b
                case "subtract":
                    return a - b
                case "multiply":
                    return b * a if isinstance(a, int) else a * b
                case "floor_divide":
                    return quotient(a, b)
    return None
