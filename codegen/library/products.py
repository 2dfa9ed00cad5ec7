"""Matrix products into memory that the caller allocated: `dot` and `batched_dot(a, b, out)`.

In: matrices and vectors of one dtype in any memory layout (a transposed or sliced operand is not
copied). Out: `out`, C-contiguous, filled. Float products go to SciPy's BLAS (which is faster than a
loop nest from 2 x 2 on), large ones in blocks on several threads (`codegen.gemm`); those of
integers and booleans to a loop nest.

These are intrinsics: they build their LLVM code, one function a module and dtype, in 10 ms where
compiling `np.dot` takes 170 ms for each combination of layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype

from codegen import blas
from codegen.gemmcode import MANY
from codegen.records import dataclass

INT, WORD = ir.IntType(32), ir.IntType(64)


@dataclass
class Matrix:
    """An operand in LLVM: extents, strides in elements, address of element (0, 0)."""

    rows: Any
    columns: Any
    down: Any
    across: Any
    data: Any

    def element(self, builder: Any, i: Any, j: Any) -> Any:
        offset = builder.add(builder.mul(i, self.down), builder.mul(j, self.across))
        return builder.gep(self.data, [offset])


def product(
    builder: Any,
    dtype: types.Type,
    operands: Sequence[Matrix],
    items: Any = None,
    steps: Sequence[Any] = (),
) -> None:
    """Call the function of the module that makes such products: one for all of a dtype."""
    several = () if items is None else (items, *steps)
    values = [value for m in operands for value in (m.rows, m.columns, m.down, m.across, m.data)]
    values += several
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
    name = f"codegen_product_{dtype}{MANY if several else ''}"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    if function.is_declaration:
        function.linkage = "internal"
        function.attributes.add("noinline")
        inside = ir.IRBuilder(function.append_basic_block())
        given = list(function.args)
        matrices = [Matrix(*given[at : at + 5]) for at in (0, 5, 10)]
        Product(inside, dtype, matrices, given[15] if several else None, given[16:]).build()
        inside.ret_void()
    builder.call(function, values)


class Product:
    """The LLVM code of one product of 2-D operands (vectors are matrices of one row or column)."""

    def __init__(
        self,
        builder: Any,
        dtype: types.Type,
        operands: Sequence[Matrix],
        items: Any = None,
        steps: Sequence[Any] = (),
    ) -> None:
        """Of one product, or of so many `items`; from one to the next each operand is moved by its
        one of `steps`, in elements."""
        self.builder, self.dtype = builder, dtype
        self.a, self.b, self.out = operands
        self.items, self.steps = items, steps

    def build(self) -> None:
        """BLAS where that is possible, else loops; an empty sum is for the loops too."""
        if not isinstance(self.dtype, types.Float):
            self.plainly()
            return
        builder = self.builder
        work = builder.mul(builder.mul(self.a.rows, self.a.columns), self.b.columns)
        plain = builder.icmp_signed("==", work, word(0))
        for matrix in (self.a, self.b):
            plain = builder.or_(plain, builder.not_(self.fits(matrix)))
        with builder.if_else(plain, likely=False) as (plainly, by_blas):
            with plainly:
                self.plainly()
            with by_blas:
                self.gemm()

    def plainly(self) -> None:
        """Loops, for every item."""
        operands = (self.a, self.b, self.out)
        if self.items is None:
            self.loops(*operands)
            return
        with cgutils.for_range(self.builder, self.items) as k:
            moved = (
                replace(m, data=self.builder.gep(m.data, [self.builder.mul(k.index, step)]))
                for m, step in zip(operands, self.steps, strict=True)
            )
            self.loops(*moved)

    def loops(self, a: Matrix, b: Matrix, out: Matrix) -> None:
        """`out[i, j] = sum(a[i, k] * b[k, j])`, one element after the other."""
        builder = self.builder
        with (
            cgutils.for_range(builder, a.rows) as i,
            cgutils.for_range(builder, b.columns) as j,
        ):
            total = cgutils.alloca_once(builder, out.data.type.pointee)
            builder.store(ir.Constant(out.data.type.pointee, None), total)
            with cgutils.for_range(builder, a.columns) as k:
                left = builder.load(a.element(builder, i.index, k.index))
                right = builder.load(b.element(builder, k.index, j.index))
                builder.store(self.plus_product(builder.load(total), left, right), total)
            builder.store(builder.load(total), out.element(builder, i.index, j.index))

    def plus_product(self, total: Any, left: Any, right: Any) -> Any:
        """On booleans a product is `and`, a sum is `or`."""
        builder = self.builder
        match self.dtype:
            case types.Float():
                return builder.fadd(total, builder.fmul(left, right))
            case types.Boolean():
                return builder.or_(total, builder.and_(left, right))
        return builder.add(total, builder.mul(left, right))

    def fits(self, matrix: Matrix) -> Any:
        """Whether BLAS can read the matrix: rows or columns lie apart by a fixed number of elements
        and are contiguous."""
        builder = self.builder
        by_columns = builder.and_(
            builder.icmp_signed("==", matrix.down, word(1)),
            builder.icmp_signed(">=", matrix.across, matrix.rows),
        )
        return builder.or_(self.lies_in_rows(matrix), by_columns)

    def lies_in_rows(self, matrix: Matrix) -> Any:
        return self.builder.and_(
            self.builder.icmp_signed("==", matrix.across, word(1)),
            self.builder.icmp_signed(">=", matrix.down, matrix.columns),
        )

    def gemm(self) -> None:
        """BLAS thinks in columns: of the transposed product, `out.T = b.T @ a.T`."""
        builder = self.builder
        name = "dgemm" if self.dtype == types.float64 else "sgemm"
        transpose_a, lead_a = self.orientation(self.a)
        transpose_b, lead_b = self.orientation(self.b)
        lead_out = self.larger(self.out.down, self.out.columns)
        one, zero = (ir.Constant(self.out.data.type.pointee, v) for v in (1.0, 0.0))
        sizes = [self.short(v) for v in (self.b.columns, self.a.rows, self.a.columns)]
        leads = [self.short(v) for v in (lead_b, lead_a, lead_out)]
        arguments = [
            *map(self.kept, (transpose_b, transpose_a, *sizes, one)),
            self.b.data,
            self.kept(leads[0]),
            self.a.data,
            self.kept(leads[1]),
            self.kept(zero),
            self.out.data,
            self.kept(leads[2]),
        ]
        if self.items is not None:
            step_a, step_b, step_out = self.steps
            arguments += [self.items, step_b, step_a, step_out]
            name += MANY
        signature = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(builder.module, signature, blas.register(name))
        builder.call(function, arguments)

    def orientation(self, matrix: Matrix) -> tuple[Any, Any]:
        """What BLAS calls `trans` and `ld`: memory that lies in rows is the transpose already."""
        builder = self.builder
        in_rows = self.lies_in_rows(matrix)
        letters = (ir.Constant(ir.IntType(8), ord(letter)) for letter in "NT")
        row_lead = self.larger(matrix.down, matrix.columns)
        column_lead = self.larger(matrix.across, matrix.rows)
        return builder.select(in_rows, *letters), builder.select(in_rows, row_lead, column_lead)

    def larger(self, a: Any, b: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed(">", a, b), a, b)

    def short(self, value: Any) -> Any:
        return self.builder.trunc(value, INT)

    def kept(self, value: Any) -> Any:
        """The address of a copy of `value`: Fortran takes everything by reference."""
        slot = cgutils.alloca_once(self.builder, value.type)
        self.builder.store(value, slot)
        return slot


def word(value: int) -> ir.Constant:
    return ir.Constant(WORD, value)


@dataclass(frozen=True)
class Operand:
    """An array in LLVM: extents, strides in elements, address of its first element."""

    extents: Sequence[Any]
    steps: Sequence[Any]
    data: Any


def operand(context: Any, builder: Any, array_type: Any, value: Any) -> Operand:
    """The parts of numba's structure of an array."""
    array = context.make_array(array_type)(context, builder, value)
    size = word(item_size(array_type.dtype))
    steps = [builder.sdiv(s, size) for s in cgutils.unpack_tuple(builder, array.strides)]
    return Operand(cgutils.unpack_tuple(builder, array.shape), steps, array.data)


