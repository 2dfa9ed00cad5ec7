"""What the hand-written numba implementations share: their compiler options and vector math.

An expert writes exp as a polynomial that vectorises; ours (`codegen.vecmath`) are such, so that the
hand-written programs differ from generated ones in their loops, not in their exponentials.

    exp, erf = vector_math(np.float32, "exp", "erf")
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from runner import BY_HAND, Entry

from codegen import vecmath

FAST = {"reassoc", "nsz", "contract"}
"""What keeps NaN and infinities, and lets sums vectorise."""

kernel = numba.njit(error_model="numpy", nogil=True, fastmath=FAST)


def vector_math(dtype: Any, *names: str) -> tuple[Any, ...]:
    return tuple(vecmath.lookup(name, np.dtype(dtype)) for name in names)


def hand_entry(function: Any) -> Entry:
    return Entry("numba by hand", BY_HAND, function)
