"""Simplification: algebra that changes no value, constants folded, copies dropped.

x * 1.0 -> x      astype(x, x.dtype) -> x      transpose(transpose(x)) -> x      copy(x) -> x
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracegrad.ir.graph import (
    Builder,
    Graph,
    Literal,
    Node,
    attr_sizes,
    map_bodies,
    rebuild,
)
from tracegrad.ir.op import Op
from tracegrad.ir.types import TupleType
from tracegrad.ops.arithmetic import ADD, NEGATIVE, SUBTRACT
from tracegrad.ops.constant import ARANGE, ASTYPE, CONSTANT, SIZE
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.gathering import GATHER, GATHER_AT, INDEX_ADD, SCATTER_ADD, SCATTER_SET
from tracegrad.ops.reduction import BROADCAST_TO, Reduction
from tracegrad.ops.shape import RESHAPE, TRANSPOSE
from tracegrad.ops.slicing import ADD_AT, PLACE, SLICE, is_thin
from tracegrad.passes import elements
from tracegrad.passes.centred import without_centred
from tracegrad.passes.identity import times_identity
from tracegrad.passes.ordered import sort_elements
from tracegrad.passes.pieces import side_by_side
from tracegrad.passes.prune import prune
from tracegrad.passes.shares import by_shares
from tracegrad.passes.shifts import without_shift
from tracegrad.passes.sink import summed, sunk
from tracegrad.passes.started import started
from tracegrad.passes.turn import turn_products
from tracegrad.passes.whole import as_wholes
from tracegrad.tracing.naming import UNNAMED, with_names

Attrs = tuple[tuple[str, Any], ...]
Rule = Callable[[Builder, Node], Node | None]


def simplify(graph: Graph) -> Graph:
    """The graph with every rule applied wherever it fits, operands first."""
    moved: dict[Node, str] = {}

    def rule(builder: Builder, node: Node, operands: tuple[Node, ...]) -> Node:
        found = _simplified(builder, node)
        if is_named(node) and not is_named(found) and found.op.name not in UNNAMED:
            moved[found] = node.name
        return found

    simple = rebuild(graph, rule)
    names = {node: moved.get(node, node.name) for node in simple.nodes}
    for before, after in zip(graph.outputs, simple.outputs, strict=True):
        if is_named(before) and after.op.name != "input":
            names[after] = before.name  # a result keeps its name, whatever it is found to be
    simple = prune(as_wholes(with_names(simple, names)))
    return sort_elements(turn_products(started(simple)))


def is_named(node: Node) -> bool:
    """Whether it has a name from the program, not a number."""
    return bool(node.name) and "%" not in node.name


def _simplified(builder: Builder, node: Node) -> Node:
    node = node.on(node.inputs, map_bodies(node.attrs, simplify))
    for rule in rules(node.op):
        found = rule(builder, node)
        if found is not None:
            return found
    folded = _fold(builder, node)
    if folded is not None:
        return folded
    return builder.node(node.op, node.inputs, node.attrs, node.name, node.source)


def rules(op: Op) -> tuple[Rule, ...]:
    """What is tried on nodes of this operation, in this order."""
    found = RULES.get(op.name, ())
    if isinstance(op, Reduction):
        return (*found, summed)
    return (*found, sunk) if isinstance(op, Elementwise) or op is ASTYPE else found


def _fold(builder: Builder, node: Node) -> Node | None:
    """An op on constants alone is computed now."""
    constant = node.inputs and all(operand.op is CONSTANT for operand in node.inputs)
    if not node.op.foldable or isinstance(node.type, TupleType):
        return None
    if not constant or next(attr_sizes(node.attrs), None) is not None:
        return None
    if isinstance(node.type, TupleType):
        return None  # a loop over constants
    largest = max(operand.attributes["value"].array.size for operand in node.inputs)
    if not isinstance(node.type.size, int) or node.type.size > largest:
        return None  # a broadcast constant is better computed than stored
    with np.errstate(all="ignore"):
        value = node.op.reference(
            *(operand.attributes["value"].array for operand in node.inputs), **node.attributes
        )
    value = np.asarray(value).astype(node.type.dtype)
    return constant_node(builder, value, node.type.weak)


def constant_node(builder: Builder, value: np.ndarray, weak: bool = False) -> Node:
    attrs = (("value", Literal.of(value)),)
    return builder.node(CONSTANT, (), (*attrs, ("weak", True)) if weak else attrs)


def scalar_constant(node: Node) -> float | None:
    """The number that `node` is everywhere, if it is a constant (or one broadcast)."""
    while node.op is BROADCAST_TO:
        node = node.inputs[0]
    if node.op is CONSTANT and node.type.rank == 0:
        return node.attributes["value"].array.item()
    return None


def _same_type(node: Node, operand: Node) -> Node | None:
    """`operand` in the place of `node`, if it has its type; a name of the user's moves along."""
    same = operand.type.shape == node.type.shape and operand.type.dtype == node.type.dtype
    return operand if same else None


