"""The registry, and the one door through which an operation is applied: `bind`.

Everything that lists operations reads `REGISTRY` (ops by name), `PUBLIC` (functions of the `tg`
namespace) and `NUMPY` (which NumPy function means which of ours).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np

from codegen.records import dataclass
from tracegrad.errors import UnsupportedError
from tracegrad.ir.dims import Dim, Size
from tracegrad.ir.graph import attr_sizes
from tracegrad.ir.op import Op
from tracegrad.ir.types import ArrayType

REGISTRY: dict[str, Op] = {}
PUBLIC: dict[str, Callable[..., Any]] = {}
NUMPY: dict[Any, Callable[..., Any]] = {}

SAMPLES: list[Sample] = []

F = TypeVar("F", bound=Callable[..., Any])
Registered = TypeVar("Registered", bound=Op)

WEAK = {bool: np.dtype(bool), int: np.dtype(np.int64), float: np.dtype(np.float64)}


@dataclass(frozen=True)
class Sample:
    """A plain NumPy program that the tests run by NumPy, traced and eager, with its derivatives.

    `shapes` are those of its arguments, drawn from `domain`; `kinds` the dtype kinds to try it
    with ("f": both float widths, "i" integers, "u" unsigned, "b" bool). `smooth=False`: values are
    checked, derivatives are not. `ragged=True`: data decides on the sizes of the results.
    """

    program: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    domain: tuple[float, float] = (-2.0, 2.0)
    kinds: str = "f"
    smooth: bool = True
    ragged: bool = False


def sample(program: Callable[..., Any], *shapes: tuple[int, ...], **options: Any) -> None:
    """Register a program that shows an op at work; every op occurs in at least one."""
    SAMPLES.append(Sample(program, shapes, **options))


def register(op: Registered) -> Registered:
    assert op.name and op.name not in REGISTRY, f"op {op.name!r} is registered twice"
    REGISTRY[op.name] = op
    return op


def public(*numpy_functions: Any, name: str = "") -> Callable[[F], F]:
    """Make a function part of `tg`, and what those NumPy functions do to traced or eager arrays."""

    def add(function: F) -> F:
        PUBLIC[name or function.__name__] = function
        for numpy_function in numpy_functions:
            NUMPY[numpy_function] = function
        return function

    return add


class Bindable:
    """A value whose operations are recorded: the traced array and the eager tensor."""

    type: ArrayType
    dispatch_rank = 0
    """Among mixed operands the class with the highest rank records the operation."""
    contiguous = True
    """Whether its elements would lie in row-major order without gaps: `ravel` copies if not."""

    @classmethod
    def bind(cls, op: Op, args: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
        raise NotImplementedError

    @classmethod
    def elementwise(cls, op: Any, args: tuple[Any, ...]) -> Any:
        """The result of an elementwise operation, where there is a shorter way to it than `bind`;
        else None."""
        return None

    def is_within(self, size: Size) -> bool:
        """Whether it surely is `0 <= x < size`, as the counter of a loop may be known to be."""
        return False

    def is_count(self) -> bool:
        """Whether it surely is an integer that is not negative, as the counter of a loop is."""
        return False

    def bound(self, most: Size | None) -> tuple[Any, Size]:
        """An integer that the program computes as an extent: the value that binds the symbol, and
        the symbol.
        """
        raise NotImplementedError

    def known(self) -> np.ndarray | None:
        """Its elements, where it has any: a traced array has none."""
        return None


class SizeValue:
    """A traced extent, as the user sees it: an integer that is the `dim` of a type."""

    dim: Dim


def bound(count: Any, most: Size | None = None) -> tuple[Any, Size]:
    """An integer as an extent, `most` at the largest: a new symbol if it has no value yet."""
    if isinstance(count, Bindable):
        known = count.known()
        return count.bound(most) if known is None else (known, int(known))
    return count, int(count)


_OPERANDS = (Bindable, SizeValue, bool, int, float, np.generic)

recording: ContextVar[type[Bindable] | None] = ContextVar("recording", default=None)
"""While a function is traced: the class that records operations without a recorded operand."""


def bind(op: Op, *args: Any, **attrs: Any) -> Any:
    """Apply `op`: recorded if an operand is traced or eager, at once by NumPy if none is."""
    return apply(op, tuple([as_operand(arg) for arg in args]), attrs)


def apply(op: Op, args: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
    """`bind` for arguments that are operands already."""
    owner = recorder(args, attrs)
    if owner is not None:
        return owner.bind(op, args, attrs)
    result = op.reference(*args, **attrs)
    return result[()] if isinstance(result, np.ndarray) and result.ndim == 0 else result


def recorder(args: Iterable[Any], attrs: dict[str, Any] | None = None) -> type[Bindable] | None:
    """Who records an operation on `args`: the highest class among them, or the current trace."""
    found: type[Bindable] | None = None
    for arg in args:
        if isinstance(arg, Bindable) and (found is None or arg.dispatch_rank > found.dispatch_rank):
            found = type(arg)
    if found is not None:
        return found
    sizes = any(isinstance(arg, SizeValue) for arg in args)
    if sizes or (attrs and next(attr_sizes(tuple(attrs.items())), None) is not None):
        return recording.get()
    return None


def as_operand(value: Any) -> Any:
    """`value` as something with a type: lists and object arrays of traced values are stacked."""
    if isinstance(value, _OPERANDS):
        # A subclass of int (an IntEnum, a tensor's size) counts as the number that it is.
        return int(value) if isinstance(value, int) and type(value) not in WEAK else value
    if isinstance(value, list | tuple | range) or (
        isinstance(value, np.ndarray) and value.dtype == object
    ):
        return _from_items(value)
    if type(value) is np.ndarray:
        return value
    if isinstance(value, complex):
        supported_dtype(complex)
    raise UnsupportedError(
        f"{type(value).__name__} is not an array: pass a NumPy array, a number, or nested lists "
        "of these"
    )


def _from_items(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return as_operand(value.item())
    items = [as_operand(item) for item in value]
    if any(isinstance(item, Bindable | SizeValue) for item in items):
        return PUBLIC["stack"](items)
    return np.asarray(value if not isinstance(value, np.ndarray) else value.tolist())


def type_of(value: Any) -> ArrayType:
    """The type of an operand: of a Python number the weak one."""
    if isinstance(value, Bindable):
        return value.type
    if isinstance(value, SizeValue):
        return ArrayType(WEAK[int], (), weak=True)
    if type(value) in WEAK:
        return ArrayType(WEAK[type(value)], (), weak=True)
    if isinstance(value, np.ndarray | np.generic):
        return ArrayType(value.dtype, value.shape)
    return type_of(as_operand(value))


def weak_or_dtype(type: ArrayType) -> Any:
    """What NumPy's promotion functions take for an operand of this type."""
    if not type.weak:
        return type.dtype
    return {"b": bool, "i": int, "f": float}[type.dtype.kind]


_SUPPORTED = frozenset(map(np.dtype, (np.float64, np.float32, np.int64, np.bool_)))


def supported_dtype(dtype: Any) -> np.dtype:
    """`dtype` if kernels can hold it: native float32/64, integers of any width, bool."""
    dtype = np.dtype(dtype)
    if dtype in _SUPPORTED or dtype.kind in "biu":
        return dtype
    advice = {
        "f": "use float32 or float64",
        "c": "complex numbers are not supported yet: pass real and imaginary part as two arrays",
        "O": "object arrays hold Python objects: convert with .astype(float)",
    }.get(dtype.kind, "convert it to a number type first")
    raise UnsupportedError(f"dtype {dtype} is not supported: {advice}")
