"""A version: one traced specialisation of a function, and the programs compiled from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tracegrad.autodiff.residuals import Cut, cut, joint_graph
from tracegrad.compile import Program
from tracegrad.inspect.guards import guard_text
from tracegrad.ir.graph import Graph, Node
from tracegrad.tree import LEAF, Branch, Tree, unflatten


@dataclass
class Split:
    """The forward that keeps residuals and the backward that uses them, as programs, and the joint
    program that was cut into these two."""

    joint: Program
    cut: Cut
    forward: Program
    backward: Program
    eager: Any = None
    """The op by which a call on tensors stands in their graph."""

    @cached_property
    def consuming(self) -> Program:
        """The backward that may write its results into the kept values; `backward` leaves them
        untouched, and is this one too if no result would fit there."""
        seeds = len(self.cut.seeds)
        kept = (n for n, residual in enumerate(self.cut.residuals) if residual.origin == "kept")
        return self.backward.consuming(frozenset(seeds + number for number in kept))


@dataclass
class Version:
    """Valid for a key (dtypes, ranks, statics) and the guards of `graph`."""

    graph: Graph
    output_tree: Tree
    extents: dict[str, int]
    """The extents of the call that was traced."""
    input_tree: Tree = LEAF
    """The structure of `(args, kwargs)`."""
    statics: tuple[str, ...] = ()
    """Its static arguments, `power=2`."""
    splits: dict[tuple[bool, ...], Split] = field(default_factory=dict)

    @cached_property
    def primal(self) -> Program:
        """The function itself: outputs only, nothing kept."""
        return Program(self.graph, self.graph.name)

    @cached_property
    def pack(self) -> Callable[[Any], Any]:
        """Compiled results in the structure that the function returned."""
        return packer(self.graph.outputs, self.output_tree)

    @cached_property
    def call(self) -> Callable[..., Any]:
        """The compiled function itself and `pack` in one step: what a call costs counts here."""
        return caller(self.primal.function, self.graph.outputs, self.output_tree, self.pack)

    def differentiated(self, wanted: Sequence[bool]) -> Split:
        """Forward and backward for the cotangents of the `wanted` inputs."""
        key = tuple(wanted)
        if key not in self.splits:
            joint = joint_graph(self.graph, self.extents, key)
            program = Program(joint, f"{joint.name}_joint")
            found = cut(program.final, len(self.graph.inputs), len(self.graph.outputs), key)
            self.splits[key] = Split(
                program,
                found,
                Program(found.forward, found.forward.name),
                Program(found.backward, found.backward.name),
            )
        return self.splits[key]

    @property
    def guards(self) -> tuple[str, ...]:
        """What the arguments must satisfy, in the dump's words."""
        inputs = self.graph.inputs
        shapes = tuple(
            f"{inputs[number].name}.shape[{axis}] == {size}"
            for number, axis, size in self.graph.entry_guards
        )
        return shapes + tuple(guard_text(guard) for guard in self.graph.guards)

    def __repr__(self) -> str:
        values = [f"{node.name}: {node.type}" for node in self.graph.inputs]
        given = ", ".join([*values, *self.statics])
        assumed = f" if {' and '.join(self.guards)}" if self.guards else ""
        return f"<version {self.graph.name}({given}){assumed}>"


def caller(
    run: Callable[..., Any], outputs: Sequence[Node], tree: Tree, pack: Callable[[Any], Any]
) -> Callable[..., Any]:
    """`pack(run(*args))`; for one array and `(number, array)` nothing else is called."""
    ranks = tuple(bool(node.type.rank) for node in outputs)
    if tree is LEAF and ranks == (True,):
        return run
    pair = isinstance(tree, Branch) and (tree.kind, tree.children) == (tuple, (LEAF, LEAF))
    if not pair or ranks != (False, True):
        return lambda *args: pack(run(*args))
    number = outputs[0].type.dtype.type

    def value_and_array(*args: Any) -> Any:
        value, array = run(*args)
        return number(value), array

    return value_and_array


def packer(outputs: Sequence[Node], tree: Tree) -> Callable[[Any], Any]:
    """From what compiled code returns to the user's structure; scalars become NumPy's."""
    converters = tuple(None if node.type.rank else node.type.dtype.type for node in outputs)
    if tree is LEAF:
        convert = converters[0]
        return convert if convert is not None else _unchanged
    if len(outputs) == 1:
        return lambda result: unflatten(tree, _converted((result,), converters))
    if not outputs:
        return lambda result: unflatten(tree, iter(()))
    if isinstance(tree, Branch) and tree.kind is tuple and set(tree.children) == {LEAF}:
        return _flat(converters)
    return lambda results: unflatten(tree, _converted(results, converters))


def _flat(converters: Sequence[Any]) -> Callable[[Any], Any]:
    return lambda results: tuple(
        [
            r if convert is None else convert(r)
            for r, convert in zip(results, converters, strict=True)
        ]
    )


def _unchanged(result: Any) -> Any:
    return result


def _converted(results: Sequence[Any], converters: Sequence[Any]) -> Iterator[Any]:
    for result, convert in zip(results, converters, strict=True):
        yield result if convert is None else convert(result)
