"""The graph IR: a node is one operation and its one result; a graph names inputs and outputs.

    y = np.exp(x) * 2.0     ->     input x | v1 = exp(x) | const 2.0 | y = multiply(v1, const)

Nodes are immutable; a rewrite builds new ones through a `Builder`, which makes equal nodes once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field, replace
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from codegen.records import dataclass
from tracegrad.ir.dims import Assumptions, Dim, Guard, Size, assuming, substitute, symbols
from tracegrad.ir.types import ArrayType, TupleType

if TYPE_CHECKING:
    from tracegrad.ir.op import Op

_serial = count()


def next_serial() -> int:
    """Nodes are numbered as they are made: operands before their readers."""
    return next(_serial)


@dataclass(frozen=True)
class Source:
    """A place in the user's program: the expression that made a value."""

    file: str
    line: int
    function: str
    text: str
    columns: tuple[int, int] = (0, 0)
    """Where `text` stands in its line: first column, and the one after the last."""


@dataclass(frozen=True)
class Literal:
    """A constant array as an attribute: compared by content."""

    array: np.ndarray = field(compare=False)
    key: tuple[Any, ...] = ()

    @staticmethod
    def of(array: np.ndarray) -> Literal:
        array = np.array(array, order="C")
        array.flags.writeable = False
        return Literal(array, (array.dtype.str, array.shape, array.tobytes()))


@dataclass(frozen=True, eq=False, init=False)
class Node:
    """`name = op(*inputs, **attrs)`, of type `type`, written at `source`."""

    op: Op
    inputs: tuple[Node, ...]
    attrs: tuple[tuple[str, Any], ...]
    type: ArrayType
    name: str
    source: Source | None
    serial: int

    def __init__(
        self,
        op: Op,
        inputs: tuple[Node, ...],
        attrs: tuple[tuple[str, Any], ...],
        type: ArrayType,
        name: str = "",
        source: Source | None = None,
        serial: int = -1,
    ) -> None:
        """Written out: a frozen class sets fields one by one, and there are many nodes."""
        own = self.__dict__
        own["op"], own["inputs"], own["attrs"], own["type"] = op, inputs, attrs, type
        own["name"], own["source"] = name, source
        own["serial"] = next(_serial) if serial < 0 else serial

    @property
    def attributes(self) -> dict[str, Any]:
        return dict(self.attrs)

    def on(self, inputs: tuple[Node, ...], attrs: tuple[tuple[str, Any], ...]) -> Node:
        """The same with other operands and attributes, under the same number."""
        return Node(self.op, inputs, attrs, self.type, self.name, self.source, self.serial)

    def __repr__(self) -> str:
        inputs = ", ".join(node.name or f"v{node.serial}" for node in self.inputs)
        return f"{self.name or f'v{self.serial}'} = {self.op.name}({inputs}): {self.type}"