def _drop_one(builder: Builder, node: Node) -> Node | None:
    """`x * 1 -> x`."""
    left, right = node.inputs
    if scalar_constant(right) == 1:
        return _same_type(node, left)
    return _same_type(node, right) if scalar_constant(left) == 1 else None


def _divide_one(builder: Builder, node: Node) -> Node | None:
    return _same_type(node, node.inputs[0]) if scalar_constant(node.inputs[1]) == 1 else None


def _minus_zero(builder: Builder, node: Node) -> Node | None:
    """`x - 0 -> x` (not `x + 0`, which turns -0 into +0)."""
    zero = scalar_constant(node.inputs[1])
    return _same_type(node, node.inputs[0]) if zero == 0 and not np.signbit(zero) else None


def _double_negative(builder: Builder, node: Node) -> Node | None:
    (inner,) = node.inputs
    return inner.inputs[0] if inner.op is node.op else None


def _copy(builder: Builder, node: Node) -> Node | None:
    return node.inputs[0]


def _astype(builder: Builder, node: Node) -> Node | None:
    """`astype(x, x.dtype) -> x`; a converted extent is an extent of that dtype."""
    (inner,) = node.inputs
    if inner.op is SIZE:
        attrs = (("size", inner.attributes["size"]), ("dtype", node.type.dtype))
        return builder.node(SIZE, (), attrs)
    return _same_type(node, inner)


def _transpose(builder: Builder, node: Node) -> Node | None:
    (inner,) = node.inputs
    if inner.op is not TRANSPOSE:
        return None
    outer_axes, axes = node.attributes["axes"], inner.attributes["axes"]
    combined = tuple(axes[axis] for axis in outer_axes)
    if combined == tuple(range(len(combined))):
        return inner.inputs[0]
    return builder.node(TRANSPOSE, inner.inputs, (("axes", combined),), node.name, node.source)


def _reshape(builder: Builder, node: Node) -> Node | None:
    (inner,) = node.inputs
    if inner.type.shape == node.type.shape:
        return inner
    if inner.op is RESHAPE:
        (base,) = inner.inputs
        if base.type.shape == node.type.shape:
            return base
        return builder.node(RESHAPE, inner.inputs, node.attrs, node.name, node.source)
    return None


def _broadcast(builder: Builder, node: Node) -> Node | None:
    (inner,) = node.inputs
    if inner.type.shape == node.type.shape:
        return inner
    if inner.op is BROADCAST_TO:
        return builder.node(BROADCAST_TO, inner.inputs, node.attrs, node.name, node.source)
    return None


def _where(builder: Builder, node: Node) -> Node | None:
    """`where(True, a, b) -> a`."""
    chosen = scalar_constant(node.inputs[0])
    if chosen is None:
        return None
    operand = node.inputs[1 if chosen else 2]
    attrs = (("shape", node.type.shape),)
    return _same_type(node, operand) or builder.node(
        BROADCAST_TO, (operand,), attrs, node.name, node.source
    )


def _matmul(builder: Builder, node: Node) -> Node | None:
    """`matmul(transpose(a), b)` reads `a` transposed."""
    inputs, flip = list(node.inputs), list(node.attributes["flip"])
    for number, operand in enumerate(node.inputs):
        order = (1, 0) if operand.type.rank == 2 else (0, 2, 1)
        if operand.op is TRANSPOSE and operand.attributes["axes"] == order:
            inputs[number], flip[number] = operand.inputs[0], not flip[number]
    if tuple(flip) == node.attributes["flip"]:
        return None
    attrs = tuple({**node.attributes, "flip": tuple(flip)}.items())
    return builder.node(node.op, tuple(inputs), attrs, node.name, node.source)


def _dot(builder: Builder, node: Node) -> Node | None:
    """`a.T @ v -> v @ a`, `v @ a.T -> a @ v`."""
    for operand, vector in (node.inputs, node.inputs[::-1]):
        if operand.op is TRANSPOSE and vector.type.rank == 1:
            matrix = operand.inputs[0]
            inputs = (vector, matrix) if operand is node.inputs[0] else (matrix, vector)
            return builder.node(node.op, inputs, (), node.name, node.source)
    return None


def _whole_slice(builder: Builder, node: Node) -> Node | None:
    """`x[:] -> x`."""
    return node.inputs[0] if all(part is None for part in node.attributes["at"]) else None


def _update(builder: Builder, node: Node) -> Node | None:
    """What `y[1:] *= 2` ends with, `y[1:] = y[1:]`, changes nothing."""
    base, value = node.inputs
    same = value.op is SLICE and value.inputs[0] is base
    return base if same and value.attributes["at"] == node.attributes["at"] else None


def _add_placed(builder: Builder, node: Node) -> Node | None:
    """`x + place(v) -> add_at(x, v)` for thin regions: gradients of `x[i]` add up in one array."""
    left, right = node.inputs
    placed = right if _is_thin_place(right) else left
    other = left if placed is right else right
    if not _is_thin_place(placed) or _same_type(node, placed) is None:
        return None
    if _same_type(node, other) is None:
        return None
    if _is_thin_place(other):
        zero = constant_node(builder, np.zeros((), node.type.dtype))
        whole = (("shape", node.type.shape),)
        nothing = builder.node(BROADCAST_TO, (zero,), whole)
        other = _added_at(builder, nothing, other, other)
    return _added_at(builder, other, placed, node)


