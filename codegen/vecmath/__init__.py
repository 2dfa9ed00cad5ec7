"""Scalar functions that LLVM vectorises inside generated loops.

`lookup(name, dtype)` finds one by NumPy's name, and every function can be imported from here by
its own name: `from codegen.vecmath import exp_f64`. That loads numba and the file that defines it.
"""

from typing import Any

from codegen.vecmath.catalog import LONG, function, is_long, lookup, named, standalone_source

__all__ = ["LONG", "is_long", "lookup", "named", "standalone_source"]


def __getattr__(name: str) -> Any:
    try:
        return function(name)
    except LookupError:
        raise AttributeError(f"module 'codegen.vecmath' has no function {name!r}") from None
