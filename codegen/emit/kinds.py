"""numba's types of what stands in a loop program: dtypes, arrays, results.

In: a `loops.Function` and the types of its arguments. Out: the type of each array, and of what the
function returns: `float64, array(float64, 2d, C)` for `return y, d_x`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import types

from codegen.errors import CodegenError
from codegen.loops import Alloc, ForeignCall, Function, Return, View
from codegen.traverse import statements


@cache
def scalar_type(dtype: np.dtype) -> Any:
    return numba.from_dtype(dtype)


def array_type(dtype: np.dtype, rank: int) -> types.Array:
    return types.Array(scalar_type(dtype), rank, "C")


def tuple_type(parts: Sequence[Any]) -> Any:
    return types.Tuple(tuple(parts))


def view_type(base: types.Array, view: View) -> types.Array:
    """The type of a view, with the layout that numba gives it."""
    if view.shape is not None:
        return base.copy(ndim=len(view.shape))
    if view.axes is not None:
        turned: Any = {"C": "F", "F": "C"}.get(base.layout, "A") if view.axes == (1, 0) else "A"
        return base.copy(layout=turned)
    if view.at:
        layout = "C" if base.layout == "C" else "A"
        return base.copy(ndim=base.ndim - len(view.at), layout=layout)
    return base


def array_types(function: Function, given: Sequence[Any]) -> dict[str, types.Array]:
    """The type of each array of the function."""
    found = {p.name: t for p, t in zip(function.parameters, given, strict=True) if p.rank}
    for statement in statements(function.body):
        match statement:
            case Alloc(array, shape, dtype):
                found[array] = array_type(dtype, len(shape))
            case View(array, base) if base in found:
                found[array] = view_type(found[base], statement)
            case ForeignCall(results=results):
                for result in results:
                    if result.fits is not None:
                        found[result.name] = array_type(result.dtype, len(result.shape))
    return found


def return_type(function: Function, given: Sequence[Any]) -> Any:
    """The type of the results; `none` without any. Raises CodegenError if places disagree."""
    arrays = array_types(function, given)
    found = {
        tuple(arrays[v] if isinstance(v, str) else scalar_type(v.dtype) for v in statement.values)
        for statement in statements(function.body)
        if isinstance(statement, Return)
    }
    if len(found) > 1:
        raise CodegenError(f"{function.name} returns different types: {found}")
    parts = found.pop() if found else ()
    if not parts:
        return types.none
    return parts[0] if len(parts) == 1 else tuple_type(parts)
