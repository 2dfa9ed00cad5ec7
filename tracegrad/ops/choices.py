"""Choosing among several: `select` by the first condition that holds, `isin` by comparing with all.

select([a, b], [x, y], z)   is   where(a, x, where(b, y, z))
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.ops.axes import expand_dims, ravel
from tracegrad.ops.comparison import EQUAL
from tracegrad.ops.extremes import any_
from tracegrad.ops.op import as_operand, public, sample, type_of
from tracegrad.ops.selection import where


@public(np.select)
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    """Each of `choicelist` where its condition is the first that holds; `default` elsewhere."""
    if len(condlist) != len(choicelist):
        raise ValueError("list of cases must be same length as list of conditions")
    if not len(condlist):
        raise ValueError("select with an empty condition list is not possible")
    conditions = [as_operand(condition) for condition in condlist]
    for number, condition in enumerate(conditions):
        if type_of(condition).dtype != bool:
            raise TypeError(f"invalid entry {number} in condlist: should be boolean ndarray")
    found = as_operand(default)
    for condition, choice in zip(reversed(conditions), reversed(choicelist), strict=True):
        found = where(condition, choice, found)
    return found


@public(np.isin)
def isin(
    element: Any,
    test_elements: Any,
    assume_unique: bool = False,
    invert: bool = False,
    *,
    kind: Any = None,
) -> Any:
    """Whether each element is among `test_elements`; every one is compared with all of them."""
    del assume_unique, kind
    found = any_(EQUAL(expand_dims(as_operand(element), -1), ravel(test_elements)), -1)
    return ~found if invert else found


sample(lambda x: np.select([x > 1, x > 0], [x**2, -x], 0.5), (3, 4))
sample(lambda x, y: np.select((x[:, None] > 0, y > 0), (y, x[:, None] * y)), (3,), (4,))
sample(
    lambda x: (np.isin(x, [0, 1]), np.isin(x, x[:1], invert=True)), (3, 4), kinds="fi", smooth=False
)
