"""Cotangents of what a loop reads in every step: matrix products are summed by one product.

    d_w = sum over t of x[t].T @ d[t]      =      reshape(x, (T*k, n)).T @ reshape(d, (T*k, m))

A step then does not touch `d_w` at all; the loop stacks `x` and `d`. What is no product is added up
from step to step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from codegen.records import dataclass
from tracegrad.ir.dims import product
from tracegrad.ir.graph import Graph, Node
from tracegrad.ops.arithmetic import ADD, MULTIPLY
from tracegrad.ops.matmul import MATMUL
from tracegrad.ops.op import bind
from tracegrad.ops.shape import RESHAPE, reshape, transpose
from tracegrad.tracing.array import Traced


@dataclass(frozen=True)
class Factors:
    """One summand, `left.T @ right` of matrices or `outer(left, right)` of vectors."""

    left: Node
    right: Node
    turned: tuple[bool, bool] = (False, False)
    """Which factors have to be transposed to stand like that."""

    @property
    def pairs(self) -> tuple[tuple[Node, bool], tuple[Node, bool]]:
        return (self.left, self.turned[0]), (self.right, self.turned[1])


def factor(value: Traced, turned: bool) -> Any:
    """The value of a factor as it is stacked."""
    return transpose(value) if turned else value


@dataclass(frozen=True)
class Summed:
    """A cotangent of a body: `products`, and the number of its output with the `rest` if any."""

    products: tuple[Factors, ...]
    rest: tuple[Node, ...]


def summands(node: Node) -> Summed:
    """The cotangent as a sum of products and of other terms; a number is one term."""
    if not node.type.rank:
        return Summed((), (node,))
    products: list[Factors] = []
    rest: list[Node] = []
    stack = [node]
    while stack:
        term = stack.pop()
        if term.op is ADD and all(x.type.shape == node.type.shape for x in term.inputs):
            stack.extend(reversed(term.inputs))
            continue
        found = _factors(term)
        if found is None:
            rest.append(term)
        else:
            products.append(found)
    return Summed(tuple(products), tuple(rest))


def _factors(term: Node) -> Factors | None:
    if term.op is MATMUL and term.type.rank == 2:
        flip = term.attributes["flip"]
        a, b = term.inputs
        return Factors(a, b, (not flip[0], flip[1]))
    if term.op is not MULTIPLY or term.type.rank != 2:
        return None
    left, right = term.inputs
    if left.op is RESHAPE and left.inputs[0].type.rank == 1 and left.type.shape[1] == 1:
        row = _row(right)
        return None if row is None else Factors(left.inputs[0], row)
    return None


def _row(node: Node) -> Node | None:
    """The vector that broadcasting makes a row."""
    if node.type.rank == 1:
        return node
    inner = node.inputs[0] if node.op is RESHAPE else None
    return inner if inner is not None and inner.type.rank == 1 == node.type.shape[0] else None


def total(left: Traced, right: Traced) -> Any:
    """The sum of the products of all steps from the stacked factors."""
    flat = [_flat(stack) for stack in (left, right)]
    return bind(MATMUL, *flat, flip=(True, False), stacks=False)


def _flat(stack: Traced) -> Any:
    shape = stack.type.shape
    return reshape(stack, (product(shape[:-1]), shape[-1])) if len(shape) > 2 else stack


def with_outputs(graph: Graph, outputs: Sequence[Node]) -> Graph:
    return replace(graph, outputs=tuple(outputs))
