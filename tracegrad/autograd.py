"""Gradients of tensors as values: `tg.autograd.grad`; and `tg.autograd.backward` of several roots.

    x = tg.tensor(3., requires_grad=True)
    (d_x,) = tg.autograd.grad(x**2, x)          # tensor(6.); x.grad stays as it is

The modes `no_grad`, `enable_grad` and `set_grad_enabled` are here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracegrad.eager import engine
from tracegrad.eager.modes import enable_grad, no_grad, set_grad_enabled
from tracegrad.eager.tensor import Tensor
from tracegrad.ops.op import PUBLIC

__all__ = ["backward", "enable_grad", "grad", "no_grad", "set_grad_enabled"]


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of `outputs` with respect to `inputs`, one for each; nothing is accumulated.

    `grad_outputs` weighs the outputs' elements (needed unless they are scalars); the other options
    are those of `Tensor.backward`. Raises RuntimeError for an input that the outputs do not depend
    on, unless `allow_unused`, which gives None for it, or `materialize_grads`, which gives zeros;
    ValueError if the latter is asked for and `allow_unused=False`.
    """
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: "
            "allow_unused=False."
        )
    roots, given = _tensors("outputs", outputs), _tensors("inputs", inputs)
    weights = _weights(grad_outputs, len(roots))
    lenient = materialize_grads or bool(allow_unused)
    found = engine.gradients(roots, given, weights, retain_graph, create_graph, lenient)
    if not materialize_grads:
        return found
    return tuple(
        PUBLIC["zeros_like"](x) if d is None else d for x, d in zip(given, found, strict=True)
    )


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """`Tensor.backward` of several roots in one walk: gradients of all of them are accumulated."""
    roots = _tensors("tensors", tensors)
    chosen = None if inputs is None else _tensors("inputs", inputs)
    weights = _weights(grad_tensors, len(roots))
    engine.backward(roots, weights, retain_graph, create_graph, chosen)


def _tensors(what: str, given: Tensor | Sequence[Tensor]) -> list[Tensor]:
    found = [given] if isinstance(given, Tensor) else list(given)
    if not found:
        raise RuntimeError(f"{what} cannot be empty")
    for number, item in enumerate(found):
        if not isinstance(item, Tensor):
            raise TypeError(f"{what}[{number}] is a {type(item).__name__}, not a Tensor")
    return found


def _weights(given: Any, count: int) -> list[Any]:
    if given is None:
        return [None] * count
    found = list(given) if isinstance(given, list | tuple) else [given]
    if len(found) != count:
        raise RuntimeError(f"got {count} tensors and {len(found)} gradients")
    return found
