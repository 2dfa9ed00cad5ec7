"""`checkpoint`: a part of a program whose values are computed again for the backward, not kept.

    y = checkpoint(f)(x)      ->      y = f(x) and nothing else is kept
    backward:                         x1 = barrier(x, d_y);  d_x = the backward of f at x1, with
                                      what it needs of f computed again, as late as it is needed

The call is one node until derivatives have been taken. Its backward is such a node again, so that
second derivatives do not keep anything either. A policy names values that may be kept: the forward
hands them over, and the backward starts from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, overload

from tracegrad.autodiff import forward, reverse
from tracegrad.autodiff.again import behind_snapshots, replayed
from tracegrad.autodiff.derived import as_traced, name_of
from tracegrad.autodiff.traced import TracedLinearizer, naming
from tracegrad.checkpoint_policies import Policy, Value, as_policy
from tracegrad.control.batching import batch_graph, for_all
from tracegrad.control.body import node_in, trace_body, zeros
from tracegrad.control.whole import Whole, called, whole
from tracegrad.function import Function
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.interpret import interpret
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType, StateType, TupleType
from tracegrad.ops.barrier import BARRIER, NAMED
from tracegrad.ops.batched import count_of
from tracegrad.ops.draw import AFTER, DRAW
from tracegrad.ops.op import as_operand, bind, register
from tracegrad.ops.project import PROJECT
from tracegrad.ops.replay import SNAPSHOT, is_generator
from tracegrad.tracing.array import Traced
from tracegrad.tracing.naming import UNNAMED
from tracegrad.tracing.trace import Trace, current_trace

Tangents = Sequence[Array | None]


class Checkpoint(Op):
    """`(*results, *saved) = body(*inputs)`: the backward gets the inputs and the `saved` values."""

    name = "checkpoint"
    stored = (-1,)
    inlined = True

    def infer(self, *types: ArrayType, body: Graph, results: int) -> ArrayType:
        return TupleType.of(tuple(output.type for output in body.outputs))

    def reference(self, *arrays: Any, body: Graph, results: int) -> Any:
        return tuple(interpret(body, arrays))

    def jvp(self, tangents: Tangents, out: Any, *inputs: Array, body: Graph, results: int) -> Any:
        """The body and its tangents, as a checkpoint again."""
        trace, moving = _current(), [t is not None for t in tangents]
        given = [*inputs, *(t for t in tangents if t is not None)]

        def run(values: list[Traced]) -> list[Any]:
            inner = _current()
            again = Again(inner, body, dict(zip(body.inputs, values, strict=False)), {})
            seeds = dict(zip(_where(body.inputs, moving), values[len(inputs) :], strict=True))
            found = forward.tangents(body.outputs, seeds, again.value, TracedLinearizer(inner))
            pushed = [_or_zero(t, y) for t, y in zip(found, body.outputs, strict=True)]
            return [*map(again.value, body.outputs), *pushed] if drawn else pushed

        # Random numbers are drawn once: by the checkpoint that has the tangents too.
        drawn = any(is_generator(node.type) for node in body.inputs)
        found = record(trace, f"{body.name}_jvp", given, run)
        if not drawn:
            return found
        count = len(body.outputs)
        for index, new in enumerate(found[:count]):
            trace.supersede(_part(out, index).node, new.node)
        return found[count:]

    def vjp(
        self,
        wanted: Sequence[bool],
        cts: Tangents,
        out: Any,
        *inputs: Array,
        body: Graph,
        results: int,
    ) -> list[Any]:
        """The backward of the body behind a barrier, as a checkpoint again."""
        trace, kept = _current(), body.outputs[results:]
        seeded = [(y, ct) for y, ct in zip(body.outputs, cts, strict=True) if ct is not None]
        after = seeded[0][1]
        saved = [_part(out, results + number) for number in range(len(kept))]
        own = [number for number, x in enumerate(inputs) if not is_generator(x.type)]
        behind = [_behind(x, after) for x in (*(inputs[number] for number in own), *saved)]

        def run(values: list[Traced]) -> list[Any]:
            inner, rest = _current(), iter(values)
            arguments = {body.inputs[number]: next(rest) for number in own}
            again = Again(inner, body, arguments, dict(zip(kept, rest, strict=False)))
            seeds = values[len(behind) :]
            wrt = _where(body.inputs, wanted)
            found = again.backward([y for y, _ in seeded], seeds, wrt)
            return [_or_zero(d, x) for d, x in zip(found, wrt, strict=True)]

        given = [*behind, *(ct for _, ct in seeded)]
        found = iter(record(trace, f"{body.name}_backward", given, run))
        return [next(found) if want else None for want in wanted]

    def batch(
        self, mapped: tuple[bool, ...], *inputs: Array, body: Graph, results: int
    ) -> list[tuple[Any, bool]]:
        """The batch of the body, with the same values saved, for all items."""
        trace, count = _current(), count_of(mapped, inputs)

        def run(values: list[Traced]) -> list[Any]:
            inner = _current()
            found = batch_graph(inner, body, values, mapped, count)
            return [for_all(inner, x, count) for x in found]

        named = [(node.name, x.type) for node, x in zip(body.inputs, inputs, strict=True)]
        made = trace_body(trace, body.name, named, run)
        nodes = (*(node_in(trace, x) for x in inputs), *made.captured)
        node = trace.record(CHECKPOINT, nodes, {"body": made.graph, "results": results})
        every = range(len(body.outputs))
        parts = [trace.record(PROJECT, (node,), {"index": index}) for index in every]
        return [(Traced(trace, part), True) for part in parts]


CHECKPOINT = register(Checkpoint())


class Again:
    """The values of a body computed once more in `trace`, each where it is first asked for."""

    def __init__(
        self, trace: Trace, body: Graph, given: dict[Node, Traced], saved: dict[Node, Traced]
    ) -> None:
        """`given`: the body's inputs; without generators, where `saved` has their states."""
        self.trace = trace
        self._saved = saved
        self._made = {**given, **saved}

    def value(self, node: Node) -> Traced:
        """What stands for a node of the body."""
        stack = [node]
        while stack:
            wanted = stack[-1]
            needed = wanted.inputs
            if wanted.op is AFTER and wanted.inputs[1] in self._saved:
                needed = needed[1:]
            waiting = [x for x in needed if wanted not in self._made and x not in self._made]
            stack.extend(waiting)
            if not waiting:
                stack.pop()
                if wanted not in self._made:
                    self._made[wanted] = self._computed(wanted)
        return self._made[node]

    def _computed(self, node: Node) -> Traced:
        trace = self.trace
        if node.op is AFTER and node.inputs[1] in self._saved:
            return self._replay(node)
        operands = tuple(node_in(trace, self._made[x]) for x in node.inputs)
        made = trace.builder.node(node.op, operands, node.attrs, "", node.source)
        if node.name:
            trace.names.setdefault(made, node.name)
        return Traced(trace, made)

    def _replay(self, node: Node) -> Traced:
        """The generator that a loop or branch draws from, as it was."""
        assert isinstance(node.type, StateType)
        words = node_in(self.trace, self._made[node.inputs[1]])
        return Traced(self.trace, replayed(self.trace, words, node.type.generator))

    def backward(
        self, outputs: Sequence[Node], cts: Sequence[Traced], wrt: Sequence[Node]
    ) -> list[Any]:
        """The cotangents of `wrt`, named after what they belong to."""
        linear = TracedLinearizer(self.trace)
        with naming(self.trace) as observe:
            return reverse.cotangents(outputs, cts, wrt, self.value, linear, observe)


