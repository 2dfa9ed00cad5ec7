"""The explanation of a version: what every pass did, what runs, what is kept and why, the costs.

In: a subject. Out: a text such as

    backward  kernels    k0: loop n, m; reads x; writes d_x; 6 flops, 16 bytes per element
              memory     8*n*m bytes = 48 bytes at the peak: d_x
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tracegrad.autodiff.residuals import Cut, Residual
from tracegrad.compile import Program, Stage
from tracegrad.inspect.cost import kernel_text, plural
from tracegrad.inspect.dump import HEADER_WIDTH, NO_BREAK, bytes_of, position, preformatted, typed
from tracegrad.inspect.kernels import Layout
from tracegrad.inspect.memory import peak
from tracegrad.inspect.subject import Subject, operations
from tracegrad.inspect.threads import threads_text
from tracegrad.ir.dims import Size, evaluate, symbols
from tracegrad.ir.graph import Node, all_nodes
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.ops.reduction import Reduction
from tracegrad.passes.cost import FLOPS_PER_BYTE, guess
from tracegrad.passes.plan import is_view
from tracegrad.tracing.naming import UNNAMED
from tracegrad.version import Version

UNITS = ("kB", "MB", "GB", "TB")
FLOPS = ("kflop", "Mflop", "Gflop", "Tflop")
INDENT = 21
"""Where texts start, after the program's name and the label."""


class Explanation(str):
    """Prints as it is; a notebook shows it as preformatted text."""

    def _repr_html_(self) -> str:
        return preformatted(self)


def explanation(subject: Subject, versions: Sequence[Version], which: str | None) -> Explanation:
    kinds = [subject.choice(which)] if which is not None else _kinds(subject)
    lines = [*_head(subject, versions)]
    for kind in kinds:
        lines += ["", *_program(subject, kind, subject.program(kind))]
    if {"forward", "backward"} & set(kinds):
        lines += ["", *_residuals(subject)]
    return Explanation("\n".join(lines))


def _kinds(subject: Subject) -> list[str]:
    """What calls run or have run, and what a gradient needs where the function is one to take
    gradients of."""
    if not subject.differentiable:
        return ["primal"]
    own = ["primal"] if subject.shows == "primal" or ran(subject.version.primal) else []
    if subject.shows == "primal" and not subject.version.splits:
        return own
    split = subject.split
    consuming = split.__dict__.get("consuming", split.backward)
    freed = consuming is not split.backward and ran(consuming)
    return [*own, "joint", "forward", "backward", *(["consuming"] if freed else [])]


def ran(program: Program) -> Program | None:
    """The program in the form that was compiled: with its result arrays as parameters, if calls
    ran it; None if neither was."""
    forms = (program.__dict__.get("into", program), program)
    return next((form for form in forms if form.has_run), None)


def _head(subject: Subject, versions: Sequence[Version]) -> Iterator[str]:
    graph = subject.version.graph
    source = graph.source
    where = f"{Path(source.file).name}:{source.line}" if source else ""
    number = next((at for at, v in enumerate(reversed(versions), 1) if v is subject.version), 1)
    title = f"{subject.name} · version {number} of {len(versions)}"
    yield f"{title:<{HEADER_WIDTH - 1 - len(where)}} {where}".rstrip()
    given = ", ".join([*map(typed, graph.inputs), *subject.version.statics]) or "()"
    made = ", ".join(typed(node) for node in graph.outputs) or "()"
    yield from labelled("", "takes", given)
    yield from labelled("", "returns", made)
    yield from labelled(
        "", "guards", ", ".join(subject.version.guards) or "none: valid for all sizes"
    )
    known = ""
    for about, text in graph.notes:
        yield from labelled("", about if about != known else "", text)
        known = about
    if subject.extents:
        sizes = ", ".join(f"{name} = {extent}" for name, extent in subject.extents.items())
        yield from labelled("", "sizes", f"{sizes} (in this call)")


