"""What foreign functions return, held against what was promised for them.

In: a function that numba refused. Raises `BrokenPromise` if a foreign function that it calls is
the cause: numba cannot compile it for its arguments, or it returns something else:

    step returns float32[:], but an array of float64 with 1 axis was promised
"""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
from numba.core import types
from numba.core.errors import NumbaError
from numba.np.numpy_support import as_dtype

from codegen.errors import BrokenPromise
from codegen.loops import ForeignCall, Function, Result
from codegen.traverse import statements


def verify(function: Function) -> None:
    """Raises BrokenPromise unless all foreign functions compile and return what was promised."""
    for statement in statements(function.body):
        if isinstance(statement, ForeignCall):
            try:
                check(statement)
            except BrokenPromise as broken:
                broken.comment = statement.comment
                raise


def check(call: ForeignCall) -> None:
    name, given = call.function.name, tuple(argument_types(call))
    listed = ", ".join(map(str, given))
    try:
        found = call.function.function.get_call_template(given, {})[0]
        returned = found.cases[0].return_type
    except NumbaError as error:
        raise BrokenPromise(f"numba cannot compile {name} for ({listed}): {said(error)}") from error
    if not call.results:
        if returned != types.none:
            raise BrokenPromise(f"{name} returns {returned}, but it was to fill its last arguments")
        return
    parts = [returned] if len(call.results) == 1 else list(getattr(returned, "types", []))
    if len(parts) != len(call.results):
        raise BrokenPromise(
            f"{name} returns {returned}, but {len(call.results)} results were promised"
        )
    for number, (part, result) in enumerate(zip(parts, call.results, strict=True)):
        if not keeps(part, result):
            which = f"result {number} of {name} is" if len(parts) > 1 else f"{name} returns"
            raise BrokenPromise(f"{which} {part}, but {promised(result)} was promised")


def argument_types(call: ForeignCall) -> Iterator[types.Type]:
    """The numba types of what it is called with."""
    inputs = len(call.args)
    for number, (dtype, rank) in enumerate(call.types):
        scalar = numba.from_dtype(dtype)
        readonly = call.function.readonly and number < inputs
        yield types.Array(scalar, rank, "C", readonly=readonly) if rank else scalar


def keeps(type: types.Type, result: Result) -> bool:
    """Whether a value of that type is what was promised."""
    if result.fits is not None:
        if not isinstance(type, types.Array) or type.ndim != len(result.shape):
            return False
        return type.dtype == numba.from_dtype(result.dtype)
    return number_fits(types.unliteral(type), result.dtype)


def number_fits(type: types.Type, dtype: np.dtype) -> bool:
    """Whether a number becomes one of `dtype` without loss."""
    if not isinstance(type, types.Number | types.Boolean):
        return False
    return np.can_cast(as_dtype(type), dtype, "safe") or (
        isinstance(type, types.Integer) and dtype.kind == "f"
    )


def promised(result: Result) -> str:
    if result.fits is None:
        return f"a number of {result.dtype}"
    axes = len(result.shape)
    return f"an array of {result.dtype} with {axes} {'axis' if axes == 1 else 'axes'}"


def said(error: Exception) -> str:
    """The lines of numba's message that say something of the user's function."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [x for x in lines if not x.startswith(("Failed in", "During:", "- ", "There are"))]
    return " ".join(telling[:4])
