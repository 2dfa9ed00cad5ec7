"""The syntax tree of a function, with the line and column numbers of its file.

In: a Python function. Out: its `FunctionDef` or `Lambda` node, and the class that it stands in.
"""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache
from types import CodeType

from codegen.records import dataclass
from tracegrad.errors import TraceError

Definition = ast.FunctionDef | ast.Lambda


@dataclass(frozen=True)
class Found:
    """A function's node, and the name of the class whose body it stands in, for `self.__x`."""

    node: Definition
    owner: str


def definition_of(code: CodeType, what: str) -> Found:
    """The node of a function with that code. Raises TraceError where there is no source."""
    text = "".join(linecache.getlines(code.co_filename))
    if not text:
        raise TraceError(
            f"{what} needs the source of {code.co_name}, and {code.co_filename} cannot be read: "
            "put the function into a file or a notebook cell, or use tg.fori_loop, tg.while_loop "
            "and tg.cond"
        )
    found = [f for f in _definitions(text) if _first_line(f.node) == code.co_firstlineno]
    named = [found for found in found if _is_of(found.node, code)]
    if len(named) != 1:
        reason = "has changed since it was loaded" if not named else "has two of its kind in a line"
        raise TraceError(f"{what} needs the source of {code.co_name}, which {reason}")
    return named[0]


@lru_cache(maxsize=32)
def _definitions(text: str) -> tuple[Found, ...]:
    found: list[Found] = []

    def visit(node: ast.AST, owner: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.Lambda):
                found.append(Found(child, owner))
                visit(child, owner)
            else:
                visit(child, child.name if isinstance(child, ast.ClassDef) else owner)

    try:
        visit(ast.parse(text), "")
    except SyntaxError:
        return ()
    return tuple(found)


def _first_line(node: Definition) -> int:
    """Where the code object says that the function begins: at its first decorator."""
    if isinstance(node, ast.FunctionDef) and node.decorator_list:
        return node.decorator_list[0].lineno
    return node.lineno


def _is_of(node: Definition, code: CodeType) -> bool:
    name = node.name if isinstance(node, ast.FunctionDef) else "<lambda>"
    if name != code.co_name or parameters(node) != code.co_varnames[: len(parameters(node))]:
        return False
    if isinstance(node, ast.FunctionDef):
        return True
    # Several lambdas may stand in a line: the code's positions say which it is.
    body = node.body
    first, last = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    spans = [(line, start) for line, _, start, _ in code.co_positions() if line and start]
    return all(first <= span <= last for span in spans)


def parameters(node: Definition) -> tuple[str, ...]:
    """The names of the parameters, in the order of `co_varnames`."""
    given = node.args
    plain = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    starred = [arg for arg in (given.vararg, given.kwarg) if arg is not None]
    return tuple(arg.arg for arg in (*plain, *starred))
