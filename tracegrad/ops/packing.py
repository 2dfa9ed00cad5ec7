"""Many numbers made one array: what a program on single elements returns.

    y = pack(a, b, c, d), shape=(2, 2)      is      y[..., 0, 0] = a,  y[..., 0, 1] = b, ...

Its operands have one type; all elements are written in the same loop over their axes, so that what
they have in common is computed once.
"""

from __future__ import annotations

from itertools import product as indices
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.loops import Store
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.batched import Mapped, everywhere
from tracegrad.ops.op import bind, register
from tracegrad.ops.shape import shape_text
from tracegrad.ops.slicing import SLICE


class Pack(Op):
    """`y[..., k] = x_k`, the last axes of `shape`  =>  `d_x_k = d_y[..., k]`."""

    name = "pack"
    moves = by_reference = True
    linear = (-1,)

    def infer(self, *types: ArrayType, shape: tuple[int, ...]) -> ArrayType:
        return ArrayType(types[0].dtype, (*types[0].shape, *shape))

    def reference(self, *arrays: Any, shape: tuple[int, ...]) -> np.ndarray:
        return np.stack(arrays, axis=-1).reshape((*np.shape(arrays[0]), *shape))

    def text(self, *args: str, shape: tuple[int, ...]) -> str:
        stacked = f"np.stack(({', '.join(args)},), axis=-1)"
        if len(shape) == 1:
            return stacked
        leading = f"*{args[0]}.shape, " if not args[0].isdigit() else ""
        return f"{stacked}.reshape({leading}{shape_text(shape)[1:]}"

    def transpose(self, ct: Array, *inputs: Array, shape: tuple[int, ...]) -> tuple[Array, ...]:
        whole = (None,) * (ct.type.rank - len(shape))
        return tuple(bind(SLICE, ct, at=(*whole, *place)) for place in places(shape))

    def batch(self, mapped: Mapped, *inputs: Array, shape: tuple[int, ...]) -> Array:
        return bind(PACK, *everywhere(mapped, inputs), shape=shape)

    def kernel(self, lowering: Any, node: Any) -> None:
        array, shape = lowering.allocate(node), node.attributes["shape"]
        with lowering.nest(node.inputs[0].type.shape) as index:
            for operand, place in zip(node.inputs, places(shape), strict=True):
                value = lowering.value(operand, index)
                at = (*index, *map(ex.integer, place))
                lowering.append(Store(array, at, value, lowering.comment(node)))


PACK = register(Pack())


def places(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The positions of an array in row-major order."""
    return list(indices(*map(range, shape)))
