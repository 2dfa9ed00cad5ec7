"""Loop order: the passes that turn a loop program as it was lowered into one that runs fast.

In: a `loops.Function` with a loop nest per operation or group. Out: the same function with fewer
nests, smaller temporaries and sums that are fast and accurate. Each pass is a plain function;
`PASSES` is the whole pipeline, in order.
"""

from __future__ import annotations

from codegen.loops import Function
from codegen.schedule.collapse import collapse
from codegen.schedule.contraction import contract
from codegen.schedule.copies import unify
from codegen.schedule.fusion import fuse
from codegen.schedule.registers import promote
from codegen.schedule.reuse import reuse
from codegen.schedule.sums import accurate
from codegen.schedule.tidy import tidy

STRUCTURE = (tidy, fuse, contract, unify, tidy, reuse)
"""The passes that settle which loop nests there are, what lives inside them and in whose memory."""

PASSES = (*STRUCTURE, collapse, promote, accurate)


def structure(function: Function) -> Function:
    """`function` with its final loop nests, before they are made fast: what a reader is told."""
    for step in STRUCTURE:
        function = step(function)
    return function


def optimize(function: Function) -> Function:
    """`function` after all passes."""
    for step in PASSES:
        function = step(function)
    return function
