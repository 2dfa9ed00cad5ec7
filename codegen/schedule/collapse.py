"""Collapse: a nest of loops that walks whole arrays becomes one loop over their elements.

In: a function after fusion. Out: the same function where each perfect nest whose arrays are indexed
by exactly its loop variables, and have exactly its extents, is one loop over flat views. A short
inner loop costs more than its body: over 100,000 rows of 3 numbers this is 4 times as fast.

    for i in range(n):                     x_flat = x.reshape(n * m)
        for j in range(m):                 y_flat = y.reshape(n * m)
            y[i, j] = 2.0 * x[i, j]   =>   for ij in range(n * m):
                                               y_flat[ij] = 2.0 * x_flat[ij]
"""

from __future__ import annotations

from dataclasses import field, replace
from functools import reduce

from codegen.expr import Expr, Load, Var, children, multiply
from codegen.loops import (
    ZERO,
    Accumulate,
    Alloc,
    Assign,
    Comment,
    For,
    Function,
    If,
    Statement,
    Store,
    View,
)
from codegen.records import dataclass
from codegen.schedule.dependence import aliases, assigned
from codegen.schedule.fusion import Scope
from codegen.traverse import (
    Body,
    deep_map,
    expressions,
    function_names,
    map_blocks,
    statements,
    variables,
)

Shape = tuple[Expr, ...]


@dataclass
class Flattener:
    """The known shapes of C-contiguous arrays, and the flat views that exist so far."""

    shapes: dict[str, Shape]
    scope: Scope
    views: dict[tuple[str, int], str] = field(default_factory=dict)
    new: list[View] = field(default_factory=list)

    def view(self, array: str, depth: int, extent: Expr) -> str:
        """The name of the array with its last `depth` axes as one."""
        if (array, depth) not in self.views:
            name = self.scope.named(f"{array}_flat")
            lead = self.shapes[array][:-depth]
            self.views[array, depth] = name
            self.new.append(View(name, array, (*lead, extent)))
        return self.views[array, depth]


def collapse(function: Function) -> Function:
    scope = Scope(aliases(function), function_names(function))
    return replace(function, body=collapsed(function.body, known_shapes(function), scope))


def known_shapes(function: Function) -> dict[str, Shape]:
    """Shapes of parameters, allocations and reshaped views, as expressions of the sizes."""
    sizes = {(owner, axis): Var(name) for name, owner, axis in function.sizes}
    shapes: dict[str, Shape] = {}
    for parameter in function.parameters:
        axes = [sizes.get((parameter.name, axis)) for axis in range(parameter.rank)]
        if parameter.shape is not None:
            shapes[parameter.name] = parameter.shape
        elif all(axes):
            shapes[parameter.name] = tuple(axis for axis in axes if axis)
    for statement in statements(function.body):
        match statement:
            case Alloc(array, shape) | View(array, _, tuple() as shape):
                shapes[array] = shape
            case View(array, base) if statement.plain and base in shapes:
                shapes[array] = shapes[base]
    return shapes


def collapsed(body: Body, shapes: dict[str, Shape], scope: Scope) -> Body:
    """The views go before the outermost loop that needs them."""
    found: list[Statement] = []
    flattener = Flattener(shapes, scope)
    for statement in body:
        match statement:
            case For():
                own = {name for s in statement.body for name in assigned(s)}
                outside = {name: shape for name, shape in shapes.items() if name not in own}
                flattener.shapes = outside
                flat = flattened(statement, flattener)
                found += [*flattener.new, flat]
                flattener.new = []
            case _:
                found.append(map_blocks(statement, lambda block: collapsed(block, shapes, scope)))
    return tuple(found)


def flattened(loop: For, flattener: Flattener) -> For:
    """The loop with as many of its innermost levels as possible made one."""
    nest = levels(loop)
    for depth in range(len(nest), 1, -1):
        inner = nest[-depth:]
        if plain(inner[-1].body) and fits(inner, flattener.shapes):
            return around(nest[:-depth], flat_loop(inner, flattener))
    body = tuple(flattened(s, flattener) if isinstance(s, For) else s for s in nest[-1].body)
    return around(nest[:-1], replace(nest[-1], body=body))


def around(outer: list[For], inside: For) -> For:
    return reduce(lambda body, level: replace(level, body=(body,)), reversed(outer), inside)


def levels(loop: For) -> list[For]:
    """The loops of a perfect nest, from the outside."""
    match loop.body:
        case (For() as inner,):
            return [loop, *levels(inner)]
    return [loop]


def plain(body: Body) -> bool:
    """Whether a body is only scalar work on array elements."""
    kinds = Assign | Store | Accumulate | If | Comment
    return all(isinstance(statement, kinds) for statement in statements(body))


def fits(nest: list[For], shapes: dict[str, Shape]) -> bool:
    """Whether the loop variables occur only as the last indices of arrays of these extents."""
    if any(level.sequential for level in nest):
        return False
    if any(level.step != 1 or level.start != ZERO for level in nest):
        return False
    names = {level.var.name for level in nest}
    if any(variables(level.stop) & names for level in nest):
        return False
    whole = tuple(level.var for level in nest)
    extents = tuple(level.stop for level in nest)

    def walks(array: str, index: tuple[Expr, ...]) -> bool:
        return index[-len(nest) :] == whole and shapes.get(array, ())[-len(nest) :] == extents

    def free(expr: Expr) -> bool:
        """Whether no loop variable occurs outside such an index."""
        if isinstance(expr, Load) and walks(expr.array, expr.index):
            return all(free(part) for part in expr.index[: -len(nest)])
        if isinstance(expr, Var):
            return expr.name not in names
        return all(free(part) for part in children(expr))

    for statement in statements(nest[-1].body):
        parts = expressions(statement)
        match statement:
            case Store(array, index) | Accumulate(array, tuple() as index) if walks(array, index):
                parts = (*index[: -len(nest)], statement.value)
        if not all(free(part) for part in parts):
            return False
    return True


def flat_loop(nest: list[For], flattener: Flattener) -> For:
    depth = len(nest)
    whole = tuple(level.var for level in nest)
    extent = reduce(multiply, (level.stop for level in nest))
    var = Var(flattener.scope.named("".join(level.var.name for level in nest)))

    def moved(array: str, index: tuple[Expr, ...]) -> tuple[str, tuple[Expr, ...]]:
        if index[-depth:] != whole:
            return array, index
        return flattener.view(array, depth, extent), (*index[:-depth], var)

    def rule(expr: Expr) -> Expr:
        match expr:
            case Load(array, index):
                array, index = moved(array, index)
                return replace(expr, array=array, index=index)
        return expr

    def change(body: Body) -> Body:
        return tuple(stored(map_blocks(s, change)) for s in body)

    def stored(statement: Statement) -> Statement:
        match statement:
            case Store(array, index) | Accumulate(array, tuple() as index):
                array, index = moved(array, index)
                if isinstance(statement, Store):
                    return replace(statement, array=array, index=index)
                return replace(statement, target=array, index=index)
        return statement

    body = deep_map(change(nest[-1].body), rule)
    comment = next((level.comment for level in nest if level.comment), "")
    return For(var, extent, body, comment=comment)
