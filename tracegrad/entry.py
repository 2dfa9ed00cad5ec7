"""The way into compiled code: small Python functions, written for one version of a function.

In: the parameters of the user's function, the structure of a call's arguments, the compiled
program, the structure of its results. Out: a Python function that looks at types and structure,
allocates the results, runs the compiled code and packs what it gave. For `loss.value_and_grad`:

    def loss_value_and_grad(x, *, out=None):
        if out is not None:
            return into(out, x)
        if type(x) is not ndarray or x.dtype is not of_float64 and x.dtype != of_float64:
            return other(x)
        try:
            d_x = empty(x.shape)
            y = run(x, d_x)
        except (TypeError, ValueError):
            return other(x)
        return (float64(y), d_x)

Whatever such a function does not expect goes to `other`: the entry of another version, and at the
end of that chain the long road, which normalises the arguments and finds or traces a version, or
raises what is to be raised. The compiled code itself checks ranks, layout and guards; where several
versions take arguments of one structure ranks and guards are looked at before it is run.
"""

from __future__ import annotations

import keyword
import linecache
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter, Signature
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from tracegrad.compile import Program
from tracegrad.ir.dims import Size, substitute, symbol, symbols
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.types import ArrayType
from tracegrad.tree import Branch, Leaf, Static, Tree

HOME = Path(__file__).resolve().parent
_numbers = count(1)


class Absent:
    """The value of a parameter for which nothing was given."""

    def __repr__(self) -> str:
        return "<not given>"


ABSENT = Absent()


@dataclass
class Writer:
    """The text of one function, and the objects that it names."""

    taken: set[str] = field(default_factory=set)
    objects: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def unique(self, name: str) -> str:
        """A local name that nothing else has."""
        name = name if name.isidentifier() and not keyword.iskeyword(name) else "value"
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def object(self, hint: str, value: Any) -> str:
        """The name under which the text finds `value`."""
        for name, known in self.objects.items():
            if known is value:
                return name
        name = self.unique(hint)
        self.objects[name] = value
        return name

    def type(self, kind: type) -> str:
        return self.object(kind.__name__, kind)

    def add(self, *lines: str, indent: int = 1) -> None:
        self.lines += ["    " * indent + line for line in lines]

    def function(self, name: str, parameters: str) -> Callable[..., Any]:
        """The function of the lines written so far."""
        text = "\n".join([f"def {name}({parameters}):", *self.lines, ""])
        file = str(HOME / f"entry {next(_numbers)} of {name}")
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        space = dict(self.objects)
        exec(compile(text, file, "exec"), space)
        made = space[name]
        made.text = text
        return made


@dataclass(frozen=True)
class Run:
    """How a program is run on flat arguments: its compiled function, and the numbers of the results
    for which it is given arrays to fill."""

    program: Program
    function: Any
    given: tuple[int, ...]

    @staticmethod
    def of(program: Program) -> Run:
        """By the form that takes its results, unless their extents cannot be told beforehand."""
        graph, target = program.final, program.into
        sizes = (s for number in target.given for s in graph.outputs[number].type.shape)
        if all(set(symbols(size)) <= set(graph.sizes) for size in sizes):
            return Run(program, target.function, target.given)
        return Run(program, program.function, ())

    @property
    def graph(self) -> Graph:
        return self.program.final

    def write(self, writer: Writer, inputs: Sequence[str], indent: int, sizes: Sizes) -> list[str]:
        """Lines that allocate what is given, and run; the names of all results in order."""
        outputs = self.graph.outputs
        names = [writer.unique(node.name or "y") for node in outputs]
        shapes = {number: outputs[number].type.shape for number in self.given}
        alike = {number: sizes.owner(shape) for number, shape in shapes.items()}
        needed = [s for number, shape in shapes.items() if alike[number] is None for s in shape]
        sizes.write(writer, {letter for size in needed for letter in symbols(size)}, indent)
        for number in self.given:
            made = allocation(writer, outputs[number].type, sizes.shape(shapes[number]))
            writer.add(f"{names[number]} = {made}", indent=indent)
        others = [name for number, name in enumerate(names) if number not in self.given]
        arguments = ", ".join([*inputs, *(names[number] for number in self.given)])
        target = f"{', '.join(others)} = " if others else ""
        writer.add(f"{target}{writer.object('run', self.function)}({arguments})", indent=indent)
        return names


