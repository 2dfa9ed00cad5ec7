"""Statements and expressions of control flow as calls of `tg__`, which decides while tracing.

    if x > 0:                     def tg__then():
        y = x          ->             nonlocal y; y = x
    else:                         def tg__else():
        y = -x                        nonlocal y; y = -x
                                  tg__.if_(x > 0, tg__then, tg__else, ...)

The variables that a part assigns and that are needed behind it are `nonlocal` in it: what they
hold is read and set through the cells of its closure. The others are the part's own.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from codegen.records import dataclass
from tracegrad.pyflow.jumps import Jumps
from tracegrad.pyflow.names import Liveness, Names, StoppedFor, appended, names_in
from tracegrad.pyflow.source import Definition, parameters

RUNTIME = "tg__"
ITERATORS = frozenset(("range", "enumerate", "zip", "reversed"))
LOOPS = (ast.For, ast.While)
NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


class Refused(Exception):
    """A statement that cannot be rewritten: which, and why."""

    def __init__(self, node: ast.stmt | ast.expr, reason: str) -> None:
        super().__init__(reason)
        self.node = node


@dataclass
class Options:
    """What is rewritten: every branch and loop, or only loops over `tg.range`."""

    everything: bool
    is_range: Callable[[ast.expr], bool]
    """Whether what a loop runs over is a call of `tg.range`."""
    found: int = 0
    """How many loops were rewritten."""


@dataclass
class Scope:
    """One function that is being rewritten."""

    globals: set[str]
    outer: set[str]
    """Declared `nonlocal`."""
    locals: set[str]
    live: Liveness
    first: str = ""
    """The first parameter, which `super()` means."""
    trying: int = 0
    """How many `try` with handlers are around."""


def rewrite(node: Definition, options: Options) -> Definition:
    """The definition with its control flow as calls; `node` is used up."""
    return _Rewriter(options).function(node)


class _Rewriter(ast.NodeTransformer):
    def __init__(self, options: Options) -> None:
        self.options = options
        self.scopes: list[Scope] = []
        self.count = 0

    def function(self, node: Definition) -> Definition:
        if isinstance(node, ast.Lambda):
            node.body = self.visit(node.body)
            return node
        if _suspends(node):
            if not self.scopes:
                raise Refused(
                    node, "the control flow of a generator cannot be traced: return arrays"
                )
            return node
        if self.options.everything:
            node.body = Jumps().function(node.body)
        found, given = names_in(node.body), parameters(node)
        shared, outer = _declared(node, ast.Global), _declared(node, ast.Nonlocal)
        defined = [part for part in _own(node) if isinstance(part, NESTED)]
        live = Liveness().of(node.body, defined, frozenset(outer))
        local = (found.assigned.keys() | found.augmented.keys() | {*given}) - shared - outer
        self.scopes.append(Scope(shared, outer, local, live, given[0] if given else ""))
        node.body = self._block(node.body)
        self.scopes.pop()
        at = _declarations(node.body)
        node.body[at:at] = _binding(sorted(local - {*given}), node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        node.decorator_list = [self.visit(part) for part in node.decorator_list]
        return self.function(node)

    def visit_Lambda(self, node: ast.Lambda) -> Any:
        return self.function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        return node

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> Any:
        return self.generic_visit(node)

    def _block(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for node in body:
            made = self.visit(node)
            found += made if isinstance(made, list) else [made]
        return found

    def visit_If(self, node: ast.If) -> Any:
        if not self.options.everything:
            node.body, node.orelse = self._block(node.body), self._block(node.orelse)
            return node
        orelse = node.orelse or [_located(ast.Pass(), node)]
        state = self._state([*node.body, *orelse], node)
        names = names_in([*node.body, *orelse])
        functions = [
            self._part("then", node.body, state, node),
            self._part("else", orelse, state, node),
        ]
        call = self._call(
            "if_", node, [self.visit(node.test), *map(_called, functions)], state, names
        )
        return [*functions, call]

    def visit_While(self, node: ast.While) -> Any:
        if not self.options.everything:
            node.body, node.orelse = self._block(node.body), self._block(node.orelse)
            return node
        state, names = self._state(node.body, node), names_in(node.body)
        test = self._function("test", [], [ast.Return(self.visit(node.test))], node.test)
        body = self._part("body", node.body, state, node)
        call = self._call("while_", node, [_called(test), _called(body)], state, names)
        return [test, body, call, *self._block(node.orelse)]

    def visit_For(self, node: ast.For) -> Any:
        everything = self.options.everything
        if not everything and not self.options.is_range(node.iter):
            node.body, node.orelse = self._block(node.body), self._block(node.orelse)
            return node
        if not everything:
            _refuse_jumps(node)
        self.options.found += 1
        item, inside = self._item(node)
        state, names = self._state(inside, node, own=item), names_in(inside)
        body = self._part("body", inside, state, node, [item])
        stop: ast.expr = ast.Constant(None)
        if isinstance(node, StoppedFor):
            stop = _lambda(self.visit(node.stop))
        over = self._iterated(node.iter)
        call = self._call("for_", node, [over, _called(body), stop], state, names)
        return [body, call, *self._block(node.orelse)]

    visit_StoppedFor = visit_For

    def _item(self, node: ast.For) -> tuple[str, list[ast.stmt]]:
        """The parameter that a loop's body takes its item by, and the body: the target itself where
        it is a name that nothing else sets or needs."""
        names, target = names_in(node.body), node.target
        if isinstance(target, ast.Name):
            again = names.assigned.keys() | names.augmented.keys()
            if target.id not in again | self.scopes[-1].live.behind[node]:
                return target.id, node.body
        item = f"tg__item_{self._next()}"
        taken = ast.Assign([target], ast.Name(item, ast.Load()))
        return item, [_located(taken, target), *node.body]

    def _iterated(self, node: ast.expr) -> ast.expr:
        """`range(n)` and its like as calls that also take traced sizes and arrays."""
        built_in = (
            self.options.everything
            and isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ITERATORS
            and not node.keywords
        )
        if not built_in:
            return self.visit(node)
        arguments = [self._iterated(part) for part in node.args]  # type: ignore[attr-defined]
        return _located(
            ast.Call(_runtime("over"), [node.func, *arguments], []),  # type: ignore[attr-defined]
            node,
        )

    def visit_Expr(self, node: ast.Expr) -> Any:
        """`ys.append(v)` and `ys.extend(vs)` may be in a loop that is compiled."""
        self.generic_visit(node)
        grown = appended(node)
        if grown is None:
            return node
        name, how = grown
        node.value = ast.Call(_runtime(how), [name, *node.value.args], [])  # type: ignore[attr-defined]
        return ast.fix_missing_locations(node)

    def visit_ListComp(self, node: ast.ListComp) -> Any:
        """`[f(i) for i in tg.range(n)]`"""
        self.generic_visit(node)
        part = node.generators[0]
        plain = len(node.generators) == 1 and not part.ifs and not part.is_async
        if not (plain and isinstance(part.target, ast.Name) and self.options.is_range(part.iter)):
            return node
        self.options.found += 1
        item = _lambda(node.elt, [part.target.id])
        return _located(ast.Call(_runtime("listed"), [part.iter, item], []), node)

    def visit_Raise(self, node: ast.Raise) -> Any:
        """An exception in a branch on a traced value is a check."""
        self.generic_visit(node)
        if not self.options.everything or node.exc is None or node.cause is not None:
            return node
        if not self._deferrable([node.exc]):
            return node
        caught = ast.Constant(self.scopes[-1].trying > 0)
        return _located(
            ast.Expr(ast.Call(_runtime("raise_"), [_lambda(node.exc), caught], [])), node
        )

    def visit_Assert(self, node: ast.Assert) -> Any:
        self.generic_visit(node)
        if not self.options.everything or not self._deferrable([node.msg] if node.msg else []):
            return node
        message = _lambda(node.msg or _located(ast.Constant(""), node))
        caught = ast.Constant(self.scopes[-1].trying > 0)
        call = ast.Call(_runtime("assert_"), [node.test, message, caught], [])
        return _located(ast.Expr(call), node)

    def visit_Try(self, node: ast.Try) -> Any:
        """What cannot be caught, since it is raised by compiled code, passes the handlers."""
        if not (self.options.everything and node.handlers):
            return self.generic_visit(node)
        self.scopes[-1].trying += 1
        node.body = self._block(node.body)
        self.scopes[-1].trying -= 1
        for name in ("orelse", "finalbody"):
            setattr(node, name, self._block(getattr(node, name)))
        node.handlers = [self.visit(handler) for handler in node.handlers]
        passed = ast.ExceptHandler(_runtime("Uncaught"), None, [ast.Raise()])
        node.handlers.insert(0, _located(passed, node))
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        if not self._deferrable(node.values[1:]):
            return self.generic_visit(node)
        values = [self.visit(value) for value in node.values]
        name = "and_" if isinstance(node.op, ast.And) else "or_"
        made = values[-1]
        for value in reversed(values[:-1]):
            made = _located(ast.Call(_runtime(name), [value, _lambda(made)], []), node)
        return made

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        self.generic_visit(node)
        if not (self.options.everything and isinstance(node.op, ast.Not)):
            return node
        return _located(ast.Call(_runtime("not_"), [node.operand], []), node)

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        if not self._deferrable([node.body, node.orelse]):
            return self.generic_visit(node)
        test, body, orelse = map(self.visit, (node.test, node.body, node.orelse))
        return _located(
            ast.Call(_runtime("choose"), [test, _lambda(body), _lambda(orelse)], []), node
        )

    def visit_Compare(self, node: ast.Compare) -> Any:
        if len(node.ops) == 1 or not self._deferrable(node.comparators):
            return self.generic_visit(node)
        values = [self.visit(value) for value in (node.left, *node.comparators)]
        names = [f"tg__operand_{self._next()}" for _ in values]
        tests = [
            _located(ast.Compare(ast.Name(a, ast.Load()), [op], [ast.Name(b, ast.Load())]), node)
            for a, op, b in zip(names, node.ops, names[1:], strict=False)
        ]
        made: ast.expr = tests[-1]
        for test in reversed(tests[:-1]):
            made = _located(ast.Call(_runtime("and_"), [test, _lambda(made)], []), node)
        return _located(ast.Call(_lambda(made, names), values, []), node)

    def visit_Call(self, node: ast.Call) -> Any:
        """`super()` stands in another function now."""
        self.generic_visit(node)
        bare = isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args
        if bare and self.scopes and self.scopes[-1].first:
            owner, first = ast.Name("__class__", ast.Load()), self.scopes[-1].first
            node.args = [owner, ast.Name(first, ast.Load())]
            ast.fix_missing_locations(node)
        return node

    def _deferrable(self, parts: Iterable[ast.AST]) -> bool:
        """Whether parts of an expression may become functions of their own."""
        return self.options.everything and not any(
            isinstance(child, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom)
            for part in parts
            for child in ast.walk(part)
        )

    def _next(self) -> int:
        self.count += 1
        return self.count

    def _state(self, bodies: Sequence[ast.stmt], node: ast.stmt, own: str = "") -> dict[str, State]:
        """The variables that pass through the parts of a statement, as they come."""
        scope, names = self.scopes[-1], names_in(bodies)
        behind, head = scope.live.behind[node], scope.live.head[node]
        return {
            name: State(line, name in names.assigned, name in behind, name in head)
            for name, line in {**names.augmented, **names.assigned}.items()
            if (name in behind or name in head) and name not in scope.globals and name != own
        }

    def _part(
        self,
        kind: str,
        body: list[ast.stmt],
        state: dict[str, State],
        node: ast.stmt,
        given: Sequence[str] = (),
    ) -> ast.FunctionDef:
        """A part of the statement as a function whose variables are those of the one around it."""
        names, scope = names_in(body), self.scopes[-1]
        assigned = (names.assigned.keys() | names.augmented.keys()) - {*given}
        outer, shared = sorted(assigned & state.keys()), sorted(assigned & scope.globals)
        local = sorted(assigned - {*outer, *shared} - scope.outer)
        declared = [ast.Nonlocal(outer)] if outer else []
        declared += [ast.Global(shared)] if shared else []
        inner = [*declared, *_binding(local, node), *self._block(body)]
        return self._function(kind, given, inner, node)

    def _function(
        self, kind: str, given: Sequence[str], body: list[ast.stmt], node: ast.AST
    ) -> ast.FunctionDef:
        arguments = ast.arguments([], [ast.arg(name) for name in given], None, [], [], None, [])
        made = ast.FunctionDef(f"tg__{kind}_{self._next()}", arguments, body, [], None, None)
        return _located(made, node)

    def _call(
        self,
        what: str,
        node: ast.If | ast.While | ast.For,
        arguments: list[ast.expr],
        state: dict[str, State],
        names: Names,
    ) -> ast.stmt:
        """`tg__.if_(test, then, else, state, changed, refused)` as a statement at its place."""
        rows = [(n, s.line, s.plain, s.behind, s.read) for n, s in state.items()]
        local = self.scopes[-1].locals
        changed = [(name, line, name in local) for name, line in names.changed.items()]
        refused = [*names.attributes.items(), *((n, at) for n, at in names.methods.items())]
        grown = list(names.appends.items())
        if what == "for_" and not isinstance(node, StoppedFor):
            busy = names.used | names.changed.keys() | names.methods.keys() | names.assigned.keys()
            refused += [row for row in grown if row[0] in busy]
            arguments = [*arguments, _constant([row for row in grown if row[0] not in busy])]
        else:
            refused += grown
            arguments = [*arguments, _constant([])] if what == "for_" else arguments
        constants = [_constant(rows), _constant(changed), _constant(refused)]
        call = ast.Call(_runtime(what), [*arguments, *constants], [])
        header = node.test if isinstance(node, ast.If | ast.While) else node.iter
        return _located(ast.Expr(call), header)


@dataclass(frozen=True)
class State:
    """A variable that a statement's parts assign."""

    line: int
    plain: bool
    """Assigned, not only `x += v`."""
    behind: bool
    """Needed after the statement."""
    read: bool
    """Needed when a part begins."""


