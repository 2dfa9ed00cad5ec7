"""The traced array: what a traced function sees in place of an ndarray.

It has a type, no values. Operators, methods and NumPy functions record nodes; writes into it (and through its
views) rebind it to a new value, so the graph stays pure:

    v = y[1:]; v[0] = 3.0      ->      y' = update(y, 3.0, at 1)
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracegrad.errors import TraceError, UnsupportedError
from tracegrad.ir.dims import Dim, Size, holds
from tracegrad.ir.graph import Node
from tracegrad.ir.op import Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.constant import SIZE, astype
from tracegrad.ops.op import PUBLIC, SizeValue, bind, type_of
from tracegrad.ops.operators import ArrayMethods
from tracegrad.ops.shape import row_major
from tracegrad.tracing.trace import Trace, current_trace, leaked


@dataclass(frozen=True)
class View:
    """`op(base, *others, **attrs)` as NumPy has it: memory of `base`, looked at in another way."""

    base: Traced
    op: Op
    others: tuple[Any, ...]
    attrs: dict[str, Any]

    def look(self, trace: Trace) -> Node:
        """The view's present value."""
        others = (x.node if isinstance(x, Traced) else trace.lift(x) for x in self.others)
        return trace.record(self.op, (self.base.node, *others), self.attrs)

    def put(self, value: Any) -> Traced:
        """The base with `value` written where the view looks."""
        snapshot = Traced(self.base._trace, self.base.node)
        return self.op.put(snapshot, value, *self.others, **self.attrs)

    def strides(self) -> tuple[Size, ...] | None:
        return self.op.strides(self.base.element_strides, self.base.type, **self.attrs)


