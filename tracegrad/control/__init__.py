"""Control flow: loops and branches as nodes with bodies, differentiable in both modes.

Inside a trace each function records one node, which becomes a real `for`, `while` or `if` in the
generated code; outside of one it runs as the Python it stands for, on arrays and eager tensors
alike.
"""

from tracegrad.control.api import cond, fori_loop, map, scan, switch, while_loop
from tracegrad.control.associative import associative_scan
from tracegrad.control.checks import check
from tracegrad.control.unrolling import unrolled

__all__ = [
    "associative_scan",
    "check",
    "cond",
    "fori_loop",
    "map",
    "scan",
    "switch",
    "unrolled",
    "while_loop",
]
