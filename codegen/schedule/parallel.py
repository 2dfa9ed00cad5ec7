"""Loops on several threads: the body of a loop becomes a function of its own, run block by block.

In: a module after its loops have been settled. Out: the same module for large arrays: a kernel for
each loop whose iterations are independent, and launches in the places of these loops.

    for i in range(n):              step = max(1000, (n + 63) // 64)
        y += x[i]                   blocks = (n + step - 1) // step
                             =>     y_blocks = np.empty(blocks)
                                    parallel(f_loop, n, step, (y_blocks,), (x,))
                                    for block in range(blocks):
                                        y += y_blocks[block]

What is summed is summed for each block, then over the blocks in their order. How large blocks are
depends on the extents alone, so the result is the same for every number of threads.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np

from codegen.expr import (
    BOOL,
    INT,
    Call,
    Const,
    Expr,
    Load,
    Var,
    add,
    floor_divide,
    integer,
    multiply,
    subtract,
    walk,
)
from codegen.loops import (
    Accumulate,
    Alloc,
    Assign,
    Check,
    For,
    Forward,
    Function,
    Launch,
    Module,
    Return,
    Statement,
)
from codegen.records import dataclass
from codegen.schedule import worth
from codegen.schedule.dependence import Names, exposure
from codegen.schedule.fusion import Scope, inner, lives
from codegen.schedule.independent import Split, identity, split
from codegen.schedule.kernels import Context, context_of, kernel_of, types_of
from codegen.schedule.worth import Work, work
from codegen.traverse import Body, blocks, function_names, map_blocks, variables


@dataclass(frozen=True)
class Candidate:
    """A loop that can run on several threads, and what it costs."""

    loop: For
    split: Split
    work: Work


def threaded(module: Module) -> Module:
    """The version for large arrays; the same module if none of its loops can be split."""
    functions: list[Function] = []
    constants = frozenset(name for name, _ in module.constants)
    for function in module.functions:
        context = context_of(function, constants)
        body = launched(function.body, frozenset(), context)
        functions += [*context.kernels, replace(function, body=body)]
    return replace(module, functions=tuple(functions))


def forwarding(module: Module, limits: dict[Expr, int], threads: bool) -> Module:
    """A version that hands on calls to the other one: those with one of these extents or a larger
    one to the one with `threads`, all others to the one without."""
    functions = (f if f.kernel else forwarded(f, limits, threads) for f in module.functions)
    return replace(module, functions=tuple(functions))


def candidates(body: Body, live: Names, context: Context) -> list[Candidate]:
    """The outermost loops that can be split, at any depth."""
    found: list[Candidate] = []
    for statement, later in zip(body, lives(body, live), strict=True):
        one = candidate(statement, later, context)
        if one is not None:
            found.append(one)
            continue
        for block in blocks(statement):
            found += candidates(block, inner(statement, later), context)
    return found


def candidate(statement: Statement, live: Names, context: Context) -> Candidate | None:
    if not isinstance(statement, For):
        return None
    found = split(statement, live, context.around)
    needed, _ = exposure((statement,))
    if found is None or not needed - context.constants <= set(context.types):
        return None
    costs = work(statement)
    if isinstance(costs.total, Const) and costs.total.value < costs.enough:
        return None
    return Candidate(statement, found, costs)


def launched(body: Body, live: Names, context: Context) -> Body:
    """`body` with launches where loops were."""
    found: list[Statement] = []
    for statement, later in zip(body, lives(body, live), strict=True):
        one = candidate(statement, later, context)
        if one is not None:
            found += launch(one, context)
            continue
        ends = inner(statement, later)
        found.append(map_blocks(statement, lambda block, end=ends: launched(block, end, context)))
    return tuple(s for s in found if s not in context.moved)


def launch(one: Candidate, context: Context) -> Body:
    """The loop as a launch: memory for the sums of the blocks before it, all of them added after
    it."""
    named = context.scope.named
    step, count, block = (Var(named(name)) for name in ("step", "blocks", "block"))
    total = one.loop.stop
    parts: list[Statement] = [
        Assign(step, block_size(one, context)),
        Assign(count, ceiling(total, step)),
    ]
    after: list[Statement] = []
    sums: list[str] = []
    for update in one.split.scalars:
        array = named(f"{update.target}_blocks")
        sums.append(array)
        parts.append(Alloc(array, (count,), update.dtype))
        value = Load(array, (block,), update.dtype)
        after.append(replace(update, value=value, comment=""))
    if one.split.checks:
        sums.append(named("failed_blocks"))
        parts.append(Alloc(sums[-1], (count,), INT))
        after += raised(one.split.checks, Load(sums[-1], (block,), INT))
    copies: dict[str, str] = {}
    for update in one.split.arrays:
        array = copies[update.target] = named(f"{update.target}_blocks")
        shape, fill = shape_of(update, context), identity(update.combine, update.dtype)
        parts.append(Alloc(array, (count, *shape), update.dtype, fill))
        after.append(combined(update, array, shape, block, context.scope))
    kernel = kernel_of(one.loop, one.split, block, copies, context)
    context.kernels.append(kernel)
    args = tuple(p.name if p.rank else Var(p.name, p.dtype) for p in kernel.parameters[3:])
    call = Launch(kernel.name, total, step, count, block, tuple(sums), args, one.loop.comment)
    most = worth.MOST_BLOCKS
    combine = (For(block, count, tuple(after), most=most),) if after else ()
    return (*parts, call, *combine)


def raised(checks: tuple[tuple[str, str], ...], failed: Expr) -> list[Statement]:
    """What the iterations of a block did not pass, raised: blocks are looked at in their order, and
    each ended where it failed, so it is the error of the first iteration that has one."""
    return [
        Check(Call("not_equal", (failed, integer(number)), BOOL), error, message)
        for number, (error, message) in enumerate(checks, 1)
    ]


def block_size(one: Candidate, context: Context) -> Expr:
    """Iterations of a block: as many as are worth handing out (and worth a copy of the arrays that
    all of them add to), and so many that there are not too many blocks."""
    costs = one.work
    smallest: Expr = integer(costs.smallest)
    for update in one.split.arrays:
        size = reduce(multiply, shape_of(update, context), integer(worth.COPIED))
        smallest = Call("maximum", (smallest, size), INT)
    if costs.inner != integer(1):
        inside = Call("maximum", (costs.inner, integer(1)), INT)
        smallest = Call("floor_divide", (smallest, inside), INT)
        smallest = Call("maximum", (smallest, integer(1)), INT)
    most = worth.MOST_COPIES if one.split.arrays else worth.MOST_BLOCKS
    return Call("maximum", (smallest, ceiling(costs.outer, integer(most))), INT)


def ceiling(a: Expr, b: Expr) -> Expr:
    """`a / b`, rounded up."""
    return floor_divide(subtract(add(a, b), integer(1)), b)


def shape_of(update: Accumulate, context: Context) -> tuple[Expr, ...]:
    (alloc,) = context.around.definitions[update.target]
    assert isinstance(alloc, Alloc)
    return alloc.shape


def combined(
    update: Accumulate, array: str, shape: tuple[Expr, ...], block: Var, scope: Scope
) -> Statement:
    """Loops that accumulate one block's copy of an array into the array."""
    index = tuple(Var(scope.local(f"{block.name}_{letter}")) for letter in "ijklmnpq"[: len(shape)])
    value = Load(array, (block, *index), update.dtype)
    body: Statement = replace(update, index=index, value=value, comment="")
    for var, extent in reversed(list(zip(index, shape, strict=True))):
        body = For(var, extent, (body,))
    return body