class Traced(ArrayMethods):
    """An array of a known type in a function being traced."""

    dispatch_rank = 2
    __array_priority__ = 200

    def __init__(self, trace: Trace, node: Node, argument: str = "") -> None:
        self._trace, self._node = trace, node
        self._argument = argument
        self._version = 0
        self._view: View | None = None
        self._seen = 0

    @property
    def node(self) -> Node:
        """The current value; a view looks again if its base was written to."""
        if self._trace.finished:
            raise leaked(self._trace.name)
        if self._view is not None and self._seen != self._view.base._total_version():
            self._node = self._view.look(self._trace)
            self._seen = self._view.base._total_version()
        return self._node

    def _total_version(self) -> int:
        return self._version + (self._view.base._total_version() if self._view is not None else 0)

    @property
    def element_strides(self) -> tuple[Size, ...]:
        """As NumPy would lay out this array, in elements; a new one is C-contiguous."""
        if self._view is None:
            return row_major(self.type.shape)
        return self._view.strides() or row_major(self.type.shape)

    @property
    def contiguous(self) -> bool:
        return self._view is None or self.element_strides == row_major(self.type.shape)

    @property
    def type(self) -> ArrayType:  # type: ignore[override]
        return self.node.type

    @classmethod
    def bind(cls, op: Op, args: tuple[Any, ...], attrs: dict[str, Any]) -> Traced:
        trace = current_trace() or next(arg._trace for arg in args if isinstance(arg, Traced))
        nodes = tuple(
            trace.capture(arg._trace, arg.node) if isinstance(arg, Traced) else trace.lift(arg)
            for arg in args
        )
        result = Traced(trace, trace.record(op, nodes, attrs))
        if op.has("put") and isinstance(args[0], Traced) and result._node.type.rank:
            result._look_at(View(args[0], op, args[1:], attrs))
        return result

    def _look_at(self, view: View) -> None:
        """From now on be a view of `view.base`, unless NumPy would have copied."""
        if view.base._view is None or view.strides() is not None:
            self._view, self._seen = view, view.base._total_version()

    def write(self, value: Any) -> None:
        """Become `value` (of this type): an in-place write, seen by every view of this array."""
        if current_trace() is not self._trace and current_trace() is not None:
            raise TraceError(
                f"the body {current_trace().name} writes into an array from outside of it: carry the array through the "  # type: ignore[union-attr]
                "loop, or return the value from the branch"
            )
        if self._view is not None:
            self._view.base.write(self._view.put(value))
            return
        if self._argument:
            raise TraceError(
                f"{self._trace.name} writes into its argument {self._argument}: a traced function must not change "
                f"its arguments; write {self._argument} = {self._argument}.copy() first"
            )
        self._node = value.node
        self._version += 1

    def _same_type(self, value: Any) -> Any:
        """`value` as an in-place write stores it: cast to this dtype, broadcast to this shape."""
        kind, own = type_of(value), self.type
        if not kind.weak and not np.can_cast(kind.dtype, own.dtype, "same_kind"):
            raise TypeError(f"cannot store {kind} in {own}: the result would lose its kind of number")
        return self._lifted(PUBLIC["broadcast_to"](astype(value, own.dtype), own.shape))

    def _lifted(self, value: Any) -> Traced:
        return value if isinstance(value, Traced) else Traced(self._trace, self._trace.lift(value))

    def __setitem__(self, key: Any, value: Any) -> None:
        self.write(self._lifted(PUBLIC["setitem"](self, key, value)))

    def __getitem__(self, key: Any) -> Any:
        return PUBLIC["getitem"](self, key)

    def _update(self, name: str, other: Any) -> Traced:
        self.write(self._same_type(PUBLIC[name](self, other)))
        return self

    def __iadd__(self, other: Any) -> Any:
        return self._update("add", other)

    def __isub__(self, other: Any) -> Any:
        return self._update("subtract", other)

    def __imul__(self, other: Any) -> Any:
        return self._update("multiply", other)

    def __itruediv__(self, other: Any) -> Any:
        return self._update("divide", other)

    def __ipow__(self, other: Any) -> Any:
        return self._update("power", other)

    def __ifloordiv__(self, other: Any) -> Any:
        return self._update("floor_divide", other)

    def __imod__(self, other: Any) -> Any:
        return self._update("remainder", other)

    @property
    def shape(self) -> tuple[Any, ...]:
        return tuple(sized(size) for size in self.type.shape)

    @property
    def size(self) -> Any:
        return sized(self.type.size)

    @property
    def nbytes(self) -> Any:
        return sized(self.type.size * self.type.dtype.itemsize)

    def __len__(self) -> int:
        if not self.type.rank:
            raise TypeError("len() of a traced scalar")
        return pinned(self.type.shape[0])

    def __iter__(self) -> Iterator[Any]:
        if not self.type.rank:
            raise TypeError("iteration over a traced scalar")
        return (self[i] for i in range(pinned(self.type.shape[0])))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """`np.array([[c, -s], [s, c]])` of traced scalars: an object array, stacked where it is used."""
        if self.type.rank == 0 and dtype in (None, np.dtype(object)):
            box = np.empty((), dtype=object)
            box[()] = self
            return box
        raise self._no_value(
            "turned into an array by np.asarray() or np.array()", "use np.stack, or the array itself"
        )

    def __bool__(self) -> bool:
        raise self._no_value(
            "used as a condition (if, while, and, or, not, assert)",
            "use np.where(condition, a, b), or tg.cond for a branch",
        )

    def __float__(self) -> float:
        raise self._no_value(
            "stored in a plain NumPy array, or made a number by float()",
            "to fill an array element by element, make it with tg.zeros(...) or np.zeros_like(x); "
            "to use the number, return it",
        )

    def __int__(self) -> int:
        raise self._no_value("made a number by int()", "keep it an array, x.astype(int)")

    def __index__(self) -> int:
        raise self._no_value(
            "used as an index or a size",
            "sizes come from x.shape; an index may be an integer array",
        )

    def __complex__(self) -> complex:
        raise self._no_value("made a number by complex()", "complex numbers are not supported yet")

    def item(self) -> Any:
        raise self._no_value("made a number by .item()", "return it from the traced function")

    def tolist(self) -> Any:
        raise self._no_value("made a list by .tolist()", "return it from the traced function")

    def _no_value(self, use: str, cure: str) -> TraceError:
        name = self._trace.names.get(self._node, "") or "this value"
        return TraceError(
            f"{name} ({self._node.type}) has no value while {self._trace.name} is traced, "
            f"so it cannot be {use}: {cure}"
        )

    def __repr__(self) -> str:
        name = self._trace.names.get(self._node, "")
        return f"<traced {name + ': ' if name else ''}{self._node.type}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        if spec:
            raise self._no_value("a formatted string", "print it after the traced function returned")
        return repr(self)


