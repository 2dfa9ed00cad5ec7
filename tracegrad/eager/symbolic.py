"""Arrays without values beside the tensors: for what a derivative rule only needs the type of.

Three uses: operands that were not saved; free tangents of an op that gives a `jvp`, whose linear
operations are recorded and then transposed; and finding out which operands a rule needs, by running
it on nothing else:

    vjp of multiply on (ct, x, y), wanted x only   ->   ct * y   ->   y must be saved, x not
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codegen.records import dataclass
from tracegrad.autodiff import reverse
from tracegrad.autodiff.rules import pull
from tracegrad.ir.graph import Node, reachable
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.constant import Input
from tracegrad.ops.op import PUBLIC, type_of
from tracegrad.ops.operators import ArrayMethods


class Held(Node):
    """A node that stands for an array with a value."""

    array: Any


def free_node(type: ArrayType) -> Node:
    return Node(Input(type), (), (), type)


class Symbolic(ArrayMethods):
    """An array of a known type and unknown value; operations on it are recorded, not computed."""

    dispatch_rank = 1.5  # type: ignore[assignment]  # between tensors and traced arrays
    __array_priority__ = 150

    def __init__(self, node: Node) -> None:
        self.node = node
        self.type = node.type

    @classmethod
    def bind(cls, op: Op, args: tuple[Any, ...], attrs: dict[str, Any]) -> Symbolic:
        nodes = tuple(map(as_node, args))
        type = op.infer(*(node.type for node in nodes), **attrs)
        return Symbolic(Node(op, nodes, tuple(attrs.items()), type))

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.type.shape

    def __getitem__(self, key: Any) -> Any:
        return PUBLIC["getitem"](self, key)

    def __repr__(self) -> str:
        return f"<no value: {self.type}>"


def held(array: Any) -> Node:
    type = type_of(array)
    node = Held(Input(type), (), (), type)
    node.__dict__["array"] = array
    return node


def value_of(node: Node) -> Array:
    return node.array if isinstance(node, Held) else Symbolic(node)


class SymbolicLinearizer:
    """Free tangents are symbolic; transposing gives tensors again, for the cotangent is one."""

    def placeholder(self, type: Any) -> Symbolic:
        return Symbolic(free_node(type))

    def transpose(self, result: Array, ct: Array, free: Sequence[Array]) -> list[Array | None]:
        if not isinstance(result, Symbolic):
            return [None] * len(free)
        return reverse.cotangents([result.node], [ct], [x.node for x in free], value_of, self)


LINEAR = SymbolicLinearizer()

_BY_CLASS: dict[Any, tuple[bool, ...]] = {}
_LIMIT = 10_000


def needed_values(
    op: Op,
    attrs: tuple[tuple[str, Any], ...],
    types: Sequence[ArrayType],
    out: ArrayType,
    wanted: tuple[bool, ...],
) -> tuple[bool, ...]:
    """For each operand, then the result: whether the cotangents of `wanted` depend on its value.

    Found once per class of shapes: rules ask of sizes whether two are equal, or one is 1.
    """
    labels: dict[Any, int] = {0: 0, 1: 1}
    classes = tuple(
        (type.dtype.num, *(labels.setdefault(size, len(labels)) for size in type.shape))
        for type in (*types, out)
    )
    key = (op, attrs, wanted, classes)
    if key not in _BY_CLASS:
        if len(_BY_CLASS) > _LIMIT:
            _BY_CLASS.clear()
        _BY_CLASS[key] = _run_rule(op, attrs, types, out, wanted)
    return _BY_CLASS[key]


def _run_rule(*given: Any) -> tuple[bool, ...]:
    run = RuleRun.of(*given)
    reached = reachable([ct for ct in run.cts if ct is not None])
    return tuple(leaf in reached for leaf in run.places)


@dataclass(frozen=True)
class RuleRun:
    """What a derivative rule computes: `cts`, as nodes over `places` (the operands, then the
    result) and `seed`, the result's cotangent."""

    places: tuple[Node, ...]
    seed: Node
    cts: tuple[Node | None, ...]
    """None where no cotangent is wanted."""

    @staticmethod
    def of(
        op: Op,
        attrs: tuple[tuple[str, Any], ...],
        types: Sequence[ArrayType],
        out: ArrayType,
        wanted: tuple[bool, ...],
    ) -> RuleRun:
        inputs = tuple(free_node(type) for type in types)
        node, result, seed = Node(op, inputs, attrs, out), free_node(out), free_node(out)
        values = {**{operand: Symbolic(operand) for operand in inputs}, node: Symbolic(result)}
        found = pull(node, Symbolic(seed), wanted, values.__getitem__, LINEAR)
        cts = tuple(None if ct is None else as_node(ct) for ct in found)
        return RuleRun((*inputs, result), seed, cts)


def as_node(array: Array) -> Node:
    return array.node if isinstance(array, Symbolic) else held(array)
