"""Dumps: a graph as a Python function over NumPy; types, memory and the user's lines in comments.

    # loss · forward                                                                 user.py:2
    #   x: f64[n, m]  ->  y: f64
    def loss_forward(x):
        n, m = x.shape
        v1 = x + 1.0    # f64[n, m]  ┌ k0 register    3│ x + 1
        y = np.sum(v1)  # f64        └    sum         3│ np.sum(x + 1)
        return y
    # kernels  k0: loop n, m; reads x; 2 flops, 8 bytes per element; no array allocated

The text runs: `dump.function()` is the function that it defines.
"""

from __future__ import annotations

import html
import importlib
import pickle
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tracegrad.autodiff.residuals import Cut, Residual
from tracegrad.inspect.cost import kernel_text, plural
from tracegrad.inspect.guards import assumptions
from tracegrad.inspect.kernels import Layout, Place
from tracegrad.inspect.statements import Step, Writer
from tracegrad.inspect.table import NO_BREAK, Row, table
from tracegrad.ir.dims import Size
from tracegrad.ir.graph import Graph, Node, Source, all_nodes
from tracegrad.ir.types import ArrayType, dtype_text
from tracegrad.ops.foreign import FOREIGN
from tracegrad.tracing.naming import name_nodes

HEADER_WIDTH = 100


class Dump(str):
    """A dump: prints as it is, shows as preformatted text in a notebook, runs as a program."""

    name: str
    constants: Mapping[str, Any]
    """The constant arrays that are too large to write out, and the compiled functions of the
    user's, by the names that the text uses."""

    def __new__(cls, text: str, name: str, constants: Mapping[str, Any]) -> Dump:
        self = super().__new__(cls, text)
        self.name, self.constants = name, dict(constants)
        return self

    def function(self) -> Callable[..., Any]:
        """The function that the text defines, over NumPy arrays."""
        namespace: dict[str, Any] = {"np": np, "pickle": pickle, **self.constants}
        if "scipy." in self:
            namespace["scipy"] = importlib.import_module("scipy")
            for module in ("scipy.special", "scipy.linalg"):
                if f"{module}." in self:
                    importlib.import_module(module)
        exec(compile(str(self), f"<dump of {self.name}>", "exec"), namespace)
        return namespace[self.name]

    def _repr_html_(self) -> str:
        return preformatted(self)


def preformatted(text: str) -> str:
    """Text for a notebook: monospace, escaped."""
    return f'<pre style="line-height: 1.25">{html.escape(str(text))}</pre>'


def dump_program(
    graph: Graph,
    title: str,
    kind: str,
    notes: Sequence[str] = (),
    own: int | None = None,
    remarks: Mapping[str, str] | None = None,
    donated: frozenset[int] = frozenset(),
) -> Dump:
    """A final graph with its kernels and memory; its first `own` results are the function's own.

    `notes` go to the header, `remarks` behind the values of these names; the memory of the inputs
    `donated` may be written to.
    """
    layout = Layout(graph, own, donated)
    remarks = {k: f"in the memory of {old}" for k, old in layout.handed_over.items()} | {
        **(remarks or {})
    }
    writer = Writer(graph)
    rows = [
        row
        for node in layout.order
        for row in _rows(writer, node, layout.places[node], remarks.get(node.name, ""))
    ]
    footer = [kernel_text(layout, kernel) for kernel in layout.kernels]
    head = [*_title(graph, f"{title} · {kind}", own), *notes, *_assumed(graph)]
    return _assembled(graph, writer, rows, head, footer)


def dump_graph(graph: Graph, title: str, kind: str, assumed: bool = True) -> Dump:
    """Any graph, before or after any pass: types and the user's lines only."""
    graph = name_nodes(graph)
    writer = Writer(graph)
    rows = [row for node in writer for row in _rows(writer, node)]
    head = [*_title(graph, f"{title} · {kind}", None), *(_assumed(graph) if assumed else [])]
    return _assembled(graph, writer, rows, head, [])


def dump_forward(cut: Cut, graph: Graph, title: str) -> Dump:
    return dump_program(graph, title, "forward", list(_kept(cut)), cut.outputs)


