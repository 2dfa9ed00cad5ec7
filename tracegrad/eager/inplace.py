"""In-place writes: the memory changes at once, the graph gets a new value for it.

    v = y[1:]; v *= 2    ->    y's memory is changed; y becomes write_view(y, v * 2), v its view

Every write counts up the version of its memory, so that a backward which needs the old value says
so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from tracegrad.eager.core import Core, memory, operand_node
from tracegrad.eager.modes import is_grad_enabled
from tracegrad.eager.node import Recorded, Saved, Step, user_site
from tracegrad.eager.quick import Quick
from tracegrad.ir.graph import Node, next_serial
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.op import PUBLIC, as_operand, type_of


class WriteView(Op):
    """`base` with `value` written where a view (its `steps`) looks; the view may be all of it.

    d_value = the view of d_y,  d_base = d_y with zeros written there
    """

    name = "write_view"
    linear = (0, 1)

    def infer(self, base: ArrayType, value: ArrayType, *, steps: tuple[Step, ...]) -> ArrayType:
        return base

    def reference(self, base: np.ndarray, value: np.ndarray, *, steps: tuple[Step, ...]) -> Any:
        result = np.array(base)
        _seen(result, steps)[...] = value
        return result

    def lines(self, target: str, base: str, value: str, *, steps: tuple[Step, ...]) -> list[str]:
        view = target
        for step in steps:
            view = step.op.text(view, **step.attrs)
        return [f"{target} = np.array({base})", f"{view}[...] = {value}"]

    def transpose(
        self, ct: Array, base: Array, value: Array, *, steps: tuple[Step, ...]
    ) -> tuple[Array | None, ...]:
        written, value_ct = np.zeros(base.type.shape, bool), ct
        _seen(written, steps)[...] = True
        for step in steps:
            value_ct = step(value_ct)
        return PUBLIC["where"](written, 0, ct), value_ct


WRITE_VIEW = WriteView()


def _seen(array: np.ndarray, steps: tuple[Step, ...]) -> np.ndarray:
    for step in steps:
        array = step.on_array(array)
    return array


class InPlace(Quick):
    """The tensor's writes: `x += 1`, `x[key] = value`, `x.add_(1)`, `x.zero_()`, ..."""

    def _before_write(self) -> None:
        base = self._base
        if (self._requires or (base is not None and base._requires)) and is_grad_enabled():
            what = "a leaf Variable" if self._requires else "a view of a leaf Variable"
            raise RuntimeError(
                f"{what} that requires grad is being used in an in-place operation. Update "
                "parameters within tg.no_grad(), or write to a copy: x = x.clone()"
            )
        if not self._data.flags.writeable:
            shared = memory(self._data).flags.writeable
            raise RuntimeError(
                "unsupported operation: more than one element of the written-to tensor refers to a "
                "single memory location. Please clone() the tensor before performing the operation."
                if shared
                else "this tensor is made from a read-only array: clone() it before writing into it"
            )

    def _is_recorded_with(self, *others: Any) -> bool:
        if not is_grad_enabled():
            return False
        return any(
            isinstance(value, Core) and value._node() is not None for value in (self, *others)
        )

    def _written(self) -> None:
        self._counter.bump()
        self._plain = None
        if self._base is not None:
            self._base._plain = None

    def _update(self, name: str, *others: Any) -> Self:
        """`self = function(self, *others)` in this memory."""
        self._before_write()
        if not self._is_recorded_with(*others):
            ufunc, data = getattr(np, name, None), self._data
            if type(ufunc) is np.ufunc:
                ufunc(data, *[x._data if isinstance(x, Core) else x for x in others], data)
            else:
                self._copy_in(PUBLIC[name](self, *others))
            self._written()
            return self
        first = next_serial()
        value = self._as_stored(PUBLIC[name](self, *others))
        _separate(value._fn, first, self)
        self._copy_in(value)
        self._written()
        self._become(value, whole=False)
        return self

    def _assign(self, value: Any) -> Self:
        """Write `value` over everything."""
        self._before_write()
        if self._is_recorded_with(value):
            value = self._as_stored(value)
            self._copy_in(value)
            self._written()
            self._become(value, whole=True)
        else:
            self._data[...] = value._data if isinstance(value, Core) else value
            self._written()
        return self

    def _as_stored(self, value: Any) -> Self:
        """`value` in this tensor's dtype and shape, as a write stores it."""
        value = as_operand(value)
        found, own = type_of(value), self.type
        if not found.weak and not np.can_cast(found.dtype, own.dtype, "same_kind"):
            raise TypeError(
                f"cannot write {found} into a tensor of {own}: it would lose its kind of number; "
                "convert one of them"
            )
        value = PUBLIC["broadcast_to"](PUBLIC["astype"](value, own.dtype), own.shape)
        return value if isinstance(value, type(self)) else type(self).of(np.asarray(value))

    def _copy_in(self, value: Core) -> None:
        np.copyto(self._data, value._data, casting="same_kind")

    def _become(self, value: Self, whole: bool) -> None:
        """The graph after a write: the value's own for an update, else a write over the old."""
        base = self if self._base is None else self._base
        if base is self and not whole and value._fn is not None:
            self._renew(value._fn)
        else:
            sources: tuple[Node, ...] = tuple(x._node() or operand_node(x) for x in (base, value))
            wanted = tuple(x._node() is not None for x in (base, value))
            attrs = (("steps", self._steps),)
            like = base._data.dtype, base._data.shape
            base._renew(Recorded(WRITE_VIEW, sources, attrs, like, wanted, user_site()))
        base._generation += 1

    def __setitem__(self, key: Any, value: Any) -> None:
        self._before_write()
        if not self._is_recorded_with(value, *_parts(key)):
            self._data[plain_key(key)] = value._data if isinstance(value, Core) else value
            self._written()
            return
        view = self[key] if is_basic(key) else None
        if view is not None and view._base is not None:
            view._assign(value)
            return
        first = next_serial()
        changed = PUBLIC["setitem"](self, key, value)
        _separate(changed._fn, first, self)
        self._copy_in(changed)
        self._written()
        self._become(changed, whole=False)

    def __getitem__(self, key: Any) -> Self:
        return PUBLIC["getitem"](self, key)

    def __iadd__(self, other: Any) -> Self:
        return self._update("add", other)

    def __isub__(self, other: Any) -> Self:
        return self._update("subtract", other)

    def __imul__(self, other: Any) -> Self:
        return self._update("multiply", other)

    def __itruediv__(self, other: Any) -> Self:
        return self._update("divide", other)

    def __ipow__(self, other: Any) -> Self:  # type: ignore[override]
        return self._update("power", other)

    def __ifloordiv__(self, other: Any) -> Self:
        return self._update("floor_divide", other)

    def __imod__(self, other: Any) -> Self:
        return self._update("remainder", other)

    def __iand__(self, other: Any) -> Self:
        return self._update("bitwise_and", other)

    def __ior__(self, other: Any) -> Self:
        return self._update("bitwise_or", other)

    def __ixor__(self, other: Any) -> Self:
        return self._update("bitwise_xor", other)

    def add_(self, other: Any, *, alpha: Any = 1) -> Self:
        """`self += alpha * other`."""
        return self._update("add", other if alpha == 1 else other * alpha)

    def sub_(self, other: Any, *, alpha: Any = 1) -> Self:
        """`self -= alpha * other`."""
        return self._update("subtract", other if alpha == 1 else other * alpha)

    def clamp_(self, min: Any = None, max: Any = None) -> Self:
        """Limit to `[min, max]` in place."""
        return self._update("clip", min, max)

    def copy_(self, source: Any) -> Self:
        """Write `source` (broadcast, converted) over this tensor."""
        return self._assign(source)

    def fill_(self, value: Any) -> Self:
        """Write one number everywhere."""
        return self._assign(value)

    def zero_(self) -> Self:
        """Write zeros: `w.grad.zero_()`."""
        return self._assign(0)


