"""Special functions that SciPy computes: calls of its compiled code, a number at a time.

    jv_float(0.5, 2.0)      is      scipy.special.jv(0.5, 2.0)
    yn_whole_float(2.0, x)  is      scipy.special.yn(2, x)

They compute in float64, also of float32. Which there are is in `codegen.costs.SCIPY`.
"""

from __future__ import annotations

import math
from functools import cache
from importlib import import_module
from typing import Any

from llvmlite import ir
from numba import types

from codegen import special
from codegen.costs import OF_WHOLE, REACH
from codegen.vecmath.primitives import cast_like, instruction

DOUBLE, WHOLE, INT = ir.DoubleType(), ir.IntType(64), ir.IntType(32)
MOST = 2.0**31
"""Beyond it SciPy's counts overflow."""


def twin(name: str) -> Any:
    """SciPy's function of that name, in plain Python."""

    def call(*args: Any) -> Any:
        place, most = REACH.get(name.removesuffix(OF_WHOLE), (0, math.inf))
        if abs(args[place]) > most:
            return cast_like(math.nan, args[0])
        kinds = special.exported(name).arguments
        pairs = zip(kinds, args, strict=True)
        given = [int(value) if kind in special.WHOLE else value for kind, value in pairs]
        scipys = getattr(import_module("scipy.special"), name.removesuffix(OF_WHOLE))
        return cast_like(scipys(*given), args[0])

    return call


@cache
def function(full: str) -> Any:
    """The intrinsic of this name, which calls a function of SciPy's on floats of one type."""
    name = full.removesuffix("_float")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.return_type
        values = [context.cast(builder, value, kind, types.float64) for value in args]
        found = call(builder, name, values)
        return context.cast(builder, found, types.float64, kind)

    def definition(typing: Any, *given: Any) -> Any:
        same = isinstance(given[0], types.Float) and len(set(given)) == 1
        return (given[0](*given), generate) if same else None

    definition.__name__ = full
    return instruction(twin(name))(definition)


def call(builder: Any, name: str, values: list[Any]) -> Any:
    """LLVM code of the call. It has no effect that anybody looks at, so what is not used may go.
    Where integers are wanted, fractions are cut off; what is no count gives NaN, and so does what
    is out of reach."""
    wanted = special.exported(name).arguments
    good, given = ir.Constant(ir.IntType(1), 1), []
    limited, most = REACH.get(name.removesuffix(OF_WHOLE), (None, 0.0))
    for place, (kind, value) in enumerate(zip(wanted, values, strict=True)):
        if place == limited:
            near = builder.and_(
                builder.fcmp_ordered(">=", value, DOUBLE(-most)),
                builder.fcmp_ordered("<=", value, DOUBLE(most)),
            )
            good = builder.and_(good, near)
            value = builder.select(near, value, DOUBLE(0.0))
        if kind in special.WHOLE:
            counts = builder.and_(
                builder.fcmp_ordered(">", value, DOUBLE(-MOST)),
                builder.fcmp_ordered("<", value, DOUBLE(MOST)),
            )
            good = builder.and_(good, counts)
            value = builder.fptosi(builder.select(counts, value, DOUBLE(0.0)), WHOLE)
        given.append(value)
    found = builder.call(declared(builder.module, name, given), [*given, INT(0)])
    return builder.select(good, found, DOUBLE(float("nan")))


def declared(module: Any, name: str, given: list[Any]) -> Any:
    """The function of that name in a module."""
    symbol = special.register(name)
    callee = module.globals.get(symbol)
    if callee is None:
        prototype = ir.FunctionType(DOUBLE, [*(value.type for value in given), INT])
        callee = ir.Function(module, prototype, symbol)
        for attribute in ("nounwind", "readnone", "willreturn"):
            set.add(callee.attributes, attribute)  # llvmlite's own list lacks `willreturn`
    return callee
