"""Elementwise operations as table rows; what a row means is here, the rows are in their family's file.

    TANH = row("tanh", np.tanh, [lambda x, y: 1 - y * y], weight=10)

says: `tg.tanh` and `np.tanh` on traced or eager arrays; the scalar function `tanh` of codegen; the partial
derivative in terms of the argument `x` and the result `y`. Both differentiation modes follow:

    y = f(a, b)  =>  t_y = f_a * t_a + f_b * t_b,   d_a = f_a * d_y,   d_b = f_b * d_y
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from codegen.expr import Call, Expr
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.broadcast import aligned, broadcast_shapes
from tracegrad.ops.op import (
    NUMPY,
    PUBLIC,
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


class Elementwise(Op):
    """One scalar function applied to every element of its broadcast operands."""

    def __init__(
        self,
        name: str,
        numpy: Callable[..., Any],
        partials: Sequence[Partial | None] = (),
        *,
        arity: int = 0,
        infix: str = "",
        scalar: str = "",
        weight: float = 1,
        like: np.ufunc | None = None,
        text: str = "",
        domain: tuple[tuple[float, float], ...] = ((-2.0, 2.0),),
        verb: str = "",
        kinds: str = "biuf",
    ) -> None:
        self.name, self.numpy, self.weight = name, numpy, weight
        self.partials = tuple(partials)
        self.rule_dtypes = like or numpy
        self.arity = arity or len(self.partials) or getattr(numpy, "nin", 0)
        self.infix, self.scalar, self.spelling = infix, scalar or name, text
        self.domain = domain
        """Intervals from which tests draw each argument (the last one repeats)."""
        self.verb = verb or f"apply {name} to"
        self.kinds = kinds
        """Dtype kinds of the operands that tests try."""

    def loop_dtypes(self, types: Sequence[ArrayType]) -> tuple[np.dtype, ...]:
        """Operand dtypes, then the result's, of the loop that NumPy would run (NEP 50)."""
        wanted = [weak_or_dtype(type) for type in types]
        if all(kind in _PYTHON for kind in wanted):
            wanted = [type.dtype for type in types]
        assert isinstance(self.rule_dtypes, np.ufunc), f"{self.name} needs like=<a ufunc>"
        found = self.rule_dtypes.resolve_dtypes((*wanted, *([None] * self.rule_dtypes.nout)))
        return tuple(supported_dtype(dtype) for dtype in found)

    def __call__(self, *args: Any) -> Any:
        args = tuple(as_operand(arg) for arg in args)
        loop = self.loop_dtypes([type_of(arg) for arg in args])
        cast = PUBLIC["astype"]
        return bind(self, *(cast(arg, dtype) for arg, dtype in zip(args, loop, strict=False)))

    def infer(self, *types: ArrayType) -> ArrayType:
        dtype = self.loop_dtypes([ArrayType(type.dtype) for type in types])[-1]
        weak = bool(self.infix) and all(type.weak for type in types)
        return ArrayType(dtype, broadcast_shapes(self.verb, *types), weak)

    def reference(self, *arrays: np.ndarray) -> Any:
        return self.numpy(*arrays)

    def text(self, *args: str) -> str:
        if self.infix:
            return f" {self.infix} ".join(args) if len(args) > 1 else f"{self.infix}{args[0]}"
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

    def differentiable_in(self) -> tuple[bool, ...]:
        return tuple(partial is not None for partial in self.partials)

    def element(self, read: Callable[..., Expr], index: tuple[Expr, ...], node: Any) -> Expr:
        operands = tuple(
            read(number, aligned(index, operand.type.shape))
            for number, operand in enumerate(node.inputs)
        )
        return Call(self.scalar, operands, node.type.dtype)


def scaled(ct: Array, partial: Any) -> Array:
    """`ct * partial`, without the multiplication where the partial derivative is 1 or -1."""
    if isinstance(partial, int | float) and partial in (1, -1):
        return ct if partial == 1 else -ct
    return ct * partial


def row(name: str, numpy: Callable[..., Any], partials: Sequence[Partial | None] = (), **more: Any):
    """Register an elementwise op, as `tg.<name>` and as what `numpy` does to traced arrays."""
    op = Elementwise(name, numpy, partials, **more)
    register(op)
    PUBLIC[name] = NUMPY[numpy] = op
    return op
