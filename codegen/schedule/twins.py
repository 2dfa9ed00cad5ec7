"""Kernels that differ in names alone are one: those of a network's layers are compiled once.

In: a module with kernels and launches, its loops in their final order. Out: the same module without
the kernels that repeat another one; what was launched for them is launched with that one.

    def f_loop(block, start, stop, v1, b):     parallel(f_loop, n, step, (), (v1, b_1))
        for i in range(start, stop):       =>  ...
            v1[i] += b[i]                      parallel(f_loop, n, step, (), (v2, b_2))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from codegen.loops import For, Function, Launch, Module, Parameter, Statement
from codegen.traverse import Body, function_names, map_blocks, renamed

OWN = 3
"""The parameters that a launch gives by itself: block, start, stop."""


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


def shape_of(kernel: Function) -> Shape:
    new = Numbers(function_names(kernel))
    body = renamed(bare(kernel.body), new)
    parameters = {p.name: p for p in kernel.parameters}
    numbers = {name: new[name] for name in parameters}
    order = tuple(name for name in new if name in parameters)
    facts = (
        [(numbers[name], described(parameters[name])) for name in order],
        [numbers[p.name] for p in kernel.parameters[:OWN]],
        sorted(numbers[name] for name in kernel.apart),
        sorted((numbers[name], axis, size) for name, axis, size in kernel.extents),
    )
    return Shape(repr((body, facts)), order)  # not the objects: 0.0 equals -0.0


def described(parameter: Parameter) -> Parameter:
    return replace(parameter, name="")


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
    stands_for: dict[str, tuple[Function, Mapping[str, int]]] = {}
    for kernel in (function for function in module.functions if function.kernel):
        shape = shape_of(kernel)
        chosen, its = first.setdefault(shape.text, (kernel, shape))
        if chosen is not kernel:
            place = {p.name: number for number, p in enumerate(kernel.parameters)}
            same = dict(zip(its.order, shape.order, strict=True))
            stands_for[kernel.name] = chosen, {new: place[old] for new, old in same.items()}
    if not stands_for:
        return module

    def launched(statement: Statement) -> Statement:
        match map_blocks(statement, lambda block: tuple(map(launched, block))):
            case Launch(kernel, args=args) as launch if kernel in stands_for:
                chosen, place = stands_for[kernel]
                given = (args[place[p.name] - OWN] for p in chosen.parameters[OWN:])
                return replace(launch, kernel=chosen.name, args=tuple(given))
            case other:
                return other

    functions = (f for f in module.functions if f.name not in stands_for)
    return replace(
        module,
        functions=tuple(replace(f, body=tuple(map(launched, f.body))) for f in functions),
    )
