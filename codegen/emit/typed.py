"""Calls of compiled functions, typed and linked in by numba.

In: a numba function (a dispatcher, an intrinsic, one with overloads) and LLVM values with their
types. Out: the value that it returns. `exp_f64(x)` becomes a call of the compiled part of that
name, which is inlined later.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from codegen import parts
from codegen.scalar import Imported

Typed = tuple[Any, Any]
"""A numba type and an LLVM value of it."""


def imported(function: Imported) -> Any:
    """The function that a module would import; of one of `codegen` its compiled part."""
    found = getattr(import_module(function.module), function.name)
    return parts.part(found) if parts.own(found) else found


def call(context: Any, builder: Any, function: Any, arguments: Sequence[Typed]) -> Typed:
    """The result, by numba's rules for the types of the arguments."""
    typing = context.typing_context
    kind = typing.resolve_value_type(function)
    signature = kind.get_call_type(typing, tuple(t for t, _ in arguments), {})
    implementation = context.get_function(kind, signature)
    given = signature.args[: len(arguments)]
    values = [
        context.cast(builder, value, kind, wanted)
        for (kind, value), wanted in zip(arguments, given, strict=True)
    ]
    return signature.return_type, implementation(builder, values)
