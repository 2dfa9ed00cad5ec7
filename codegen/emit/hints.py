"""What LLVM is told about loops: which work on two vectors at a time, which are not written out.

In: a loop and the jump back to its top. Out: the jump with the hint
`llvm.loop.interleave.count = 2`, if it is an innermost loop with much vector math in it. The body
of such a loop is too long for the processor to look ahead into the next round, so a chain of
polynomials would run at its latency: the gradient of 15 operations takes 7.0 instead of 8.8 ns an
element. LLVM by itself interleaves loops that accumulate, if their bodies are short; those are left
to it.

Loops around others get `llvm.loop.unroll.disable`, if all their steps are known numbers and many.
Once the inner loop is a vector or two, LLVM takes the outer one for a short loop and writes it out:
1,500 instructions for a transpose of 4 x 4 x 32 x 16 elements, that run no faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from llvmlite import ir
from numba.core.registry import CPUDispatcher

from codegen import scalar
from codegen.expr import Call, Const, Expr, walk
from codegen.loops import Accumulate, For, While
from codegen.scalar import Imported
from codegen.traverse import expressions, statements
from codegen.vecmath import LONG

MUCH = 3
"""Calls of vector math from which LLVM takes an accumulating loop for too long to interleave."""
ACCUMULATIONS = ("add_reassoc", "running_max", "running_min")


MANY = 128
"""Innermost steps that a nest of known extents may have and still be written out."""


def hinted(module: Any, jump: Any, loop: For) -> None:
    """Give the jump the hint that the loop is to have."""
    if is_heavy(loop):
        jump.set_metadata("llvm.loop", hint(module, "interleave.count", 2))
    elif known_steps(loop) > MANY and any(isinstance(s, For) for s in loop.body):
        jump.set_metadata("llvm.loop", hint(module, "unroll.disable"))


def known_steps(loop: For) -> int:
    """How many steps its longest innermost loop takes in all; 0 if that is not known."""
    match loop:
        case For(stop=Const(stop), start=Const(start), step=int(step)):
            own = len(range(int(start), int(stop), step))
        case _:
            return 0
    inside = [s for s in loop.body if isinstance(s, For)]
    return own * max(map(known_steps, inside), default=1)


def is_heavy(loop: For) -> bool:
    """Whether it is an innermost loop of much vector math; of any, where nothing accumulates."""
    body = list(statements(loop.body))
    if any(isinstance(statement, For | While) for statement in body):
        return False
    found = [name for part in body for e in expressions(part) for name in functions(e)]
    math = sum(map(is_vector_math, found))
    accumulates = any(function.name in ACCUMULATIONS for function in found)
    accumulates |= any(isinstance(s, Accumulate) and is_running(s) for s in body)
    return math >= (MUCH if accumulates else 1)


def is_running(statement: Accumulate) -> bool:
    return statement.dtype.kind == "f" and statement.combine in ("maximum", "minimum")


def functions(expr: Expr) -> Iterator[Imported]:
    """The functions that are called in an expression."""
    for part in walk(scalar.legal(expr)):
        if isinstance(part, Call):
            form = scalar.form(part.function, scalar.computed_in(part))
            if isinstance(form, Imported):
                yield form


def is_vector_math(function: Imported) -> bool:
    found = getattr(import_module(function.module), function.name)
    return isinstance(found, CPUDispatcher) and found.py_func.__module__ in LONG


def hint(module: Any, name: str, value: int | None = None) -> Any:
    """`!{itself, !{"llvm.loop.interleave.count", 2}}`: loop metadata begins with itself."""
    text = ir.MetaDataString(module, f"llvm.loop.{name}")
    given = () if value is None else (ir.Constant(ir.IntType(32), value),)
    property = module.add_metadata([text, *given])
    number = ir.Constant(ir.IntType(32), len(module.metadata))
    loop = module.add_metadata([text, property, number])  # unlike any other, as loops are
    loop.operands = (loop, property)
    return loop
