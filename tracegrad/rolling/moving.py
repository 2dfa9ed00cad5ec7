"""Regions that move from block to block: `xs[t]`, `x[t - 2:t + 3]`, `out[t] = y`.

In: the regions of all blocks. Out: which parts stay, and how the others move:

    ((0, None), (1, None), (2, None))     ->     along axis 0: position 0 + (0, 1, 2)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codegen.records import dataclass
from tracegrad.ir.dims import Size
from tracegrad.ops.regions import Region


@dataclass(frozen=True)
class Motion:
    """Along `axis`: in block t at `first + offsets[t]`; `span` is `(length, step)` of a slice."""

    axis: int
    first: Size
    offsets: tuple[int, ...]
    span: tuple[Size, int] | None

    @property
    def stride(self) -> int | None:
        """The distance from block to block where it is always the same."""
        steps = set(np.diff(self.offsets).tolist())
        return steps.pop() if len(steps) == 1 else None


def motions(regions: Sequence[Region]) -> list[Motion] | None:
    """How each part that changes does so; None if it is not only the position that changes."""
    if len({len(region) for region in regions}) > 1:
        return None
    found = []
    for axis, parts in enumerate(zip(*regions, strict=True)):
        if all(part == parts[0] for part in parts):
            continue
        spans = {part[1:] if isinstance(part, tuple) else part is None for part in parts}
        if len(spans) != 1 or parts[0] is None:
            return None
        starts = [part[0] if isinstance(part, tuple) else part for part in parts]
        offsets = [start - starts[0] for start in starts]
        if not all(isinstance(offset, int) for offset in offsets):
            return None
        span = parts[0][1:] if isinstance(parts[0], tuple) else None
        found.append(Motion(axis, starts[0], tuple(offsets), span))
    return found


def still(at: Region, moving: Sequence[Motion]) -> Region:
    """The region with whole axes where it moves."""
    axes = {motion.axis for motion in moving}
    return tuple(None if axis in axes else part for axis, part in enumerate(at))


def kept_axis(at: Region, axis: int) -> int:
    """The number of that axis where the positions of the region have dropped theirs."""
    return sum(part is None or isinstance(part, tuple) for part in at[:axis])
