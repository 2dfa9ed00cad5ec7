"""A drawing of a graph for notebooks: values in rows from the arguments to the results, as SVG.

A value stands one row below its lowest operand, and within its row as near as possible below them:

    x       y
     \\     /
      x + y
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import replace

from codegen.records import dataclass
from tracegrad.inspect.kernels import Layout
from tracegrad.inspect.statements import Writer
from tracegrad.inspect.subject import Subject
from tracegrad.ir.graph import Graph, Node
from tracegrad.tracing.naming import UNNAMED

CHARACTER, PADDING = 7.0, 10.0
"""Width of a character and of a box's margin, in pixels of the SVG."""
BOX_HEIGHT, ROW_HEIGHT, GAP = 38.0, 74.0, 22.0
LONGEST = 44
"""Statements are cut to so many characters."""
COLOURS = ("#e8f1fb", "#e9f7ec", "#fdf3e0", "#f6eafa", "#fdeaea", "#e6f6f6")
"""Backgrounds of the kernels, in turn; arguments and scalars are white."""


@dataclass(frozen=True)
class Box:
    """A value in the drawing; `x` is its middle."""

    node: Node
    title: str
    subtitle: str
    fill: str
    row: int
    x: float = 0.0

    @property
    def width(self) -> float:
        return CHARACTER * max(len(self.title), len(self.subtitle)) + 2 * PADDING

    @property
    def y(self) -> float:
        return self.row * ROW_HEIGHT + PADDING


class Drawing:
    """A graph that a notebook shows; `str()` is the SVG."""

    def __init__(self, svg: str) -> None:
        self.svg = svg

    def __str__(self) -> str:
        return self.svg

    def _repr_svg_(self) -> str:
        return self.svg


def draw(subject: Subject, which: str | None) -> Drawing:
    which = subject.choice(which)
    graph = subject.program(which).final
    return Drawing(svg(graph, f"{subject.name} · {which}"))


def svg(graph: Graph, title: str) -> str:
    """The drawing of a final graph."""
    boxes = {box.node: box for row in arranged(graph) for box in row}
    right = max((box.x + box.width / 2 for box in boxes.values()), default=0.0) + PADDING
    bottom = max((box.y + BOX_HEIGHT for box in boxes.values()), default=0.0) + PADDING
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right:.0f} {bottom:.0f}" '
        f'width="{right:.0f}" height="{bottom:.0f}" font-family="monospace" font-size="12">',
        f"<title>{html.escape(title)}</title>",
        *(edge(boxes[operand], box) for box in boxes.values() for operand in drawn(box.node)),
        *(part for box in boxes.values() for part in shape(box, box.node in graph.outputs)),
        "</svg>",
    ]
    return "\n".join(parts)


def drawn(node: Node) -> Iterator[Node]:
    """The operands that have a box of their own."""
    return (operand for operand in dict.fromkeys(node.inputs) if operand.op.name not in UNNAMED)


def arranged(graph: Graph) -> list[list[Box]]:
    """The boxes by rows, placed."""
    layout, writer = Layout(graph), Writer(graph)
    rows: list[list[Box]] = []
    level: dict[Node, int] = {}
    for node in graph.nodes:
        if node.op.name in UNNAMED:
            continue
        level[node] = max((level[operand] + 1 for operand in drawn(node)), default=0)
        while len(rows) <= level[node]:
            rows.append([])
        rows[level[node]].append(box_of(node, layout, writer, level[node]))
    middle: dict[Node, float] = {}
    return [placed(row, middle) for row in rows]


def box_of(node: Node, layout: Layout, writer: Writer, row: int) -> Box:
    if node.op.name == "input":
        return Box(node, node.name, str(node.type), "#ffffff", row)
    title = writer.lines(node)[0]
    title = title if len(title) <= LONGEST else title[: LONGEST - 1] + "…"
    place = layout.places[node]
    kernel = place.kernels[0] if place.kernels else None
    fill = COLOURS[int(kernel.name[1:]) % len(COLOURS)] if kernel else "#ffffff"
    where = f"{kernel.name} {place.where}" if kernel else place.where
    return Box(node, title, f"{node.type}  {where}", fill, row)


def placed(row: list[Box], middle: dict[Node, float]) -> list[Box]:
    """The boxes of a row from left to right, each below its operands if there is room."""

    def wish(box: Box) -> float:
        above = [middle[operand] for operand in drawn(box.node)]
        return sum(above) / len(above) if above else 0.0

    found: list[Box] = []
    edge_of_last = 0.0
    for box in sorted(row, key=wish):
        x = max(wish(box), edge_of_last + GAP + box.width / 2)
        middle[box.node] = x
        edge_of_last = x + box.width / 2
        found.append(replace(box, x=x))
    return found


def edge(above: Box, below: Box) -> str:
    top, bottom = above.y + BOX_HEIGHT, below.y
    bend = (bottom - top) / 2
    return (
        f'<path d="M{above.x:.1f},{top:.1f} C{above.x:.1f},{top + bend:.1f} '
        f'{below.x:.1f},{bottom - bend:.1f} {below.x:.1f},{bottom:.1f}" fill="none" stroke="#889"/>'
    )


def shape(box: Box, is_output: bool) -> Iterator[str]:
    stroke = "2" if is_output else "1"
    source = box.node.source
    yield "<g>"
    if source is not None:
        yield f"<title>{html.escape(f'{source.line}│ {source.text}')}</title>"
    yield (
        f'<rect x="{box.x - box.width / 2:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{BOX_HEIGHT:.0f}" rx="5" fill="{box.fill}" stroke="#334" '
        f'stroke-width="{stroke}"/>'
    )
    for text, below, colour in ((box.title, 16, "#000"), (box.subtitle, 31, "#667")):
        yield (
            f'<text x="{box.x:.1f}" y="{box.y + below:.1f}" text-anchor="middle" fill="{colour}">'
            f"{html.escape(text)}</text>"
        )
    yield "</g>"
