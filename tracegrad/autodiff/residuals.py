"""The residual cut: a joint graph split into a forward and a backward program.

    joint: (x, d_y) -> (y, d_x)      =>      forward: x -> (y, residuals)      backward: (d_y,
    residuals) -> d_x

Residuals are the values that cross the cut; no rule declares them. An argument or a result that
the backward needs crosses for nothing. For the others a minimum cut weighs the bytes that keeping
a value moves against the flops that computing it again takes (after the rematerialisation by
min-cut of A. Chen et al., functorch 2022, with the cost of recomputation as further edges).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace

from codegen.records import dataclass
from tracegrad.autodiff import traced
from tracegrad.autodiff.again import redrawn, substituted
from tracegrad.autodiff.mincut import INFINITE, Network
from tracegrad.autodiff.undo import NOTHING, Undo, Unwinding
from tracegrad.ir.dims import Guard, symbols
from tracegrad.ir.graph import Graph, Node, attr_sizes, reachable, rebuild
from tracegrad.ir.types import ArrayType, StateType, TupleType
from tracegrad.ops.barrier import BARRIER
from tracegrad.ops.bounds import CHECKED
from tracegrad.ops.constant import BOUND, Input
from tracegrad.ops.project import PROJECT
from tracegrad.ops.reduction import Reduction
from tracegrad.passes.cost import compute_cost, keep_cost
from tracegrad.passes.plan import array_operands, is_view, plan
from tracegrad.tracing.array import Traced
from tracegrad.tracing.naming import UNNAMED
from tracegrad.tracing.trace import Trace, tracing


@dataclass(frozen=True)
class Residual:
    """One value that the backward takes besides the cotangents, and where it comes from."""

    name: str
    type: ArrayType
    origin: str
    """`argument` or `output` (nothing is copied), or `kept` (an array of its own)."""
    index: int
    """Its number among the arguments, the outputs, or the kept values."""
    node: Node
    """The value in the forward graph."""


@dataclass(frozen=True)
class Cut:
    """`forward` returns the outputs, then the kept values; `backward` takes cotangents, then
    residuals.
    """

    forward: Graph
    backward: Graph
    outputs: int
    """How many results of `forward` are the function's own."""
    seeds: tuple[int, ...]
    """The outputs whose cotangents the backward takes, in order."""
    residuals: tuple[Residual, ...]
    wanted: tuple[bool, ...]
    """For each argument whether the backward returns its cotangent."""
    missing: tuple[bool, ...]
    """For each wanted argument whether the outputs do not depend on it (its cotangent is zero)."""
    recomputed: tuple[Node, ...]
    """What the cut found cheaper to compute again."""
    repeated: tuple[Node, ...] = ()
    """What a checkpoint has the backward compute again: its nodes behind the barriers."""
    undo: Undo = NOTHING
    """What the backward unwinds: it takes the arrays after the residuals, and returns them as they
    were before the step after the cotangents."""
    cost: float = 0.0
    """Of keeping and of computing again, in flops."""


def joint_graph(graph: Graph, extents: dict[str, int], wanted: Sequence[bool]) -> Graph:
    """Outputs, then the cotangents of the wanted inputs, from the inputs and the outputs'
    cotangents.

    A wanted input that no floating output depends on gets no cotangent; `None` marks it in the
    outputs' names.
    """
    trace = Trace.resume(graph, extents)
    outputs, found = differentiate(trace, graph, wanted)
    return replace(trace.finish(outputs, graph.source), output_names=found)


def joint_body(
    outer: Trace,
    body: Graph,
    wanted: Sequence[bool],
    seeded: Sequence[bool] | None = None,
    unwound: bool = False,
) -> Graph:
    """The same for a body inside `outer`, whose sizes and assumptions it shares; with cotangents of
    the outputs that are `seeded`, if not of all floating ones. With `unwound` there follow what
    loops start from, what they make of it, and where their backward has it again.
    """
    trace, body = _resumed(outer, body)
    outputs, found = differentiate(trace, body, wanted, seeded)
    if unwound:
        outputs += [node for ends in trace.unwound for node in ends]
    return replace(trace.finish_body(outputs), guards=body.guards, output_names=found)


def differentiate(
    trace: Trace, graph: Graph, wanted: Sequence[bool], seeded: Sequence[bool] | None = None
) -> tuple[list[Node], tuple[str, ...]]:
    """Go on tracing where `graph` ended: its outputs, then the cotangents that exist; which do."""
    seeded = [output.type.is_float for output in graph.outputs] if seeded is None else seeded
    with tracing(trace, Traced):
        roots = [output for output, seed in zip(graph.outputs, seeded, strict=True) if seed]
        cts = [trace.add_node(output.type, f"d_{output.name}") for output in roots]
        wrt = [node for node, want in zip(graph.inputs, wanted, strict=True) if want]
        found = traced.vjp(trace, roots, [Traced(trace, ct) for ct in cts], wrt)
        cotangents = [ct.node for ct in found if ct is not None]
    marks = tuple("" if ct is None else "d" for ct in found)
    return [*graph.outputs, *cotangents], marks


