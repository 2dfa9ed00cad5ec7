"""Differentiable NumPy: `@trace` a function, call its compiled gradient, read what was compiled.

    @tg.trace
    def loss(x):
        return np.mean(2 * (x + 1) * (x + 1))

    value, gradient = loss.value_and_grad(x)
"""

from tracegrad.errors import (
    CompileError,
    NotDifferentiableError,
    ShapeError,
    TracegradError,
    TraceError,
    UnsupportedError,
)
from tracegrad.function import Function, trace
from tracegrad.ops import PUBLIC
from tracegrad.transforms import grad, jvp, value_and_grad, vjp

__version__ = "0.1.0"

globals().update({name: value for name, value in PUBLIC.items() if name not in globals()})

__all__ = [
    "CompileError",
    "Function",
    "NotDifferentiableError",
    "ShapeError",
    "TraceError",
    "TracegradError",
    "UnsupportedError",
    "grad",
    "jvp",
    "trace",
    "value_and_grad",
    "vjp",
]
