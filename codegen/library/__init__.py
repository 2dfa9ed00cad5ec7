"""Functions that are not a loop nest: products that fill their output, parts of accurate sums.

In: the name in a `LibraryCall` or `Call`. Out: an njit function to import, or its text for a
stand-alone module. `LibraryCall("dot", ("a", "b"), ("out",))` prints as `dot(a, b, out)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from codegen.library.products import dot
from codegen.library.sums import rounding_error_f32, rounding_error_f64

FUNCTIONS = {
    "dot": dot,
    "rounding_error_f32": rounding_error_f32,
    "rounding_error_f64": rounding_error_f64,
}


def python_function(name: str):
    """The function as plain Python, whether or not numba is switched off. Raises LookupError."""
    function = FUNCTIONS[name]
    return getattr(function, "py_func", function)


def standalone_source(names: Iterable[str]) -> str:
    """The text of these functions over numpy and numba only."""
    return "\n\n".join(inspect.getsource(python_function(name)) for name in sorted(set(names)))


def fingerprint() -> str:
    """All the text of this package that compiled code may contain."""
    return standalone_source(FUNCTIONS)
