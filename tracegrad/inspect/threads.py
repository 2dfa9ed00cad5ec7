"""What is said of threads: which loops run on several of them, and from which size.

In: a program. Out: `n*m >= 42000`, and whether that holds for given sizes.
"""

from __future__ import annotations

from collections.abc import Mapping

from codegen.expr import Call, Const, Expr, Var, evaluated
from codegen.schedule import Settled
from tracegrad.compile import Program

OPERATIONS = {"multiply": "*", "add": "+", "subtract": "-", "floor_divide": "//"}


def threads_text(program: Program, extents: Mapping[str, int]) -> str:
    """`n*m >= 42000: loops on several threads; n*m = 6 here, on one`."""
    settled = Settled(program.module)
    limits = settled.limits
    if not limits:
        return "one: no loop over large arrays whose iterations are independent"
    tests = " or ".join(f"{text(total)} >= {enough}" for total, enough in limits.items())
    known = {total: evaluated(total, extents) for total in limits}
    here = ", ".join(f"{text(t)} = {value}" for t, value in known.items() if value is not None)
    number = "several" if settled.is_large(extents) else "one"
    return f"several where {tests}; {number} here{f' ({here})' if here else ''}"


def text(expr: Expr) -> str:
    match expr:
        case Const(value):
            return str(value)
        case Var(name):
            return name
        case Call(function, (a, b)) if function in OPERATIONS:
            inside = f"{text(a)}{OPERATIONS[function]}{text(b)}"
            return inside if function == "multiply" else f"({inside})"
        case Call(function, args):
            return f"{function}({', '.join(map(text, args))})"
    return str(expr)
