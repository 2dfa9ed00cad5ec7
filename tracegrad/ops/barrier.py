"""Values that keep apart: a barrier, behind which everything is computed again, and names.

    forward:   h = tanh(x)
    backward:  x1 = barrier(x, d_y);  h1 = tanh(x1);  d_x = d_y * (1 - h1**2)

Equal operations of equal operands are one node; `tanh(x1)` is not `tanh(x)`, and since the barrier
has the cotangent for an operand, it belongs to the backward. It costs nothing: it is no
statement in the compiled code.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.errors import NotDifferentiableError
from tracegrad.ir.op import Array
from tracegrad.ir.types import ArrayType
from tracegrad.ops.batched import Mapped, everywhere
from tracegrad.ops.op import bind, register
from tracegrad.ops.shape import Copy


class Barrier(Copy):
    """`y = x`, but no sooner than `after`, and never merged with `x`."""

    name = "barrier"

    def infer(self, x: ArrayType, after: ArrayType) -> ArrayType:
        return x

    def reference(self, x: np.ndarray, after: np.ndarray) -> Any:
        return x

    def text(self, x: str, after: str) -> str:
        return x

    def transpose(self, ct: Array, x: Array, after: Array) -> tuple[Array | None, ...]:
        return (ct,)

    def batch(self, mapped: Mapped, x: Array, after: Array) -> Array:
        return bind(BARRIER, everywhere(mapped, (x, after))[0], after)


class Named(Copy):
    """`y = x`, under a name that a policy may ask for."""

    name = "named"

    def infer(self, x: ArrayType, *, label: str) -> ArrayType:
        return x

    def reference(self, x: np.ndarray, *, label: str) -> Any:
        return x

    def text(self, x: str, *, label: str) -> str:
        return x

    def transpose(self, ct: Array, x: Array, *, label: str) -> tuple[Array | None, ...]:
        return (bind(NAMED, ct, label=label),)

    def batch(self, mapped: Mapped, x: Array, *, label: str) -> Array:
        return bind(NAMED, x, label=label)


class Fixed(Copy):
    """`y = x`, a value that no derivative is to be taken by; `reason` says why."""

    name = "fixed"

    def infer(self, x: ArrayType, *, reason: str) -> ArrayType:
        return x

    def reference(self, x: np.ndarray, *, reason: str) -> Any:
        return x

    def text(self, x: str, *, reason: str) -> str:
        return x

    def transpose(self, ct: Array, x: Array, *, reason: str) -> tuple[Array | None, ...]:
        raise NotDifferentiableError(reason)

    def batch(self, mapped: Mapped, x: Array, *, reason: str) -> Array:
        return bind(FIXED, x, reason=reason)


BARRIER, NAMED, FIXED = register(Barrier()), register(Named()), register(Fixed())