def _add_scattered(builder: Builder, node: Node) -> Node | None:
    """`x + scatter_add(v) -> index_add(x, v)`: gradients of `x[i]` add up in one array."""
    left, right = node.inputs
    added, other = _added_parts(right), left
    if not added:
        added, other = _added_parts(left), right
    if not added or any(_same_type(node, x) is None for x in (left, right)):
        return None
    for op, inputs, attrs in reversed(added):
        other = builder.node(op, (other, *inputs), attrs, node.name, node.source)
    return other


def _added_parts(node: Node) -> list[tuple[Op, tuple[Node, ...], Attrs]]:
    """What is added, and where, to nothing: outermost first; empty for anything else."""
    found: list[tuple[Op, tuple[Node, ...], Attrs]] = []
    while node.op in (INDEX_ADD, ADD_AT):
        found.append((node.op, node.inputs[1:], node.attrs))
        node = node.inputs[0]
    if node.op is SCATTER_ADD:
        attrs = (("axes", node.attributes["axes"]),)
        return [*found, (INDEX_ADD, node.inputs, attrs)]
    if _is_thin_place(node):
        return [*found, (ADD_AT, node.inputs, (("at", node.attributes["at"]),))]
    if found and node.op is BROADCAST_TO and scalar_constant(node.inputs[0]) == 0:
        return found
    return []


def _added_in_place(builder: Builder, node: Node) -> Node | None:
    """`y[i] = y[i] + v -> y[i] += v`: what was there is not needed for the derivative."""
    base, value, *indices = node.inputs
    if value.op not in (ADD, SUBTRACT) or any(x.type.rank for x in indices):
        return None
    first, second = value.inputs
    if value.op is ADD and not _is_read(first, node):
        first, second = second, first
    if not _is_read(first, node) or any(_same_type(value, x) is None for x in (first, second)):
        return None
    if first.type.dtype != base.type.dtype or not base.type.is_float:
        return None
    if value.op is SUBTRACT:
        second = builder.node(NEGATIVE, (second,), (), value.name, value.source)
    attrs = (("axes", node.attributes["axes"]),)
    return builder.node(INDEX_ADD, (base, second, *indices), attrs, node.name, node.source)


def _put_back(builder: Builder, node: Node) -> Node | None:
    """`v = y[i]; y[i] = 0; y[i] += v` changes nothing: a write `y[i] += w`, in reverse."""
    base, value, *indices = node.inputs
    if base.op is not SCATTER_SET or any(x.type.rank for x in indices):
        return None
    before, nothing, *places = base.inputs
    same = [*places] == indices and base.attributes["axes"] == node.attributes["axes"]
    return before if same and scalar_constant(nothing) == 0 and _is_read(value, base) else None


def _is_read(value: Node, write: Node) -> bool:
    """Whether the value is read where the write writes."""
    base, _, *indices = write.inputs
    same = value.op in (GATHER, GATHER_AT) and value.inputs == (base, *indices)
    return same and value.attributes["axes"] == write.attributes["axes"]


def _whole_place(builder: Builder, node: Node) -> Node | None:
    """What is placed everywhere is the result."""
    whole = all(part is None for part in node.attributes["at"])
    return _same_type(node, node.inputs[0]) if whole else None


def _is_thin_place(node: Node) -> bool:
    return node.op is PLACE and is_thin(node.attributes["at"])


def _added_at(builder: Builder, base: Node, placed: Node, like: Node) -> Node:
    attrs = (("at", placed.attributes["at"]),)
    element = elements.added(builder, base, placed.inputs[0], placed.attributes["at"], like)
    if element is not None:
        return element
    return builder.node(ADD_AT, (base, placed.inputs[0]), attrs, like.name, like.source)


def _checked(builder: Builder, node: Node) -> Node | None:
    """Counting up to the size of an axis stays inside of it."""
    (inner,) = node.inputs
    counts = inner.op is ARANGE and inner.attributes["size"] == node.attributes["size"]
    return inner if counts else None


RULES: dict[str, tuple[Rule, ...]] = {
    "add": (side_by_side, _add_placed, _add_scattered, without_shift, without_centred),
    "place": (_whole_place,),
    "multiply": (_drop_one, by_shares),
    "divide": (_divide_one,),
    "subtract": (_minus_zero,),
    "negative": (_double_negative,),
    "copy": (_copy,),
    "astype": (_astype,),
    "transpose": (_transpose,),
    "reshape": (_reshape,),
    "broadcast_to": (_broadcast,),
    "matmul": (times_identity, _matmul),
    "dot": (_dot,),
    "slice": (
        elements.read,
        _whole_slice,
    ),
    "update": (_update,),
    "checked": (_checked,),
    "scatter_set": (_added_in_place,),
    "index_add": (_put_back,),
    "where": (_where,),
}
