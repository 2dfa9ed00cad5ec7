"""Kernels that differ in names alone are one: those of a network's layers are compiled once.

In: a module with kernels and launches, its loops in their final order. Out: the same module without
the kernels that repeat another one; what was launched for them is launched with that one.

    def f_loop(block, start, stop, v1, b):     parallel(f_loop, n, step, (), (v1, b_1))
        for i in range(start, stop):       =>  ...
            v1[i] += b[i]                      parallel(f_loop, n, step, (), (v2, b_2))

On one thread loop nests become kernels where several are alike; those may differ in numbers too,
which are then given to the kernel.

    for i in range(n): u[i] = exp(x[i]) / 1.3     =>     f_nest(n, u, x, 1.3)
    for i in range(n): v[i] = exp(y[i]) / 1.7            f_nest(n, v, y, 1.7)
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np

from codegen.expr import Call, Const, Expr, Var, walk
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
from codegen.records import dataclass
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
    deep_map,
    expressions,
    function_names,
    map_blocks,
    renamed_expr,
    statements,
    substitute,
    variables,
)
from codegen.vecmath import is_long

LOOPS, EXPRESSIONS = For.__module__, Var.__module__
LAUNCHED = 3
"""The parameters that a launch gives by itself: block, start, stop."""
ENOUGH = 60
"""Parts of statements (operations, loads, stores) that a kernel has to save to be made."""
LONG = 20
"""So many parts is a function of vector math."""
ARITHMETIC = ("add", "subtract", "multiply", "divide")
"""Functions that cost the same with any number."""


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
    body = text_of(kernel.body, new)
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


NAMES = ("name", "array", "base", "target", "args", "outs", "sums", "values", "bundle")
"""Fields of statements and expressions that hold names."""
UNSAID = ("comment", "whole")
"""Fields that say something to readers, or to passes that are done."""


def text_of(part: Any, new: Numbers, named: bool = False) -> str:
    """A part of a program under new names: what two parts have in common that differ in names."""
    if isinstance(part, tuple):
        return f"({','.join([text_of(one, new, named) for one in part])})"
    if isinstance(part, str) and named:
        return new.get(part, repr(part))
    if type(part).__module__ not in (LOOPS, EXPRESSIONS):
        return part.str if isinstance(part, np.dtype) else repr(part)
    told = [text_of(getattr(part, name), new, named) for name, named in told_fields(type(part))]
    return f"{type(part).__name__}({','.join(told)})"


@cache
def told_fields(kind: type) -> tuple[tuple[str, bool], ...]:
    """The fields by which parts of a program differ, and whether they hold names."""
    names = (field.name for field in fields(kind) if field.name not in UNSAID)
    return tuple((name, name in NAMES) for name in names)


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
        functions += [function] if function.kernel else calling_kernels(function, constants)
    return replace(module, functions=tuple(functions))


@dataclass(frozen=True)
class Nest:
    """A loop nest of a function, its statement of that `number`, as a kernel that is given
    `values`, by the names of its parameters."""

    number: int
    kernel: Function
    shape: Shape
    values: dict[str, Const]


def calling_kernels(function: Function, constants: Names) -> list[Function]:
    """The function after the kernels that it calls."""
    groups: dict[str, list[Nest]] = {}
    context = context_of(function, constants)
    factors = Factors(context)
    for number, (statement, later) in enumerate(
        zip(function.body, lives(function.body, frozenset()), strict=True)
    ):
        if is_nest(statement) and stands_alone(statement, later, context):
            (loop,), values = factors.taken((statement,))
            kernel = nest_kernel(loop, context)
            shape = shape_of(kernel, 0)
            groups.setdefault(shape.text, []).append(Nest(number, kernel, shape, values))
    body, kernels = list(function.body), []
    for group in groups.values():
        if (len(group) - 1) * size(group[0].kernel.body) < ENOUGH:
            continue
        name = context.scope.named(f"{function.name}_nest")
        chosen = with_common_values(group, name)
        kernels.append(chosen)
        taken = {p.name for p in chosen.parameters}
        for nest in group:
            places = arranged(group[0].kernel, group[0].shape, nest.kernel, nest.shape)
            args = tuple(
                argument(nest.kernel.parameters[at], nest.values)
                for p, at in zip(group[0].kernel.parameters, places, strict=True)
                if p.name in taken
            )
            comment = comment_of(function.body[nest.number])
            body[nest.number] = KernelCall(chosen.name, args, comment)
    return [*kernels, replace(function, body=tuple(body))]


def argument(parameter: Parameter, values: Mapping[str, Const]) -> str | Expr:
    if parameter.rank:
        return parameter.name
    return values.get(parameter.name, Var(parameter.name, parameter.dtype))


def with_common_values(group: Sequence[Nest], name: str) -> Function:
    """The kernel of the first nest for all of them; numbers that are the same in all stay in it."""
    kernel, values = group[0].kernel, group[0].values
    same: dict[str, Expr] = {
        factor: value
        for factor, value in values.items()
        if all(repr(nest.values[factor]) == repr(value) for nest in group)
    }
    parameters = tuple(p for p in kernel.parameters if p.name not in same)
    return replace(kernel, name=name, parameters=parameters, body=substitute(kernel.body, same))


class Factors:
    """Parameters in the place of the numbers of a nest, by which another one may differ from it:
    those with which it calculates. Zero and powers of two stay, as LLVM makes something of them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._names: dict[tuple[int, np.dtype], str] = {}

    def taken(self, body: Body) -> tuple[Body, dict[str, Const]]:
        """The body with parameters, and their values."""
        names: dict[tuple[str, np.dtype], str] = {}
        values: dict[str, Const] = {}

        def named(part: Expr) -> Expr:
            if not isinstance(part, Const) or not is_factor(part):
                return part
            key = repr(part.value), part.dtype
            if key not in names:
                names[key] = self._name(len(names), part.dtype)
                values[names[key]] = part
            return Var(names[key], part.dtype)

        def rule(expr: Expr) -> Expr:
            match expr:
                case Call(function, args) if function in ARITHMETIC:
                    return replace(expr, args=tuple(map(named, args)))
            return expr

        return deep_map(body, rule), values

    def _name(self, number: int, dtype: np.dtype) -> str:
        if (number, dtype) not in self._names:
            name = self._context.scope.named("factor")
            self._names[number, dtype] = name
            self._context.types[name] = (dtype, 0)
        return self._names[number, dtype]


def is_factor(number: Const) -> bool:
    if number.dtype.kind != "f" or not math.isfinite(number.value):
        return False
    return abs(math.frexp(number.value)[0]) not in (0.0, 0.5)


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
    """How many operations, loads and stores there are; vector math is many."""
    parts = (part for s in statements(body) for expr in expressions(s) for part in walk(expr))
    return sum(1 for _ in statements(body)) + sum(LONG if is_vector_math(p) else 1 for p in parts)


def is_vector_math(part: Expr) -> bool:
    return isinstance(part, Call) and is_long(part.function, part.dtype)


def comment_of(nest: Statement) -> str:
    """What is said of the last of its statements that says something: where its result comes
    from."""
    said = [getattr(s, "comment", "") for s in statements((nest,))]
    return next((text for text in reversed(said) if text), "")
