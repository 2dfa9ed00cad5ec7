"""Functions that fill their outputs: what is not a loop nest.

In: the name in a `LibraryCall`. Out: an njit function to import, or its text for a stand-alone
module. `LibraryCall("dot", ("a", "b"), ("out",))` prints as `dot(a, b, out)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from codegen.library import products
from codegen.scalar import Imported

FUNCTIONS = {"dot": products.dot}


def imported(name: str) -> Imported:
    """Where the library function `name` is imported from. Raises LookupError."""
    function = FUNCTIONS[name].py_func
    return Imported(function.__module__, function.__name__)


def standalone_source(names: Iterable[str]) -> str:
    """The text of these functions over numpy and numba only."""
    return "\n\n".join(inspect.getsource(FUNCTIONS[name].py_func) for name in names)


def fingerprint() -> str:
    """All the text that compiled code may contain of this package."""
    return inspect.getsource(products)
