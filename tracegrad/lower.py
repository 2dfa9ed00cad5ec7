"""Lowering: a graph becomes a loop program, "the value at an index" of every stored node in a loop
nest.

    v1 = x + 1.0; y = sum(v1)      =>      for i in range(n): for j in range(m): y += x[i, j] + 1.0

Nothing here knows how loops are ordered, fused or vectorised: codegen's scheduler does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen import loops
from codegen.expr import Const, Expr, Load, Var
from codegen.records import dataclass
from tracegrad.ir.dims import Dim, Guard, Size
from tracegrad.ir.graph import Graph, Node, all_nodes
from tracegrad.ir.types import CHECKS, ArrayType, StateType, TupleType
from tracegrad.ops.extent import extent
from tracegrad.ops.raising import NOTHING
from tracegrad.ops.reduction import Reduction
from tracegrad.passes.plan import is_view, plan
from tracegrad.passes.reuse import owner
from tracegrad.tracing.naming import Namer

Index = tuple[Expr, ...]

DEEPEST = 24
"""How many operations an expression may nest: programs of hundreds of steps stay printable, and
lowering them does not exhaust Python's stack."""


@dataclass
class Scope:
    """The straight-line statements of one loop body, and what they already computed."""

    statements: list[loops.Statement] = field(default_factory=list)
    known: dict[tuple[Node, Index], Expr] = field(default_factory=dict)
    nodes: set[Node] = field(default_factory=set)
    """Those of which something is known."""

    def learn(self, node: Node, index: Index, value: Expr) -> None:
        self.known[node, index] = value
        self.nodes.add(node)


def lower(graph: Graph, name: str, header: tuple[str, ...] = ()) -> loops.Module:
    """The loop program of `graph` as a module with one function, `name`."""
    return Lowering(graph, name).module(header)


@dataclass
class TooDeep(Exception):
    """A value that is to be computed ahead: it stands too many operations below another."""

    node: Node
    index: Index


