"""NumPy's sorting functions as symbols that compiled code can call.

In: a name such as `argsort_float64`. Out: the symbol `codegen_order_argsort_float64`, known to LLVM
in this process: the function `int (*)(void *, intp *, intp, void *)` that NumPy keeps for arrays of
that type, which sorts 1,000 float64 in 5 us where the processor has AVX-512. They are found by
NumPy's table for extensions and in the structure of functions that belongs to a type; what stands
where in both is part of the binary interface, whose version is asked for first.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import binding as llvm
from numpy._core import _multiarray_umath  # pyright: ignore

SYMBOL = "codegen_order_"
INTERFACE = 0x02000000
"""The version of the binary interface: that of NumPy 2."""
VERSION, FUNCTIONS = 0, 365
"""Places in NumPy's table: `PyArray_GetNDArrayCVersion`, `PyDataType_GetArrFuncs`."""
PLACES = {"sort": 33, "argsort": 36, "stable": 38}
"""Places in the structure of functions, in pointers: of those for the kind "quicksort", and of
`argsort` for the kind "stable"."""


def register(name: str) -> str:
    """Make a function known to LLVM; its symbol."""
    symbol = SYMBOL + name
    if not llvm.address_of_symbol(symbol):
        what, _, dtype = name.partition("_")
        llvm.add_symbol(symbol, address(what, np.dtype(dtype)))
    return symbol


def address(what: str, dtype: np.dtype) -> int:
    """Where the function lies that sorts, or that orders the places, of numbers of a dtype."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = pointers(get(_multiarray_umath._ARRAY_API, None))
    if (version := ctypes.CFUNCTYPE(ctypes.c_uint)(table[VERSION])()) != INTERFACE:
        raise ImportError(f"NumPy {np.__version__} has the unknown binary interface {version:x}")
    functions = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(table[FUNCTIONS])
    return pointers(functions(dtype))[PLACES[what]]


def pointers(address: int) -> Any:
    return ctypes.cast(address, ctypes.POINTER(ctypes.c_void_p))
