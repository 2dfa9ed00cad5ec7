"""Which numbers a slow path is for: LLVM code that tells, for a scalar or all lanes of a vector.

Outside(-1022, 1024)        0, denormals, infinity, NaN and what is negative
Beyond(2.0**42)             |x| >= 2**42
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir


def declared(module: Any, prototype: Any, name: str) -> Any:
    return module.globals.get(name) or ir.Function(module, prototype, name)


@dataclass(frozen=True)
class Beyond:
    """`|x| >= limit`, false for NaN; few elements are expected there, so lanes go one by one."""

    limit: float
    together = False

    def __call__(self, builder: Any, x: Any, *others: Any) -> Any:
        kind = x.type
        suffix = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
        element = kind.element if suffix else kind
        bits = 64 if element == ir.DoubleType() else 32
        prototype = ir.FunctionType(kind, [kind])
        name = f"llvm.fabs.{suffix}f{bits}"
        magnitude = builder.call(declared(builder.module, prototype, name), [x])
        bound = ir.Constant(kind, [self.limit] * kind.count if suffix else self.limit)
        return builder.fcmp_ordered(">=", magnitude, bound)


@dataclass(frozen=True)
class Outside:
    """`not 2**low <= x < 2**high` (of |x| if `magnitude`), true for NaN: an addition and a
    comparison of the bits. `high` may be the exponent of infinity, `low` None for 0.

    Zeros may be many there, so a vector with one such lane is computed by the slow function as a
    whole, all lanes together: it is to give the same bits as the fast one inside.
    """

    low: int | None
    high: int
    magnitude: bool = False
    together = True

    def __call__(self, builder: Any, x: Any, *others: Any) -> Any:
        element = getattr(x.type, "element", x.type)
        width, mantissa, bias = (64, 52, 1023) if element == ir.DoubleType() else (32, 23, 127)
        count = getattr(x.type, "count", 0)
        kind: Any = ir.IntType(width)
        kind = ir.VectorType(kind, count) if count else kind

        def constant(value: int) -> Any:
            return ir.Constant(kind, [value] * count if count else value)

        pattern = builder.bitcast(x, kind)
        if self.magnitude:
            pattern = builder.and_(pattern, constant((1 << (width - 1)) - 1))
        low = -bias if self.low is None else self.low
        offset = builder.sub(pattern, constant(low + bias << mantissa))
        return builder.icmp_unsigned(">=", offset, constant(self.high - low << mantissa))


@dataclass(frozen=True)
class OutsideCount:
    """`x` is not the sum of WHOLE (`floating`) and an integer n with low <= n < high."""

    low: int
    high: int
    together = True

    def __call__(self, builder: Any, x: Any, *others: Any) -> Any:
        element = getattr(x.type, "element", x.type)
        # the bits of WHOLE: 1.5 * 2**52, 1.5 * 2**23
        width, whole = (64, 0x4338 << 48) if element == ir.DoubleType() else (32, 0x4B40 << 16)
        count = getattr(x.type, "count", 0)
        kind: Any = ir.IntType(width)
        kind = ir.VectorType(kind, count) if count else kind

        def constant(value: int) -> Any:
            return ir.Constant(kind, [value] * count if count else value)

        offset = builder.sub(builder.bitcast(x, kind), constant(whole + self.low))
        return builder.icmp_unsigned(">=", offset, constant(self.high - self.low))


@dataclass(frozen=True)
class OutsideEither:
    """`key` or the first argument of the slow function is outside its range."""

    key: OutsideCount
    argument: Outside
    together = True

    def __call__(self, builder: Any, key: Any, argument: Any, *others: Any) -> Any:
        return builder.or_(self.key(builder, key), self.argument(builder, argument))


Condition = Beyond | Outside | OutsideCount | OutsideEither