class TracedSize(SizeValue):
    """A traced extent: arithmetic is symbolic, a comparison becomes a guard, `range(n)` pins it."""

    def __init__(self, dim: Dim) -> None:
        self.dim = dim

    def __index__(self) -> int:
        return pinned(self.dim)

    def __float__(self) -> float:
        return float(pinned(self.dim))

    __int__ = __trunc__ = __index__

    def __bool__(self) -> bool:
        return not holds(self.dim, "==", 0)

    def __hash__(self) -> int:
        return hash(self.dim)

    def _compare(self, relation: str, other: Any) -> Any:
        if isinstance(other, TracedSize | int):
            return holds(self.dim, relation, other.dim if isinstance(other, TracedSize) else other)
        if isinstance(other, float):
            return _RELATIONS[relation](pinned(self.dim), other)
        return NotImplemented

    def __eq__(self, other: object) -> Any:
        return self._compare("==", other)

    def __ne__(self, other: object) -> Any:
        return self._compare("!=", other)

    def __lt__(self, other: Any) -> Any:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Any:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Any:
        reverse = self._compare("<=", other)
        return reverse if reverse is NotImplemented else not reverse

    def __ge__(self, other: Any) -> Any:
        reverse = self._compare("<", other)
        return reverse if reverse is NotImplemented else not reverse

    def __neg__(self) -> Any:
        return sized(-self.dim)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self if holds(0, "<=", self.dim) else -self

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        lifted = [bind(SIZE, size=i.dim) if isinstance(i, TracedSize) else i for i in inputs]
        return getattr(ufunc, method)(*lifted, **options)

    def __repr__(self) -> str:
        return str(self.dim)

    def __format__(self, spec: str) -> str:
        return format(str(self.dim), spec)


_RELATIONS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le}


def sized(size: Size) -> int | TracedSize:
    return TracedSize(size) if isinstance(size, Dim) else size


def pinned(size: Size) -> int:
    """The number behind an extent; the version is valid for this extent only."""
    trace = current_trace()
    if trace is None:
        raise leaked("a traced function")
    return trace.assumptions.pin(size)


def _size_operator(symbolic: Callable[[Any, Any], Any], name: str, reflected: bool) -> Any:
    """Integers stay symbolic sizes; any other operand turns the size into a traced number."""

    def method(self: TracedSize, other: Any) -> Any:
        if isinstance(other, TracedSize):
            other = other.dim
        if type(other) is int or isinstance(other, Dim):
            a, b = (other, self.dim) if reflected else (self.dim, other)
            if name in ("floor_divide", "remainder") and holds(b, "==", 0):
                raise ZeroDivisionError("division of a size by zero")
            if name != "divide":
                return sized(symbolic(a, b))
            other = sized(other)
        if isinstance(other, Traced | np.ndarray):
            return NotImplemented
        value = bind(SIZE, size=self.dim)
        return PUBLIC[name](other, value) if reflected else PUBLIC[name](value, other)

    return method


for _symbol, _function, _name in (
    ("add", operator.add, "add"),
    ("sub", operator.sub, "subtract"),
    ("mul", operator.mul, "multiply"),
    ("floordiv", operator.floordiv, "floor_divide"),
    ("mod", operator.mod, "remainder"),
    ("truediv", operator.truediv, "divide"),
):
    setattr(TracedSize, f"__{_symbol}__", _size_operator(_function, _name, reflected=False))
    setattr(TracedSize, f"__r{_symbol}__", _size_operator(_function, _name, reflected=True))


def _size_power(self: TracedSize, exponent: Any) -> Any:
    if type(exponent) is int and exponent >= 0:
        result: Size = 1
        for _ in range(exponent):
            result = self.dim * result
        return sized(result)
    return PUBLIC["power"](bind(SIZE, size=self.dim), exponent)


TracedSize.__pow__ = _size_power  # type: ignore[attr-defined]


__all__ = ["Traced", "TracedSize", "UnsupportedError", "pinned", "sized"]
