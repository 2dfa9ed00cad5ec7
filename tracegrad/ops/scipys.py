"""Rows of functions that SciPy's own compiled code computes.

jv(v, x)   =>   d_x = d_y * (jv(v - 1, x) - jv(v + 1, x)) / 2;   by v there is no formula
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.costs import OF_WHOLE
from codegen.expr import Call, Expr
from tracegrad.ops.elementwise import Elementwise, Partial, row
from tracegrad.ops.scipy import SciPy
from tracegrad.ops.unknown import NoFormula

Given = Partial | str
"""A partial derivative; of an argument without one its name."""
Domain = tuple[tuple[float, float], ...]


class Row(Elementwise):
    """A row with one function for floats, and one where an operand is an integer."""

    def scalar_code(self, operands: tuple[Expr, ...], dtype: np.dtype) -> Expr:
        whole = any(operand.dtype.kind in "iu" for operand in operands)
        return Call(self.scalar + OF_WHOLE if whole else self.scalar, operands, dtype)


def scipys(name: str, *partials: Given | None, domain: Domain, **more: Any) -> Elementwise:
    """The row of `scipy.special.<name>`, with the dtypes of its loops."""
    own, text = SciPy(name), f"scipy.special.{name}"
    found = [NoFormula(text, p) if isinstance(p, str) else p for p in partials]
    more = {"kind": Row, "text": text, "like": own.loop_dtypes, "domain": domain, **more}
    return row(name, own, found, arity=len(found), **more)
