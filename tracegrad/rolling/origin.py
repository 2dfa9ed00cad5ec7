"""The user's loop statement behind a run of blocks, as far as the sources of its steps show it."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterable, Iterator

from tracegrad.ir.graph import Node, Source

_LOOP = re.compile(r"(for\s+(?P<target>.+?)\s+in\s+.+?|while\s+.+?):(?=\s|$)")


def loop_statement(nodes: Iterable[Node]) -> Source | None:
    """The `for` or `while` whose body the first steps of a block stand in."""
    first: dict[tuple[str, str], Source] = {}
    for node in nodes:
        if node.source is not None:
            key = (node.source.file, node.source.function)
            if key not in first or node.source.line < first[key].line:
                first[key] = node.source
    for source in first.values():
        for line, text in _above(source):
            if found := _LOOP.match(text):
                return Source(source.file, line, source.function, found.group())
    return next(iter(first.values()), None)


def _above(source: Source) -> Iterator[tuple[int, str]]:
    """The statements around a line, innermost first, as far as the function's beginning."""
    text = linecache.getline(source.file, source.line)
    depth = _depth(text)
    if _LOOP.match(text.strip()) and not _LOOP.match(source.text):
        yield source.line, text.strip()
    for line in range(source.line - 1, 0, -1):
        text = linecache.getline(source.file, line)
        if text.strip() and _depth(text) < depth:
            depth = _depth(text)
            if text.lstrip().startswith(("def ", "class ")):
                return
            yield line, text.strip()


def _depth(text: str) -> int:
    return len(text) - len(text.lstrip())


def counter_name(source: Source | None) -> str:
    """`t` of `for t in ...`; empty for other targets."""
    found = _LOOP.match(source.text) if source is not None else None
    target = found.group("target") if found else None
    return target if target and target.isidentifier() and target != "_" else ""


def description(source: Source | None) -> str:
    """`for t in range(200) at line 12`."""
    if source is None:
        return "a loop"
    return f"{source.text.rstrip(':') or 'a loop'} at line {source.line}"
