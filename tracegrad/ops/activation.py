"""What neural networks and statistics apply: relu, softplus; softmax and its logarithms along axes.

    y = softplus(x)   =>   d_x = d_y * sigmoid(x)

The exponentials are taken relative to the largest element of their row, which is a constant for
differentiation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen.expr import Call, Const, Expr
from tracegrad.ops.constant import astype
from tracegrad.ops.elementwise import Elementwise, row
from tracegrad.ops.exponential import EXP, LOG
from tracegrad.ops.op import PUBLIC, as_operand, public, sample, type_of
from tracegrad.ops.scipy import SciPy
from tracegrad.ops.selection import where
from tracegrad.ops.special import EXPIT

Axis = int | tuple[int, ...] | None


def _softplus(x: np.ndarray) -> Any:
    return np.logaddexp(x, x.dtype.type(0))


def _relu(x: np.ndarray) -> Any:
    return np.maximum(x, x.dtype.type(0))


class Relu(Elementwise):
    """`maximum(x, 0)`, with the derivative 0 at 0."""

    def scalar_code(self, operands: tuple[Expr, ...], dtype: np.dtype) -> Expr:
        return Call("maximum", (operands[0], Const(0, dtype)), dtype)


RELU = row(
    "relu",
    _relu,
    [lambda x, y: y > 0],
    kind=Relu,
    arity=1,
    like=lambda x: np.maximum.resolve_dtypes((x, x, None))[1:],
    text="np.maximum({0}, 0)",
)
SOFTPLUS = row(
    "softplus",
    _softplus,
    [lambda x, y: EXPIT(x)],
    arity=1,
    like=np.exp,
    text="np.logaddexp({0}, 0)",
)


@public(SciPy("log_expit"))
def log_sigmoid(x: Any) -> Any:
    """`log(sigmoid(x))`, accurate in both tails."""
    return -SOFTPLUS(-as_operand(x))


@public()
def silu(x: Any) -> Any:
    """`x * sigmoid(x)`."""
    x = as_operand(x)
    return x * EXPIT(x)


def _shift(x: Any, axis: Axis, *, finite: bool) -> Any:
    """The largest element along `axis`, kept, a constant; 0 in its place where it is infinite."""
    largest = PUBLIC["stop_gradient"](PUBLIC["max"](x, axis=axis, keepdims=True))
    return where(PUBLIC["isfinite"](largest), largest, 0) if finite else largest


def _floating(x: Any) -> Any:
    """`x` as floats: integers become float64."""
    x = as_operand(x)
    dtype = type_of(x).dtype
    return astype(x, dtype if dtype.kind == "f" else np.float64)


@public(SciPy("logsumexp"))
def logsumexp(a: Any, axis: Axis = None, b: Any = None, keepdims: bool = False) -> Any:
    """`log(sum(b * exp(a)))` over `axis`; -inf with gradient 0 where every element is -inf."""
    a = _floating(a)
    shift = _shift(a, axis, finite=True)
    parts = EXP(a - shift)
    total = PUBLIC["sum"](parts if b is None else b * parts, axis=axis, keepdims=True)
    empty = total == 0
    result = where(empty, -np.inf, LOG(where(empty, 1, total))) + shift
    return result if keepdims else PUBLIC["squeeze"](result, _all_axes(a, axis))


def _all_axes(a: Any, axis: Axis) -> int | tuple[int, ...]:
    return tuple(range(type_of(a).rank)) if axis is None else axis


@public(SciPy("softmax"))
def softmax(x: Any, axis: Axis = None) -> Any:
    """`exp(x) / sum(exp(x))` over `axis` (None: all axes)."""
    x = _floating(x)
    parts = EXP(x - _shift(x, axis, finite=False))
    return parts / PUBLIC["sum"](parts, axis=axis, keepdims=True)


@public(SciPy("log_softmax"))
def log_softmax(x: Any, axis: Axis = None) -> Any:
    """`x - log(sum(exp(x)))` over `axis` (None: all axes)."""
    x = _floating(x)
    moved = x - _shift(x, axis, finite=False)
    return moved - LOG(PUBLIC["sum"](EXP(moved), axis=axis, keepdims=True))


sample(lambda x: softmax(x, axis=-1), (3, 4))
sample(lambda x: log_softmax(x, axis=0) * softmax(x), (3, 4))
sample(lambda x: (logsumexp(x), logsumexp(x, axis=1, keepdims=True)), (3, 4))
sample(lambda x, b: logsumexp(x, axis=(0, 2), b=b), (2, 3, 4), (3, 1), domain=(0.2, 2.0))
sample(lambda x: silu(x) + log_sigmoid(x), (3, 4))
sample(lambda x: logsumexp(x), ())
