"""Which of Python's loops a long program comes from, that tracing wrote out step by step.

In: a graph that took long to compile. Out: a sentence for the user, with the loop and the cure.

    compiling f took 44 s: 6,900 of its 7,647 operations come from `for k in plan` (train.py:12) ...
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tracegrad.ir.graph import Graph, Source
from tracegrad.rolling.origin import loop_statement
from tracegrad.tracing.trace import FEWEST_BLOCKS

LONG = 10.0
"""Seconds of a compilation from which on the user is told what may be done about it."""
MANY = 500
"""Operations of a program whose loops may be the reason."""


def advice(graph: Graph, seconds: float) -> str:
    """What to say of a compilation that took so long; nothing if it is not the loops."""
    if seconds < LONG or len(graph.nodes) < MANY:
        return ""
    found = longest_loop(graph)
    what = f"its program has {len(graph.nodes):,} operations"
    if found is not None:
        loop, count = found
        place = f"{Path(loop.file).name}:{loop.line}"
        text = loop.text.rstrip(":")
        what = f"{count:,} of its {len(graph.nodes):,} operations come from `{text}` ({place})"
    return (
        f"compiling {graph.name} took {seconds:.0f} s: {what}. Tracing writes out every step of a "
        "Python loop whose steps differ; written as tg.fori_loop or tg.scan, or over tg.range(n), "
        "a loop is compiled once for all its steps"
    )


def longest_loop(graph: Graph) -> tuple[Source, int] | None:
    """The loop statement with the most operations that are written out, and how many."""
    places = Counter(node.source for node in graph.nodes if node.source is not None)
    examples = {node.source: node for node in graph.nodes}
    loops: Counter[Source] = Counter()
    for source, count in places.items():
        if count >= FEWEST_BLOCKS:
            loop = loop_statement([examples[source]])
            if loop is not None and loop.text.startswith(("for ", "while ")):
                loops[loop] += count
    return loops.most_common(1)[0] if loops else None
