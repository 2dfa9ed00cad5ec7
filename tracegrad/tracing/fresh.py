"""Arrays that a traced function makes with NumPy: `np.zeros(n)`, to be filled element by element.

Such an array has values as long as only known numbers are written into it: then it is computed by
NumPy while the function is traced, and its elements serve as conditions, indices and sizes. The
first traced value that is written into it, or into a view of it, makes it a traced array.

    out = np.zeros(3)        known: [0, 0, 0]
    out[0] = 1.0             known: [1, 0, 0]
    out[1] = x               out' = update([1, 0, 0], x, at 1)

An array of a traced extent, `np.zeros(n)`, is an operation of the program, so that the extent stays
open; it has values from when something makes the extent a number, `range(n)` for instance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.errors import TraceError
from tracegrad.ir.dims import Dim
from tracegrad.ir.graph import Node, attr_sizes
from tracegrad.ir.op import Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.op import Bindable, SizeValue, apply
from tracegrad.tracing.array import Traced, View
from tracegrad.tracing.sharing import spoil_twins
from tracegrad.tracing.trace import Trace, current_trace

NUMBERS = "biuf"


def fresh(value: Any) -> Any:
    """An array that NumPy made while a function is traced, as one that can hold traced values."""
    trace = current_trace()
    plain = type(value) is np.ndarray and value.ndim > 0 and value.dtype.kind in NUMBERS
    return Fresh(trace, value) if plain and trace is not None else value


def fresh_of_sizes(sizes: Sequence[Dim], made: Any, numpys: Callable[[], np.ndarray]) -> Any:
    """The traced array `made`, which NumPy can make too when these extents are numbers."""
    if not isinstance(made, Traced) or not made.type.rank or made.type.dtype.kind not in NUMBERS:
        return made
    array = Fresh(made._trace, None)
    array._node, array._pending = made.node, Pending(tuple(sizes), numpys)
    return array


@dataclass(frozen=True)
class Pending:
    """How an array gets values once these extents are numbers."""

    sizes: tuple[Dim, ...]
    numpys: Callable[[], np.ndarray]

    def values(self, trace: Trace) -> np.ndarray | None:
        resolved = map(trace.assumptions.resolve, self.sizes)
        return self.numpys() if all(isinstance(size, int) for size in resolved) else None


class Fresh(Traced):
    """An array that has values until a traced one is written into it."""

    dispatch_rank = 1.75  # type: ignore[assignment]  # traced arrays decide, where there are any

    def __init__(self, trace: Trace, values: np.ndarray | None) -> None:
        super().__init__(trace, None)  # type: ignore[arg-type]  # the node is made at its first use
        self._values = values
        self._pending: Pending | None = None
        self._recorded = -1
        self._readers: list[Trace] = []
        """Bodies of loops and branches that took its values for what they are."""

    @property
    def _own(self) -> Fresh:
        """The array whose memory this is; a view of a fresh array is fresh."""
        own = self.root
        assert isinstance(own, Fresh)
        return own

    def known(self) -> np.ndarray | None:
        """Its values, while it has any."""
        own, trace = self._own, current_trace()
        if own._trace.finished:
            return None
        if own._pending is not None:
            own._values = own._pending.values(own._trace)
            if own._values is not None:
                own._pending, own._recorded = None, own._version
        if own._values is None:
            return None
        if trace is not None and trace is not own._trace:
            own._readers.append(trace)
        return self._values

    @property
    def type(self) -> ArrayType:  # type: ignore[override]
        if self._own._values is not None and self._values is not None:
            return ArrayType(self._values.dtype, self._values.shape)
        return self.node.type

    @property
    def _node(self) -> Node:  # type: ignore[override]
        """The values as a constant of the program, made where it is needed."""
        if self._view is None and self._values is not None and self._recorded != self._version:
            self._made = self._trace.lift(self._values.copy())
            self._recorded = self._version
        return self.node if self._made is None else self._made

    @_node.setter
    def _node(self, node: Node | None) -> None:
        self._made = node

    @classmethod
    def bind(cls, op: Op, args: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
        if any(attr_sizes(tuple(attrs.items()))) or not all(map(is_known, args)):
            return Traced.bind(op, args, attrs)
        found = apply(op, tuple(map(values_of, args)), attrs)
        base = args[0] if args else None
        made = fresh(found)
        shared = op.has("put") and isinstance(base, Fresh) and isinstance(made, Fresh)
        if shared and np.shares_memory(found, base._own._values):  # type: ignore[union-attr]
            made._look_at(View(base, op, args[1:], attrs))  # type: ignore[arg-type]
            made._trace, made._seen = base._own._trace, -1  # type: ignore[union-attr]
        return made

    @classmethod
    def elementwise(cls, op: Any, args: tuple[Any, ...]) -> Any:
        return None

    def _may_write(self, *parts: Any) -> bool:
        """Whether what is written is known, and where, and that it is written at all."""
        here = current_trace() is self._own._trace and self.known() is not None
        return here and all(map(is_known, parts))

    def _written(self) -> None:
        self._own._version += 1
        if self._own._twins:
            spoil_twins(self._own)

    def write(self, value: Any) -> None:
        if self._may_write(value) and isinstance(value, Fresh):
            self._values[...] = value._values  # type: ignore[index]
            self._written()
            return
        if self._view is not None:
            super().write(value)
            return
        if not isinstance(value, Traced):
            value = self._lifted(value)
        _ = value.node
        self._forget()
        super().write(value)

    def _leave(self) -> None:
        """Be the program's before the body of a loop or a branch writes into it."""
        if current_trace() is not self._trace:
            self._forget()

    def _forget(self) -> None:
        """From now on its values are the program's."""
        self._pending = None
        if self._values is None:
            return
        if any(not reader.finished for reader in self._readers):
            raise TraceError(
                f"{self._trace.name} writes into an array in the body of a loop or a branch that "
                f"has read it as a constant: make it with tg.zeros({self._values.shape})"
            )
        _ = self._node
        self._values = None

    def lend(self, trace: Trace, node: Node) -> tuple[Trace, Node]:
        self._forget()
        return super().lend(trace, node)

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._may_write(*_parts(key), value):
            self._values[values_of(key)] = values_of(value)  # type: ignore[index]
            self._written()
        else:
            self._own._leave()
            super().__setitem__(key, value)

    def __getitem__(self, key: Any) -> Any:
        values = self.known()
        if values is None or not all(map(is_known, _parts(key))):
            return super().__getitem__(key)
        found = values[values_of(key)]
        if isinstance(found, np.ndarray) and np.shares_memory(found, values):
            return super().__getitem__(key) if found.ndim else found[()]
        return fresh(found)

    def _update(self, name: str, other: Any) -> Any:
        if not self._may_write(other):
            self._own._leave()
            return super()._update(name, other)
        ufunc: np.ufunc = getattr(np, name)
        ufunc(self._values, values_of(other), out=self._values, casting="same_kind")
        self._written()
        return self

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        return self._either(
            lambda: super(Fresh, self).__array_ufunc__(ufunc, method, *inputs, **options),
            lambda *given, **named: getattr(ufunc, method)(*given, **named),
            inputs,
            options,
        )

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return self._either(
            lambda: super(Fresh, self).__array_function__(function, types, args, kwargs),
            function,
            args,
            kwargs,
        )

    def _either(
        self,
        ours: Callable[[], Any],
        numpys: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """What NumPy makes of arrays that are known; a view, and what is written, is ours."""
        if is_known((args, kwargs)):
            before = [*_arrays((args, kwargs))]
            locked = [values.flags.writeable for values in before]
            try:
                for values in before:
                    values.flags.writeable = False
                found = numpys(*values_of(args), **values_of(kwargs))
            except ValueError:  # it writes into one of them, or is wrong: ours says which
                apart = False
            else:
                pairs = product(_arrays(found), before)
                apart = not any(np.shares_memory(a, b) for a, b in pairs)
            finally:
                for values, flag in zip(before, locked, strict=True):
                    values.flags.writeable = flag
            if apart:
                return fresh(found)
        return ours()

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        values = self.known()
        return super().__array__(dtype, copy) if values is None else np.array(values, dtype)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        values = self.known()
        return super().__bool__() if values is None else bool(values)

    def __float__(self) -> float:
        values = self.known()
        return super().__float__() if values is None else float(values)

    def __int__(self) -> int:
        values = self.known()
        return super().__int__() if values is None else int(values)

    def __index__(self) -> int:
        values = self.known()
        return super().__index__() if values is None else values.__index__()

    def item(self, *args: Any) -> Any:
        values = self.known()
        return super().item(*args) if values is None else values.item(*args)

    def tolist(self) -> Any:
        values = self.known()
        return super().tolist() if values is None else values.tolist()

    def __repr__(self) -> str:
        values = self.known()
        return super().__repr__() if values is None else repr(values)

    __str__ = __repr__


def _parts(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def is_known(value: Any) -> bool:
    """Whether a value, or all of nested ones, can be given to NumPy."""
    match value:
        case Fresh():
            return value.known() is not None
        case Bindable() | SizeValue():
            return False
        case tuple() | list():
            return all(map(is_known, value))
        case dict():
            return all(map(is_known, value.values()))
        case slice():
            return all(map(is_known, (value.start, value.stop, value.step)))
        case np.ndarray():
            return value.dtype != object
    return True


def _arrays(value: Any) -> Iterator[np.ndarray]:
    """The values of all arrays in a nested value."""
    match value:
        case Fresh():
            yield value._values  # type: ignore[misc]  # it is known
        case np.ndarray():
            yield value
        case tuple() | list():
            for part in value:
                yield from _arrays(part)
        case dict():
            yield from _arrays([*value.values()])


def values_of(value: Any) -> Any:
    """The same for NumPy."""
    match value:
        case Fresh():
            return value.known()
        case tuple() | list():
            return type(value)(map(values_of, value)) if type(value) in (tuple, list) else value
        case dict():
            return {name: values_of(part) for name, part in value.items()}
    return value
