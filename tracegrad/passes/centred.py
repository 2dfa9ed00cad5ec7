"""What is centred has the sum zero: the derivative of `c = x - mean(x)` needs fewer sums.

    d_x = d_c + -sum(d_c) / n     where   d_c = a + k * c      ->      d_x = d_c + -sum(a) / n

In a variance `a` is nothing, and a pass over the data is saved; in a standardisation or a layer
norm the sum that is left does not wait for `k`, and is taken in one pass with those that `k` is
made of. Dropped is what the formal algebra of `passes.shifts` finds to be zero but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracegrad.ir.graph import Builder, Node
from tracegrad.ops.arithmetic import ADD, MULTIPLY, NEGATIVE, SUBTRACT
from tracegrad.ops.constant import SIZE
from tracegrad.ops.reduction import BROADCAST_TO, SUM
from tracegrad.ops.shape import RESHAPE
from tracegrad.passes.shares import is_reciprocal
from tracegrad.passes.shifts import vanishes

MOST_TERMS, MOST_AROUND = 8, 6
Around = tuple[tuple[Node, Node], ...]
"""Nodes, innermost first, each with the operand that the one before it is."""
Term = tuple[bool, Node]
"""Whether it is subtracted, and what."""


def without_centred(builder: Builder, node: Node) -> Node | None:
    """`d + -sum(d) / n` with the terms of the sum alone that do not vanish."""
    for slope, spread in (node.inputs, node.inputs[::-1]):
        if slope.type != node.type or spread.op is not BROADCAST_TO:
            continue
        for around, total in _means(spread):
            if not _is_part(total.inputs[0].inputs[0], slope):
                continue
            terms = list(_terms(total.inputs[0], False))
            if len(terms) > MOST_TERMS:
                continue
            left = [term for term in terms if not _sums_to_nothing(builder, term[1], total)]
            if len(left) < len(terms):
                rest = _rebuilt(builder, around, _summed(builder, left, total) if left else None)
                if rest is None:
                    return slope
                return builder.node(ADD, (slope, rest), (), node.name, node.source)
    return None


def _means(spread: Node, around: Around = ()) -> Iterator[tuple[Around, Node]]:
    """Each `sum(-d)` of a `sum(-d) * (1 / n)` that is repeated, with the nodes around it."""
    if spread.op in (BROADCAST_TO, RESHAPE):
        yield from _means(spread.inputs[0], ((spread, spread.inputs[0]), *around))
    elif spread.op is ADD and len(around) < MOST_AROUND:
        for part in spread.inputs:
            yield from _means(part, ((spread, part), *around))
    elif spread.op is MULTIPLY:
        for total, part in (spread.inputs, spread.inputs[::-1]):
            if is_reciprocal(part) and part.inputs[1].op is SIZE:
                inside = ((spread, total), *around)
                while total.op is RESHAPE:
                    inside = ((total, total.inputs[0]), *inside)
                    (total,) = total.inputs
                if total.op is SUM and total.inputs[0].op is NEGATIVE:
                    yield inside, total


def _is_part(term: Node, slope: Node, depth: int = 4) -> bool:
    """Whether `term` is among what is added up to `slope`."""
    if slope is term or not depth or slope.op is not ADD:
        return slope is term
    return any(_is_part(term, part, depth - 1) for part in slope.inputs)


def _rebuilt(builder: Builder, around: Around, new: Node | None) -> Node | None:
    """What is around a sum, with another in its place, or with none."""
    for outer, old in around:
        if new is not None:
            inputs = tuple(new if x is old else x for x in outer.inputs)
            new = builder.node(outer.op, inputs, outer.attrs, "", outer.source)
        elif outer.op is ADD:
            left, right = outer.inputs
            other = right if left is old else left
            shape = (("shape", outer.type.shape),)
            new = other if other.type == outer.type else builder.node(BROADCAST_TO, (other,), shape)
    return new


def _terms(node: Node, minus: bool) -> Iterator[Term]:
    if node.op is NEGATIVE:
        yield from _terms(node.inputs[0], not minus)
    elif node.op in (ADD, SUBTRACT) and all(x.type == node.type for x in node.inputs):
        left, right = node.inputs
        yield from _terms(left, minus)
        yield from _terms(right, minus ^ (node.op is SUBTRACT))
    else:
        yield minus, node


def _sums_to_nothing(builder: Builder, term: Node, total: Node) -> bool:
    return vanishes(builder.node(SUM, (term,), total.attrs))


def _summed(builder: Builder, terms: list[Term], total: Node) -> Node:
    """The sum of the terms, over the axes of `total`; one that is a product with what is the same
    along these axes is taken without it: the sum need not wait for that."""
    found: Node | None = None
    factor: Node | None = None
    for minus, term in terms:
        if len(terms) == 1:
            term, factor = _apart(builder, term, total)
        term = builder.node(NEGATIVE, (term,), (), "", total.source) if minus else term
        found = term if found is None else builder.node(ADD, (found, term), (), "", total.source)
    assert found is not None
    found = builder.node(SUM, (found,), total.attrs, "", total.source)
    return builder.node(MULTIPLY, (found, factor), (), "", total.source) if factor else found


def _apart(builder: Builder, term: Node, total: Node) -> tuple[Node, Node | None]:
    """`a` and `k` of `a * k` where `k`, of the shape of the sum, is the same along its axes."""
    if term.op is MULTIPLY:
        for rest, factor in (term.inputs, term.inputs[::-1]):
            padded = (1,) * (term.type.rank - factor.type.rank) + factor.type.shape
            axes = total.attributes["axis"]
            kept = tuple(size for axis, size in enumerate(padded) if axis not in axes)
            alike = kept == total.type.shape and all(padded[axis] == 1 for axis in axes)
            if alike and rest.type == term.type:
                shape = (("shape", kept),)
                flat = factor.type.shape == kept
                return rest, factor if flat else builder.node(RESHAPE, (factor,), shape)
    return term, None
