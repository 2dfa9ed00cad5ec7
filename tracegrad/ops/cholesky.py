"""Cholesky's factorisation, `a = L @ L.T` for symmetric positive definite `a`.

    l = cholesky(a)    =>    d_a = sym(inv(l).T @ phi(l.T @ d_l) @ inv(l))

`phi` takes the lower triangle and halves its diagonal, `sym(m) = (m + m.T) / 2` (Murray 2016,
"Differentiation of the Cholesky decomposition", arXiv:1602.07527, eq. 10; Smith 1995). The value
depends on the lower triangle alone; the derivative is that with respect to symmetric matrices.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.expr import Call, Const, Expr, Select, Var
from codegen.loops import Check, LibraryCall, Store
from tracegrad.ir.dims import Size
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.axes import matrix_transpose
from tracegrad.ops.grids import tril
from tracegrad.ops.linalg import check_square, matrices, square
from tracegrad.ops.lu import LINALG_ERROR
from tracegrad.ops.matmul import matmul
from tracegrad.ops.op import PUBLIC, bind, public, register, sample
from tracegrad.ops.solving import SOLVE_TRIANGULAR

INDEFINITE = "Matrix is not positive definite"


class Cholesky(Op):
    """The lower triangular factor; only the lower triangle of the operand is read."""

    name = "cholesky"
    weight = 1
    raises = True

    def infer(self, a: ArrayType) -> ArrayType:
        check_square(a)
        return a.with_shape(a.shape)

    def reference(self, a: np.ndarray) -> np.ndarray:
        return np.linalg.cholesky(a)

    def text(self, a: str) -> str:
        return f"np.linalg.cholesky({a})"

    def work(self, node: Any) -> tuple[float, Size]:
        side = node.type.shape[-1]
        return self.weight / 3, matrices(node.type) * side * side * side

    def vjp(self, wanted: tuple[bool, ...], ct: Array, out: Array, a: Array) -> tuple[Array, ...]:
        inner = matmul(matrix_transpose(out), ct)
        half = 0.5 * (tril(inner) + tril(inner, -1))
        result = _divide_transposed(out, matrix_transpose(_divide_transposed(out, half)))
        return (0.5 * (result + matrix_transpose(result)),)

    def batch(self, mapped: tuple[bool, ...], a: Array) -> Array:
        return bind(self, a)

    def kernel(self, lowering: Any, node: Any) -> None:
        (a,), array = node.inputs, lowering.allocate(node)
        with lowering.nest(a.type.shape) as index:
            value = _below_diagonal(lowering, a, index)
            lowering.append(Store(array, index, value, lowering.comment(node)))
        definite = Var(lowering.namer.unique("definite"), ex.BOOL)
        lowering.append(LibraryCall("cholesky", (), (array,), lowering.comment(node), definite))
        lowering.append(Check(definite, LINALG_ERROR, INDEFINITE))


CHOLESKY = register(Cholesky())


def _divide_transposed(factor: Array, x: Array) -> Array:
    """`inv(factor).T @ x`."""
    return bind(SOLVE_TRIANGULAR, factor, x, lower=True, flip=True, unit=False)


def _below_diagonal(lowering: Any, a: Any, index: tuple[Expr, ...]) -> Expr:
    below = Call("less_equal", (index[-1], index[-2]), ex.BOOL)
    value = lowering.value(a, index, guarded=True)
    return Select(below, value, Const(0.0, a.type.dtype), a.type.dtype)


@public(np.linalg.cholesky, name="linalg.cholesky")
def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """`L` with `a = L @ L.T`, from the lower triangle of `a`; `upper`: `L.T`, from the upper one.

    Raises `numpy.linalg.LinAlgError` if a matrix is not positive definite, where the code runs.
    """
    a = square(a)
    if upper:
        return matrix_transpose(bind(CHOLESKY, matrix_transpose(a)))
    return bind(CHOLESKY, a)


@public(name="linalg.cho_factor")
def cho_factor(
    a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> tuple[Any, bool]:
    """`(c, lower)` for `cho_solve`, as `scipy.linalg` has it; the other triangle of `c` is zero."""
    del overwrite_a, check_finite
    return cholesky(a, upper=not lower), bool(lower)


@public(name="linalg.cho_solve")
def cho_solve(
    c_and_lower: tuple[Any, bool], b: Any, overwrite_b: bool = False, check_finite: bool = True
) -> Any:
    """`x` with `a @ x = b`, given what `cho_factor` made of `a`."""
    del overwrite_b, check_finite
    c, lower = c_and_lower
    substitute = PUBLIC["linalg.solve_triangular"]
    first, second = ("N", "T") if lower else ("T", "N")
    return substitute(c, substitute(c, b, first, lower), second, lower)


def _definite(x: Any) -> Any:
    """Well-conditioned symmetric matrices."""
    return x @ np.swapaxes(x, -1, -2) + np.eye(3)


sample(lambda x: np.linalg.cholesky(_definite(x)), (3, 3))
sample(lambda x: np.linalg.cholesky(_definite(x), upper=True), (2, 3, 3))
sample(lambda x: np.linalg.cholesky(np.exp(x)), (1, 1))
sample(lambda x: np.linalg.cholesky(x), (0, 0))
sample(lambda x: np.linalg.cholesky(x * 0 + np.eye(3, dtype=int)), (3, 3), kinds="i", smooth=False)
