"""A traced function called on tensors: one node of the eager graph, run compiled.

    y = loss(w, x)   ->   compiled forward: y and residuals; y.grad_fn is <TraceBackward loss>
    y.backward()     ->   compiled backward: d_w from d_y and the residuals, which are then dropped

The backward that drops the kept residuals is the consuming variant: it may write the gradients into
their memory. With `retain_graph=True` the retaining variant runs, which leaves them as they are.
Only the cotangents of arguments that require a gradient are computed: each choice of arguments is a
backward of its own. Under `create_graph` the backward is itself called as a traced function on
tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tracegrad.autodiff.derived import Region
from tracegrad.eager.core import Core, operand_node
from tracegrad.eager.engine import check
from tracegrad.eager.modes import is_grad_enabled
from tracegrad.eager.node import Differentiable, Leaf, Recorded, Saved, Site, call_site
from tracegrad.function import Function
from tracegrad.ir.graph import Node
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.leaves import leaves_of, normalised
from tracegrad.ops.project import PROJECT
from tracegrad.tree import Tree, unflatten
from tracegrad.version import Split, Version


class CallNode(Recorded):
    """A traced call; it saves residuals for the backward, and arguments for `create_graph`."""

    given: tuple[Saved, ...] = ()
    placed: tuple[Node, ...] = ()

    @property
    def places(self) -> tuple[Node, ...]:
        return self.placed

    def opened(self, values: list[Any]) -> dict[Node, Any]:
        return {self: Opened(self, values, self.given)}

    def free(self, site: Site | None) -> None:
        super().free(site)
        self.given = ()

    def __repr__(self) -> str:
        op = self.op
        assert isinstance(op, TracedCall)
        return f"<TraceBackward {op.function.name}>"


class CallResult(Recorded):
    """One of several results of a traced call."""

    def __repr__(self) -> str:
        return repr(self.inputs[0])


@dataclass(frozen=True)
class Opened:
    """What the backward of a traced call works with."""

    node: CallNode
    residuals: list[Core]
    given: tuple[Saved, ...]

    @property
    def type(self) -> ArrayType:
        return self.node.type

    @property
    def consumed(self) -> bool:
        """Whether the graph has let go of the residuals: they are ours to write to."""
        return self.node.saved is None


class TracedCall(Op):
    """The compiled forward of a traced function; its derivative is the compiled backward."""

    name = "traced_call"

    def text(self, *args: str, **attrs: Any) -> str:
        return f"{self.function.name}({', '.join(args)})"

    def __init__(self, function: Function, version: Version, split: Split) -> None:
        self.function, self.version, self.split = function, version, split
        self._fresh: list[bool] | None = None

    def vjp(self, wanted: tuple[bool, ...], ct: Array, out: Opened, *inputs: Array):
        cut = self.split.cut
        cts = ct if isinstance(ct, list) else [ct]
        kind = next(type(ct) for ct in cts if ct is not None)
        types = out.type.parts if isinstance(out.type, TupleType) else (out.type,)
        seeds = [cts[n] if cts[n] is not None else kind.of(_zeros(types[n])) for n in cut.seeds]
        found = self._recorded(seeds, out) if is_grad_enabled() else self._compiled(seeds, out)
        given = iter(found)
        missing = iter(cut.missing)
        return tuple(next(given) if want and not next(missing) else None for want in cut.wanted)

    def _compiled(self, seeds: Sequence[Core], out: Opened) -> list[Core]:
        """The gradients that are not missing, by the compiled backward."""
        program = self.split.consuming if out.consumed else self.split.backward
        kind = type(seeds[0])
        arrays = [normalised("", tensor._data) for tensor in (*seeds, *out.residuals)]
        outputs = program.graph.outputs
        found = _as_tuple(program.function(*arrays), len(outputs))
        results = [kind.of(_array(r, n.type)) for r, n in zip(found, outputs, strict=True)]
        given = [array for n, array in enumerate(arrays) if n not in program.donated]
        for result, fresh in zip(results, self._fresh_among(results, given), strict=True):
            result._fresh = fresh
        return results

    def _fresh_among(self, results: Sequence[Core], arrays: Sequence[Any]) -> Sequence[bool]:
        """Which gradients share memory neither with each other nor with what they were made from.

        The program decides that, so it is found out once, at the first call without empty arrays.
        """
        if self._fresh is not None:
            return self._fresh
        own = [result._data for result in results]
        given = [array for array in arrays if isinstance(array, np.ndarray)]
        fresh = [
            not any(np.may_share_memory(a, b) for b in (*own[:place], *own[place + 1 :], *given))
            for place, a in enumerate(own)
        ]
        if all(array.size for array in (*own, *given)):
            self._fresh = fresh
        return fresh

    def _recorded(self, seeds: Sequence[Core], out: Opened) -> list[Any]:
        """The same as a traced function of arguments and cotangents, so with a graph of its own."""
        kind, node = type(seeds[0]), out.node
        leaves = []
        for source, saved, argument in zip(
            node.inputs, out.given, self.version.graph.inputs, strict=True
        ):
            if not isinstance(source, Differentiable):
                leaves.append(saved.value)
                continue
            check(node, source, saved)
            array = _array(saved.value, argument.type)
            leaves.append(
                source.tensor if isinstance(source, Leaf) else kind.of(array, source)  # type: ignore[arg-type]
            )
        found = self.pulled(leaves, list(seeds))
        return [d for d, missing in zip(found, self.split.cut.missing, strict=True) if not missing]

    @cached_property
    def pulled(self) -> Function:
        """`(arguments, cotangents) -> cotangents of the wanted arguments`, as a traced function."""
        cut, tree = self.split.cut, self.version.input_tree
        numbers = [number for number, want in enumerate(cut.wanted) if want]

        def flat(*leaves: Any) -> list[Any]:
            args, kwargs = unflatten(tree, iter(leaves))
            found = leaves_of(self.function.python(*args, **kwargs))[0]
            return [found[number] for number in cut.seeds]

        def pulled(arguments: list[Any], cotangents: list[Any]) -> Any:
            region = Region(flat, numbers, arguments, {})
            return region.gradients(region.result, cotangents)

        return Function(pulled, f"{self.function.name}_vjp")


def call(kind: type[Core], function: Function, leaves: Sequence[Any], tree: Tree) -> Any:
    """`function` of arguments some of whose leaves are tensors; the results are tensors."""
    version, values = function.version_of(leaves, tree)
    sources = [leaf._node() if isinstance(leaf, Core) else None for leaf in leaves]
    outputs = version.graph.outputs
    if is_grad_enabled() and any(sources) and any(node.type.is_float for node in outputs):
        results = _recorded(kind, function, version, leaves, values, sources)
    else:
        found = _as_tuple(version.primal.function(*values), len(outputs))
        results = [kind.of(_array(r, n.type)) for r, n in zip(found, outputs, strict=True)]
    return unflatten(version.output_tree, iter(results))


def _recorded(
    kind: type[Core],
    function: Function,
    version: Version,
    leaves: Sequence[Any],
    values: Sequence[Any],
    sources: Sequence[Node | None],
) -> list[Core]:
    wanted = tuple(source is not None for source in sources)
    split = version.differentiated(wanted)
    if split.eager is None:
        split.eager = TracedCall(function, version, split)
    op: TracedCall = split.eager
    outputs, residuals = version.graph.outputs, split.cut.residuals
    found = _as_tuple(split.forward.function(*values), len(split.forward.graph.outputs))
    results = [kind.of(_array(r, n.type)) for r, n in zip(found, outputs, strict=False)]
    inputs = tuple(
        operand_node(leaf) if source is None else source
        for leaf, source in zip(leaves, sources, strict=True)
    )
    types = tuple(result.type for result in results)
    type = types[0] if len(types) == 1 else TupleType.of(types)
    fn = CallNode(op, inputs, (), type, wanted, call_site()[0], "")
    fn.given = tuple(
        Saved(value, leaf._counter if isinstance(leaf, Core) else None)
        for value, leaf in zip(values, leaves, strict=True)
    )
    crossing = {
        "argument": fn.given,
        "output": [Saved(result._data, result._counter) for result in results],
        "kept": [Saved(value, None) for value in found[len(outputs) :]],
    }
    fn.saved = tuple(crossing[r.origin][r.index] for r in residuals)
    fn.placed = tuple(inputs[r.index] if r.origin == "argument" else fn for r in residuals)
    fn.consumable = bool(residuals)
    _attach(fn, results)
    return results


def _attach(fn: CallNode, results: Sequence[Core]) -> None:
    if len(results) == 1:
        results[0]._fn = fn
        return
    for index, result in enumerate(results):
        if result.type.is_float:
            attrs = (("index", index),)
            result._fn = CallResult(PROJECT, (fn,), attrs, result.type, (True,), fn.site, "")


def _zeros(type: ArrayType) -> np.ndarray:
    return np.zeros(tuple(size for size in type.shape if isinstance(size, int)), type.dtype)


def _as_tuple(result: Any, count: int) -> tuple[Any, ...]:
    return (result,) if count == 1 else tuple(result)


def _array(result: Any, type: ArrayType) -> np.ndarray:
    return result if isinstance(result, np.ndarray) else np.asarray(result, type.dtype)
