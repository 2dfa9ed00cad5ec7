"""Scalar functions that LLVM vectorises inside generated loops.

`lookup(name, dtype)` finds one by NumPy's name, and every function can be imported from here by
its own name: `from codegen.vecmath import exp_f64`. Importing this package imports numba.
"""

from typing import Any

from codegen.vecmath.catalog import FUNCTIONS, LONG, fingerprint, is_long, lookup, standalone_source

__all__ = ["LONG", "fingerprint", "is_long", "lookup", "standalone_source"]


def __getattr__(name: str) -> Any:
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    raise AttributeError(f"module 'codegen.vecmath' has no function {name!r}")
