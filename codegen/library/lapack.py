"""Factorisations and triangular systems in place, by SciPy's LAPACK and BLAS: intrinsics.

In: C-contiguous arrays of floats whose last two axes are matrices; leading axes count matrices.
Out: the same arrays, overwritten, and whether it went well for every matrix:

    definite = cholesky(a)                    a: its lower triangle becomes L with a = L @ L.T
    lu_factor(a, pivots)                      a: becomes L and U as scipy.linalg.lu_factor has them
    regular = lu_solve(lu, pivots, flip, b)   b: becomes x with a @ x = b, or a.T @ x = b
    regular = solve_triangular(a, lower, flip, unit, b)
    converged = eigh(vectors, work, counts, w, a)   a: symmetric, becomes its eigenvectors

Fortran reads the memory of `a` as `a.T`. Cholesky's factor of the upper triangle of that is L in
ours; a system `a @ x = b` is `x.T @ a.T = b.T` there, which is what `trsm` solves from the right.
So nothing is transposed but around `getrf`, whose pivots shall be NumPy's. Systems of a few
unknowns are solved by code of our own (`small`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.errors import TypingError
from numba.extending import intrinsic

from codegen import blas
from codegen.library import factorisations, small
from codegen.library.products import INT, word

BOOL, LETTER = ir.IntType(1), ir.IntType(8)


class Matrices:
    """An array as a sequence of matrices of `rows` x `columns`; a vector is one column."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any, rank: int) -> None:
        array = context.make_array(kind)(context, builder, value)
        shape = [opaque(builder, extent) for extent in cgutils.unpack_tuple(builder, array.shape)]
        if kind.ndim < rank:
            shape.append(word(1))
        *batch, self.rows, self.columns = shape
        self.builder, self.data, self.dtype = builder, array.data, kind.dtype
        self.count = word(1)
        for extent in batch:
            self.count = builder.mul(self.count, extent)

    def at(self, k: Any) -> Any:
        """The address of matrix `k`."""
        size = self.builder.mul(self.rows, self.columns)
        return self.builder.gep(self.data, [self.builder.mul(k, size)])

    def element(self, start: Any, i: Any, j: Any) -> Any:
        offset = self.builder.add(self.builder.mul(i, self.columns), j)
        return self.builder.gep(start, [offset])


def opaque(builder: Any, extent: Any) -> Any:
    """The same number, of which LLVM does not know that it is a constant: it would write out the
    steps of a loop, for a system of 100 unknowns 5,000 instructions (3 s instead of 0.4).
    """
    kind = ir.FunctionType(extent.type, [extent.type])
    return builder.asm(kind, "", "=r,0", [extent], side_effect=False)


