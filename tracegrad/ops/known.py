"""Values known to be a function of something, with that function's derivative.

    p = pinv(a)     ->     u, s, vh = svd(a);  p' = vh.T / s @ u.T;  p = known(a, p')

How `p'` was computed plays no part in the derivative, which is a rule of its own in `a` and `p`.
When no derivative is taken any more nothing is left but `p'` (`Op.settled`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.expr import Expr
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.batched import Mapped, everywhere
from tracegrad.ops.op import bind
from tracegrad.ops.shape import COPY


class Known(Op):
    """The last operand, as a function of the first; those between serve the rule."""

    settled = (COPY, (-1,))

    def infer(self, *types: ArrayType) -> ArrayType:
        return types[-1]

    def reference(self, *arrays: np.ndarray) -> Any:
        return arrays[-1]

    def text(self, *args: str) -> str:
        return args[-1]

    def batch(self, mapped: Mapped, *inputs: Array) -> Array:
        return bind(self, *everywhere(mapped, inputs))

    def element(self, read: Any, index: tuple[Expr, ...], node: Any) -> Expr:
        return read(len(node.inputs) - 1, index)