def cut(
    joint: Graph,
    arguments: int,
    outputs: int,
    wanted: Sequence[bool],
    carries: int | None = None,
    runs: float = 1.0,
    undo: Undo = NOTHING,
) -> Cut:
    """Split a (simplified, named) joint graph of that many arguments and outputs.

    With `carries` it is a loop's body (its index, then so many carries), whose steps stack what
    they keep: a carry costs as much as any other value. Values whose extents the body computes
    differ in size from step to step, and are computed again. The second program shall run `runs`
    times for each run of the first. Arrays that it can `undo` the writes to are at hand.

    Raises Circular if such an array is needed before it can be unwound.
    """
    drawn: dict[Node, Node] = {}
    if carries is not None:
        joint, drawn = redrawn(joint, of_computed_extent(joint))
    inputs, cts = joint.inputs[:arguments], joint.inputs[arguments:]
    results, gradients = joint.outputs[:outputs], joint.outputs[outputs:]
    joint = replace(joint, outputs=(*joint.outputs, *undo.needs, *undo.restored))
    behind = _depends_on(joint, set(cts))
    used = reachable((*gradients, *undo.needs, *undo.restored))
    needed = [node for node in joint.nodes if node in used]
    crossing = list(dict.fromkeys((*_crossing(needed, behind, gradients), *undo.needs)))
    ragged = set() if carries is None else of_computed_extent(joint)
    free = {*inputs, *results}
    if carries is not None:
        free = {*inputs[:1], *inputs[1 + carries :], *results[carries:], *undo.versions}
    stay = undo.kept(joint)
    kept, recomputed = _choose(needed, behind, crossing, free, ragged, runs, stay)
    cost = sum(keep_cost(node) for node in kept if node not in free)
    cost += sum(map(compute_cost, recomputed))
    undo = undo.only(kept)
    kept = [node for node in kept if node not in undo.versions]
    kept = _with_counts(joint, kept, cts, gradients)
    given = {*inputs, *results}
    forward_extra = [node for node in kept if node not in given]
    forward = replace(
        joint, name=f"{joint.name}_forward", inputs=inputs, outputs=(*results, *forward_extra)
    )
    if drawn:  # the forward takes its values from where it draws in any case
        forward = substituted(forward, drawn)
    kept = _with_sizes(joint, kept, (*cts, *undo.finals), gradients, inputs)
    residuals = tuple(_residuals(kept, inputs, results, forward_extra))
    if undo.chains:
        backward = Unwinding(joint, undo, cts, kept, behind).graph(gradients)
        guards = _expressible(joint.guards, set(backward.sizes))
        backward = replace(backward, guards=guards)
    else:
        backward = _backward(joint, cts, kept, gradients)
    seeds = tuple(number for number, node in enumerate(results) if node.type.is_float)
    missing = tuple(not name for name in joint.output_names)
    repeated = tuple(_repeated(joint, behind))
    again = tuple(recomputed)
    return Cut(
        forward,
        backward,
        outputs,
        seeds,
        residuals,
        tuple(wanted),
        missing,
        again,
        repeated,
        undo,
        cost,
    )


def _repeated(joint: Graph, behind: set[Node]) -> Iterator[Node]:
    """The nodes that compute behind a barrier what another computes before it."""
    twins: dict[Node, Node] = {}
    known: dict[tuple, Node] = {}
    for node in joint.nodes:
        if node.op is BARRIER:
            twins[node] = twins.get(node.inputs[0], node.inputs[0])
            continue
        key = (node.op, tuple(twins.get(x, x) for x in node.inputs), node.attrs)
        if node not in behind:
            known[key] = node
        elif key in known and node.op.name not in UNNAMED:
            twins[node] = known[key]
            yield node