class Caller:
    """Writes calls of Fortran routines, loops, and the flag that says how it went."""

    def __init__(self, builder: Any, dtype: types.Type) -> None:
        self.builder = builder
        self.prefix = "d" if dtype == types.float64 else "s"
        self.good = cgutils.alloca_once(builder, BOOL)
        builder.store(ir.Constant(BOOL, 1), self.good)

    def call(self, routine: str, *arguments: Any) -> None:
        """Call `dpotrf` or `spotrf`, ...: everything goes by reference, extents as 32 bits."""
        builder = self.builder
        passed = [self.reference(argument) for argument in arguments]
        signature = ir.FunctionType(ir.VoidType(), [argument.type for argument in passed])
        symbol = blas.register(self.prefix + routine)
        builder.call(cgutils.get_or_insert_function(builder.module, signature, symbol), passed)

    def reference(self, value: Any) -> Any:
        """The address of a letter, an extent or a number; addresses as they are."""
        if isinstance(value, str):
            value = ir.Constant(LETTER, ord(value))
        if isinstance(value.type, ir.PointerType):
            return value
        if value.type == word(0).type:
            value = self.builder.trunc(value, INT)
        slot = cgutils.alloca_once(self.builder, value.type)
        self.builder.store(value, slot)
        return slot

    def either(self, condition: Any, letters: str) -> Any:
        """The first letter if `condition` holds, else the second."""
        yes, no = (ir.Constant(LETTER, ord(letter)) for letter in letters)
        return self.builder.select(condition, yes, no)

    def lead(self, extent: Any) -> Any:
        """A leading dimension: at least 1, also of empty matrices."""
        one = word(1)
        return self.builder.select(self.builder.icmp_signed(">", extent, one), extent, one)

    def require(self, condition: Any) -> None:
        self.builder.store(self.builder.and_(self.builder.load(self.good), condition), self.good)

    def require_diagonal(self, matrices: Matrices, start: Any) -> None:
        """No zero on the diagonal (a NaN is none)."""
        with cgutils.for_range(self.builder, matrices.rows) as i:
            entry = self.builder.load(matrices.element(start, i.index, i.index))
            zero = ir.Constant(entry.type, 0.0)
            self.require(self.builder.fcmp_unordered("!=", entry, zero))

    def swap(self, a: Any, b: Any) -> None:
        first, second = self.builder.load(a), self.builder.load(b)
        self.builder.store(second, a)
        self.builder.store(first, b)

    def transpose(self, matrices: Matrices, start: Any, tile: int = 16) -> None:
        """A square matrix in place, by tiles that stay in cache."""
        n = matrices.rows
        with (
            self.tiles(n, word(0), tile) as (top, bottom),
            self.tiles(n, top, tile) as (left, right),
        ):
            self.exchange(matrices, start, (top, bottom), (left, right))

    def exchange(self, matrices: Matrices, start: Any, rows: Any, columns: Any) -> None:
        """The elements above the diagonal in a tile change places with those below it."""
        builder = self.builder
        with self.between(*rows) as i, self.between(*columns) as j:
            above = builder.icmp_signed("<", i, j)
            with builder.if_then(above):
                self.swap(matrices.element(start, i, j), matrices.element(start, j, i))

    @contextmanager
    def between(self, start: Any, stop: Any) -> Iterator[Any]:
        with cgutils.for_range_slice(self.builder, start, stop, word(1)) as (index, _):
            yield index

    @contextmanager
    def tiles(self, extent: Any, start: Any, tile: int) -> Iterator[tuple[Any, Any]]:
        builder = self.builder
        with cgutils.for_range_slice(builder, start, extent, word(tile)) as (index, _):
            end = builder.add(index, word(tile))
            yield index, builder.select(builder.icmp_signed("<", end, extent), end, extent)

    def solve(self, a: Any, rows: Any, columns: Any, x: Any, *, upper: Any, flip: Any, unit: Any):
        """`x.T @ op(m) = b.T` in Fortran's eyes, `m` the triangle of `a` as Fortran sees it.

        A single column is `op(m).T @ x = b`, which `trsv` does in a fifth of the time of
        `trsm` (9 against 43 us at n = 200).
        """
        builder = self.builder
        with builder.if_else(self.few(rows)) as (few, many):
            with few:
                solve = small.substitute(builder.module, x.type.pointee)
                onwards = builder.icmp_unsigned("!=", upper, flip)
                builder.call(solve, [a, x, columns, onwards, flip, unit, rows])
            with many:
                self.solve_many(a, rows, columns, x, upper, flip, unit)

    def few(self, rows: Any, most: int = small.MOST) -> Any:
        return self.builder.icmp_signed("<=", rows, word(most))

    def solve_many(
        self, a: Any, rows: Any, columns: Any, x: Any, upper: Any, flip: Any, unit: Any
    ) -> None:
        one = ir.Constant(x.type.pointee, 1.0)
        triangle, diagonal = self.either(upper, "UL"), self.either(unit, "UN")
        lead, single = self.lead(rows), self.builder.icmp_signed("==", columns, word(1))
        with self.builder.if_else(single) as (vector, several):
            with vector:
                turned = self.either(flip, "NT")
                self.call("trsv", triangle, turned, diagonal, rows, a, lead, x, word(1))
            with several:
                kinds = (triangle, self.either(flip, "TN"), diagonal)
                sizes = (columns, rows, one, a, lead, x, self.lead(columns))
                self.call("trsm", "R", *kinds, *sizes)


def checked(*arrays: Any) -> None:
    """Raises numba's TypingError unless these are C-contiguous float arrays of one dtype."""
    for array in arrays:
        good = isinstance(array, types.Array) and array.layout == "C" and array.aligned
        if not good or not isinstance(array.dtype, types.Float) or array.dtype != arrays[0].dtype:
            raise TypingError(f"a C-contiguous array of floats is wanted, not {array}")


def flag(value: bool) -> ir.Constant:
    return ir.Constant(BOOL, int(value))


def typed_cholesky(typing_context: Any, a: Any) -> Any:
    checked(a)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        matrices = Matrices(context, builder, a, values[0], a.ndim)
        caller, n = Caller(builder, a.dtype), matrices.rows
        info = cgutils.alloca_once(builder, INT)
        with cgutils.for_range(builder, matrices.count) as k:
            start = matrices.at(k.index)
            with builder.if_else(caller.few(n, small.MOST_DEFINITE)) as (few, many):
                with few:
                    kind = start.type.pointee
                    caller.require(builder.call(small.cholesky(builder.module, kind), [start, n]))
                with many:
                    caller.call("potrf", "U", n, start, caller.lead(n), info)
                    good = builder.icmp_signed("==", builder.load(info), ir.Constant(INT, 0))
                    caller.require(good)
        return builder.load(caller.good)

    return types.boolean(a), generate


def typed_lu_factor(typing_context: Any, a: Any, pivots: Any) -> Any:
    checked(a)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        matrices = Matrices(context, builder, a, values[0], a.ndim)
        order = context.make_array(pivots)(context, builder, values[1]).data
        caller, n = Caller(builder, a.dtype), matrices.rows
        info = cgutils.alloca_once(builder, INT)
        with cgutils.for_range(builder, matrices.count) as k:
            start, places = matrices.at(k.index), builder.gep(order, [builder.mul(k.index, n)])
            with builder.if_else(caller.few(n)) as (few, many):
                with few:
                    kind = start.type.pointee
                    builder.call(small.factor(builder.module, kind), [start, places, n])
                with many:
                    caller.transpose(matrices, start)
                    caller.call("getrf", n, n, start, caller.lead(n), places, info)
                    caller.transpose(matrices, start)
                    with cgutils.for_range(builder, n) as row:  # Fortran counts from 1
                        place = builder.gep(places, [row.index])
                        builder.store(builder.sub(builder.load(place), ir.Constant(INT, 1)), place)
        return context.get_dummy_value()

    return types.void(a, pivots), generate


