"""Given results: arrays that a function would allocate and return become parameters, so that its
caller says where results go.

In: a function with `into` set, after all other passes. Out: the same function, where each result
array whose extents are known on entry is a further parameter; what remains is returned.

    def f(x):                              def f(x, d_x):
        n = x.shape[0]                         n = x.shape[0]
        d_x = np.empty(n)           =>         for i in range(n):
        for i in range(n):                         d_x[i] = 2.0 * x[i]
            d_x[i] = 2.0 * x[i]                return y
        return y, d_x
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from codegen.expr import Const, Expr, Var
from codegen.loops import Alloc, For, Function, Parameter, Return, Statement, Store, View
from codegen.records import dataclass
from codegen.schedule.dependence import aliases
from codegen.traverse import Body, arrays, defined, function_names, statements, variables


@dataclass(frozen=True)
class Place:
    """A result that the caller can allocate: its name, its place among the results, the statement
    that allocates its memory, and its shape."""

    name: str
    number: int
    alloc: Alloc
    shape: tuple[Expr, ...]

    @property
    def parameter(self) -> Parameter:
        return Parameter(
            self.name, self.alloc.dtype, len(self.shape), self.shape, result=self.number
        )


def given_results(function: Function) -> Function:
    """`function` with its result arrays as parameters; itself if `into` is not set."""
    places = list(_places(function)) if function.into else []
    if not places:
        return function
    named = {place.name: place for place in places}
    by_root = {place.alloc.array: place for place in places}
    taken = function_names(function)
    body: list[Statement] = []
    for statement in function.body:
        match statement:
            case Alloc(array) if array in by_root:
                body += _taken_over(by_root[array], taken)
            case View(array) if array in named:
                pass
            case Return(values):
                rest = tuple(value for value in values if value not in named)
                body.append(replace(statement, values=rest))
            case _:
                body.append(statement)
    parameters = (*function.parameters, *(place.parameter for place in places))
    where = f"; into {', '.join(named)}, which the caller gives"
    return replace(function, parameters=parameters, body=tuple(body), doc=function.doc + where)


def _taken_over(place: Place, taken: set[str]) -> Iterator[Statement]:
    """What stands in place of the allocation: another name, and the fill."""
    alloc = place.alloc
    if alloc.array != place.name:
        shape = None if place.shape == alloc.shape else alloc.shape
        yield View(alloc.array, place.name, shape, comment=alloc.comment)
    if alloc.fill is not None:
        names = [_unused(f"{letter}_fill", taken) for letter in "ijklmnopqrstuvw"]
        index = tuple(Var(name) for name, _ in zip(names, alloc.shape, strict=False))
        body: Body = (Store(alloc.array, index, Const(alloc.fill, alloc.dtype)),)
        for var, extent in reversed(list(zip(index, alloc.shape, strict=True))):
            body = (For(var, extent, body),)
        yield from body


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _places(function: Function) -> Iterator[Place]:
    """The results that are a whole array allocated at the top level, in a shape known on entry."""
    values = function.body[-1].values if isinstance(function.body[-1], Return) else ()
    returned = [value for value in values if isinstance(value, str)]
    names = Counter(name for part in statements(function.body) for name in defined(part))
    top = {name: s for s in function.body for name in defined(s) if names[name] == 1}
    roots = aliases(function)
    owners = Counter(roots.get(name, name) for name in returned)
    entry = {name for name, _, _ in function.sizes}
    for number, name in enumerate(values):
        if not isinstance(name, str):
            continue
        alloc = top.get(roots.get(name, name))
        if not isinstance(alloc, Alloc) or owners[alloc.array] > 1:
            continue
        shape = _shape(name, alloc, top)
        if shape is not None and all(_known(size, entry) for size in (*shape, *alloc.shape)):
            yield Place(name, number, alloc, shape)


def _shape(name: str, alloc: Alloc, top: dict[str, Statement]) -> tuple[Expr, ...] | None:
    """The shape of the result `name`, if it is the whole memory of `alloc` in order."""
    shape: tuple[Expr, ...] | None = None
    while name != alloc.array:
        view = top.get(name)
        if not isinstance(view, View) or view.axes is not None or view.at:
            return None
        shape = shape if shape is not None else view.shape
        name = view.base
    return shape if shape is not None else alloc.shape


def _known(size: Expr, entry: set[str]) -> bool:
    return variables(size) <= entry and not arrays(size)
