"""The heart of the eager tensor: an operation computed at once, and remembered if need be.

    x * w      ->      NumPy's product; if x or w requires a gradient, a node multiply(x, w) that
                       saves x where w's gradient is wanted, and w where x's is

The node is what the reverse pass of traced functions walks too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self
from weakref import ref

import numpy as np

from tracegrad.eager.modes import is_grad_enabled, recording_gradients
from tracegrad.eager.node import (
    Counter,
    Differentiable,
    Hook,
    Leaf,
    Plain,
    Recorded,
    Site,
    Step,
    call_site,
)
from tracegrad.eager.rule import Rule, rule_for
from tracegrad.ir.graph import Literal, Node
from tracegrad.ir.op import Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.constant import CONSTANT
from tracegrad.ops.op import type_of
from tracegrad.ops.operators import ArrayMethods


class Core(ArrayMethods):
    """An ndarray, and the node of the graph that it is the value of."""

    dispatch_rank = 1
    __array_priority__ = 100

    _data: np.ndarray
    _type: ArrayType | None = None
    _fn: Recorded | None = None
    """The operation that made this value, if it needs a gradient."""
    _requires: bool = False
    """A leaf that gradients are accumulated for."""
    _leaf: ref[Leaf] | None = None
    _plain: Plain | None = None
    _grad: Self | None = None
    _writes: Counter | None = None
    _base: Self | None = None
    """Views: the tensor whose memory this is, and how to look at it (from outside to inside)."""
    _steps: tuple[Step, ...] = ()
    _generation: int = 0
    """How often the graph of this memory was rewritten by recorded writes; views compare it."""
    _seen: int = 0
    _origin: Site | None = None
    _hooks: dict[int, Hook] | None = None
    _fresh: bool = False
    """A gradient whose memory nobody else sees: it may become a leaf's `.grad` as it is."""

    @classmethod
    def of(cls, array: np.ndarray, fn: Recorded | None = None) -> Self:
        """A tensor that holds this very array."""
        tensor = cls.__new__(cls)
        tensor._data = array
        if fn is not None:
            tensor._fn = fn
        return tensor

    @property
    def type(self) -> ArrayType:  # type: ignore[override]
        """dtype and shape, as the IR has them."""
        found = self._type
        if found is None:
            found = self._type = ArrayType(self._data.dtype, self._data.shape)
        return found

    def known(self) -> np.ndarray:
        """The elements: a mask or index array of an eager tensor chooses by its present values."""
        return self._data

    @classmethod
    def bind(cls, op: Op, args: tuple[Any, ...], attrs: dict[str, Any]) -> Self:
        """Compute `op` with NumPy, and record it if a gradient may flow through it."""
        arrays = [arg._data if isinstance(arg, Core) else arg for arg in args]
        try:
            result = op.reference(*arrays, **attrs)
        except (TypeError, ValueError):
            op.infer(*map(type_of, args), **attrs)  # a ShapeError with the operands' types
            raise
        out = cls.__new__(cls)
        out._data = result = result if type(result) is np.ndarray else np.asarray(result)
        if result.base is not None or any(result is array for array in arrays):
            out._note_view(op, args, attrs)
        if is_grad_enabled() and result.dtype.kind == "f":
            sources = [arg._node() if isinstance(arg, Core) else None for arg in args]
            if any(sources):
                out._record(op, args, attrs, sources)
        return out

    def _record(
        self, op: Op, args: tuple[Any, ...], attrs: dict[str, Any], sources: Sequence[Node | None]
    ) -> None:
        """Become the result of `op`, with what its derivative needs."""
        wanted = tuple([source is not None for source in sources])
        given = tuple(attrs.items())
        kinds = tuple([_kind(arg) for arg in args])
        key = (op, given, wanted, self._data.dtype.num, kinds)
        rule = _rules.get(key)
        if rule is None:
            rule = self._new_rule(key, args)
        if rule.wanted:
            site, label = call_site(2)
            self._remember(op, args, given, sources, rule, site, label)

    def _new_rule(self, key: tuple[Any, ...], args: tuple[Any, ...]) -> Rule:
        op, given, wanted, *_ = key
        if len(_rules) > _MOST:
            _rules.clear()
        found = _rules[key] = rule_for(op, given, list(map(type_of, args)), self.type, wanted)
        return found

    def _remember(
        self,
        op: Op,
        args: tuple[Any, ...],
        attrs: tuple[tuple[str, Any], ...],
        sources: Sequence[Node | None],
        rule: Rule,
        site: Site | None,
        label: str,
    ) -> None:
        """Have a node, which saves what `rule` needs."""
        data = self._data
        inputs = tuple(
            [
                operand_node(arg) if source is None else source
                for source, arg in zip(sources, args)  # noqa: B905 (as long, and this takes time)
            ]
        )
        fn = self._fn = Recorded(op, inputs, attrs, (data.dtype, data.shape), rule.wanted, site)
        fn.rule = rule
        if label:
            fn.label = label
        if rule.saves:
            fn.keep([v if need else None for v, need in zip((*args, self), rule.needs)])  # noqa: B905

    def _note_view(self, op: Op, args: tuple[Any, ...], attrs: dict[str, Any]) -> None:
        """If this is a view of an operand's memory: remember of which, and how it looks at it."""
        owner = memory(self._data)
        for place, arg in enumerate(args):
            if isinstance(arg, Core) and memory(arg._data) is owner:
                if arg._data is self._data:
                    self._data = self._data.view()
                self._base = arg if arg._base is None else arg._base  # type: ignore[assignment]
                self._steps = (*arg._steps, Step(op, place, args, attrs))
                self._seen = self._base._generation  # type: ignore[union-attr]
                return

    def _node(self) -> Differentiable | None:
        """The graph node of the current value; None if it needs no gradient."""
        base = self._base
        if base is not None and self._seen != base._generation:
            self._look_again()
        if self._fn is not None or not self._requires:
            return self._fn
        leaf = self._leaf() if self._leaf is not None else None
        if leaf is None:
            leaf = Leaf(self)
            self._leaf = ref(leaf)
        return leaf

    def _look_again(self) -> None:
        """The base of this view was written to and has a new graph: make the view of that."""
        assert self._base is not None
        current: Any = self._base
        with recording_gradients(True):
            for step in self._steps:
                current = step(current)
        self._renew(current._fn)
        self._seen = self._base._generation

    def _renew(self, fn: Any) -> None:
        """A new graph, after a write: a gradient that is retained is that of the newest value."""
        before, self._fn = self._fn, fn
        if before is fn or before is None or before.retained is None or fn is None:
            return
        if before.retained() is self:
            fn.retained, before.retained = before.retained, None

    @property
    def _counter(self) -> Counter:
        """Counts writes; views and detached tensors share it."""
        if self._base is not None:
            return self._base._counter
        found = self._writes
        if found is None:
            found = self._writes = Counter()
        return found


_rules: dict[Any, Rule] = {}
_MOST = 10_000


def _kind(arg: Any) -> Any:
    """What a rule depends on in an operand: dtype and shape, of a number its type."""
    array = arg._data if isinstance(arg, Core) else arg
    if isinstance(array, np.ndarray | np.generic):
        return array.dtype.num, array.shape
    return type(array)


def memory(array: Any) -> Any:
    """The array that owns the memory of `array`."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def operand_node(value: Any) -> Node:
    """The node of an operand that needs no gradient; numbers are constants of the graph."""
    if isinstance(value, Core):
        if value._plain is None:
            value._plain = Plain(value._data, value._origin)
        return value._plain
    if isinstance(value, np.ndarray):
        return Plain(value, None)
    return number_node(value)


_numbers: dict[tuple[type, Any], Node] = {}


def number_node(value: Any) -> Node:
    """A constant node, one for all uses of a number."""
    found = _numbers.get((type(value), value)) if value else None  # 0.0 is not -0.0
    if found is None:
        attrs = (("value", Literal.of(np.asarray(value))),)
        found = Node(CONSTANT, (), attrs, type_of(value))
        if value and len(_numbers) < _MOST:
            _numbers[type(value), value] = found
    return found
