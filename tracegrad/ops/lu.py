"""The LU factors of square matrices as values, `a[order] = L @ U`, and systems solved with them.

    x = solve(a, b)     ->     lu, pivots = factors of a;   x = solve(a, b; lu, pivots)

The factors are values like others: what is computed once serves every system and determinant, and
a backward that runs later, or in the reversed loop, finds them kept. They have no derivative: what
is made of them has one with respect to `a`, the operand that stands there for nothing else, and
that goes when no derivative is taken any more (`Op.settled`).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.expr import Const, Var
from codegen.loops import Alloc, Check, LibraryCall, Store
from tracegrad.ir.dims import Size, product
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.axes import expand_dims, moveaxis, squeeze
from tracegrad.ops.batched import Mapped, everywhere, regrouped
from tracegrad.ops.linalg import check_fit, check_square, matrices
from tracegrad.ops.op import bind, register

LINALG_ERROR = "np.linalg.LinAlgError"
SINGULAR = "Singular matrix"
INT32 = np.dtype(np.int32)


class Factor(Op):
    """One of the two results; one call gives both if both are used."""

    weight = 2

    def work(self, node: Any) -> tuple[float, Size]:
        a = node.inputs[0].type
        return self.weight / 3, matrices(a) * a.shape[-1] * a.shape[-1] * a.shape[-1]

    def batch(self, mapped: Mapped, a: Array) -> Array:
        return bind(self, a)

    def kernel(self, lowering: Any, node: Any) -> None:
        if node in lowering.arrays:
            return
        (a,) = node.inputs
        found = {reader.op: reader for reader in lowering.graph.uses[a]}
        lu = room(lowering, found.get(LU_FACTORS), "lu", a, a.type)
        pivots = room(lowering, found.get(LU_PIVOTS), "pivots", a, pivots_type(a.type))
        comment = lowering.comment(node)
        with lowering.nest(a.type.shape) as index:
            lowering.append(Store(lu, index, lowering.value(a, index), comment))
        lowering.append(LibraryCall("lu_factor", (), (lu, pivots), comment))


def room(lowering: Any, node: Any, name: str, a: Any, type: ArrayType) -> str:
    """The array of a result, or one that nobody reads."""
    if node is not None:
        return lowering.allocate(node)
    name = lowering.namer.unique(f"{a.name}_{name}")
    lowering.append(Alloc(name, tuple(map(lowering.size, type.shape)), type.dtype))
    return name


def pivots_type(a: ArrayType) -> ArrayType:
    return ArrayType(INT32, a.shape[:-1])


class LuFactors(Factor):
    """L, without its diagonal of ones, and U in one matrix."""

    name = "lu_factors"

    def infer(self, a: ArrayType) -> ArrayType:
        check_square(a)
        return a.with_shape(a.shape)

    def reference(self, a: np.ndarray) -> np.ndarray:
        return _factored(a)[0]

    def text(self, a: str) -> str:
        return f"scipy.linalg.lu_factor({a})[0]"


class LuPivots(Factor):
    """Row `i` and row `pivots[i]` changed places, in this order."""

    name = "lu_pivots"

    def infer(self, a: ArrayType) -> ArrayType:
        check_square(a)
        return pivots_type(a)

    def reference(self, a: np.ndarray) -> np.ndarray:
        return _factored(a)[1]

    def text(self, a: str) -> str:
        return f"scipy.linalg.lu_factor({a})[1]"


LU_FACTORS, LU_PIVOTS = register(LuFactors()), register(LuPivots())


def _factored(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SciPy's factors, of each matrix of a stack."""
    lu, pivots = np.empty_like(a), np.empty(a.shape[:-1], INT32)
    getrf = import_module("scipy.linalg").lapack.get_lapack_funcs(("getrf",), (a,))[0]
    for at in np.ndindex(a.shape[:-2]) if a.size else ():
        lu[at], pivots[at], _ = getrf(a[at])
    return lu, pivots


def factors(a: Any) -> tuple[Any, Any]:
    """The LU factors of `a` and their pivots."""
    return bind(LU_FACTORS, a), bind(LU_PIVOTS, a)


class LuSolve(Op):
    """`a @ x = b` for the matrices with these factors, or `a.T @ x = b` (`flip`)."""

    name = "lu_solve"
    stored = (0, 1)
    weight = 2
    raises = True

    def infer(self, lu: ArrayType, pivots: ArrayType, b: ArrayType, *, flip: bool) -> ArrayType:
        check_fit(lu, b)
        return b.with_shape(b.shape)

    def reference(
        self, lu: np.ndarray, pivots: np.ndarray, b: np.ndarray, *, flip: bool
    ) -> np.ndarray:
        if np.any(np.diagonal(lu, 0, -2, -1) == 0):
            raise np.linalg.LinAlgError(SINGULAR)
        x = np.empty_like(b)
        solve = import_module("scipy.linalg").lu_solve
        for at in np.ndindex(lu.shape[:-2]) if b.size else ():
            x[at] = solve((lu[at], pivots[at]), b[at], int(flip), check_finite=False)
        return x

    def text(self, lu: str, pivots: str, b: str, *, flip: bool) -> str:
        return f"scipy.linalg.lu_solve(({lu}, {pivots}), {b}{', trans=1' if flip else ''})"

    def work(self, node: Any) -> tuple[float, Size]:
        return self.weight, node.type.size * node.inputs[0].type.shape[-1]

    def batch(self, mapped: Mapped, *inputs: Array, flip: bool) -> Array:
        return systems(LU_SOLVE, mapped, *inputs, flip=flip)

    def kernel(self, lowering: Any, node: Any) -> None:
        self.lowered(lowering, node, *node.inputs)

    def lowered(self, lowering: Any, node: Any, lu: Any, pivots: Any, b: Any) -> None:
        """The statements that solve for `node`."""
        places = (lowering.arrays[lu], lowering.arrays[pivots], flag(node.attributes["flip"]))
        solve_in_place(lowering, node, b, "lu_solve", *places)


LU_SOLVE = register(LuSolve())


def systems(op: Op, mapped: Mapped, a: Array, *inputs: Array, **attrs: Any) -> Array:
    """A batch of systems: right-hand sides of one matrix become its columns, others stacks. The
    operands between matrix and right-hand side belong to the matrix."""
    *factors, b = inputs
    side = a.type.rank - mapped[0]
    vector = b.type.rank - mapped[-1] < side
    if not any(mapped[:-1]) and side == 2:
        columns = moveaxis(b, 0, -1)
        rows, *others = columns.type.shape
        x = bind(op, a, *factors, regrouped(columns, (rows, product(tuple(others)))), **attrs)
        return moveaxis(regrouped(x, (rows, *others)), -1, 0)
    a, *factors, b = everywhere(mapped, (a, *inputs))
    if not vector:
        return bind(op, a, *factors, b, **attrs)
    return squeeze(bind(op, a, *factors, expand_dims(b, -1), **attrs), -1)


def solve_in_place(lowering: Any, node: Any, b: Any, function: str, *args: Any) -> None:
    """Fill the array of `node` with `b` and let a library function solve there."""
    array = lowering.allocate(node)
    with lowering.nest(node.type.shape) as index:
        lowering.append(Store(array, index, lowering.value(b, index), lowering.comment(node)))
    regular = Var(lowering.namer.unique("regular"), ex.BOOL)
    lowering.append(LibraryCall(function, args, (array,), lowering.comment(node), regular))
    lowering.append(Check(regular, LINALG_ERROR, SINGULAR))


def flag(value: bool) -> Const:
    return Const(value, ex.BOOL)
