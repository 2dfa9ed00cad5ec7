"""Calls of numba functions, where LLVM code is written by hand.

In: a function that numba knows (an operator, an intrinsic, a dispatcher) and LLVM values with their
types. Out: the value that it returns, in the current block.

    resolved(context, builder, operator.add, [(int64, a), (int32, b)])      # (int64, a + b)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba import types
from numba.core.errors import RequireLiteralValue

Typed = tuple[Any, Any]
"""A numba type and an LLVM value of it."""


def intrinsic(context: Any, builder: Any, function: Any, arguments: Sequence[Typed]) -> Typed:
    """The code of an intrinsic, which is asked by itself for its signature."""
    define, kinds = function._defn, [kind for kind, _ in arguments]
    try:
        found = define(context.typing_context, *map(types.unliteral, kinds))
    except RequireLiteralValue:
        found = None
    signature, generate = found or define(context.typing_context, *kinds)
    values = [
        context.cast(builder, value, types.unliteral(kind), types.unliteral(wanted))
        for (kind, value), wanted in zip(arguments, signature.args, strict=True)
    ]
    return signature.return_type, generate(context, builder, signature, values)


def resolved(context: Any, builder: Any, function: Any, arguments: Sequence[Typed]) -> Typed:
    """The result of any function or operator, by numba's rules for the types of the arguments."""
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


def linked(context: Any, builder: Any, part: Any, arguments: Sequence[Typed]) -> Typed:
    """The result of another function that is linked in and cannot fail."""
    kinds = tuple(types.unliteral(kind) for kind, _ in arguments)
    part.compile(kinds)
    compiled = part.overloads[kinds]
    context.active_code_library.add_linking_library(compiled.library)
    signature = compiled.signature
    values = [
        context.cast(builder, value, kind, wanted)
        for kind, (_, value), wanted in zip(kinds, arguments, signature.args, strict=True)
    ]
    call = context.call_internal_no_propagate
    return signature.return_type, call(builder, compiled.fndesc, signature, values)[1]
