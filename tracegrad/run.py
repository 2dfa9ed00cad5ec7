"""How compiled code is run from Python: functions written for one program, and the text of these.

In: a program, the structure of its results. Out: a Python function from normalised arguments to
results. The arrays that a program fills are allocated here, by NumPy, wherever their extents are
known before it runs: that costs less than to make an array of what compiled code allocated. Large
ones lie in memory that is used again (`blocks`).

    def loss_value_and_grad(x):
        d_x = empty(x.shape) if x.size < 524288 else large(x.shape, of_float64)
        y = run(x, d_x)
        return (float64(y), d_x)
"""

from __future__ import annotations

import keyword
import linecache
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from types import BuiltinFunctionType, MappingProxyType
from typing import Any
from zlib import crc32

import numpy as np

from codegen.records import dataclass
from tracegrad.blocks import LARGE
from tracegrad.blocks import empty as large_empty
from tracegrad.compile import Program
from tracegrad.ir.dims import Size, product, substitute, symbol, symbols
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.types import ArrayType
from tracegrad.ops.raising import own_errors, with_own_errors
from tracegrad.tree import Leaf, Static, Tree

HOME = Path(__file__).resolve().parent


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
        own = name
        while own in self.objects:  # a user's function may be called `run`, as the compiled code is
            own += "_"
        text = "\n".join([f"def {own}({parameters}):", *self.lines, ""])
        # The same text has the same name: functions that come and go leave nothing behind.
        file = str(HOME / f"entry {crc32(text.encode()):08x} of {name}")
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        space = dict(self.objects)
        exec(compile(text, file, "exec"), space)
        made = space[own]
        made.__code__ = made.__code__.replace(co_name=name, co_qualname=name)
        made.__name__ = made.__qualname__ = name
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
        fills = all(set(symbols(size)) <= set(graph.sizes) for size in sizes)
        function = target.entry if fills else program.entry
        if errors := own_errors(graph):
            function = with_own_errors(function, errors)
        return Run(program, function, target.given if fills else ())

    @property
    def graph(self) -> Graph:
        return self.program.final

    @property
    def looks(self) -> bool:
        """Whether the function itself refuses arguments of other types: compiled ones do."""
        compiled = isinstance(self.function, BuiltinFunctionType)
        return compiled or hasattr(self.function, "overloads")

    def write(
        self,
        writer: Writer,
        inputs: Sequence[str],
        indent: int,
        sizes: Sizes,
        there: Mapping[int, str] = MappingProxyType({}),
    ) -> list[str]:
        """Lines that allocate what the program is given, but for the arrays that are `there`, and
        run; the names of all results in order."""
        outputs = self.graph.outputs
        names = [
            there.get(number) or writer.unique(node.name or "y")
            for number, node in enumerate(outputs)
        ]
        made = [number for number in self.given if number not in there]
        shapes = {number: outputs[number].type.shape for number in made}
        alike = {number: sizes.owner(shape) for number, shape in shapes.items()}
        needed = [s for number, shape in shapes.items() if alike[number] is None for s in shape]
        sizes.write(writer, {letter for size in needed for letter in symbols(size)}, indent)
        for number in made:
            array = allocation(writer, outputs[number].type, sizes)
            writer.add(f"{names[number]} = {array}", indent=indent)
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

    def number(self, shape: tuple[Size, ...]) -> str:
        """The number of elements: `x.size`, `n*m`."""
        owner = self.owner(shape)
        return f"{owner}.size" if owner is not None else self.text(product(shape))

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


def allocation(writer: Writer, type: ArrayType, sizes: Sizes) -> str:
    """`empty((n, m)) if n*m < 524288 else large((n, m), of_float64)`: a new array of this type."""
    shape, number = sizes.shape(type.shape), sizes.number(type.shape)
    dtype = writer.object(f"of_{type.dtype.name}", type.dtype)
    default = "" if type.dtype == np.float64 else f", {dtype}"
    small = f"{writer.object('empty', np.empty)}({shape}{default})"
    large = f"{writer.object('large', large_empty)}({shape}, {dtype})"
    most = LARGE // type.dtype.itemsize
    if number.isdigit():
        return small if int(number) < most else large
    return f"{small} if {number} < {most} else {large}"


def direct(run: Run, tree: Tree, name: str) -> Callable[..., Any]:
    """`direct(*leaves)`: the packed results for normalised arguments."""
    writer = Writer()
    inputs = [writer.unique(node.name) for node in run.graph.inputs]
    names = run.write(writer, inputs, 1, Sizes(run.graph, inputs))
    writer.add(f"return {packed(writer, run.graph.outputs, names, tree)}")
    return writer.function(function_name(name), ", ".join(inputs))


def arrays(run: Run, name: str) -> Callable[..., tuple[np.ndarray, ...]]:
    """`arrays(*leaves)`: the results for normalised arguments, as arrays in a tuple."""
    writer = Writer()
    inputs = [writer.unique(node.name) for node in run.graph.inputs]
    names = run.write(writer, inputs, 1, Sizes(run.graph, inputs))
    listed = as_arrays(writer, run.graph.outputs, names)
    writer.add(f"return ({listed})" if listed else "return ()")
    return writer.function(function_name(name), ", ".join(inputs))


def as_arrays(writer: Writer, outputs: Sequence[Node], names: Sequence[str]) -> str:
    """`y, asarray(s, of_float64),`: what is of rank 0 becomes an array of rank 0, and what is
    returned twice, two arrays."""
    items = []
    for number, (name, node) in enumerate(zip(names, outputs, strict=True)):
        again = ".copy()" if node in outputs[:number] else ""
        items.append(f"{name}{again}" if node.type.rank else as_array(writer, name, node.type))
    return "".join(f"{item}, " for item in items).rstrip()


def as_array(writer: Writer, name: str, type: ArrayType) -> str:
    dtype = writer.object(f"of_{type.dtype.name}", type.dtype)
    return f"{writer.object('asarray', np.asarray)}({name}, {dtype})"


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
        factory = "None, " if issubclass(tree.kind, defaultdict) else ""
        return f"{{{body}}}" if tree.kind is dict else f"{kind}({factory}{{{body}}})"
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


def function_name(name: str) -> str:
    return name if name.isidentifier() and not keyword.iskeyword(name) else "function"
