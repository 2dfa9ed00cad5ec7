"""What one top-level statement of a loop program does: its loops, and the names it gives values to.

In: a statement. Out: for `for i in range(n): y += x[i]`, one nest over `n`, and `("y", "sum")`.
"""

from __future__ import annotations

from collections.abc import Iterator

from codegen import loops
from codegen.traverse import blocks, statements

COMBINED = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "logical_or": "any",
    "logical_and": "all",
}
"""What an accumulator of each combination is called."""


def is_kernel(statement: loops.Statement) -> bool:
    return isinstance(statement, loops.LibraryCall | loops.ForeignCall) or any(
        isinstance(part, loops.For | loops.While) for part in statements((statement,))
    )


def computed(statement: loops.Statement) -> Iterator[tuple[str, str]]:
    """The names that the statement gives values to: `assigned`, `stored`, or what accumulates."""
    for part in statements((statement,)):
        match part:
            case loops.Assign(target):
                yield target.name, "assigned"
            case loops.Accumulate(target, _, combine):
                yield target, COMBINED[combine]
            case loops.Store(array):
                yield array, "stored"
            case loops.View(array) if not part.plain:
                yield array, "view"
            case loops.LibraryCall(outs=outs):
                yield from ((out, "library") for out in outs)
            case loops.ForeignCall(results=results, outs=outs):
                yield from ((result.name, "library") for result in results)
                yield from ((out, "library") for out in outs)


def remarks(statement: loops.Statement) -> set[str]:
    """The comments of the statement and of those inside it."""
    parts = statements((statement,))
    return {p.comment for p in parts if not isinstance(p, loops.Comment | loops.Forward)}


def innermost(statement: loops.Statement) -> list[tuple[loops.For, ...]]:
    """The loops on the way to each innermost body of the statement."""
    inner = [path for block in blocks(statement) for part in block for path in innermost(part)]
    if isinstance(statement, loops.For):
        return [(statement, *path) for path in inner] or [(statement,)]
    return inner
