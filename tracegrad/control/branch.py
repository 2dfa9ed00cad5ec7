"""The branch: one of several bodies, chosen by a condition or a number at run time.

    y = cond(p, f, g, x)      ->      if p: y = f(x)   else: y = g(x)

Both derivatives are branches again, on the same number. What the backward of the branch that was
taken needs of its forward is kept by that (`tracegrad.control.kept`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen import loops
from codegen.expr import Var
from tracegrad.autodiff import traced
from tracegrad.autodiff.derived import as_traced
from tracegrad.control.batching import batch_graph, for_all, mapped_outputs
from tracegrad.control.body import Body, node_in, separate, trace_body, with_captured, zeros
from tracegrad.control.counted import assignments, results_of, tuple_text
from tracegrad.control.kept import backward_bodies, result, split
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.interpret import interpret
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType, StateType, TupleType
from tracegrad.lower import Scope, comment
from tracegrad.nested import Nested, allocate_named, taken_memory
from tracegrad.ops.batched import count_of
from tracegrad.ops.op import register
from tracegrad.ops.project import PROJECT
from tracegrad.ops.unset import UNSET
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace, current_trace


class Branch(Op):
    """`branches[index](*operands)`; the index is clamped to the branches there are. A boolean takes
    the first of two branches where it is True."""

    name = "branch"
    stored = (-1,)

    def infer(self, *types: ArrayType, branches: tuple[Graph, ...]) -> ArrayType:
        return TupleType.of(tuple(output.type for output in branches[0].outputs))

    def reference(self, index: Any, *operands: Any, branches: tuple[Graph, ...]) -> Any:
        number = int(not index) if np.asarray(index).dtype == bool else int(index)
        chosen = branches[min(max(number, 0), len(branches) - 1)]
        return tuple(interpret(chosen, operands))

    def jvp(self, tangents: Sequence[Array | None], out: Any, *inputs: Array, **attrs: Any):
        def push(inner: Trace, graph: Graph, nodes: list[Node]) -> list[Any]:
            outputs = inner.inline(graph, nodes)
            given = {
                node: as_traced(inner, tangent)
                for node, tangent in zip(nodes, tangents[1:], strict=True)
                if tangent is not None
            }
            found = traced.jvp(inner, outputs, given)
            pushed = [
                zeros(y.type) if t is None else t for y, t in zip(outputs, found, strict=True)
            ]
            return [*(Traced(inner, y) for y in outputs), *pushed] if draws else pushed

        draws = any(isinstance(getattr(x, "type", None), StateType) for x in inputs)
        results = self._again(inputs, attrs["branches"], push)
        if not draws:
            return results
        # Random numbers are drawn once: by the branch that has the tangents too.
        trace, count = current_trace(), len(results) // 2
        assert trace is not None
        for place, new in enumerate(results[:count]):
            trace.supersede(trace.record(PROJECT, (out.node,), {"index": place}), new.node)
        return results[count:]

    def vjp(
        self,
        wanted: Sequence[bool],
        cts: Any,
        out: Any,
        *inputs: Array,
        branches: tuple[Graph, ...],
    ) -> list[Any]:
        trace, operands = current_trace(), inputs[1:]
        assert trace is not None
        want = [bool(w) for w in wanted[1:]]
        types = [output.type for output in branches[0].outputs]
        seeded = [ct is not None and t.is_float for ct, t in zip(cts, types, strict=True)]
        sides = split(trace, branches, want, seeded)
        if sides.slots:
            nodes = tuple(node_in(trace, value) for value in inputs)
            node = trace.record(BRANCH, nodes, {"branches": sides.forward()})
            trace.supersede(out.node, node)
            results = results_of(trace, node)
        else:
            results = [result(out, number) for number in range(len(types))]
        seeds = [ct for ct, seed in zip(cts, seeded, strict=True) if seed]
        bodies = backward_bodies(trace, sides, results, operands, seeds, want)
        found = iter(branch(trace, node_in(trace, inputs[0]), bodies))
        return [None, *(next(found) if w else None for w in want)]

    def _again(self, inputs: Sequence[Any], branches: Sequence[Graph], run: Any) -> list[Traced]:
        """A branch on the same index whose bodies do `run` on the old ones."""
        trace = current_trace()
        assert trace is not None

        def body_of(graph: Graph) -> Body:
            def body(given: list[Traced]) -> Any:
                inner = current_trace()
                assert inner is not None
                nodes = [separate(inner, node_in(inner, value)) for value in inputs[1:]]
                return run(inner, graph, nodes)

            return trace_body(trace, graph.name, [], body)

        return branch(trace, node_in(trace, inputs[0]), [body_of(graph) for graph in branches])

    def batch(
        self, mapped: tuple[bool, ...], *inputs: Array, branches: tuple[Graph, ...]
    ) -> list[tuple[Any, bool]] | None:
        """The same branch for all items; None if each takes its own."""
        if mapped[0]:
            return None
        trace, count = current_trace(), count_of(mapped, inputs)
        assert trace is not None
        made = [mapped_outputs(graph, mapped[1:]) for graph in branches]
        flags = [any(column) for column in zip(*made, strict=True)]

        def body_of(graph: Graph) -> Body:
            def body(given: list[Traced]) -> Any:
                inner = current_trace()
                assert inner is not None
                found = batch_graph(inner, graph, inputs[1:], mapped[1:], count)
                return [
                    for_all(inner, x, count) if flag else x.value
                    for x, flag in zip(found, flags, strict=True)
                ]

            return trace_body(trace, graph.name, [], body)

        results = branch(trace, node_in(trace, inputs[0]), [body_of(graph) for graph in branches])
        return list(zip(results, flags, strict=True))

    def takes(self, node: Node) -> dict[int, int]:
        """An array that the branches write into, or leave as it is, stays where it is."""
        bodies = node.attributes["branches"]
        found: dict[int, int] = {}
        for number, outputs in enumerate(zip(*(body.outputs for body in bodies), strict=True)):
            places = {_written(output, body) for output, body in zip(outputs, bodies, strict=True)}
            place = places.pop()
            if not places and place is not None and place not in found.values():
                found[number] = place
        return found

    def block(self, writer: Any, node: Node) -> list[str]:
        """`if ...: ... elif ...: ... else: ...`; each side makes the tuple of results."""
        index, *operands = [writer.value(n) for n in node.inputs]
        branches = node.attributes["branches"]
        lines: list[str] = []
        for number, graph in enumerate(branches):
            last = number == len(branches) - 1
            holds = index if node.inputs[0].type.dtype == bool else f"{index} <= {number}"
            test = f"{'if' if not number else 'elif'} {holds}:"
            lines.append("else:" if last and number else test)
            given = assignments([n.name for n in graph.inputs], operands)
            results = [writer.value(n) for n in graph.outputs]
            lines += [f"    {line}" for line in given] + writer.body(graph)
            lines.append(f"    {node.name} = {tuple_text(results)}")
        return lines

    def kernel(self, lowering: Any, node: Node) -> None:
        names, taken = lowering.result_names(node), taken_memory(lowering, node)
        assert isinstance(node.type, TupleType)
        for number, type in enumerate(node.type.parts):
            if number in taken:
                names[number] = taken[number]
            elif type.rank:
                allocate_named(lowering, names[number], type, temporary=False)
        index = lowering.value(node.inputs[0], ())
        for statement in self._choice(lowering, node, names, index, 0):
            lowering.append(statement)
        lowering.place(node, names)

    def _choice(self, lowering: Any, node: Node, names: list[str], index: Any, number: int) -> Any:
        """`if condition: branch  else: the other`, or `if index <= number: ...  elif ...`."""
        branches = node.attributes["branches"]
        lowering.scopes.append(Scope())
        inputs, places = branches[number].inputs, self.takes(node)
        taken = {k: places[k] for k in taken_memory(lowering, node)}
        own = [inputs[at - 1] for at in taken.values()]
        graph = branches[number]
        made = tuple(y for y in graph.outputs if y.op is not UNSET)
        inner = Nested(lowering, replace(graph, outputs=made), own=own)
        for given, operand in zip(branches[number].inputs, node.inputs[1:], strict=True):
            inner.give_operand(given, lowering, operand)
        inner.run()
        outputs = branches[number].outputs
        for k, (output, name) in enumerate(zip(outputs, names, strict=True)):
            if k in taken or (output.op is UNSET and output.type.rank):
                continue
            if output.type.rank:
                inner.put(output, name)
            elif not isinstance(output.type, StateType):
                value = inner.value(output, ())
                inner.append(loops.Assign(Var(name, output.type.dtype), value, comment(output)))
        inner.update([(outputs[k], names[k]) for k in taken])
        body = tuple(lowering.scopes.pop().statements)
        if number == len(branches) - 1:
            return body
        rest = self._choice(lowering, node, names, index, number + 1)
        limit = (index, ex.integer(number))
        test = index if index.dtype == bool else ex.Call("less_equal", limit, ex.BOOL)
        return (loops.If(test, body, tuple(rest), comment(node)),)


def _written(output: Node, body: Graph) -> int | None:
    """The operand (its number) that an output is, with parts of it written over."""
    while output.op.overwrites is not None:
        output = output.inputs[output.op.overwrites]
    if not output.type.rank or output not in body.inputs:
        return None
    return 1 + body.inputs.index(output)


BRANCH = register(Branch())


def branch(trace: Trace, index: Node, bodies: Sequence[Body]) -> list[Traced]:
    """Record a branch; its results."""
    generators = tuple(dict.fromkeys(name for body in bodies for name in body.generators))
    states = [trace.state(generator) for generator in generators]
    captured = tuple(dict.fromkeys([*states, *(n for body in bodies for n in body.captured)]))
    graphs = tuple(_with_ends(body, captured, generators) for body in bodies)
    node = trace.record(BRANCH, (index, *captured), {"branches": graphs})
    results = results_of(trace, node)
    own = len(results) - len(generators)
    for generator, state in zip(generators, results[own:], strict=True):
        trace.advance(generator, state.node)
    return results[:own]


def _with_ends(body: Body, captured: Sequence[Node], generators: Sequence[str]) -> Graph:
    """The branch's graph whose last outputs are the states of `generators`: after its draws, or as
    they were."""
    graph = with_captured(body, captured)
    first = len(graph.inputs) - len(captured)
    starts = {
        node.type.generator: own
        for node, own in zip(captured, graph.inputs[first:], strict=True)
        if isinstance(node.type, StateType)
    }
    own = len(graph.outputs) - len(body.generators)
    ends = starts | dict(zip(body.generators, graph.outputs[own:], strict=True))
    outputs = (*graph.outputs[:own], *(ends[generator] for generator in generators))
    return replace(graph, outputs=outputs)
