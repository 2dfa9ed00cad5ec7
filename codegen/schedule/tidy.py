"""Dead code: scalars and temporary arrays that nobody reads, loops with nothing in them.

In: a function. Out: the same function without them.

    t = np.empty(n)
    for i in range(n):          for i in range(n):
        v1 = x[i] + 1.0             y[i] = x[i]
        t[i] = v1           =>
        y[i] = x[i]
"""

from __future__ import annotations

from dataclasses import replace

from codegen.loops import (
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
from codegen.schedule.dependence import used
from codegen.traverse import Body, arrays, expressions, map_blocks, statements, variables


def tidy(function: Function) -> Function:
    """Remove what is dead, until nothing is."""
    while True:
        alive = read(function.body) | kept(function)
        body = cleaned(function.body, alive)
        if body == function.body:
            return function
        function = replace(function, body=body)


def kept(function: Function) -> set[str]:
    """Arrays whose contents somebody sees: parameters, and what is not temporary."""
    found = {parameter.name for parameter in function.parameters}
    for statement in statements(function.body):
        if isinstance(statement, Alloc) and not statement.temporary:
            found.add(statement.array)
    return found


def read(body: Body) -> set[str]:
    """Every name whose value is used; storing into an array is no use of it."""
    found: set[str] = set()
    for statement in statements(body):
        match statement:
            case Store() | Accumulate():
                for expr in expressions(statement):
                    found |= variables(expr) | arrays(expr)
            case _:
                found |= used(statement)
    return found


def cleaned(body: Body, alive: set[str]) -> Body:
    kept_ones = (map_blocks(s, lambda block: cleaned(block, alive)) for s in body)
    return tuple(s for s in kept_ones if not dead(s, alive))


def dead(statement: Statement, alive: set[str]) -> bool:
    match statement:
        case Assign(target):
            return target.name not in alive
        case Alloc(array) | View(array) | Store(array) | Accumulate(array):
            return array not in alive
        case For(body=body):
            return all(isinstance(s, Comment) for s in body)
        case If(then=then, orelse=orelse):
            return not then and not orelse
    return False