def kept_by_position(
    outer: Trace, body: Graph, wanted: Sequence[bool]
) -> Iterator[tuple[int, ArrayType]]:
    """What the backward of a body inside `outer` would have kept, split off by the cut or in one
    program with its forward: the types of the values, and the positions in `body.nodes` where they
    are computed. Residuals of a loop count where the loop is.
    """
    trace, again = _resumed(outer, body)
    outputs, _ = differentiate(trace, again, wanted)
    joint = Graph(
        body.name, tuple(trace.inputs), tuple(outputs), bounds=tuple(trace.builder.bounds)
    )
    arguments, results = len(body.inputs), len(body.outputs)
    inputs, gradients = joint.inputs[:arguments], joint.outputs[results:]
    behind, needed = _depends_on(joint, set(joint.inputs[arguments:])), reachable(gradients)
    order = [node for node in joint.nodes if node in needed]
    free = {*inputs, *again.outputs}
    kept, _ = _choose(order, behind, _crossing(order, behind, gradients), free)
    kept = dict.fromkeys((*kept, *_stored_across(joint, behind)))
    positions = {node: number for number, node in enumerate(again.nodes)}
    loops = {
        new.inputs[0] if new.op is PROJECT else new: positions[whole]
        for old, new in trace.superseded.items()
        if (whole := old.inputs[0] if old.op is PROJECT else old) in positions
    }
    for node in kept:
        place = positions.get(node, loops.get(node.inputs[0]) if node.inputs else None)
        if node not in free and place is not None and not isinstance(node.type, TupleType):
            yield place, node.type


def _stored_across(joint: Graph, behind: set[Node]) -> Iterator[Node]:
    """The forward's values that one program would store and read again in the backward."""
    stored = plan(joint).stored
    read: set[Node] = set()
    for node in reversed(joint.nodes):
        if node in behind or (node in read and node not in stored):
            read.update(node.inputs)
        if node in read and node in stored and node not in behind and node.op.name not in UNNAMED:
            yield node


def _resumed(outer: Trace, body: Graph) -> tuple[Trace, Graph]:
    """A trace that goes on where a body inside `outer` ended, and the body in its sizes."""
    known = outer.assumptions.known
    guards = tuple(guard.substitute(known) for guard in outer.assumptions.guards)
    body = rebuild(replace(body, guards=guards), None, known)
    trace = Trace.resume(body, outer.assumptions.hints)
    trace.share_sizes(outer)
    return trace, body


def _depends_on(graph: Graph, sources: set[Node]) -> set[Node]:
    found = set(sources)
    for node in graph.nodes:
        if any(operand in found for operand in node.inputs):
            found.add(node)
    return found


def _crossing(needed: Sequence[Node], behind: set[Node], gradients: Sequence[Node]) -> list[Node]:
    """The forward values that the backward reads, in order."""
    read = {operand for node in needed if node in behind for operand in node.inputs}
    read |= set(gradients)
    return [node for node in needed if node in read and node not in behind]


def of_computed_extent(graph: Graph) -> set[Node]:
    """The nodes among whose extents are such that the graph computes."""
    bound = {str(node.attributes["symbol"]) for node in graph.nodes if node.op is BOUND}
    if not bound:
        return set()

    def types(node: Node) -> tuple[ArrayType, ...]:
        return node.type.parts if isinstance(node.type, TupleType) else (node.type,)

    return {
        node
        for node in graph.nodes
        if any(bound & {*symbols(size)} for type in types(node) for size in type.shape)
    }


def _choose(
    needed: Sequence[Node],
    behind: set[Node],
    crossing: Sequence[Node],
    free: set[Node],
    ragged: Set[Node] = frozenset(),
    runs: float = 1.0,
    stay: Set[Node] = frozenset(),
) -> tuple[list[Node], list[Node]]:
    """Which forward values to keep, and which to compute again from those.

    Every value is two vertices, computed and at hand. Cutting `computed -> at hand` keeps it;
    cutting `source -> computed` computes it again, for which its operands must be at hand (and
    writes it to memory anew, if something reads it as an array there). What must `stay` is kept.
    """
    network = Network()
    read_behind = set(crossing)
    in_memory = {
        node.inputs[number] for node in needed if node in behind for number in array_operands(node)
    }
    values = [node for node in needed if node not in behind and node.op.name not in UNNAMED]
    for node in values:
        computed, at_hand = ("computed", node), ("at hand", node)
        once = _only_once(node) and not (is_view(node) and node.inputs[0] in free)
        work = compute_cost(node) + (keep_cost(node) if node in in_memory else 0.0)
        again = INFINITE if (once and node not in ragged) or node in stay else runs * work
        if isinstance(node.type, StateType) and node.op.name != "input":
            again = 0.0  # a generator is not kept, but made of its words
        network.edge("source", computed, again)
        # A bound is made again of the number that it binds: its symbol must be known here too.
        never = node in ragged or node.op is BOUND or isinstance(node.type, StateType)
        keep = INFINITE if never else keep_cost(node)
        network.edge(computed, at_hand, 0.0 if node in free else keep)
        for operand in node.inputs:
            network.edge(("at hand", operand), computed, INFINITE)
        if node in read_behind:
            network.edge(at_hand, "sink", INFINITE)
    forward_side = network.source_side("source", "sink")
    used = _at_hand_in_backward(values, crossing, forward_side)
    kept = [node for node in values if node in used and ("computed", node) in forward_side]
    chosen = set(kept)
    return kept, [node for node in values if node in used and node not in chosen]


