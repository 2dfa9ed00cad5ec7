"""SciPy's BLAS and LAPACK as symbols that compiled code can call.

In: a name such as `dgemm`. Out: the symbol `codegen_blas_dgemm`, known to LLVM in this process:
the function itself or, for matrix products, the one of `codegen.gemm` that makes blocks of large
ones.
`scipy.linalg.cython_blas` is loaded alone: importing its package would take 0.13 s more.
`scipy.linalg.cython_lapack` is loaded at the first routine of LAPACK.
"""

from __future__ import annotations

import ctypes
import functools
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType

from llvmlite import binding as llvm

from codegen import threads
from codegen.gemmcode import NAMES

SYMBOL = "codegen_blas_"


@functools.cache
def extension(name: str) -> ModuleType:
    """`cython_blas` or `cython_lapack`, not entered into `sys.modules`."""
    package = find_spec("scipy")  # to import it takes 10 ms
    if package is None or package.origin is None:
        raise ImportError("SciPy is not installed")
    folder = Path(package.origin).parent / "linalg"
    spec = PathFinder.find_spec(f"scipy.linalg.{name}", [str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"no {name} in {folder}")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def address(name: str) -> int:
    """Where a function lies, out of the capsule that Cython exports it in."""
    library = "cython_blas" if name in extension("cython_blas").__pyx_capi__ else "cython_lapack"
    capsule = extension(library).__pyx_capi__[name]
    of = ctypes.pythonapi.PyCapsule_GetName
    of.restype, of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    signature = of(capsule)
    if b"int *" not in signature or b"long" in signature:
        raise ImportError(f"SciPy's BLAS does not count in 32-bit integers: {signature.decode()}")
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return pointer(capsule, signature)


def register(name: str) -> str:
    """Make a function known to LLVM; its symbol."""
    symbol = SYMBOL + name
    if not llvm.address_of_symbol(symbol):
        blocked = threads.products({real: address(real) for real in NAMES}).functions
        llvm.add_symbol(symbol, blocked.get(name) or address(name))
    return symbol
