"""`check_grads`: derivatives against finite differences, against each other, and to higher order.

    check_grads(f, (x,), order=2)     # raises AssertionError, naming the operation that is wrong

Along random directions `v` and `u`: forward mode `J v` against the central difference
`(f(x + h v) - f(x - h v)) / 2h`; reverse mode by `<u, J v> = <J.T u, v>`; then the same for the
derivatives themselves. Differences are taken in float64 with `h` the cube root of its precision,
which balances their two errors (Nocedal and Wright, Numerical Optimization, section 8.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.autodiff.derived import as_traced, name_of
from tracegrad.errors import NotDifferentiableError
from tracegrad.function import Function
from tracegrad.ir.dims import Size
from tracegrad.ir.graph import Graph, Node, substitute_attrs
from tracegrad.ir.interpret import extents_of, interpret
from tracegrad.ir.types import TupleType
from tracegrad.leaves import leaves_of
from tracegrad.ops.project import PROJECT
from tracegrad.tracing.array import Traced
from tracegrad.tracing.source import point_at
from tracegrad.tracing.trace import current_trace
from tracegrad.transforms import as_function, jvp, vjp
from tracegrad.tree import unflatten

STEP = float(np.cbrt(np.finfo(np.float64).eps))
MODES = ("fwd", "rev")
SEED = 20

Arrays = list[np.ndarray]


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 2,
    modes: Sequence[str] = MODES,
    rtol: float | None = None,
    atol: float | None = None,
    eps: float | None = None,
) -> None:
    """Check the derivatives of `f` at `args` up to `order`, in forward and reverse mode.

    `f` is a traced or plain function of pytrees. Integers among the arguments are constants.
    `eps` is the step of the differences relative to the size of the arguments; `rtol` and `atol`
    bound the disagreement relative to the numbers compared and to the results (1e-6 each in
    float64, 1e-3 where a float32 takes part). Choose `args` away from kinks. Raises AssertionError:
    its message compares the numbers and names the operation, with the user's line, whose own
    derivative disagrees most with its differences.

    >>> check_grads(lambda x: np.sum(np.sin(x) ** 2), (np.array([0.3, 0.7]),))
    """
    unknown = set(modes) - set(MODES)
    if unknown or not modes:
        raise ValueError(f"check_grads: modes={tuple(modes)!r}; choose from {MODES}")
    if order < 1:
        raise ValueError(f"check_grads: order is {order}; the first is 1")
    flat = Flat.of(f, args)
    if not flat.moving:
        raise NotDifferentiableError(
            f"check_grads: no argument of {name_of(f)} is floating; write 3.0 instead of 3"
        )
    loose = 1e-3 if any(x.dtype != np.float64 for x in flat.start) else 1e-6
    rtol, atol = (loose if x is None else x for x in (rtol, atol))
    bounds = Bounds(rtol, atol, eps or STEP)
    _check(flat, Function(flat.run, "f"), flat.start, order, tuple(modes), bounds, "")


@dataclass(frozen=True)
class Bounds:
    """What disagreement is allowed, and the step of the differences."""

    rtol: float
    atol: float
    step: float


@dataclass(frozen=True)
class Flat:
    """A function of its floating leaves alone, with floating leaves for results."""

    function: Function
    leaves: tuple[Any, ...]
    tree: Any
    moving: tuple[int, ...]

    @staticmethod
    def of(f: Callable[..., Any], args: Sequence[Any]) -> Flat:
        leaves, tree = leaves_of(tuple(args))
        moving = tuple(k for k, x in enumerate(leaves) if np.asarray(x).dtype.kind == "f")
        return Flat(as_function(f), tuple(leaves), tree, moving)

    @property
    def start(self) -> Arrays:
        return [np.asarray(self.leaves[k]) for k in self.moving]

    def run(self, *xs: Any) -> list[Any]:
        """The floating results for these floating leaves, traced or not."""
        full = list(self.leaves)
        for place, x in zip(self.moving, xs, strict=True):
            full[place] = x
        found = leaves_of(self.function(*unflatten(self.tree, iter(full))))[0]
        kinds = [x.type.dtype if isinstance(x, Traced) else np.asarray(x).dtype for x in found]
        return [x for x, kind in zip(found, kinds, strict=True) if kind.kind == "f"]


def _check(
    flat: Flat,
    run: Function,
    xs: Arrays,
    order: int,
    modes: tuple[str, ...],
    bounds: Bounds,
    path: str,
) -> None:
    """One derivative of `run`, a function of arrays, and then those of its derivatives."""
    rng = np.random.default_rng(SEED + order)
    direction = [_random(rng, x) for x in xs]
    expected = difference(run, xs, direction, bounds.step)
    weights = [_random(rng, y) for y in expected]
    by_difference = inner(weights, expected)
    scale = sum(np.sum(np.abs(u * y)) for u, y in zip(weights, expected, strict=True))

    def pushed(*xs: Any) -> list[Any]:
        return jvp(run, xs, tuple(v.astype(x.dtype) for v, x in zip(direction, xs0, strict=True)))[
            1
        ]

    def pulled(*xs: Any) -> list[Any]:
        return list(vjp(run, *xs)[1]([u.astype(k) for u, k in zip(weights, kinds, strict=True)]))

    xs0, kinds = xs, [y.dtype for y in run(*xs)]
    derivatives = {"fwd": Function(pushed, "fwd"), "rev": Function(pulled, "rev")}
    for mode in modes:
        found = derivatives[mode](*xs)
        number = inner(weights if mode == "fwd" else direction, found)
        error = abs(number - by_difference)
        where = f"{path} > {mode}" if path else mode
        if not error <= bounds.rtol * abs(by_difference) + bounds.atol * scale:
            raise AssertionError(_message(flat, where, number, by_difference, bounds))
        if order > 1:
            _check(flat, derivatives[mode], xs, order - 1, modes, bounds, where)


def difference(run: Function, xs: Arrays, direction: Arrays, step: float) -> Arrays:
    """The central difference of `run` along `direction`, in float64."""
    size = step * max([1.0, *(float(np.max(np.abs(x), initial=0.0)) for x in xs)])

    def at(sign: float) -> Arrays:
        moved = [x.astype(np.float64) + sign * size * v for x, v in zip(xs, direction, strict=True)]
        return [np.asarray(y, np.float64) for y in run(*moved)]

    return [(up - down) / (2 * size) for up, down in zip(at(1.0), at(-1.0), strict=True)]


def inner(a: Arrays, b: Sequence[Any]) -> float:
    return float(sum(np.sum(x * np.asarray(y, np.float64)) for x, y in zip(a, b, strict=True)))


def _random(rng: np.random.Generator, like: Any) -> np.ndarray:
    return np.asarray(rng.normal(size=np.shape(like)))


def _message(flat: Flat, where: str, found: float, expected: float, bounds: Bounds) -> str:
    name = flat.function.name
    modes = " of ".join(
        "forward mode" if m == "fwd" else "reverse mode" for m in reversed(where.split(" > "))
    )
    lines = [
        f"check_grads: {modes} of {name} gives {found:.9g}, central differences give "
        f"{expected:.9g} (rtol {bounds.rtol:g}, atol {bounds.atol:g})"
    ]
    worst = max(suspects(flat, bounds.step), key=lambda s: s.error, default=None)
    if worst is None or worst.error <= bounds.rtol:
        lines.append(
            "each operation agrees with its own differences there: look for a kink near the "
            "arguments, for numbers of very different size, or for noise in the values"
        )
        return "\n".join(lines)
    node = worst.node
    lines.append(
        f"the operation that disagrees most, on its own inputs, is {worst.name}, "
        f"{worst.types}: {worst.found:.9g} instead of {worst.expected:.9g}"
    )
    if node.source is not None:
        lines += ["", point_at(node.source)]
    return "\n".join(lines)


@dataclass(frozen=True)
class Suspect:
    """How far the derivative of one operation is from its differences, relative to its size."""

    node: Node
    found: float
    expected: float
    error: float

    @property
    def types(self) -> str:
        type = self.node.type
        return ", ".join(map(str, type.parts)) if isinstance(type, TupleType) else str(type)

    @property
    def name(self) -> str:
        attributes = self.node.attributes
        given = attributes.get("rule") or attributes.get("kernel")  # of the user's own
        return getattr(given, "name", "") or self.node.op.name


def suspects(flat: Flat, step: float) -> Iterator[Suspect]:
    """Every operation of the function on its own inputs, each result and mode for itself."""
    arguments = unflatten(flat.tree, iter(flat.leaves))
    version, values = flat.function.version_for(arguments, {})
    graph, extents = version.graph, extents_of(version.graph, values)
    known = _values(graph, values)
    for node in graph.nodes[len(graph.inputs) :]:
        if node.op is PROJECT or any(isinstance(x.type, TupleType) for x in node.inputs):
            continue
        xs = [known[operand] for operand in node.inputs]
        floating = [np.asarray(x).dtype.kind == "f" for x in xs]
        if not node.type.is_float or not any(floating):
            continue
        with np.errstate(all="ignore"):
            yield from _alone(node, xs, floating, extents, step)


def _values(graph: Graph, arguments: Sequence[Any]) -> dict[Node, Any]:
    """What the interpreter computes for every node."""
    inner_nodes = graph.nodes[len(graph.inputs) :]
    whole = replace(graph, outputs=inner_nodes)
    found = interpret(whole, arguments)
    return dict(zip((*graph.inputs, *inner_nodes), (*arguments, *found), strict=True))


def _alone(
    node: Node, xs: list[Any], floating: list[bool], extents: dict[str, Size], step: float
) -> Iterator[Suspect]:
    """The operation of `node` as a function, its derivatives interpreted."""
    attrs = dict(substitute_attrs(node.attrs, extents))

    def apply(*moving: Any) -> list[Any]:
        trace, rest = current_trace(), iter(moving)
        assert trace is not None
        full = [next(rest) if moves else x for x, moves in zip(xs, floating, strict=True)]
        operands = tuple(as_traced(trace, x).node for x in full)
        made = trace.record(node.op, operands, attrs)
        if not isinstance(node.type, TupleType):
            return [Traced(trace, made)]
        return [
            Traced(trace, trace.record(PROJECT, (made,), {"index": index}))
            for index, part in enumerate(node.type.parts)
            if part.is_float
        ]

    start = [np.asarray(x, np.float64) for x, moves in zip(xs, floating, strict=True) if moves]
    rng = np.random.default_rng(SEED)
    direction = [_random(rng, x) for x in start]

    def interpreted(run: Callable[..., Any], *values: Any) -> Arrays:
        version, given = Function(run, "op").version_for(values, {})
        return [np.asarray(y, np.float64) for y in interpret(version.graph, given)]

    def at(sign: float) -> Arrays:
        size = sign * step * max([1.0, *(float(np.max(np.abs(x), initial=0.0)) for x in start)])
        moved = [x + size * v for x, v in zip(start, direction, strict=True)]
        return [y / (2 * abs(size)) for y in interpreted(apply, *moved)]

    try:
        expected = [a - b for a, b in zip(at(1.0), at(-1.0), strict=True)]
        weights = [_random(rng, y) for y in expected]
        pulled = interpreted(lambda *xs: list(vjp(apply, *xs)[1](weights)), *start)
        found = inner(direction, pulled)
        results = [found]
        if not _has_rule_alone(node):
            pushed = interpreted(lambda *xs: jvp(apply, xs, tuple(direction))[1], *start)
            results.append(inner(weights, pushed))
    except (NotDifferentiableError, NotImplementedError):
        return
    want = inner(weights, expected)
    scale = sum(float(np.sum(np.abs(u * y))) for u, y in zip(weights, expected, strict=True))
    for number in results:
        yield Suspect(node, number, want, abs(number - want) / (scale + 1e-300))


def _has_rule_alone(node: Node) -> bool:
    """Whether it is a call whose user gave a rule for reverse mode only."""
    rule = node.attributes.get("rule")
    return rule is not None and getattr(rule, "jvp", None) is None


__all__ = ["check_grads"]
