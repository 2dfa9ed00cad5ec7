"""Bitwise operations and integer number theory: integers and booleans only, no derivative."""

from __future__ import annotations

import numpy as np

from tracegrad.ops.elementwise import row

BITWISE_AND = row("bitwise_and", np.bitwise_and, [None, None], infix="&", weight=0.5, kinds="biu")
BITWISE_OR = row("bitwise_or", np.bitwise_or, [None, None], infix="|", weight=0.5, kinds="biu")
BITWISE_XOR = row("bitwise_xor", np.bitwise_xor, [None, None], infix="^", weight=0.5, kinds="biu")
INVERT = row(
    "invert",
    np.invert,
    [None],
    infix="~",
    weight=0.5,
    kinds="biu",
    also=("bitwise_invert", "bitwise_not"),
)
LEFT_SHIFT = row(
    "left_shift",
    np.left_shift,
    [None, None],
    integer="total_left_shift",
    infix="<<",
    kinds="iu",
    domain=((-50, 50), (0, 7)),
    also=("bitwise_left_shift",),
)
RIGHT_SHIFT = row(
    "right_shift",
    np.right_shift,
    [None, None],
    integer="total_right_shift",
    infix=">>",
    kinds="iu",
    domain=((-50, 50), (0, 7)),
    also=("bitwise_right_shift",),
)
GCD = row("gcd", np.gcd, [None, None], weight=60, kinds="iu", domain=((-50, 50),))
LCM = row("lcm", np.lcm, [None, None], weight=60, kinds="iu", domain=((-50, 50),))
