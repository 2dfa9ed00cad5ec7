"""A function made anew from its rewritten source: same file, lines, cells, globals, defaults.

rewritten(f, everything=True)      ->      f with its `if`, `while`, `for` as calls of `tg__`
"""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

from tracegrad.errors import TraceError
from tracegrad.ir.graph import Source
from tracegrad.later import Later
from tracegrad.pyflow.plain import is_plain
from tracegrad.pyflow.range import Range
from tracegrad.pyflow.rewrite import RUNTIME, Options, Refused, rewrite
from tracegrad.pyflow.source import Found, definition_of
from tracegrad.pyflow.world import World
from tracegrad.tracing.source import point_at

_RUNTIME = Later("tracegrad.pyflow.runtime")
_LIBRARY = __name__.partition(".")[0]


def program_of(python: Callable[..., Any], everything: bool) -> Callable[..., Any]:
    """What a trace runs in the place of `python`: its control flow rewritten, and that of the
    functions it calls by name; its NumPy one that makes arrays which can hold traced values."""
    return _in_world(rewritten(python, everything), World(partial(_if_possible, everything)))


def kept_program_of(python: Callable[..., Any], everything: bool) -> Callable[..., Any]:
    """The same with loops over `range` to be kept, where functions only compute (`keeping`)."""

    def rewrite(function: FunctionType) -> FunctionType:
        return _if_possible(everything or is_plain(function), function)

    function = inspect.unwrap(python)
    whole = everything or (isinstance(function, FunctionType) and is_plain(function))
    return _in_world(rewritten(python, whole), World(rewrite))


def _if_possible(everything: bool, function: FunctionType) -> FunctionType:
    """A function that another one calls, rewritten if its source can be read."""
    try:
        return rewritten(function, everything)  # type: ignore[return-value]
    except TraceError:
        return function


def _in_world(python: Callable[..., Any], world: World) -> Callable[..., Any]:
    match python:
        case MethodType():
            made = _in_world(python.__func__, world)
            return python if made is python.__func__ else MethodType(made, python.__self__)
        case functools.partial():
            made = _in_world(python.func, world)
            same = made is python.func
            return python if same else functools.partial(made, *python.args, **python.keywords)
        case FunctionType() if not _is_own(python):
            return world.of(python)
    return python


def rewritten(python: Callable[..., Any], everything: bool) -> Callable[..., Any]:
    """`python` with its control flow rewritten: itself where nothing changes."""
    if isinstance(python, MethodType):
        made = rewritten(python.__func__, everything)
        return python if made is python.__func__ else MethodType(made, python.__self__)
    if isinstance(python, functools.partial):
        made = rewritten(python.func, everything)
        if made is python.func:
            return python
        return functools.partial(made, *python.args, **python.keywords)
    if not isinstance(python, FunctionType) or _is_own(python):
        return python
    inner = getattr(python, "__wrapped__", None)
    if isinstance(inner, FunctionType):
        return _around(python, inner, rewritten(inner, everything))
    if not everything and not uses_range(python):
        return python
    return _rewritten(python, everything)


def _is_own(function: FunctionType) -> bool:
    return (function.__module__ or "").partition(".")[0] == _LIBRARY


def _around(wrapper: FunctionType, inner: Any, made: Any) -> Callable[..., Any]:
    """A decorator's wrapper that calls the rewritten function."""
    cells = wrapper.__closure__ or ()
    if made is inner:
        return wrapper
    new = tuple(CellType(made) if _content(cell) is inner else cell for cell in cells)
    return _like(wrapper, wrapper.__code__, new)


