"""The walk back through an eager graph: the reverse pass on tensors, hooks, freeing what was saved.

    y.backward()    =>    the cotangents of all leaves behind y, added to their `.grad`

Saved arrays are dropped as soon as the walk has used them, unless `retain_graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracegrad.autodiff import reverse
from tracegrad.eager.core import Core
from tracegrad.eager.modes import recording_gradients
from tracegrad.eager.node import (
    Differentiable,
    Leaf,
    Recorded,
    Saved,
    line_of,
    name_at,
    statement_at,
    user_site,
)
from tracegrad.eager.symbolic import LINEAR, Symbolic
from tracegrad.errors import TracegradError
from tracegrad.ir.graph import Node, reachable
from tracegrad.ir.op import Array


class Walk:
    """One backward pass: gives the reverse pass the values that nodes saved, and frees them."""

    def __init__(self, kind: type[Core], retain: bool, create: bool) -> None:
        self.kind, self.retain, self.create = kind, retain, create
        self.site = user_site()
        self.values: dict[Node, Array] = {}

    def run(
        self, roots: Sequence[Differentiable], cts: Sequence[Core], wrt: Sequence[Differentiable]
    ) -> list[Any]:
        with recording_gradients(self.create):
            found = reverse.cotangents(roots, cts, wrt, self.value, LINEAR, self.observe)
        self.values = {}
        return found

    def value(self, node: Node) -> Array:
        """What the rule now running sees of a node: its saved value, or only its type."""
        found = self.values.get(node)
        return Symbolic(node) if found is None else found

    def observe(self, node: Node, ct: Array) -> Array:
        """The cotangent of `node` is complete: hooks see it, then the node's rule runs."""
        assert isinstance(node, Recorded)
        if not isinstance(ct, list):
            if not isinstance(ct, Core):
                raise TracegradError(f"the derivative of a use of {node!r} needs a value not saved")
            if node.hooks:
                ct = run_hooks(node.hooks, ct)
            ct._fresh = False
            tensor = node.retained() if node.retained is not None else None
            if tensor is not None:
                accumulate(tensor, ct, self.create)
        self.values = {}
        self.values = self._open(node)
        return ct

    def _open(self, node: Recorded) -> dict[Node, Array]:
        """The values that `node` saved; in a consuming walk it has them no longer."""
        if node.saved is None:
            raise RuntimeError(freed(node))
        found = [
            None if saved is None else self._tensor(node, operand, saved)
            for operand, saved in zip(node.places, node.saved, strict=False)
        ]
        opened = node.opened(found)
        if node.consumable and not self.retain:
            node.free(self.site)
        return opened

    def _tensor(self, reader: Recorded, node: Node, saved: Saved) -> Core:
        check(reader, node, saved)
        if isinstance(node, Leaf) and node.tensor._data is saved.value:
            return node.tensor
        fn = node if isinstance(node, Recorded) and self.create else None
        tensor = self.kind.of(np.asarray(saved.value), fn)
        if node.type.weak:
            tensor._type = node.type
        tensor._version = saved.counter
        return tensor


def freed(node: Recorded) -> str:
    return (
        "Trying to backward through the graph a second time (or directly access saved tensors "
        f"after they have already been freed): the arrays saved for {node.describe()} were freed "
        f"by the backward at {line_of(node.freed_at)}. Write retain_graph=True in that earlier "
        "backward to keep them, or compute the result again"
    )


def check(node: Recorded, operand: Node, saved: Saved) -> None:
    """Raise if the memory of a saved value was written to since."""
    if not saved.overwritten:
        return
    assert saved.counter is not None
    name = operand.name or (operand.source.text if operand.source is not None else "")
    raise RuntimeError(
        "one of the variables needed for gradient computation has been modified by an inplace "
        f"operation: {name or 'a tensor'} ({operand.type}), needed for the gradient of {node!r} at "
        f"{line_of(node.site)}, is at version {saved.counter.value} but version {saved.version} "
        f"was used; it was last changed at {statement_at(saved.counter.site)}. Write it without "
        f"in-place change (x = x + 1 instead of x += 1), or change a copy: {name or 'x'}.clone()"
    )


def run_hooks(hooks: dict[int, Any], ct: Core) -> Core:
    """What the hooks make of a gradient: each may return another of the same shape."""
    for hook in list(hooks.values()):
        replaced = hook(ct)
        if replaced is None:
            continue
        if not isinstance(replaced, Core):
            raise TypeError(f"hook returned a {type(replaced).__name__}: return a Tensor, or None")
        if replaced.type.shape != ct.type.shape:
            raise RuntimeError(
                f"hook {getattr(hook, '__name__', hook)!r} has changed the size of value: the "
                f"gradient is {ct.type}, it returned {replaced.type}"
            )
        ct = replaced
    return ct


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
    cts = [
        _seed(n, tensor, g) for n, (tensor, g) in enumerate(zip(tensors, gradients, strict=True))
    ]
    if inputs is None:
        leaves = [node for node in reachable(roots) if isinstance(node, Leaf)]
        targets: list[Differentiable] = [leaf for leaf in leaves if leaf.tensor._requires]
    else:
        targets = [_target(number, tensor) for number, tensor in enumerate(inputs)]
    found = Walk(kind, create if retain is None else retain, create).run(roots, cts, targets)
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
    cts = [
        _seed(n, tensor, g) for n, (tensor, g) in enumerate(zip(outputs, grad_outputs, strict=True))
    ]
    targets = [_target(number, tensor) for number, tensor in enumerate(inputs)]
    walk = Walk(type(outputs[0]), create if retain is None else retain, create)
    found = walk.run(roots, cts, targets)
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


def accumulate(tensor: Core, ct: Core, create: bool) -> None:
    """`tensor.grad += ct`: in place, keeping the object, unless the sum is to be recorded."""
    if tensor._grad is None:
        if create:
            tensor._grad = ct.copy()
        else:
            tensor._grad = type(ct).of(ct._data if ct._fresh else np.array(ct._data))
    elif create:
        tensor._grad = tensor._grad + ct
    else:
        grad = tensor._grad
        grad._counter.bump()
        np.add(grad._data, ct._data, out=grad._data)


def add_gradient(tensor: Core, gradient: Core) -> None:
    """`accumulate` a gradient whose memory nobody else sees."""
    gradient._fresh = True
    accumulate(tensor, gradient, False)


def named(tensor: Core) -> str:
    """The variable that a tensor was assigned to, if that is known."""
    node = tensor._node()
    return (node.name if node is not None else name_at(tensor._origin)) or "this tensor"