def _in_place(name: str) -> Callable[..., Any]:
    def method(self: InPlace, *others: Any) -> InPlace:
        return self._update(name, *others)

    method.__doc__ = f"`{name}`, stored in this tensor."
    return method


for _spelling, _name in (
    ("mul_", "multiply"),
    ("div_", "divide"),
    ("pow_", "power"),
    ("neg_", "negative"),
    ("abs_", "absolute"),
    ("exp_", "exp"),
    ("log_", "log"),
    ("sqrt_", "sqrt"),
    ("tanh_", "tanh"),
    ("sigmoid_", "sigmoid"),
    ("relu_", "relu"),
):
    setattr(InPlace, _spelling, _in_place(_name))


def _separate(fn: Recorded | None, first: int, target: Core) -> None:
    """Operations recorded since `first` keep copies of what they saved of `target`."""
    copies: dict[int, Saved] = {}
    stack: list[Node | None] = [fn]
    while stack:
        node = stack.pop()
        if not isinstance(node, Recorded) or node.serial < first:
            continue
        stack.extend(node.inputs)
        node.saved = tuple(_separated(saved, target, copies) for saved in node.saved or ())


def _separated(saved: Saved | None, target: Core, copies: dict[int, Saved]) -> Saved | None:
    if saved is None or saved.counter is not target._counter:
        return saved
    return copies.setdefault(id(saved.value), Saved(np.array(saved.value), None))


def _parts(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def is_basic(key: Any) -> bool:
    """Whether NumPy makes a view for this key."""
    return all(
        part is None or part is Ellipsis or type(part) in (int, slice) for part in _parts(key)
    )


def plain_key(key: Any) -> Any:
    """The key with arrays in place of tensors."""
    if isinstance(key, tuple):
        return tuple(plain_key(part) for part in key)
    return key._data if isinstance(key, Core) else key