def record(
    trace: Trace, name: str, given: Sequence[Any], run: Callable[[list[Traced]], list[Any]]
) -> list[Traced]:
    """A checkpoint node for `run` on these values, none of its own values saved."""
    operands = [as_traced(trace, x) for x in given]
    named = [(x._trace.names.get(x.node, "") or f"x{k}", x.type) for k, x in enumerate(operands)]
    body = trace_body(trace, name, named, run)
    nodes = (*(node_in(trace, x) for x in operands), *body.captured)
    return results_of(trace, nodes, body.graph, len(body.graph.outputs))


def results_of(trace: Trace, nodes: Sequence[Node], body: Graph, results: int) -> list[Traced]:
    node = trace.record(CHECKPOINT, tuple(nodes), {"body": body, "results": results})
    return [
        Traced(trace, trace.record(PROJECT, (node,), {"index": index})) for index in range(results)
    ]


def _current() -> Trace:
    trace = current_trace()
    assert trace is not None
    return trace


def _where(nodes: Sequence[Node], wanted: Sequence[bool]) -> list[Node]:
    return [node for node, want in zip(nodes, wanted, strict=True) if want]


def _part(out: Traced, index: int) -> Traced:
    owner = out._trace
    return Traced(owner, owner.record(PROJECT, (out.node,), {"index": index}))


