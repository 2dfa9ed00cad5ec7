"""What the steps of a compiled loop append to a list from outside of it.

for i in tg.range(n): ys.append((x[i], v[i]))     ->     Added: two nodes of the body, a tuple of 2;
                                                         the loop stacks each, for all steps
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from codegen.records import dataclass
from tracegrad.control.body import node_in
from tracegrad.errors import TraceError
from tracegrad.ir.graph import Node
from tracegrad.pyflow.state import Several, Variable, collected, is_written
from tracegrad.tracing.array import Traced
from tracegrad.tracing.grown import (
    Grown,
    Moved,
    Structure,
    joined,
    parts,
    rebuilt,
    root_of,
    share,
    stacked_items,
)
from tracegrad.tracing.sharing import is_shared_within
from tracegrad.tracing.trace import Trace


@dataclass(frozen=True)
class Added:
    """What a step appends to one list: one item of that structure, or `several`, stacked."""

    nodes: list[Node]
    structure: Structure
    several: bool
    roots: list[Traced | None]
    """The arrays whose memory the leaves of the item are."""

    def of_all_steps(self, results: Sequence[Traced], repeated: Sequence[bool]) -> Any:
        """The items of all steps, stacked; some are `repeated`, one array in several."""
        for made, root, again in zip(results, self.roots, repeated, strict=True):
            if root is not None:
                share(made, [root], again or is_shared_within(root))
        if not self.several:
            return rebuilt(self.structure, iter(results))
        arrays = [x.reshape(-1, *x.shape[2:]) for x in results]
        return rebuilt(self.structure, iter(arrays))


def added(trace: Trace, row: Variable, items: Sequence[Any]) -> Added:
    """What a step appends to a list."""
    if not items:
        return Added([], parts(())[1], False, [])
    if any(is_written(leaf) for item in items for leaf in _leaves(item)):
        raise TraceError(
            f"line {row.line}: an array that the loop writes in place is appended to the list "
            f"{row.name}, whose items would all be that array as it is in the end: append a copy "
            "of it, x.copy()"
        )
    several = len(items) > 1 or isinstance(items[0], Several)
    leaves, structure = parts(_stacked(items) if several else items[0])
    if not leaves:
        raise TraceError(
            f"line {row.line}: a step of a compiled loop appends {items[0]!r} to the list "
            f"{row.name}: it has to append arrays or numbers, or tuples, lists, dicts of these"
        )
    return Added(
        [node_in(trace, leaf) for leaf in leaves], structure, several, [*map(root_of, leaves)]
    )


def _leaves(item: Any) -> list[Any]:
    return [] if isinstance(item, Several) else parts(item)[0]


def _stacked(items: Sequence[Any]) -> Any:
    """What a step appends to a list, as one item with stacked arrays."""
    found = [
        item.items.stacked if isinstance(item, Several) else stacked_items([item]) for item in items
    ]
    return functools.reduce(joined, found)


def grow(row: Variable, stacked: Any) -> None:
    """Put these items behind those of a list."""
    before = row.value
    around = collected(before)
    if around is not None:
        around.append(Several(Grown(stacked)))
    elif isinstance(before, Grown):
        row.value = Grown(joined(before.stacked, stacked))
    else:
        row.value = Grown(joined(stacked_items(before), stacked) if before else stacked)
        before[:] = [Moved()]
