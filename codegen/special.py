"""SciPy's special functions as symbols that compiled code can call.

In: a name of `scipy.special` such as `jv`. Out: the symbol `codegen_special_jv`, known to LLVM in
this process: the function `double (double, double, int)` that `scipy.special.cython_special` has
for Cython, its last argument 0. Loading that library takes 0.3 s, at the first such function.
"""

from __future__ import annotations

import ctypes
import re
from functools import cache
from importlib import import_module
from typing import Any

from llvmlite import binding as llvm

from codegen.costs import OF_WHOLE
from codegen.records import dataclass

SYMBOL = "codegen_special_"
LIBRARY = "scipy.special.cython_special"
WHOLE = ("long", "Py_ssize_t")
"""Arguments that are 64-bit integers."""
LAST = "int __pyx_skip_dispatch"


@dataclass(frozen=True)
class Exported:
    """Where a function lies, and the C types of its arguments but the last."""

    address: int
    arguments: tuple[str, ...]


@cache
def exported(name: str) -> Exported:
    """The function on real numbers; of several that with the most integers for arguments, since the
    others only warn of fractions, under the interpreter's lock. Polynomials have a function of real
    degrees too: it has the plain name. Raises ImportError if there is none."""
    plain = name.removesuffix(OF_WHOLE)
    capsules: dict[str, Any] = import_module(LIBRARY).__pyx_capi__
    named = [key for key in capsules if re.fullmatch(rf"(__pyx_fuse_[0-9_]+)?{plain}", key)]
    real = [found for key in sorted(named) if (found := _real(capsules[key]))]
    if not real:
        raise ImportError(f"{LIBRARY} has no function {plain} of real numbers")
    choose = min if plain == name and plain.startswith("eval_") else max
    return choose(real, key=lambda function: len([c for c in function.arguments if c in WHOLE]))


def _real(capsule: Any) -> Exported | None:
    """What a capsule holds, if it is a function of doubles and integers that gives a double."""
    of = ctypes.pythonapi.PyCapsule_GetName
    of.restype, of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    signature = of(capsule)
    result, _, given = signature.decode().partition(" (")
    *arguments, last = given.removesuffix(")").split(", ")
    if result != "double" or last != LAST or not {*arguments} <= {"double", *WHOLE}:
        return None
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return Exported(pointer(capsule, signature), tuple(arguments))


def register(name: str) -> str:
    """Make a function known to LLVM; its symbol."""
    symbol = SYMBOL + name
    if not llvm.address_of_symbol(symbol):
        llvm.add_symbol(symbol, exported(name).address)
    return symbol