@dataclass
class Sizes:
    """The letters of a graph as local variables, taken from the arguments' shapes when needed."""

    graph: Graph
    inputs: Sequence[str]
    known: dict[str, Size] = field(default_factory=dict)

    def text(self, size: Size) -> str:
        return str(substitute(size, self.known))

    def shape(self, shape: tuple[Size, ...]) -> str:
        """`x.shape` if it is that of an argument, else `(n, m - 1)`."""
        owner = self.owner(shape)
        if owner is not None:
            return f"{owner}.shape"
        extents = [self.text(size) for size in shape]
        return extents[0] if len(extents) == 1 else f"({', '.join(extents)})"

    def owner(self, shape: tuple[Size, ...]) -> str | None:
        """The argument whose axes these letters stand for, one for one."""
        number = self.graph.sizes.get(str(shape[0]), (None, 0))[0]
        if number is None or len(shape) != self.graph.inputs[number].type.rank:
            return None
        letters = [self.graph.sizes.get(str(size)) for size in shape]
        return self.inputs[number] if letters == [(number, a) for a in range(len(shape))] else None

    def write(self, writer: Writer, wanted: Iterable[str], indent: int) -> None:
        new = [
            letter for letter in self.graph.sizes if letter in wanted and letter not in self.known
        ]
        for letter in new:
            self.known[letter] = symbol(writer.unique(letter))
        for number in dict.fromkeys(self.graph.sizes[letter][0] for letter in new):
            axes = {
                self.graph.sizes[x][1]: str(self.known[x])
                for x in new
                if self.graph.sizes[x][0] == number
            }
            rank = self.graph.inputs[number].type.rank
            unused = "_" if len(axes) == rank else writer.unique("_")
            targets = [axes.get(axis, unused) for axis in range(rank)]
            comma = "," if rank == 1 else ""
            writer.add(f"{', '.join(targets)}{comma} = {self.inputs[number]}.shape", indent=indent)


def allocation(writer: Writer, type: ArrayType, shape: str) -> str:
    """`empty((n, m))`: a new array of this type."""
    dtype = (
        ""
        if type.dtype == np.float64
        else f", {writer.object(f'of_{type.dtype.name}', type.dtype)}"
    )
    return f"{writer.object('empty', np.empty)}({shape}{dtype})"


def direct(run: Run, tree: Tree, name: str) -> Callable[..., Any]:
    """`direct(*leaves)`: the packed results for normalised arguments."""
    writer = Writer()
    inputs = [writer.unique(node.name) for node in run.graph.inputs]
    names = run.write(writer, inputs, 1, Sizes(run.graph, inputs))
    writer.add(f"return {packed(writer, run.graph.outputs, names, tree)}")
    return writer.function(function_name(name), ", ".join(inputs))


def packed(writer: Writer, outputs: Sequence[Node], names: Sequence[str], tree: Tree) -> str:
    """The results as the user's structure; what is of rank 0 becomes NumPy's scalar."""
    values = [
        name if node.type.rank else f"{writer.type(node.type.dtype.type)}({name})"
        for name, node in zip(names, outputs, strict=True)
    ]
    return structure(writer, tree, iter(values))


def structure(writer: Writer, tree: Tree, values: Iterator[str]) -> str:
    """An expression for a value of that structure: `{'w': d_w, 'b': d_b}`."""
    match tree:
        case Leaf():
            return next(values)
        case Static(value):
            return constant(writer, value)
    items = [structure(writer, child, values) for child in tree.children]
    listed = ", ".join(items)
    if tree.kind is tuple:
        return f"({listed}{',' * (len(items) == 1)})"
    if tree.kind is list:
        return f"[{listed}]"
    keys = [constant(writer, key) for key in tree.keys]
    kind = writer.type(tree.kind)
    if issubclass(tree.kind, dict):
        body = ", ".join(f"{key}: {item}" for key, item in zip(keys, items, strict=True))
        return f"{{{body}}}" if tree.kind is dict else f"{kind}({{{body}}})"
    if hasattr(tree.kind, "_fields"):
        return f"{kind}({listed})"
    if issubclass(tree.kind, list | tuple):
        return f"{kind}([{listed}])"
    fields = ", ".join(f"{key}={item}" for key, item in zip(tree.keys, items, strict=True))
    return f"{kind}({fields})"


