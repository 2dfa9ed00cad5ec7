"""Linear systems: `solve` by LU factors, `solve_triangular`, and what is made of them.

    x = solve(a, b)    =>    d_b = solve(a.T, d_x),   d_a = -d_b @ x.T

(Giles 2008, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", section 2.3.1.) The factors of a matrix are values of the program
(`tracegrad.ops.lu`): computed once, however many systems and determinants use them, and kept for
the backward.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from tracegrad.ir.dims import Size
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.axes import matrix_transpose, moveaxis, squeeze
from tracegrad.ops.batched import Mapped
from tracegrad.ops.grids import tril, triu
from tracegrad.ops.known import Known
from tracegrad.ops.linalg import check_fit, eye_like, outer, square, system
from tracegrad.ops.lu import LU_SOLVE, SINGULAR, factors, flag, solve_in_place, systems
from tracegrad.ops.matmul import matmul
from tracegrad.ops.op import as_operand, bind, public, register, sample, type_of
from tracegrad.ops.shape import reshape


class Solve(Op):
    """`a @ x = b` for square matrices, or `a.T @ x = b` (`flip`), given the factors of `a`; `b` is
    columns, or a vector. Only derivatives look at `a`."""

    name = "solve"
    stored = (1, 2)
    weight = 2
    raises = True
    settled = (LU_SOLVE, (1, 2, 3))

    def infer(
        self, a: ArrayType, lu: ArrayType, pivots: ArrayType, b: ArrayType, *, flip: bool
    ) -> ArrayType:
        return LU_SOLVE.infer(lu, pivots, b, flip=flip)

    def reference(self, a: Any, lu: Any, pivots: Any, b: Any, *, flip: bool) -> np.ndarray:
        return LU_SOLVE.reference(lu, pivots, b, flip=flip)

    def text(self, a: str, lu: str, pivots: str, b: str, *, flip: bool) -> str:
        return LU_SOLVE.text(lu, pivots, b, flip=flip)

    def work(self, node: Any) -> tuple[float, Size]:
        return self.weight, node.type.size * node.inputs[0].type.shape[-1]

    def vjp(
        self,
        wanted: tuple[bool, ...],
        ct: Array,
        out: Array,
        a: Array,
        lu: Array,
        pivots: Array,
        b: Array,
        *,
        flip: bool,
    ) -> tuple[Array | None, ...]:
        d_b = bind(SOLVE, a, lu, pivots, ct, flip=not flip)
        if not wanted[0]:
            return None, None, None, d_b
        d_a = outer(-out, d_b) if flip else outer(-d_b, out)
        return d_a, None, None, d_b

    def jvp(
        self,
        tangents: tuple[Array | None, ...],
        out: Array,
        a: Array,
        lu: Array,
        pivots: Array,
        b: Array,
        *,
        flip: bool,
    ) -> Array:
        """`t_x = solve(a, t_b - t_a @ x)`."""
        moves = moved(lambda t: t, (tangents[0], tangents[3]), out, flip)
        return bind(SOLVE, a, lu, pivots, moves, flip=flip)

    def batch(self, mapped: Mapped, *inputs: Array, flip: bool) -> Array:
        return systems(SOLVE, mapped, *inputs, flip=flip)

    def kernel(self, lowering: Any, node: Any) -> None:
        LU_SOLVE.lowered(lowering, node, *node.inputs[1:])


SOLVE = register(Solve())


def moved(
    mask: Callable[[Array], Array], tangents: tuple[Array | None, ...], out: Array, flip: bool
) -> Array:
    """`t_b - t_a @ x`: how the right-hand side moves if x stays."""
    t_a, t_b = tangents
    if t_a is None:
        assert t_b is not None
        return t_b
    t_a = mask(t_a)
    part = matmul(matrix_transpose(t_a) if flip else t_a, out)
    return -part if t_b is None else t_b - part


class SolveTriangular(Op):
    """`op(a) @ x = b` where `a` is read as a triangle: below the diagonal if `lower`; `unit` takes
    the diagonal as ones, `flip` solves with `a.T`."""

    name = "solve_triangular"
    stored = (0,)
    weight = 1
    raises = True

    def infer(
        self, a: ArrayType, b: ArrayType, *, lower: bool, flip: bool, unit: bool
    ) -> ArrayType:
        check_fit(a, b)
        return b.with_shape(b.shape)

    def reference(
        self, a: np.ndarray, b: np.ndarray, *, lower: bool, flip: bool, unit: bool
    ) -> np.ndarray:
        if not unit and np.any(np.diagonal(a, 0, -2, -1) == 0):
            raise np.linalg.LinAlgError(SINGULAR)
        if not b.size:
            return b.copy()
        scipy = import_module("scipy.linalg").solve_triangular
        options = {"trans": int(flip), "lower": lower, "unit_diagonal": unit, "check_finite": False}
        if b.ndim == 1:
            return scipy(a, b, **options)
        side = a.shape[-1]
        pairs = zip(a.reshape(-1, side, side), b.reshape(-1, *b.shape[-2:]), strict=True)
        return np.stack([scipy(m, column, **options) for m, column in pairs]).reshape(b.shape)

    def text(self, a: str, b: str, *, lower: bool, flip: bool, unit: bool) -> str:
        options = ["", *["trans=1"] * flip, *["lower=True"] * lower, *["unit_diagonal=True"] * unit]
        return f"scipy.linalg.solve_triangular({a}, {b}{', '.join(options)})"

    def work(self, node: Any) -> tuple[float, Size]:
        return self.weight, node.type.size * node.inputs[0].type.shape[-1]

    def vjp(
        self,
        wanted: tuple[bool, ...],
        ct: Array,
        out: Array,
        a: Array,
        b: Array,
        *,
        lower: bool,
        flip: bool,
        unit: bool,
    ) -> tuple[Array | None, ...]:
        """As that of `solve`, but only the triangle moves."""
        d_b = bind(SOLVE_TRIANGULAR, a, ct, lower=lower, flip=not flip, unit=unit)
        if not wanted[0]:
            return None, d_b
        d_a = outer(out, d_b) if flip else outer(d_b, out)
        return -triangle(d_a, lower, unit), d_b

    def jvp(
        self,
        tangents: tuple[Array | None, ...],
        out: Array,
        a: Array,
        b: Array,
        *,
        lower: bool,
        flip: bool,
        unit: bool,
    ) -> Array:
        b = moved(lambda t: triangle(t, lower, unit), tangents, out, flip)
        return bind(SOLVE_TRIANGULAR, a, b, lower=lower, flip=flip, unit=unit)

    def batch(self, mapped: Mapped, a: Array, b: Array, **attrs: Any) -> Array:
        return systems(SOLVE_TRIANGULAR, mapped, a, b, **attrs)

    def kernel(self, lowering: Any, node: Any) -> None:
        flags = [flag(node.attributes[name]) for name in ("lower", "flip", "unit")]
        a, b = node.inputs
        solve_in_place(lowering, node, b, "solve_triangular", lowering.arrays[a], *flags)


SOLVE_TRIANGULAR = register(SolveTriangular())


def triangle(x: Array, lower: bool, unit: bool) -> Array:
    """The part of a matrix that a triangular system reads."""
    return tril(x, -int(unit)) if lower else triu(x, int(unit))


@public(np.linalg.solve, name="linalg.solve")
def solve(a: Any, b: Any) -> Any:
    """`x` with `a @ x = b`; leading axes broadcast, `b` is a vector only if it has one axis.

    Raises `numpy.linalg.LinAlgError` if a matrix is singular, where the code runs.
    """
    a, b = as_operand(a), as_operand(b)
    if type_of(a).rank == 2 and type_of(b).rank > 2:
        return _solve_side_by_side(a, b)
    a, b, vector = system(a, b)
    x = bind(SOLVE, a, *factors(a), b, flip=False)
    return squeeze(x, -1) if vector else x


def _solve_side_by_side(a: Any, b: Any) -> Any:
    """A stack of right-hand sides for one matrix as the columns of one."""
    shape = type_of(b).shape
    rows = moveaxis(b, -2, 0)
    x = solve(a, reshape(rows, (shape[-2], -1)))
    return moveaxis(reshape(x, (shape[-2], *shape[:-2], shape[-1])), 0, -2)


class Inverse(Known):
    """`t_x = -x @ t_a @ x`."""

    name = "inverse"

    def jvp(self, tangents: tuple[Array | None, ...], out: Array, a: Array, x: Array) -> Array:
        t = tangents[0]
        return out * 0 if t is None else -matmul(matmul(out, t), out)


INVERSE = register(Inverse())


def inverse(a: Any, lu: Any, pivots: Any) -> Any:
    """The inverse of each matrix, given its factors."""
    return bind(INVERSE, a, bind(LU_SOLVE, lu, pivots, eye_like(a), flip=False))


@public(np.linalg.inv, name="linalg.inv")
def inv(a: Any) -> Any:
    """The inverse of each matrix. Raises `numpy.linalg.LinAlgError` if there is none."""
    a = square(a)
    return inverse(a, *factors(a))


@public(name="linalg.solve_triangular")
def solve_triangular(
    a: Any,
    b: Any,
    trans: Any = 0,
    lower: bool = False,
    unit_diagonal: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Any:
    """`x` with `a @ x = b` for triangular `a` (`trans` 1 or "T": `a.T`), as `scipy.linalg` has it.

    Leading axes broadcast. NaN and infinities pass through; `overwrite_b` changes nothing. Raises
    `numpy.linalg.LinAlgError` for a zero on the diagonal.
    """
    del overwrite_b, check_finite
    if trans not in (0, 1, 2, "N", "T", "C"):
        raise ValueError(f"trans must be 0, 1, 2, 'N', 'T' or 'C', not {trans!r}")
    a, b, vector = system(a, b)
    flags = {"lower": bool(lower), "flip": trans not in (0, "N"), "unit": bool(unit_diagonal)}
    x = bind(SOLVE_TRIANGULAR, a, b, **flags)
    return squeeze(x, -1) if vector else x


def _regular(x: Any) -> Any:
    """Well-conditioned matrices."""
    return x @ np.swapaxes(x, -1, -2) + 3 * np.eye(3) + np.tril(x)


sample(lambda x, b: np.linalg.solve(_regular(x), b), (3, 3), (3,))
sample(lambda x, b: np.linalg.solve(_regular(x).T, b), (3, 3), (3, 2))
sample(lambda x, b: np.linalg.solve(_regular(x), b), (2, 3, 3), (3,))
sample(lambda x, b: np.linalg.solve(_regular(x), b), (2, 3, 3), (2, 3, 2))
sample(lambda x, b: np.linalg.solve(_regular(x), b), (2, 1, 3, 3), (4, 3, 1))
sample(lambda x, b: np.linalg.solve(_regular(x), b), (3, 3), (2, 3, 2))
sample(lambda x, b: np.linalg.solve(x, b), (0, 0), (0, 2))
sample(lambda x, b: np.linalg.solve(x * x + 1, b), (1, 1), (1,))
sample(lambda x, b: solve_triangular(x + 3 * np.eye(3), b), (3, 3), (3,))
sample(lambda x, b: solve_triangular(x + 3 * np.eye(3), b, "T", lower=True), (3, 3), (3, 2))
sample(lambda x, b: solve_triangular(x, b, 1, unit_diagonal=True), (2, 3, 3), (2, 3, 2))
sample(lambda x, b: solve_triangular(x + 3 * np.eye(3), b, lower=True), (2, 3, 3), (3,))
sample(lambda x: np.linalg.inv(_regular(x)), (3, 3))
sample(lambda x: np.linalg.inv(_regular(x))[1], (2, 3, 3))
sample(lambda x: np.linalg.inv(x * 0 + 2 * np.eye(3, dtype=int)), (3, 3), kinds="i", smooth=False)
