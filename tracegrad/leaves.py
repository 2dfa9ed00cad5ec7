"""The leaves of arguments: what counts as a value, and the form in which kernels take it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from tracegrad.errors import UnsupportedError
from tracegrad.ops.op import Bindable, SizeValue, supported_dtype
from tracegrad.tracing.trace import Argument
from tracegrad.tree import Tree, aligned, flatten


def is_leaf(value: Any) -> bool:
    """Arrays and floating numbers are values; everything else is structure."""
    return isinstance(value, np.ndarray | np.generic | float | complex | Bindable | SizeValue) or (
        type(value).__name__ in _GENERATORS and is_generator(value)
    )


_GENERATORS = ("Generator", "RandomState")


def is_generator(value: Any) -> bool:
    """Whether it draws random numbers (`numpy.random` is not loaded for the question)."""
    return type(value).__module__.startswith("numpy.random")


class Address(int):
    """Where the state of a generator lies, as compiled code takes it."""

    generator: Any
    before: Any = None
    """The state before the call, where the draws may have to be made again."""

    def remember(self) -> None:
        self.before = self.generator.bit_generator.state

    def again(self) -> Any:
        """A generator in the state before the call."""
        bits = type(self.generator.bit_generator)(0)
        bits.state = self.before
        return np.random.Generator(bits)

    @staticmethod
    def of(name: str, value: Any) -> Address:
        if type(value).__name__ == "RandomState":
            raise UnsupportedError(
                f"argument {name} is a RandomState, whose methods are frozen in NumPy: pass "
                "np.random.default_rng(seed)"
            )
        found = Address(value.bit_generator.ctypes.bit_generator.value)
        found.generator = value
        return found


def drawing(function: Callable[..., Any], values: Sequence[Any]) -> Any:
    """`function(*values)` where some of the values are generators: their locks are held meanwhile,
    as NumPy holds them when it draws.
    """
    generators = {value: value.generator for value in values if type(value) is Address}
    if not generators:
        return function(*values)
    if len(generators) < sum(type(value) is Address for value in values):
        raise ValueError(
            "the same random number generator is passed twice: the order of its draws would be lost"
        )
    with ExitStack() as stack:
        for address in sorted(generators):
            stack.enter_context(generators[address].bit_generator.lock)
        return function(*(int(v) if type(v) is Address else v for v in values))


def leaves_of(value: Any) -> tuple[list[Any], Tree]:
    """The leaves of a pytree in order, and its structure."""
    found: list[tuple[str, Any]] = []
    tree = flatten("", value, is_leaf, found)
    return [leaf for _, leaf in found], tree


def matching(tree: Tree, value: Any, name: str) -> list[Any]:
    """The leaves of `value` for those of `tree`, None where it has none (`tree.aligned`)."""
    return aligned(tree, value, is_leaf, name)


def is_masked(value: Any) -> bool:
    """Whether it is a masked array; `numpy.ma` takes 10 to 15 ms to load, and plain arrays are no
    reason to."""
    plain = type(value) is np.ndarray or not isinstance(value, np.ndarray)
    return not plain and isinstance(value, np.ma.MaskedArray)


def normalised(name: str, value: Any) -> Any:
    """An argument as kernels take it: a scalar, or a C-contiguous, aligned, native, writable
    ndarray.

    Raises UnsupportedError, naming the argument, for anything else than real numbers.
    """
    if type(value) is float:
        return value
    if is_masked(value):
        raise UnsupportedError(
            f"argument {name} is a masked array, and its mask would be ignored: pass "
            f"{name}.filled(value)"
        )
    if isinstance(value, np.matrix):
        raise UnsupportedError(
            f"argument {name} is a numpy.matrix, whose * is not elementwise: pass "
            f"np.asarray({name})"
        )
    if is_generator(value):
        return Address.of(name, value)
    if isinstance(value, complex) and not isinstance(value, np.generic):
        value = np.complex128(value)
    if not isinstance(value, np.ndarray | np.generic):
        raise UnsupportedError(f"argument {name} is a {type(value).__name__}: pass a NumPy array")
    if not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    try:
        supported_dtype(value.dtype)
    except UnsupportedError as error:
        raise UnsupportedError(f"argument {name}: {error}") from None
    if value.ndim == 0:
        return value[()] if isinstance(value, np.ndarray) else value
    array = np.ascontiguousarray(value.view(np.ndarray))
    if not array.flags.aligned:
        return array.copy()
    return array if array.flags.writeable else writable(array)


class _Writable:
    """A read-only array's memory, declared writable: kernels never write into their arguments."""

    def __init__(self, array: np.ndarray) -> None:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
        self.array = array


def writable(array: np.ndarray) -> np.ndarray:
    """The same memory under a type that compiled code takes (no copy)."""
    return np.asarray(_Writable(array))


def argument(name: str, value: Any) -> Argument:
    """What a trace needs to know of an argument."""
    weak = type(value) is float
    dtype = np.dtype(np.float64) if weak else value.dtype
    return Argument(name, dtype, np.shape(value), weak)


def kind(value: Any) -> Any:
    """What of a leaf a version depends on."""
    if type(value) is Address:
        return "generator"
    return "float" if type(value) is float else (value.dtype, value.ndim)
