"""Kernels that differ in names alone are one: those of a network's layers are compiled once.

In: a module with kernels and launches, its loops in their final order. Out: the same module without
the kernels that repeat another one; what was launched for them is launched with that one.

    def f_loop(block, start, stop, v1, b):     parallel(f_loop, n, step, (), (v1, b_1))
        for i in range(start, stop):       =>  ...
            v1[i] += b[i]                      parallel(f_loop, n, step, (), (v2, b_2))
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from codegen.expr import Expr, Var, walk
from codegen.loops import (
    Accumulate,
    Assign,
    Comment,
    For,
    Function,
    If,
    KernelCall,
    Launch,
    Module,
    Parameter,
    Return,
    Statement,
    Store,
)
from codegen.schedule.dependence import Names, assigned, exposure
from codegen.schedule.fusion import lives
from codegen.schedule.kernels import (
    Context,
    alone,
    common_views,
    context_of,
    extents_of,
    known_extents,
    parameters,
)
from codegen.traverse import (
    Body,
    expressions,
    function_names,
    map_blocks,
    renamed,
    renamed_expr,
    statements,
    variables,
)

LAUNCHED = 3
"""The parameters that a launch gives by itself: block, start, stop."""
ENOUGH = 60
"""Parts of statements (operations, loads, stores) that a kernel has to save to be made."""


class Numbers(dict[str, str]):
    """New names for the names of a function: `#0`, `#1`, ... in the order in which they are asked
    for. All other names stay."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __missing__(self, name: str) -> str:
        return self.setdefault(name, f"#{len(self)}")

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        return self[name] if name in self.names else default


@dataclass(frozen=True)
class Shape:
    """`text` is the same for kernels that differ in names alone, which then have the parameters
    `order`, by name, in common."""

    text: str
    order: tuple[str, ...]


def shape_of(kernel: Function, own: int) -> Shape:
    """`own`: so many of the first parameters stay where they are."""
    new = Numbers(function_names(kernel))
    body = renamed(bare(kernel.body), new)
    parameters = {p.name: p for p in kernel.parameters}
    numbers = {name: new[name] for name in parameters}
    order = tuple(name for name in new if name in parameters)
    facts = (
        [(numbers[name], described(parameters[name], new)) for name in order],
        [numbers[p.name] for p in kernel.parameters[:own]],
        sorted(numbers[name] for name in kernel.apart),
        sorted((numbers[name], axis, size) for name, axis, size in kernel.extents),
    )
    return Shape(repr((body, facts)), order)  # not the objects: 0.0 equals -0.0


def described(parameter: Parameter, new: dict[str, str]) -> Parameter:
    """What is known of a parameter."""
    shape = parameter.shape and tuple(renamed_expr(extent, new) for extent in parameter.shape)
    return replace(parameter, name="", shape=shape)


def bare(body: Body) -> Body:
    """Statements without what is said to readers, and to passes that are done."""

    def changed(statement: Statement) -> Statement:
        statement = map_blocks(statement, bare)
        if isinstance(statement, For):
            statement = replace(statement, whole=None)
        return replace(statement, comment="") if hasattr(statement, "comment") else statement

    return tuple(map(changed, body))


def unique(module: Module) -> Module:
    """The module with one kernel for all that differ in names alone."""
    first: dict[str, tuple[Function, Shape]] = {}
    stands_for: dict[str, tuple[str, list[int]]] = {}
    for kernel in (function for function in module.functions if function.kernel):
        shape = shape_of(kernel, LAUNCHED)
        chosen, its = first.setdefault(shape.text, (kernel, shape))
        if chosen is not kernel:
            places = arranged(chosen, its, kernel, shape)[LAUNCHED:]
            stands_for[kernel.name] = chosen.name, [place - LAUNCHED for place in places]
    if not stands_for:
        return module

    def launched(statement: Statement) -> Statement:
        match map_blocks(statement, lambda block: tuple(map(launched, block))):
            case Launch(kernel, args=args) as launch if kernel in stands_for:
                name, places = stands_for[kernel]
                return replace(launch, kernel=name, args=tuple(args[place] for place in places))
            case other:
                return other

    functions = (f for f in module.functions if f.name not in stands_for)
    return replace(
        module,
        functions=tuple(replace(f, body=tuple(map(launched, f.body))) for f in functions),
    )


