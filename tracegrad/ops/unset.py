"""Room for a value that is not there: what a branch leaves where only another one keeps something.

if p: y, r = f(x), kept by f      else: y, r = g(x), unset
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.expr import Const, Expr
from tracegrad.ir.op import Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.op import register
from tracegrad.ops.shape import shape_text


class Unset(Op):
    """An array that nobody reads; a branch that ends with it writes nothing."""

    name = "unset"

    def infer(self, *, shape: tuple[Any, ...], dtype: np.dtype) -> ArrayType:
        return ArrayType(dtype, shape)

    def reference(self, *, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        return np.zeros(shape, dtype)[()]

    def text(self, *, shape: tuple[Any, ...], dtype: np.dtype) -> str:
        return f"np.empty({shape_text(shape)}, np.{dtype.name})"

    def element(self, read: Any, index: tuple[Expr, ...], node: Any) -> Expr:
        return Const(0, node.type.dtype)


UNSET = register(Unset())
