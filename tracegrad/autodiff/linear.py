"""The linear part of a function as a graph beside the function itself.

    (x)  ->  y = sin(x)        =>        (x, t_x)  ->  y = sin(x), t_y = cos(x) * t_x

The residual cut splits it into the function, which keeps cos(x), and the linear map of t_x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tracegrad.autodiff import traced
from tracegrad.ir.graph import Graph
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace, tracing


def linear_graph(graph: Graph, extents: dict[str, int], wanted: Sequence[bool]) -> Graph:
    """Outputs, then their tangents, from the inputs and the tangents of the wanted inputs.

    An output that does not depend on them has none; `""` marks it in the outputs' names.
    """
    trace = Trace.resume(graph, extents)
    with tracing(trace, Traced):
        given = {
            node: Traced(trace, trace.add_node(node.type, f"t_{node.name}"))
            for node, want in zip(graph.inputs, wanted, strict=True)
            if want
        }
        found = traced.jvp(trace, graph.outputs, given)
        tangents = [t.node for t in found if t is not None]
    marks = tuple("" if t is None else "t" for t in found)
    joint = trace.finish([*graph.outputs, *tangents], graph.source)
    return replace(joint, output_names=marks)