def typed_lu_solve(typing_context: Any, lu: Any, pivots: Any, flip: Any, b: Any) -> Any:
    """`a = P L U`: the rows of b change places, then L, then U; for `a.T` all that backwards."""
    checked(lu, b)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        left = Matrices(context, builder, lu, values[0], lu.ndim)
        right = Matrices(context, builder, b, values[3], lu.ndim)
        order = context.make_array(pivots)(context, builder, values[1]).data
        caller, n, yes, no = Caller(builder, lu.dtype), left.rows, flag(True), flag(False)

        def permute(k: Any, backwards: bool) -> None:
            with cgutils.for_range(builder, n) as step:
                i = step.index
                if backwards:
                    i = builder.sub(builder.sub(n, word(1)), i)
                place = builder.gep(order, [builder.add(builder.mul(k, n), i)])
                other = builder.sext(builder.load(place), word(0).type)
                x = right.at(k)
                with cgutils.for_range(builder, right.columns) as j:
                    caller.swap(right.element(x, i, j.index), right.element(x, other, j.index))

        with cgutils.for_range(builder, left.count) as loop:
            k = loop.index
            a, x = left.at(k), right.at(k)
            caller.require_diagonal(left, a)
            sizes = (a, n, right.columns, x)
            with builder.if_else(values[2]) as (transposed, plain):
                with plain:
                    permute(k, backwards=False)
                    caller.solve(*sizes, upper=yes, flip=no, unit=yes)
                    caller.solve(*sizes, upper=no, flip=no, unit=no)
                with transposed:
                    caller.solve(*sizes, upper=no, flip=yes, unit=no)
                    caller.solve(*sizes, upper=yes, flip=yes, unit=yes)
                    permute(k, backwards=True)
        return builder.load(caller.good)

    return types.boolean(lu, pivots, types.boolean, b), generate


def typed_solve_triangular(
    typing_context: Any, a: Any, lower: Any, flip: Any, unit: Any, b: Any
) -> Any:
    checked(a, b)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        left = Matrices(context, builder, a, values[0], a.ndim)
        right = Matrices(context, builder, b, values[4], a.ndim)
        caller = Caller(builder, a.dtype)
        below, transposed, ones = values[1:4]
        with cgutils.for_range(builder, left.count) as k:
            start = left.at(k.index)
            with builder.if_then(builder.not_(ones)):
                caller.require_diagonal(left, start)
            sizes = (start, left.rows, right.columns, right.at(k.index))
            caller.solve(*sizes, upper=below, flip=transposed, unit=ones)
        return builder.load(caller.good)

    flags = (types.boolean, types.boolean, types.boolean)
    return types.boolean(a, *flags, b), generate


def typed_eigh(typing_context: Any, vectors: Any, work: Any, counts: Any, w: Any, a: Any) -> Any:
    """`work` and `counts` are the workspaces that LAPACK's dsyevd asks for."""
    checked(a, w, work)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        matrices = Matrices(context, builder, a, values[4], a.ndim)
        spaces = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip((work, counts, w), values[1:4], strict=True)
        ]
        (length,), (number,) = (cgutils.unpack_tuple(builder, s.shape) for s in spaces[:2])
        caller, n = Caller(builder, a.dtype), matrices.rows
        info, job = cgutils.alloca_once(builder, INT), caller.either(values[0], "VN")
        with cgutils.for_range(builder, matrices.count) as k:
            start = matrices.at(k.index)
            found = builder.gep(spaces[2].data, [builder.mul(k.index, n)])
            rooms = (spaces[0].data, length, spaces[1].data, number)
            caller.call("syevd", job, "L", n, start, caller.lead(n), found, *rooms, info)
            caller.require(builder.icmp_signed("==", builder.load(info), ir.Constant(INT, 0)))
            caller.transpose(matrices, start)
        return builder.load(caller.good)

    return types.boolean(types.boolean, work, counts, w, a), generate


def compiled(typing: Callable[..., Any], plain: Callable[..., Any]) -> Any:
    """The intrinsic, or the plain function where numba is switched off."""
    return plain if vars(config)["DISABLE_JIT"] else intrinsic(typing)


eigh = compiled(typed_eigh, factorisations.eigh)
cholesky = compiled(typed_cholesky, factorisations.cholesky)
lu_factor = compiled(typed_lu_factor, factorisations.lu_factor)
lu_solve = compiled(typed_lu_solve, factorisations.lu_solve)
solve_triangular = compiled(typed_solve_triangular, factorisations.solve_triangular)
