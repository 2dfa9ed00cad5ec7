"""Constant arrays of a generated module: short ones as numbers, long ones as base64.

In: a name and an array. Out: the lines that define it, `table = np.array([0.5, 0.25], np.float64)`.
"""

from __future__ import annotations

import base64
import textwrap

import numpy as np

from codegen.layout import WIDTH

INLINE_CONSTANT = 64
"""Arrays of up to so many elements are written as lists of numbers."""


def dtype_name(dtype: np.dtype) -> str:
    return "np.bool_" if dtype.kind == "b" else f"np.{dtype.name}"


def constant(name: str, value: np.ndarray) -> list[str]:
    if not value.size:
        return [f"{name} = np.empty({value.shape}, {dtype_name(value.dtype)})"]
    if value.size <= INLINE_CONSTANT:
        # repr gives the shortest digits that read back exactly.
        text = repr(value.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")
        rows = textwrap.wrap(f"{name} = np.array({text}, {dtype_name(value.dtype)})", WIDTH)
        return [rows[0], *(f"    {row}" for row in rows[1:])]
    packed = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
    rows = [f'    "{packed[at : at + 88]}"' for at in range(0, len(packed), 88)]
    dtype, shape = dtype_name(value.dtype), value.shape
    return [f"{name} = np.frombuffer(b64decode(", *rows, f"), {dtype}).reshape({shape})"]
