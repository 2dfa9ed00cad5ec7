"""Which variables statements assign and read, and which are still needed behind them.

for i in tg.range(n):
    t = x[i] * 2          assigned: t, s;  read before assigned: s, x
    s = s + t             live behind the loop (return s): s      ->   carried: s
return s
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import field

from codegen.records import dataclass

Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp

LONGER = ("append", "appendleft", "extend", "extendleft", "insert", "add", "setdefault", "update")
SHORTER = ("pop", "popleft", "popitem", "remove", "discard", "clear", "sort", "reverse")
MUTATORS = frozenset((*LONGER, *SHORTER))
"""Methods of lists, dicts and sets that change them."""


@dataclass
class Names:
    """What a piece of code does to the variables of its function."""

    assigned: dict[str, int] = field(default_factory=dict)
    """Rebound, with the line where."""
    augmented: dict[str, int] = field(default_factory=dict)
    """`x += v`: rebound, or written in place."""
    changed: dict[str, int] = field(default_factory=dict)
    """`x[i] = v`: what the variable holds is written to."""
    attributes: dict[str, int] = field(default_factory=dict)
    """`self.h = v`, as text."""
    methods: dict[str, int] = field(default_factory=dict)
    """`ys.append(v)`: the variable, with the line where."""
    appends: dict[str, int] = field(default_factory=dict)
    """`ys.append(v)`, `ys.extend(vs)` as statements: the variable, with the line where."""
    read: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    """Read otherwise than to append to it."""


def names_in(nodes: Iterable[ast.AST]) -> Names:
    """The names that a piece of code uses, its nested functions' free variables among the read."""
    visitor = _Visitor()
    for node in nodes:
        visitor.visit(node)
    return visitor.found


