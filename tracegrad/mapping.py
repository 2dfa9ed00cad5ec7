"""`vmap`: a function of one item applied to a whole batch.

    vmap(f)(xs)   ->   the operations of f with a leading axis: x @ w becomes one product xs @ w
                  ->   or a loop: for i in range(n): ys[i] = f(xs[i])

Which of the two is decided in `chosen`, and `explain()` says it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from codegen.records import dataclass
from tracegrad.autodiff.derived import as_traced, name_of
from tracegrad.control import scalars
from tracegrad.control.batching import Batched, ItemSizesDiffer, batch_graph, for_all
from tracegrad.control.body import Body, trace_body
from tracegrad.control.form import Form, chosen, one_by_one
from tracegrad.control.loop import INDEX, Span, loop
from tracegrad.errors import ShapeError
from tracegrad.function import Function
from tracegrad.ir.dims import Size, in_figures, must_be_same
from tracegrad.ir.graph import Node
from tracegrad.ir.types import CHECKS
from tracegrad.leaves import is_leaf
from tracegrad.ops.constant import Input
from tracegrad.ops.op import PUBLIC, type_of
from tracegrad.ops.shape import as_size
from tracegrad.passes.whole import as_wholes
from tracegrad.shared import shared
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace, current_trace
from tracegrad.tree import Branch, Leaf, Tree, count_leaves, flatten, unflatten

Axes = Any
"""An int, None (not mapped), or a tuple, list or dict of these that matches the structure of the
arguments, or the upper part of it.
"""


def vmap(
    fun: Callable[..., Any], in_axes: Axes = 0, out_axes: Axes = 0, *, axis_size: Any = None
) -> Function:
    """`fun` over a batch: `in_axes` says along which axis each argument holds the items, None for
    one that is shared; keyword arguments hold them along axis 0.

    Both `in_axes` and `out_axes` are an int, None, or a structure of these that is a prefix of that
    of the arguments (the results); negative axes count from the end. The results are stacked along
    `out_axes`; None is for one that is the same for all items. `axis_size` gives the number of
    items where no argument is mapped.

    Raises ShapeError if the batches differ in length or an argument lacks the axis, ValueError if
    nothing is mapped, or an axis in `out_axes` is None for a result that differs between items,
    TypeError for axes that are no ints or do not match the structure.
    """
    name = name_of(fun)
    _check_axes(f"vmap of {name}: in_axes", in_axes)
    _check_axes(f"vmap of {name}: out_axes", out_axes)

    def mapped(*args: Any, **kwargs: Any) -> Any:
        trace = current_trace()
        assert trace is not None
        given, tree = _given(name, in_axes, args, kwargs)
        items = [_front(name, entry) for entry in given]
        count = _count(name, given, items, axis_size)
        flags = [entry.axis is not None for entry in given]
        stacks = [as_traced(trace, x) for x, flag in zip(items, flags, strict=True) if flag]

        def run(own: list[Traced]) -> Any:
            inner = current_trace()
            assert inner is not None
            inner.of_item = True
            each = iter(own)
            leaves = [next(each) if flag else x for x, flag in zip(items, flags, strict=True)]
            args, kwargs = unflatten(tree, iter(leaves))
            return fun(*args, **kwargs)

        labels = [entry.name for entry, flag in zip(given, flags, strict=True) if flag]
        types = [x.type.with_shape(x.type.shape[1:]) for x in stacks]
        body = trace_body(trace, name, list(zip(labels, types, strict=True)), run)
        results = _applied(trace, body, stacks, count)
        axes = spread(f"vmap of {name}: out_axes", out_axes, body.tree)
        placed = [
            _placed(trace, name, y, axis, count) for y, axis in zip(results, axes, strict=True)
        ]
        return unflatten(body.tree, iter(placed))

    mapped.__wrapped__ = getattr(fun, "python", fun)  # type: ignore[attr-defined]
    options = ("vmap", in_axes, out_axes, axis_size)
    return shared(fun, options, lambda: Function(mapped, f"{name}_vmap"))


def _applied(trace: Trace, body: Body, stacks: Sequence[Traced], count: Size) -> list[Batched]:
    """The results for all items, in the form that the rule of `chosen` takes."""
    body = replace(body, graph=as_wholes(body.graph))
    shared = [Traced(trace, node) for node in body.captured]
    flags = [True] * len(stacks) + [False] * len(shared)
    if body.generators == (CHECKS,):
        return _one_by_one(trace, body, stacks, count, one_by_one("each has its own checks"))
    if body.generators:
        return _one_by_one(trace, body, stacks, count, one_by_one("each draws its own numbers"))
    form = chosen(body.graph, flags)
    apart = None if form.product else _apart(trace, body, stacks)
    if apart is not None:
        note = "one loop, the numbers of an item in registers"
        trace.note("vmap", f"{body.graph.name}: {note}")
        body = apart
        shared = [Traced(trace, node) for node in body.captured]
        flags = [True] * len(stacks) + [False] * len(shared)
        found = batch_graph(trace, body.graph, [*stacks, *shared], flags, count)
        trace.straight.update(y.value.node for y in found)
        return found
    if form.batched:
        try:
            found = batch_graph(trace, body.graph, [*stacks, *shared], flags, count)
            trace.note("vmap", f"{body.graph.name}: {form.reason}")
            return found
        except ItemSizesDiffer:
            form = one_by_one("a loop in it takes another number of steps for each")
    return _one_by_one(trace, body, stacks, count, form)


def _one_by_one(
    trace: Trace, body: Body, stacks: Sequence[Traced], count: Size, form: Form
) -> list[Batched]:
    trace.note("vmap", f"{body.graph.name}: {form.reason}")
    return [Batched(y, True) for y in loop(_with_index(body), [], stacks, Span(count))]


def _apart(trace: Trace, body: Body, stacks: Sequence[Traced]) -> Body | None:
    """The body on single numbers, where that is worthwhile."""
    graph = body.graph
    if not scalars.worthwhile(trace, graph):
        return None

    def run(own: list[Traced]) -> list[Any]:
        inner = own[0]._trace
        given = [
            scalars.elements(inner, x) for x in (*own, *(Traced(trace, n) for n in body.captured))
        ]
        found = scalars.take_apart(inner, graph, given)
        types = [node.type.dtype for node in graph.outputs]
        return [scalars.packed(inner, y, dtype) for y, dtype in zip(found, types, strict=True)]

    named = [(node.name, node.type) for node in graph.inputs[: len(stacks)]]
    made = trace_body(trace, graph.name, named, run)
    return Body(made.graph, made.captured, body.tree)


def _with_index(body: Body) -> Body:
    """The body as that of a loop."""
    graph, index = body.graph, Node(Input(INDEX), (), (), INDEX, "item")
    return replace(body, graph=replace(graph, inputs=(index, *graph.inputs)))


@dataclass(frozen=True)
class Given:
    """One array among the arguments: what it is called, its value, the axis of the items."""

    name: str
    value: Any
    axis: int | None


def _given(name: str, in_axes: Axes, args: Any, kwargs: Any) -> tuple[list[Given], Tree]:
    what = f"vmap of {name}: in_axes"
    axes = list(in_axes) if isinstance(in_axes, tuple | list) else [in_axes] * len(args)
    if len(axes) != len(args):
        raise ValueError(f"{what} has {len(axes)} entries for {len(args)} arguments")
    found: list[Given] = []
    parts = [
        (f"x{number}", x, axis) for number, (x, axis) in enumerate(zip(args, axes, strict=True))
    ]
    for label, value, axis in [*parts, *((key, x, 0) for key, x in kwargs.items())]:
        leaves: list[tuple[str, Any]] = []
        tree = flatten(label, value, is_leaf, leaves)
        places = spread(what, axis, tree)
        found += [
            Given(_called(x) or named, x, at) for (named, x), at in zip(leaves, places, strict=True)
        ]
    return found, flatten("", (args, kwargs), is_leaf, [])


def spread(what: str, axes: Axes, tree: Tree) -> list[int | None]:
    """An axis for each leaf: a single one holds for everything below it."""
    if axes is None or isinstance(axes, int):
        return [axes] * count_leaves(tree)
    match tree:
        case Branch(_, keys, children):
            parts = (
                axes if isinstance(axes, tuple | list) else [axes.get(key, axes) for key in keys]
            )
            fits = len(parts) == len(children) and not any(part is axes for part in parts)
            if fits and (not isinstance(axes, dict) or len(axes) == len(keys)):
                return [
                    axis
                    for part, child in zip(parts, children, strict=True)
                    for axis in spread(what, part, child)
                ]
            raise TypeError(
                f"{what} is {axes!r} for a {tree.kind.__name__} of {len(keys)} entries "
                f"({', '.join(map(repr, keys))}): give one axis for all of it, or one for each"
            )
        case Leaf():
            raise TypeError(f"{what} is {axes!r} for a single array: give one axis")
    return []


def _front(name: str, entry: Given) -> Any:
    """The value with its items along axis 0."""
    if entry.axis is None:
        return entry.value
    type = type_of(entry.value)
    if not -type.rank <= entry.axis < type.rank:
        why = "it is a scalar; use None for what all items share" if not type.rank else ""
        raise ShapeError(
            f"vmap of {name}: the axis of the items of {entry.name} is {entry.axis}, but "
            f"{entry.name} is {type.in_figures()}{': ' + why if why else ''}"
        )
    at = entry.axis % type.rank
    return entry.value if at == 0 else PUBLIC["moveaxis"](entry.value, at, 0)


def _count(name: str, given: Sequence[Given], items: Sequence[Any], axis_size: Any) -> Size:
    """How many items there are; the arguments must agree."""
    found: tuple[str, Size] | None = None
    if axis_size is not None:
        found = "axis_size", as_size(axis_size)
    for entry, x in zip(given, items, strict=True):
        if entry.axis is None:
            continue
        size = type_of(x).shape[0]
        if found is None:
            found = entry.name, size
        elif not must_be_same(found[1], size):
            raise ShapeError(
                f"vmap of {name}: the batches have different lengths, {in_figures(found[1])} "
                f"({found[0]}) and {in_figures(size)} ({entry.name}, axis {entry.axis})"
            )
    if found is None:
        raise ValueError(
            f"vmap of {name}: every entry of in_axes is None: map at least one argument, or give "
            "axis_size"
        )
    return found[1]


def _placed(trace: Trace, name: str, y: Batched, axis: int | None, count: Size) -> Any:
    """A result with its items along the wanted axis."""
    if axis is None:
        if y.mapped:
            raise ValueError(
                f"vmap of {name}: out_axes is None for a result that differs between the items "
                f"({as_traced(trace, y.value).type.in_figures()}): give it an axis"
            )
        return y.value
    stacked = for_all(trace, y, count)
    rank = stacked.type.rank
    if not -rank <= axis < rank:
        raise ShapeError(
            f"vmap of {name}: out_axes is {axis}, but the stacked result is "
            f"{stacked.type.in_figures()}"
        )
    return stacked if axis % rank == 0 else PUBLIC["moveaxis"](stacked, 0, axis % rank)


def _called(x: Any) -> str:
    return x._trace.names.get(x.node, "") if isinstance(x, Traced) else ""


def _check_axes(what: str, axes: Axes) -> None:
    if axes is None or (isinstance(axes, int) and not isinstance(axes, bool)):
        return
    if isinstance(axes, tuple | list):
        for part in axes:
            _check_axes(what, part)
    elif isinstance(axes, dict):
        for part in axes.values():
            _check_axes(what, part)
    else:
        raise TypeError(
            f"{what} must be an int, None, or a tuple, list or dict of these; it has {axes!r}"
        )
