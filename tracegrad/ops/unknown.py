"""Derivatives without a formula: values that nothing may ask for, as long as nothing does.

    gammainc(a, x)     ->     d_x = d_y * density(a, x);   d_a = d_y * unknown(y)

A program that computes `d_a` raises NotDifferentiableError when it is compiled or run; one that
needs `d_x` alone never does, for of `d_a` nothing is left.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.expr import Expr
from codegen.records import dataclass
from tracegrad.errors import NotDifferentiableError
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.batched import Mapped, everywhere
from tracegrad.ops.op import bind, register


class Unknown(Op):
    """A value of the type of `like` that cannot be computed; `reason` says why."""

    name = "unknown"
    linear = (0,)
    foldable = False

    def infer(self, like: ArrayType, *, reason: str) -> ArrayType:
        return ArrayType(like.dtype, like.shape)

    def reference(self, like: np.ndarray, *, reason: str) -> Any:
        raise NotDifferentiableError(reason)

    def text(self, like: str, *, reason: str) -> str:
        return f"unknown({like}, {reason!r})"

    def transpose(self, ct: Array, like: Array, *, reason: str) -> tuple[Array | None, ...]:
        return (bind(UNKNOWN, ct, reason=reason),)

    def batch(self, mapped: Mapped, like: Array, *, reason: str) -> Array:
        return bind(UNKNOWN, everywhere(mapped, (like,))[0], reason=reason)

    def element(self, read: Any, index: Any, node: Any) -> Expr:
        source, reason = node.source, node.attributes["reason"]
        place = f"\n  it is asked for at {source.file}:{source.line}, {source.text}"
        raise NotDifferentiableError(reason + (place if source else ""))


UNKNOWN = register(Unknown())


@dataclass(frozen=True)
class NoFormula:
    """A partial derivative that there is no formula for: by `argument` of `function`."""

    function: str
    argument: str

    def __call__(self, *given: Array) -> Array:
        name = self.argument
        reason = (
            f"the derivative of {self.function} with respect to {name} has no formula: keep {name} "
            f"constant, tg.stop_gradient({name}), or give {self.function} a rule of your own with "
            "tg.custom_vjp"
        )
        return bind(UNKNOWN, given[-1], reason=reason)