def dump_backward(
    cut: Cut, graph: Graph, title: str, donated: frozenset[int] = frozenset()
) -> Dump:
    """The backward; with `donated` residuals the one that consumes them."""
    remarks = {node.name: "recomputed" for node in (*cut.recomputed, *cut.repeated)}
    for node in graph.nodes:
        uses = _uses(cut, node.name.removeprefix("d_"))
        if node.op.name == "add" and node.name.startswith("d_") and uses > 1:
            remarks.setdefault(node.name, f"sum over its {uses} uses")
    kind = "consuming" if donated else "backward"
    return dump_program(graph, title, kind, list(_used(cut)), None, remarks, donated)


def _uses(cut: Cut, name: str) -> int:
    """How often the forward reads the value of that name."""
    return sum(operand.name == name for node in cut.forward.nodes for operand in node.inputs)


def _rows(
    writer: Writer, node: Node, place: Place | None = None, remark: str = ""
) -> Iterator[Row]:
    """The statements of a node: one row, and one for each statement of a body."""
    kernels = [kernel.name for kernel in place.kernels] if place else []
    notes = [remark] if remark else []
    notes += [f"again in {', '.join(kernels[1:])}"] if len(kernels) > 1 else []
    row = Row(
        (),
        _type(node),
        kernels[0] if kernels else "",
        place.where if place else "",
        *position(node.source, writer.graph.source),
        ", ".join(notes),
        _is_block(node),
    )
    for line in writer.lines(node):
        if isinstance(line, Step):
            yield row
            at = position(line.node.source, writer.graph.source)
            row = Row((), _type(line.node), row.kernel, "", *at, block=_is_block(line.node))
        row = replace(row, code=(*row.code, f"    {line}"))
    yield row


def _is_block(node: Node) -> bool:
    return node.op.has("block")


def _type(node: Node) -> str:
    """Of several results none: what projects them says theirs."""
    return "" if hasattr(node.type, "parts") else str(node.type)


def position(source: Source | None, home: Source | None) -> tuple[str, str]:
    """The user's line (with the file, if it is another than the function's) and text."""
    if source is None or not source.text:
        return "", ""
    elsewhere = home is not None and home.file != source.file
    line = f"{Path(source.file).name}:{source.line}" if elsewhere else str(source.line)
    return line, " ".join(source.text.split())


def _title(graph: Graph, title: str, own: int | None) -> Iterator[str]:
    """`# f · forward ... user.py:2` and the signature."""
    source = graph.source
    where = f"{Path(source.file).name}:{source.line}" if source else ""
    yield f"# {title:<{HEADER_WIDTH - 3 - len(where)}} {where}".rstrip()
    given = ", ".join(typed(node) for node in graph.inputs) or "()"
    made = ", ".join(typed(node) for node in graph.outputs[:own]) or "()"
    yield from labelled("", f"{given}{NO_BREAK} -> {NO_BREAK}{made}")


def labelled(label: str, text: str) -> list[str]:
    """A comment line with a label, wrapped; without a label: the signature."""
    return wrapped(text, f"#   {label:<8} " if label else "#   ", 13 if label else 8)


