"""Loop order: the passes that turn a loop program as it was lowered into one that runs fast.

In: a `loops.Function` with a loop nest per operation or group. Out: the same function with fewer
nests, smaller temporaries and sums that are fast and accurate. Each pass is a plain function;
`PASSES` is the whole pipeline, in order.
"""

from __future__ import annotations

from dataclasses import replace

from codegen.loops import Function, Module
from codegen.schedule.collapse import collapse
from codegen.schedule.contraction import contract
from codegen.schedule.copies import unify
from codegen.schedule.fusion import fuse
from codegen.schedule.given import given_results
from codegen.schedule.invariants import hoist
from codegen.schedule.registers import promote
from codegen.schedule.reuse import reuse, reused
from codegen.schedule.strips import stripped
from codegen.schedule.sums import accurate
from codegen.schedule.tidy import tidy

STRUCTURE = (tidy, fuse, contract, unify, tidy, reuse)
"""The passes that settle which loop nests there are, what lives inside them and in whose memory."""

PASSES = (*STRUCTURE, hoist, stripped, collapse, promote, accurate, given_results)


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
