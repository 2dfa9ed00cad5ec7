"""Determinants from the LU factors: `slogdet`, and `det` as NumPy has it, `sign * exp(logabsdet)`.

    y = logabsdet(a)    =>    d_a = d_y * inv(a).T

The derivative at a singular matrix raises `numpy.linalg.LinAlgError`; the value is -inf (det: 0).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from codegen import expr as ex
from codegen.expr import Call, Cast, Const, Expr, Load, Select, Var
from codegen.loops import Accumulate, Assign, Store
from tracegrad.ir.dims import Size
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.axes import expand_dims
from tracegrad.ops.exponential import EXP
from tracegrad.ops.linalg import check_square, eye_like, matrices, square
from tracegrad.ops.op import bind, public, register, sample
from tracegrad.ops.solving import SOLVE, factors


class Determinant(Op):
    """A number for each matrix, combined from the diagonal of U and the row swaps."""

    weight = 2
    part: int
    combine: str
    identity: float

    def infer(self, a: ArrayType) -> ArrayType:
        check_square(a)
        return a.with_shape(a.shape[:-2])

    def reference(self, a: np.ndarray) -> Any:
        return np.linalg.slogdet(a)[self.part]

    def text(self, a: str) -> str:
        return f"np.linalg.slogdet({a})[{self.part}]"

    def work(self, node: Any) -> tuple[float, Size]:
        a = node.inputs[0].type
        return self.weight / 3, matrices(a) * a.shape[-1] * a.shape[-1] * a.shape[-1]

    def factor(self, entry: Expr, swapped: Expr) -> Expr:
        """What one step of the elimination contributes."""
        raise NotImplementedError

    def batch(self, mapped: tuple[bool, ...], a: Array) -> Array:
        return bind(self, a)

    def kernel(self, lowering: Any, node: Any) -> None:
        lu, pivots = factors(lowering, node, node.inputs[0])
        batch, dtype = node.type.shape, node.type.dtype
        array = lowering.allocate(node) if batch else ""
        name = lowering.namer.unique(f"{node.name}_{self.combine}") if batch else node.name
        total = Var(name, dtype)
        with lowering.nest(batch) as outer:
            lowering.append(Assign(total, Const(self.identity, dtype)))
            with lowering.nest(node.inputs[0].type.shape[-1:]) as (i,):
                entry = Load(lu, (*outer, i, i), dtype)
                pivot = Cast(Load(pivots, (*outer, i), np.dtype(np.int32)), ex.INT)
                swapped = Call("not_equal", (pivot, ex.add(i, ex.integer(1))), ex.BOOL)
                value = self.factor(entry, swapped)
                lowering.append(
                    Accumulate(name, None, self.combine, value, dtype, lowering.comment(node))
                )
            if batch:
                lowering.append(Store(array, outer, total))
        if not batch:
            lowering.scalars[node] = total


class LogAbsDet(Determinant):
    """`log(abs(det(a)))`."""

    name = "logabsdet"
    part, combine, identity = 1, "add", 0.0

    def factor(self, entry: Expr, swapped: Expr) -> Expr:
        return Call("log", (Call("absolute", (entry,), entry.dtype),), entry.dtype)

    def vjp(self, wanted: tuple[bool, ...], ct: Array, out: Array, a: Array) -> tuple[Array, ...]:
        transposed = bind(SOLVE, a, eye_like(a), flip=True)
        return (expand_dims(ct, (-2, -1)) * transposed,)


class SignDet(Determinant):
    """The sign of the determinant, 0 if it is exactly 0; constant wherever it has a derivative."""

    name = "signdet"
    part, combine, identity = 0, "multiply", 1.0

    def factor(self, entry: Expr, swapped: Expr) -> Expr:
        zero, one, minus = (Const(value, entry.dtype) for value in (0.0, 1.0, -1.0))
        turned = Call("not_equal", (Call("less", (entry, zero), ex.BOOL), swapped), ex.BOOL)
        singular = Call("equal", (entry, zero), ex.BOOL)
        return Select(singular, zero, Select(turned, minus, one, entry.dtype), entry.dtype)


LOGABSDET, SIGNDET = register(LogAbsDet()), register(SignDet())


class SlogdetResult(NamedTuple):
    """As NumPy's: `det(a) = sign * exp(logabsdet)`."""

    sign: Any
    logabsdet: Any


@public(np.linalg.slogdet, name="linalg.slogdet")
def slogdet(a: Any) -> SlogdetResult:
    """Sign and logarithm of the absolute determinant: 0 and -inf for a singular matrix."""
    a = square(a)
    return SlogdetResult(bind(SIGNDET, a), bind(LOGABSDET, a))


@public(np.linalg.det, name="linalg.det")
def det(a: Any) -> Any:
    """The determinant of each matrix."""
    sign, logarithm = slogdet(a)
    return sign * EXP(logarithm)


sample(lambda x: np.linalg.det(x + 3 * np.eye(3)), (3, 3))
sample(lambda x: np.linalg.det(x @ np.swapaxes(x, -1, -2) + np.eye(3)), (2, 3, 3))
sample(lambda x: np.linalg.slogdet(x - 3 * np.eye(3)), (3, 3))
sample(lambda x: np.linalg.slogdet(x[:, ::-1] + 3 * np.eye(3))[1] ** 2, (2, 3, 3))
sample(lambda x: np.linalg.slogdet(x), (0, 0))
sample(lambda x: np.linalg.det(x), (3, 3), kinds="i", smooth=False)
sample(lambda x: np.linalg.det(x * 0), (2, 2), smooth=False)
