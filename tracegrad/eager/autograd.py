"""The tensor's differentiation members, with the names and errors that PyTorch users know."""

from __future__ import annotations

import warnings
from typing import Any, Self
from weakref import ref

import numpy as np

from tracegrad.eager import engine
from tracegrad.eager.core import Core
from tracegrad.eager.inplace import InPlace
from tracegrad.eager.node import Hook, Recorded
from tracegrad.ops.op import PUBLIC


class Handle:
    """What `register_hook` returns: `remove()` takes the hook away again."""

    def __init__(self, hooks: dict[int, Hook], hook: Hook) -> None:
        self._hooks, self._key = hooks, max(hooks, default=0) + 1
        hooks[self._key] = hook

    def remove(self) -> None:
        self._hooks.pop(self._key, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class Autograd(InPlace):
    """`requires_grad`, `grad`, `grad_fn`, `backward`, `detach`, hooks."""

    @property
    def requires_grad(self) -> bool:
        """Whether a backward reaches this tensor."""
        return self._node() is not None

    @requires_grad.setter
    def requires_grad(self, mode: bool) -> None:
        self.requires_grad_(mode)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Ask for a gradient of this leaf, or no longer; returns the tensor itself.

        Raises RuntimeError for tensors of integers, and for results of operations.
        """
        if self._node() is self._fn is not None:
            if not requires_grad:
                raise RuntimeError(
                    "you can only change requires_grad flags of leaf variables. If you want to use "
                    "a computed variable in a subgraph that doesn't require differentiation use "
                    "var_no_grad = var.detach()."
                )
            return self
        if requires_grad and self._data.dtype.kind != "f":
            raise RuntimeError(
                "Only Tensors of floating point and complex dtype can require gradients: this one "
                f"is {self.type}; write floats (1. instead of 1), or pass dtype=float"
            )
        if requires_grad and not self._requires:
            self._base, self._steps, self._writes = None, (), self._counter
        self._requires = bool(requires_grad)
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by the user rather than by a recorded operation."""
        return self.grad_fn is None

    @property
    def grad_fn(self) -> Recorded | None:
        """The recorded operation that made this tensor; None for leaves."""
        node = self._node()
        return node if isinstance(node, Recorded) else None

    @property
    def grad(self) -> Self | None:
        """The accumulated gradient, None before the first backward."""
        if self._grad is None and not self.is_leaf and not self._retains:
            warnings.warn(
                "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its "
                ".grad attribute won't be populated during autograd.backward(). If you want the "
                "gradient of an intermediate result, call .retain_grad() on it before backward().",
                UserWarning,
                stacklevel=2,
            )
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            if not isinstance(value, Core):
                raise TypeError(
                    f"assigned grad expected to be a Tensor or None but got {type(value).__name__}"
                )
            if value is self:
                raise RuntimeError("can't assign Variable as its own grad")
            if value.type.shape != self.type.shape:
                raise RuntimeError(
                    f"assigned grad has data of a different size: {value.type} for a tensor of "
                    f"{self.type}"
                )
            if value.type.dtype != self.type.dtype:
                raise TypeError(
                    f"assigned grad has data of a different type: {value.type} for a tensor of "
                    f"{self.type}"
                )
        self._grad = value  # type: ignore[assignment]

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    def backward(
        self,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Add the gradients of this tensor to the `.grad` of the leaves behind it (or of `inputs`).

        `gradient` weighs the elements of a tensor that is not a scalar. What the graph saved is
        freed on the way unless `retain_graph`, which defaults to `create_graph`; with
        `create_graph` the gradients are themselves differentiable.
        """
        fn = self._fn
        if fn is not None and gradient is inputs is None and not create_graph:
            simple = self._base is None and not self._data.ndim
            if simple and fn.pull_leaves(None, bool(retain_graph)):
                return
        chosen = [inputs] if isinstance(inputs, Core) else inputs
        if chosen is not None and not len(chosen):
            raise RuntimeError("'inputs' argument to backward() cannot be empty.")
        engine.backward([self], [gradient], retain_graph, create_graph, chosen)

    def detach(self) -> Self:
        """The same memory (and version counter), outside of the graph."""
        tensor = self.of(self._data)
        tensor._writes, tensor._origin = self._counter, self._origin
        return tensor

    def detach_(self) -> Self:
        """Cut this tensor off from its graph: it becomes a leaf."""
        if self._base is not None:
            raise RuntimeError("Can't detach views in-place. Use detach() instead.")
        self._fn, self._requires = None, False
        return self

    @property
    def data(self) -> Self:
        """The same memory outside of the graph; writes through it are not counted."""
        return self.of(self._data)

    @data.setter
    def data(self, value: Any) -> None:
        self._data = value._data if isinstance(value, Core) else np.asarray(value)
        self._type = self._plain = self._leaf = None

    @property
    def _version(self) -> int:
        """How often this memory was written to."""
        return self._counter.value

    def clone(self) -> Self:
        """A differentiable copy with memory of its own."""
        return PUBLIC["copy"](self)

    @property
    def _retains(self) -> bool:
        fn = self._fn
        return fn is not None and fn.retained is not None and fn.retained() is self

    @property
    def retains_grad(self) -> bool:
        return self._retains

    def retain_grad(self) -> None:
        """Keep the gradient of this intermediate result in its `.grad` (leaves do anyway)."""
        node = self._node()
        if node is None:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if isinstance(node, Recorded):
            node.retained = ref(self)

    def register_hook(self, hook: Hook) -> Handle:
        """Call `hook(gradient)` when this tensor's gradient is computed; it may return another."""
        node = self._node()
        if node is None:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        owner: Any = node if isinstance(node, Recorded) else self
        attribute = "hooks" if isinstance(node, Recorded) else "_hooks"
        if getattr(owner, attribute) is None:
            setattr(owner, attribute, {})
        return Handle(getattr(owner, attribute), hook)
