"""What is said of threads: which loops run on several of them, and from which size.

In: a program. Out: `n*m >= 42000`, and whether that holds for given sizes.
"""

from __future__ import annotations

from collections.abc import Mapping

from codegen.expr import Call, Const, Expr, Var
from codegen.schedule import thread_limits
from tracegrad.compile import Program

OPERATIONS = {"multiply": "*", "add": "+", "subtract": "-", "floor_divide": "//"}


def threads_text(program: Program, extents: Mapping[str, int]) -> str:
    """`n*m >= 42000: loops on several threads; n*m = 6 here, on one`."""
    limits = thread_limits(program.module)
    if not limits:
        return "one: no loop over large arrays whose iterations are independent"
    tests = " or ".join(f"{text(total)} >= {enough}" for total, enough in limits.items())
    known = {total: evaluated(total, extents) for total in limits}
    here = ", ".join(f"{text(t)} = {value}" for t, value in known.items() if value is not None)
    number = "several" if is_large(program, extents) else "one"
    return f"several where {tests}; {number} here{f' ({here})' if here else ''}"


def is_large(program: Program, extents: Mapping[str, int]) -> bool:
    """Whether these sizes are those of the version with threads."""
    found = ((evaluated(t, extents), n) for t, n in thread_limits(program.module).items())
    return any(value is not None and value >= enough for value, enough in found)


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


def evaluated(expr: Expr, extents: Mapping[str, int]) -> int | None:
    """The value, None if it depends on something else."""
    match expr:
        case Const(value):
            return int(value)
        case Var(name):
            return extents.get(name)
        case Call(function, args) if None not in (parts := [evaluated(a, extents) for a in args]):
            a, b = (int(part or 0) for part in parts)
            match function:
                case "multiply":
                    return a * b
                case "add":
                    return a + b
                case "subtract":
                    return a - b
                case "floor_divide" if b:
                    return a // b
                case "maximum" | "minimum":
                    return max(a, b) if function == "maximum" else min(a, b)
    return None