def constant(writer: Writer, value: Any) -> str:
    """A fixed value in the text: written out if its text says all, else by a name."""
    if value is None or type(value) in (int, str, bool):
        return repr(value)
    return writer.object("fixed", value)


@dataclass
class Call:
    """The parameters of a function as the text of its `def`, and of a call with the same values."""

    signature: Signature
    into: bool
    """Whether there is a further parameter `out`."""

    def parameters(self, absent: str) -> str:
        found, kinds = [], []
        for parameter in self.signature.parameters.values():
            self._separate(found, kinds, parameter.kind)
            star = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}.get(
                parameter.kind, ""
            )
            default = "" if star or parameter.default is Parameter.empty else f"={absent}"
            found.append(f"{star}{parameter.name}{default}")
        if Parameter.POSITIONAL_ONLY in kinds and set(kinds) == {Parameter.POSITIONAL_ONLY}:
            found.append("/")
        if self.into:
            if not {Parameter.VAR_POSITIONAL, Parameter.KEYWORD_ONLY} & set(kinds):
                found.append("*")
            found.append("out=None")
        return ", ".join(found)

    @staticmethod
    def _separate(found: list[str], kinds: list[Any], kind: Any) -> None:
        """`/` after the positional parameters, `*` before the keywords."""
        if kinds and kinds[-1] is Parameter.POSITIONAL_ONLY is not kind:
            found.append("/")
        named = {Parameter.VAR_POSITIONAL, Parameter.KEYWORD_ONLY}
        if kind is Parameter.KEYWORD_ONLY and not named & set(kinds):
            found.append("*")
        kinds.append(kind)

    @property
    def arguments(self) -> str:
        written = {
            Parameter.VAR_POSITIONAL: "*{0}",
            Parameter.VAR_KEYWORD: "**{0}",
            Parameter.KEYWORD_ONLY: "{0}={0}",
        }
        parameters = self.signature.parameters.values()
        return ", ".join(written.get(p.kind, "{0}").format(p.name) for p in parameters)


@dataclass
class Entry:
    """What the entry of one version is written from."""

    name: str
    signature: Signature
    arguments: Sequence[tuple[str, Tree]]
    """The parameters for which something was given, with its structure."""
    run: Run
    results: Tree
    checked: bool
    """Whether ranks and guards decide between versions, and are looked at first."""

    def function(
        self,
        other: Callable[..., Any],
        into: Callable[..., Any] | None = None,
        latest: tuple[Any, Any] | None = None,
    ) -> Callable[..., Any]:
        """The entry. `other` takes calls that are not for this version, `into` those with `out`;
        a call sets `latest[0].latest` to `latest[1]`."""
        parameters = self.signature.parameters
        writer = Writer({*parameters, "out"})
        call = Call(self.signature, into is not None)
        absent = writer.object("absent", ABSENT)
        miss = f"return {writer.object('other', other)}({call.arguments})"
        if into is not None:
            given = ", ".join(part for part in ("out", call.arguments) if part)
            writer.add("if out is not None:")
            writer.add(f"return {writer.object('into', into)}({given})", indent=2)
        inputs = Unpacking(writer, self.run.graph.inputs, miss).all(
            self.arguments, parameters, absent
        )
        sizes = Sizes(self.run.graph, inputs)
        if self.checked:
            self._check(writer, inputs, sizes, miss)
        writer.add("try:")
        names = self.run.write(writer, inputs, 2, sizes)
        writer.add(f"except ({writer.type(TypeError)}, {writer.type(ValueError)}):")
        writer.add(miss, indent=2)
        if latest is not None:
            owner, version = latest
            writer.add(
                f"{writer.object('owner', owner)}.latest = {writer.object('version', version)}"
            )
        writer.add(f"return {packed(writer, self.run.graph.outputs, names, self.results)}")
        return writer.function(function_name(self.name), call.parameters(absent))

    def _check(self, writer: Writer, inputs: Sequence[str], sizes: Sizes, miss: str) -> None:
        """Ranks, then the guards."""
        graph = self.run.graph
        for name, node in zip(inputs, graph.inputs, strict=True):
            if node.type.rank:
                writer.add(f"if {name}.ndim != {node.type.rank}:")
                writer.add(miss, indent=2)
        conditions = [
            (f"{inputs[number]}.shape[{axis}] != {{}}", (size,))
            for number, axis, size in graph.entry_guards
        ] + [(f"not {{}} {g.relation} {{}}", (g.left, g.right)) for g in graph.guards]
        wanted = {s for _, found in conditions for size in found for s in symbols(size)}
        sizes.write(writer, wanted, 1)
        for text, found in conditions:
            writer.add(f"if {text.format(*(f'({sizes.text(size)})' for size in found))}:")
            writer.add(miss, indent=2)


