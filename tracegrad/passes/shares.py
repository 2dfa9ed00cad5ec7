"""Shares of a total, `p = e / s`: the derivative by `e`, times `e`, is a product with `p` alone.

    (ct * (1 / s) + -X * (1 / s)) * e      ->      (ct - X) * p

That is what the reverse mode makes of a softmax, `e = exp(z)`, `s = sum(e)`, `X = sum(ct * p)`.
What reads `p` alone needs neither the exponentials nor their sums: they are not kept for the
backward. Nothing overflows that did not before: `p` is there already, `X` has the size of `ct`.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracegrad.ir.graph import Builder, Node
from tracegrad.ops.arithmetic import ADD, DIVIDE, MULTIPLY, NEGATIVE, SUBTRACT
from tracegrad.ops.constant import CONSTANT
from tracegrad.ops.reduction import BROADCAST_TO


def by_shares(builder: Builder, node: Node) -> Node | None:
    """`(ct * r - X * r) * e -> (ct - X) * p` where `r = 1 / s` and the program has `p = e / s`."""
    for slope, e in (node.inputs, node.inputs[::-1]):
        for ct, r, spread in _terms(slope):
            total = _subtracted(spread, r)
            shares = total and builder.known(DIVIDE, (e, r.inputs[1]))
            if not total or not shares or shares.type.shape != node.type.shape:
                continue
            rest = builder.node(SUBTRACT, (ct, total), (), "", slope.source)
            return builder.node(MULTIPLY, (rest, shares), (), node.name, node.source)
    return None


def _terms(slope: Node) -> Iterator[tuple[Node, Node, Node]]:
    """The ways to read `slope` as `ct * r + other`, `r` a reciprocal."""
    if slope.op is not ADD:
        return
    for product, other in (slope.inputs, slope.inputs[::-1]):
        if product.op is MULTIPLY:
            for ct, r in (product.inputs, product.inputs[::-1]):
                if is_reciprocal(r):
                    yield ct, r, other


def is_reciprocal(node: Node) -> bool:
    """Whether this is `1 / s`."""
    if node.op is not DIVIDE or node.inputs[0].op is not CONSTANT or node.inputs[0].type.rank:
        return False
    return node.inputs[0].attributes["value"].array.item() == 1


def _subtracted(spread: Node, r: Node) -> Node | None:
    """`X` of `-X * r`, if that is what `spread` repeats."""
    spread = spread.inputs[0] if spread.op is BROADCAST_TO else spread
    if spread.op is not MULTIPLY:
        return None
    for negative, factor in (spread.inputs, spread.inputs[::-1]):
        if factor is r and negative.op is NEGATIVE:
            return negative.inputs[0]
    return None
