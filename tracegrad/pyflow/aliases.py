"""Which variables of a compiled loop NumPy may have as one array, and which lists hold it.

for i in tg.range(n):        step 2 writes into the array that step 1 appended: whoever reads ys
    a[0] = 7.0               behind the loop gets an error
    a = x * i
    ys.append(a)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

from codegen.records import dataclass
from tracegrad.errors import TraceError
from tracegrad.pyflow.growth import Added
from tracegrad.tracing.array import Traced
from tracegrad.tracing.sharing import are_shared, link, owner_of, reached, spoil, twins
from tracegrad.tracing.trace import Trace


@dataclass(frozen=True)
class Passed:
    """One array that passes from step to step, one of the results at that `place`: the arrays whose
    memory it is before the loop, in a step, and at its end."""

    name: str
    line: int
    place: int
    before: Traced
    given: Traced
    after: Traced | None

    @property
    def is_written(self) -> bool:
        return self.given._version > 0

    def left(self) -> list[Traced]:
        """What it may be from the second step on."""
        return [] if self.after is None else twins(self.after)

    def may_follow(self, other: Passed) -> bool:
        """Whether writing one in a step may change the other."""
        if are_shared(self.before, other.before):
            return True
        ends = self.after, other.after
        return ends[0] is not None and ends[1] is not None and are_shared(ends[0], ends[1])


def rewritten(passed: Sequence[Passed], body: Trace) -> list[Traced]:
    """The arrays from outside that a step may write into as what the step before left.

    Raises TraceError if that is an array that the step has by another name too.
    """
    found: list[Traced] = []
    before = [x for one in passed for x in twins(one.before)]
    for one in (one for one in passed if one.is_written):
        outside = [x for x in one.left() if _is_outside(x, body)]
        found += [x for x in outside if any(x is y for y in before)]
        other = next((two.name for two in passed if two is not one and one.may_follow(two)), None)
        if other is None and not all(any(x is y for y in before) for x in outside):
            other = "an array from outside of it"
        if other is not None:
            raise TraceError(
                f"line {one.line}: a loop on traced values writes into {one.name}, which may be "
                f"the same array as {other}: make a copy of it, {one.name} = {one.name}.copy()"
            )
    return found


def _is_outside(array: Traced, body: Trace) -> bool:
    """Whether it is of a trace around the body, not of a body in it, which nobody sees here."""
    owner = owner_of(array)
    around = body.parent
    while around is not None and around is not owner:
        around = around.parent
    return around is not None


def is_repeated(added: Traced, passed: Sequence[Passed], body: Trace) -> bool:
    """Whether several steps may append one and the same array."""
    before = [x for one in passed for x in twins(one.before)]
    for root in twins(added):
        own = next((one for one in passed if one.given is root), None)
        if own is not None:
            if any(one.given is x for one in passed for x in own.left()):
                return True
        elif _is_outside(root, body) and not any(root is x for x in before):
            return True
    return False


def relate(
    passed: Sequence[Passed], results: Sequence[Traced], never_empty: Callable[[], bool] | None
) -> None:
    """A variable behind the loop is what the last step left, or what it was, if there was none."""
    kinds = ([one.after for one in passed], None), ([one.before for one in passed], never_empty)
    pairs: list[tuple[Traced, Traced, Callable[[], bool] | None]] = []
    for ends, unless in kinds:
        made = [
            (results[one.place], end)
            for one, end in zip(passed, ends, strict=True)
            if end is not None
        ]
        for result, end in made:
            pairs += [(result, *found) for found in reached([end], unless)]
        pairs += [(a, b, unless) for (a, x), (b, y) in combinations(made, 2) if are_shared(x, y)]
    for pair in pairs:
        link(*pair)


def spoil_items(items: Added, stacked: Sequence[Traced], passed: Sequence[Passed]) -> None:
    """What a step appended and the next one writes into is not to be read."""
    for one in (one for one in passed if one.is_written):
        for root, array in zip(items.roots, stacked, strict=True):
            if root is not None and one.after is not None and are_shared(one.after, root):
                spoil(array.root, one.name)
