"""Long loops in segments: of every segment only the start is kept for the backward.

    scan over n steps, S snapshots      ->      scan over S segments of n // S steps, each computed
                                                again for its backward; then what is left over

Memory is that of S carries and of the residuals of one segment, O(sqrt(n)) with S = sqrt(n), for
one more forward (Griewank, "Achieving logarithmic growth of temporal and spatial complexity in
reverse automatic differentiation", 1992, the case of one level).
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt
from typing import Any

from tracegrad.autodiff.again import apart, draws_of
from tracegrad.control.body import values_of
from tracegrad.ir.dims import Size, in_figures
from tracegrad.ir.graph import Node
from tracegrad.ir.types import StateType
from tracegrad.later import Later
from tracegrad.ops.op import PUBLIC, type_of
from tracegrad.ops.replay import is_generator
from tracegrad.ops.shape import as_size
from tracegrad.tracing.array import Traced
from tracegrad.tracing.size import sized
from tracegrad.tracing.trace import Trace, current_trace
from tracegrad.tree import unflatten

_checkpoint = Later("tracegrad.checkpointing", "checkpoint")


def snapshots(what: str, checkpoint: Any, length: Size) -> int:
    """How many carries are kept. Raises ValueError for anything but "sqrt" and positive ints."""
    if checkpoint == "sqrt":
        extent = in_figures(length)
        return max(isqrt(extent), 1) if isinstance(extent, int) else 32
    if isinstance(checkpoint, bool) or not isinstance(checkpoint, int) or checkpoint < 1:
        raise ValueError(
            f'{what}: checkpoint is "sqrt" or a positive number of snapshots, not {checkpoint!r}'
        )
    return checkpoint


def segmented(
    scan: Callable[..., Any], f: Any, init: Any, xs: Any, length: Size, reverse: bool, count: int
) -> tuple[Any, Any]:
    """`scan(f, init, xs)` in `count` segments of equal length, and a shorter one at the end."""
    steps = length // count
    done = steps * count
    leaves, tree = values_of(xs)

    def part(start: Size | None, stop: Size | None) -> list[Any]:
        ends = slice(*(None if x is None else sized(x) for x in (start, stop)))
        return [PUBLIC["getitem"](x, ends) for x in leaves]

    def split(x: Any) -> Any:
        return PUBLIC["reshape"](x, (count, sized(steps), *map(sized, type_of(x).shape[1:])))

    def joined(y: Any) -> Any:
        return PUBLIC["reshape"](y, (sized(done), *map(sized, type_of(y).shape[2:])))

    def segment(carry: Any, items: Any) -> tuple[Any, Any]:
        return scan(f, carry, items, length=sized(steps), reverse=reverse)

    heads = unflatten(tree, iter([split(x) for x in part(None, done)]))
    tails = unflatten(tree, iter(part(done, None)))
    left = sized(length - done)
    kept = _checkpoint(segment)
    if reverse:
        carry, last = scan(f, init, tails, length=left, reverse=True)
        carry, ys = scan(kept, carry, heads, length=count, reverse=True)
    else:
        carry, ys = scan(kept, init, heads, length=count)
        carry, last = scan(f, carry, tails, length=left)
    found, y_tree = values_of(ys)
    ends, _ = values_of(last)
    whole = [PUBLIC["concatenate"]([joined(y), end]) for y, end in zip(found, ends, strict=True)]
    return carry, unflatten(y_tree, iter(whole))


def growing(loop: Callable[..., Any], cond: Any, body: Any, init: Any) -> Any:
    """`while_loop` in segments of 1, 2, 3, ... steps: T steps are about sqrt(2 T) segments, the
    longest of which has about sqrt(2 T) steps.

    A segment's length is a computed number, so that nothing of it can be stacked from segment to
    segment: it is computed again.
    """

    def segment(state: Any) -> Any:
        value, most = state
        value, _ = loop(
            lambda inner: PUBLIC["logical_and"](inner[1] < most, cond(inner[0])),
            lambda inner: (body(inner[0]), inner[1] + 1),
            (value, most * 0),
        )
        return value, most + 1

    one = PUBLIC["multiply"](as_size(1), 1)
    return loop(lambda state: cond(state[0]), segment, (init, one))[0]


def counted_first(
    loops: tuple[Callable[..., Any], Callable[..., Any]],
    cond: Any,
    body: Any,
    init: Any,
    count: int,
) -> Any:
    """`while_loop` in `count` segments: a first run tells how many steps there are, the second one
    goes through these as a counted loop. `loops` are `while_loop` and `fori_loop`.
    """
    while_loop, fori_loop = loops
    trace = current_trace()
    assert trace is not None
    zero = PUBLIC["multiply"](as_size(0), 1)
    _, steps = while_loop(
        lambda state: cond(state[0]), lambda state: (body(state[0]), state[1] + 1), (init, zero)
    )
    if draws_of(steps.node.inputs[0]):
        steps = _rehearsed(trace, steps.node)
    return fori_loop(0, steps, lambda _, value: body(value), init, checkpoint=count)


def _rehearsed(trace: Trace, steps: Node) -> Traced:
    """The number of steps of a loop that draws, found with generators of its own: the trace's are
    where they were before it."""
    node = steps.inputs[0]
    operands = [Traced(trace, operand) for operand in node.inputs]
    before, again = apart(trace, trace, node, operands)
    for state in before.inputs:
        if is_generator(state.type):
            assert isinstance(state.type, StateType)
            trace.advance(state.type.generator, state)
    ahead = trace.record(node.op, tuple(x.node for x in again), node.attributes)
    return Traced(trace, trace.record(steps.op, (ahead,), steps.attributes))
