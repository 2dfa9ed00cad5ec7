"""The traced array: what a traced function sees in place of an ndarray.

It has a type, no values. Operators, methods and NumPy functions record nodes; writes into it (and
through its views) rebind it to a new value, so the graph stays pure:

    v = y[1:]; v[0] = 3.0      ->      y' = update(y, 3.0, at 1)
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.errors import TraceError, UnsupportedError
from tracegrad.ir.dims import Size, knows, of_data
from tracegrad.ir.graph import Node, attr_sizes, reachable, substitute_attrs
from tracegrad.ir.op import Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.bounds import WITHIN
from tracegrad.ops.constant import astype
from tracegrad.ops.nonzero import NONZERO
from tracegrad.ops.op import PUBLIC, type_of
from tracegrad.ops.operators import ArrayMethods
from tracegrad.ops.shape import row_major
from tracegrad.tracing.counters import span_of
from tracegrad.tracing.sharing import Twin, spoil_twins
from tracegrad.tracing.size import Shape, TracedSize, pinned, sized
from tracegrad.tracing.source import called_in_scipy
from tracegrad.tracing.trace import Trace, current_trace


@dataclass(frozen=True)
class View:
    """`op(base, *others, **attrs)` as NumPy has it: memory of `base`, looked at in another way."""

    base: Traced
    op: Op
    others: tuple[Any, ...]
    attrs: dict[str, Any]

    def look(self, trace: Trace) -> Node:
        """The view's present value."""
        others = (
            trace.capture(x._trace, x.node) if isinstance(x, Traced) else trace.lift(x)
            for x in self.others
        )
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
    _twins: tuple[Twin, ...] = ()

    def __init__(self, trace: Trace, node: Node, argument: str = "") -> None:
        self._trace, self._node = trace, node
        self._argument = argument
        self._version = 0
        self._view: View | None = None
        self._seen = 0

    @property
    def node(self) -> Node:
        """The current value; a view looks again if its base was written to."""
        if self._view is not None and self._seen != self._view.base._total_version():
            _ = self._view.base.node
            self._trace = self._view.base._trace
            self._node = self._view.look(self._trace)
            self._seen = self._view.base._total_version()
        if self._trace.finished:
            raise self._trace.leaked()
        return self._node

    def is_within(self, size: Size) -> bool:
        """Whether this is the counter of a loop, or a multiple and some more, and surely inside."""
        if self.type.rank:
            return _chooses_from(self.node, size)
        span = span_of(self._trace, self.node)
        if span is None:
            return False
        low, high = span
        known = self._trace.assumptions.known_at_most
        return known(0, low) and (known(high + 1, size) or bool(knows(high + 1, "<=", size)))

    def is_count(self) -> bool:
        """Whether this is the counter of a loop, or computed from one, and surely not negative."""
        span = None if self.type.rank else span_of(self._trace, self.node)
        return span is not None and self._trace.assumptions.known_at_most(0, span[0])

    def bound(self, most: Size | None) -> tuple[Traced, Size]:
        """This integer as an extent: the value that binds its symbol, and the symbol."""
        trace = current_trace() or self._trace
        node, size = trace.bound(trace.capture(self._trace, self.node), most)
        return Traced(trace, node), size

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

    @classmethod
    def elementwise(cls, op: Any, args: tuple[Any, ...]) -> Traced | None:
        """`op` of traced arrays and Python numbers, recorded at once if none has to be cast."""
        trace = current_trace()
        if trace is None:
            return None
        nodes: list[Any] = []
        key: list[Any] = [op]
        for arg in args:
            kind = type(arg)
            if kind is Traced:
                own = arg._view is None and arg._trace is trace
                node = arg._node if own else trace.capture(arg._trace, arg.node)
                nodes.append(node)
                key.append(id(node.type))
            elif kind is float or kind is int:
                nodes.append(arg)
                key.append(kind)
            else:
                return None
        known = trace.loops.get(tuple(key))
        if known is None:
            known = trace.loops[tuple(key)] = _loop(op, nodes)
        if known[0] is None:
            return None
        for number, dtype in known[0]:
            nodes[number] = trace.number(nodes[number], dtype)
        return Traced(trace, trace.record(op, tuple(nodes), {}))

    def _look_at(self, view: View) -> None:
        """From now on be a view of `view.base`, unless NumPy would have copied."""
        if view.base._view is None or view.strides() is not None:
            self._view, self._seen = view, view.base._total_version()

    def write(self, value: Any) -> None:
        """Become `value` (of this type): an in-place write, seen by every view of this array."""
        if self._view is not None:
            self._view.base.write(self._view.put(value))
            return
        if self._argument:
            raise TraceError(
                f"{self._trace.name} writes into its argument {self._argument}: a traced function "
                "must "
                f"not change its arguments; write {self._argument} = {self._argument}.copy() first"
            )
        trace = current_trace()
        if trace is not None and trace is not self._trace:
            if trace.written is None:
                raise TraceError(
                    f"the body {trace.name} writes into an array from outside of it: carry the "
                    "array through the loop, or return the value from the branch"
                )
            trace.written(self)
        self._node = value.node
        self._version += 1
        if self._twins:
            spoil_twins(self)

    @property
    def root(self) -> Traced:
        """The array whose memory this is or looks at."""
        return self if self._view is None else self._view.base.root

    @property
    def is_argument(self) -> bool:
        """Whether it is an argument of the traced function, which must not be written to."""
        return bool(self.root._argument)

    def lend(self, trace: Trace, node: Node) -> tuple[Trace, Node]:
        """Be `node` of another trace, a body's, that may write to it; what it was before."""
        before = self._trace, self._node
        self._trace, self._node = trace, node
        self._version += 1
        return before

    def _same_type(self, value: Any) -> Any:
        """`value` as an in-place write stores it: cast to this dtype, broadcast to this shape."""
        kind, own = type_of(value), self.type
        if not kind.weak and not np.can_cast(kind.dtype, own.dtype, "same_kind"):
            raise TypeError(
                f"cannot store {kind} in {own}: the result would lose its kind of number"
            )
        return self._lifted(PUBLIC["broadcast_to"](astype(value, own.dtype), own.shape))

    def _lifted(self, value: Any) -> Traced:
        return value if isinstance(value, Traced) else Traced(self._trace, self._trace.lift(value))

    def __setitem__(self, key: Any, value: Any) -> None:
        if not self._is_there(key, value):
            self.write(self._lifted(PUBLIC["setitem"](self, key, value)))

    def _is_there(self, key: Any, value: Any) -> bool:
        """Whether this is `x[i] = x[i]`, which changes nothing: `x[i] += v` ends with that."""
        if not isinstance(value, Traced) or value._view is None or value.root is not self.root:
            return False
        return PUBLIC["getitem"](self, key).node is value.node

    def __getitem__(self, key: Any) -> Any:
        return PUBLIC["getitem"](self, key)

    def _update(self, name: str, other: Any) -> Traced:
        """`x += other`: an array is written in place; a number, immutable as NumPy's are, is a new
        one."""
        if not self.type.rank and self._view is None:
            return PUBLIC[name](self, other)
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
        return Shape(sized(size) for size in self.type.shape)

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
        values = self._of_sizes() if self.type.rank == 1 else None
        if values is not None:
            return iter(values)
        return (self[i] for i in range(pinned(self.type.shape[0])))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """`np.array([[c, -s], [s, c]])` of traced scalars: an object array, stacked where used."""
        if self.type.rank == 0 and dtype in (None, np.dtype(object)):
            box = np.empty((), dtype=object)
            box[()] = self
            return box
        values = self._of_sizes()
        if values is not None:
            return np.array(values, dtype)
        functions = called_in_scipy()
        if functions:
            names = [name for f in functions for name in (f, f"linalg.{f}") if name in PUBLIC]
            raise self._no_value(
                f"given to SciPy's {functions[0]}, which takes NumPy arrays only",
                f"use tg.{names[0]}"
                if names
                else "write it with NumPy's functions and those of tg (docs/ops.md lists them)",
            )
        raise self._no_value(
            "turned into an array by np.asarray() or np.array()",
            "use np.stack, or the array itself; to choose from a NumPy array a by it, np.take(a, "
            "index) or np.compress(mask, a)",
        )

    def _of_sizes(self) -> Any:
        """Its value, if it depends on extents alone (these become constants); None if on data."""
        nodes = sorted(reachable((self.node,)), key=lambda node: node.serial)
        if any(node.op.name == "input" or _is_of_data(node) for node in nodes):
            return None
        found: dict[Node, Any] = {}
        for node in nodes:
            for size in attr_sizes(node.attrs):
                pinned(size)
            attrs = substitute_attrs(node.attrs, self._trace.assumptions.hints)
            operands = (found[operand] for operand in node.inputs)
            found[node] = node.op.reference(*operands, **dict(attrs))
        return found[self.node]

    def __copy__(self) -> Any:
        return PUBLIC["copy"](self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """`copy.deepcopy(params)`: arrays of the same values, which may be written to."""
        return PUBLIC["copy"](self)

    def __bool__(self) -> bool:
        value = self._of_sizes()
        if value is not None:
            return bool(value)
        raise self._no_value(
            "used as a condition (if, while, and, or, not, assert)",
            "use np.where(condition, a, b), or tg.cond for a branch, or decorate the function with "
            "@tg.trace(python_control_flow=True), which does not rewrite match, the conditions of "
            "comprehensions, and methods that it calls",
        )

    def __float__(self) -> float:
        value = self._of_sizes()
        if value is not None:
            return float(value)
        raise self._no_value(
            "stored in a plain NumPy array, or made a number by float()",
            "to fill an array element by element, make it with tg.zeros(...) or np.zeros_like(x); "
            "to use the number, return it",
        )

    def __int__(self) -> int:
        value = self._of_sizes()
        if value is not None:
            return int(value)
        raise self._no_value("made a number by int()", "keep it an array, x.astype(int)")

    def __round__(self, digits: int | None = None) -> Any:
        value = self._of_sizes()
        if value is not None:
            return round(float(value), digits)
        return PUBLIC["round"](self, digits or 0)

    def __index__(self) -> int:
        value = self._of_sizes()
        if value is not None:
            return operator.index(value)
        raise self._no_value(
            "used as an index or a size",
            "sizes come from x.shape; an index may be an integer array",
        )

    def __complex__(self) -> complex:
        raise self._no_value("made a number by complex()", "complex numbers are not supported yet")

    def item(self, *args: Any) -> Any:
        value = self._of_sizes()
        if value is not None:
            return np.asarray(value).item(*args)
        raise self._no_value("made a number by .item()", "return it from the traced function")

    def tolist(self) -> Any:
        value = self._of_sizes()
        if value is not None:
            return np.asarray(value).tolist()
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
            raise self._no_value("formatted", "print it after the traced function returned")
        return repr(self)


def _loop(op: Any, nodes: list[Any]) -> tuple[Any, ...]:
    """The numbers among the operands of an elementwise operation with the dtypes they take, None if
    that is not all there is to convert; and the operands' types, by whose identity it is known."""
    types = [node.type if isinstance(node, Node) else type_of(node) for node in nodes]
    weak = all(type.weak for type in types)
    if weak or len(nodes) != op.arity or op.has("put"):
        return None, types
    loop = op.loop_dtypes(types)
    pairs = list(enumerate(zip(nodes, types, loop, strict=False)))
    if any(isinstance(node, Node) and type.dtype != dtype for _, (node, type, dtype) in pairs):
        return None, types
    return tuple((at, dtype) for at, (node, _, dtype) in pairs if not isinstance(node, Node)), types


def _is_of_data(node: Node) -> bool:
    return any(map(of_data, attr_sizes(node.attrs)))


def _chooses_from(node: Node, size: Size) -> bool:
    """Whether these are places among the first `size` elements, as a mask chose them."""
    if node.op is WITHIN:
        return node.attributes["size"] == size
    return node.op is NONZERO and node.inputs[0].type.shape == (size,)


__all__ = ["Traced", "TracedSize", "UnsupportedError", "pinned", "sized"]
