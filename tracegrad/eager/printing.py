"""How a tensor prints: PyTorch's format, four digits, one width for all elements.

    tensor([[3., 3.], [3., 3.]], grad_fn=<AddBackward>)

Other dtypes than float64, int64 and bool are named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_DIGITS, _EDGE, _THRESHOLD, _WIDTH = 4, 3, 1000, 80
_PLAIN = (np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.bool_))


def tensor_text(array: np.ndarray, notes: list[str]) -> str:
    """`tensor(...)` with notes such as `requires_grad=True`."""
    notes = list(notes)
    if array.dtype not in _PLAIN:
        notes.insert(0, f"dtype={array.dtype.name}")
    if array.size == 0:
        if array.shape != (0,):
            notes.insert(0, f"size={array.shape}")
        return f"tensor({', '.join(['[]', *notes])})"
    body = array_text(array, "tensor(")
    text = f"tensor({', '.join([body, *notes])})"
    if notes and len(text) - text.rfind("\n") - 1 > _WIDTH:
        text = f"tensor({body},\n       {', '.join(notes)})"
    return text


def array_text(array: np.ndarray, prefix: str) -> str:
    write = formatter(_shown(array))
    if array.ndim == 0:
        return write(array[()]).strip()
    return np.array2string(
        array,
        separator=", ",
        prefix=prefix,
        threshold=_THRESHOLD,
        edgeitems=_EDGE,
        max_line_width=_WIDTH,
        formatter={"all": write},
    )


def _shown(array: np.ndarray) -> np.ndarray:
    """The elements that are printed: the edges of a large array."""
    if array.size <= _THRESHOLD:
        return array.ravel()
    for axis, extent in enumerate(array.shape):
        if extent > 2 * _EDGE:
            edges = [*range(_EDGE), *range(extent - _EDGE, extent)]
            array = np.take(array, edges, axis=axis)
    return array.ravel()


def formatter(values: np.ndarray) -> Callable[[Any], str]:
    """One format for all of `values`: whole numbers as `3.`, wide ranges as `1.0000e+05`."""
    if values.dtype.kind != "f":
        width = max(len(str(value)) for value in values)
        return lambda value: str(value).rjust(width)
    finite = values[np.isfinite(values) & (values != 0)]
    pattern = _pattern(np.abs(finite).astype(float))
    width = max((len(pattern(value)) for value in finite), default=0)
    return lambda value: pattern(value).rjust(width)


def _pattern(size: np.ndarray) -> Callable[[Any], str]:
    """From the magnitudes of the finite non-zero elements."""
    if not size.size:
        return lambda value: f"{value:.0f}." if np.isfinite(value) else str(value)
    least, most = float(size.min()), float(size.max())
    whole = bool((size == np.ceil(size)).all())
    spread = most / least > 1000 or most > 1e8
    if whole and not spread and most <= 1e8:
        return lambda value: f"{value:.0f}." if np.isfinite(value) else str(value)
    if spread or (not whole and least < 1e-4):
        return lambda value: f"{value:.{_DIGITS}e}"
    return lambda value: f"{value:.{_DIGITS}f}"
