"""Calls that stay whole: a function traced into a body that one node holds.

y = f(x, w)      ->      results = call(x, w; body=f), y = results[0]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from codegen.records import dataclass
from tracegrad.autodiff.derived import as_traced
from tracegrad.control.body import Body, node_in, trace_body
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.op import Op
from tracegrad.leaves import leaves_of
from tracegrad.ops.project import PROJECT
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace
from tracegrad.tree import Tree, unflatten


@dataclass(frozen=True)
class Whole:
    """A call as a body; `operands` are the leaves of its arguments, then what it captured."""

    body: Body
    operands: tuple[Node, ...]
    tree: Tree
    """The structure of its arguments."""


def whole(trace: Trace, name: str, fun: Callable[..., Any], arguments: Any) -> Whole:
    """`fun(*args, **kwargs)` for `arguments = (args, kwargs)`, traced but not recorded."""
    leaves, tree = leaves_of(arguments)
    given = [as_traced(trace, leaf) for leaf in leaves]
    named = [(x._trace.names.get(x.node, "") or f"x{k}", x.type) for k, x in enumerate(given)]

    def run(inner: list[Traced]) -> Any:
        args, kwargs = unflatten(tree, iter(inner))
        return fun(*args, **kwargs)

    body = trace_body(trace, name, named, run)
    return Whole(body, (*(node_in(trace, x) for x in given), *body.captured), tree)


def called(trace: Trace, op: Op, call: Whole, body: Graph, **attrs: Any) -> Any:
    """The result of the call, recorded as a node with that body: that of `call`, or one with
    further outputs. Checks and draws in it come after those before it, and before later ones.
    """
    node = trace.record(op, call.operands, {"body": body, **attrs})
    count = len(call.body.graph.outputs)
    results = [trace.record(PROJECT, (node,), {"index": index}) for index in range(count)]
    own = count - len(call.body.generators)
    for generator, state in zip(call.body.generators, results[own:], strict=True):
        trace.advance(generator, state)
    return unflatten(call.body.tree, iter([Traced(trace, result) for result in results[:own]]))
