"""Arithmetic as table rows: name, NumPy function, partial derivatives, weight in flops."""

from __future__ import annotations

import numpy as np

from tracegrad.ops.elementwise import row

ADD = row("add", np.add, [lambda a, b, y: 1, lambda a, b, y: 1], infix="+", verb="add")
SUBTRACT = row(
    "subtract", np.subtract, [lambda a, b, y: 1, lambda a, b, y: -1], infix="-", verb="subtract"
)
MULTIPLY = row(
    "multiply", np.multiply, [lambda a, b, y: b, lambda a, b, y: a], infix="*", verb="multiply"
)
DIVIDE = row(
    "divide",
    np.true_divide,
    [lambda a, b, y: 1 / b, lambda a, b, y: -y / b],
    infix="/",
    weight=4,
    verb="divide",
)
NEGATIVE = row("negative", np.negative, [lambda x, y: -1], infix="-")
EXP = row("exp", np.exp, [lambda x, y: y], weight=8)
LOG = row("log", np.log, [lambda x, y: 1 / x], weight=8, domain=((0.1, 4.0),))
TANH = row("tanh", np.tanh, [lambda x, y: 1 - y * y], weight=10)