def _own(node: ast.AST) -> list[ast.AST]:
    """Everything in a function; of nested ones only themselves."""
    found, stack = [], list(ast.iter_child_nodes(node))
    while stack:
        here = stack.pop()
        found.append(here)
        if not isinstance(here, NESTED):
            stack.extend(ast.iter_child_nodes(here))
    return found


def _suspends(node: ast.FunctionDef) -> bool:
    return any(isinstance(part, ast.Yield | ast.YieldFrom | ast.Await) for part in _own(node))


def _declared(node: ast.AST, kind: type[ast.Global] | type[ast.Nonlocal]) -> set[str]:
    return {name for part in _own(node) if isinstance(part, kind) for name in part.names}


def _refuse_jumps(node: ast.For) -> None:
    """Without branches a loop over `tg.range` runs to its end."""
    for part in _own(ast.Module(node.body, [])):
        if isinstance(part, ast.Return) or (
            isinstance(part, ast.Break | ast.Continue) and _leaves(node, part)
        ):
            word = type(part).__name__.lower()
            raise Refused(
                part,
                f"{word} in a loop over tg.range: decorate the function with "
                "@tg.trace(python_control_flow=True)",
            )


def _leaves(loop: ast.For, jump: ast.stmt) -> bool:
    """Whether a jump inside of the loop is one of its own, not of a loop further in."""
    inner = [part for part in _own(ast.Module(loop.body, [])) if isinstance(part, LOOPS)]
    return not any(jump in _own(ast.Module(part.body, [])) for part in inner)


