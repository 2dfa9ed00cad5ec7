"""The type of a value: dtype and shape, written `f64[n, m]`; a Python scalar's type is `weak`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from codegen.records import dataclass
from tracegrad.ir.dims import Size, in_figures, product, substitute

_PREFIX = {"f": "f", "i": "i", "u": "u", "c": "c"}


@dataclass(frozen=True)
class ArrayType:
    """`weak` marks what stands for a Python number: it takes the other operand's dtype (NEP 50)."""

    dtype: np.dtype
    shape: tuple[Size, ...] = ()
    weak: bool = False

    @property
    def rank(self) -> int:
        return len(self.shape)

    @cached_property
    def size(self) -> Size:
        return product(self.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype.kind == "f"

    def with_shape(self, shape: tuple[Size, ...]) -> ArrayType:
        return ArrayType(self.dtype, shape)

    def substitute(self, known: Mapping[str, Size]) -> ArrayType:
        shape = tuple(substitute(size, known) for size in self.shape)
        return ArrayType(self.dtype, shape, self.weak)

    def in_figures(self) -> ArrayType:
        """With the extents of the call being traced, for messages: `f64[2, 3]`."""
        return ArrayType(self.dtype, tuple(in_figures(size) for size in self.shape), self.weak)

    def __str__(self) -> str:
        shape = ", ".join(str(size) for size in self.shape)
        return f"{dtype_text(self.dtype)}[{shape}]" if self.shape else dtype_text(self.dtype)


@dataclass(frozen=True)
class TupleType(ArrayType):
    """The type of a node with several results, `(f64[n], i64)`; projections take them apart."""

    parts: tuple[ArrayType, ...] = ()

    @staticmethod
    def of(parts: tuple[ArrayType, ...]) -> TupleType:
        return TupleType(np.dtype("V"), (), False, parts)

    @property
    def is_float(self) -> bool:
        """Whether a derivative can pass through any of the results."""
        return any(part.is_float for part in self.parts)

    def substitute(self, known: Mapping[str, Size]) -> TupleType:
        return TupleType.of(tuple(part.substitute(known) for part in self.parts))

    def __str__(self) -> str:
        return f"({', '.join(str(part) for part in self.parts)})"


CHECKS = "checks"
"""What the state is called that keeps the checks of a program in order."""


@dataclass(frozen=True)
class StateType(ArrayType):
    """The type of the state of a random number generator, which an argument of that name is; or of
    the state of the checks, which has no value.
    """

    generator: str = ""

    @staticmethod
    def of(generator: str) -> StateType:
        """In compiled code a state is an address."""
        return StateType(np.dtype(np.int64), (), False, generator)

    def substitute(self, known: Mapping[str, Size]) -> StateType:
        return self

    def __str__(self) -> str:
        return "Checks" if self.generator == CHECKS else "Generator"


def dtype_text(dtype: np.dtype) -> str:
    """`f64`, `i32`, `bool`."""
    if dtype.kind in _PREFIX:
        return f"{_PREFIX[dtype.kind]}{dtype.itemsize * 8}"
    return str(dtype)