def stage_text(stage: Stage) -> str:
    """`simplify 12 (0.6 ms)`: a pass, how many operations it left, and its time."""
    took = f" ({1e3 * stage.seconds:.1f} ms)" if stage.seconds else " operations"
    return f"{stage.name} {operations(stage.graph)}{took}".replace(" ", NO_BREAK)


def labelled(program: str, label: str, text: str) -> list[str]:
    lines = textwrap.wrap(
        text,
        HEADER_WIDTH,
        initial_indent=f"{program:<{INDENT - 12}} {label:<10} ",
        subsequent_indent=" " * INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(NO_BREAK, " ") for line in lines]


def _program(subject: Subject, kind: str, program: Program) -> Iterator[str]:
    stages = ", ".join(stage_text(stage) for stage in program.stages)
    yield from labelled(kind, "passes", stages)
    if kind == "joint":
        return
    for node in all_nodes(program.final):
        if node.op.name == "strips":
            yield from labelled("", "strips", _strips_text(node))
    cut = subject.split.cut if kind != "primal" else None
    layout = Layout(program.final, cut.outputs if cut and kind == "forward" else None)
    for number, kernel in enumerate(layout.kernels):
        yield from labelled("", "" if number else "kernels", kernel_text(layout, kernel))
    if not layout.kernels:
        yield from labelled("", "kernels", "none: scalars only")
    yield from labelled("", "threads", threads_text(program, subject.sizes(kind)))
    yield from labelled("", "memory", _memory(layout, subject.sizes(kind)))
    yield from labelled("", "compiled", _compiled(program))


def _strips_text(node: Node) -> str:
    """`16 items at a time, each of their steps one vectorised loop`: items with own loops."""
    width, source = node.attributes["width"], node.source
    where = f" (line {source.line})" if source else ""
    return f"{width} items at a time, each of their steps one vectorised loop{where}"


def _memory(layout: Layout, extents: dict[str, int]) -> str:
    worst = peak(layout, extents)
    if not worst.arrays:
        return "no array allocated"
    names = ", ".join(_names(layout, memory.name) for memory in worst.arrays)
    return f"{amount(worst.bytes, worst.here)} at the peak: {names}"


def _names(layout: Layout, array: str) -> str:
    """`v2 (later y)`: the array, and those that take its memory over."""
    later = ", ".join(name for name, owner in layout.reused.items() if owner == array)
    return f"{array} (later {later})" if later else array


def amount(size: Size, here: int | None) -> str:
    """`8*n*m bytes = 48 bytes`, `8*n*m bytes = 6.0 MB`; no figure where an extent is computed."""
    if here is None or isinstance(size, int):
        return f"{size} bytes"
    return f"{size} bytes = {readable(here)}"


