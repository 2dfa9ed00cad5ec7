"""How much memory the arrays of a program take at once, as a formula and for given sizes.

Counted from the scheduled program:

    b1 = empty(n, m); d_x = empty(n, m); ...; return d_x      =>      16*n*m bytes
"""

from __future__ import annotations

from collections.abc import Mapping

from codegen.loops import Alloc
from codegen.records import dataclass
from codegen.schedule.dependence import aliases, used
from codegen.traverse import statements
from tracegrad.inspect.kernels import Layout, Memory
from tracegrad.ir.dims import Size, symbols
from tracegrad.passes.cost import guess


@dataclass(frozen=True)
class Peak:
    """The arrays that live at the worst moment."""

    arrays: tuple[Memory, ...]
    bytes: Size
    here: int | None
    """The bytes for the given extents; None where the program computes an extent itself."""


def peak(layout: Layout, extents: Mapping[str, int]) -> Peak:
    """The moment at which the arrays that the function allocates take most."""
    spans = lifetimes(layout)
    best, most = Peak((), 0, 0), 0
    for moment in range(len(layout.body)):
        alive = [
            layout.memory[name] for name, (start, end) in spans.items() if start <= moment <= end
        ]
        total: Size = 0
        for memory in alive:
            total = total + (memory.bytes or 0)
        computed = set(symbols(total)) - set(extents)
        bytes_ = guess(total, extents)
        if bytes_ > most:
            best, most = Peak(tuple(alive), total, None if computed else bytes_), bytes_
    return best


def lifetimes(layout: Layout) -> dict[str, tuple[int, int]]:
    """From the statement that allocates an array to the last that mentions it or a view of it."""
    roots = aliases(layout.function)
    spans: dict[str, tuple[int, int]] = {}
    for position, outer in enumerate(layout.body):
        for statement in statements((outer,)):
            if isinstance(statement, Alloc):
                spans.setdefault(statement.array, (position, position))
            for name in used(statement):
                root = roots.get(name, name)
                if root in spans:
                    spans[root] = (spans[root][0], position)
    return spans
