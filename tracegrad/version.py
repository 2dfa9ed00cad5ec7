"""A version: one traced specialisation of a function, and the programs compiled from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import Any

from codegen.records import dataclass
from tracegrad.autodiff.linear import linear_graph
from tracegrad.autodiff.residuals import Cut, cut, joint_graph
from tracegrad.compile import Program
from tracegrad.inspect.guards import guard_text
from tracegrad.ir.dims import evaluate
from tracegrad.ir.graph import Graph
from tracegrad.out import Into
from tracegrad.run import Run, arrays, direct
from tracegrad.tree import LEAF, Tree

LINEAR_RUNS = 100.0
"""How often a linear map is expected to run: what it needs of the function is rather kept."""


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
    def start(self) -> Callable[..., tuple[Any, ...]]:
        """From normalised leaves to the outputs and the kept values, as arrays."""
        return arrays(Run.of(self.forward), self.forward.name)

    @cached_property
    def finish(self) -> Callable[..., tuple[Any, ...]]:
        """From cotangents (or tangents) and residuals to what the second program returns."""
        return arrays(Run.of(self.backward), self.backward.name)

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
    short: bool = False
    """Whether it assumes extents for the sake of speed alone (`tracing.short`)."""
    splits: dict[tuple[bool, ...], Split] = field(default_factory=dict)
    linear: dict[tuple[bool, ...], Split] = field(default_factory=dict)

    @cached_property
    def primal(self) -> Program:
        """The function itself: outputs only, nothing kept."""
        return Program(self.graph, self.graph.name, extents=self.extents)

    @cached_property
    def run(self) -> Run:
        """How the compiled function itself is run."""
        return Run.of(self.primal)

    @cached_property
    def direct(self) -> Callable[..., Any]:
        """From normalised leaves to results in the structure that the function returned."""
        return direct(self.run, self.output_tree, self.graph.name)

    @cached_property
    def into(self) -> Into:
        """From arrays for the results and normalised leaves to results."""
        return Into(self.graph.name, self.run, self.output_tree)

    @cached_property
    def arrays(self) -> Callable[..., tuple[Any, ...]]:
        """From normalised leaves to the results as arrays."""
        return arrays(self.run, self.graph.name)

    def linearized(self, wanted: Sequence[bool]) -> Split:
        """The function with what it keeps, and the linear map of the `wanted` inputs' tangents."""
        key = tuple(wanted)
        if key not in self.linear:
            joint = linear_graph(self.graph, self.extents, key)
            self.linear[key] = self._cut(joint, key, "linear", LINEAR_RUNS)
        return self.linear[key]

    def differentiated(self, wanted: Sequence[bool]) -> Split:
        """Forward and backward for the cotangents of the `wanted` inputs."""
        key = tuple(wanted)
        if key not in self.splits:
            joint = joint_graph(self.graph, self.extents, key)
            self.splits[key] = self._cut(joint, key, "backward")
        return self.splits[key]

    def _cut(self, joint: Graph, key: tuple[bool, ...], second: str, runs: float = 1.0) -> Split:
        program = Program(joint, f"{joint.name}_joint")
        named = program.stages[-1].graph
        found = cut(named, len(self.graph.inputs), len(self.graph.outputs), key, runs=runs)
        extents = joint_extents(self.graph, program.final, self.extents)
        forward = Program(found.forward, found.forward.name, extents=extents)
        back = Program(found.backward, f"{joint.name}_{second}", extents=extents)
        return Split(program, found, forward, back)

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


def joint_extents(graph: Graph, joint: Graph, extents: Mapping[str, int]) -> dict[str, int]:
    """The extents of the arguments of `graph` by the letters that the joint graph has for them."""
    arguments = graph.inputs
    return {
        name: evaluate(arguments[number].type.shape[axis], extents)
        for name, (number, axis) in joint.sizes.items()
        if number < len(arguments)
    }
