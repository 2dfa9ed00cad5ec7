"""What a user is told when numba refuses generated code: their line, the dump, where to report it.

In: a final graph and codegen's error. Out: a `tracegrad.CompileError`:

    loss_forward did not compile, which is a defect of tracegrad: please report it with ...
    It happened at train.py:3, np.mean(x)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from codegen.errors import BrokenPromise
from codegen.errors import CompileError as Refused
from tracegrad.errors import CompileError
from tracegrad.inspect.dump import dump_graph
from tracegrad.ir.graph import Graph

USER_LINE = re.compile(r"# ((?:[^\s│]+:)?\d+)│ (.*)$")
"""The comment of a generated line: the user's line number and text."""


def compile_error(graph: Graph, name: str, refused: Refused) -> CompileError:
    """The error to raise in the place of codegen's."""
    dump = dump_graph(replace(graph, name=name), name, "as it was to be compiled")
    said = reason(str(refused))
    lines = [
        f"{name} did not compile, which is a defect of tracegrad: please report it with this dump "
        "and error.source",
        *(f"  it happened at {place}" for place in user_lines(graph, refused)),
        f"  numba says: {said}",
    ]
    error = CompileError("\n".join(lines), dump, refused.source, str(refused))
    error.add_note(f"\n{dump}")
    return error


def broken_promise(graph: Graph, broken: BrokenPromise) -> CompileError:
    """The error for a function of the user's that does not do what `shape=` says."""
    home = f"{Path(graph.source.file).name}:" if graph.source else ""
    match = USER_LINE.search(f"# {broken.comment}")
    place = f"\n  it is called at {home}{match[1]}, {match[2]}" if match else ""
    cure = "; the function must not write into its arguments (or declare it with fills=True)"
    return CompileError(f"{broken}{cure if 'readonly' in str(broken) else ''}{place}")


def reason(message: str) -> str:
    """The first line of numba's message that says something."""
    lines = [line.strip() for line in message.splitlines()]
    telling = [
        line for line in lines if line and not line.startswith(("Failed in", "numba refused"))
    ]
    return telling[0] if telling else message.strip()


def user_lines(graph: Graph, refused: Refused) -> Iterator[str]:
    """The user's expression from which the refused statement was generated."""
    home = f"{Path(graph.source.file).name}:" if graph.source else ""
    if match := USER_LINE.search(f"# {refused.comment}"):
        yield f"{home}{match[1]}, {match[2]}"
