"""What a kernel computes and moves: flops and bytes, per element and per step of smaller loops.

In: a kernel of a layout. Out: its rates, and the line that dumps and explanations show.

    k0: loop n, m;  x + 1.0, 2.0 * v1, v2 * v1, sum      =>      4 flops, 8 bytes per element
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tracegrad.inspect.kernels import Kernel, Layout
from tracegrad.ir.dims import Size
from tracegrad.passes.cost import elements


@dataclass(frozen=True)
class Rate:
    """Flops and bytes for each of `steps` steps."""

    steps: Size
    flops: float
    bytes: float


def rates(layout: Layout, kernel: Kernel) -> list[Rate]:
    """The cost of a kernel by the number of steps, the most numerous first."""
    flops: dict[Size, float] = {}
    moved: dict[Size, float] = {}
    for node, place in layout.places.items():
        if kernel in place.kernels:
            weight, steps = node.op.work(node)
            flops[steps] = flops.get(steps, 0) + weight
    for steps, size in traffic(layout, kernel):
        moved[steps] = moved.get(steps, 0) + size
    found = [Rate(s, flops.get(s, 0), moved.get(s, 0)) for s in {**flops, **moved}]
    return sorted((r for r in found if r.flops or r.bytes), key=lambda r: -elements(r.steps))


def traffic(layout: Layout, kernel: Kernel) -> Iterator[tuple[Size, int]]:
    """Each array that the kernel reads or writes: elements, bytes per element."""
    arrays = {name: node for node, name in layout.lowering.arrays.items()}
    for name in (*kernel.reads, *kernel.writes):
        if name in arrays:
            type = arrays[name].type
            yield type.size, type.dtype.itemsize


def rate_text(found: list[Rate]) -> str:
    """`4 flops, 8 bytes per element; 1 flop per n`."""
    parts = []
    for number, rate in enumerate(found):
        amounts = [
            plural(amount, unit)
            for amount, unit in ((rate.flops, "flop"), (rate.bytes, "byte"))
            if amount
        ]
        if isinstance(rate.steps, int):
            step = "" if rate.steps == 1 else f" per each of {rate.steps}"
        else:
            step = f" per {rate.steps}" if number else " per element"
        parts.append(f"{', '.join(amounts)}{step}")
    return " + ".join(parts)  # the smaller ones come on top of those per element


def plural(amount: float, unit: str) -> str:
    return f"{amount:g} {unit}{'' if amount == 1 else 's'}"


def kernel_text(layout: Layout, kernel: Kernel) -> str:
    """One kernel in a line: its loops, what it reads and writes, what it costs and allocates."""
    extents = ", ".join("?" if size is None else str(size) for size in kernel.loops)
    parts = [f"{kernel.library} (library)"] if kernel.library else []
    parts += [f"loop {extents}"] if extents else []
    parts += [f"reads {', '.join(kernel.reads)}"] if kernel.reads else []
    parts += [f"writes {', '.join(kernel.writes)}"] if kernel.writes else []
    cost = rate_text(rates(layout, kernel))
    parts += [cost] if cost else []
    fresh = ", ".join(kernel.allocates)
    parts.append(f"allocates {fresh}" if fresh else "no array allocated")
    return f"{kernel.name}: {'; '.join(parts)}"
