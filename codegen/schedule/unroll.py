"""Short loops: a loop of a few iterations, inside of another one, is written out.

In: a function after fusion. Out: the same function where a loop over an extent that is a small
number is its iterations one after the other, and a temporary array of a few elements is as many
scalars. Then the loop around is an innermost one: LLVM vectorises it, and its sums are taken in
blocks. (A nest that becomes one loop over contiguous elements stays: that is faster still.)

    for i in range(n):                          for i in range(n):
        s = 0.0                                     s = 0.0
        for k in range(2):                          s += x[i, 0] * x[i, 0]
            s += x[i, k] * x[i, k]          =>      s += x[i, 1] * x[i, 1]
        for k in range(2):                          y[i, 0] = s * x[i, 0]
            y[i, k] = s * x[i, k]                   y[i, 1] = s * x[i, 1]
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import prod

from codegen.expr import BOOL, Call, Const, Expr, Load, Select, Var, integer, walk
from codegen.loops import (
    Accumulate,
    Alloc,
    Assign,
    Comment,
    For,
    ForeignCall,
    Forward,
    Function,
    Launch,
    LibraryCall,
    Return,
    Statement,
    Store,
)
from codegen.schedule.collapse import Shape, fits, known_shapes, levels, plain
from codegen.schedule.contraction import contract
from codegen.schedule.dependence import aliases, exposure, used
from codegen.schedule.fusion import Scope, fuse, same_value
from codegen.traverse import (
    Body,
    deep_map,
    expressions,
    function_names,
    map_blocks,
    map_expressions,
    renamed,
    statements,
    substitute,
)

LONGEST = 4
"""Iterations that are written out: points of the plane and of space, quaternions."""
ENOUGH = 8
"""Iterations of the loop around: fewer are no vectors."""
MOST = 64
"""Statements that a loop may become: more would cost compile time."""
ELEMENTS = LONGEST * LONGEST
"""Of an array that becomes scalars."""


def unroll(function: Function) -> Function:
    """Write short loops out; what that brings together is fused and contracted anew."""
    scope = Scope(aliases(function), function_names(function))
    body = written(function.body, known_shapes(function), scope, False)
    if body == function.body:
        return function
    return contract(fuse(split(replace(function, body=body))))


def written(body: Body, shapes: dict[str, Shape], scope: Scope, inside: bool) -> Body:
    """`body` with its short loops written out; `inside`: the loop around may be vectorised then."""
    found: list[Statement] = []
    for statement in body:
        if isinstance(statement, For):
            if inside and is_short(statement):
                found += out(statement, shapes, scope, tuple(found))
                continue
            if collapses(statement, shapes):
                found.append(statement)
                continue
        inner = is_long(statement) if isinstance(statement, For) else inside
        found.append(
            map_blocks(statement, lambda block, inner=inner: written(block, shapes, scope, inner))
        )
    return tuple(found)


def is_short(loop: For) -> bool:
    match loop:
        case For(start=Const(0), stop=Const(stop), step=1, sequential=False):
            return 0 < stop <= LONGEST
    return False


def is_long(loop: For) -> bool:
    """Whether several iterations may run at once, and there may be enough of them."""
    few = isinstance(loop.stop, Const) and loop.stop.value < ENOUGH
    return not loop.sequential and not few


def collapses(loop: For, shapes: dict[str, Shape]) -> bool:
    """Whether a nest with a short loop inside becomes one loop over contiguous elements."""
    nest = levels(loop)
    short = len(nest) - next((k for k, level in enumerate(nest) if is_short(level)), len(nest))
    return any(
        plain(nest[-1].body) and fits(nest[-depth:], shapes)
        for depth in range(len(nest), max(short, 1), -1)
        if short
    )


def out(loop: For, shapes: dict[str, Shape], scope: Scope, before: Body) -> Body:
    """The iterations of a short loop, to follow `before`; the loop, if they are no plain work or
    too much of it."""
    body = written(loop.body, shapes, scope, True)
    work = [s for s in statements(body) if not isinstance(s, Comment)]
    stop = loop.stop
    assert isinstance(stop, Const)
    if not plain(body) or len(work) * stop.value > MOST:
        return (replace(loop, body=body),)
    carried = exposure(body)[0]
    own = [s.target.name for s in work if isinstance(s, Assign) and s.target.name not in carried]
    found: list[Statement] = []
    for number in range(int(stop.value)):
        # The last iteration keeps the names: its values may be looked at after the loop.
        last = number == stop.value - 1
        new = {} if last else {name: scope.local(f"{name}_{number}") for name in own}
        once = substitute(body, {loop.var.name: integer(number)})
        for statement in deep_map(renamed(once, new), folded):
            known = isinstance(statement, Assign) and same_value(
                statement, (*before, *found), scope.roots
            )
            found += [] if known else [statement]
    return tuple(found)


def folded(expr: Expr) -> Expr:
    """Arithmetic on integers that are known, and choices by it."""
    match expr:
        case Select(Const(chosen), yes, no):
            return yes if chosen else no
        case Call(function, (Const(x), Const(y)), dtype) if function in FOLDED:
            if dtype.kind == "i":
                return Const(int(FOLDED[function](x, y)), dtype)
            if dtype == BOOL and isinstance(x, int) and isinstance(y, int):
                return Const(bool(FOLDED[function](x, y)), dtype)
    return expr


FOLDED = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "equal": lambda x, y: x == y,
    "not_equal": lambda x, y: x != y,
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
}


Index = tuple[Expr, ...]
Scalars = dict[str, dict[Index, Var]]
"""For each array the scalar that stands for each of its elements."""


def split(function: Function) -> Function:
    """Temporary arrays whose elements are all named by numbers become scalars."""
    scope = Scope(aliases(function), function_names(function))
    scalars: Scalars = {}
    for alloc in splittable(function, scope.roots):
        extents = [range(int(e.value)) for e in alloc.shape if isinstance(e, Const)]
        scalars[alloc.array] = {
            tuple(map(integer, at)): Var(
                scope.named("_".join([alloc.array, *map(str, at)])), alloc.dtype
            )
            for at in product(*extents)
        }
    return replace(function, body=in_scalars(function.body, scalars)) if scalars else function


def splittable(function: Function, roots: dict[str, str]) -> list[Alloc]:
    """Small temporary arrays that are only loaded from and stored to, at indices that are numbers.

    An array of one element is left to `contract`.
    """
    allocs: dict[str, list[Alloc]] = {}
    other = {*roots, *roots.values()}
    for statement in statements(function.body):
        match statement:
            case Alloc(array):
                allocs.setdefault(array, []).append(statement)
            case Store(_, index) | Accumulate(_, tuple() as index):
                other |= set() if numbers(index) else {written_to(statement)}
            case LibraryCall() | ForeignCall() | Launch() | Return() | Forward():
                other |= used(statement)
        for expr in expressions(statement):
            other |= {p.array for p in walk(expr) if isinstance(p, Load) and not numbers(p.index)}
    return [
        alloc
        for array, (alloc, *more) in allocs.items()
        if not more and array not in other and alloc.temporary and numbers(alloc.shape)
        if 1 < prod(int(e.value) for e in alloc.shape if isinstance(e, Const)) <= ELEMENTS
    ]


def numbers(index: Index) -> bool:
    return all(isinstance(part, Const) for part in index)


def written_to(statement: Store | Accumulate) -> str:
    return statement.array if isinstance(statement, Store) else statement.target


def in_scalars(body: Body, scalars: Scalars) -> Body:
    def rule(expr: Expr) -> Expr:
        match expr:
            case Load(array, index) if array in scalars:
                return scalars[array][index]
        return expr

    found: list[Statement] = []
    for statement in body:
        statement = map_blocks(statement, lambda block: in_scalars(block, scalars))
        statement = map_expressions(statement, rule)
        match statement:
            case Alloc(array, fill=fill) if array in scalars:
                if fill is not None:
                    value = Const(fill, statement.dtype)
                    found += [Assign(v, value, statement.comment) for v in scalars[array].values()]
            case Store(array, index, value, comment) if array in scalars:
                found.append(Assign(scalars[array][index], value, comment))
            case Accumulate(target, tuple() as index) if target in scalars:
                name = scalars[target][index].name
                found.append(replace(statement, target=name, index=None))
            case _:
                found.append(statement)
    return tuple(found)
