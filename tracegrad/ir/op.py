"""What an operation is: one class holds everything that the system knows about it.

In a family file of `tracegrad.ops` a subclass gives, next to each other, the shape and dtype rule,
the NumPy reference, the text in dumps, one derivative rule, the lowering, and sample inputs for
the tests:

    class Transpose(Op):
        def infer(self, x, *, axes): ...            # ArrayType -> ArrayType
        def reference(self, x, *, axes): ...        # ndarray -> ndarray
        def text(self, x, *, axes): ...             # dump: "np.transpose(x, (1, 0))"
        def transpose(self, ct, x, *, axes): ...    # linear: cotangent of the result -> of the
        operand def element(self, read, index, node): ...   # its value at an index
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tracegrad.ir.dims import Size
from tracegrad.ir.types import ArrayType

if TYPE_CHECKING:
    from codegen.expr import Expr
    from tracegrad.ir.graph import Node

Array = Any
"""What rules compute with: traced arrays, eager tensors; they have operators and a `type`."""


class Op:
    """An operation. Instances are singletons: two nodes have the same op if `is` says so."""

    name: str = ""
    linear: tuple[int, ...] = ()
    """The arguments in which the op is (jointly) linear: `transpose` gives their cotangents.

    `(-1,)` means all of them.
    """
    weight: float = 0
    """Cost of one result element in flops; views and copies cost nothing."""

    stored: tuple[int, ...] = ()
    """The operands that the kernel reads as arrays in memory; `(-1,)` means all."""
    foldable = True
    """Whether it is computed while compiling if all its operands are constants."""
    precondition: bool = False
    """The kernel only checks the operands; its result is one of them."""
    pointwise = False
    """Whether each element of the result depends on the operands' elements at the same place."""
    moves = False
    """Whether each element of the result is one of an operand's, or zero; by places, not values."""
    by_reference = False
    """Whether the reference takes arrays of objects too: it moves, adds or multiplies elements."""
    conditional = False
    """Whether its element reads operands under a condition (`read(k, index, True)`)."""
    binds = False
    """Whether it binds the symbol of its attribute `symbol`, an extent that is computed."""
    inlined = False
    """A call that one node stands for until derivatives are taken; then its body's nodes do."""
    settled: tuple[Op, tuple[int, ...]] | None = None
    """What a node becomes when no derivative is taken any more: this op of these operands."""
    raises = False
    """Whether its kernel raises an error for some values of its operands."""
    overwrites: int | None = None
    """The operand whose memory the result may take over: the kernel writes into a part of it."""

    def takes(self, node: Node) -> dict[int, int]:
        """Ops with several results: which of these may live in the memory of which operand."""
        return {}

    def infer(self, *types: ArrayType, **attrs: Any) -> ArrayType:
        """The result's type; raises `ShapeError` or `TypeError` in the user's terms."""
        raise NotImplementedError

    def reference(self, *arrays: np.ndarray, **attrs: Any) -> Any:
        """The result, by NumPy."""
        raise NotImplementedError

    def text(self, *args: str, **attrs: Any) -> str:
        """The op as a Python expression over NumPy. `args` are already in parentheses if need
        be.
        """
        raise NotImplementedError

    def lines(self, target: str, *args: str, **attrs: Any) -> list[str]:
        """Ops that no single NumPy expression says: the statements that give `target` its value."""
        raise NotImplementedError

    def block(self, writer: Any, node: Node) -> list[str]:
        """Ops with bodies: the statements, with `writer.body(graph)` those of a body, indented."""
        raise NotImplementedError

    def transpose(self, ct: Array, *inputs: Array, **attrs: Any) -> tuple[Array | None, ...]:
        """Linear ops: the cotangents of the arguments in `linear`, in that order.

        Linear arguments come without a value (only `type`), the others with it.
        """
        raise NotImplementedError

    def jvp(self, tangents: tuple[Array | None, ...], out: Array, *inputs: Array, **attrs: Any):
        """The result's tangent. `None` among `tangents` is zero; at least one is not."""
        raise NotImplementedError

    def vjp(self, ct: Array, out: Array, *inputs: Array, **attrs: Any):
        """The cotangent of each argument (`None`: zero)."""
        raise NotImplementedError

    def put(self, base: Array, value: Array, *others: Array, **attrs: Any) -> Array:
        """Views: `base` with `value` written where the result looks.

        An op that gives this is a view of its first operand as in NumPy: a write into either is
        seen through the other. `others` are the further operands.
        """
        raise NotImplementedError

    def strides(
        self, strides: tuple[Size, ...], x: ArrayType, **attrs: Any
    ) -> tuple[Size, ...] | None:
        """Views: the result's strides in elements from those of `x`; None where NumPy copies."""
        raise NotImplementedError

    def batch(self, mapped: tuple[bool, ...], *inputs: Array, **attrs: Any) -> Any:
        """The results for a batch of items, along a leading axis; `attrs` are those of one item.

        Operands where `mapped` holds have that axis too, the others are shared. An op with
        several results gives a list of `(result, mapped)`; None leaves it to a loop over the items.
        """
        raise NotImplementedError

    def element(self, read: Callable[..., Expr], index: tuple[Expr, ...], node: Node) -> Expr:
        """The result's value at `index`; `read(k, index)` is the k-th operand's value at an
        index.
        """
        raise NotImplementedError

    def kernel(self, lowering: Any, node: Node) -> None:
        """Ops that are not a value at an index: append the statements that fill `node`'s array."""
        raise NotImplementedError

    def work(self, node: Node) -> tuple[float, Size]:
        """Flops per step, and how many steps computing `node` takes: one for each result
        element.
        """
        return self.weight, node.type.size

    def has(self, rule: str) -> bool:
        """Whether this op's class gives the rule (`"jvp"`, `"vjp"`, `"element"`, ...)."""
        return getattr(type(self), rule) is not getattr(Op, rule)

    def __repr__(self) -> str:
        return self.name
