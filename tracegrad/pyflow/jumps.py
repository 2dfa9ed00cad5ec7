"""Early exits taken apart: `break`, `continue` and `return` inside of branches and loops.

    while go(x):                 tg__break_1 = False
        x = f(x)                 while not tg__break_1 and go(x):
        if x > 9:         ->         x = f(x)
            break                    if x > 9: tg__break_1 = True
        x = g(x)                     else: x = g(x)

What follows a jump in a branch moves into the other branch; where that would double code, it is
guarded by the jump's flag.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import field
from typing import Any

from codegen.records import dataclass
from tracegrad.pyflow.names import StoppedFor

VALUE, RETURNED = "tg__value", "tg__returned"
Loop = ast.For | ast.While
JUMPS = ast.Break | ast.Continue | ast.Return


@dataclass(frozen=True)
class Flags:
    """The variables that a jump sets, for the loop around."""

    stop: str = ""
    skip: str = ""
    loops: tuple[str, ...] = ()
    """Whether a `return` is inside of a loop is seen from this."""


@dataclass
class Jumps:
    """Takes the jumps out of one function."""

    count: int = field(default=0)

    def function(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """The body with at most one `return`, at its end."""
        body = [_Assigning().visit(part) for part in body]
        nested = [part for part in body if not isinstance(part, ast.Return)]
        returns = any(_jumps(part, ast.Return) for part in nested)
        lowered = self._block(body, Flags(), returns)
        if not returns:
            return lowered
        at = body[-1]
        first = [_assign(RETURNED, ast.Constant(False), body[0])]
        last: list[ast.stmt] = []
        if not _ends(body):
            nothing = [_assign(VALUE, ast.Constant(None), at)]
            last.append(_located(ast.If(_not([RETURNED]), nothing, []), at))
        last.append(_located(ast.Return(_name(VALUE)), at))
        return [*first, *lowered, *last]

    def _block(self, body: Sequence[ast.stmt], flags: Flags, returns: bool) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for number, node in enumerate(body):
            rest = list(body[number + 1 :])
            if isinstance(node, JUMPS):
                return [*found, *self._jump(node, flags, returns)]
            if not (_has_jump(node) or _own_jump(node)):
                found.append(node)
                continue
            if isinstance(node, ast.If):
                moved = self._branch(node, rest, flags, returns)
                if moved is not None:
                    return [*found, moved]
            guards = _set_by(node, flags)
            found += self._statement(node, flags, returns)
            if rest and guards:
                inner = self._block(rest, flags, returns)
                return [*found, _located(ast.If(_not(guards), inner, []), rest[0])]
        return found

    def _jump(self, node: ast.stmt, flags: Flags, returns: bool) -> list[ast.stmt]:
        true = ast.Constant(True)
        match node:
            case ast.Return(value=value) if returns:
                given = value or ast.Constant(None)
                return [_assign(VALUE, given, node), _assign(RETURNED, true, node)]
            case ast.Break():
                return [_assign(flags.stop, true, node)]
            case ast.Continue():
                return [_assign(flags.skip, true, node)]
        return [node]

    def _branch(
        self, node: ast.If, rest: list[ast.stmt], flags: Flags, returns: bool
    ) -> ast.stmt | None:
        """An `if` one side of which always jumps: the rest belongs to the other side."""
        body, orelse = _ends(node.body), _ends(node.orelse)
        if not body and not orelse:
            return None
        first = node.body if body else [*node.body, *rest]
        second = node.orelse if orelse else [*node.orelse, *rest]
        sides = (self._block(first, flags, returns), self._block(second, flags, returns))
        return _located(ast.If(node.test, sides[0] or [_located(ast.Pass(), node)], sides[1]), node)

    def _statement(self, node: Any, flags: Flags, returns: bool) -> list[ast.stmt]:
        if isinstance(node, Loop):
            return self._loop(node, flags, returns)
        for name in ("body", "orelse", "finalbody"):
            if getattr(node, name, None):
                setattr(node, name, self._block(getattr(node, name), flags, returns))
        for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            part.body = self._block(part.body, flags, returns)
        return [node]

    def _loop(self, node: Loop, flags: Flags, returns: bool) -> list[ast.stmt]:
        self.count += 1
        stop, skip = f"tg__break_{self.count}", f"tg__continue_{self.count}"
        own = Flags(stop, skip, (*flags.loops, stop))
        breaks, skips = _own(node, ast.Break), _own(node, ast.Continue)
        leaves = _jumps(node, ast.Return)
        orelse = self._block(node.orelse, flags, returns)
        body = self._block(node.body, own, returns)
        if skips:
            body.insert(0, _assign(skip, ast.Constant(False), node.body[0]))
        stops = [stop] * breaks + [RETURNED] * leaves
        made: Any = node
        if stops and isinstance(node, ast.For):
            made = StoppedFor(target=node.target, iter=node.iter, body=body, orelse=[])
            made.stop = _located(_any(stops), node.iter)
        elif stops and isinstance(node, ast.While):
            test = _located(ast.BoolOp(ast.And(), [_not(stops), node.test]), node.test)
            made = ast.While(test, body, [])
        else:
            node.body, node.orelse = body, []
        made = _located(made, node)
        found = [_assign(stop, ast.Constant(False), node)] if breaks else []
        found.append(made)
        if orelse and stops:
            found.append(_located(ast.If(_not(stops), orelse, []), orelse[0]))
        else:
            found += orelse
        return found


def _inside(node: ast.AST) -> list[ast.AST]:
    """Everything below a statement, without nested functions and classes."""
    found, stack = [], [node]
    while stack:
        here = stack.pop()
        found.append(here)
        if here is node or not isinstance(
            here, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
        ):
            stack.extend(ast.iter_child_nodes(here))
    return found


def _jumps(node: ast.AST, kind: type[ast.stmt]) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    return any(isinstance(part, kind) for part in _inside(node))


def _own(node: ast.AST, kind: type[ast.stmt]) -> bool:
    """Whether a loop has such a jump of its own, not one of a loop inside of it."""
    bodies = node.body if isinstance(node, Loop) else [node]  # type: ignore[attr-defined]
    return any(_level(part, kind) for part in bodies)


def _level(node: ast.AST, kind: type[ast.stmt]) -> bool:
    if isinstance(node, kind):
        return True
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
        return False
    if isinstance(node, Loop):
        return any(_level(part, kind) for part in node.orelse)
    return any(_level(part, kind) for part in ast.iter_child_nodes(node))


def _has_jump(node: ast.stmt) -> bool:
    """Whether control may leave the statement for elsewhere than the next one."""
    return _jumps(node, ast.Return) or _level(node, ast.Break) or _level(node, ast.Continue)


def _own_jump(node: ast.stmt) -> bool:
    """Whether a statement holds loops that have jumps."""
    return any(
        isinstance(part, Loop) and (_own(part, ast.Break) or _own(part, ast.Continue))
        for part in _inside(node)
    )


def _set_by(node: ast.stmt, flags: Flags) -> list[str]:
    """The flags that the statement may have set, of those that skip what follows it."""
    found = [RETURNED] if _jumps(node, ast.Return) else []
    if _level(node, ast.Break):
        found.append(flags.stop)
    if _level(node, ast.Continue):
        found.append(flags.skip)
    return found


def _ends(body: Sequence[ast.stmt]) -> bool:
    """Whether a block always ends in a jump."""
    for node in body:
        if isinstance(node, JUMPS | ast.Raise):
            return True
        if isinstance(node, ast.If) and _ends(node.body) and _ends(node.orelse):
            return True
        if isinstance(node, ast.With) and _ends(node.body):
            return True
        if isinstance(node, ast.While) and _is_endless(node):
            return True
    return False


def _is_endless(node: ast.While) -> bool:
    """`while True:` without a `break`: nothing behind it is reached but by `return`."""
    forever = isinstance(node.test, ast.Constant) and bool(node.test.value)
    return forever and not _own(node, ast.Break)


class _Assigning(ast.NodeTransformer):
    """`while (x := f()) > 0: ...` as an endless loop that a branch leaves."""

    def visit_While(self, node: ast.While) -> ast.While:
        self.generic_visit(node)
        if not any(isinstance(part, ast.NamedExpr) for part in ast.walk(node.test)):
            return node
        leave = _located(ast.Break(), node.test)
        branch = _located(ast.If(node.test, node.body, [*node.orelse, leave]), node.test)
        return _located(ast.While(_located(ast.Constant(True), node.test), [branch], []), node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef:
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        return node


def _name(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _any(flags: Sequence[str]) -> ast.expr:
    names: list[ast.expr] = [_name(flag) for flag in flags]
    return names[0] if len(names) == 1 else ast.BoolOp(ast.Or(), names)


def _not(flags: Sequence[str]) -> ast.expr:
    return ast.UnaryOp(ast.Not(), _any(flags))


def _assign(name: str, value: ast.expr, at: ast.AST) -> ast.stmt:
    return _located(ast.Assign([ast.Name(name, ast.Store())], value), at)


def _located(node: Any, at: ast.AST) -> Any:
    return ast.fix_missing_locations(ast.copy_location(node, at))
