"""Every operation, one family per file; importing this package fills the registry."""

from tracegrad.ops import (
    arithmetic,
    bitwise,
    comparison,
    constant,
    elementwise,
    exponential,
    op,
    project,
    reduction,
    rounding,
    selection,
    shape,
    slicing,
    trigonometric,
)
from tracegrad.ops.op import NUMPY, PUBLIC, REGISTRY

__all__ = [
    "NUMPY",
    "PUBLIC",
    "REGISTRY",
    "arithmetic",
    "bitwise",
    "comparison",
    "constant",
    "elementwise",
    "exponential",
    "op",
    "reduction",
    "rounding",
    "selection",
    "shape",
    "slicing",
    "trigonometric",
]
