"""Guards in words: what a version takes for granted, as a reader would put it.

In: a graph. Out: `x.shape[1] == 4`, `n >= 2` (for `0 < n - 1`), `n*m % 8 == 0`.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracegrad.ir.dims import Dim, Guard, Quotient, Size, symbol_of
from tracegrad.ir.graph import Graph


def assumptions(graph: Graph) -> list[str]:
    """Guards in words; that one letter is one extent is said by the types already."""
    pinned = [
        f"{graph.inputs[number].name}.shape[{axis}] == {size}"
        for number, axis, size in graph.entry_guards
        if isinstance(size, int)
    ]
    return pinned + [guard_text(guard) for guard in graph.guards]


def guard_text(guard: Guard) -> str:
    """A guard as a reader would put it: `n >= 2` for `0 < n - 1`, `n*m % 8 == 0`."""
    difference = guard.right - guard.left
    constant = difference if isinstance(difference, int) else dict(difference.terms).get((), 0)
    varying = difference - constant
    if guard.relation in ("<", "<="):
        least = (guard.relation == "<") - constant
        rising = isinstance(varying, Dim) and all(factor > 0 for _, factor in varying.terms)
        return f"{varying} >= {least}" if rising else f"{-varying} <= {-least}"
    match guard.relation, varying:
        case "!=", Dim(((_, times),)) if not constant:
            return f"{varying if times > 0 else -varying} >= 1"
    for quotient in quotients(difference):
        rest = quotient.numerator - quotient.denominator * symbol_of(quotient)
        if rest in (difference, -difference):
            return f"{factor(quotient.numerator)} % {quotient.denominator} {guard.relation} 0"
    return str(guard)


def quotients(size: Size) -> Iterator[Quotient]:
    terms = size.terms if isinstance(size, Dim) else ()
    yield from (atom for monomial, _ in terms for atom in monomial if isinstance(atom, Quotient))


def factor(size: Size) -> str:
    """A size as the left side of `%`."""
    single = isinstance(size, int) or len(size.terms) == 1
    return str(size) if single else f"({size})"
