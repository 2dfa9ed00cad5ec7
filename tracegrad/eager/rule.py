"""What is known of an operation's derivative once for all operands of the same types: a `Rule`.

In: an operation, its attributes, the types of its operands, and which of these want a gradient.
Out: the values that must be saved, and from the second use on the rule as a function of NumPy
arrays, written from what the rule records when it is run on arrays without values. For `x * w`:

    def pull(ct, saved):                  # ct: f64[2, 3]
        a, b = saved[0].value, saved[1].value
        d_a = multiply(ct, b)
        d_b = multiply(ct, a)
        return d_a, d_b
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tracegrad.autodiff.rules import differentiable_in
from tracegrad.eager.symbolic import Held, RuleRun, needed_values
from tracegrad.ir.graph import Node, reachable
from tracegrad.ir.op import Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.constant import ASTYPE
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.matmul import DOT, MATMUL
from tracegrad.ops.op import Bindable
from tracegrad.ops.reduction import BROADCAST_TO, SUM
from tracegrad.run import Writer

Pull = Callable[[Any, Sequence[Any]], tuple[Any, ...]]
"""From the result's cotangent and what was saved to the cotangents of the operands (None where none
is wanted)."""

SMALL = 4096
"""Elements up to which a value is spread by writing it out, which takes less than a view."""


class Rule:
    """The derivative of one operation for operands of these types.

    `anywhere` says that it serves operands of any shape that have the result's, or are numbers.
    """

    __slots__ = ("_given", "anywhere", "fresh", "needs", "pull", "saves", "uses", "wanted")

    def __init__(
        self,
        op: Op,
        attrs: tuple[tuple[str, Any], ...],
        types: Sequence[ArrayType],
        out: ArrayType,
        wanted: tuple[bool, ...],
        anywhere: bool = False,
    ) -> None:
        self._given = op, attrs, tuple(types), out
        self.wanted, self.anywhere = wanted if True in wanted else (), anywhere
        """The operands whose cotangents are asked for, of those that have one; () for none."""
        self.needs = needed_values(op, attrs, types, out, wanted) if any(wanted) else ()
        """For each operand, then the result: whether its value must be saved."""
        self.saves = True in self.needs
        self.uses = 0
        self.pull: Pull | None = None
        self.fresh: tuple[bool, ...] = ()
        """The cotangents that `pull` makes new arrays for."""

    def ready(self) -> Pull | None:
        """The rule on arrays; None at the first use, and where it cannot be written as one."""
        self.uses += 1
        if self.uses == 2:
            self._write()
        return self.pull

    def _write(self) -> None:
        run = RuleRun.of(*self._given, self.wanted)
        cts = run.cts
        given = {*run.places, run.seed}
        made = sorted(reachable([ct for ct in cts if ct is not None]) - given, key=_serial)
        if any(isinstance(node, Held) and isinstance(node.array, Bindable) for node in made):
            return  # a rule that computes with tensors of its own
        if self.anywhere and any(_fixed(node) for node in made):
            return
        self.fresh = tuple(
            ct is not None and ct not in given and _makes_new(ct) and cts.count(ct) == 1
            for ct in cts
        )
        self.pull = _function(run, made, self.needs, self.anywhere)


def rule_for(
    op: Op,
    attrs: tuple[tuple[str, Any], ...],
    types: Sequence[ArrayType],
    out: ArrayType,
    asked: Sequence[bool],
    anywhere: bool = False,
) -> Rule:
    """The rule for the operands that are `asked` for and that the operation can be derived in."""
    able = differentiable_in(op, len(types))
    wanted = tuple(ask and can for ask, can in zip(asked, able, strict=True))
    return Rule(op, attrs, types, out, wanted, anywhere)


def _serial(node: Node) -> int:
    return node.serial


def _fixed(node: Node) -> bool:
    """Whether a node may hold only for the shapes that the rule was run with."""
    if isinstance(node, Held):
        return bool(node.type.rank)
    return not isinstance(node.op, Elementwise) and node.op is not ASTYPE


def _makes_new(node: Node) -> bool:
    """Whether the node's array is its own, for sure."""
    ufunc = isinstance(node.op, Elementwise) and isinstance(node.op.numpy, np.ufunc)
    return ufunc or node.op in (SUM, MATMUL, DOT)


def _function(run: RuleRun, made: Sequence[Node], needs: Sequence[bool], anywhere: bool) -> Pull:
    """`pull(ct, saved)`; `made` are the nodes to compute, in order.

    NumPy makes numbers of arrays of rank 0, which operands may have if the rule serves `anywhere`.
    """
    writer = Writer({"ct", "saved"})
    names = {run.seed: "ct"}
    for number, (place, needed) in enumerate(zip(run.places, needs, strict=True)):
        if needed:
            names[place] = writer.unique("abcdefgh"[number % 8])
            writer.add(f"{names[place]} = saved[{number}].value")
    for node in made:
        if isinstance(node, Held):
            names[node] = writer.object("fixed", node.array)
            continue
        names[node] = writer.unique("v")
        operands = [names[operand] for operand in node.inputs]
        writer.add(f"{names[node]} = {_call(writer, node, operands)}")
    array = writer.object("asarray", np.asarray)
    given = [
        "None"
        if ct is None
        else f"{array}({names[ct]})"
        if anywhere or not ct.type.rank
        else names[ct]
        for ct in run.cts
    ]
    writer.add(f"return ({', '.join(given)},)")
    return writer.function("pull", "ct, saved")


def _call(writer: Writer, node: Node, operands: Sequence[str]) -> str:
    """The node's value as an expression over NumPy."""
    op, attrs = node.op, node.attributes
    given = ", ".join(operands)
    if isinstance(op, Elementwise) and type(op).reference is Elementwise.reference:
        return f"{writer.object(op.name, op.numpy)}({given})"
    if op is BROADCAST_TO:
        return f"{writer.object('spread', spread)}({given}, {attrs['shape']})"
    return f"{writer.object(op.name, partial(op.reference, **attrs))}({given})"


def spread(x: Any, shape: tuple[int, ...]) -> np.ndarray:
    """`x` broadcast to `shape`: an array that is only read."""
    size = 1
    for extent in shape:
        size *= extent
    if size > SMALL:
        return np.broadcast_to(x, shape)
    result = np.empty(shape, x.dtype)
    result[...] = x
    return result
