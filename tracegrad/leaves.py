"""The leaves of arguments: what counts as a value, and the form in which kernels take it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.errors import UnsupportedError
from tracegrad.ops.op import Bindable, SizeValue, supported_dtype
from tracegrad.tracing.trace import Argument
from tracegrad.tree import Tree, aligned, flatten


def is_leaf(value: Any) -> bool:
    """Arrays and floating numbers are values; everything else is structure."""
    return isinstance(value, np.ndarray | np.generic | float | complex | Bindable | SizeValue)


def leaves_of(value: Any) -> tuple[list[Any], Tree]:
    """The leaves of a pytree in order, and its structure."""
    found: list[tuple[str, Any]] = []
    tree = flatten("", value, is_leaf, found)
    return [leaf for _, leaf in found], tree


def matching(tree: Tree, value: Any, name: str) -> list[Any]:
    """The leaves of `value` for those of `tree`, None where it has none (`tree.aligned`)."""
    return aligned(tree, value, is_leaf, name)


def normalised(name: str, value: Any) -> Any:
    """An argument as kernels take it: a scalar, or a C-contiguous, aligned, native, writable
    ndarray.

    Raises UnsupportedError, naming the argument, for anything else than real numbers.
    """
    if type(value) is float:
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise UnsupportedError(
            f"argument {name} is a masked array, and its mask would be ignored: pass "
            f"{name}.filled(value)"
        )
    if isinstance(value, np.matrix):
        raise UnsupportedError(
            f"argument {name} is a numpy.matrix, whose * is not elementwise: pass "
            f"np.asarray({name})"
        )
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
    return "float" if type(value) is float else (value.dtype, value.ndim)