def wrapped(text: str, start: str, indent: int) -> list[str]:
    """`text` in comment lines of the header's width; NO_BREAK stands for a space that stays."""
    return [
        line.replace(NO_BREAK, " ")
        for line in textwrap.wrap(
            text,
            HEADER_WIDTH,
            initial_indent=start,
            subsequent_indent="#" + " " * (indent - 1),
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]


def typed(node: Node) -> str:
    """`x: f64[n, m]`, never broken over two lines."""
    return f"{node.name or 'value'}: {node.type}".replace(" ", NO_BREAK)


def _assumed(graph: Graph) -> list[str]:
    assumed = assumptions(graph)
    return labelled("assumes", ", ".join(assumed)) if assumed else []


def _kept(cut: Cut) -> Iterator[str]:
    arguments, results, kept = by_origin(cut)
    one, many = "the argument itself", "the arguments themselves"
    parts = []
    if arguments:
        names = ", ".join(r.name for r in arguments)
        parts.append(f"{names} ({one if len(arguments) == 1 else many}, nothing copied)")
    if results:
        names = ", ".join(r.name for r in results)
        parts.append(f"{names} ({'a result' if len(results) == 1 else 'results'}, nothing copied)")
    parts += [f"{r.name} ({bytes_of(r.type)} bytes)".replace(" ", NO_BREAK) for r in kept]
    yield from labelled("keeps", ", ".join(parts) if parts else "nothing")


def _used(cut: Cut) -> Iterator[str]:
    words = (("argument", "arguments"), ("result", "results"), ("kept", "kept"))
    parts = [
        f"{', '.join(r.name for r in found)} ({word[len(found) > 1]})"
        for found, word in zip(by_origin(cut), words, strict=True)
        if found
    ]
    text = ", ".join(parts) if parts else "nothing of the forward"
    if cut.recomputed:
        text += f";  recomputes {', '.join(node.name for node in cut.recomputed)}: {_saving(cut)}"
    yield from labelled("uses", text)


def by_origin(cut: Cut) -> tuple[list[Residual], list[Residual], list[Residual]]:
    """The residuals that are arguments, results, and values of their own."""
    found = [[r for r in cut.residuals if r.origin == o] for o in ("argument", "output", "kept")]
    return found[0], found[1], found[2]


def _saving(cut: Cut) -> str:
    """What computing again costs per element, beside a write and a read of what would be kept."""
    arrays = [node for node in cut.recomputed if node.type.rank]
    flops = sum(node.op.weight for node in arrays or cut.recomputed)
    moved = 2 * sum(node.type.dtype.itemsize for node in arrays or cut.recomputed)
    verb = "is" if flops == 1 else "are"
    return f"{plural(flops, 'flop')} {verb} cheaper than {moved} bytes".replace(" ", NO_BREAK)


def bytes_of(type: ArrayType) -> Size:
    return type.size * type.dtype.itemsize


def _assembled(
    graph: Graph, writer: Writer, rows: Sequence[Row], head: Sequence[str], kernels: Sequence[str]
) -> Dump:
    arrays = {name: node.attributes["value"].array for node, name in writer.tables.items()}
    called = [node.attributes["kernel"] for node in all_nodes(graph) if node.op is FOREIGN]
    functions = {kernel.name: kernel.foreign.function for kernel in called}
    constants = [line for name, array in arrays.items() for line in _constant(name, array)]
    results = ", ".join(writer.value(node) for node in graph.outputs)
    body = [
        *(f"    {line}" for line in size_lines(graph)),
        *table(rows),
        f"    return {results}".rstrip(),
    ]
    lines = [*head, *constants, *_def(graph), *body, *_footer(kernels)]
    return Dump("\n".join(lines), graph.name, {**arrays, **functions})


def _def(graph: Graph) -> list[str]:
    parameters = ", ".join(node.name for node in graph.inputs)
    line = f"def {graph.name}({parameters}):"
    if len(line) <= HEADER_WIDTH:
        return [line]
    rows = textwrap.wrap(f"{parameters},", HEADER_WIDTH - 4)
    return [f"def {graph.name}(", *(f"    {row}" for row in rows), "):"]


def _constant(name: str, array: np.ndarray) -> list[str]:
    shown = " ".join(np.array2string(array, threshold=6, edgeitems=2, precision=4).split())
    shape = ", ".join(map(str, array.shape))
    return labelled("constant", f"{name}: {dtype_text(array.dtype)}[{shape}] = {shown}")


def size_lines(graph: Graph) -> Iterator[str]:
    """`n, m = x.shape` where every axis of an input is named, `n = x.shape[0]` otherwise."""
    by_input: dict[int, dict[int, str]] = {}
    for name, (number, axis) in graph.sizes.items():
        by_input.setdefault(number, {})[axis] = name
    for number, named in by_input.items():
        node = graph.inputs[number]
        if node.type.rank > 1 and len(named) == node.type.rank:
            yield f"{', '.join(named[axis] for axis in sorted(named))} = {node.name}.shape"
        else:
            yield from (f"{name} = {node.name}.shape[{axis}]" for axis, name in named.items())


def _footer(kernels: Sequence[str]) -> Iterator[str]:
    for number, text in enumerate(kernels):
        yield from wrapped(text, "# kernels  " if not number else "#          ", 15)