def uses_range(function: FunctionType) -> bool:
    """Whether the function, or one nested in it, names `tg.range`; seen without its source."""
    names = set(_names(function.__code__))
    if "range" in names and _LIBRARY in names:
        return True
    values = [function.__globals__.get(name) for name in names]
    values += [_content(cell) for cell in function.__closure__ or ()]
    library = sys.modules[_LIBRARY]
    return any(v is Range or (v is library and "range" in names) for v in values)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _rewritten(function: FunctionType, everything: bool) -> FunctionType:
    code = function.__code__
    what = "@tg.trace(python_control_flow=True)" if everything else "a loop over tg.range"
    try:
        found = definition_of(code, what)
    except TraceError:
        if everything:
            raise
        return function  # and `tg.range` says what is missing, if a loop runs over it
    known = {**function.__globals__, **_closure(function)}
    options = Options(everything, lambda call: _is_range(call, known))
    try:
        node = rewrite(copy.deepcopy(found.node), options)
    except Refused as refused:
        at = refused.node
        columns = (at.col_offset, at.end_col_offset or 0) if at.end_lineno == at.lineno else (0, 0)
        source = Source(code.co_filename, at.lineno, code.co_name, "", columns)
        raise TraceError(f"{refused}\n\n{point_at(source)}") from None
    if not everything and not options.found:
        return function
    made = _compiled(node, found, code)
    cells = _cells(function)
    return _like(function, made, tuple(cells[name] for name in made.co_freevars))


def _closure(function: FunctionType) -> dict[str, Any]:
    return {name: _content(cell) for name, cell in _cells(function).items()}


def _cells(function: FunctionType) -> dict[str, CellType]:
    names = function.__code__.co_freevars
    return {
        RUNTIME: CellType(_RUNTIME),
        **dict(zip(names, function.__closure__ or (), strict=True)),
    }


def _is_range(node: ast.expr, known: dict[str, Any]) -> bool:
    """Whether an expression calls `tg.range`, by whatever name the function knows it."""
    if not isinstance(node, ast.Call):
        return False
    match node.func:
        case ast.Name(name):
            return known.get(name) is Range
        case ast.Attribute(ast.Name(name), "range"):
            return name not in known or known[name] is sys.modules[_LIBRARY]
    return False


def _compiled(node: Any, found: Found, old: CodeType) -> CodeType:
    """The code object of the rewritten definition, in the place where the original stands."""
    outer = [RUNTIME, *(name for name in old.co_freevars if name != RUNTIME)]
    arguments = ast.arguments([], [ast.arg(name) for name in outer], None, [], [], None, [])
    if isinstance(node, ast.FunctionDef):
        node.decorator_list, node.returns = [], None
        _drop_defaults(node.args)
        body: list[ast.stmt] = [node]
    else:
        _drop_defaults(node.args)
        body = [ast.copy_location(ast.Expr(node), node)]
    factory: ast.stmt = ast.FunctionDef("tg__factory", arguments, body, [], None, None)
    if found.owner:
        factory = ast.ClassDef(found.owner, [], [], [factory], [])
    ast.copy_location(factory, node)
    module = ast.fix_missing_locations(ast.Module([factory], []))
    compiled = compile(module, old.co_filename, "exec", dont_inherit=True, flags=_future(old))
    for code in _codes(compiled):
        if code.co_name == old.co_name and code.co_firstlineno == node.lineno:
            return _renamed(code, old)
    raise AssertionError(f"{old.co_name} is not in its own source")


def _drop_defaults(arguments: ast.arguments) -> None:
    """Only the places of defaults count: their values are those that the function has."""
    nothing = ast.Constant(None)
    arguments.defaults = [nothing for _ in arguments.defaults]
    arguments.kw_defaults = [nothing for _ in arguments.kw_defaults]
    for arg in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        arg.annotation = None
    for arg in (arguments.vararg, arguments.kwarg):
        if arg is not None:
            arg.annotation = None


def _future(code: CodeType) -> int:
    """The `from __future__` flags that the function was compiled with."""
    return code.co_flags & annotations.compiler_flag


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _renamed(code: CodeType, old: CodeType) -> CodeType:
    """The parts of a function go by its name in errors and dumps."""
    constants = tuple(
        _renamed(part, part if not part.co_name.startswith("tg__") else old)
        if isinstance(part, CodeType)
        else part
        for part in code.co_consts
    )
    return code.replace(co_consts=constants, co_name=old.co_name, co_qualname=old.co_qualname)


def _like(
    function: FunctionType, code: CodeType, closure: tuple[CellType, ...] | None
) -> FunctionType:
    made = FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, closure
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__dict__.update(function.__dict__)
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    made.__doc__, made.__annotations__ = function.__doc__, function.__annotations__
    return made
