"""Every operation, one family per file; importing this package fills the registry."""

from tracegrad.ops import arithmetic, constant, elementwise, op, reduction, shape

__all__ = ["arithmetic", "constant", "elementwise", "op", "reduction", "shape"]