class Lowering:
    """What ops' `kernel` methods write into."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name
        planned = plan(graph)
        self.stored, self.taken = planned.stored, planned.taken
        self.returned = {owner(node, self.taken, is_view) for node in graph.outputs}
        nodes = list(all_nodes(graph))
        sizes = {symbol for node in nodes for s in node.type.shape for symbol in _names(s)}
        self.namer = Namer(sizes | set(graph.sizes) | {node.name for node in nodes})
        self.namer.taken |= set(self.namer.letters)
        self.body: list[loops.Statement] = []
        self.scopes: list[Scope] = [Scope(self.body)]
        self.constants: list[tuple[str, np.ndarray]] = []
        self.arrays: dict[Node, str] = {}
        self.scalars: dict[Node, Expr] = {}
        self.parts: dict[Node, list[str | Expr]] = {}
        """Where the results of a node with several are."""
        self.checks = list(graph.checks)
        """What is to be checked when sizes are known that the program computes."""
        self.known_sizes = set(graph.sizes)
        self._depth = 0
        self._nested = 0

    def module(self, header: tuple[str, ...]) -> loops.Module:
        graph = self.graph
        for guard in graph.guards:
            self.append(self._guard(guard, f"compiled for {guard}"))
        for number, axis, size in graph.entry_guards:
            parameter = graph.inputs[number].name
            extent = ex.extent(parameter, axis)
            message = f"{self.name}: {parameter}.shape[{axis}] must be {size}"
            check = ex.Call("equal", (extent, self.size(size)), ex.BOOL)
            self.body.append(loops.Check(check, "ValueError", message))
        self.run()
        self.body.append(loops.Return(tuple(self.result(node) for node in graph.outputs)))
        parameters = tuple(
            loops.Parameter(node.name, node.type.dtype, node.type.rank, self.shape(node))
            for node in graph.inputs
        )
        sizes = tuple((s, graph.inputs[n].name, axis) for s, (n, axis) in graph.sizes.items())
        function = loops.Function(self.name, parameters, tuple(self.body), self._doc(), sizes)
        return loops.Module((function,), header, tuple(self.constants))

    def run(self) -> None:
        """The statements that give every stored node its value."""
        for node in self.graph.nodes:
            if node in self.stored:
                self._emit(node)

    def _doc(self) -> str:
        given = ", ".join(f"{node.name}: {node.type}" for node in self.graph.inputs)
        made = ", ".join(f"{node.name or node.type}: {node.type}" for node in self.graph.outputs)
        return f"{given}  ->  {made}"

    def check_sizes(self) -> None:
        """Check what was taken for granted of sizes that are all known by now."""
        for check in list(self.checks):
            if check.symbols <= self.known_sizes:
                self.checks.remove(check)
                message = f"sizes that data decides on: {check} does not hold"
                message += f", in {check.where}" if check.where else ""
                self.append(self._guard(check, message))

    def _guard(self, guard: Guard, message: str) -> loops.Check:
        left, relation, right = guard.left, guard.relation, guard.right
        function = {"==": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal"}[relation]
        condition = ex.Call(function, (self.size(left), self.size(right)), ex.BOOL)
        return loops.Check(condition, "ValueError", f"{self.name}: {message}")

    def _emit(self, node: Node) -> None:
        if node.op.name == "input":
            if node.type.rank:
                self.arrays[node] = node.name
            else:
                self.scalars[node] = Var(node.name, node.type.dtype)
        elif node.op.name == "constant":
            self.arrays[node] = self.namer.unique("table")
            self.constants.append((self.arrays[node], node.attributes["value"].array))
        elif node.op.has("kernel"):
            node.op.kernel(self, node)
        elif isinstance(node.op, Reduction):
            self._reduce(node, node.op)
        elif is_view(node):
            self._view(node)
        elif node.type.rank == 0:
            self._scalar(node)
        else:
            array = self.allocate(node)
            with self.nest(node.type.shape) as index:
                value = self.value(node, index, inside=True)
                self.append(loops.Store(array, index, value, comment(node)))

    def result(self, node: Node) -> str | Expr:
        """What the function returns for an output: never the memory of an argument."""
        if node.type.rank == 0:
            return self.value(node, ())
        root = owner(node, self.taken, is_view)
        sharers = [out for out in self.graph.outputs if owner(out, self.taken, is_view) is root]
        own = node in self.arrays and root.op.name not in ("input", "constant")
        if own and len(set(sharers)) == 1:
            return self.arrays[node]
        name = self.namer.unique(f"{node.name or 'table'}_copy")
        self.copy(name, node, temporary=False)
        return name

    def copy(self, name: str, node: Node, temporary: bool = True) -> None:
        """A new array `name` with the value of `node`."""
        shape = tuple(self.size(size) for size in node.type.shape)
        self.append(loops.Alloc(name, shape, node.type.dtype, None, temporary))
        with self.nest(node.type.shape) as index:
            self.append(loops.Store(name, index, self.value(node, index), comment(node)))

    def project(self, node: Node) -> None:
        """One of several results: it is where its maker put it."""
        place = self.parts[node.inputs[0]][node.attributes["index"]]
        if isinstance(place, str):
            self.arrays[node] = place
        else:
            self.scalars[node] = place

    def result_names(self, node: Node) -> list[str]:
        """A name for each result: of several, that of its projection if it is used."""
        if not isinstance(node.type, TupleType):
            return [node.name]
        used = {r.attributes["index"]: r.name for r in self.graph.uses[node] if r.name}
        return [
            self._state_name(node, index)
            if isinstance(part, StateType)
            else used.get(index) or self.namer.unique(f"{node.name}_{index}")
            for index, part in enumerate(node.type.parts)
        ]

    def _state_name(self, node: Node, index: int) -> str:
        """What the generator is called whose state is a result: that of the operand it was."""
        place = self.value(origin(node, index), ())
        return place.name if isinstance(place, Var) else CHECKS

    def place(self, node: Node, names: Sequence[str]) -> None:
        """The results of `node` are found under these names; projections ask for theirs."""
        if isinstance(node.type, TupleType):
            self.parts[node] = [
                name if type.rank else scalar(name, type)
                for name, type in zip(names, node.type.parts, strict=True)
            ]
        elif node.type.rank:
            self.arrays[node] = names[0]
        else:
            self.scalars[node] = scalar(names[0], node.type)

    def bind_size(self, node: Node) -> None:
        """A computed extent: its symbol is a variable of the function."""
        variable = Var(str(node.attributes["symbol"]))
        value = self.value(node.inputs[0], ())
        self.append(loops.Assign(variable, value, comment(node)))
        self.scalars[node] = variable
        self.known_sizes.add(variable.name)
        self.check_sizes()

    def append(self, statement: loops.Statement) -> None:
        self.scopes[-1].statements.append(statement)

    def allocate(self, node: Node, fill: Any = None) -> str:
        """A new array for `node`'s value."""
        name = self.arrays[node] = self._array_name(node)
        shape = tuple(self.size(size) for size in node.type.shape)
        temporary = node not in self.returned
        self.append(
            loops.Alloc(name, shape, node.type.dtype, fill, temporary, comment(node, value=False))
        )
        return name

    def _array_name(self, node: Node) -> str:
        """The name of `node`, or of the result that its memory becomes by writes in place."""
        last = next(
            (
                y
                for y in self.graph.outputs
                if y in self.taken and owner(y, self.taken, is_view) is node
            ),
            node,
        )
        return last.name

    def overwrite(self, node: Node) -> str:
        """An array that holds the value of the operand that `node` overwrites: its own, or a
        copy.
        """
        base = node.inputs[node.op.overwrites or 0]
        if node in self.taken:
            self.arrays[node] = self.arrays[base]
            return self.arrays[node]
        array = self.allocate(node)
        with self.nest(base.type.shape) as index:
            self.append(loops.Store(array, index, self.value(base, index), self.comment(node)))
        return array

    def comment(self, node: Node) -> str:
        return comment(node)

    @contextmanager
    def nest(self, shape: tuple[Size, ...], sequential: tuple[int, ...] = ()) -> Iterator[Index]:
        """Loops over `shape`; inside, statements go to the innermost body. An axis of extent 1 is
        no loop.
        """
        depth = self._depth
        single = {axis for axis, size in enumerate(shape) if isinstance(size, int) and size == 1}
        variables = [
            ex.integer(0) if axis in single else self._loop_variable(depth + axis)
            for axis in range(len(shape))
        ]
        self._depth += len(shape)
        self.scopes.append(Scope())
        try:
            yield tuple(variables)
        finally:
            self._depth = depth
            body = tuple(self.scopes.pop().statements)
        for axis in reversed(range(len(shape))):
            variable = variables[axis]
            if not isinstance(variable, Var):
                continue
            body = (
                loops.For(variable, self.size(shape[axis]), body, sequential=axis in sequential),
            )
        for statement in body:
            self.append(statement)

    @contextmanager
    def loop(self, around: loops.For) -> Iterator[None]:
        """Inside, statements go to the body of this loop."""
        self.scopes.append(Scope())
        try:
            yield
        finally:
            body = tuple(self.scopes.pop().statements)
        self.append(replace(around, body=body))

    def _loop_variable(self, depth: int) -> Var:
        letters = self.namer.letters[:4]
        turn, at = divmod(depth, len(letters))
        return Var(letters[at] + (str(turn) if turn else ""))

    def shape(self, node: Node) -> tuple[Expr, ...]:
        return tuple(self.size(size) for size in node.type.shape)

    def size(self, size: Size) -> Expr:
        """An extent as an index expression."""
        return extent(size)

    def value(
        self, node: Node, index: Index, *, inside: bool = False, guarded: bool = False
    ) -> Expr:
        """The element of `node` at `index`, by the cheapest road: loaded if stored, else computed.

        `inside`: compute it even though the node is stored (it is just being stored). `guarded`:
        the value stands in one branch of a `Select`, so nothing may be computed ahead of it.
        """
        if not inside and (node in self.arrays):
            return Load(self.arrays[node], index, node.type.dtype)
        if not inside and node in self.scalars:
            return self.scalars[node]
        for scope in reversed(self.scopes):
            if (node, index) in scope.known:
                return scope.known[node, index]
        if self._nested == DEEPEST and not guarded:
            raise TooDeep(node, index)

        found = self._element(node, index, guarded)
        if guarded or inside or isinstance(found, Const | Var | Load):
            return found
        if self._deserves_a_name(node):
            return self._named(node, index, found)
        self.scopes[-1].learn(node, index, found)
        return found

    def _element(self, node: Node, index: Index, guarded: bool) -> Expr:
        """The op's expression; operands far below it become variables first."""
        waiting = [(node, index)]
        while True:
            wanted, at = waiting[-1]
            outer, self._nested = self._nested, self._nested + 1 if len(waiting) == 1 else 1
            try:
                found = wanted.op.element(self.reader(wanted, guarded), at, wanted)
            except TooDeep as deep:
                if outer:
                    raise
                waiting.append((deep.node, deep.index))
                continue
            finally:
                self._nested = outer
            waiting.pop()
            if not waiting:
                return found
            self._named(wanted, at, found)

    def _named(self, node: Node, index: Index, value: Expr) -> Var:
        """A variable of the present loop body with the value of `node` at `index`."""
        name = self.namer.unique(node.name) if self._named_twice(node) else node.name
        variable = Var(name or self.namer.unique("v"), node.type.dtype)
        self.append(loops.Assign(variable, value, comment(node)))
        self.scopes[-1].learn(node, index, variable)
        return variable

    def reader(self, node: Node, guarded: bool = False) -> Callable[..., Expr]:
        """`read(k, index)`: the element of `node`'s k-th operand."""

        def read(number: int, at: Index, guarded_read: bool = False) -> Expr:
            return self.value(node.inputs[number], at, guarded=guarded or guarded_read)

        return read

    def _deserves_a_name(self, node: Node) -> bool:
        return bool(node.name) and (len(self.graph.uses[node]) > 1 or not _is_numbered(node.name))

    def _named_twice(self, node: Node) -> bool:
        """Whether this body, or one around it, already has a variable of that name, for another
        index: it may be read once more after this body."""
        return any(node in scope.nodes for scope in self.scopes)

    def _scalar(self, node: Node) -> None:
        found = self.value(node, (), inside=True)
        variable = Var(node.name, node.type.dtype)
        self.append(loops.Assign(variable, found, comment(node)))
        self.scalars[node] = variable

    def _view(self, node: Node) -> None:
        shape = tuple(self.size(size) for size in node.type.shape)
        self.append(
            loops.View(node.name, self.arrays[node.inputs[0]], shape, comment=comment(node))
        )
        self.arrays[node] = node.name

    def _reduce(self, node: Node, op: Reduction) -> None:
        operand, axis = node.inputs[0], node.attributes["axis"]
        kept = tuple(at for at in range(operand.type.rank) if at not in axis)
        if kept and max(kept) > min(axis):
            self._reduce_into_array(node, op, axis, kept)
        else:
            self._reduce_rows(node, op, kept)

    def _reduce_rows(self, node: Node, op: Reduction, kept: tuple[int, ...]) -> None:
        """The reduced axes are the inner ones: one accumulator, stored when they are done."""
        operand, dtype = node.inputs[0], node.type.dtype
        shape = operand.type.shape
        identity = Const(op.identity(dtype), dtype)
        if not kept:
            self.append(loops.Assign(Var(node.name, dtype), identity, ""))
            self._accumulate(node, op, shape, (), node.name, None)
            self.scalars[node] = Var(node.name, dtype)
            return
        array = self.allocate(node)
        with self.nest(shape[: len(kept)]) as outer:
            total = self.namer.unique(f"{node.name}_{op.short}")
            self.append(loops.Assign(Var(total, dtype), identity, ""))
            self._accumulate(node, op, shape[len(kept) :], outer, total, None)
            self.append(loops.Store(array, outer, Var(total, dtype), comment(node)))

    def _reduce_into_array(
        self, node: Node, op: Reduction, axis: tuple[int, ...], kept: tuple[int, ...]
    ) -> None:
        """Kept axes lie inside reduced ones: the result's elements are the accumulators."""
        operand = node.inputs[0]
        array = self.allocate(node, fill=op.identity(node.type.dtype))
        with self.nest(operand.type.shape) as index:
            value = self.value(operand, index)
            target = tuple(index[at] for at in kept)
            self.append(
                loops.Accumulate(array, target, op.combine, value, node.type.dtype, comment(node))
            )

    def _accumulate(
        self,
        node: Node,
        op: Reduction,
        shape: tuple[Size, ...],
        outer: Index,
        target: str,
        at: Index | None,
    ) -> None:
        with self.nest(shape) as inner:
            value = self.value(node.inputs[0], outer + inner)
            self.append(
                loops.Accumulate(target, at, op.combine, value, node.type.dtype, comment(node))
            )


def scalar(name: str, type: ArrayType) -> Expr:
    """Where a number is; the state of the checks has no value."""
    return NOTHING if type == StateType.of(CHECKS) else Var(name, type.dtype)


def origin(node: Node, index: int) -> Node:
    """The operand of a loop or branch that the state was which is one of its results."""
    branches = node.attributes.get("branches")
    if branches is None:
        return node.inputs[index]
    state = branches[0].outputs[index]
    while state not in branches[0].inputs:
        maker = state.inputs[0]
        state = origin(maker, state.attributes["index"]) if state.op.name == "project" else maker
    return node.inputs[1 + branches[0].inputs.index(state)]


def comment(node: Node, value: bool = True) -> str:
    """`3│ np.mean(x)`: the user's line and text."""
    if node.source is None or not value:
        return ""
    return f"{node.source.line}│ {' '.join(node.source.text.split())}"


def _is_numbered(name: str) -> bool:
    return name[:1] == "v" and name[1:].isdigit()


def _names(size: Size) -> Iterator[str]:
    if isinstance(size, Dim):
        from_terms = [atom for monomial, _ in size.terms for atom in monomial]
        yield from (atom for atom in from_terms if isinstance(atom, str))
