"""Every operation, one family per file; importing this package fills the registry."""

from tracegrad.ops import arithmetic, constant, elementwise, op, reduction, shape
from tracegrad.ops.op import NUMPY, PUBLIC, REGISTRY

__all__ = [
    "NUMPY",
    "PUBLIC",
    "REGISTRY","arithmetic", "constant", "elementwise", "op", "reduction", "shape"]
