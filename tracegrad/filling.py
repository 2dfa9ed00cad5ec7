"""Written functions for calls whose results go into arrays of the caller's.

In: how a version does that (`tracegrad.out`). Out: a function of the arrays for the results and of
normalised arguments. It runs the compiled code at once if all results that the caller may give are
given and surely share no memory; the other cases are left to `long`. For `value_and_grad`:

    def loss_value_and_grad_into(grad_out, x):
        if (
            type(grad_out) is not ndarray or grad_out.dtype is not of_float64 ...
            or grad_out.shape != x.shape
        ):
            return long(grad_out, x)
        x_root = x if x.base is None else x.base
        grad_out_root = grad_out if grad_out.base is None else grad_out.base
        if (
            type(x_root) is not ndarray or x_root.base is not None
            or type(grad_out_root) is not ndarray or grad_out_root.base is not None
            or grad_out_root is x_root
        ):
            return long(grad_out, x)
        try:
            y = run(x, grad_out)
        except (TypeError, ValueError):
            return missed
        return (float64(y), grad_out)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tracegrad.ir.dims import symbols
from tracegrad.ir.graph import Node
from tracegrad.out import Into
from tracegrad.run import Sizes, Writer, function_name, packed
from tracegrad.tree import Branch, Tree, count_leaves
from tracegrad.unpacking import Unpacking

PAIRS = 12
"""Pairs of arrays that are compared one by one."""


class Missed:
    """What a written function returns for arguments that the version does not take."""

    def __repr__(self) -> str:
        return "<missed>"


MISSED = Missed()


def filled(into: Into, place: Callable[[Any], Any], out: str) -> Callable[..., Any]:
    """`filled(out, *leaves)`; the parameter for the arrays is called `out`, and `place` tells what
    it says of all results."""

    def long(given: Any, *values: Any) -> Any:
        return into(place(given), *values) if into.takes(*values) else MISSED

    found = _part(into.tree, place(MISSED), 0)
    numbers = range(found[1], found[1] + count_leaves(found[0])) if found else range(0)
    outputs, known = into.run.graph.outputs, set(into.run.graph.sizes)
    certain = all(set(symbols(s)) <= known for n in numbers for s in outputs[n].type.shape)
    if not numbers or not set(numbers) <= set(into.run.given) or not certain:
        return long
    assert found is not None
    return _written(into, long, out, found[0], numbers)


def _part(tree: Tree, placed: Any, first: int) -> tuple[Tree, int] | None:
    """The part of the results that stands where `placed` has the marker, and the number of its
    first leaf."""
    if placed is MISSED:
        return tree, first
    if isinstance(placed, tuple) and isinstance(tree, Branch):
        for child, part in zip(tree.children, placed, strict=True):
            found = _part(child, part, first)
            if found is not None:
                return found
            first += count_leaves(child)
    return None


def _written(
    into: Into, long: Callable[..., Any], out: str, tree: Tree, numbers: Sequence[int]
) -> Callable[..., Any]:
    graph = into.run.graph
    writer = Writer({out})
    inputs = [writer.unique(node.name) for node in graph.inputs]
    sizes = Sizes(graph, inputs)
    parameters = ", ".join([out, *inputs])
    miss = f"return {writer.object('long', long)}({parameters})"
    unpacking = Unpacking(writer, [graph.outputs[number] for number in numbers], miss)
    unpacking.take(out, tree)
    shapes = [graph.outputs[number].type.shape for number in numbers]
    needed = {x for s in shapes if not sizes.owner(s) for size in s for x in symbols(size)}
    if needed:
        writer.add("try:")
        sizes.write(writer, needed, 2)
        writer.add(f"except {writer.type(ValueError)}:")
        writer.add(miss, indent=2)
    arrays = [name for name, node in zip(inputs, graph.inputs, strict=True) if node.type.rank]
    unpacking.refuse(*_wrong(unpacking, sizes))
    unpacking.refuse(*_shared(writer, unpacking.names, arrays))
    writer.add("try:")
    given = dict(zip(numbers, unpacking.names, strict=True))
    names = into.run.write(writer, inputs, 2, sizes, given)
    writer.add(f"except ({writer.type(TypeError)}, {writer.type(ValueError)}):")
    writer.add(f"return {writer.object('missed', MISSED)}", indent=2)
    writer.add(f"return {packed(writer, graph.outputs, names, into.tree)}")
    return writer.function(function_name(f"{into.name}_into"), parameters)


def _wrong(unpacking: Unpacking, sizes: Sizes) -> Iterator[str]:
    """Conditions under which the arrays that were given cannot hold the results as they come; the
    compiled function looks itself whether they are contiguous and may be written to."""
    for name, node in zip(unpacking.names, unpacking.inputs, strict=True):
        yield unpacking.wrong(name, node)
        yield f"{name}.shape != {shape_of(sizes, node)}"


def _shared(writer: Writer, given: Sequence[str], arrays: Sequence[str]) -> Iterator[str]:
    """Conditions under which it is not certain that no result shares memory with an argument or
    another result: arrays of which each is, or is a view of, another array that owns its memory
    share none."""
    roots = {name: writer.unique(f"{name}_root") for name in (*arrays, *given)}
    array = writer.type(np.ndarray)
    for name, root in roots.items():
        writer.add(f"{root} = {name} if {name}.base is None else {name}.base")
        yield f"type({root}) is not {array} or {root}.base is not None"
    if len(given) * (len(arrays) + len(given)) <= PAIRS:
        for number, name in enumerate(given):
            for other in (*arrays, *given[:number]):
                yield f"{roots[name]} is {roots[other]}"
        return
    found, number = writer.unique("given"), writer.object("id", id)
    ids = {name: f"{number}({root})" for name, root in roots.items()}
    writer.add(f"{found} = {{{', '.join(ids[name] for name in given)}}}")
    yield f"len({found}) != {len(given)}"
    if arrays:
        others = "".join(f"{ids[name]}, " for name in arrays)
        yield f"not {found}.isdisjoint(({others}))"


def shape_of(sizes: Sizes, node: Node) -> str:
    """`x.shape`, or `(x.shape[0], x.shape[1] - 1)`."""
    text = sizes.shape(node.type.shape)
    return text if text.startswith("(") or text.endswith(".shape") else f"({text},)"
