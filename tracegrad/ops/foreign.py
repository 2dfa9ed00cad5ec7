"""A compiled function of the user's as an operation: what it returns is promised, and checked.

    y = step(x, 0.1)      ->      y = step(x, 0.1)   # f64[n], as `shape=` says

In compiled code the function is called directly. It must not write into its arguments and must
return the same for the same arguments; derivatives are the rules that came with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.expr import Var
from codegen.foreign import Foreign
from codegen.loops import Alloc, Check, ForeignCall, Result
from codegen.records import dataclass
from tracegrad.errors import ShapeError
from tracegrad.ir.dims import Size
from tracegrad.ir.graph import Node
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType, TupleType, dtype_text
from tracegrad.ops.op import register
from tracegrad.ops.shape import shape_text

Promise = tuple[tuple[np.dtype, tuple[Size, ...]], ...]
"""Dtype and shape of each result."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """The function and the rules of its derivatives, on flat sequences of arrays.

    `vjp(cts, out, inputs)` gives the cotangents of the inputs, `jvp(tangents, out, inputs)` the
    tangents of the results. `fills`: it fills its last arguments in the place of returning results.
    """

    foreign: Foreign
    vjp: Callable[[Any, Any, Sequence[Array]], Sequence[Array | None]]
    jvp: Callable[[Sequence[Array | None], Any, Sequence[Array]], Sequence[Array | None]]
    fills: bool = False
    has_rule: Callable[[], bool] = lambda: True
    """Whether the user has given a rule yet."""

    @property
    def name(self) -> str:
        return self.foreign.name


class ForeignOp(Op):
    """`results = kernel(*inputs)`."""

    name = "foreign"
    stored = (-1,)
    weight = 1
    foldable = False

    def infer(self, *types: ArrayType, kernel: Kernel, promise: Promise) -> ArrayType:
        parts = tuple(ArrayType(dtype, shape) for dtype, shape in promise)
        return parts[0] if len(parts) == 1 else TupleType.of(parts)

    def reference(self, *arrays: Any, kernel: Kernel, promise: Any) -> Any:
        if kernel.fills:
            outs = [np.zeros(shape, dtype) for dtype, shape in promise]
            kernel.foreign.function(*arrays, *outs)
            return outs[0] if len(outs) == 1 else tuple(outs)
        found = kernel.foreign.function(*arrays)
        parts = (found,) if len(promise) == 1 else found
        if not isinstance(parts, tuple) or len(parts) != len(promise):
            raise TypeError(
                f"{kernel.name} returned a {type(found).__name__}, but its shape= promises "
                f"{len(promise)} results"
            )
        for value, (dtype, shape) in zip(parts, promise, strict=True):
            _keep_promise(kernel.name, value, ArrayType(dtype, shape))
        return found

    def text(self, *args: str, kernel: Kernel, promise: Promise) -> str:
        return f"{kernel.name}({', '.join(args)})"

    def lines(self, target: str, *args: str, kernel: Kernel, promise: Promise) -> list[str]:
        if not kernel.fills:
            return [f"{target} = {self.text(*args, kernel=kernel, promise=promise)}"]
        names = [target] if len(promise) == 1 else [f"{target}_{k}" for k in range(len(promise))]
        made = [
            f"{name} = np.zeros({shape_text(shape)}, np.{dtype.name})"
            for name, (dtype, shape) in zip(names, promise, strict=True)
        ]
        bundle = [] if len(names) == 1 else [f"{target} = ({', '.join(names)})"]
        return [*made, f"{kernel.name}({', '.join([*args, *names])})", *bundle]

    def vjp(
        self, wanted: Any, ct: Any, out: Any, *inputs: Array, kernel: Kernel, promise: Promise
    ) -> Any:
        return kernel.vjp(ct, out, inputs)

    def jvp(self, tangents: Any, out: Any, *inputs: Array, kernel: Kernel, promise: Promise) -> Any:
        found = kernel.jvp(tangents, out, inputs)
        return found if len(promise) > 1 else found[0]

    def kernel(self, lowering: Any, node: Node) -> None:
        kernel: Kernel = node.attributes["kernel"]
        parts = node.type.parts if isinstance(node.type, TupleType) else (node.type,)
        names = lowering.result_names(node)
        args = tuple(
            lowering.arrays[x] if x.type.rank else lowering.value(x, ()) for x in node.inputs
        )
        comment = lowering.comment(node)
        types = [(x.type.dtype, x.type.rank) for x in node.inputs]
        if kernel.fills:
            for name, type in zip(names, parts, strict=True):
                shape = tuple(lowering.size(size) for size in type.shape)
                lowering.append(Alloc(name, shape, type.dtype, 0, False))
            types += [(type.dtype, type.rank) for type in parts]
            lowering.append(
                ForeignCall(kernel.foreign, args, tuple(types), (), tuple(names), "", comment)
            )
        else:
            results = tuple(map(_result, [lowering] * len(parts), names, parts))
            bundle = lowering.namer.unique(f"{kernel.name}_results") if len(parts) > 1 else ""
            lowering.append(
                ForeignCall(kernel.foreign, args, tuple(types), results, (), bundle, comment)
            )
            for result, type in zip(results, parts, strict=True):
                if result.fits is not None:
                    message = broken(kernel.name, type)
                    lowering.append(Check(result.fits, "ValueError", message, comment))
        lowering.place(node, names)


def _result(lowering: Any, name: str, type: ArrayType) -> Result:
    if not type.rank:
        return Result(name, type.dtype)
    shape = tuple(lowering.size(size) for size in type.shape)
    return Result(name, type.dtype, shape, Var(lowering.namer.unique(f"{name}_fits"), ex.BOOL))


def broken(name: str, type: ArrayType) -> str:
    """What is said when an array has another shape than was promised."""
    return f"{name} returned an array of another shape than {type}, which its shape= promises"


def _keep_promise(name: str, value: Any, type: ArrayType) -> None:
    """Raises TypeError or ShapeError unless the value is of that type."""
    found = np.asarray(value)
    safe = not type.rank and (
        np.can_cast(found.dtype, type.dtype, "safe")
        or (found.dtype.kind in "iu" and type.dtype.kind == "f")
    )
    if found.ndim != type.rank or not (found.dtype == type.dtype or safe):
        kind = f"{dtype_text(found.dtype)} with {found.ndim} axes"
        raise TypeError(f"{name} returned {kind}, but its shape= promises {type}")
    if found.shape != type.shape:
        raise ShapeError(f"{broken(name, type)}: it has {found.shape}")


FOREIGN = register(ForeignOp())