def arranged(chosen: Function, its: Shape, other: Function, shape: Shape) -> list[int]:
    """For each parameter of `chosen` the number of the one of `other` that does the same."""
    place = {p.name: number for number, p in enumerate(other.parameters)}
    same = {new: place[old] for new, old in zip(its.order, shape.order, strict=True)}
    return [same[p.name] for p in chosen.parameters]


def shared(module: Module) -> Module:
    """The module in whose functions loop nests that differ in names alone are calls of one kernel,
    where that saves enough."""
    constants = frozenset(name for name, _ in module.constants)
    functions: list[Function] = []
    for function in module.functions:
        functions += calling_kernels(function, constants)
    return replace(module, functions=tuple(functions))


def calling_kernels(function: Function, constants: Names) -> list[Function]:
    """The function after the kernels that it calls."""
    groups: dict[str, list[tuple[int, Function, Shape]]] = {}
    context = context_of(function, constants)
    for number, (statement, later) in enumerate(
        zip(function.body, lives(function.body, frozenset()), strict=True)
    ):
        if is_nest(statement) and stands_alone(statement, later, context):
            kernel = nest_kernel(statement, context)
            shape = shape_of(kernel, 0)
            groups.setdefault(shape.text, []).append((number, kernel, shape))
    body, kernels = list(function.body), []
    for group in groups.values():
        _, chosen, its = group[0]
        if (len(group) - 1) * size(chosen.body) < ENOUGH:
            continue
        chosen = replace(chosen, name=context.scope.named(f"{function.name}_nest"))
        kernels.append(chosen)
        for number, kernel, shape in group:
            given = [kernel.parameters[at] for at in arranged(chosen, its, kernel, shape)]
            args = tuple(p.name if p.rank else Var(p.name, p.dtype) for p in given)
            body[number] = KernelCall(chosen.name, args, comment_of(function.body[number]))
    return [*kernels, replace(function, body=tuple(body))]


def is_nest(statement: Statement) -> bool:
    """Whether it is made of loops, numbers and elements alone: nothing in it can fail, and it holds
    no memory."""
    inside = For | If | Assign | Store | Accumulate | Comment
    return isinstance(statement, For) and all(
        isinstance(s, inside) for s in statements((statement,))
    )


def stands_alone(statement: Statement, later: Names, context: Context) -> bool:
    """Whether its only effects are on arrays, and all that it reads has a type."""
    needed = exposure((statement,))[0]
    made = set(assigned(statement))
    known = context.types.keys() | context.constants
    return needed <= known and not made & (needed | later)


def nest_kernel(loop: Statement, context: Context) -> Function:
    """The function of a nest, its parameters the arrays and numbers that it reads or writes."""
    body: Body = (loop, Return(()))
    arrays = [p.name for p in parameters(body, (), context) if p.rank]
    body = (*common_views(arrays, context), *body)
    given = parameters(body, (), context)
    arrays = [p.name for p in given if p.rank]
    numbers = {p.name for p in given if not p.rank}
    known = tuple(replace(p, shape=known_shape(p, numbers, context)) for p in given)
    doc = f"A loop of {context.function.name}, for several arrays."
    facts = alone(arrays, context), known_extents(arrays, {}, context)
    return Function("", known, body, doc, kernel=True, apart=facts[0], extents=facts[1])


def known_shape(
    array: Parameter, numbers: Collection[str], context: Context
) -> tuple[Expr, ...] | None:
    """The extents of an array by the numbers that the nest is given: as LLVM would know them."""
    shape = extents_of(array.name, context)
    return shape if shape and all(variables(part) <= set(numbers) for part in shape) else None


def size(body: Body) -> int:
    """How many operations, loads and stores there are."""
    return sum(1 + sum(1 for expr in expressions(s) for _ in walk(expr)) for s in statements(body))


def comment_of(nest: Statement) -> str:
    """What is said of the last of its statements that says something: where its result comes
    from."""
    said = [getattr(s, "comment", "") for s in statements((nest,))]
    return next((text for text in reversed(said) if text), "")
