"""Where an array keeps what compiled code asks of it: parts of NumPy's C structure, which is fixed.

type | data | rank | extents | strides | base | dtype | flags
"""

from __future__ import annotations

import ctypes

import numpy as np
from llvmlite import binding as llvm

SYMBOL = "codegen_array_"

POINTER = ctypes.sizeof(ctypes.c_void_p)
TYPE = object.__basicsize__ - POINTER
RANK = object.__basicsize__ + POINTER
FLAGS = object.__basicsize__ + 6 * POINTER
FLAGS_WANTED = 0x0001 | 0x0100 | 0x0400
"""Contiguous in C's order, aligned, writable."""


def register(name: str) -> str:
    """Make the class of arrays known to LLVM; its symbol."""
    symbol = SYMBOL + name
    if not llvm.address_of_symbol(symbol):
        check(np.zeros((2, 3)))
        llvm.add_symbol(symbol, id(np.ndarray))
    return symbol


def check(array: np.ndarray) -> None:
    """Raises ImportError if arrays look otherwise in this build of Python and NumPy."""

    def at(offset: int, kind: type) -> int:
        return kind.from_address(id(array) + offset).value  # type: ignore[attr-defined]

    found = at(TYPE, ctypes.c_size_t), at(RANK, ctypes.c_int), at(FLAGS, ctypes.c_int)
    if found != (id(np.ndarray), array.ndim, array.flags.num):
        raise ImportError(f"arrays of NumPy {np.__version__} have an unknown structure")
