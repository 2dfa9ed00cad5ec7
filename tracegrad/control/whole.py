"""Calls that stay whole: a function traced into a body that one node holds.

y = f(x, w)      ->      results = call(x, w; body=f), y = results[0]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tracegrad.autodiff.derived import as_traced
from tracegrad.control.body import Body, node_in, trace_body
from tracegrad.errors import TraceError
from tracegrad.ir.graph import Node
from tracegrad.ir.types import CHECKS
from tracegrad.leaves import leaves_of
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
    if CHECKS in body.generators:
        raise TraceError(
            f"a check (tg.check, or an exception in a branch) in {name}, which has rules of its "
            "own or is computed again: check before it is called"
        )
    return Whole(body, (*(node_in(trace, x) for x in given), *body.captured), tree)