def _behind(x: Traced, after: Array) -> Traced:
    """`x` as the backward sees it; constants are what they are."""
    return x if x.node.op.name in UNNAMED else bind(BARRIER, x, after)


def _or_zero(derivative: Any, node: Node) -> Any:
    return zeros(node.type) if derivative is None else derivative


@overload
def checkpoint(
    fun: Callable[..., Any],
    *,
    policy: Any = None,
    prevent_cse: bool = True,
    static_argnums: int | Sequence[int] = (),
) -> Function: ...
@overload
def checkpoint(
    *, policy: Any = None, prevent_cse: bool = True, static_argnums: int | Sequence[int] = ()
) -> Callable[[Callable[..., Any]], Function]: ...
def checkpoint(
    fun: Callable[..., Any] | None = None,
    *,
    policy: Any = None,
    prevent_cse: bool = True,
    static_argnums: int | Sequence[int] = (),
) -> Any:
    """`fun`, whose intermediate values are computed again for a derivative instead of being kept.

    Arguments and results are pytrees; works as a decorator, with or without options, and inside of
    loops and branches. `policy` says which values may be kept all the same: one of
    `tg.checkpoint_policies`, or a function of a `Value` (its operation, name, shape and dtype) that
    returns a bool. Without one nothing but the arguments is kept. `prevent_cse` and
    `static_argnums` are taken for JAX's sake: what is computed again is never merged with the
    forward, and ints, bools, strings and None are static wherever they stand.

    >>> layer = tg.checkpoint(lambda h, w: np.tanh(h @ w))
    """
    if fun is None:
        return partial(checkpoint, policy=policy)
    del prevent_cse, static_argnums
    chosen = as_policy(policy)
    return checkpointed(fun, lambda _, body: [n for n in candidates(body) if chosen(value_of(n))])


def checkpointed(
    fun: Callable[..., Any], choose: Callable[[Trace, Graph], Iterable[Node] | None]
) -> Function:
    """`fun` as a checkpoint that keeps those values of its body that `choose` picks; None: it is
    no checkpoint."""

    def kept_whole(*args: Any, **kwargs: Any) -> Any:
        trace = _current()
        call = whole(trace, name_of(fun), fun, (args, kwargs))
        saved = choose(trace, call.body.graph)
        return fun(*args, **kwargs) if saved is None else _recorded(trace, call, saved)

    kept_whole.__wrapped__ = getattr(fun, "python", fun)  # type: ignore[attr-defined]
    return Function(kept_whole, name_of(fun))


def _recorded(trace: Trace, call: Whole, saved: Iterable[Node]) -> Any:
    body, moved = behind_snapshots(call.body.graph)
    results, drawn = len(body.outputs), (DRAW, SNAPSHOT)
    kept = dict.fromkeys(moved.get(node, node) for node in saved)
    kept |= dict.fromkeys(node for node in body.nodes if node.op in drawn)
    outputs = (*body.outputs, *(node for node in kept if node not in body.outputs))
    graph = replace(body, outputs=outputs)
    return called(trace, CHECKPOINT, call, graph, results=results)


def candidates(body: Graph) -> list[Node]:
    """The values of a body that could be kept: what it computes, without tuples and constants."""
    inner = body.nodes[len(body.inputs) :]
    other = (TupleType, StateType)
    return [n for n in inner if n.op.name not in UNNAMED and not isinstance(n.type, other)]


def value_of(node: Node) -> Value:
    label = node.attributes["label"] if node.op is NAMED else node.name
    name = "" if "%" in label else label
    stacked = len(node.inputs) == 2 and all(x.type.rank > 2 for x in node.inputs)
    return Value(node.op.name, name, node.type.shape, node.type.dtype, stacked)


def checkpoint_name(x: Any, name: str) -> Any:
    """`x`, under a name that `save_only_these_names` and other policies know it by.

    A value assigned to a variable of the checkpointed function has that variable's name without it.
    """
    return bind(NAMED, as_operand(x), label=name)


__all__ = ["Policy", "checkpoint", "checkpoint_name", "checkpointed"]
