"""Loop order: the passes that turn a loop program as it was lowered into one that runs fast.

In: a `loops.Function` with a loop nest per operation or group. Out: the same function with fewer
nests, smaller temporaries and sums that are fast and accurate. Each pass is a plain function;
`PASSES` is the whole pipeline, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

from codegen.expr import Expr, evaluated
from codegen.loops import Function, Module
from codegen.schedule.borders import peel
from codegen.schedule.collapse import collapse
from codegen.schedule.columns import rows_together
from codegen.schedule.contraction import allocate_early, contract
from codegen.schedule.copies import unify
from codegen.schedule.fusion import fuse
from codegen.schedule.given import given_results
from codegen.schedule.invariants import hoist
from codegen.schedule.parallel import forwarding, threaded, thresholds
from codegen.schedule.registers import promote
from codegen.schedule.reuse import reuse, reused
from codegen.schedule.strips import stripped
from codegen.schedule.sums import accurate
from codegen.schedule.tidy import tidy
from codegen.schedule.together import together
from codegen.schedule.twins import shared, unique
from codegen.schedule.unroll import unroll

STRUCTURE = (tidy, fuse, contract, unroll, allocate_early, unify, tidy, reuse)
"""The passes that settle which loop nests there are, what lives inside them and in whose memory."""

LOOPS = (hoist, stripped, collapse)
"""Those that make the loops what the processor likes."""

BEFORE_THREADS = (hoist, collapse)
"""What is done to loops before some of them go to several threads (and into strips there)."""

INNER = (together, peel, promote, accurate, rows_together)
"""Those that make what is in the loops fast."""

PASSES = (*STRUCTURE, *LOOPS, *INNER, given_results)


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


class Settled:
    """A module whose loop nests are settled, from which its versions are made: `threads` says
    whether loops run on several threads; an `entry` hands on calls to the other version, if there
    is one."""

    def __init__(self, module: Module) -> None:
        self.module = each(module, *STRUCTURE)

    @cached_property
    def before_threads(self) -> Module:
        return each(self.module, *BEFORE_THREADS)

    @cached_property
    def limits(self) -> dict[Expr, int]:
        """The steps that loops of the module take which may run on several threads, and from how
        many on they do: `n * m` and 42000."""
        return thresholds(self.before_threads)

    def is_large(self, extents: Mapping[str, int]) -> bool:
        """Whether these sizes are those of the version with threads."""
        found = ((evaluated(total, extents), n) for total, n in self.limits.items())
        return any(value is not None and value >= enough for value, enough in found)

    def version(self, threads: bool, entry: bool = True) -> Module:
        """The module with every function's loops in their final order."""
        if threads:
            made = unique(each(threaded(self.before_threads), stripped, *INNER, given_results))
        else:
            made = each(self.module, *LOOPS, *INNER, given_results)
        made = shared(made)
        return forwarding(made, self.limits, not threads) if entry and self.limits else made


def scheduled(module: Module, threads: bool = False, entry: bool = True) -> Module:
    """One version of a module, as `Settled` makes it."""
    return Settled(module).version(threads, entry)


def each(module: Module, *steps: Callable[[Function], Function]) -> Module:
    for step in steps:
        module = replace(module, functions=tuple(map(step, module.functions)))
    return module


def donating(module: Module, numbers: frozenset[int]) -> Module:
    """The module with these parameters of its only function donated."""
    (function,) = module.functions
    parameters = tuple(
        replace(parameter, donated=number in numbers)
        for number, parameter in enumerate(function.parameters)
    )
    return replace(module, functions=(replace(function, parameters=parameters),))


def into(module: Module) -> Module:
    """The module whose functions take their result arrays from the caller, where possible."""
    return replace(module, functions=tuple(replace(f, into=True) for f in module.functions))


def consumes(module: Module) -> bool:
    """Whether any function of the module makes use of the memory of a donated parameter."""
    return any(
        {p.name for p in function.parameters if p.donated} & {*reused(structure(function)).values()}
        for function in module.functions
    )
