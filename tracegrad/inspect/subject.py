"""What is being looked at: a version of a function, the extents of a call, its programs by name.

In: a version. Out: its programs, their dumps and stages:

    subject.program("backward")      ->      the program that returns d_x from d_y and the residuals
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from codegen.records import dataclass
from tracegrad.compile import Program
from tracegrad.errors import NotDifferentiableError
from tracegrad.inspect.dump import Dump, dump_backward, dump_forward, dump_graph, dump_program
from tracegrad.ir.graph import Graph, all_nodes
from tracegrad.ops.foreign import FOREIGN
from tracegrad.tracing.naming import UNNAMED
from tracegrad.version import Split, Version, joint_extents

WHICH = ("primal", "forward", "backward", "consuming", "joint")
"""The function itself; the forward that keeps residuals; the backward that uses them; the one that
may write into their memory; forward and backward before they were cut apart."""


@dataclass(frozen=True)
class Subject:
    """One version, and the extents of a call (those it was traced with, if no call is given)."""

    name: str
    version: Version
    extents: dict[str, int]
    shows: str = "forward"
    """The program that is meant if none is named."""

    @property
    def differentiable(self) -> bool:
        graph = self.version.graph
        called = [n.attributes["kernel"] for n in all_nodes(graph) if n.op is FOREIGN]
        return (
            any(n.type.is_float for n in graph.inputs)
            and any(n.type.is_float for n in graph.outputs)
            and all(kernel.has_rule() for kernel in called)
        )

    @property
    def split(self) -> Split:
        """Forward and backward as they were called last; else for all floating arguments."""
        return next(reversed(self.version.splits.values())) if self.version.splits else self.full

    @property
    def full(self) -> Split:
        """Forward and backward for all floating arguments."""
        graph = self.version.graph
        if not self.differentiable:
            raise NotDifferentiableError(
                f"{self.name} has no forward and backward: it takes or returns no floating value; "
                'look at which="primal"'
            )
        return self.version.differentiated(tuple(node.type.is_float for node in graph.inputs))

    def choice(self, which: str | None) -> str:
        """`which`, or what is meant by None: `shows`, if the function is differentiable."""
        if which is None:
            return self.shows if self.differentiable else "primal"
        if which not in WHICH:
            raise ValueError(f"which={which!r}: choose one of {', '.join(WHICH)}")
        return which

    def program(self, which: str) -> Program:
        return self.version.primal if which == "primal" else getattr(self.split, which)

    def sizes(self, which: str) -> dict[str, int]:
        """The extents by the letters that this program has for them."""
        if which == "primal":
            return self.extents
        return joint_extents(self.version.graph, self.split.joint.final, self.extents)

    def dump(self, which: str | None = None, after: str | None = None) -> Dump:
        """The graph of a program after all passes, or after the one named `after`."""
        which = self.choice(which)
        program = self.program(which)
        if after is not None:
            return self._dump_stage(program, which, after)
        final = replace(program.final, name=program.name)
        match which:
            case "forward":
                return dump_forward(self.split.cut, final, self.name)
            case "backward" | "consuming":
                return dump_backward(self.split.cut, final, self.name, program.donated)
        return dump_program(final, self.name, which)

    def _dump_stage(self, program: Program, which: str, after: str) -> Dump:
        for stage in program.stages:
            if stage.name == after:
                graph = replace(stage.graph, name=program.name)
                return dump_graph(graph, self.name, f"{which}, after {after}")
        known = ", ".join(stage.name for stage in program.stages)
        raise ValueError(f"after={after!r}: the passes are {known}")

    def stages(self, which: str | None = None) -> list[StageView]:
        """Every stage of one program; of all of them, in the order in which they were made."""
        wanted = [which] if which is not None else list(self._road())
        return [
            StageView(
                kind,
                stage.name,
                operations(stage.graph),
                stage.seconds,
                self.dump(kind, stage.name),
            )
            for kind in map(self.choice, wanted)
            for stage in self.program(kind).stages
        ]

    def _road(self) -> Iterator[str]:
        yield "primal"
        if self.differentiable:
            yield from ("joint", "forward", "backward")


@dataclass(frozen=True)
class StageView:
    """What one pass made of one program."""

    which: str
    name: str
    nodes: int
    """How many operations there are."""
    seconds: float
    dump: Dump

    def __str__(self) -> str:
        head = f"{self.which} · {self.name}: {self.nodes} operations, {1e3 * self.seconds:.2f} ms"
        return f"{head}\n\n{self.dump}\n"

    def __repr__(self) -> str:
        return f"<stage {self.which} · {self.name}: {self.nodes} operations>"

    def _repr_html_(self) -> Any:
        return self.dump._repr_html_()


def operations(graph: Graph) -> int:
    """How many values the graph computes."""
    return sum(node.op.name not in ("input", *UNNAMED) for node in graph.nodes)