def item_size(dtype: types.Type) -> int:
    """Bytes of an element in memory."""
    return as_dtype(dtype).itemsize


def matrix(array: Operand, row: bool) -> Matrix:
    """An array of rank 1 or 2 as a matrix; a vector as one `row`, or else as one column."""
    if len(array.extents) == 2:
        (rows, columns), (down, across) = array.extents, array.steps
        return Matrix(rows, columns, down, across, array.data)
    (extent,), (stride,) = array.extents, array.steps
    if row:
        return Matrix(word(1), extent, extent, stride, array.data)
    return Matrix(extent, word(1), stride, word(1), array.data)


def checked(*arrays: Any) -> types.Type:
    """The common dtype of the operands of a product. Raises numba's TypeError."""
    dtypes = {array.dtype for array in arrays if isinstance(array, types.Array)}
    if len(dtypes) != 1 or len(arrays) != 3:
        raise TypingError(f"dot needs arrays of one dtype, not {arrays}")
    return dtypes.pop()


def plain_dot(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    np.dot(a, b, out)


def plain_batched_dot(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    np.matmul(a, b, out)


def multiply(builder: Any, dtype: types.Type, a: Operand, b: Operand, out: Operand) -> None:
    """Matrix times matrix, matrix times vector, or vector times matrix, into `out`."""
    row = len(a.extents) == 1
    product(builder, dtype, [matrix(a, True), matrix(b, False), matrix(out, row)])


def multiply_each(builder: Any, dtype: types.Type, a: Operand, b: Operand, out: Operand) -> None:
    """`out[k] = a[k] @ b[k]`."""
    stacks = [Stack(array) for array in (a, b, out)]
    first = [stack.first for stack in stacks]
    steps = tuple(stack.step for stack in stacks)
    product(builder, dtype, first, stacks[2].extent, steps)


def typed_dot(typing_context: Any, a: Any, b: Any, out: Any) -> Any:
    """`multiply` of numba's arrays."""
    return typed(multiply, a, b, out)


def typed_batched_dot(typing_context: Any, a: Any, b: Any, out: Any) -> Any:
    """`out[k] = a[k] @ b[k]` for each matrix of three arrays of rank 3; `a` or `b` may be a single
    matrix for all."""
    return typed(multiply_each, a, b, out)


def typed(write: Callable[..., None], *kinds: Any) -> Any:
    dtype = checked(*kinds)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pairs = zip(signature.args, values, strict=True)
        write(builder, dtype, *(operand(context, builder, *pair) for pair in pairs))
        return context.get_dummy_value()

    return types.void(*kinds), generate


class Stack:
    """An array of rank 3 as its first matrix, how many there are, and the step from one to the next
    in elements; a matrix as the same one over and over, which has no step."""

    def __init__(self, array: Operand) -> None:
        *stack, rows, columns = array.extents
        *step, down, across = array.steps
        self.extent, self.step = (part[0] if part else word(0) for part in (stack, step))
        self.first = Matrix(rows, columns, down, across, array.data)


INTERPRETED = vars(config)["DISABLE_JIT"]
dot: Any = plain_dot if INTERPRETED else intrinsic(typed_dot)
batched_dot: Any = plain_batched_dot if INTERPRETED else intrinsic(typed_batched_dot)
WRITTEN = {"dot": multiply, "batched_dot": multiply_each}
"""What writes the code of these two for arrays whose parts are known."""
