"""The way back through an eager graph: from results and their gradients to the leaves.

    y.backward()    =>    the cotangents of all leaves behind y, added to their `.grad`

`sweep` computes them as arrays; `walk` as tensors with a graph of their own (`create_graph`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from tracegrad.eager.core import Core
from tracegrad.eager.node import Differentiable, Leaf, Recorded, name_at, user_site
from tracegrad.eager.sweep import Sweep, behind, leading_to
from tracegrad.eager.walk import Walk, accumulate, run_hooks


def backward(
    tensors: Sequence[Core],
    gradients: Sequence[Any],
    retain: bool | None,
    create: bool,
    inputs: Sequence[Core] | None,
) -> None:
    """Add the gradients of `tensors` to the `.grad` of the leaves behind them, or of `inputs`."""
    kind = type(tensors[0])
    roots = [_root(number, tensor) for number, tensor in enumerate(tensors)]
    if len(roots) == 1 and inputs is None and not create:
        tensor, gradient, root = tensors[0], gradients[0], roots[0]
        scalar = gradient is None and not tensor._data.ndim
        seed = None if scalar else _seed(0, tensor, gradient)
        if isinstance(root, Recorded) and root.pull_leaves(seed, bool(retain)):
            return
    seeds = [
        _seed(n, tensor, g) for n, (tensor, g) in enumerate(zip(tensors, gradients, strict=True))
    ]
    nodes: Collection[Differentiable] = behind(roots)
    if inputs is None:
        leaves = [node for node in nodes if isinstance(node, Leaf)]
        targets: list[Differentiable] = [leaf for leaf in leaves if leaf.tensor._requires]
    else:
        targets = [_target(number, tensor) for number, tensor in enumerate(inputs)]
        nodes = leading_to(nodes, targets)
    found = _cotangents(kind, roots, seeds, nodes, targets, retain, create)
    for number, target in enumerate(targets):
        ct, found[number] = found[number], None
        if ct is None:
            continue
        if isinstance(target, Leaf):
            tensor = target.tensor
            if tensor._hooks:
                ct = run_hooks(tensor._hooks, ct)
                ct._fresh = False
            accumulate(tensor, ct, create)
        elif inputs is not None:
            accumulate(inputs[number], ct, create)


def gradients(
    outputs: Sequence[Core],
    inputs: Sequence[Core],
    grad_outputs: Sequence[Any],
    retain: bool | None,
    create: bool,
    allow_unused: bool,
) -> tuple[Any, ...]:
    """The gradients of `inputs`, returned instead of accumulated."""
    roots = [_root(number, tensor) for number, tensor in enumerate(outputs)]
    seeds = [
        _seed(n, tensor, g) for n, (tensor, g) in enumerate(zip(outputs, grad_outputs, strict=True))
    ]
    targets = [_target(number, tensor) for number, tensor in enumerate(inputs)]
    nodes = leading_to(behind(roots), targets)
    found = _cotangents(type(outputs[0]), roots, seeds, nodes, targets, retain, create)
    for number, (tensor, ct) in enumerate(zip(inputs, found, strict=True)):
        if ct is None and not allow_unused:
            name = targets[number].name
            raise RuntimeError(
                "One of the differentiated Tensors appears to not have been used in the graph. Set "
                "allow_unused=True if this is the desired behavior: "
                f"inputs[{number}]{f', {name},' if name else ''} does not lead to the outputs; "
                "with allow_unused=True its gradient is None"
            )
        if ct is not None and isinstance(targets[number], Leaf) and tensor._hooks:
            found[number] = run_hooks(tensor._hooks, ct)
    return tuple(found)


def _cotangents(
    kind: type[Core],
    roots: Sequence[Differentiable],
    seeds: Sequence[Core],
    nodes: Collection[Differentiable],
    targets: Sequence[Differentiable],
    retain: bool | None,
    create: bool,
) -> list[Any]:
    """The cotangents of `targets`, those of `roots` being `seeds`; None where no path leads.

    NumPy does not warn: of 1 / x at a zero that a `where` masks, the user has not written it.
    """
    retain, site = create if retain is None else retain, user_site()
    with np.errstate(all="ignore"):
        if create:
            return Walk(kind, retain, create, site).run(roots, seeds, targets)
        return Sweep(kind, retain, site).run(roots, [x._data for x in seeds], nodes, targets)


def _root(number: int, tensor: Core) -> Differentiable:
    node = tensor._node()
    if node is None:
        raise RuntimeError(
            f"element {number} of tensors does not require grad and does not have a grad_fn: it "
            "was computed from tensors without requires_grad=True, under no_grad(), or after "
            "detach(); make the leaves with requires_grad=True"
        )
    return node


def _target(number: int, tensor: Core) -> Differentiable:
    node = tensor._node()
    if node is None:
        raise RuntimeError(
            f"One of the differentiated Tensors does not require grad: inputs[{number}]; make it "
            "with requires_grad=True before it is used"
        )
    return node


def _seed(number: int, tensor: Core, gradient: Any) -> Core:
    """The cotangent to begin with, of the output's type."""
    type_, kind = tensor.type, type(tensor)
    if gradient is None:
        if tensor._data.size != 1:
            raise RuntimeError(
                f"grad can be implicitly created only for scalar outputs: this one is {type_}. "
                "Reduce it to a scalar (y.sum().backward()), or pass the gradient with respect to "
                "it: y.backward(tg.ones_like(y))"
            )
        return kind.of(np.ones_like(tensor._data))
    if not isinstance(gradient, Core):
        if not isinstance(gradient, int | float | np.ndarray | np.generic):
            raise TypeError(
                f"gradients can be either Tensors or None, but got {type(gradient).__name__}; "
                "NumPy arrays and numbers are taken as well"
            )
        gradient = kind.of(np.asarray(gradient))
    if gradient.type.shape != type_.shape:
        raise RuntimeError(
            f"Mismatch in shape: grad_output[{number}] has a shape of {gradient.type.shape} and "
            f"output[{number}] has a shape of {type_.shape}: pass one weight for each element of "
            "the output"
        )
    return gradient if gradient.type.dtype == type_.dtype else gradient.astype(type_.dtype)


def named(tensor: Core) -> str:
    """The variable that a tensor was assigned to, if that is known."""
    node = tensor._node()
    return (node.name if node is not None else name_at(tensor._origin)) or "this tensor"