def limits(function: Function, context: Context) -> dict[Expr, int]:
    """How many steps the loops that can be split take in all, and from how many on threads pay;
    for loops whose extents are known when the function is called."""
    sizes = {name for name, _, _ in function.sizes}
    found: dict[Expr, int] = {}
    for one in candidates(function.body, frozenset(), context):
        total = one.work.total
        if variables(total) <= sizes and not any(isinstance(e, Load) for e in walk(total)):
            found[total] = min(one.work.enough, found.get(total, one.work.enough))
    return found


def thresholds(module: Module) -> dict[Expr, int]:
    """`limits` of a module whose loops are settled."""
    constants = frozenset(name for name, _ in module.constants)
    found: dict[Expr, int] = {}
    for function in module.functions:
        found |= limits(function, context_of(function, constants))
    return found


def forwarded(function: Function, limits: dict[Expr, int], threads: bool) -> Function:
    """The function with a test at its start: what is for the other version goes there."""
    returns = results(function)
    if returns is None:
        return function
    test, both = ("greater_equal", "logical_or") if threads else ("less", "logical_and")
    tests = [Call(test, (total, integer(enough)), BOOL) for total, enough in limits.items()]
    condition = reduce(lambda a, b: Call(both, (a, b), BOOL), tests)
    name = Scope({}, function_names(function)).named("threaded" if threads else "single")
    args = tuple(parameter.name for parameter in function.parameters)
    forward = Forward(condition, threads, name, returns, args)
    return replace(function, body=(forward, *function.body))


def results(function: Function) -> tuple[tuple[np.dtype, int], ...] | None:
    """Type and rank of what the function returns, where that is plain to see."""
    types = types_of(function)
    *_, last = function.body
    if not isinstance(last, Return):
        return None
    found = [
        types.get(value) if isinstance(value, str) else (value.dtype, 0) for value in last.values
    ]
    known = tuple(pair for pair in found if pair is not None)
    return known if len(known) == len(found) else None
