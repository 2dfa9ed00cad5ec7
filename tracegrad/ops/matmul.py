"""Matrix products: `a @ b` by a library call, products with a vector as loops that fuse.

    y = a @ b    =>    d_a = d_y @ b.T,   d_b = a.T @ d_y

A transposed operand is no copy: `matmul` says by `flip` which operands it reads transposed, and
`a.T @ b` is `matmul(a, b, flip=(True, False))`. Stacks of matrices (`stacks`) have rank 3; other
ranks are reshaped to these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from codegen.expr import Call, Const, Var
from codegen.loops import Accumulate, Assign, LibraryCall, Store, View
from tracegrad.errors import ShapeError
from tracegrad.ir.dims import Size, in_figures, must_be_same, product
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.axes import moveaxis
from tracegrad.ops.batched import Mapped, everywhere, leading, regrouped
from tracegrad.ops.broadcast import Shape, broadcast_shapes
from tracegrad.ops.constant import astype
from tracegrad.ops.op import as_operand, bind, public, register, sample, type_of, weak_or_dtype
from tracegrad.ops.reduction import SUM, broadcast_to
from tracegrad.ops.shape import reshape

Flip = tuple[bool, bool]


class MatMul(Op):
    """`a @ b` of two matrices, or of stacks of as many matrices (rank 3), one of which may be a
    single matrix for all."""

    name = "matmul"
    by_reference = True
    stored = (0, 1)
    weight = 2

    def infer(self, a: ArrayType, b: ArrayType, *, flip: Flip, stacks: bool) -> ArrayType:
        left, right = flipped(a.shape, flip[0]), flipped(b.shape, flip[1])
        check_inner(a.with_shape(left), b.with_shape(right), left[-1], right[-2])
        batch = left[:-2] or right[:-2]
        return a.with_shape((*batch, left[-2], right[-1]))

    def reference(self, a: np.ndarray, b: np.ndarray, *, flip: Flip, stacks: bool) -> np.ndarray:
        left, right = (x.swapaxes(-1, -2) if f else x for x, f in zip((a, b), flip, strict=True))
        return np.matmul(left, right)

    def text(self, a: str, b: str, *, flip: Flip, stacks: bool) -> str:
        turned = ".mT" if stacks else ".T"
        return " @ ".join(x + turned if f else x for x, f in zip((a, b), flip, strict=True))

    def work(self, node: Any) -> tuple[float, Size]:
        inner = flipped(node.inputs[0].type.shape, node.attributes["flip"][0])[-1]
        return self.weight, node.type.size * inner

    def vjp(
        self,
        wanted: tuple[bool, ...],
        ct: Array,
        out: Array,
        a: Array,
        b: Array,
        *,
        flip: Flip,
        stacks: bool,
    ) -> tuple[Array | None, ...]:
        """`y = A B` with `A` = a or a.T: `d_A = d_y B.T`, and if flipped `d_a = B d_y.T`; summed
        over the stack, if there is one matrix for all of it."""
        left, right = flip
        d_a = d_b = None
        if wanted[0]:
            d_a = _matmul(b, ct, right, True) if left else _matmul(ct, b, False, not right)
        if wanted[1]:
            d_b = _matmul(ct, a, True, left) if right else _matmul(a, ct, not left, False)
        return _of_rank(d_a, a), _of_rank(d_b, b)

    def jvp(
        self, tangents: tuple[Array | None, ...], out: Array, a: Array, b: Array, **attrs: Any
    ) -> Array:
        return product_rule(lambda x, y: bind(MATMUL, x, y, **attrs), tangents, a, b)

    def batch(self, mapped: Mapped, a: Array, b: Array, *, flip: Flip, stacks: bool) -> Array:
        """Items that share a matrix are rows (columns) of one product; others are stacks."""
        if stacks:
            return _stacks_of_stacks(mapped, a, b, flip)
        if all(mapped):
            return bind(MATMUL, a, b, flip=flip, stacks=True)
        return _on_the_left(a, b, flip) if mapped[0] else _on_the_right(a, b, flip)

    def kernel(self, lowering: Any, node: Any) -> None:
        names = [
            self._operand(lowering, operand, turned)
            for operand, turned in zip(node.inputs, node.attributes["flip"], strict=True)
        ]
        array = lowering.allocate(node)
        function = "dot" if node.type.rank == 2 else "batched_dot"
        lowering.append(LibraryCall(function, tuple(names), (array,), lowering.comment(node)))

    def _operand(self, lowering: Any, operand: Any, turned: bool) -> str:
        """The operand's array, or a transposed view of it."""
        array = lowering.arrays[operand]
        if not turned:
            return array
        view = lowering.namer.unique(f"{array}_t")
        axes = (1, 0) if operand.type.rank == 2 else (0, 2, 1)
        lowering.append(View(view, array, axes=axes))
        return view


