"""The thin QR factorisation of matrices with at least as many rows as columns, `a = q @ r`.

    d_a = (d_q + q @ copyltu(r @ d_r.T - d_q.T @ q)) @ inv(r).T

`copyltu` copies the lower triangle above the diagonal (Walter and Lehmann 2012, "Algorithmic
differentiation of linear algebra functions"; Liao et al. 2019, arXiv:1903.09650, equation 3). A
wide matrix is factored by its first square part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from codegen.expr import BOOL, Call, Const, Load, Select
from codegen.loops import Alloc, LibraryCall, Store
from tracegrad.errors import UnsupportedError
from tracegrad.ir.dims import Size, required
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.axes import matrix_transpose
from tracegrad.ops.grids import tril
from tracegrad.ops.linalg import matrices
from tracegrad.ops.matmul import matmul
from tracegrad.ops.op import PUBLIC, bind, public, register, sample, type_of
from tracegrad.ops.solving import SOLVE_TRIANGULAR
from tracegrad.ops.svd import BLOCK, check_matrix, matrix


class Factor(Op):
    """One of the two factors; one call gives both if both are used."""

    weight = 2

    def work(self, node: Any) -> tuple[float, Size]:
        a = node.inputs[0].type
        return self.weight, matrices(a) * a.shape[-2] * a.shape[-1] * a.shape[-1]

    def batch(self, mapped: tuple[bool, ...], a: Array) -> Array:
        return bind(self, a)

    def kernel(self, lowering: Any, node: Any) -> None:
        if node in lowering.arrays:
            return
        (a,) = node.inputs
        found = {reader.op: reader for reader in lowering.graph.uses[a]}
        vectors, triangle = found.get(QR_VECTORS), found.get(QR_TRIANGLE)
        *batch, _, columns = a.type.shape
        comment, kind = lowering.comment(node), a.type.dtype
        if vectors is not None:
            array = lowering.allocate(vectors)
        else:
            array = lowering.namer.unique(f"{a.name}_copy")
            lowering.append(Alloc(array, lowering.shape(a), kind))
        with lowering.nest(a.type.shape) as index:
            lowering.append(Store(array, index, lowering.value(a, index), comment))
        work, tau = lowering.namer.unique("work"), lowering.namer.unique("scales")
        lowering.append(Alloc(work, (lowering.size(columns * BLOCK + 1),), kind))
        lowering.append(Alloc(tau, tuple(map(lowering.size, (*batch, columns))), kind))
        lowering.append(LibraryCall("qr_factor", (), (work, tau, array), comment))
        if triangle is not None:
            _upper(lowering, triangle, array)
        if vectors is not None:
            lowering.append(LibraryCall("qr_vectors", (), (work, tau, array), comment))


def _upper(lowering: Any, node: Any, array: str) -> None:
    """The triangle that the factorisation left in `array`."""
    place = lowering.allocate(node)
    with lowering.nest(node.type.shape) as index:
        above = Call("less_equal", (index[-2], index[-1]), BOOL)
        value = Select(
            above, Load(array, index, node.type.dtype), Const(0.0, node.type.dtype), node.type.dtype
        )
        lowering.append(Store(place, index, value, lowering.comment(node)))


class QrVectors(Factor):
    name = "qr_vectors"

    def infer(self, a: ArrayType) -> ArrayType:
        check_matrix(a)
        return a.with_shape(a.shape)

    def reference(self, a: np.ndarray) -> np.ndarray:
        return np.linalg.qr(a)[0]

    def text(self, a: str) -> str:
        return f"np.linalg.qr({a})[0]"

    def vjp(self, wanted: tuple[bool, ...], ct: Array, out: Array, a: Array) -> tuple[Array, ...]:
        turned = -matmul(matrix_transpose(ct), out)
        return (_divided(ct + matmul(out, _mirrored(turned)), bind(QR_TRIANGLE, a)),)


class QrTriangle(Factor):
    name = "qr_triangle"

    def infer(self, a: ArrayType) -> ArrayType:
        check_matrix(a)
        return a.with_shape((*a.shape[:-2], a.shape[-1], a.shape[-1]))

    def reference(self, a: np.ndarray) -> np.ndarray:
        return np.linalg.qr(a)[1]

    def text(self, a: str) -> str:
        return f"np.linalg.qr({a})[1]"

    def vjp(self, wanted: tuple[bool, ...], ct: Array, out: Array, a: Array) -> tuple[Array, ...]:
        turned = _mirrored(matmul(out, matrix_transpose(PUBLIC["triu"](ct))))
        return (_divided(matmul(bind(QR_VECTORS, a), turned), out),)


QR_VECTORS, QR_TRIANGLE = register(QrVectors()), register(QrTriangle())


def _mirrored(x: Array) -> Array:
    """`copyltu`: the symmetric matrix with the lower triangle of `x`."""
    return tril(x) + matrix_transpose(tril(x, -1))


def _divided(x: Array, r: Array) -> Array:
    """`x @ inv(r).T`."""
    flags = {"lower": False, "flip": False, "unit": False}
    return matrix_transpose(bind(SOLVE_TRIANGULAR, r, matrix_transpose(x), **flags))


class QRResult(NamedTuple):
    """As NumPy's."""

    Q: Any
    R: Any


@public(np.linalg.qr, name="linalg.qr")
def qr(a: Any, mode: str = "reduced") -> Any:
    """`(Q, R)` with `a = Q @ R`, the columns of Q orthonormal, R upper triangular; "r": R alone.

    The modes "complete" and "raw" are not supported. The derivative needs R to be regular.
    """
    if mode not in ("reduced", "r"):
        raise UnsupportedError(f"qr: mode={mode!r} is not supported: there are 'reduced' and 'r'")
    a = matrix(a)
    rows, columns = type_of(a).shape[-2:]
    if required(columns, "<=", rows):
        r = bind(QR_TRIANGLE, a)
        return r if mode == "r" else QRResult(bind(QR_VECTORS, a), r)
    first = a[..., :, :rows]
    q = bind(QR_VECTORS, first)
    rest = matmul(matrix_transpose(q), a[..., :, rows:])
    r = PUBLIC["concatenate"]([bind(QR_TRIANGLE, first), rest], axis=-1)
    return r if mode == "r" else QRResult(q, r)


def _regular(x: Any) -> Any:
    """Matrices of full rank."""
    return x + 3 * np.eye(*x.shape[-2:])


sample(lambda x: np.linalg.qr(_regular(x))[0], (3, 3))
sample(lambda x: np.linalg.qr(_regular(x), mode="r"), (2, 4, 3))
sample(lambda x: np.linalg.qr(_regular(x)).Q[0] * np.linalg.qr(_regular(x)).R[0], (4, 4))
sample(lambda x: np.linalg.qr(_regular(x))[1] ** 2, (3, 4))
sample(lambda x: np.linalg.qr(_regular(x))[0] ** 2, (2, 4, 2))
sample(lambda x: np.linalg.qr(x)[1], (3, 0))
