"""Eigenvalues and eigenvectors of symmetric matrices, `a @ v = v * w`, in ascending order.

    w, v = eigh(a)    =>    d_a = sym(v @ (diag(d_w) + f * (v.T @ d_v)) @ v.T)

with `f[i, j] = 1 / (w[j] - w[i])` off the diagonal (Giles 2008, "Collected matrix derivative
results for forward and reverse mode algorithmic differentiation", section 3.1). The vectors of
equal eigenvalues have no derivative: it comes out infinite or NaN; that of the values does not
depend on them. As for `cholesky`, one triangle is read and the derivative is the symmetric one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from codegen import expr as ex
from codegen.expr import Call, Select, Var
from codegen.loops import Alloc, Check, LibraryCall, Store
from tracegrad.ir.dims import Size
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.axes import expand_dims, matrix_transpose
from tracegrad.ops.grids import eye
from tracegrad.ops.linalg import check_square, matrices, square
from tracegrad.ops.lu import LINALG_ERROR, flag, room
from tracegrad.ops.matmul import matmul
from tracegrad.ops.op import bind, public, register, sample

DIVERGED = "Eigenvalues did not converge"


class Eigen(Op):
    """One of the two results, from the lower triangle; one call gives both if both are used."""

    weight = 4
    raises = True

    def work(self, node: Any) -> tuple[float, Size]:
        a = node.inputs[0].type
        return self.weight, matrices(a) * a.shape[-1] * a.shape[-1] * a.shape[-1]

    def batch(self, mapped: tuple[bool, ...], a: Array) -> Array:
        return bind(self, a)

    def kernel(self, lowering: Any, node: Any) -> None:
        if node in lowering.arrays:
            return
        (a,) = node.inputs
        found = {reader.op: reader for reader in lowering.graph.uses[a]}
        values, vectors = found.get(EIGENVALUES), found.get(EIGENVECTORS)
        w = room(lowering, values, "w", a, a.type.with_shape(a.type.shape[:-1]))
        v = room(lowering, vectors, "v", a, a.type)
        with lowering.nest(a.type.shape) as index:
            value = _mirrored(lowering, a, index)
            lowering.append(Store(v, index, value, lowering.comment(node)))
        n, many = a.type.shape[-1], vectors is not None
        work, counts = lowering.namer.unique("work"), lowering.namer.unique("counts")
        lengths = (n * n * 2 + n * 6 + 1, n * 5 + 3) if many else (n * 2 + 1, 1)
        kinds = (a.type.dtype, np.dtype(np.int32))
        for name, length, kind in zip((work, counts), lengths, kinds, strict=True):
            lowering.append(Alloc(name, (lowering.size(length),), kind))
        converged = Var(lowering.namer.unique("converged"), ex.BOOL)
        call = LibraryCall(
            "eigh", (flag(many),), (work, counts, w, v), lowering.comment(node), converged
        )
        lowering.append(call)
        lowering.append(Check(converged, LINALG_ERROR, DIVERGED))


def _mirrored(lowering: Any, a: Any, index: tuple[ex.Expr, ...]) -> ex.Expr:
    """The symmetric matrix that the lower triangle of `a` stands for."""
    *batch, i, j = index
    below = Call("less_equal", (j, i), ex.BOOL)
    own = lowering.value(a, index, guarded=True)
    other = lowering.value(a, (*batch, j, i), guarded=True)
    return Select(below, own, other, a.type.dtype)


class Eigenvalues(Eigen):
    name = "eigvalsh"

    def infer(self, a: ArrayType) -> ArrayType:
        check_square(a)
        return a.with_shape(a.shape[:-1])

    def reference(self, a: np.ndarray) -> np.ndarray:
        return np.linalg.eigvalsh(a)

    def text(self, a: str) -> str:
        return f"np.linalg.eigvalsh({a})"

    def vjp(self, wanted: tuple[bool, ...], ct: Array, out: Array, a: Array) -> tuple[Array, ...]:
        v = bind(EIGENVECTORS, a)
        return (matmul(v * expand_dims(ct, -2), matrix_transpose(v)),)


class Eigenvectors(Eigen):
    name = "eigenvectors"

    def infer(self, a: ArrayType) -> ArrayType:
        check_square(a)
        return a.with_shape(a.shape)

    def reference(self, a: np.ndarray) -> np.ndarray:
        return np.linalg.eigh(a)[1]

    def text(self, a: str) -> str:
        return f"np.linalg.eigh({a})[1]"

    def vjp(self, wanted: tuple[bool, ...], ct: Array, out: Array, a: Array) -> tuple[Array, ...]:
        w = bind(EIGENVALUES, a)
        same = eye(out.type.shape[-1], dtype=out.type.dtype)
        gaps = expand_dims(w, -2) - expand_dims(w, -1) + same
        inner = matmul(matrix_transpose(out), ct) * (1 - same) / gaps
        result = matmul(matmul(out, inner), matrix_transpose(out))
        return (0.5 * (result + matrix_transpose(result)),)


EIGENVALUES, EIGENVECTORS = register(Eigenvalues()), register(Eigenvectors())


class EighResult(NamedTuple):
    """As NumPy's."""

    eigenvalues: Any
    eigenvectors: Any


def _read(a: Any, triangle: str) -> Any:
    """The matrix whose lower triangle is the one to read."""
    if triangle.upper() not in ("L", "U"):
        raise ValueError("UPLO argument must be 'L' or 'U'")
    a = square(a)
    return a if triangle.upper() == "L" else matrix_transpose(a)


@public(np.linalg.eigh, name="linalg.eigh")
def eigh(a: Any, UPLO: str = "L") -> EighResult:
    """Eigenvalues, ascending, and eigenvectors, in columns, of a symmetric matrix.

    Raises `numpy.linalg.LinAlgError` if they do not converge.
    """
    a = _read(a, UPLO)
    return EighResult(bind(EIGENVALUES, a), bind(EIGENVECTORS, a))


@public(np.linalg.eigvalsh, name="linalg.eigvalsh")
def eigvalsh(a: Any, UPLO: str = "L") -> Any:
    """The eigenvalues of a symmetric matrix, ascending."""
    return bind(EIGENVALUES, _read(a, UPLO))


def _distinct(x: Any) -> Any:
    """Symmetric matrices with well separated eigenvalues."""
    return x + np.swapaxes(x, -1, -2) + 9 * np.diag(np.arange(3.0))


sample(lambda x: np.linalg.eigvalsh(_distinct(x)), (3, 3))
sample(lambda x: np.linalg.eigvalsh(_distinct(x), "U") ** 2, (2, 3, 3))
sample(lambda x: np.linalg.eigh(_distinct(x))[1] ** 2, (3, 3))
sample(
    lambda x: np.linalg.eigh(_distinct(x))[0][0] * np.linalg.eigh(_distinct(x))[1] ** 2, (2, 3, 3)
)
sample(lambda x: np.linalg.eigh(x)[0], (0, 0))