class Dot(Op):
    """A product with a vector: of two vectors, `a @ v` or `v @ b`; loops, which fuse with others.

    y = a @ v    =>    d_a = outer(d_y, v),   d_v = d_y @ a
    """

    name = "dot"
    by_reference = True
    weight = 2

    def infer(self, a: ArrayType, b: ArrayType) -> ArrayType:
        check_inner(a, b, a.shape[-1], b.shape[0])
        return a.with_shape(a.shape[:-1] + b.shape[1:])

    def reference(self, a: np.ndarray, b: np.ndarray) -> Any:
        return np.matmul(a, b)

    def text(self, a: str, b: str) -> str:
        return f"{a} @ {b}"

    def work(self, node: Any) -> tuple[float, Size]:
        return self.weight, max((x.type for x in node.inputs), key=lambda type: type.rank).size

    def vjp(self, wanted: tuple[bool, ...], ct: Array, out: Array, a: Array, b: Array):
        left, right = a.type.rank == 2, b.type.rank == 2
        d_a = d_b = None
        if wanted[0]:
            d_a = bind(DOT, b, ct) if right else column(ct) * b if left else ct * b
        if wanted[1]:
            d_b = bind(DOT, ct, a) if left else column(a) * ct if right else ct * a
        return d_a, d_b

    def jvp(self, tangents: tuple[Array | None, ...], out: Array, a: Array, b: Array):
        return product_rule(lambda x, y: bind(DOT, x, y), tangents, a, b)

    def batch(self, mapped: Mapped, a: Array, b: Array) -> Array:
        """A shared matrix times many vectors is one product, shared vectors times many matrices
        one dot; else sums of products, which fuse.
        """
        left, right = a.type.rank - mapped[0], b.type.rank - mapped[1]
        if not all(mapped):
            if left == right == 1:
                return bind(DOT, a, b) if mapped[0] else bind(DOT, b, a)
            if left == 2 and mapped[0]:
                count, rows, inner = a.type.shape
                return regrouped(bind(DOT, regrouped(a, (count * rows, inner)), b), (count, rows))
            if left == 2:
                return bind(MATMUL, b, a, flip=(False, True), stacks=False)
            if mapped[0]:
                return bind(MATMUL, a, b, flip=(False, False), stacks=False)
        if right == 2:
            return bind(SUM, regrouped(a, (*a.type.shape, 1)) * b, axis=(1,))
        return bind(SUM, a * leading(b, mapped[1], left), axis=(left,))

    def kernel(self, lowering: Any, node: Any) -> None:
        a, b = node.inputs
        dtype, comment = node.type.dtype, lowering.comment(node)
        zero = Const(dtype.type(0).item(), dtype)

        def term(i: tuple[Any, ...], j: tuple[Any, ...]) -> Call:
            return Call("multiply", (lowering.value(a, i), lowering.value(b, j)), dtype)

        if b.type.rank == 2:
            array = lowering.allocate(node, fill=zero.value)
            with lowering.nest(b.type.shape) as (i, j):
                value = term((i,), (i, j))
                lowering.append(Accumulate(array, (j,), "add", value, dtype, comment))
            return
        array = lowering.allocate(node) if a.type.rank == 2 else node.name
        with lowering.nest(a.type.shape[:-1]) as rows:
            total = lowering.namer.unique(f"{node.name}_sum") if rows else node.name
            lowering.append(Assign(Var(total, dtype), zero, ""))
            with lowering.nest(b.type.shape) as inner:
                value = term(rows + inner, inner)
                lowering.append(Accumulate(total, None, "add", value, dtype, comment))
            if rows:
                lowering.append(Store(array, rows, Var(total, dtype), comment))
        if not node.type.rank:
            lowering.scalars[node] = Var(array, dtype)


