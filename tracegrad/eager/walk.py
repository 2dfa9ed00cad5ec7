"""One backward pass on tensors: what the reverse pass sees of recorded nodes, and what becomes of
what these saved.

In: the nodes of an eager graph. Out: the cotangents of some of them, themselves recorded if they
are to be differentiated (`create_graph`). `sweep` does the same on arrays, where they are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracegrad.autodiff import reverse
from tracegrad.autodiff.rules import pull
from tracegrad.eager.core import Core
from tracegrad.eager.modes import recording_gradients
from tracegrad.eager.node import Leaf, Recorded, Saved, Site, line_of, statement_at
from tracegrad.eager.symbolic import LINEAR, Symbolic
from tracegrad.errors import TracegradError
from tracegrad.ir.graph import Node
from tracegrad.ir.op import Array


class Walk:
    """One backward pass: gives the reverse pass the values that nodes saved, and frees them."""

    def __init__(self, kind: type[Core], retain: bool, create: bool, site: Site | None) -> None:
        self.kind, self.retain, self.create, self.site = kind, retain, create, site
        self.values: dict[Node, Array] = {}

    def run(self, roots: Sequence[Node], cts: Sequence[Core], wrt: Sequence[Node]) -> list[Any]:
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

    def pulled(self, node: Recorded, ct: Array) -> tuple[Array | None, ...]:
        """The cotangents of the operands of one node."""
        self.values = self._open(node)
        with recording_gradients(self.create):
            found = pull(node, ct, node.wanted, self.value, LINEAR)
        self.values = {}
        return found

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
        tensor._writes = saved.counter
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


def add_gradient(tensor: Core, gradient: np.ndarray) -> None:
    """`accumulate` a gradient whose memory nobody else sees."""
    grad = tensor._grad
    if grad is None:
        tensor._grad = tensor.of(gradient)
    else:
        grad._counter.bump()
        np.add(grad._data, gradient, out=grad._data)
