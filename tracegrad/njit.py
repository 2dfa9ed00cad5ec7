"""Gradients to call inside the user's own `@numba.njit` functions, with the function's arguments.

    gradient = tg.njit_grad(energy, x, 2.0)

    @numba.njit
    def descend(x): ... x - rate * gradient(x, 2.0)

A wrapper takes the arguments apart (nested tuples in the place of lists, dicts and dataclasses),
makes arrays contiguous, checks static arguments, and puts the results together as tuples.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numba

from codegen.library.draws import address
from codegen.wrapper import wrapper
from tracegrad.autodiff.derived import Argnums, name_of
from tracegrad.errors import UnsupportedError
from tracegrad.function import Function
from tracegrad.ir.graph import Node
from tracegrad.ir.types import StateType
from tracegrad.transforms import as_function, grad, value_and_grad
from tracegrad.tree import Branch, Leaf, Static, Tree
from tracegrad.version import Version

OPTIONS = {"error_model": "numpy", "nogil": True}


def njit_function(fun: Callable[..., Any], *args: Any) -> Any:
    """`fun` for use inside `@numba.njit` functions, compiled for arguments like `args`.

    The result takes the same arguments: arrays of the same dtype and rank and any layout, numbers;
    tuples where `fun` takes lists, dicts or dataclasses, in the order of their entries; integers,
    bools and strings have to be those of `args`. It returns what `fun` does, with tuples likewise.
    A shape or a static argument that it was not compiled for raises ValueError, another dtype or
    rank numba's TypingError. A function compiled with `cache=True` that calls it is not kept by
    numba, which says so in a warning: it could not tell when this function changes.

    >>> import numba, numpy as np, tracegrad as tg
    >>> f = tg.njit_function(lambda x: np.sum(x * x), np.ones(3))
    >>> numba.njit(lambda x: f(x) + 1.0)(np.arange(3.0))
    6.0
    """
    return embedded(as_function(fun), args)


def njit_grad(fun: Callable[..., Any], *args: Any, argnums: Argnums = 0) -> Any:
    """The gradient of `fun` for use inside `@numba.njit` functions (see `njit_function`).

    With respect to argument `argnums`, an array, a number or a nested tuple as that is; a tuple of
    them for several.

    >>> import numba, numpy as np, tracegrad as tg
    >>> gradient = tg.njit_grad(lambda x: np.sum(x * x), np.ones(3))
    >>> numba.njit(lambda x: x - 0.5 * gradient(x))(np.arange(3.0))
    array([0., 0., 0.])
    """
    return embedded(grad(fun, argnums), args)


def njit_value_and_grad(fun: Callable[..., Any], *args: Any, argnums: Argnums = 0) -> Any:
    """`(value, gradient)` of `fun` for use inside `@numba.njit` functions (see `njit_grad`)."""
    return embedded(value_and_grad(fun, argnums), args)


def embedded(function: Function, args: Sequence[Any]) -> Any:
    """A numba function around the compiled version of `function` for these arguments."""
    version, _ = function.version_for(tuple(args), {}, for_all=True)
    name = name_of(function)
    text = wrapper_text(name, function, version)
    plain = wrapper(name, text, {"run": version.primal.function, "address": address})
    plain.__doc__ = f"{function.name} for arguments like those given: {version!r}"
    return numba.njit(**OPTIONS)(plain)


def wrapper_text(name: str, function: Function, version: Version) -> str:
    """The Python text of the wrapper."""
    tree = version.input_tree
    assert isinstance(tree, Branch)
    arguments = tree.children[0]
    assert isinstance(arguments, Branch)
    names = parameter_names(function, len(arguments.children))
    taken: list[str] = []
    checks: list[str] = []
    for parameter, part in zip(names, arguments.children, strict=True):
        for path, leaf in places(parameter, part):
            if isinstance(leaf, Static):
                checks += static_check(function.name, path, leaf.value)
            else:
                taken.append(path)
    inputs = version.graph.inputs
    given = [converted(path, node) for path, node in zip(taken, inputs, strict=True)]
    results = [f"r{number}" for number in range(len(version.graph.outputs))]
    lines = [
        f"def {name}({', '.join(names)}):",
        *(f"    {line}" for line in checks),
        f"    {', '.join(results) if results else '_'} = run({', '.join(given)})",
        f"    return {structure(version.output_tree, iter(results))}",
    ]
    return "\n".join(lines) + "\n"


def parameter_names(function: Function, count: int) -> list[str]:
    """The names of the first parameters; `x0, x1, ...` where the function takes any number."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [p.name for p in function._signature.parameters.values() if p.kind in kinds]
    names = found[:count]
    taken = {"np", "run", "_", *(f"r{n}" for n in range(99))}
    names += [f"x{number}" for number in range(len(names), count)]
    return [f"{name}_" if name in taken else name for name in names]


def places(path: str, tree: Tree) -> Iterator[tuple[str, Leaf | Static]]:
    """The leaves and static values below an argument, as expressions on its parameter."""
    match tree:
        case Branch(_, _, children):
            for number, child in enumerate(children):
                yield from places(f"{path}[{number}]", child)
        case _:
            yield path, tree


def static_check(name: str, path: str, value: Any) -> list[str]:
    """The lines that raise ValueError unless a static argument is the one compiled for."""
    if not isinstance(value, bool | int | str):
        return []
    message = f"{name}: compiled for {path} == {value!r}"
    return [f"if {path} != {value!r}:", f"    raise ValueError({message!r})"]


def converted(path: str, node: Node) -> str:
    """A leaf as the compiled function takes it."""
    if isinstance(node.type, StateType):
        return f"address({path})"
    if node.type.rank:
        return f"np.ascontiguousarray({path})"
    name = node.type.dtype.name
    return f"np.{'bool_' if name == 'bool' else name}({path})"


def structure(tree: Tree, results: Iterator[str]) -> str:
    """The results in nested tuples. Raises UnsupportedError for what numba cannot hold."""
    match tree:
        case Leaf():
            return next(results)
        case Static(value):
            if value is None or isinstance(value, bool | int | float | str):
                return repr(value)
            raise UnsupportedError(
                f"a result that is {value!r} cannot be returned to compiled code: return arrays, "
                "numbers and tuples of these"
            )
    parts = [structure(child, results) for child in tree.children]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


__all__ = ["njit_function", "njit_grad", "njit_value_and_grad"]
