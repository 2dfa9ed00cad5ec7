"""Loop order: the passes that turn a loop program as it was lowered into one that runs fast.

In: a `loops.Function` with a loop nest per operation or group. Out: the same function with fewer
nests, smaller temporaries and sums that are fast and accurate. Each pass is a plain function;
`PASSES` is the whole pipeline, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from codegen.expr import Expr
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


def scheduled(module: Module, threads: bool | None = False) -> Module:
    """The module with every function's loops in their final order: for large arrays, on several
    threads (True), for small ones, handing on large ones (False), or for all on one (None).
    """
    module = each(module, *STRUCTURE)
    if threads:
        split = threaded(each(module, *BEFORE_THREADS))
        return each(split, stripped, *INNER, given_results)
    limits = thresholds(each(module, *BEFORE_THREADS)) if threads is False else {}
    module = each(module, *LOOPS, *INNER, given_results)
    return forwarding(module, limits) if limits else module


def thread_limits(module: Module) -> dict[Expr, int]:
    """The steps that loops of the module take which may run on several threads, and from how many
    on they do: `n * m` and 42000."""
    return thresholds(each(module, *STRUCTURE, *BEFORE_THREADS))


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
