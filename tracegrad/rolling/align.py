"""Where the blocks of a run begin: at the beginning of the user's loop body, if that can be seen.

h = x; for t in ...: u = g(a); h = h * u      a run starts behind `u`, which is computed once
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tracegrad.ir.graph import Node
from tracegrad.rolling.repeats import Run


def second(steps: Sequence[Node], run: Run) -> Sequence[Node]:
    """The second block: the first one may share values with what comes before."""
    start = run.start + run.period
    return steps[start : start + run.period]


def aligned(steps: Sequence[Node], run: Run) -> Run:
    """The run without steps at its beginning that another part of the source made, begun where the
    source goes back to a line above.

    That may cost one block, which is then left unrolled, a part of it at either end.
    """
    run = _moved(run, _strangers(steps, run))
    lines = [step.source.line if step.source else 0 for step in second(steps, run)]
    back = [at for at in range(run.period) if lines[at] < lines[at - 1]]
    return _moved(run, back[0]) if len(back) == 1 else run


def _moved(run: Run, by: int) -> Run:
    if not by:
        return run
    lost = by > run.extra
    extra = run.extra - by + (run.period if lost else 0)
    return Run(run.start + by, run.period, run.count - lost, extra)


def _strangers(steps: Sequence[Node], run: Run) -> int:
    """How many steps at the beginning come from elsewhere than those one block later."""
    differ = [
        at
        for at in range(run.period)
        if steps[run.start + at].source != steps[run.start + run.period + at].source
    ]
    return differ[-1] + 1 if differ and len(differ) < run.period else 0


def extended(steps: list[Node], kinds: list[int], run: Run, begin: int) -> Run:
    """The run with one more block before it, if that lies there with other steps in between, which
    it does not need to have: values that do not change are computed in the first block only.

    These steps, and `kinds` with them, are moved before the block.
    """
    block, between = [], []
    at = run.start - 1
    for wanted in range(run.stop - run.period * (run.count - 1) - 1, run.start - 1, -1):
        while at >= begin and kinds[at] != kinds[wanted]:
            between.append(at)
            at -= 1
        if at < begin or len(between) > run.period:
            return run
        block.append(at)
        at -= 1
    inside = {steps[number] for number in block}
    if not between or steps[block[-1]].source != steps[run.start].source:
        return run
    for number in sorted(between):
        if any(operand in inside for operand in steps[number].inputs):
            return run
    order = [*sorted(between), *sorted(block)]
    first = run.start - len(order)
    steps[first : run.start] = [steps[number] for number in order]
    kinds[first : run.start] = [kinds[number] for number in order]
    return replace(run, start=run.start - run.period, count=run.count + 1)
