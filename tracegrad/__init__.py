"""Differentiable NumPy: `@trace` a function, call its compiled gradient, read what was compiled.

    @tg.trace
    def loss(x):
        return np.mean(2 * (x + 1) * (x + 1))

    value, gradient = loss.value_and_grad(x)

Beside it the eager `Tensor`, with the semantics of PyTorch's.
"""

from types import SimpleNamespace as _Namespace

from tracegrad import autograd
from tracegrad.control import cond, fori_loop, map, scan, switch, while_loop
from tracegrad.custom import custom_jvp, custom_vjp
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
from tracegrad.jacobians import hessian, hvp, jacfwd, jacobian, jacrev
from tracegrad.mapping import vmap
from tracegrad.ops import PUBLIC
from tracegrad.tensor import Tensor
from tracegrad.transforms import grad, jvp, value_and_grad, vjp

__version__ = "0.1.0"

for _name, _value in PUBLIC.items():
    _space, _, _leaf = _name.rpartition(".")
    if _space:
        setattr(globals().setdefault(_space, _Namespace()), _leaf, _value)
    else:
        globals().setdefault(_leaf, _value)

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
    "cond",
    "custom_jvp",
    "custom_vjp",
    "enable_grad",
    "fori_loop",
    "from_numpy",
    "grad",
    "hessian",
    "hvp",
    "is_grad_enabled",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "map",
    "no_grad",
    "rand",
    "randn",
    "scan",
    "set_grad_enabled",
    "switch",
    "tensor",
    "trace",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
]
