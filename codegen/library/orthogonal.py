"""Singular values and orthogonal factors in place, by SciPy's LAPACK: intrinsics.

In: C-contiguous arrays of floats whose last two axes are matrices; leading axes count matrices.
Out: the same arrays, overwritten:

    converged = svd(vectors, work, counts, s, u, v, a)    a.T = u.T @ diag(s) @ v.T; a is lost
    qr_factor(work, tau, a)       a: its upper triangle becomes R, the rest the reflectors (m >= n)
    qr_vectors(work, tau, a)      a: what qr_factor left becomes Q, of m rows and n columns

Fortran reads the memory of `a` as `a.T`. An LQ factorisation there is a QR factorisation here;
`svd` is given and gives transposed matrices, so that the signs of the vectors are NumPy's.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from codegen.library import factorisations
from codegen.library.lapack import Caller, Matrices, checked, compiled
from codegen.library.products import INT


def typed_svd(
    typing_context: Any, vectors: Any, work: Any, counts: Any, s: Any, u: Any, v: Any, a: Any
) -> Any:
    """`work` and `counts` are the workspaces that LAPACK's dgesdd asks for."""
    checked(a, u, v, s, work)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        matrices = Matrices(context, builder, a, values[6], a.ndim)
        left = Matrices(context, builder, u, values[4], u.ndim)
        right = Matrices(context, builder, v, values[5], v.ndim)
        spaces = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip((work, counts, s), values[1:4], strict=True)
        ]
        (length,) = cgutils.unpack_tuple(builder, spaces[0].shape)
        *_, inner = cgutils.unpack_tuple(builder, spaces[2].shape)
        caller, rows, columns = Caller(builder, a.dtype), matrices.rows, matrices.columns
        info, job = cgutils.alloca_once(builder, INT), caller.either(values[0], "SN")
        with cgutils.for_range(builder, matrices.count) as k:
            found = builder.gep(spaces[2].data, [builder.mul(k.index, inner)])
            places = (found, left.at(k.index), caller.lead(columns))
            places = (*places, right.at(k.index), caller.lead(inner))
            rooms = (spaces[0].data, length, spaces[1].data)
            matrix = (columns, rows, matrices.at(k.index), caller.lead(columns))
            caller.call("gesdd", job, *matrix, *places, *rooms, info)
            caller.require(builder.icmp_signed("==", builder.load(info), ir.Constant(INT, 0)))
        return builder.load(caller.good)

    return types.boolean(types.boolean, work, counts, s, u, v, a), generate


def reflected(routine: str) -> Any:
    """The intrinsic that runs `gelqf`, or `orglq` on what that left."""

    def typed(typing_context: Any, work: Any, tau: Any, a: Any) -> Any:
        checked(a, tau, work)

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            matrices = Matrices(context, builder, a, values[2], a.ndim)
            room = context.make_array(work)(context, builder, values[0])
            scales = context.make_array(tau)(context, builder, values[1]).data
            (length,) = cgutils.unpack_tuple(builder, room.shape)
            caller, columns = Caller(builder, a.dtype), matrices.columns
            info = cgutils.alloca_once(builder, INT)
            sizes = (columns, matrices.rows, *(columns,) * (routine == "orglq"))
            with cgutils.for_range(builder, matrices.count) as k:
                start = matrices.at(k.index)
                scale = builder.gep(scales, [builder.mul(k.index, columns)])
                factors = (start, caller.lead(columns), scale)
                caller.call(routine, *sizes, *factors, room.data, length, info)
            return context.get_dummy_value()

        return types.void(work, tau, a), generate

    typed.__name__ = f"typed_{routine}"
    return typed


svd = compiled(typed_svd, factorisations.svd)
qr_factor = compiled(reflected("gelqf"), factorisations.qr_factor)
qr_vectors = compiled(reflected("orglq"), factorisations.qr_vectors)

__all__ = ["qr_factor", "qr_vectors", "svd"]
