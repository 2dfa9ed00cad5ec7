"""Rolling: a Python loop that tracing unrolled becomes a loop again, before anything else happens.

    v1 = tanh(v0 @ w); v2 = tanh(v1 @ w); ...     ->     for t in range(200): h = tanh(h @ w)

Isomorphic blocks of operations that follow each other (`repeats`) are merged into one body
(`family`), and the loop of `tg.scan` takes their place (`roll`). Values and derivatives are those
of the unrolled program: the same operations in the same order.
"""

from tracegrad.rolling.roll import roll

__all__ = ["roll"]