MATMUL = register(MatMul())
DOT = register(Dot())


def _matmul(a: Array, b: Array, flip_a: bool, flip_b: bool) -> Array:
    stacks = max(type_of(a).rank, type_of(b).rank) == 3
    return bind(MATMUL, a, b, flip=(flip_a, flip_b), stacks=stacks)


def _of_rank(ct: Array | None, x: Array) -> Array | None:
    """The cotangent of one matrix for a whole stack is the sum over it."""
    if ct is None or ct.type.rank == x.type.rank:
        return ct
    return bind(SUM, ct, axis=(0,))


def _on_the_left(a: Array, b: Array, flip: Flip) -> Array:
    """`a[i] @ b` for all items: their rows are the rows of one matrix."""
    a = moveaxis(a, 2, 1) if flip[0] else a
    count, rows, inner = a.type.shape
    flat = _matmul(regrouped(a, (count * rows, inner)), b, False, flip[1])
    return regrouped(flat, (count, rows, flat.type.shape[1]))


def _on_the_right(a: Array, b: Array, flip: Flip) -> Array:
    """`a @ b[i]` for all items: their columns are the columns of one matrix, or, where `b` is
    stored the other way, the rows of the transposed one.
    """
    if flip[1]:
        count, columns, inner = b.type.shape
        flat = _matmul(regrouped(b, (count * columns, inner)), a, False, not flip[0])
        return moveaxis(regrouped(flat, (count, columns, flat.type.shape[1])), 2, 1)
    count, inner, columns = b.type.shape
    flat = _matmul(a, regrouped(moveaxis(b, 1, 0), (inner, count * columns)), flip[0], False)
    return moveaxis(regrouped(flat, (flat.type.shape[0], count, columns)), 1, 0)


def _stacks_of_stacks(mapped: Mapped, a: Array, b: Array, flip: Flip) -> Array:
    """Stacks for each item as one long stack; a single matrix that all share stays one."""
    ranks = a.type.rank - mapped[0], b.type.rank - mapped[1]
    single = [rank == 2 and not here for rank, here in zip(ranks, mapped, strict=True)]
    if not any(single):
        a, b = everywhere(mapped, (a, b))
        items = a.type.shape[1] if ranks[0] == 3 else b.type.shape[1]
        a, b = (_for_each(x, items) if x.type.rank == 3 else x for x in (a, b))
    count, items, *_ = (b if single[0] else a).type.shape
    a, b = (
        x if alone else regrouped(x, (count * items, *x.type.shape[2:]))
        for x, alone in zip((a, b), single, strict=True)
    )
    result = bind(MATMUL, a, b, flip=flip, stacks=True)
    return regrouped(result, (count, items, *result.type.shape[1:]))


def _for_each(x: Array, items: Size) -> Array:
    """One matrix per item of a batch, repeated for every matrix of its stack."""
    count, rows, columns = x.type.shape
    single = regrouped(x, (count, 1, rows, columns))
    return broadcast_to(single, (count, items, rows, columns))


def product_rule(
    times: Callable[[Array, Array], Array], tangents: tuple[Array | None, ...], a: Array, b: Array
) -> Array:
    t_a, t_b = tangents
    if t_a is None:
        return times(a, t_b)
    return times(t_a, b) if t_b is None else times(t_a, b) + times(a, t_b)


def flipped(shape: Shape, flip: bool) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2]) if flip else shape


def column(v: Array) -> Array:
    """A vector as a matrix of one column."""
    return reshape(v, (*type_of(v).shape, 1))


def check_inner(a: ArrayType, b: ArrayType, left: Size, right: Size) -> None:
    if not must_be_same(left, right):
        axis = max(b.rank - 2, 0)
        raise ShapeError(
            f"cannot multiply {a.in_figures()} @ {b.in_figures()}: axis {a.rank - 1} of the left "
            f"is {in_figures(left)}, axis {axis} of the right is {in_figures(right)}; they have to "
            "be equal"
        )


def likely(size: Size) -> int:
    """The size in the traced call, by which orders of products are chosen."""
    number = in_figures(size)
    return number if isinstance(number, int) else 1