def readable(count: float) -> str:
    if count < 10_000:
        return f"{count:,.0f} bytes"
    power = min(int(math.log10(count) // 3), len(UNITS))
    return f"{count / 1000**power:.3g} {UNITS[power - 1]}"


def counted(flops: float) -> str:
    """`1,200 flops`, `4.2 Mflop`."""
    if flops < 10_000:
        return f"{flops:,.0f} flops"
    power = min(int(math.log10(flops) // 3), len(FLOPS))
    return f"{flops / 1000**power:.3g} {FLOPS[power - 1]}"


def _compiled(program: Program) -> str:
    form = ran(program)
    if form is None:
        return "not yet: at the first call"
    takes = f"as {form.name}, which takes its result arrays, " if form is not program else ""
    if form.is_loaded:
        path = form.loaded.path
        return f"{takes}by an earlier process; disk cache: hit, by the graph alone; {path}"
    spent = sum(form.built.timings.values())
    return f"{takes}in {spent:.2f} s; disk cache: {form.built.cache or 'off'}; {form.built.path}"


def _residuals(subject: Subject) -> Iterator[str]:
    cut = subject.split.cut
    rows = [_residual_row(cut, residual, subject) for residual in cut.residuals]
    rows += [_recomputed_row(node, subject) for node in cut.recomputed]
    rows += [_repeated_row(node, subject) for node in cut.repeated]
    if not rows:
        yield "residuals  none: the backward needs nothing of the forward"
        return
    yield "residuals"
    widths = [max(len(row[at]) for row in rows) for at in range(4)]
    for row in rows:
        cells = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False))
        yield f"  {cells}  {row[4]}".rstrip()
    yield f"  in sum: {_trade(cut, subject)}"


def _trade(cut: Cut, subject: Subject) -> str:
    """`512 kB kept; 4.2 Mflop again, instead of keeping 1.5 MB`."""
    extents = subject.sizes("forward")
    kept = [residual.type for residual in cut.residuals if residual.origin == "kept"]
    again = (*cut.recomputed, *cut.repeated)
    size, saved = _bytes(kept, extents), _bytes([node.type for node in again], extents)
    if not again:
        return f"{readable(size)} kept; nothing is computed again"
    flops = sum(_flops(node, extents) for node in again)
    return f"{readable(size)} kept; {counted(flops)} again, instead of keeping {readable(saved)}"


def _bytes(types: Iterable[ArrayType], extents: dict[str, int]) -> int:
    return sum(guess(bytes_of(t), extents) for t in types if not isinstance(t, TupleType))


def _flops(node: Node, extents: dict[str, int]) -> float:
    weight, steps = node.op.work(node)
    return weight * guess(steps, extents)


Cells = tuple[str, str, str, str, str]
"""Name, type, bytes, why, and the user's line."""


def _residual_row(cut: Cut, residual: Residual, subject: Subject) -> Cells:
    size = bytes_of(residual.type)
    reason = {
        "argument": "the argument itself, nothing copied",
        "output": "the result itself, nothing copied",
    }.get(residual.origin) or f"kept: {why_kept(cut, residual.node)}"
    extents = subject.sizes("forward")
    known = set(symbols(size)) <= set(extents)
    total = amount(size, evaluate(size, extents) if known else None)
    return residual.name, str(residual.type), total, reason, _origin(residual.node, subject)


def _recomputed_row(node: Node, subject: Subject) -> Cells:
    again = plural(node.op.weight, "flop")
    reason = f"computed again: {again} per element, keeping it costs as much as {keeping(node):g}"
    if not node.type.rank:
        reason = "computed again: a scalar"
    return node.name, str(node.type), "", reason, _origin(node, subject)


def _repeated_row(node: Node, subject: Subject) -> Cells:
    again = counted(_flops(node, subject.sizes("forward")))
    return node.name, str(node.type), "", f"checkpoint: {again} again", _origin(node, subject)


def _origin(node: Node, subject: Subject) -> str:
    line, text = position(node.source, subject.version.graph.source)
    return f"{line}│ {text}" if line else ""


def keeping(node: Node) -> float:
    """Flops per element that cost as much as writing the value and reading it again."""
    return 2 * FLOPS_PER_BYTE * node.type.dtype.itemsize


def why_kept(cut: Cut, node: Node) -> str:
    if not node.type.rank:
        return "a scalar"
    steps = again(node, {residual.node for residual in cut.residuals} - {node})
    for step in steps:
        if isinstance(step.op, Reduction) or step.op.has("kernel") or is_view(step):
            return f"{step.op.name} would have to run again"
    flops = sum(step.op.weight for step in steps)
    if flops > keeping(node):
        return (
            f"computing it again takes {flops:g} flops per element, "
            f"keeping it costs as much as {keeping(node):g}"
        )
    return "other values are computed from it in the backward; least in sum (minimum cut)"


def again(node: Node, at_hand: set[Node]) -> list[Node]:
    """The steps to compute a value from those at hand."""
    steps: list[Node] = []
    stack = [node]
    while stack:
        step = stack.pop()
        if step not in steps and step not in at_hand and step.op.name not in ("input", *UNNAMED):
            steps.append(step)
            stack.extend(step.inputs)
    return steps
