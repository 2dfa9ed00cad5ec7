"""Kernels: the body of a loop that runs on several threads, as a function of a range of iterations.

In: a loop, what its iterations add up, the function around. Out: a function that other ones launch,
with what is known of the arrays that it is given.

    for i in range(n):                 def f_loop(block, start, stop, x):
        s += x[i]                =>        s = 0.0
                                           for i in range(start, stop):
                                               s += x[i]
                                           return s
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import field, replace
from functools import cached_property

import numpy as np

from codegen.expr import BOOL, INT, Call, Const, Expr, Var, integer
from codegen.loops import (
    Accumulate,
    Alloc,
    Assign,
    Check,
    For,
    Function,
    If,
    Parameter,
    Return,
    Statement,
    View,
)
from codegen.records import dataclass
from codegen.schedule.dependence import Names, aliases, exposure
from codegen.schedule.fusion import Scope
from codegen.schedule.independent import Around, Split, identity
from codegen.traverse import Body, function_names, map_blocks, statements, variables


@dataclass
class Context:
    """What holds for one function, and the kernels taken out of it so far."""

    function: Function
    around: Around
    scope: Scope
    constants: Names
    types: dict[str, tuple[np.dtype, int]]
    kernels: list[Function] = field(default_factory=list)
    moved: list[Statement] = field(default_factory=list)
    """Allocations and views that now stand in kernels."""

    @cached_property
    def temporaries(self) -> frozenset[str]:
        """The arrays that the function allocates for itself, in one place each."""
        return frozenset(
            name
            for name, definitions in self.around.definitions.items()
            if len(definitions) == 1
            and isinstance(definitions[0], Alloc)
            and definitions[0].temporary
        )


def context_of(function: Function, constants: Names) -> Context:
    scope = Scope(aliases(function), function_names(function) | constants)
    return Context(function, Around(function), scope, constants, types_of(function))


def types_of(function: Function) -> dict[str, tuple[np.dtype, int]]:
    """Type and rank of every array and scalar."""
    found: dict[str, tuple[np.dtype, int]] = {
        p.name: (p.dtype, p.rank) for p in function.parameters
    }
    found |= {name: (INT, 0) for name, _, _ in function.sizes}
    for part in statements(function.body):
        match part:
            case Assign(target) | For(target):
                found[target.name] = (target.dtype, 0)
            case Accumulate(target, None, dtype=dtype):
                found[target] = (dtype, 0)
            case Alloc(array, shape, dtype):
                found[array] = (dtype, len(shape))
            case View(array, base, shape, at=at) if base in found:
                dtype, rank = found[base]
                found[array] = (dtype, rank - len(at) if shape is None else len(shape))
    return found


def kernel_of(
    loop: For, found: Split, block: Var, copies: dict[str, str], context: Context
) -> Function:
    """The function of a range of iterations that returns what they sum up to."""
    function = context.function
    name = context.scope.named(f"{function.name}_loop")
    start, stop = (Var(context.scope.local(name)) for name in ("start", "stop"))
    sums = [Var(update.target, update.dtype) for update in found.scalars]
    starts = (
        Assign(var, Const(identity(update.combine, update.dtype), update.dtype))
        for var, update in zip(sums, found.scalars, strict=True)
    )
    scratch = found.scratch
    context.moved += scratch
    inside = ending(into_copies(loop.body, copies, block), found.checks, tuple(sums))
    passed = (integer(0),) if found.checks else ()
    body = (
        *scratch,
        *starts,
        replace(loop, start=start, stop=stop, body=inside, whole=loop.stop),
        Return((*sums, *passed)),
    )
    context.types.update({new: copy_type(old, context) for old, new in copies.items()})
    own = tuple(Parameter(var.name, INT, 0) for var in (block, start, stop))
    given = parameters(body, own, context)
    body = (*common_views([p.name for p in given if p.rank], context), *body)
    given = parameters(body, own, context)
    doc = f"Some iterations of a loop of {function.name}; any thread may run them."
    apart = (*alone([p.name for p in given if p.rank], context), *copies.values())
    extents = known_extents([p.name for p in given if p.rank], copies, context)
    return Function(name, (*own, *given), body, doc, kernel=True, apart=apart, extents=extents)


def parameters(body: Body, own: Iterable[Parameter], context: Context) -> tuple[Parameter, ...]:
    """What a kernel is given beside its `own` parameters."""
    needed = exposure(body)[0] - context.constants - {parameter.name for parameter in own}
    return tuple(Parameter(n, *context.types[n]) for n in context.types if n in needed)


def common_views(arrays: Sequence[str], context: Context) -> Body:
    """Names for the same memory, made again inside of the kernel: LLVM has to see that they are,
    or it compares addresses before loops and finds them too close."""
    chains = {array: chain(array, context) for array in arrays}
    ends = Counter(found[0].base if found else array for array, found in chains.items())
    shared = (v for found in chains.values() if found and ends[found[0].base] > 1 for v in found)
    return tuple(dict.fromkeys(shared))


def chain(array: str, context: Context) -> list[View]:
    """The views by which an array is made from another one, as far as that is the same whenever it
    is done: `y = x`, `y_flat = y.reshape(n * m)`; the first one first."""
    found: list[View] = []
    sizes = {name for name, _, _ in context.function.sizes}
    while True:
        match context.around.definitions.get(array, []):
            case [View(base=base, shape=shape, axes=None, at=()) as view]:
                if not all(variables(extent) <= sizes for extent in shape or ()):
                    return found
                found.insert(0, view)
                array = base
            case _:
                return found


def known_extents(
    arrays: Sequence[str], copies: dict[str, str], context: Context
) -> tuple[tuple[str, int, int], ...]:
    """The extents that are numbers: with them LLVM knows how far apart rows are."""
    shapes = {array: extents_of(array, context) for array in arrays}
    shapes |= {new: (Var(new), *extents_of(old, context)) for old, new in copies.items()}
    return tuple(
        (array, axis, int(extent.value))
        for array, shape in shapes.items()
        for axis, extent in enumerate(shape)
        if isinstance(extent, Const)
    )


def extents_of(array: str, context: Context) -> tuple[Expr, ...]:
    """The shape of an array; empty if it is not known."""
    match context.around.definitions.get(array, []):
        case [Alloc(shape=shape)]:
            return shape
        case [View(base=base, shape=shape, axes=None, at=at)]:
            return extents_of(base, context)[len(at) :] if shape is None else shape
        case []:
            found = (p.shape for p in context.function.parameters if p.name == array)
            return next(found, None) or ()
    return ()


def alone(arrays: Sequence[str], context: Context) -> tuple[str, ...]:
    """Those that the function allocated for itself, and that are the only one of their memory."""
    roots = {array: context.scope.roots.get(array, array) for array in arrays}
    times = Counter(roots.values())
    return tuple(a for a, root in roots.items() if times[root] == 1 and root in context.temporaries)


def copy_type(array: str, context: Context) -> tuple[np.dtype, int]:
    dtype, rank = context.types[array]
    return dtype, rank + 1


def ending(body: Body, checks: tuple[tuple[str, str], ...], sums: tuple[Var, ...]) -> Body:
    """Checks as ends of the block, which returns the number of the one that failed: an error must
    not leave a thread."""

    def changed(statement: Statement) -> Statement:
        match map_blocks(statement, lambda inside: ending(inside, checks, sums)):
            case Check(condition, error, message, comment):
                number = integer(checks.index((error, message)) + 1)
                failed = Call("logical_not", (condition,), BOOL)
                return If(failed, (Return((*sums, number)),), (), comment)
            case other:
                return other

    return tuple(map(changed, body)) if checks else body


def into_copies(body: Body, copies: dict[str, str], block: Var) -> Body:
    """Accumulations into arrays as accumulations into the block's own copies."""

    def changed(statement: Statement) -> Statement:
        match map_blocks(statement, lambda inside: into_copies(inside, copies, block)):
            case Accumulate(target, tuple() as index) as update if target in copies:
                return replace(update, target=copies[target], index=(block, *index))
            case other:
                return other

    return tuple(map(changed, body)) if copies else body