class _Visitor(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found = Names()

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.found.read.add(node.id)
            self.found.used.add(node.id)
        else:
            self.found.assigned[node.id] = node.lineno

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.found.read.add(node.target.id)
            self.found.augmented[node.target.id] = node.lineno
            self.visit(node.value)
            return
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        root = _root(node)
        if not isinstance(node.ctx, ast.Load) and root:
            self.found.changed[root] = node.lineno
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        grown = appended(node)
        if grown is None:
            self.generic_visit(node)
            return
        self.found.appends[grown[0].id] = node.lineno
        self.found.read.add(grown[0].id)
        self.visit(node.value.args[0])  # type: ignore[attr-defined]

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.found.attributes[ast.unparse(node)] = node.lineno
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func
        if isinstance(called, ast.Attribute) and called.attr in MUTATORS:
            root = _root(called.value)
            if root:
                self.found.methods[root] = node.lineno
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.found.assigned[node.name] = node.lineno
        for part in (*node.decorator_list, *node.args.defaults, *node.args.kw_defaults):
            if part is not None:
                self.visit(part)
        self._reads(free_names(node))
        self.found.assigned |= dict.fromkeys(outer_names(node), node.lineno)

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._reads(free_names(node))

    def _reads(self, names: set[str]) -> None:
        self.found.read |= names
        self.found.used |= names

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.found.assigned[node.name] = node.lineno
        inner = names_in(node.body)
        self._reads(inner.read)
        for part in (*node.bases, *node.keywords, *node.decorator_list):
            self.visit(part)

    def _comprehension(self, node: Comprehension) -> None:
        inner = names_in(list(ast.iter_child_nodes(node)))
        targets = {name for part in node.generators for name in names_in([part.target]).assigned}
        self._reads(inner.read - targets)
        for name, line in inner.assigned.items():
            if name not in targets:  # a walrus binds in the function around
                self.found.assigned[name] = line

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.found.assigned[node.name] = node.lineno
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            self.found.assigned[(alias.asname or alias.name).partition(".")[0]] = node.lineno

    visit_ImportFrom = visit_Import  # type: ignore[assignment]

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        if node.name:
            self.found.assigned[node.name] = node.lineno
        self.generic_visit(node)

    visit_MatchStar = visit_MatchAs  # type: ignore[assignment]


def appended(node: ast.stmt) -> tuple[ast.Name, str] | None:
    """`ys` and the method of the statement `ys.append(v)` or `ys.extend(vs)`; else None."""
    match node:
        case ast.Expr(
            ast.Call(ast.Attribute(ast.Name() as name, "append" | "extend" as how), [value], [])
        ) if not isinstance(value, ast.Starred):
            return name, how
    return None


def free_names(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> set[str]:
    """What a nested function reads of the functions around it."""
    body = node.body if isinstance(node.body, list) else [node.body]
    inner, own = names_in(body), node.args
    given = {arg.arg for arg in (*own.posonlyargs, *own.args, *own.kwonlyargs)}
    given |= {arg.arg for arg in (own.vararg, own.kwarg) if arg is not None}
    return inner.read - given - (inner.assigned.keys() - outer_names(node))


def outer_names(node: ast.AST) -> set[str]:
    """The names that a nested function declares `nonlocal`."""
    return {
        name for child in ast.walk(node) if isinstance(child, ast.Nonlocal) for name in child.names
    }


def _root(node: ast.expr) -> str:
    """`state` of `state["x"][i].T`; empty if there is none."""
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


class StoppedFor(ast.For):
    """A `for` whose jumps were taken out: it ends where the expression `stop` is true."""

    stop: ast.expr


@dataclass
class Around:
    """The variables needed where a jump leads."""

    after_break: frozenset[str] = frozenset()
    after_continue: frozenset[str] = frozenset()


class Liveness:
    """For every `if` and loop of a function: the variables needed behind it, and at its head.

    The textbook backward analysis (Aho, Lam, Sethi, Ullman, section 9.2.5), on the tree.
    """

    def __init__(self) -> None:
        self.behind: dict[ast.stmt, frozenset[str]] = {}
        self.head: dict[ast.stmt, frozenset[str]] = {}
        """What the parts read before they assign it, or hand to what follows."""
        self._shared: frozenset[str] = frozenset()
        self._defined: dict[str, set[str]] = {}
        """The free variables of local functions: who reads the function reads these."""

    def of(
        self, body: Sequence[ast.stmt], defined: Iterable[ast.AST], shared: frozenset[str]
    ) -> Liveness:
        """Analyse a function; `shared` variables are those of functions around, always needed."""
        self._shared = shared
        for node in defined:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._defined.setdefault(node.name, set()).update(free_names(node))
        self.block(body, shared, Around())
        return self

    def block(self, body: Sequence[ast.stmt], live: frozenset[str], at: Around) -> frozenset[str]:
        for statement in reversed(body):
            live = self._before(statement, live, at)
        return live

    def _before(self, node: ast.stmt, live: frozenset[str], at: Around) -> frozenset[str]:
        match node:
            case ast.If():
                self.behind[node] = live
                sides = self.block(node.body, live, at) | self.block(node.orelse, live, at)
                self.head[node] = sides
                return self._through([node.test], sides)
            case ast.While() | ast.For() | ast.AsyncFor():
                return self._loop(node, live, at)
            case ast.Return():
                return self._through([node.value] if node.value else [], self._shared)
            case ast.Raise():
                return self._through([part for part in (node.exc, node.cause) if part], live)
            case ast.Break():
                return at.after_break
            case ast.Continue():
                return at.after_continue
            case ast.With() | ast.AsyncWith():
                inner = self.block(node.body, live, at)
                return self._through([*node.items], inner)
            case ast.Try() | ast.TryStar():
                final = self.block(node.finalbody, live, at)
                caught = [self.block(part.body, final, at) for part in node.handlers]
                inner = self.block(node.body, self.block(node.orelse, final, at), at)
                return frozenset().union(live, final, inner, *caught)
            case ast.Match():
                cases = [self.block(case.body, live, at) for case in node.cases]
                guards = [case.guard for case in node.cases if case.guard]
                return self._through([node.subject, *guards], frozenset().union(live, *cases))
        return self._through([node], live)

    def _loop(
        self, node: ast.While | ast.For | ast.AsyncFor, live: frozenset[str], at: Around
    ) -> frozenset[str]:
        behind = self.block(node.orelse, live, at)
        self.behind[node] = live if not node.orelse else live | behind
        head = behind
        while True:
            inner = Around(live, head)
            if isinstance(node, ast.While):
                body = self.block(node.body, head, inner)
                new = self._through([node.test], body | behind)
            else:
                body = self.block(node.body, head, inner)
                stops = names_in([node.stop]).read if isinstance(node, StoppedFor) else set()
                new = behind | stops | (body - names_in([node.target]).assigned.keys())
            if new <= head:
                break
            head = head | new
        self.head[node] = head
        return head if isinstance(node, ast.While) else self._through([node.iter], head)

    def _through(self, nodes: Sequence[ast.AST], live: frozenset[str]) -> frozenset[str]:
        """What is needed before simple code, from what is needed behind it."""
        found = names_in(nodes)
        surely = found.assigned.keys() - _maybe(nodes)
        read = set(found.read)
        for name in tuple(read):
            read |= self._defined.get(name, set())
        return frozenset((live - surely) | read)


def _maybe(nodes: Sequence[ast.AST]) -> set[str]:
    """Names bound inside of expressions, which may not be evaluated; deletions assign nothing."""
    inner = (
        child.target.id
        for node in nodes
        for child in ast.walk(node)
        if isinstance(child, ast.NamedExpr)
    )
    return set(inner)
