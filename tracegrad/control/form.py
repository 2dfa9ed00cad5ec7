"""In which form a function of one item is applied to a batch: all items at once, or one by one.

    f(x) = tanh(x @ w)                                ->   at once: one product for all items
    f(x) = while_loop(lambda x: x > 1, halved, x)     ->   one by one: each has its own steps

All at once wherever the operations can take a batch. A program with control flow runs item by item,
so that an item's values stay in registers or the nearest cache, unless its work is products with a
matrix that all items share: these become matrix products of the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from codegen.records import dataclass
from tracegrad.control.batching import mapped_nodes
from tracegrad.control.branch import BRANCH
from tracegrad.control.loop import LOOP, carried
from tracegrad.control.repeat import REPEAT
from tracegrad.ir.dims import in_figures
from tracegrad.ir.graph import Graph, Node
from tracegrad.ops.call import CALL
from tracegrad.ops.constant import BOUND
from tracegrad.ops.matmul import DOT, MATMUL
from tracegrad.ops.project import PROJECT

WORTH_A_PRODUCT = 64
"""Elements of a shared matrix from which on a product for all items beats one for each."""

LONGEST = 40
"""Characters of the user's text in a reason."""


@dataclass(frozen=True)
class Form:
    """All items at once (`batched`) or one by one, and why; whether with a product for all."""

    batched: bool
    reason: str
    product: bool = False


def one_by_one(why: str) -> Form:
    return Form(False, f"one item after the other: {why}")


def chosen(graph: Graph, mapped: Sequence[bool]) -> Form:
    """The form in which `graph`, the program of one item, is applied to a batch."""
    product, _, control = _decisive(graph, mapped)
    if product is not None:
        why = f"all items at once: {_text(product)} is one product for all of them"
        return Form(True, why, product=True)
    if control is None:
        return Form(True, "all items at once, every operation along a leading axis")
    return one_by_one(f"{_text(control)} is control flow, and its values stay with the item")


def of_directions(graph: Graph, mapped: Sequence[bool]) -> Form:
    """The form in which `graph`, the linear part of a function, is applied to all directions."""
    product, matrix, _ = _decisive(graph, mapped)
    if product is None or matrix is None:
        return Form(False, "one after the other: they are multiplied by no matrix")
    name = matrix.name or "a matrix"
    return Form(True, f"all at once: what is multiplied by {name} is one product for all of them")


def _decisive(graph: Graph, mapped: Sequence[bool]) -> tuple[Node | None, Node | None, Node | None]:
    """The first product with a matrix that all items share, that matrix, the first control flow."""
    product, matrix, control = None, None, None
    for node, flags in _walk(graph, mapped):
        if product is None and node.op in (MATMUL, DOT) and _is_shared_product(node, flags):
            product, matrix = node, node.inputs[flags.index(False)]
        if _is_control(node, flags):
            control = control or node
    return product, matrix, control


def _walk(graph: Graph, mapped: Sequence[bool]) -> Iterator[tuple[Node, list[bool]]]:
    """Every node that depends on mapped inputs, with the flags of its operands; bodies too."""
    found = mapped_nodes(graph, mapped)
    for node in graph.nodes[len(graph.inputs) :]:
        flags = [operand in found for operand in node.inputs]
        if not any(flags):
            continue
        yield node, flags
        for body, inner in _bodies(node, flags):
            yield from _walk(body, inner)


def _bodies(node: Node, flags: list[bool]) -> Iterator[tuple[Graph, list[bool]]]:
    attrs = node.attributes
    if node.op is LOOP:
        body = attrs["body"]
        given = [False, *flags[: len(body.inputs) - 1]]
        yield body, carried(given, body, slice(1, 1 + attrs["carries"]))
    elif node.op is REPEAT:
        inner = carried(flags, attrs["body"], slice(0, attrs["carries"]))
        yield attrs["body"], inner
    elif node.op is BRANCH:
        for body in attrs["branches"]:
            yield body, flags[1:]
    elif node.op is CALL:
        yield attrs["body"], flags


def _is_control(node: Node, flags: Sequence[bool]) -> bool:
    if node.op in (LOOP, REPEAT, BRANCH, BOUND):
        return True
    return not (node.op.has("batch") or node.op in (CALL, PROJECT))


def _is_shared_product(node: Node, flags: Sequence[bool]) -> bool:
    if all(flags):
        return False
    shared = node.inputs[flags.index(False)].type
    size = in_figures(shared.size)
    return shared.rank >= 2 and isinstance(size, int) and size >= WORTH_A_PRODUCT


def _text(node: Node) -> str:
    """What the user wrote, on one short line."""
    if node.op is BOUND:
        return "a loop that each item runs as often as it asks for"
    text = " ".join(node.source.text.split()) if node.source else node.op.name
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


__all__ = ["Form", "chosen", "of_directions", "one_by_one"]
