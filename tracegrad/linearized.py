"""A function run once, and what was kept of it: its linear map, compiled, in either direction.

y, linear = pushing(f, (x,))      linear(t_x) -> t_y      the tangents through f's linear part
y, pull = pulling(f, (x,))        pull(d_y) -> (d_x,)     the cotangents back through it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from codegen.records import dataclass
from tracegrad.autodiff.derived import FLOAT, Region, split_aux
from tracegrad.errors import NotDifferentiableError, ShapeError
from tracegrad.function import Function
from tracegrad.ir.graph import Node
from tracegrad.later import Later
from tracegrad.leaves import drawing, is_generator, leaves_of, matching, normalised
from tracegrad.ops.operators import ArrayMethods
from tracegrad.tracing.trace import current_trace
from tracegrad.tree import Branch, Tree, of_derivative, unflatten
from tracegrad.version import Split, Version

if TYPE_CHECKING:
    from tracegrad.inspect.dump import Dump

dumping = Later("tracegrad.inspect.dump")


@dataclass(frozen=True)
class Linear:
    """A linear map between the arguments and the results of a function, at the arguments given."""

    version: Version
    split: Split
    kept: tuple[Any, ...]
    """What the compiled map takes besides the tangents or cotangents."""
    shapes: dict[Node, tuple[int, ...]]
    """Those of the arguments and results."""
    again: Callable[..., Any]
    """The same map for values that are traced or recorded: computed with the function itself."""
    has_aux: bool
    reverse: bool

    def __call__(self, *given: Any) -> Any:
        """The tangent of the result, or the tuple of the cotangents of the arguments."""
        leaves = leaves_of(given)[0]
        if self.reverse and len(given) != 1:
            raise TypeError(
                f"the pullback takes one cotangent, with the structure of the result, not "
                f"{len(given)}: pass those of several results as one tuple"
            )
        recorded = any(isinstance(leaf, ArrayMethods) for leaf in leaves)
        if recorded or current_trace() is not None:
            return self.again(*given)
        return self._pulled(*given) if self.reverse else self._pushed(*given)

    def _pushed(self, *tangents: Any) -> Any:
        trees = _arguments(self.version)
        if len(tangents) != len(trees):
            raise TypeError(f"linear: {len(trees)} primals, but {len(tangents)} tangents")
        leaves = [
            leaf
            for number, (tree, tangent) in enumerate(zip(trees, tangents, strict=True))
            for leaf in matching(tree, tangent, f"tangent {number}")
        ]
        inputs, wanted = self.version.graph.inputs, self.split.cut.wanted
        pairs = zip(leaves, inputs, wanted, strict=True)
        seeds = [self._array(leaf, node) for leaf, node, want in pairs if want]
        found = iter(self._run(seeds))
        outputs = self.version.graph.outputs
        missing = self.split.cut.missing
        full = [
            self._zeros(node) if gone else next(found)
            for node, gone in zip(outputs, missing, strict=True)
        ]
        tree = _value_tree(self.version.output_tree, self.has_aux)
        return unflatten(tree, iter(full))

    def _pulled(self, ct: Any) -> Any:
        tree = _value_tree(self.version.output_tree, self.has_aux)
        outputs, cut = self.version.graph.outputs, self.split.cut
        own = matching(tree, ct, "the cotangent")
        leaves = [*own, *([None] * (len(outputs) - len(own)))]
        seeds = [self._array(leaves[number], outputs[number]) for number in cut.seeds]
        found, missing = iter(self._run(seeds)), iter(cut.missing)
        inputs = self.version.graph.inputs
        full = iter(
            [
                next(found) if want and not next(missing) else self._zeros(node)
                for node, want in zip(inputs, cut.wanted, strict=True)
            ]
        )
        trees = map(of_derivative, _arguments(self.version))
        return tuple(unflatten(tree, full) for tree in trees)

    def _run(self, seeds: Sequence[Any]) -> tuple[Any, ...]:
        if not self.split.backward.graph.outputs:
            return ()
        return tuple(result[()] for result in self.split.finish(*seeds, *self.kept))

    def _array(self, value: Any, node: Node) -> Any:
        """A tangent or cotangent as the compiled map takes it."""
        shape = self.shapes[node]
        if value is None:
            return self._zeros(node)
        array = np.asarray(value)
        if array.ndim and array.shape != shape:
            own = node.type.with_shape(shape)
            raise ShapeError(f"a tangent or cotangent of shape {array.shape} is given for {own}")
        full = np.array(np.broadcast_to(array, shape), node.type.dtype, order="C")
        return normalised("", full if shape else full[()])

    def _zeros(self, node: Node) -> Any:
        kind = node.type.dtype if node.type.is_float else FLOAT
        return np.zeros(self.shapes[node], kind)[()]

    def dump(self) -> Dump:
        """The linear map as a NumPy program."""
        program = self.split.backward
        graph = replace(program.final, name=program.name)
        return dumping.dump_graph(graph, self.version.graph.name, "linear part")

    def source(self) -> str:
        """The generated module."""
        return self.split.backward.built.source


def pushing(function: Function, primals: tuple[Any, ...], has_aux: bool) -> tuple[Any, Linear]:
    """The result of `function`, and the map of tangents."""

    def again(*tangents: Any) -> Any:
        _draws_nothing(function, primals)

        def pushed(tangents: Any) -> Any:
            region = Region(function, range(len(primals)), primals, {})
            region.result = split_aux(region.result, has_aux)[0]
            return region.tangents(tangents)

        return pushed(tangents) if current_trace() is not None else Function(pushed)(tangents)

    return _run_once(function, primals, again, has_aux, reverse=False)


def pulling(function: Function, primals: tuple[Any, ...], has_aux: bool) -> tuple[Any, Linear]:
    """The result of `function`, and the map of cotangents."""

    def again(ct: Any) -> Any:
        _draws_nothing(function, primals)

        def pulled(ct: Any) -> Any:
            region = Region(function, range(len(primals)), primals, {})
            return region.gradients(split_aux(region.result, has_aux)[0], ct)

        return pulled(ct) if current_trace() is not None else Function(pulled)(ct)

    return _run_once(function, primals, again, has_aux, reverse=True)


def _run_once(
    function: Function, primals: tuple[Any, ...], again: Any, has_aux: bool, reverse: bool
) -> tuple[Any, Linear]:
    version, values = function.version_for(primals, {})
    graph = version.graph
    wanted = [node.type.is_float for node in graph.inputs]
    split = version.differentiated(wanted) if reverse else version.linearized(wanted)
    results = drawing(split.start, values)
    count = len(graph.outputs)
    crossing = {"argument": values, "output": results[:count], "kept": results[count:]}
    kept = tuple(normalised("", crossing[r.origin][r.index]) for r in split.cut.residuals)
    pairs = zip((*graph.inputs, *graph.outputs), (*values, *results[:count]), strict=True)
    shapes = {node: np.shape(value) for node, value in pairs}
    linear = Linear(version, split, kept, shapes, again, has_aux, reverse)
    return unflatten(version.output_tree, (result[()] for result in results)), linear


def _draws_nothing(function: Function, primals: Any) -> None:
    """Raises NotDifferentiableError for a function that cannot be computed again."""
    if any(map(is_generator, leaves_of(primals)[0])):
        raise NotDifferentiableError(
            f"{function.name} draws random numbers, which would be drawn again where its linear "
            "map is called with traced values or tensors: call vjp or linearize inside of the "
            "traced function"
        )


def _arguments(version: Version) -> tuple[Tree, ...]:
    assert isinstance(version.input_tree, Branch)
    args = version.input_tree.children[0]
    assert isinstance(args, Branch)
    return args.children


def _value_tree(tree: Tree, has_aux: bool) -> Tree:
    return tree.children[0] if has_aux and isinstance(tree, Branch) else tree


__all__ = ["Linear", "pulling", "pushing"]