def _binding(names: Sequence[str], at: ast.AST) -> list[ast.stmt]:
    """`if False: a = b = None`: variables of this function, for parts of it to find."""
    if not names:
        return []
    targets: list[ast.expr] = [ast.Name(name, ast.Store()) for name in names]
    never = ast.If(ast.Constant(False), [ast.Assign(targets, ast.Constant(None))], [])
    return [_located(never, at)]


def _declarations(body: Sequence[ast.stmt]) -> int:
    """How many statements at the start of a function are its docstring and declarations."""
    count = 0
    for node in body:
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not (text or isinstance(node, ast.Global | ast.Nonlocal)):
            break
        count += 1
    return count


def _runtime(name: str) -> ast.expr:
    return ast.Attribute(ast.Name(RUNTIME, ast.Load()), name, ast.Load())


def _called(function: ast.FunctionDef) -> ast.expr:
    return ast.Name(function.name, ast.Load())


def _lambda(value: ast.expr, names: Sequence[str] = ()) -> ast.expr:
    arguments = ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])
    return _located(ast.Lambda(arguments, value), value)


def _constant(rows: Sequence[tuple[Any, ...]]) -> ast.expr:
    values: Any = tuple(rows)
    return ast.Constant(values)


def _located(node: Any, at: ast.AST) -> Any:
    return ast.fix_missing_locations(ast.copy_location(node, at))
