"""What a kernel computes and moves: flops and bytes, per element and per step of smaller loops.

In: a kernel of a layout. Out: its rates, and the line that dumps and explanations show.

    k0: loop n, m;  x + 1.0, 2.0 * v1, v2 * v1, sum      =>      4 flops, 8 bytes per element
"""

from __future__ import annotations

from collections.abc import Iterator

from codegen.records import dataclass
from tracegrad.inspect.kernels import Kernel, Layout
from tracegrad.inspect.table import NO_BREAK
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


def rate_text(found: list[Rate], main: tuple[Size, ...]) -> str:
    """`4 flops, 8 bytes per element + 1 flop per n`: the steps `main` are the elements."""
    parts = []
    for rate in found:
        amounts = [
            plural(amount, unit)
            for amount, unit in ((rate.flops, "flop"), (rate.bytes, "byte"))
            if amount
        ]
        if isinstance(rate.steps, int):
            step = "" if rate.steps == 1 else f" per each of {rate.steps}"
        else:
            step = " per element" if main == (rate.steps,) else f" per {rate.steps}"
        parts.append(f"{', '.join(amounts)}{step}")
    return " + ".join(parts)


def total_text(found: list[Rate]) -> str:
    """`2*n*m*q flops, 8*n*m + 8*m*q + 8*n*q bytes`: what a library call does in all."""
    flops: Size = sum((rate.steps * round(rate.flops) for rate in found), start=0)
    moved: Size = sum((rate.steps * round(rate.bytes) for rate in found), start=0)
    return f"{flops} flops, {moved} bytes".replace(" ", NO_BREAK).replace(f",{NO_BREAK}", ", ")


def plural(amount: float, unit: str) -> str:
    return f"{amount:g} {unit}{'' if amount == 1 else 's'}"


def nests_text(kernel: Kernel) -> str:
    """`loop n, m`, or `loops n, m | n, p` where several stand in one kernel."""
    nests = [", ".join("?" if s is None else str(s) for s in nest) for nest in kernel.nests]
    return f"{'loop' if len(nests) == 1 else 'loops'} {' | '.join(nests)}"


def kernel_text(layout: Layout, kernel: Kernel) -> str:
    """One kernel in a line: its loops, what it reads and writes, what it costs and allocates."""
    parts = [f"{kernel.library} (library)"] if kernel.library else []
    parts += [nests_text(kernel)] if kernel.nests else []
    parts += [f"reads {', '.join(kernel.reads)}"] if kernel.reads else []
    parts += [f"writes {', '.join(kernel.writes)}"] if kernel.writes else []
    found = rates(layout, kernel)
    library = kernel.library and not kernel.nests
    cost = total_text(found) if library else rate_text(found, kernel.steps)
    parts += [cost] if cost else []
    fresh = ", ".join(kernel.allocates)
    parts.append(f"allocates {fresh}" if fresh else "no array allocated")
    return f"{kernel.name}: {'; '.join(parts)}"
