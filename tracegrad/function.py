"""The traced function: what `@tg.trace` makes, its versions, and the road of a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import update_wrapper
from typing import Any

import numpy as np

from tracegrad.compile import Program
from tracegrad.errors import TracegradError, UnsupportedError
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.interpret import fits
from tracegrad.ops.op import Bindable, supported_dtype
from tracegrad.ops.operators import ArrayMethods
from tracegrad.tracing.array import Traced, TracedSize
from tracegrad.tracing.source import point_at, raised_at
from tracegrad.tracing.trace import Argument, Trace, tracing
from tracegrad.tree import Tree, flatten, unflatten


def is_leaf(value: Any) -> bool:
    """Arrays and floating numbers are values; everything else is structure."""
    return isinstance(value, np.ndarray | np.generic | float | complex | Bindable | TracedSize)


def normalised(name: str, value: Any) -> Any:
    """An argument as kernels take it: a scalar, or a C-contiguous, aligned, native ndarray."""
    if isinstance(value, float):
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise UnsupportedError(f"argument {name} is a masked array: pass x.filled(value) or x.data")
    if isinstance(value, np.matrix):
        raise UnsupportedError(f"argument {name} is a numpy.matrix: pass np.asarray({name})")
    if not isinstance(value, np.ndarray | np.generic):
        raise UnsupportedError(f"argument {name} is a {type(value).__name__}: pass a NumPy array")
    dtype = value.dtype
    if not dtype.isnative:
        value = value.astype(dtype.newbyteorder("="))
    try:
        supported_dtype(value.dtype)
    except UnsupportedError as error:
        raise UnsupportedError(f"argument {name}: {error}") from None
    if value.ndim == 0:
        return value[()] if isinstance(value, np.ndarray) else value
    array = np.ascontiguousarray(value.view(np.ndarray))
    if not array.flags.writeable or not array.flags.aligned:
        array = array.copy()
    return array


@dataclass
class Version:
    """One traced specialisation: valid for a key (dtypes, ranks, statics) and its guards."""

    graph: Graph
    output_tree: Tree
    extents: dict[str, int]
    programs: dict[Any, Program] = field(default_factory=dict)

    @property
    def primal(self) -> Program:
        return self.program("primal", lambda: Program(self.graph, self.graph.name))

    def program(self, kind: Any, make: Callable[[], Program]) -> Program:
        if kind not in self.programs:
            self.programs[kind] = make()
        return self.programs[kind]


class Function:
    """A function of arrays, traced and compiled once per dtypes, ranks and static arguments."""

    def __init__(self, python: Callable[..., Any], name: str = "") -> None:
        self.python = python
        self.name = name or getattr(python, "__name__", "function")
        if not self.name.isidentifier():
            self.name = "function"
        self._signature = inspect.signature(python)
        self._versions: dict[Any, list[Version]] = {}
        update_wrapper(self, python)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves: list[tuple[str, Any]] = []
        tree = flatten("", (args, kwargs), is_leaf, leaves)
        kinds = [type(value) for _, value in leaves if isinstance(value, ArrayMethods)]
        if kinds:
            if Traced in kinds:
                return self.python(*args, **kwargs)
            return max(kinds, key=lambda kind: kind.dispatch_rank).call(  # type: ignore[attr-defined]
                self, args, kwargs
            )
        values = [normalised(name, value) for name, value in leaves]
        version = self.version(tree, values)
        results = version.primal.run(values)
        return packed(version, results)

    def version(self, tree: Tree, values: Sequence[Any]) -> Version:
        """The version for these arguments: a known one whose guards hold, or a new one."""
        key = (tree, tuple(_kind(value) for value in values))
        versions = self._versions.setdefault(key, [])
        for version in versions:
            if fits(version.graph, values):
                return version
        version = self._trace(tree, values)
        versions.insert(0, version)
        return version

    @property
    def versions(self) -> list[Version]:
        return [version for found in self._versions.values() for version in found]

    def _trace(self, tree: Tree, values: Sequence[Any]) -> Version:
        trace = Trace(self.name)
        with tracing(trace, Traced):
            named = self._named(tree, values)
            leaves = [
                Traced(trace, trace.add_input(argument(name, value)), argument=name)
                for name, value in named
            ]
            args, kwargs = unflatten(tree, iter(leaves))
            try:
                result = self.python(*args, **kwargs)
                outputs, output_tree = self._outputs(trace, result)
            except TracegradError as error:
                source = raised_at(error.__traceback__)
                if source is not None and "\n" not in str(error):
                    error.args = (f"{error.args[0]}\n\n{point_at(source)}", *error.args[1:])
                raise
        graph = trace.finish(outputs)
        extents = {
            name: np.shape(values[number])[axis] for name, (number, axis) in graph.sizes.items()
        }
        return Version(graph, output_tree, extents)

    def _named(self, tree: Tree, values: Sequence[Any]) -> list[tuple[str, Any]]:
        """The leaves with names made from the parameters they were passed as."""
        placed: list[tuple[str, Any]] = []
        boxes = [_Box(value) for value in values]
        args, kwargs = unflatten(tree, iter(boxes))
        bound = self._signature.bind(*args, **kwargs)
        for parameter, value in bound.arguments.items():
            flatten(parameter, value, lambda item: isinstance(item, _Box), placed)
        names = {id(box): name for name, box in placed}
        return [(names[id(box)], box.value) for box in boxes]

    def _outputs(self, trace: Trace, result: Any) -> tuple[list[Node], Tree]:
        leaves: list[tuple[str, Any]] = []
        tree = flatten("", result, is_leaf, leaves)
        nodes = []
        for _, value in leaves:
            nodes.append(value.node if isinstance(value, Traced) else trace.lift(value))
        for node in nodes:
            if node not in trace.cotangents:
                trace.names.setdefault(node, "y")
        return nodes, tree


@dataclass
class _Box:
    """A leaf in its place among the arguments, to find out what it is called."""

    value: Any


def argument(name: str, value: Any) -> Argument:
    weak = type(value) is float
    dtype = np.dtype(np.float64) if weak else value.dtype
    return Argument(name, dtype, np.shape(value), weak)


def _kind(value: Any) -> Any:
    return "float" if type(value) is float else (value.dtype, value.ndim)


def packed(version: Version, results: Any) -> Any:
    """The function's results in the structure that it returned."""
    outputs = version.graph.outputs
    if len(outputs) == 1:
        results = (results,)
    return unflatten(version.output_tree, _as_numpy(outputs, results))


def _as_numpy(outputs: Sequence[Node], results: Sequence[Any]) -> Iterator[Any]:
    """Scalars come back from compiled code as Python numbers; users get NumPy's."""
    for node, result in zip(outputs, results, strict=True):
        yield result if node.type.rank else node.type.dtype.type(result)


def trace(function: Callable[..., Any]) -> Function:
    """Decorate a function of arrays: it is traced at its first call and runs compiled."""
    return Function(function)
