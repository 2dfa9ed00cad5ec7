"""Elementwise operations as table rows; what a row means is here, the rows are in their families.

    TANH = row("tanh", np.tanh, [lambda x, y: 1 - y * y])

says: `tg.tanh` and `np.tanh` on traced or eager arrays; the scalar function `tanh` of codegen; the
partial derivative in terms of the argument `x` and the result `y`. Both modes follow:

    y = f(a, b)  =>  t_y = f_a * t_a + f_b * t_b,   d_a = f_a * d_y,   d_b = f_b * d_y

A partial is an array, a number, or says where the tangent passes: a boolean array (`x > 0`) or a
`Masked`. These select instead of multiplying, so that an infinite cotangent times a zero partial
is zero, not NaN. No partial at all (`None`) means that there is no derivative; a partial of 0
that it is zero everywhere, as of `floor`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from codegen.costs import flops
from codegen.expr import Call, Expr
from codegen.records import dataclass
from tracegrad.errors import UnsupportedError
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType, dtype_text
from tracegrad.ops.batched import item_rank, leading
from tracegrad.ops.broadcast import aligned, broadcast_shapes
from tracegrad.ops.constant import ASTYPE
from tracegrad.ops.op import (
    NUMPY,
    PUBLIC,
    Bindable,
    apply,
    as_operand,
    bind,
    register,
    supported_dtype,
    type_of,
    weak_or_dtype,
)

Partial = Callable[..., Any]
BOOL = np.dtype(bool)
_PYTHON = (bool, int, float)
_TYPED = (Bindable, np.ndarray)


LoopRule = Callable[..., tuple[np.dtype, ...]]
"""From operand types (dtypes, or Python's `int`, `float`, `bool`) to operand and result dtypes."""


@dataclass(frozen=True)
class Masked:
    """A partial derivative that is `factor` where `keep` holds and zero elsewhere."""

    keep: Array
    factor: Any = 1


class Elementwise(Op):
    """One scalar function applied to every element of its broadcast operands."""

    pointwise = True

    def __init__(
        self,
        name: str,
        numpy: Callable[..., Any],
        partials: Sequence[Partial | None] = (),
        *,
        arity: int = 0,
        infix: str = "",
        scalar: str = "",
        integer: str = "",
        weight: float | None = None,
        like: np.ufunc | LoopRule | None = None,
        text: str = "",
        domain: tuple[tuple[float, float], ...] = ((-2.0, 2.0),),
        verb: str = "",
        kinds: str = "biuf",
    ) -> None:
        self.name, self.numpy = name, numpy
        self.partials = tuple(partials)
        self.rule_dtypes = like or numpy
        self.arity = arity or len(self.partials) or getattr(numpy, "nin", 0)
        self.infix, self.scalar, self.spelling = infix, scalar or name, text
        self.weight = flops(self.scalar) if weight is None else weight
        """What it costs in flops; that of its scalar function as it was measured, if not given."""
        self.integer_scalar = integer or self.scalar
        """The scalar function where it is applied to integers and booleans."""
        self.domain = domain
        """Intervals from which tests draw each argument (the last one repeats)."""
        self.verb = verb or f"apply {name} to"
        self.kinds = kinds
        """Dtype kinds of the operands that tests try."""
        self._loops: dict[tuple[Any, ...], tuple[np.dtype, ...]] = {}

    def loop_dtypes(self, types: Sequence[ArrayType]) -> tuple[np.dtype, ...]:
        """Operand dtypes, then the result's, of the loop that NumPy would run (NEP 50)."""
        wanted = tuple([type.dtype if not type.weak else weak_or_dtype(type) for type in types])
        found = self._loops.get(wanted)
        if found is None:
            found = self._loops[wanted] = self._find_loop(wanted, types)
        return found

    def _find_loop(
        self, wanted: tuple[Any, ...], types: Sequence[ArrayType]
    ) -> tuple[np.dtype, ...]:
        if all(kind in _PYTHON for kind in wanted):
            wanted = tuple(type.dtype for type in types)
        rule = self.rule_dtypes
        if isinstance(rule, np.ufunc):
            wanted = tuple(BOOL if kind is bool else kind for kind in wanted)  # none of them weak
            found = rule.resolve_dtypes((*wanted, *([None] * rule.nout)))
        else:
            found = rule(*wanted)
        if found[-1] == np.float16:
            operands = " and ".join(dtype_text(type.dtype) for type in types)
            raise UnsupportedError(
                f"{self.name} of {operands} gives float16, which is not supported: convert first, "
                "x.astype(np.float32)"
            )
        half, single = np.dtype(np.float16), np.dtype(np.float32)
        return tuple(single if dtype == half else supported_dtype(dtype) for dtype in found)

    def __call__(self, *args: Any) -> Any:
        for arg in args:
            if isinstance(arg, Bindable):
                found = arg.elementwise(self, args)
                if found is not None:
                    return found
                break
        args = tuple([as_operand(arg) for arg in args])
        if len(args) != self.arity:
            raise TypeError(f"{self.name} takes {self.arity} arrays, {len(args)} were given")
        types = [type_of(arg) for arg in args]
        loop = self.loop_dtypes(types)
        numbers = bool(self.infix) and all(type.weak for type in types)
        cast = _as_number if numbers else _as_dtype
        return apply(self, tuple(map(cast, args, types, loop)), {})

    def infer(self, *types: ArrayType) -> ArrayType:
        dtype = self.loop_dtypes([ArrayType(type.dtype) for type in types])[-1]
        weak = bool(self.infix) and all(type.weak for type in types)
        return ArrayType(dtype, broadcast_shapes(self.verb, *types), weak)

    def reference(self, *arrays: np.ndarray) -> Any:
        return self.numpy(*arrays)

    def text(self, *args: str) -> str:
        if self.infix:
            return f" {self.infix} ".join(args) if self.arity > 1 else self.infix + "".join(args)
        if "{" in self.spelling:
            return self.spelling.format(*args)
        return f"{self.spelling or 'np.' + self.name}({', '.join(args)})"

    def jvp(self, tangents: tuple[Array | None, ...], out: Array, *inputs: Array) -> Array:
        terms = [
            scaled(tangent, partial(*inputs, out))
            for tangent, partial in zip(tangents, self.partials, strict=True)
            if tangent is not None and partial is not None
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def vjp(self, wanted: tuple[bool, ...], ct: Array, out: Array, *inputs: Array):
        return tuple(
            scaled(ct, partial(*inputs, out)) if want and partial is not None else None
            for want, partial in zip(wanted, self.partials, strict=True)
        )

    def batch(self, mapped: tuple[bool, ...], *inputs: Array) -> Array:
        rank = max(map(item_rank, inputs, mapped))
        return apply(
            self, tuple(leading(x, m, rank) for x, m in zip(inputs, mapped, strict=True)), {}
        )

    def differentiable_in(self) -> tuple[bool, ...]:
        return tuple(partial is not None for partial in self.partials)

    def element(self, read: Callable[..., Expr], index: tuple[Expr, ...], node: Any) -> Expr:
        return self.scalar_code(self.operands(read, index, node), node.type.dtype)

    def operands(
        self, read: Callable[..., Expr], index: tuple[Expr, ...], node: Any
    ) -> tuple[Expr, ...]:
        """The operands' elements that broadcasting puts at `index` of the result."""
        return tuple(
            read(number, aligned(index, operand.type.shape))
            for number, operand in enumerate(node.inputs)
        )

    def scalar_code(self, operands: tuple[Expr, ...], dtype: np.dtype) -> Expr:
        """One element of the result from one of each operand."""
        floating = any(operand.dtype.kind == "f" for operand in operands)
        return Call(self.scalar if floating else self.integer_scalar, operands, dtype)


def _as_dtype(value: Any, type: ArrayType, dtype: np.dtype) -> Any:
    if type.dtype == dtype and isinstance(value, _TYPED):
        return value
    return PUBLIC["astype"](value, dtype)


def _as_number(value: Any, type: ArrayType, dtype: np.dtype) -> Any:
    """A Python number, traced or not, as one of another kind: arithmetic among them is Python's."""
    if isinstance(value, bool | int | float):
        return dtype.type(value).item()
    return value if type.dtype == dtype else bind(ASTYPE, value, dtype=dtype, weak=True)


def scaled(ct: Array, partial: Any) -> Array:
    """`ct * partial`; without a multiplication where that only keeps, drops or negates elements."""
    match partial:
        case Masked(keep, factor):
            return PUBLIC["where"](keep, scaled(ct, factor), 0)
        case bool() | int() | float() if partial in (1, -1):
            return ct if partial == 1 else -ct
        case bool() | int() | float() if partial == 0:
            return PUBLIC["where"](False, ct, 0)
    if type_of(partial).dtype == BOOL:
        return PUBLIC["where"](partial, ct, 0)
    return ct * partial


def row(
    name: str,
    numpy: Callable[..., Any],
    partials: Sequence[Partial | None] = (),
    *,
    kind: type[Elementwise] = Elementwise,
    also: Sequence[Any] = (),
    **more: Any,
) -> Elementwise:
    """Register an elementwise op, as `tg.<name>` and as what `numpy` does to traced arrays.

    `also`: further names in `tg` (text) and NumPy functions that mean this op.
    """
    op = kind(name, numpy, partials, **more)
    register(op)
    PUBLIC[name] = NUMPY[numpy] = op
    for spelling in also:
        (PUBLIC if isinstance(spelling, str) else NUMPY)[spelling] = op
    return op
