"""The public functions of control flow, with the signatures that JAX users know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracegrad.autodiff.derived import as_traced
from tracegrad.control import plain
from tracegrad.control.body import Body, node_in, trace_body, values_of, zeros
from tracegrad.control.branch import branch
from tracegrad.control.loop import INDEX, Span, loop
from tracegrad.control.plain import (
    check_callable,
    check_condition,
    misfit,
    pair,
    same_structure,
    same_type,
    scalar_type,
)
from tracegrad.control.repeat import repeat
from tracegrad.control.segments import counted_first, growing, segmented, snapshots
from tracegrad.control.weak import Promoted, promoted, settled
from tracegrad.errors import ShapeError, TraceError
from tracegrad.ir.dims import Dim, Size, in_figures, knows, must_be_same, required
from tracegrad.ir.types import ArrayType
from tracegrad.ops.computed import distance
from tracegrad.ops.constant import astype
from tracegrad.ops.op import PUBLIC, SizeValue, as_operand, type_of, weak_or_dtype
from tracegrad.ops.shape import as_size
from tracegrad.tracing.array import Traced
from tracegrad.tracing.naming import program_name
from tracegrad.tracing.size import sized
from tracegrad.tracing.trace import Trace, current_trace
from tracegrad.tree import Tree, unflatten

NOTHING = object()
"""An operand that is not given: None is one."""


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: Any = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    checkpoint: int | str | None = None,
) -> tuple[Any, Any]:
    """`carry, y[i] = f(carry, x[i])` for each item along axis 0 of `xs`; returns the last carry
    and the stacked ys.

    `init`, `xs` and what `f` returns are pytrees; the carry keeps its structure, shapes and
    dtypes. With `xs` None give `length`. `reverse` goes from the last item to the first.
    `unroll` is taken for JAX's sake: the compiler unrolls by itself. `checkpoint`: of a long loop
    only that many carries are kept for the backward, "sqrt" of the number of steps, and the steps
    between them are computed again. Raises TraceError for a carry that changes.
    """
    trace = current_trace()
    check_callable("scan", f)
    if trace is None:
        return plain.scan(f, init, xs, length, reverse)
    if checkpoint is not None:
        extent = _length(_start(trace, xs)[0], length)
        count = snapshots("scan", checkpoint, extent)
        return segmented(scan, f, init, xs, extent, reverse, count)
    first, carry_tree = _start(trace, init)
    stacks, xs_tree = _start(trace, xs)
    extent = _length(stacks, length)

    def run(given: list[Traced]) -> Any:
        carry = unflatten(carry_tree, iter(given[1 : 1 + len(first)]))
        items = unflatten(xs_tree, iter(given[1 + len(first) :]))
        new, y = pair(f(carry, items))
        return _same_carry("scan", first, carry_tree, new), y

    def traced() -> Body:
        arguments = [("index", INDEX), *_named("carry", first), *_items("x", stacks)]
        return trace_body(trace, _name(f), arguments, run, below=extent)

    body = settled(trace, first, traced)
    results = loop(body, first, stacks, Span(extent, reverse))
    return _finish(body, results, carry_tree, len(first))


def fori_loop(
    lower: Any,
    upper: Any,
    body_fun: Callable[[Any, Any], Any],
    init_val: Any,
    *,
    unroll: int | bool | None = None,
    checkpoint: int | str | None = None,
) -> Any:
    """`for i in range(lower, upper): value = body_fun(i, value)`, starting from `init_val`;
    returns the last value.

    The bounds are ints, sizes, or integers that the program computes. The value is a pytree that
    keeps its structure, shapes and dtypes. `checkpoint` as in `scan`, for the backward of a long
    loop; `unroll` too.
    """
    trace = current_trace()
    check_callable("fori_loop", body_fun)
    if trace is None:
        first, last = (plain.whole_number("fori_loop: a bound", x) for x in (lower, upper))
        return plain.fori_loop(first, last, body_fun, init_val)
    if checkpoint is not None:
        return _in_segments(lower, upper, body_fun, init_val, checkpoint)
    first, tree = _start(trace, init_val)
    start, span = _range(trace, lower, upper)

    def run(given: list[Traced]) -> Any:
        index = given[0] if isinstance(start, int) and start == 0 else given[0] + lower
        carry = unflatten(tree, iter(given[1:]))
        return _same_carry("fori_loop", first, tree, body_fun(index, carry))

    def traced() -> Body:
        arguments = [("index", INDEX), *_named("carry", first)]
        return trace_body(trace, _name(body_fun), arguments, run, below=span.length)

    body = settled(trace, first, traced)
    return unflatten(tree, iter(loop(body, first, [], span)))


def _in_segments(lower: Any, upper: Any, body: Any, init: Any, checkpoint: Any) -> Any:
    """The counted loop in segments, of each of which only the start is kept."""
    if any(isinstance(bound, Traced) for bound in (lower, upper)):
        root = PUBLIC["ceil"](PUBLIC["sqrt"](PUBLIC["maximum"](upper - lower, 1) * 1.0))
        count = root if checkpoint == "sqrt" else snapshots("fori_loop", checkpoint, 1) * 1.0
        length = astype(PUBLIC["ceil"](PUBLIC["maximum"](upper - lower, 0) / count), INDEX.dtype)
        segments = astype(count, INDEX.dtype) if isinstance(count, Traced) else int(count)

        def segment(k: Any, value: Any) -> Any:
            start = lower + k * length
            stop = PUBLIC["minimum"](start + length, upper)
            return fori_loop(start, stop, body, value)

        return fori_loop(0, segments, segment, init)

    def step(carry: Any, _: Any) -> tuple[Any, Any]:
        i, value = carry
        return (i + 1, body(i, value)), ()

    start, stop = as_size(lower), as_size(upper)
    if knows(start, "<", stop) is False:
        return init
    first = PUBLIC["multiply"](lower, np.int64(1))
    length = sized(distance(start, stop))
    return scan(step, (first, init), None, length, checkpoint=checkpoint)[0][1]


def _range(trace: Trace, lower: Any, upper: Any) -> tuple[Any, Span]:
    """Where a counted loop starts and how long it runs; bounds may be values that the program
    computes.
    """
    for bound in (lower, upper):
        if isinstance(bound, Traced) and bound.type.dtype.kind not in "iub":
            raise TraceError(
                f"fori_loop: a bound is {bound.type.in_figures()}, not an integer: round it, "
                ".astype(int)"
            )
    if isinstance(lower, Traced) or isinstance(upper, Traced):
        steps = PUBLIC["maximum"](astype(upper, INDEX.dtype) - astype(lower, INDEX.dtype), 0)
        bound, length = trace.bound(as_traced(trace, steps).node)
        return lower, Span(length, False, bound)
    start, stop = (_whole("fori_loop: a bound", bound) for bound in (lower, upper))
    return start, Span(distance(start, stop))


def _whole(what: str, value: Any) -> Size:
    """An integer or a size that is known while tracing."""
    if isinstance(value, Traced):
        raise TraceError(
            f"{what} is {type_of(value)}, a number that the program computes: use fori_loop or "
            "while_loop, which stack nothing"
        )
    return as_size(value) if isinstance(value, SizeValue | Dim) else plain.whole_number(what, value)


def cond(
    pred: Any,
    true_fun: Callable[..., Any],
    false_fun: Callable[..., Any],
    *operands: Any,
    operand: Any = NOTHING,
) -> Any:
    """`true_fun(*operands)` where `pred` holds, else `false_fun(*operands)`; `pred` is a boolean
    scalar, or a number, of which all but 0 hold.

    Both return pytrees of the same structure, shapes and dtypes. A single operand may be given as
    `operand=`.
    """
    trace, operands = current_trace(), _operands("cond", operands, operand)
    check_callable("cond", true_fun, false_fun)
    type = scalar_type("cond", "the condition", pred)
    if trace is None or isinstance(pred, bool | int | float | np.generic):
        return true_fun(*operands) if pred else false_fun(*operands)
    if type.dtype != bool:
        pred = PUBLIC["not_equal"](pred, 0)
    return _branches(trace, "cond", pred, (true_fun, false_fun), operands)


def _operands(what: str, operands: tuple[Any, ...], operand: Any) -> tuple[Any, ...]:
    """What the branches are called with."""
    if operand is NOTHING:
        return operands
    if operands:
        raise TypeError(f"{what}: give operands by position, or one as operand=, not both")
    return (operand,)


def switch(
    index: Any, branches: Sequence[Callable[..., Any]], *operands: Any, operand: Any = NOTHING
) -> Any:
    """`branches[index](*operands)`; an integer scalar out of range is clamped to it.

    All branches return pytrees of the same structure, shapes and dtypes. A single operand may be
    given as `operand=`.
    """
    trace, operands = current_trace(), _operands("switch", operands, operand)
    if not branches:
        raise ValueError("switch: give at least one branch")
    check_callable("switch", *branches)
    type = scalar_type("switch", "the index", index)
    if type.dtype.kind not in "iu":
        raise TraceError(f"switch: the index is {type}, not an integer scalar")
    if trace is None or isinstance(index, int):
        return branches[min(max(int(index), 0), len(branches) - 1)](*operands)
    return _branches(trace, "switch", astype(index, INDEX.dtype), branches, operands)


def _branches(trace: Trace, what: str, index: Any, functions: Sequence[Any], operands: Any) -> Any:
    bodies = [
        trace_body(trace, _name(function), [], lambda _, function=function: function(*operands))
        for function in functions
    ]
    first = bodies[0]
    for number, body in enumerate(bodies[1:], 1):
        _same_results(what, first, body, number)
    bodies = [
        _strong_results(trace, body, function, operands, bodies)
        for body, function in zip(bodies, functions, strict=True)
    ]
    return unflatten(first.tree, iter(branch(trace, node_in(trace, index), bodies)))


def _same_results(what: str, first: Body, body: Body, number: int) -> None:
    if body.tree != first.tree:
        returned = unflatten(body.tree, iter([zeros(node.type) for node in body.results]))
        reason = misfit(first.tree, returned, f"what branch {number} returns")
        raise TraceError(f"{what}: {reason}, as branch 0 returns")
    for a, b in zip(first.results, body.results, strict=True):
        equal = a.type.rank == b.type.rank and all(
            must_be_same(x, y) for x, y in zip(a.type.shape, b.type.shape, strict=True)
        )
        if not equal or not (a.type.dtype == b.type.dtype or a.type.weak or b.type.weak):
            raise TraceError(
                f"{what}: branch 0 returns {a.type.in_figures()}, branch {number} returns "
                f"{b.type.in_figures()}; cast or reshape one of them"
            )


def _strong_results(trace: Trace, body: Body, function: Any, operands: Any, bodies: Any) -> Body:
    """The body with Python numbers among its results given the dtype that the other branches
    return.
    """
    outputs = [body.results for body in bodies]
    wanted = [
        np.result_type(*(weak_or_dtype(output.type) for output in column))
        for column in zip(*outputs, strict=True)
    ]
    if all(output.type.dtype == dtype for output, dtype in zip(body.results, wanted, strict=True)):
        return body

    def run(_: Any) -> Any:
        leaves, tree = values_of(function(*operands))
        return unflatten(
            tree, iter([astype(leaf, dtype) for leaf, dtype in zip(leaves, wanted, strict=True)])
        )

    return trace_body(trace, _name(function), [], run)


def while_loop(
    cond_fun: Callable[[Any], Any],
    body_fun: Callable[[Any], Any],
    init_val: Any,
    *,
    checkpoint: int | str | None = None,
) -> Any:
    """`while cond_fun(value): value = body_fun(value)`, starting from `init_val`; returns the last
    value.

    The value is a pytree that keeps its structure, shapes and dtypes; the condition is a boolean
    scalar. With `checkpoint="sqrt"` the backward of T steps keeps about `sqrt(2 T)` values, and
    computes the steps between them again; with a number it keeps so many carries, for one more run
    ahead that counts the steps.
    """
    trace = current_trace()
    check_callable("while_loop", cond_fun, body_fun)
    if trace is None:
        return plain.while_loop(cond_fun, body_fun, init_val)
    if checkpoint is not None:
        count = snapshots("while_loop", checkpoint, 1)
        if checkpoint == "sqrt":
            return growing(while_loop, cond_fun, body_fun, init_val)
        return counted_first((while_loop, fori_loop), cond_fun, body_fun, init_val, count)
    first, tree = _start(trace, init_val)

    def test(given: list[Traced]) -> Any:
        result = cond_fun(unflatten(tree, iter(given)))
        check_condition("while_loop", result)
        return result

    def step(given: list[Traced]) -> Any:
        return _same_carry("while_loop", first, tree, body_fun(unflatten(tree, iter(given))))

    body = settled(
        trace, first, lambda: trace_body(trace, _name(body_fun), _named("carry", first), step)
    )
    draws = "while_loop: the condition draws random numbers, and would once more than the body"
    condition = trace_body(trace, _name(cond_fun), _named("carry", first), test, draws)
    return unflatten(tree, iter(repeat(trace, condition, body, first)[:-1]))


def map(f: Callable[[Any], Any], xs: Any, *, batch_size: int | None = None) -> Any:
    """`f` on each item along axis 0 of `xs`, the results stacked: a loop without a carry.

    `batch_size` is taken for JAX's sake: items go one by one.
    """
    check_callable("map", f)
    return scan(lambda carry, x: (carry, f(x)), (), xs)[1]


def _start(trace: Trace, value: Any) -> tuple[list[Traced], Tree]:
    """The leaves of a carry or of stacks as traced values; truth values are no numbers."""
    leaves, tree = values_of(value)
    found = []
    for leaf in leaves:
        x = as_traced(trace, leaf)
        number = x.type.weak and x.type.dtype != bool
        found.append(x if number else as_traced(trace, astype(x, x.type.dtype)))
    return found, tree


def _length(stacks: Sequence[Traced], length: Any) -> Size:
    extents = [x.type.shape[0] if x.type.rank else None for x in stacks]
    if None in extents:
        raise ShapeError("scan: every array of xs needs an axis to take items from; got a scalar")
    if length is not None:
        count = _whole("scan: length", length)
        if not required(0, "<=", count):
            raise ValueError(f"scan: length is {in_figures(count)}, and must not be negative")
        extents.append(count)
    if not extents:
        raise TypeError("scan: give xs or length")
    first = extents[0]
    assert first is not None
    for extent in extents[1:]:
        if extent is not None and not must_be_same(first, extent):
            lengths = f"{in_figures(first)} and {in_figures(extent)}"
            raise ShapeError(f"scan: the arrays of xs have different lengths, {lengths}")
    return first


def _named(label: str, values: Sequence[Traced]) -> list[tuple[str, ArrayType]]:
    names = [x._trace.names.get(x.node, "") for x in values]
    return [
        (name or f"{label}_{k}", x.type)
        for k, (name, x) in enumerate(zip(names, values, strict=True))
    ]


def _items(label: str, stacks: Sequence[Traced]) -> list[tuple[str, ArrayType]]:
    named = _named(label, stacks)
    return [(f"{name}_i", ArrayType(type.dtype, type.shape[1:])) for name, type in named]


def _same_carry(what: str, first: Sequence[Traced], tree: Tree, new: Any) -> list[Any]:
    """The new carry's leaves; an error that says what changed if they are not like the first."""
    leaves = same_structure(what, tree, new)
    numbered = list(enumerate(zip(first, leaves, strict=True)))
    for number, (before, leaf) in numbered:
        dtype = promoted(before.type, type_of(as_operand(leaf)))
        if dtype is not None:
            raise Promoted(number, dtype)
    return [same_type(what, before.type, leaf, number) for number, (before, leaf) in numbered]


def _finish(body: Body, results: list[Traced], carry_tree: Tree, carries: int) -> tuple[Any, Any]:
    y_tree = body.tree.children[1]  # type: ignore[union-attr]
    carry = unflatten(carry_tree, iter(results[:carries]))
    return carry, unflatten(y_tree, iter(results[carries:]))


def _name(f: Callable[..., Any]) -> str:
    return program_name(getattr(f, "__name__", "body"), "body")