def _only_once(node: Node) -> bool:
    """Whether a value cannot be computed again elementwise: arguments, reductions, kernels; a view,
    unless it is one of an argument or a result, would need the memory that it looks at."""
    if node.op in (BOUND, CHECKED):
        return False
    kernel = isinstance(node.op, Reduction) or node.op.has("kernel") or is_view(node)
    return kernel or not node.op.has("element") or node.op.name == "input"


def _at_hand_in_backward(
    values: Sequence[Node], crossing: Sequence[Node], forward_side: set
) -> set[Node]:
    used = set(crossing)
    for node in reversed(values):
        if node in used and ("computed", node) not in forward_side:
            used.update(node.inputs)
    return used


def _with_counts(
    joint: Graph, kept: Sequence[Node], cts: Sequence[Node], gradients: Sequence[Node]
) -> list[Node]:
    """`kept` and the numbers that become extents which the backward could not see otherwise."""
    if not joint.bounds:
        return list(kept)
    known = set(kept)
    inside = reachable(gradients, lambda node: node in known)
    wanted = {name for node in inside for name in _symbols(node)}
    seen = set(replace(joint, inputs=(*cts, *kept)).sizes)
    seen |= {str(node.attributes["symbol"]) for node in inside if node.op is BOUND}
    result = dict.fromkeys(kept)
    for node in joint.bounds:
        name = str(node.attributes["symbol"])
        if name in wanted and name not in seen:
            seen.add(name)
            result[node.inputs[0]] = None
    return list(result)


def _symbols(node: Node) -> Iterator[str]:
    """The symbols in a node's type and attributes."""
    for size in (*node.type.shape, *attr_sizes(node.attrs)):
        yield from symbols(size)


def _with_sizes(
    joint: Graph,
    kept: Sequence[Node],
    cts: Sequence[Node],
    gradients: Sequence[Node],
    inputs: Sequence[Node],
) -> list[Node]:
    """`kept` and the arguments whose extents the backward needs but could not see otherwise."""
    inside = reachable(gradients)
    wanted = {name for node in inside for name in _symbols(node)}
    seen = set(replace(joint, inputs=(*cts, *kept)).sizes)
    result = list(kept)
    for name in sorted((wanted - seen) & set(joint.sizes)):
        owner = joint.inputs[joint.sizes[name][0]]
        if owner not in result and owner in inputs:
            result.append(owner)
    order = {node: number for number, node in enumerate(joint.nodes)}
    return sorted(result, key=order.__getitem__)


def _residuals(
    nodes: Sequence[Node], inputs: Sequence[Node], results: Sequence[Node], kept: Sequence[Node]
) -> Iterator[Residual]:
    places: dict[Node, tuple[str, int]] = {}
    for origin, row in (("argument", inputs), ("output", results), ("kept", kept)):
        for number, node in enumerate(row):
            places.setdefault(node, (origin, number))
    return (Residual(node.name, node.type, *places[node], node) for node in nodes)


def _backward(
    joint: Graph,
    cts: Sequence[Node],
    kept: Sequence[Node],
    gradients: Sequence[Node],
) -> Graph:
    """The graph of the gradients with the kept values as inputs."""
    new = {
        node: replace(node, op=Input(node.type), inputs=(), attrs=(), serial=node.serial)
        for node in (*cts, *kept)
    }
    for node in joint.nodes:
        at_hand = node.op.name != "input" and all(operand in new for operand in node.inputs)
        if node not in new and at_hand:
            inputs = tuple(new[operand] for operand in node.inputs)
            # The forward has checked its indices: those computed again are in bounds.
            new[node] = inputs[0] if node.op is CHECKED else replace(node, inputs=inputs)
    backward = Graph(
        f"{joint.name}_backward",
        tuple(new[node] for node in (*cts, *kept)),
        tuple(new[node] for node in gradients),
        (),
        joint.source,
    )
    bounds = tuple(
        new[node]
        for node in joint.bounds
        if node in new and str(node.attributes["symbol"]) not in backward.sizes
    )
    guards = _expressible(joint.guards, set(backward.sizes))
    return replace(backward, guards=guards, bounds=bounds)


def _expressible(guards: Sequence[Guard], known: set[str]) -> tuple[Guard, ...]:
    """The guards about extents that the program can see; the forward has checked the others."""
    return tuple(g for g in guards if {*symbols(g.left), *symbols(g.right)} <= known)
