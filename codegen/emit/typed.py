"""Calls of numba functions.

In: a numba function (a dispatcher, an intrinsic, one with overloads) and LLVM values with their
types. Out: the value that it returns. `exp_f64(x)` becomes the code of that function; `digamma_f64`
has a loop and becomes a call of the compiled part of that name, which numba types and links in.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from codegen import parts
from codegen.calling import Typed, resolved
from codegen.scalar import Imported
from codegen.straight import own


def imported(function: Imported) -> Any:
    """The function that a module would import; of one of `codegen` its compiled part."""
    found = getattr(import_module(function.module), function.name)
    return parts.part(found) if own(found) else found


def call(context: Any, builder: Any, function: Any, arguments: Sequence[Typed]) -> Typed:
    """The result of a function, written in place where its text is straight, else linked in."""
    found = None
    if isinstance(function, parts.Part):
        found = function.in_place(context, builder, arguments)
    return found or resolved(context, builder, function, arguments)
