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

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.autodiff.derived import Region
from tracegrad.eager.core import Core, operand_node
from tracegrad.eager.entry import TensorEntry
from tracegrad.eager.modes import is_grad_enabled
from tracegrad.eager.node import Differentiable, Leaf, Recorded, Saved, Site, user_site
from tracegrad.eager.walk import add_gradient, check, freed
from tracegrad.function import Function
from tracegrad.ir.graph import Node, next_serial
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.leaves import Address, drawing, is_generator, leaves_of, normalised
from tracegrad.ops.project import PROJECT
from tracegrad.run import Run, arrays
from tracegrad.tree import Tree, unflatten
from tracegrad.version import Split, Version


class CallNode(Recorded):
    """A traced call; it saves residuals for the backward, and arguments for `create_graph`."""

    given: tuple[Saved, ...] = ()
    results: tuple[tuple[np.dtype, tuple[int, ...]], ...] = ()
    """dtype and shape of each result."""

    def __init__(
        self, op: TracedCall, inputs: tuple[Node, ...], results: Sequence[Core], site: Site | None
    ) -> None:
        self.op = op  # type: ignore[misc]
        self.inputs = inputs  # type: ignore[misc]
        self.serial = next_serial()  # type: ignore[misc]
        self.wanted, self.site = op.wanted, site
        self.results = tuple([(x._data.dtype, x._data.shape) for x in results])

    @cached_property
    def type(self) -> ArrayType:  # type: ignore[override]
        types = tuple([ArrayType(dtype, shape) for dtype, shape in self.results])
        return types[0] if len(types) == 1 else TupleType.of(types)

    @property
    def places(self) -> tuple[Node, ...]:
        assert isinstance(self.op, TracedCall)
        plan = self.op.plan
        return tuple(self.inputs[at] if origin == "argument" else self for origin, at in plan)

    def opened(self, values: list[Any]) -> dict[Node, Any]:
        return {self: Opened(self, values, self.given)}

    def free(self, site: Site | None) -> None:
        super().free(site)
        self.given = ()

    def pull_leaves(self, seed: Any, retain: bool) -> bool:
        """The whole backward, if all that requires a gradient are leaves without hooks.

        It does what `engine.backward` does, without the walk.
        """
        op: Any = self.op
        if not op.alone or self.hooks or self.retained is not None:
            return False
        targets = []
        for number in op.targets:
            node: Any = self.inputs[number]
            if type(node) is not Leaf or node.tensor._hooks or not node.tensor._requires:
                return False
            targets.append(node.tensor)
        arrays = self.unsaved()
        if self.consumable and not retain:
            self.free(user_site())
        seed = op.one if seed is None else normalised("", seed._data)
        found = op.pull(self.saved is None)(seed, *arrays)
        for tensor, array in zip([targets[at] for at in op.reached], found, strict=True):
            add_gradient(tensor, array)
        return True

    def unsaved(self) -> list[Any]:
        """The arrays that were saved, as compiled code takes them. Raises if there are none any
        more, or one was written to."""
        if self.saved is None:
            raise RuntimeError(freed(self))
        found = []
        for number, saved in enumerate(self.saved):
            assert saved is not None
            counter, value = saved.counter, saved.value
            if counter is not None and counter.value != saved.version:
                check(self, self.places[number], saved)
            found.append(value[()] if type(value) is np.ndarray and not value.ndim else value)
        return found

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

    def __init__(
        self, kind: type[Core], function: Function, version: Version, split: Split
    ) -> None:
        self.kind, self.function, self.version, self.split = kind, function, version, split
        output = version.graph.outputs[0]
        self.count = len(version.graph.outputs)
        self.alone = tuple(split.cut.seeds) == (0,) and len(version.graph.outputs) == 1
        """Whether there is one result, and its cotangent is all that the backward takes."""
        self.one = output.type.dtype.type(1) if not output.type.rank else None
        """The cotangent that a backward of a scalar begins with."""
        self.wanted = split.cut.wanted
        self.targets = tuple(number for number, want in enumerate(self.wanted) if want)
        """The numbers of the leaves whose cotangents are asked for."""
        self.reached = tuple(at for at, missing in enumerate(split.cut.missing) if not missing)
        """Those of the targets that gradients reach, by their place among them."""
        self.plan = tuple((residual.origin, residual.index) for residual in split.cut.residuals)
        """Where each value that the backward needs comes from."""
        self._pulls: dict[bool, Callable[..., tuple[np.ndarray, ...]]] = {}

    @cached_property
    def run(self) -> Run:
        return Run.of(self.split.forward)

    @cached_property
    def forward(self) -> Callable[..., tuple[np.ndarray, ...]]:
        """From normalised leaves to results and kept residuals."""
        return arrays(self.run, self.split.forward.name)

    def pull(self, consumed: bool) -> Callable[..., tuple[np.ndarray, ...]]:
        """From cotangents and residuals to the gradients that are not missing."""
        found = self._pulls.get(consumed)
        if found is None:
            program = self.split.consuming if consumed else self.split.backward
            found = self._pulls[consumed] = arrays(Run.of(program), program.name)
        return found

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
        given = [normalised("", tensor._data) for tensor in (*seeds, *out.residuals)]
        results = [self.kind.of(array) for array in self.pull(out.consumed)(*given)]
        for result in results:
            result._fresh = True  # compiled code returns new arrays, or ones that it was donated
        return results

    def _recorded(self, seeds: Sequence[Core], out: Opened) -> list[Any]:
        """The same as a traced function of arguments and cotangents, so with a graph of its own."""
        kind, node = type(seeds[0]), out.node
        leaves = []
        for source, saved, argument in zip(
            node.inputs, out.given, self.version.graph.inputs, strict=True
        ):
            if not isinstance(source, Differentiable):
                value = saved.value
                leaves.append(value.again() if isinstance(value, Address) else value)
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

    def record(
        self,
        leaves: Sequence[Any],
        values: Sequence[Any],
        sources: Sequence[Node | None],
        found: Sequence[np.ndarray],
    ) -> list[Core]:
        """The results as tensors of one node, which saves what the backward needs of `values`
        (the normalised leaves) and `found` (what the compiled forward returned)."""
        kind, count = self.kind, self.count
        results = [kind.of(array) for array in found[:count]]
        inputs = tuple(
            [
                operand_node(0 if is_generator(leaf) else leaf) if source is None else source
                for leaf, source in zip(leaves, sources)  # noqa: B905 (as long; it takes time)
            ]
        )
        fn = CallNode(self, inputs, results, user_site())
        fn.given = given = tuple(
            [
                Saved(value, leaf._counter if isinstance(leaf, Core) else None)
                for value, leaf in zip(values, leaves)  # noqa: B905
            ]
        )
        saved = []
        for origin, at in self.plan:
            if origin == "argument":
                saved.append(given[at])
            elif origin == "output":
                saved.append(Saved(results[at]._data, results[at]._counter))
            else:
                saved.append(Saved(found[count + at], None))
        if saved:
            fn.saved, fn.consumable = tuple(saved), True
        if count == 1:
            results[0]._fn = fn
        else:
            _attach(fn, results)
        return results


