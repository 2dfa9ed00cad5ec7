"""What the names of a function stand for: values, places in memory, arrays; who holds references.

In: names, as blocks are entered and left. Out: LLVM values. A scalar is a value under a name, or a
place in memory (`scope.slots`); an array of the module is part of the code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from codegen import shortcuts
from codegen.apart import let_go
from codegen.emit import arrays
from codegen.emit.arrays import Array, word
from codegen.emit.kinds import scalar_type
from codegen.emit.scalars import Scalars
from codegen.emit.scope import slots
from codegen.errors import CodegenError
from codegen.expr import INT, Expr
from codegen.loops import Function
from codegen.records import dataclass
from codegen.schedule.dependence import aliases


@dataclass
class Scope:
    """What the names of a block stand for, and the arrays of it that hold a reference."""

    scalars: dict[str, tuple[Any, np.dtype]] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    owned: dict[str, Array] = field(default_factory=dict)
    sizes: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    """Bytes of arrays by the size of an element and the shape."""


class Names(Scalars):
    """The state of writing one function; `space` are the globals of its module."""

    def __init__(
        self, context: Any, builder: Any, function: Function, space: Mapping[str, Any]
    ) -> None:
        self.context, self.builder, self.function, self.space = context, builder, function, space
        self.scopes = [Scope()]
        self.slots: dict[str, tuple[Any, np.dtype] | None] = dict.fromkeys(slots(function))
        self.roots = aliases(function)
        self.numbers = {p.name for p in function.parameters if not p.rank}
        self.exits: dict[tuple[type[Exception], str], Any] = {}
        self.kernels: dict[Any, Any] = {}
        """The functions of kernels written so far, by name and layouts of arrays."""
        self.nothing: Any = None
        """Where calls of kernels put what they return, which is nothing."""

    def variable(self, name: str) -> tuple[Any, np.dtype]:
        if name in self.slots:
            slot = self.slots[name]
            if slot is None:
                raise CodegenError(f"{name} is read before it has a value")
            return self.builder.load(slot[0]), slot[1]
        for scope in reversed(self.scopes):
            if name in scope.scalars:
                return scope.scalars[name]
        raise CodegenError(f"{name} has no value here")

    def assign(self, name: str, value: Any, dtype: np.dtype) -> None:
        if name not in self.slots:
            self.scopes[-1].scalars[name] = value, dtype
            return
        slot = self.slots[name]
        if slot is None:
            slot = self.slots[name] = cgutils.alloca_once(self.builder, value.type), dtype
        self.builder.store(self.cast(value, dtype, slot[1]), slot[0])

    def array(self, name: str) -> Array:
        for scope in reversed(self.scopes):
            if name in scope.arrays:
                return scope.arrays[name]
        value = self.space.get(name)
        if not isinstance(value, np.ndarray):
            raise CodegenError(f"there is no array {name} here")
        return self.constant(name, value)

    def constant(self, name: str, value: np.ndarray) -> Array:
        """An array of the module."""
        kind = types.Array(scalar_type(value.dtype), value.ndim, "C", readonly=True)
        data = arrays.constant(self.context, self.builder, kind, value)
        null = ir.Constant(arrays.POINTER, None)
        found = Array(kind, data, tuple(map(word, value.shape)), null)
        scope = self.scopes[0 if isinstance(data, ir.Constant) else -1]
        scope.arrays[name] = found
        return found

    def element(self, array: str, index: tuple[Expr, ...]) -> Any:
        found, places = self.array(array), [self.evaluated(part, INT) for part in index]
        if len(places) != found.kind.ndim:
            raise CodegenError(f"{array} has {found.kind.ndim} axes, not {len(places)}")
        return arrays.address(self.context, self.builder, found, places)

    def dtype(self, array: str) -> np.dtype:
        return np.dtype(self.array(array).kind.dtype.name.replace("bool", "bool_"))

    @contextmanager
    def bound(self, name: str, value: Any, dtype: np.dtype) -> Iterator[None]:
        """A name for a value that is at hand."""
        self.scopes[-1].scalars[name] = value, dtype
        yield
        del self.scopes[-1].scalars[name]

    def shape(self, extents: tuple[Expr, ...]) -> tuple[Any, ...]:
        return tuple(self.evaluated(extent, INT) for extent in extents)

    def byte_count(self, shape: tuple[Any, ...], element: int) -> Any:
        """Bytes of an array, computed and checked once for arrays of the same shape."""
        key = (element, *shape)
        for scope in reversed(self.scopes):
            if key in scope.sizes:
                return scope.sizes[key]
        found = shortcuts.byte_count(self.builder, shape, word(element), self.fail)
        self.scopes[-1].sizes[key] = found
        return found

    def fail(self, condition: Any, error: type[Exception], message: str) -> None:
        """Where the condition holds, leave the function with an error: one way out for all places
        with this error. What the function holds is lost."""
        builder = self.builder
        block = self.exits.get((error, message))
        if block is None:
            block = self.exits[error, message] = builder.append_basic_block("fail")
            with builder.goto_block(block):
                self.context.call_conv.return_user_exc(builder, error, (message,))
        on = builder.append_basic_block("on")
        builder.cbranch(condition, block, on).set_weights([1, 99])
        builder.position_at_end(on)

    def owner(self, array: Array) -> str | None:
        """The array of ours whose memory it is."""
        own = (pair for scope in self.scopes for pair in scope.owned.items())
        return next((name for name, found in own if found.meminfo is array.meminfo), None)

    def release(self, array: Array) -> None:
        let_go(self.builder, array.data)
        arrays.count(self.builder, "decref", array.meminfo)

    def release_all(self, kept: Sequence[str] = ()) -> None:
        """Before the function is left: all references but those that go to the caller."""
        for scope in self.scopes:
            for name, array in scope.owned.items():
                if name not in kept:
                    self.release(array)
