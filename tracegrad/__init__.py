"""Differentiable NumPy: `@trace` a function, call its compiled gradient, read what was compiled.

    @tg.trace
    def loss(x):
        return np.mean(2 * (x + 1) * (x + 1))

    value, gradient = loss.value_and_grad(x)

Beside it the eager `Tensor`, with the semantics of PyTorch's.
"""

from tracegrad import autograd
from tracegrad.eager.creation import as_tensor, from_numpy, rand, randn, tensor
from tracegrad.eager.modes import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from tracegrad.errors import (
    CompileError,
    NotDifferentiableError,
    ShapeError,
    TraceError,
    TracegradError,
    UnsupportedError,
)
from tracegrad.function import Function, trace
from tracegrad.ops import PUBLIC
from tracegrad.tensor import Tensor
from tracegrad.transforms import grad, jvp, value_and_grad, vjp

__version__ = "0.1.0"

globals().update({name: value for name, value in PUBLIC.items() if name not in globals()})

__all__ = [
    "CompileError",
    "Function",
    "NotDifferentiableError",
    "ShapeError",
    "Tensor",
    "TraceError",
    "TracegradError",
    "UnsupportedError",
    "as_tensor",
    "autograd",
    "enable_grad",
    "from_numpy",
    "grad",
    "is_grad_enabled",
    "jvp",
    "no_grad",
    "rand",
    "randn",
    "set_grad_enabled",
    "tensor",
    "trace",
    "value_and_grad",
    "vjp",
]