def common_dtype(function: np.ufunc, *operands: Any) -> list[Any]:
    """The operands in the dtype in which NumPy would multiply them."""
    kinds = [weak_or_dtype(type_of(x)) for x in operands]
    if all(isinstance(kind, type) for kind in kinds):
        kinds = [type_of(x).dtype for x in operands]
    loop = function.resolve_dtypes((*kinds, None))
    return [astype(x, dtype) for x, dtype in zip(operands, loop, strict=False)]


@public(np.matmul)
def matmul(a: Any, b: Any, /) -> Any:
    """`a @ b`: of vectors, matrices, and stacks of matrices whose leading axes broadcast."""
    a, b = as_operand(a), as_operand(b)
    for number, x in enumerate((a, b)):
        if not type_of(x).rank:
            raise ValueError(
                f"matmul: operand {number} is a scalar: it does not have enough dimensions (matmul "
                "needs at least 1); use * to multiply by a number"
            )
    a, b = common_dtype(np.matmul, a, b)
    left, right = type_of(a), type_of(b)
    check_inner(left, right, left.shape[-1], right.shape[max(right.rank - 2, 0)])
    match left.rank, right.rank:
        case (1, 1) | (1, 2) | (2, 1):
            return bind(DOT, a, b)
        case 2, 2:
            return _matmul(a, b, False, False)
        case 1, _:
            rows = matmul(reshape(a, (1, *left.shape)), b)
            return reshape(rows, (*right.shape[:-2], right.shape[-1]))
        case _, (1 | 2):
            flat = matmul(_rows(a), b)
            return reshape(flat, left.shape[:-1] + right.shape[1:])
    return _stacked(a, b)


def _rows(a: Any) -> Any:
    """The rows of a stack of matrices as one matrix."""
    shape = type_of(a).shape
    return reshape(a, (product(shape[:-1]), shape[-1]))


def _stacked(a: Any, b: Any) -> Any:
    left, right = type_of(a), type_of(b)
    if left.rank == 2:
        stack = reshape(b, (product(right.shape[:-2]), *right.shape[-2:]))
        found = _matmul(a, stack, False, False)
        return reshape(found, (*right.shape[:-2], left.shape[-2], right.shape[-1]))
    batch = broadcast_shapes(
        "multiply stacks", left.with_shape(left.shape[:-2]), right.with_shape(right.shape[:-2])
    )
    a, b = broadcast_to(a, batch + left.shape[-2:]), broadcast_to(b, batch + right.shape[-2:])
    count = product(batch)
    a = reshape(a, (count, *left.shape[-2:]))
    b = reshape(b, (count, *right.shape[-2:]))
    return reshape(_matmul(a, b, False, False), (*batch, left.shape[-2], right.shape[-1]))


sample(lambda a, b: a @ b, (3, 4), (4, 2))
sample(lambda a, b: a.T @ b.T, (4, 3), (2, 4))
sample(lambda a, b: a @ b, (3,), (3,))
sample(lambda a, b: a @ b, (2, 3), (3,))
sample(lambda a, b: a @ b, (3,), (3, 2))
sample(lambda a, b: a @ b, (3,), (2, 3, 4))
sample(lambda a, b: a @ b, (2, 5, 3), (3,))
sample(lambda a, b: a @ b, (2, 5, 3), (3, 4))
sample(lambda a, b: a @ b, (2, 3), (4, 3, 2))
sample(lambda a, b: a.T @ b, (3, 2), (4, 3, 2))
sample(lambda a, b: a @ np.swapaxes(b, 1, 2), (2, 3), (4, 2, 3))
sample(lambda a, b: a @ b, (2, 3), (2, 2, 3, 2))
sample(lambda a, b: a @ b, (2, 3), (0, 3, 2))
sample(lambda a, b: np.matmul(a, b), (2, 1, 2, 3), (4, 3, 2))
sample(lambda a, b: a @ b, (3, 0), (0, 2))
sample(lambda a, b: a @ b, (0, 3), (3, 2))
sample(lambda a, b: a @ b, (1, 3), (3, 1))
sample(lambda a, b: a @ np.swapaxes(b, 1, 2), (2, 3, 4), (2, 5, 4))
