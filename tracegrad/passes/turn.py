"""A transposed matrix product is the product of the transposed operands, the other way round.

    v = a @ b;  y = v.T      ->      y = b.T @ a.T, which reads a and b as they lie

Only where nothing else uses the product: the gradient of `w.T` in `x @ w.T` comes out so.
"""

from __future__ import annotations

from tracegrad.ir.graph import Builder, Graph, Node, rebuild
from tracegrad.ops.matmul import MATMUL
from tracegrad.ops.shape import TRANSPOSE


def turn_products(graph: Graph) -> Graph:
    """The graph without transposes of products that have no other use."""
    turned = {node for node in graph.nodes if _is_turned(graph, node)}
    if not turned:
        return graph
    names = {node.serial: node for node in turned}

    def rule(builder: Builder, node: Node, operands: tuple[Node, ...]) -> Node:
        if node.serial not in names:
            return builder.node(node.op, operands, node.attrs, node.name, node.source)
        (product,) = operands
        (a, b), (left, right) = product.inputs, product.attributes["flip"]
        attrs = (("flip", (not right, not left)), ("stacks", product.attributes["stacks"]))
        return builder.node(MATMUL, (b, a), attrs, node.name or product.name, node.source)

    return rebuild(graph, rule)


def _is_turned(graph: Graph, node: Node) -> bool:
    if node.op is not TRANSPOSE or node.inputs[0].op is not MATMUL:
        return False
    swapped = (1, 0) if node.type.rank == 2 else (0, 2, 1)
    (product,) = node.inputs
    alone = len(graph.uses[product]) == 1 and product not in graph.outputs
    return node.attributes["axes"] == swapped and alone