@dataclass
class Unpacking:
    """Lines that take arguments apart, and send away what has another structure."""

    writer: Writer
    inputs: Sequence[Node]
    miss: str
    names: list[str] = field(default_factory=list)
    """Of the leaves found so far."""

    def all(
        self,
        arguments: Sequence[tuple[str, Tree]],
        parameters: Mapping[str, Parameter],
        absent: str,
    ) -> list[str]:
        given = dict(arguments)
        for name, parameter in parameters.items():
            if name not in given:
                several = parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
                self.refuse(name if several else f"{name} is not {absent}")
        for parameter, tree in arguments:
            self.take(parameter, tree)
        checks = [
            self.wrong(name, node) for name, node in zip(self.names, self.inputs, strict=True)
        ]
        if checks:
            self.refuse(" or ".join(checks))
        return self.names

    def refuse(self, condition: str) -> None:
        self.writer.add(f"if {condition}:")
        self.writer.add(self.miss, indent=2)

    def wrong(self, name: str, node: Node) -> str:
        """Compiled code does not look at the byte order, so the dtype is looked at here."""
        if not node.type.rank:
            kind = float if node.type.weak else node.type.dtype.type
            return f"type({name}) is not {self.writer.type(kind)}"
        dtype = self.writer.object(f"of_{node.type.dtype.name}", node.type.dtype)
        wrong = f"{name}.dtype is not {dtype} and {name}.dtype != {dtype}"
        return f"type({name}) is not {self.writer.type(np.ndarray)} or {wrong}"

    def take(self, name: str, tree: Tree) -> None:
        """The value called `name` has the structure `tree`."""
        match tree:
            case Leaf():
                self.leaf(name)
            case Static(value):
                self.static(name, value)
            case Branch():
                self.branch(name, tree)

    def leaf(self, name: str) -> None:
        type = self.inputs[len(self.names)].type
        if not type.rank and not type.weak:
            array = self.writer.type(np.ndarray)
            self.writer.add(f"{name} = {name}[()] if type({name}) is {array} else {name}")
        self.names.append(name)

    def static(self, name: str, value: Any) -> None:
        if value is None or value is True or value is False:
            self.refuse(f"{name} is not {value}")
        else:
            kind, fixed = self.writer.type(type(value)), constant(self.writer, value)
            self.refuse(f"type({name}) is not {kind} or {name} != {fixed}")

    def branch(self, name: str, tree: Branch) -> None:
        kind = self.writer.type(tree.kind)
        parts = [self.writer.unique(re.sub(r"\W", "_", f"{name}_{key}")) for key in tree.keys]
        if issubclass(tree.kind, dict):
            keys = self.writer.object("keys", tree.keys)
            self.refuse(f"type({name}) is not {kind} or (*{name},) != {keys}")
            source = f"{name}.values()"
        elif issubclass(tree.kind, tuple | list):
            self.refuse(f"type({name}) is not {kind} or len({name}) != {len(parts)}")
            source = name
        else:
            self.refuse(f"type({name}) is not {kind}")
            source = ", ".join(f"{name}.{key}" for key in tree.keys)
            source += "," if len(parts) == 1 else ""
        if parts:
            comma = "," if len(parts) == 1 else ""
            self.writer.add(f"{', '.join(parts)}{comma} = {source}")
        for part, child in zip(parts, tree.children, strict=True):
            self.take(part, child)


def function_name(name: str) -> str:
    return name if name.isidentifier() and not keyword.iskeyword(name) else "function"


__all__ = ["ABSENT", "Entry", "Run", "direct"]
