"""From one version of a compiled function to another: from the one for small arrays to the one
whose loops run on several threads, or from this one to the one for small arrays.

`threads_version()` or `single_version()` is the address of the other version of the function that
it stands in, 0 if there is none; the first time it is compiled, which needs Python, so it is 0 on a
thread that Python does not know. `call_version(address, types, arguments)` calls it; `types` names
its result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from codegen import threads

WORD = ir.IntType(64)
FIND = ir.FunctionType(WORD, [WORD])


def no_version() -> int:
    return 0


def not_called(address: int, result: str, arguments: Any) -> Any:
    raise AssertionError("there is no other version where nothing is compiled")


def result_type(text: str) -> types.Type:
    """What `float64, float64[2]` means: a number and a C-contiguous matrix."""
    found = []
    for part in text.split(", ") if text else []:
        name, _, rank = part.rstrip("]").partition("[")
        scalar = from_dtype(np.dtype(name))
        found.append(types.Array(scalar, int(rank), "C") if rank else scalar)
    if len(found) == 1:
        return found[0]
    return types.Tuple(found) if found else types.none


def typed_other_version(typing_context: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        module = builder.module
        marker = getattr(context.active_code_library, "marker", "")
        if not marker:
            return ir.Constant(WORD, 0)
        plain = ir.FunctionType(ir.VoidType(), [])
        cell = cgutils.get_or_insert_function(module, plain, threads.register_version(marker))
        place = builder.ptrtoint(cell, WORD)
        found = builder.load(builder.bitcast(cell, WORD.as_pointer()))
        result = cgutils.alloca_once_value(builder, found)
        known = ir.FunctionType(ir.IntType(8).as_pointer(), [])
        here = cgutils.get_or_insert_function(module, known, threads.register("python"))
        find = cgutils.get_or_insert_function(module, FIND, threads.register("find"))
        with (
            builder.if_then(cgutils.is_null(builder, found), likely=False),
            builder.if_then(cgutils.is_not_null(builder, builder.call(here, []))),
        ):
            builder.store(builder.call(find, [place]), result)
        found = builder.load(result)
        none = builder.icmp_signed("==", found, ir.Constant(WORD, threads.NONE))
        return builder.select(none, ir.Constant(WORD, 0), found)

    return types.intp(), generate


def typed_call_version(typing_context: Any, address: Any, result: Any, arguments: Any) -> Any:
    if not isinstance(result, types.StringLiteral):
        raise TypingError("call_version needs the name of a type")
    found = result_type(result.literal_value)
    signature = found(types.intp, result, arguments)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        given = signature.args[2].types
        convention = context.call_conv
        kind = convention.get_function_type(found, given)
        function = builder.inttoptr(values[0], kind.as_pointer())
        parts = cgutils.unpack_tuple(builder, values[2])
        status, value = convention.call_function(builder, function, found, given, parts)
        with builder.if_then(status.is_error, likely=False):
            convention.return_status_propagate(builder, status)
        return value

    return signature, generate


PLAIN = vars(config)["DISABLE_JIT"]
threads_version: Any = no_version if PLAIN else intrinsic(typed_other_version)
single_version: Any = threads_version
call_version: Any = not_called if PLAIN else intrinsic(typed_call_version)