@dataclass(frozen=True)
class Graph:
    """A program. Every symbol of its types is the extent of an input's axis (`sizes`), or computed
    by a node and bound by one of `bounds`.
    """

    name: str
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    guards: tuple[Guard, ...] = ()
    source: Source | None = None
    output_names: tuple[str, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    """What was decided while tracing, and about what: for `explain()`."""
    effects: tuple[Node, ...] = ()
    """What is computed though no output needs it: the last states of random number generators."""
    checks: tuple[Guard, ...] = ()
    """What is taken for granted of sizes that the program computes: checked when they are known."""
    bounds: tuple[Node, ...] = ()
    """The nodes that may be needed for the symbols that they bind (`k = int(np.sum(mask))`)."""

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Inputs, then all that the outputs depend on, in the order in which it was built."""
        reached = reachable((*self.outputs, *self.effects))
        if self.bounds:
            return self.inputs + self._with_bounds(reached)
        inner = [node for node in reached if node not in set(self.inputs)]
        return self.inputs + tuple(sorted(inner, key=lambda node: node.serial))

    def _with_bounds(self, reached: set[Node]) -> tuple[Node, ...]:
        """The nodes other than inputs, and what binds their symbols; each after what it depends on,
        and otherwise in the order in which they were built.
        """
        order = dict.fromkeys(self.inputs)
        stack = sorted(reached, key=lambda node: -node.serial)
        while stack:
            node = stack[-1]
            first = () if node in order else (*node.inputs, *self.binding(node))
            waiting = [other for other in first if other not in order]
            if waiting:
                stack += waiting
                continue
            order.setdefault(stack.pop())
        return tuple(order)[len(self.inputs) :]

    @cached_property
    def binds(self) -> dict[str, Node]:
        """The node that binds each symbol which the program computes."""
        found: dict[str, Node] = {}
        for node in self.bounds:
            found.setdefault(str(node.attributes["symbol"]), node)
        return found

    def binding(self, node: Node) -> list[Node]:
        """The nodes that bind the symbols in a node's type and attributes."""
        if not self.bounds:
            return []
        sizes = (*sizes_of(node.type), *attr_sizes(node.attrs))
        names = dict.fromkeys(name for size in sizes for name in symbols(size))
        found = (self.binds.get(name) for name in names)
        return [bound for bound in found if bound is not None and bound is not node]

    @cached_property
    def uses(self) -> dict[Node, list[Node]]:
        """For every node the nodes that read it, once per reading argument."""
        found: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for operand in node.inputs:
                found[operand].append(node)
        return found

    @cached_property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Each symbol's defining place: the first input axis that is that symbol alone."""
        places: dict[str, tuple[int, int]] = {}
        for number, node in enumerate(self.inputs):
            for axis, size in enumerate(node.type.shape):
                if isinstance(size, Dim) and str(size).isidentifier():
                    places.setdefault(str(size), (number, axis))
        return places

    @cached_property
    def entry_guards(self) -> tuple[tuple[int, int, Size], ...]:
        """Extents that an input must have: `(input, axis, size)`, other than the defining ones."""
        defining = set(self.sizes.values())
        return tuple(
            (number, axis, size)
            for number, node in enumerate(self.inputs)
            for axis, size in enumerate(node.type.shape)
            if (number, axis) not in defining
        )


def sizes_of(type: ArrayType) -> Iterator[Size]:
    """The extents of a value, or of the parts of one with several results."""
    for part in type.parts if isinstance(type, TupleType) else (type,):
        yield from part.shape


def largest(bounds: Iterable[Node]) -> dict[str, Size]:
    """The upper bounds of symbols that nodes bind, where they are known."""
    found = ((str(n.attributes["symbol"]), n.attributes.get("most")) for n in bounds)
    return {name: most for name, most in found if most is not None}


def all_nodes(graph: Graph) -> Iterator[Node]:
    """The nodes of `graph` and of the bodies inside it."""
    for node in graph.nodes:
        yield node
        for body in bodies(node):
            yield from all_nodes(body)


def bodies(node: Node) -> Iterator[Graph]:
    """The graphs among a node's attributes: the bodies of a loop or a branch."""
    for _, value in node.attrs:
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Graph):
                yield item


def map_bodies(
    attrs: tuple[tuple[str, Any], ...], change: Callable[[Graph], Graph]
) -> tuple[tuple[str, Any], ...]:
    """The attributes with every graph among them changed."""

    def changed(value: Any) -> Any:
        if isinstance(value, Graph):
            return change(value)
        if isinstance(value, tuple):
            return tuple(changed(item) for item in value)
        return value

    return tuple((name, changed(value)) for name, value in attrs)


def reachable(
    outputs: Iterable[Node], stop: Callable[[Node], bool] = lambda node: False
) -> set[Node]:
    """All nodes behind `outputs`, these included; nothing behind one where `stop` holds."""
    seen: set[Node] = set()
    stack = list(outputs)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            if not stop(node):
                stack.extend(node.inputs)
    return seen