def traced_call(
    kind: type[Core], function: Function, version: Version, wanted: tuple[bool, ...]
) -> TracedCall:
    """The op by which a call with gradients of these leaves stands in the graph."""
    split = version.differentiated(wanted)
    if split.eager is None:
        split.eager = TracedCall(kind, function, version, split)
    return split.eager


def call(kind: type[Core], function: Function, leaves: Sequence[Any], tree: Tree) -> Any:
    """`function` of arguments some of whose leaves are tensors; the results are tensors."""
    version, values = function.version_of(leaves, tree)
    enabled = is_grad_enabled()
    sources = [leaf._node() if enabled and isinstance(leaf, Core) else None for leaf in leaves]
    wanted = tuple([source is not None for source in sources])
    if any(wanted) and any(node.type.is_float for node in version.graph.outputs):
        op = traced_call(kind, function, version, wanted)
        run, compute, record = op.run, op.forward, op.record
    else:
        run, compute, record = version.run, version.arrays, partial(_unrecorded, kind)
    addresses = [value for value in values if isinstance(value, Address)]
    if addresses:
        for address in addresses:
            address.remember()
        found = record(leaves, values, sources, drawing(compute, values))
        return unflatten(version.output_tree, iter(found))
    results = record(leaves, values, sources, compute(*values))
    held = tuple([isinstance(leaf, Core) for leaf in leaves])
    same = all(type(leaf) is kind for leaf in leaves if isinstance(leaf, Core))
    if same and TensorEntry.key_of(version, kind, held, wanted) not in function.entered:
        entrance = function.entrance(version)
        function.enter(
            TensorEntry(entrance, run, version.output_tree, version, kind, held, wanted, record)
        )
    return unflatten(version.output_tree, iter(results))


def _unrecorded(
    kind: type[Core],
    leaves: Sequence[Any],
    values: Sequence[Any],
    sources: Sequence[Node | None],
    found: Sequence[np.ndarray],
) -> list[Core]:
    """The results as tensors that nothing is remembered of."""
    del leaves, values, sources
    return [kind.of(array) for array in found]


def _attach(fn: CallNode, results: Sequence[Core]) -> None:
    for index, result in enumerate(results):
        if result.type.is_float:
            attrs = (("index", index),)
            like = result._data.dtype, result._data.shape
            result._fn = CallResult(PROJECT, (fn,), attrs, like, (True,), fn.site)


def _zeros(type: ArrayType) -> np.ndarray:
    return np.zeros(tuple(size for size in type.shape if isinstance(size, int)), type.dtype)


def _array(result: Any, type: ArrayType) -> np.ndarray:
    return result if isinstance(result, np.ndarray) else np.asarray(result, type.dtype)
