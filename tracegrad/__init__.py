"""Differentiable NumPy: `@trace` a function, call its compiled gradient, read what was compiled.

    @tg.trace
    def loss(x):
        return np.mean(2 * (x + 1) * (x + 1))

    value, gradient = loss.value_and_grad(x)

Beside it the eager `Tensor`, with the semantics of PyTorch's.
"""

from importlib import import_module as _import_module
from types import SimpleNamespace as _Namespace
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from tracegrad.blocks import set_buffer_limit
from tracegrad.errors import (
    CompileError,
    LongCompilation,
    MemoryBudgetError,
    NotDifferentiableError,
    ShapeError,
    TraceError,
    TracegradError,
    UnsupportedError,
)
from tracegrad.function import Function, trace
from tracegrad.later import Later as _Later
from tracegrad.ops import PUBLIC
from tracegrad.pyflow.range import Range as range
from tracegrad.transforms import grad, jvp, linearize, value_and_grad, vjp

if _TYPE_CHECKING:
    from tracegrad import autograd, checkpoint_policies, testing
    from tracegrad.budget import minimize_memory
    from tracegrad.cfunc import cfunc
    from tracegrad.checkpointing import checkpoint, checkpoint_name
    from tracegrad.control import (
        associative_scan,
        check,
        cond,
        fori_loop,
        map,
        scan,
        switch,
        unrolled,
        while_loop,
    )
    from tracegrad.custom import custom_jvp, custom_vjp
    from tracegrad.eager.creation import as_tensor, from_numpy, rand, randn, tensor
    from tracegrad.eager.modes import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
    from tracegrad.eager.tensor import Tensor
    from tracegrad.jacobians import hessian, hvp, jacfwd, jacobian, jacrev
    from tracegrad.mapping import vmap
    from tracegrad.njit import njit_function, njit_grad, njit_value_and_grad
    from tracegrad.primitive import primitive
    from tracegrad.promise import ShapeDtype
    from tracegrad.sparsity import sparse_hessian, sparse_jacobian
    from tracegrad.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

_LATER = {
    "tracegrad.budget": ("minimize_memory",),
    "tracegrad.checkpointing": ("checkpoint", "checkpoint_name"),
    "tracegrad.control": (
        "associative_scan",
        "check",
        "cond",
        "fori_loop",
        "map",
        "scan",
        "switch",
        "unrolled",
        "while_loop",
    ),
    "tracegrad.custom": ("custom_jvp", "custom_vjp"),
    "tracegrad.eager.creation": ("as_tensor", "from_numpy", "rand", "randn", "tensor"),
    "tracegrad.eager.modes": ("enable_grad", "is_grad_enabled", "no_grad", "set_grad_enabled"),
    "tracegrad.jacobians": ("hessian", "hvp", "jacfwd", "jacobian", "jacrev"),
    "tracegrad.mapping": ("vmap",),
    "tracegrad.sparsity": ("sparse_hessian", "sparse_jacobian"),
    "tracegrad.eager.tensor": ("Tensor",),
    "tracegrad.threads": ("get_num_threads", "set_num_threads"),
    "tracegrad.cfunc": ("cfunc",),
    "tracegrad.njit": ("njit_function", "njit_grad", "njit_value_and_grad"),
    "tracegrad.primitive": ("primitive",),
    "tracegrad.promise": ("ShapeDtype",),
}
"""What loads when it is first asked for: `import tracegrad` stays quick."""

_MODULES = ("autograd", "checkpoint_policies", "testing")

_HOME = {name: module for module, names in _LATER.items() for name in names}

for _name in _LATER["tracegrad.eager.creation"]:
    PUBLIC[_name] = _Later("tracegrad.eager.creation", _name)

for _name, _value in PUBLIC.items():
    _space, _, _leaf = _name.rpartition(".")
    if _space:
        setattr(globals().setdefault(_space, _Namespace()), _leaf, _value)
    elif _leaf not in _HOME:
        globals().setdefault(_leaf, _value)


def __getattr__(name: str) -> _Any:
    if name in _MODULES:
        return _import_module(f"tracegrad.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'tracegrad' has no attribute {name!r}")
    globals()[name] = value = getattr(_import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_MODULES})


__all__ = [
    "CompileError",
    "Function",
    "LongCompilation",
    "MemoryBudgetError",
    "NotDifferentiableError",
    "ShapeDtype",
    "ShapeError",
    "Tensor",
    "TraceError",
    "TracegradError",
    "UnsupportedError",
    "as_tensor",
    "associative_scan",
    "autograd",
    "cfunc",
    "check",
    "checkpoint",
    "checkpoint_name",
    "checkpoint_policies",
    "cond",
    "custom_jvp",
    "custom_vjp",
    "enable_grad",
    "fori_loop",
    "from_numpy",
    "get_num_threads",
    "grad",
    "hessian",
    "hvp",
    "is_grad_enabled",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "linearize",
    "map",
    "minimize_memory",
    "njit_function",
    "njit_grad",
    "njit_value_and_grad",
    "no_grad",
    "primitive",
    "rand",
    "randn",
    "range",
    "scan",
    "set_buffer_limit",
    "set_grad_enabled",
    "set_num_threads",
    "sparse_hessian",
    "sparse_jacobian",
    "switch",
    "tensor",
    "testing",
    "trace",
    "unrolled",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
]