class Builder:
    """Makes nodes; equal ones (same op, operands and attributes) are one node."""

    def __init__(self) -> None:
        self._made: dict[tuple, Node] = {}
        self._types: dict[tuple, tuple[ArrayType, tuple[ArrayType, ...]]] = {}
        """What an op makes of operands of these types, by their identity."""
        self._same: dict[ArrayType, ArrayType] = {}
        """Equal results are one object, so that for repeated operations nothing is inferred."""
        self.bounds: list[Node] = []
        """The nodes made so far that bind a symbol."""

    def node(
        self,
        op: Op,
        inputs: tuple[Node, ...],
        attrs: tuple[tuple[str, Any], ...],
        name: str = "",
        source: Source | None = None,
    ) -> Node:
        key = (op, tuple([node.serial for node in inputs]), attrs)
        found = self._made.get(key)
        if found is None:
            type = self.inferred(op, tuple([node.type for node in inputs]), attrs)
            found = self._made[key] = Node(op, inputs, attrs, type, name, source)
            if op.binds:
                self.bounds.append(found)
        return found

    def inferred(
        self, op: Op, types: tuple[ArrayType, ...], attrs: tuple[tuple[str, Any], ...]
    ) -> ArrayType:
        """The type of the result, by the op's shape rule. What a trace assumed once it assumes
        ever after, so the answer stays."""
        if not types:
            return op.infer(**dict(attrs))
        key = (op, attrs, *map(id, types))
        found = self._types.get(key)
        if found is None:
            type = op.infer(*types, **dict(attrs))
            found = self._types[key] = self._same.setdefault(type, type), types
        return found[0]

    @property
    def length(self) -> int:
        """How many nodes were made."""
        return len(self._made)

    def known(self, op: Op, inputs: tuple[Node, ...]) -> Node | None:
        """The node of an op without attributes that was made before, if there is one."""
        return self._made.get((op, tuple(node.serial for node in inputs), ()))


def adopted(nodes: Iterable[Node]) -> Builder:
    """A builder that already knows these nodes."""
    builder = Builder()
    for node in nodes:
        builder._made.setdefault(
            (node.op, tuple(operand.serial for operand in node.inputs), node.attrs), node
        )
        if node.op.binds:
            builder.bounds.append(node)
    return builder


def rebuild(
    graph: Graph,
    rule: Callable[[Builder, Node, tuple[Node, ...]], Node] | None = None,
    known: Mapping[str, Size] | None = None,
) -> Graph:
    """`graph` made anew: every node through `rule`, every size through the substitution `known`.

    Types are inferred again, so a rebuild is also a check of the graph.
    """
    known = known or {}
    substituted = (guard.substitute(known) for guard in graph.guards)
    guards = tuple(dict.fromkeys(guard for guard in substituted if not guard.is_certain))
    builder, new = Builder(), {}
    for node in graph.inputs:
        new[node] = replace(node, type=node.type.substitute(known), serial=next(_serial))
    checks = tuple(check.substitute(known) for check in graph.checks)
    most = {name: substitute(size, known) for name, size in largest(graph.bounds).items()}
    with assuming(Assumptions({}, list(guards), most=most, checks=list(checks))):
        for node in graph.nodes[len(graph.inputs) :]:
            operands = tuple(new[operand] for operand in node.inputs)
            attrs = substitute_attrs(node.attrs, known)
            if rule is None:
                new[node] = builder.node(node.op, operands, attrs, node.name, node.source)
            else:
                new[node] = rule(builder, node.on(operands, attrs), operands)
    return replace(
        graph,
        inputs=tuple(new[node] for node in graph.inputs),
        outputs=tuple(new[node] for node in graph.outputs),
        effects=tuple(new[node] for node in graph.effects),
        bounds=tuple(builder.bounds),
        checks=checks,
        guards=guards,
    )


def mapped_bounds(graph: Graph, new: Mapping[Node, Node]) -> tuple[Node, ...]:
    """The bounds that `graph` needs, replaced."""
    needed = set(graph.nodes) if graph.bounds else ()
    return tuple(new.get(node, node) for node in graph.bounds if node in needed)


def substitute_attrs(
    attrs: tuple[tuple[str, Any], ...], known: Mapping[str, Size]
) -> tuple[tuple[str, Any], ...]:
    if not attrs or not known:
        return attrs
    return tuple((name, _substitute_value(value, known)) for name, value in attrs)


def _substitute_value(value: Any, known: Mapping[str, Size]) -> Any:
    if isinstance(value, Dim):
        return substitute(value, known)
    if isinstance(value, tuple):
        return tuple(_substitute_value(item, known) for item in value)
    if isinstance(value, Graph) and known:
        return rebuild(value, None, known)
    return value


def attr_sizes(attrs: tuple[tuple[str, Any], ...]) -> Iterator[Dim]:
    """The symbolic sizes among the attributes."""
    stack: list[Any] = [value for _, value in attrs]
    while stack:
        value = stack.pop()
        if isinstance(value, Dim):
            yield value
        elif isinstance(value, tuple):
            stack.extend(value)
        elif isinstance(value, Graph):
            stack.extend(node.type.shape for node in value.nodes)
            stack.extend(tuple(attr for _, attr in node.attrs) for node in value.nodes)
