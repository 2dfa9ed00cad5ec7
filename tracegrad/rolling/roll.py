"""The driver: find runs, merge their blocks, put loops in their place, and look again.

Runs of short periods come first, so that inner loops are rolled before the loops around them, whose
blocks become equal by that. What was rolled, and what was not and why, is noted in the trace.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np

from tracegrad.ir.dims import assuming
from tracegrad.ir.graph import Graph, Node, next_serial
from tracegrad.ops.constant import CONSTANT
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.project import PROJECT
from tracegrad.ops.shape import COPY
from tracegrad.rolling.align import aligned, extended, second
from tracegrad.rolling.close import Closed, close
from tracegrad.rolling.family import Merger, Mismatch
from tracegrad.rolling.kinds import Kinds
from tracegrad.rolling.origin import counter_name, description, loop_statement
from tracegrad.rolling.pieces import joined
from tracegrad.rolling.program import VIEWS, Program, program
from tracegrad.rolling.repeats import Run, periods, runs_of
from tracegrad.rolling.writes import forwarded
from tracegrad.tracing.trace import FEWEST_BLOCKS as FEWEST
from tracegrad.tracing.trace import Trace

LEAST_WORK = 96
"""Operations of a run, a kernel counted as several: less compiles quickly enough unrolled. What
reads the results of a loop one by one becomes a loop however small it is."""
KERNEL = 12
ATTEMPTS = 8


def roll(
    trace: Trace, outputs: Sequence[Node], keep: Collection[Node] = (), since: int = 0
) -> tuple[Node, ...]:
    """`outputs` with repeated blocks rolled into loops; nodes to keep, and those made before the
    serial number `since`, are left as they are.
    """
    with assuming(trace.assumptions):
        return Roller(trace, set(keep), since).run(tuple(outputs))


class Roller:
    def __init__(self, trace: Trace, keep: set[Node], since: int) -> None:
        self.trace, self.keep, self.since = trace, keep, since
        self.kinds = Kinds(trace.assumptions)
        self._bodies: dict[object, Graph] = {}
        self._failed: dict[str, str] = {}
        self.least = LEAST_WORK

    def given(self, node: Node) -> bool:
        """Arguments and the like; the copies of them with respect to which something has been
        differentiated are gone when the program is simplified."""
        if node.op is COPY:
            return self.given(node.inputs[0])
        return node.op.name == "input" or node in self.keep or node.serial < self.since

    def run(self, outputs: tuple[Node, ...]) -> tuple[Node, ...]:
        found = program(outputs, self.given)
        if work(found.steps) < LEAST_WORK:
            return outputs
        outputs = forwarded(self.trace, found, self.given)
        if outputs != found.outputs:
            found = program(outputs, self.given)
        while loops := self._loops(found):
            self.least = FEWEST
            outputs = self._rewritten(found, loops)
            found = program(outputs, self.given)
        if self.least == FEWEST:
            outputs = joined(self.trace, found)
        for where, why in self._failed.items():
            self.trace.note("loops", f"{where}: left unrolled, {why}")
        return outputs

    def _kind(self, number: int, node: Node) -> int:
        """The kind of a step; one of its own for steps that are to stay as they are."""
        if self.trace.unrolled and self.trace.is_unrolled(node):
            return -1 - number
        return self.kinds.of(node)

    def _loops(self, found: Program) -> list[Closed]:
        """The loops of the shortest period that has any."""
        kinds = [self._kind(number, node) for number, node in enumerate(found.steps)]
        array = np.asarray(kinds)
        for period in periods(array):
            loops: list[Closed] = []
            for run in runs_of(array, period):
                begin = loops[-1].merger.run.stop if loops else 0
                if run.start < begin:
                    continue
                run = extended(found.steps, kinds, aligned(found.steps, run), begin)
                closed = self._closed(found, run)
                if closed is not None:
                    loops.append(closed)
            if loops:
                return loops
        return []

    def _closed(self, found: Program, run: Run) -> Closed | None:
        """The run as a loop; a part of it where only that is regular."""
        for _ in range(ATTEMPTS):
            block = found.steps[run.start : run.start + run.period]
            total = work(block) * run.count
            if run.count < FEWEST or total < self.least:
                return None
            source = loop_statement(second(found.steps, run))
            merger = Merger(self.trace, found, self.kinds, run, "body")
            merger.child.names[merger.index] = counter_name(source) or "step"
            try:
                merger.merge()
                closed = close(merger, source)
            except Mismatch as mismatch:
                shorter = part(run, mismatch)
                if shorter is None or shorter.count < FEWEST:
                    self._failed[description(source)] = mismatch.why
                    return None
                run = shorter
                continue
            if total < LEAST_WORK and not merger.takes_results:
                return None
            if merger.copies and run.count < 2 * FEWEST:
                return None
            closed.body = self._shared(closed.body)
            self._failed.pop(description(source), None)
            self.trace.note(
                "loops",
                f"{description(source)}: rolled, {run.count} steps of {run.period} operations",
            )
            return closed
        return None

    def _shared(self, body: Graph) -> Graph:
        """One object for equal bodies: loops with equal bodies are of one kind."""
        constants = tuple(node.attrs for node in body.nodes if node.op is CONSTANT)
        return self._bodies.setdefault((self.kinds.body(body), constants), body)

    def _rewritten(self, found: Program, loops: Sequence[Closed]) -> tuple[Node, ...]:
        """The outputs with the loops recorded; all that follows them is recorded anew."""
        rewriter = Rewriter(self.trace, found, loops)
        coming = list(reversed(loops))
        begun = False
        for number, step in enumerate(found.steps):
            if coming and number == coming[-1].merger.run.start:
                begun = True
                coming[-1].record(self.trace, rewriter.new)
            if coming and number == coming[-1].merger.run.stop - 1:
                coming.pop()
            elif begun and step not in rewriter.homes:
                rewriter.move(step)
        return tuple(map(rewriter.new, found.outputs))


class Rewriter:
    """What the nodes of a program become when loops take the place of blocks."""

    def __init__(self, trace: Trace, found: Program, loops: Sequence[Closed]) -> None:
        self.trace, self.found = trace, found
        self.homes = {node: loop for loop in loops for node in loop.merger.places}
        self._new: dict[Node, Node] = {}

    def new(self, node: Node) -> Node:
        if node in self._new:
            return self._new[node]
        if node in self.homes:
            return self.homes[node].result(self.trace, node)
        if node not in self.found.floating:
            return node
        operands = tuple(map(self.new, node.inputs))
        made = node
        if operands != node.inputs:
            made = self.trace.builder.node(node.op, operands, node.attrs, node.name, node.source)
            self.trace.rename(node, made)
        self._new[node] = made
        return made

    def move(self, node: Node) -> None:
        """Record a step again, so that steps stay in the order of the program."""
        operands = tuple(map(self.new, node.inputs))
        self._new[node] = replace(node, inputs=operands, serial=next_serial())
        self.trace.rename(node, self._new[node])


def work(steps: Iterable[Node]) -> int:
    """How much there is to compile: a kernel counts as several elementwise operations."""
    total = 0
    for node in steps:
        if isinstance(node.op, Elementwise):
            total += 1
        elif node.op not in VIEWS and node.op is not PROJECT:
            total += KERNEL
    return total


def part(run: Run, mismatch: Mismatch) -> Run | None:
    """The blocks of the run that may still be isomorphic."""
    stop = min(mismatch.stop or run.count, run.count)
    first = mismatch.first
    if stop <= first or (first == 0 and stop == run.count):
        return None
    return Run(run.start + first * run.period, run.period, stop - first)
