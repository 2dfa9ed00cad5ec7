"""The pipeline on one screen: graph -> passes -> loop program -> compiled function, and its one
runner.

trace -> simplify -> [differentiate] -> simplify -> dead code -> plan -> lower -> codegen.build
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import field, replace
from functools import cached_property
from typing import Any

from codegen.errors import BrokenPromise
from codegen.errors import CompileError as Refused
from codegen.records import dataclass
from codegen.waiting import waiting
from tracegrad.errors import LongCompilation
from tracegrad.ir.dims import Assumptions, assuming
from tracegrad.ir.graph import Graph, bodies, rebuild
from tracegrad.later import Later
from tracegrad.passes.draws import check_draws
from tracegrad.passes.expand import expand
from tracegrad.passes.fingerprint import fingerprint
from tracegrad.passes.opened import opened
from tracegrad.passes.simplify import simplify
from tracegrad.tracing.naming import name_nodes
from tracegrad.tracing.source import user_level

strips = Later("tracegrad.control.strips")
lowering = Later("tracegrad.lower")
failure = Later("tracegrad.inspect.failure")
unrolled = Later("tracegrad.inspect.unrolled")
schedule = Later("codegen.schedule")
codegen_module = Later("codegen.module")
known = Later("codegen.known")

Pass = Callable[[Graph], Graph]


def in_strips(graph: Graph) -> Graph:
    """Loops over items with loops of their own, in strips."""
    return strips.in_strips(graph) if any(any(bodies(node)) for node in graph.nodes) else graph


PASSES: tuple[tuple[str, Pass], ...] = (
    ("expand", expand),
    ("simplify", simplify),
    ("name", name_nodes),
)


@dataclass(frozen=True)
class Stage:
    """What one pass made of the graph, and the seconds it took."""

    name: str
    graph: Graph
    seconds: float


def optimise(graph: Graph) -> tuple[Stage, ...]:
    """Run every pass; each result is verified (its types are inferred again) and kept."""
    stages = [Stage("trace", graph, 0.0)]

    def telling(spent: float) -> str:
        number = min(len(stages), len(PASSES)) - 1
        size = f"{len(graph.nodes):,} operations"
        return f"tracegrad: {graph.name}, {size}: {PASSES[number][0]}, {spent:.1f} s"

    with waiting(telling):
        for name, transform in PASSES:
            start = time.perf_counter()
            graph = transform(graph)
            verify(graph)
            stages.append(Stage(name, graph, time.perf_counter() - start))
    return tuple(stages)


def verify(graph: Graph) -> None:
    """Every node's type is what its op infers from its operands' types; random numbers are drawn
    once.
    """
    check_draws(graph)
    with assuming(Assumptions({}, list(graph.guards))):
        again = rebuild(graph)
    for before, after in zip(graph.outputs, again.outputs, strict=True):
        assert before.type.shape == after.type.shape, f"{before}: inferred {after.type}"


@dataclass
class Program:
    """One graph and, once something is run, its compiled function."""

    graph: Graph
    name: str
    donated: frozenset[int] = frozenset()
    """The inputs whose arrays it may write to and return: nobody looks at them after the call."""
    takes_results: bool = False
    """Whether its result arrays are parameters, after the others, where that is possible."""
    extents: dict[str, int] = field(default_factory=dict)
    """Sizes of the calls to come: small arrays and large ones have versions of their own."""

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        return optimise(self.graph)

    @cached_property
    def final(self) -> Graph:
        """What is lowered: after all passes, without the barriers that kept values apart, items
        that have loops of their own in strips."""
        graph = opened(self.stages[-1].graph)
        found = in_strips(graph)
        if found is graph:
            return graph
        found = name_nodes(found)
        verify(found)
        return found

    @cached_property
    def module(self) -> Any:
        module = schedule.donating(lowering.lower(self.final, self.name), self.donated)
        return schedule.into(module) if self.takes_results else module

    @cached_property
    def built(self) -> Any:
        """The compiled module; numba is loaded here, at the first need.

        Raises CompileError, with the user's lines and the dump, if numba refuses it or a function
        of the user's that it calls.
        """
        found, start = vars(self).get("loaded"), time.perf_counter()
        threads = None if found is None else found.code.threads

        def telling(spent: float) -> str:
            size = f"{len(self.final.nodes):,} operations"
            return f"tracegrad: {self.name}, {size}: ordering loops, {spent:.1f} s"

        try:
            with waiting(telling):
                built = codegen_module.build(
                    self.module, by_graph=self.key, extents=self.extents, threads=threads
                )
        except BrokenPromise as broken:
            raise failure.broken_promise(self.final, broken) from broken.__cause__
        except Refused as refused:
            raise failure.compile_error(self.final, self.name, refused) from None
        seconds = time.perf_counter() - start
        if hint := unrolled.advice(self.final, seconds):
            warnings.warn(hint, LongCompilation, stacklevel=user_level())
        return built

    @cached_property
    def key(self) -> Any:
        """By what compiled code is found without lowering the graph; None if it cannot be."""
        graph = fingerprint(self.final)
        if graph is None:
            return None
        form = f"donated {sorted(self.donated)}, takes results: {self.takes_results}"
        return known.key(self.name, (("graph", graph), ("form", form)))

    @cached_property
    def loaded(self) -> Any:
        """The compiled function that an earlier process left on disk for this graph, or None."""
        return known.load(self.key, lambda: self.built)

    @property
    def is_loaded(self) -> bool:
        """Whether what runs is what was found for the graph."""
        return "built" not in vars(self) and vars(self).get("loaded") is not None

    @property
    def has_run(self) -> bool:
        return "built" in vars(self) or self.is_loaded

    @cached_property
    def function(self) -> Any:
        """The numba dispatcher."""
        return self.built.functions[self.name]

    @cached_property
    def entry(self) -> Any:
        """What Python calls with normalised arguments: the compiled function without the dispatcher
        around it. numba, and what it takes to compile, is loaded only if it is not on disk."""
        if "built" not in vars(self) and self.loaded is not None:
            return self.loaded.function
        compiled = getattr(self.function, "overloads", None)
        return next(iter(compiled.values())).entry_point if compiled else self.function

    @cached_property
    def given(self) -> tuple[int, ...]:
        """The numbers of the results that are parameters."""
        if "built" in vars(self) or self.loaded is None:
            return self.built.given.get(self.name, ())
        return self.loaded.code.given

    @cached_property
    def into(self) -> Program:
        """The program that takes its result arrays; this one if it returns no array."""
        if self.takes_results or not any(node.type.rank for node in self.final.outputs):
            return self
        program = replace(self, name=f"{self.name}_into", takes_results=True)
        program.stages = self.stages
        return program

    def consuming(self, donated: frozenset[int]) -> Program:
        """The program that may reuse the memory of these inputs; this one if that has no use."""
        if not donated:
            return self
        program = replace(self, name=f"{self.name}_consuming", donated=donated)
        program.stages = self.stages
        return program if schedule.consumes(program.module) else self
