"""The thin singular value decomposition, `a = u @ diag(s) @ vh`, and what is made of it.

With `f[i, j] = 1 / (s[j]**2 - s[i]**2)` off the diagonal and `v = vh.T` the cotangent of `a` is

    u @ diag(d_s) @ vh  +  (u @ (f * (u.T @ d_u - d_u.T @ u)) @ S + (1 - u @ u.T) @ d_u / S) @ vh
                        +  u @ (S @ (f * (v.T @ d_v - d_v.T @ v)) @ vh + (d_v / S).T @ (1 - v @ vh))

(Townsend 2016, "Differentiating the singular value decomposition".) The vectors of equal singular
values have no derivative: it comes out infinite or NaN; that of the values does not depend on them,
and the pseudo-inverse has a rule of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from codegen import expr as ex
from codegen.expr import Var
from codegen.loops import Alloc, Check, LibraryCall, Store
from tracegrad.errors import MatrixError, ShapeError, UnsupportedError
from tracegrad.ir.dims import Size, knows, must_be_same, required
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.axes import expand_dims, matrix_transpose
from tracegrad.ops.constant import SIZE, astype
from tracegrad.ops.grids import eye
from tracegrad.ops.known import Known
from tracegrad.ops.linalg import computed_dtype, matrices
from tracegrad.ops.lu import LINALG_ERROR, flag, room
from tracegrad.ops.matmul import matmul
from tracegrad.ops.op import PUBLIC, as_operand, bind, public, register, sample, type_of

DIVERGED = "SVD did not converge"
BLOCK = 32
"""Rows and columns that LAPACK works on at once, for which it wants room."""


def check_matrix(type: ArrayType) -> None:
    if type.rank < 2:
        raise MatrixError(
            f"{type.rank}-dimensional array given. Array must be at least two-dimensional"
        )


def shorter(type: ArrayType) -> Size:
    """The smaller of the two extents of a matrix."""
    rows, columns = type.shape[-2:]
    return columns if required(columns, "<=", rows) else rows


def inner(node: Any) -> Size:
    """The number of singular values, from the type of one of the results."""
    return node.type.shape[-2 if node.op is RIGHT_VECTORS else -1]


class Singular(Op):
    """One of the three results; one call gives all that are used."""

    weight = 8
    raises = True

    def work(self, node: Any) -> tuple[float, Size]:
        a = node.inputs[0].type
        return self.weight, matrices(a) * a.shape[-1] * a.shape[-2] * inner(node)

    def batch(self, mapped: tuple[bool, ...], a: Array) -> Array:
        return bind(self, a)

    def kernel(self, lowering: Any, node: Any) -> None:
        if node in lowering.arrays:
            return
        (a,) = node.inputs
        found = {reader.op: reader for reader in lowering.graph.uses[a]}
        many = any(op in found for op in (LEFT_VECTORS, RIGHT_VECTORS))
        *batch, rows, columns = a.type.shape
        k = inner(node)
        one = (1,) * a.type.rank
        shapes = ((*batch, k), *((*batch, k, rows), (*batch, columns, k)) * many)
        shapes += (one, one) * (not many)
        values = found.get(SINGULAR_VALUES)
        places = [room(lowering, values, "part", a, a.type.with_shape(shapes[0]))]
        places += [
            room(lowering, None, "part", a, a.type.with_shape(shape)) for shape in shapes[1:]
        ]
        copy = lowering.namer.unique(f"{a.name}_copy")
        turned = (*batch, columns, rows)
        lowering.append(Alloc(copy, tuple(map(lowering.size, turned)), a.type.dtype))
        with lowering.nest(a.type.shape) as (*stack, i, j):
            value = lowering.value(a, (*stack, i, j))
            lowering.append(Store(copy, (*stack, j, i), value, lowering.comment(node)))
        length = (rows + columns) * BLOCK + k * k * 4 + k * 7 + 1
        work, counts = lowering.namer.unique("work"), lowering.namer.unique("counts")
        kinds = ((work, length, a.type.dtype), (counts, k * 8 + 1, np.dtype(np.int32)))
        for name, size, kind in kinds:
            lowering.append(Alloc(name, (lowering.size(size),), kind))
        converged = Var(lowering.namer.unique("converged"), ex.BOOL)
        outs = (work, counts, *places, copy)
        lowering.append(LibraryCall("svd", (flag(many),), outs, lowering.comment(node), converged))
        lowering.append(Check(converged, LINALG_ERROR, DIVERGED))
        for op, place in ((LEFT_VECTORS, places[1]), (RIGHT_VECTORS, places[2])):
            if op in found:
                _turned(lowering, found[op], place)


def _turned(lowering: Any, node: Any, place: str) -> None:
    """The vectors from the array where LAPACK left them transposed."""
    array = lowering.allocate(node)
    with lowering.nest(node.type.shape) as (*stack, i, j):
        value = ex.Load(place, (*stack, j, i), node.type.dtype)
        lowering.append(Store(array, (*stack, i, j), value, lowering.comment(node)))


class SingularValues(Singular):
    name = "svdvals"

    def infer(self, a: ArrayType) -> ArrayType:
        check_matrix(a)
        return a.with_shape((*a.shape[:-2], shorter(a)))

    def reference(self, a: np.ndarray) -> np.ndarray:
        return np.linalg.svd(a, compute_uv=False)

    def text(self, a: str) -> str:
        return f"np.linalg.svd({a}, compute_uv=False)"

    def vjp(self, wanted: tuple[bool, ...], ct: Array, out: Array, a: Array) -> tuple[Array, ...]:
        u, vh = bind(LEFT_VECTORS, a), bind(RIGHT_VECTORS, a)
        return (matmul(u * expand_dims(ct, -2), vh),)


class LeftVectors(Singular):
    name = "svd_left"

    def infer(self, a: ArrayType) -> ArrayType:
        check_matrix(a)
        return a.with_shape((*a.shape[:-1], shorter(a)))

    def reference(self, a: np.ndarray) -> np.ndarray:
        return np.linalg.svd(a, full_matrices=False)[0]

    def text(self, a: str) -> str:
        return f"np.linalg.svd({a}, full_matrices=False)[0]"

    def vjp(self, wanted: tuple[bool, ...], ct: Array, out: Array, a: Array) -> tuple[Array, ...]:
        s, vh = bind(SINGULAR_VALUES, a), bind(RIGHT_VECTORS, a)
        inner = matmul(out, _turning(out, ct, s) * expand_dims(s, -2))
        return (matmul(inner + _outside(out, ct / expand_dims(s, -2)), vh),)


class RightVectors(Singular):
    name = "svd_right"

    def infer(self, a: ArrayType) -> ArrayType:
        check_matrix(a)
        return a.with_shape((*a.shape[:-2], shorter(a), a.shape[-1]))

    def reference(self, a: np.ndarray) -> np.ndarray:
        return np.linalg.svd(a, full_matrices=False)[2]

    def text(self, a: str) -> str:
        return f"np.linalg.svd({a}, full_matrices=False)[2]"

    def vjp(self, wanted: tuple[bool, ...], ct: Array, out: Array, a: Array) -> tuple[Array, ...]:
        s, u = bind(SINGULAR_VALUES, a), bind(LEFT_VECTORS, a)
        v, d_v = matrix_transpose(out), matrix_transpose(ct)
        inner = matmul(expand_dims(s, -1) * _turning(v, d_v, s), out)
        outside = matrix_transpose(_outside(v, d_v / expand_dims(s, -2)))
        return (matmul(u, inner + outside),)


def _turning(vectors: Array, ct: Array, s: Array) -> Array:
    """`f * (x.T @ d_x - d_x.T @ x)`: how the vectors turn among each other."""
    unit = eye(s.type.shape[-1], dtype=s.type.dtype)
    squares = s * s
    gaps = expand_dims(squares, -2) - expand_dims(squares, -1) + unit
    turned = matmul(matrix_transpose(vectors), ct)
    return (1 - unit) * (turned - matrix_transpose(turned)) / gaps


def _outside(vectors: Array, x: Array) -> Array:
    """`(1 - v @ v.T) @ x`: the part outside of the span of the vectors; none if they are all."""
    if knows(vectors.type.shape[-2], "==", vectors.type.shape[-1]):
        return x * 0
    return x - matmul(vectors, matmul(matrix_transpose(vectors), x))


SINGULAR_VALUES, LEFT_VECTORS, RIGHT_VECTORS = (
    register(SingularValues()),
    register(LeftVectors()),
    register(RightVectors()),
)


class PseudoInverse(Known):
    """The pseudo-inverse `p` of `a`, with its derivative at constant rank:

    t_p = -p @ t_a @ p + p @ p.T @ t_a.T @ (1 - a @ p) + (1 - p @ a) @ t_a.T @ p.T @ p

    (Golub and Pereyra 1973, "The differentiation of pseudo-inverses and nonlinear least squares
    problems whose variables separate", equation 4.12.)
    """

    name = "pinv"

    def jvp(self, tangents: tuple[Array | None, ...], out: Array, a: Array, p: Array) -> Array:
        t = tangents[0]
        if t is None:
            return out * 0
        turned, flipped = matrix_transpose(t), matrix_transpose(out)
        left = matmul(matmul(out, flipped), turned)
        right = matmul(turned, matmul(flipped, out))
        moved = matmul(matmul(out, t), out)
        return left - matmul(matmul(left, a), out) + right - matmul(out, matmul(a, right)) - moved


PSEUDO_INVERSE = register(PseudoInverse())


class SVDResult(NamedTuple):
    """As NumPy's."""

    U: Any
    S: Any
    Vh: Any


def matrix(a: Any) -> Any:
    """A matrix, or a stack of them, in the dtype to compute in."""
    a = as_operand(a)
    check_matrix(type_of(a))
    return astype(a, computed_dtype(a))


@public(np.linalg.svd, name="linalg.svd")
def svd(
    a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False
) -> Any:
    """`(U, S, Vh)` with `a = (U * S[..., None, :]) @ Vh`, or `S` alone; `S` is descending.

    `full_matrices` is only for square matrices: the further columns have no derivative. Raises
    `numpy.linalg.LinAlgError` if it does not converge.
    """
    if hermitian:
        raise UnsupportedError("svd: hermitian=True is not supported; use np.linalg.eigh")
    a = matrix(a)
    values = bind(SINGULAR_VALUES, a)
    if not compute_uv:
        return values
    if full_matrices and not must_be_same(*type_of(a).shape[-2:]):
        raise UnsupportedError(
            f"svd of {type_of(a).in_figures()}: full_matrices=True adds columns that are any basis "
            "of the rest and have no derivative; write full_matrices=False"
        )
    return SVDResult(bind(LEFT_VECTORS, a), values, bind(RIGHT_VECTORS, a))


@public(np.linalg.svdvals, name="linalg.svdvals")
def svdvals(x: Any, /) -> Any:
    """The singular values of each matrix, descending."""
    return svd(x, compute_uv=False)


@public(np.linalg.pinv, name="linalg.pinv")
def pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    """The Moore-Penrose inverse; singular values up to `rcond` (1e-15) times the largest count as
    zero.
    """
    if hermitian:
        raise UnsupportedError("pinv: hermitian=True is not supported; leave it out")
    if rcond is not None and rtol is not None:
        raise ValueError("`rtol` and `rcond` can't be both set.")
    a = matrix(a)
    limit = 1e-15 if rcond is None and rtol is None else rtol if rcond is None else rcond
    fixed = PUBLIC["stop_gradient"](a)
    u, s, vh = svd(fixed, full_matrices=False)
    where, largest = PUBLIC["where"], s[..., :1]
    large = s > limit * largest
    inverse = where(large, 1 / where(large, s, 1), 0)
    found = matmul(matrix_transpose(vh) * expand_dims(inverse, -2), matrix_transpose(u))
    return bind(PSEUDO_INVERSE, a, found)


@public(np.linalg.lstsq, name="linalg.lstsq")
def lstsq(a: Any, b: Any, rcond: Any = None) -> tuple[Any, Any, Any, Any]:
    """`(x, residuals, rank, s)` with the smallest `x` that minimises `|a @ x - b|`.

    `residuals` are the squared sums where `a` has more rows than columns (also where its rank is
    smaller, for which NumPy returns none), else empty.
    """
    a, b = matrix(a), as_operand(b)
    left, right = type_of(a), type_of(b)
    if left.rank != 2:
        raise MatrixError(f"{left.rank}-dimensional array given. Array must be two-dimensional")
    if right.rank not in (1, 2) or not must_be_same(left.shape[0], right.shape[0]):
        raise ShapeError(
            f"lstsq: {left.in_figures()} and {right.in_figures()}: Incompatible dimensions"
        )
    limit = _eps(left) if rcond is None else rcond
    x = matmul(pinv(a, limit), astype(b, left.dtype))
    s = svdvals(a)
    rank = PUBLIC["sum"](s > limit * s[:1])
    tall = required(left.shape[1], "<", left.shape[0])
    misfit = matmul(a, x) - b
    squares = PUBLIC["sum"](misfit * misfit, axis=0)
    residuals = squares if right.rank == 2 else expand_dims(squares, 0)
    return x, residuals if tall else residuals[:0], rank, s


def _eps(type: ArrayType) -> Any:
    """NumPy's limit: the precision times the longer extent."""
    rows, columns = type.shape
    longer = rows if required(columns, "<=", rows) else columns
    return PUBLIC["multiply"](
        float(np.finfo(type.dtype).eps), astype(as_size_value(longer), type.dtype)
    )


def as_size_value(size: Size) -> Any:
    """An extent as a number that the program computes with."""
    return bind(SIZE, size=size) if not isinstance(size, int) else size


def _distinct(x: Any) -> Any:
    """Matrices with well separated singular values."""
    return 0.3 * x + np.eye(*x.shape[-2:]) * (1.0 + np.arange(x.shape[-1]))


sample(lambda x: np.linalg.svd(_distinct(x), compute_uv=False), (3, 3))
sample(lambda x: np.linalg.svdvals(_distinct(x)) ** 2, (2, 4, 3))
sample(lambda x: np.linalg.svd(_distinct(x), full_matrices=False)[0] ** 2, (4, 3))
sample(lambda x: np.linalg.svd(_distinct(x), False)[2] ** 2, (2, 3, 4))
sample(lambda x: np.linalg.svd(_distinct(x))[0] * np.linalg.svd(_distinct(x)).Vh.T, (3, 3))
sample(lambda x: np.linalg.svd(x, compute_uv=False), (0, 3))
sample(lambda x: np.linalg.pinv(_distinct(x)), (4, 3))
sample(lambda x: np.linalg.pinv(x @ np.swapaxes(x, -1, -2)[..., :2]), (2, 2, 3))
sample(lambda x, b: np.linalg.lstsq(_distinct(x), b, rcond=None)[0], (4, 3), (4,))
sample(lambda x, b: np.linalg.lstsq(_distinct(x), b, rcond=None)[:2], (4, 3), (4, 2))
sample(lambda x, b: np.linalg.lstsq(_distinct(x), b, rcond=None)[0], (3, 4), (3,))
