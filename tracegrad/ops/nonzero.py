"""What a mask chooses: results whose size data decides on.

    y = x[mask]      =>      k = int(count_nonzero(mask));  at = flatnonzero(mask);  y = x[at]

The mask is counted first; the count becomes the symbol `k` of the types. What follows computes with
it as with any other extent.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.expr import BOOL, Call, Const, Var
from codegen.loops import Accumulate, Assign, Check, LibraryCall
from tracegrad.ir.dims import Size
from tracegrad.ir.op import Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.bounds import WITHIN
from tracegrad.ops.constant import astype
from tracegrad.ops.op import (
    PUBLIC,
    Bindable,
    as_operand,
    bind,
    bound,
    public,
    register,
    sample,
    type_of,
)
from tracegrad.ops.reduction import size_value, sum_
from tracegrad.ops.shape import reshape


class Nonzero(Op):
    """The places at which a mask of rank 1 holds: `count` of them, an extent called `size`."""

    name = "nonzero"
    stored = (0,)
    foldable = False

    def infer(self, mask: ArrayType, count: ArrayType, *, size: Size) -> ArrayType:
        return ArrayType(np.dtype(np.int64), (size,))

    def reference(self, mask: np.ndarray, count: Any, *, size: int) -> np.ndarray:
        return np.flatnonzero(mask)

    def text(self, mask: str, count: str, *, size: Size) -> str:
        return f"np.flatnonzero({mask})"

    def kernel(self, lowering: Any, node: Any) -> None:
        array, mask = lowering.allocate(node), lowering.arrays[node.inputs[0]]
        lowering.append(LibraryCall("find_nonzero", (mask,), (array,), lowering.comment(node)))


class Repeats(Op):
    """Each place along an axis as often as `counts` says: `count` places, an extent called `size`.

    Raises ValueError for a negative count when the code runs.
    """

    name = "repeats"
    stored = (0,)
    foldable = False

    def infer(self, counts: ArrayType, count: ArrayType, *, size: Size) -> ArrayType:
        return ArrayType(np.dtype(np.int64), (size,))

    def reference(self, counts: np.ndarray, count: Any, *, size: int) -> np.ndarray:
        return np.repeat(np.arange(len(counts)), counts)

    def text(self, counts: str, count: str, *, size: Size) -> str:
        return f"np.repeat(np.arange({counts}.size), {counts})"

    def kernel(self, lowering: Any, node: Any) -> None:
        (counts, _), comment = node.inputs, lowering.comment(node)
        fits = Var(lowering.namer.unique("no_negative"), BOOL)
        lowering.append(Assign(fits, Const(True, BOOL), comment))
        with lowering.nest(counts.type.shape) as index:
            count = lowering.value(counts, index)
            inside = Call("less_equal", (Const(0, count.dtype), count), BOOL)
            lowering.append(Accumulate(fits.name, None, "logical_and", inside, BOOL))
        lowering.append(Check(fits, "ValueError", NEGATIVE_COUNTS))
        array = lowering.allocate(node)
        lowering.append(LibraryCall("find_repeats", (lowering.arrays[counts],), (array,), comment))


NONZERO = register(Nonzero())
REPEATS = register(Repeats())
NEGATIVE_COUNTS = "repeats may not contain negative values."


@public(np.flatnonzero)
def flatnonzero(a: Any) -> Any:
    """The places of the flattened `a` that are not zero: int64, as many as there are.

    In a traced function their number is a new size, which is known when the compiled code runs.

    >>> import numpy as np, tracegrad as tg
    >>> tg.trace(lambda x: np.flatnonzero(x > 1))(np.array([1.0, 2.0, 3.0]))
    array([1, 2])
    """
    mask = reshape(astype(as_operand(a), bool), -1)
    known = mask.known() if isinstance(mask, Bindable) else mask
    if known is not None:
        return np.flatnonzero(known)
    count, size = bound(sum_(mask), type_of(mask).shape[0])
    return bind(NONZERO, mask, count, size=size)


@public(np.nonzero)
def nonzero(a: Any) -> tuple[Any, ...]:
    """The places that are not zero, in row-major order: an index array for each axis."""
    a = as_operand(a)
    shape = type_of(a).shape
    if not shape:
        raise ValueError("Calling nonzero on 0d arrays is not allowed.")
    rest, found = flatnonzero(a), []
    for axis in reversed(range(1, len(shape))):
        size = size_value(shape[axis])
        found.append(_inside(rest % size, shape[axis], axis))
        rest = rest // size
    return (_inside(rest, shape[0], 0), *reversed(found))


def _inside(index: Any, size: Size, axis: int) -> Any:
    """An index that a mask of that extent gave."""
    return bind(WITHIN, index, size=size, axis=axis) if isinstance(index, Bindable) else index


def repeated(counts: Any, extent: Size) -> Any:
    """The places `0, 1, ...` below `extent`, each as often as the integers `counts` say."""
    if type_of(counts).dtype.kind not in "iub":
        raise TypeError(
            f"Cannot cast array data from {type_of(counts).dtype!r} to dtype('int64') according to "
            "the rule 'safe'"
        )
    counts = PUBLIC["broadcast_to"](astype(counts, np.int64), (extent,))
    count, size = bound(PUBLIC["maximum"](sum_(counts), 0))
    return bind(REPEATS, counts, count, size=size)


@public(np.argwhere)
def argwhere(a: Any) -> Any:
    """The places that are not zero as rows: int64 of shape (how many there are, rank of `a`)."""
    a = as_operand(a)
    if type_of(a).rank == 0:
        return PUBLIC["stack"](nonzero(reshape(a, (1,))), axis=1)[:, :0]
    return PUBLIC["stack"](nonzero(a), axis=1)


sample(lambda x: (np.flatnonzero(x > 0), np.where(x > 0.5)[0]), (5,), smooth=False, ragged=True)
sample(lambda x: (*np.nonzero(x > 0), np.argwhere(x > 1)), (3, 4), smooth=False, ragged=True)
sample(lambda x: x[x > 0] * 2, (3, 4), smooth=False, ragged=True)
sample(lambda x: np.sum(x[x > 0] ** 2) + np.sum(x[np.nonzero(x < 0)] ** 3), (3, 4))
sample(lambda x: x[x[:, 0] > 0].sum(axis=0), (4, 2))
sample(lambda x: np.mean(x[x < 9]), (5,))
sample(lambda x: (np.flatnonzero(x), np.sum(x[x > 0])), (0,), smooth=False, ragged=True)
