"""The shortcuts of library functions: the same arrays and numbers as NumPy's own functions give."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

from codegen import parts, shortcuts

I8, F8 = numba.int64, numba.float64


def compiled(function: Callable[..., Any], *signature: Any) -> Any:
    """Compiled as a part of another function, as those of `codegen` are."""
    part = parts.Part(function, targetoptions={}, pipeline_class=parts.PartCompiler)

    names = ", ".join("abc"[: len(signature)])
    calling = numba.njit(eval(f"lambda {names}: part({names})", {"part": part}))
    calling.compile(signature)
    return calling


def empty_of(n, m):
    out = np.empty((n, m))
    out[:] = 2.5
    return out


def zeros_of(n, m):
    return np.zeros((n, m), np.float32)


def flags_of(n, m):
    return np.zeros(n * m, np.bool_)


def nothing_of(n, m):
    return np.empty(0)


def int_range(n, m):
    return min(n, m) * 100 + max(n, m)


@pytest.mark.parametrize("function", [empty_of, zeros_of, flags_of, nothing_of, int_range])
@pytest.mark.parametrize("sizes", [(2, 3), (0, 4), (5, 0), (1, 1)])
def test_as_numpy(function: Callable[..., Any], sizes: tuple[int, int]) -> None:
    found, expected = compiled(function, I8, I8)(*sizes), function(*sizes)
    np.testing.assert_array_equal(found, expected)
    if isinstance(expected, np.ndarray):
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        assert found.flags.c_contiguous


def test_no_function_of_numbas_is_compiled() -> None:
    def everything(x):
        out = np.empty(x.shape[0] * x.shape[1], np.float32)
        flat = x.reshape(out.shape[0])
        for i in range(min(out.shape[0], 5)):
            out[i] = flat[i]
        return out

    made = compiled(everything, F8[:, ::1])
    names = [f.name for f in made.overloads[made.signatures[0]].library._final_module.functions]
    assert not [name for name in names if "ol_np_empty" in name or "reshape" in name], names
    gc.enable()  # which it insists on
    with np.testing.assert_no_gc_cycles():
        np.testing.assert_array_equal(made(np.ones((2, 2))), np.ones(4, np.float32))


def test_a_view_keeps_the_memory_alive() -> None:
    def view(n):
        out = np.empty((n, 2))
        flat = out.reshape(n * 2)
        for i in range(n * 2):
            flat[i] = i
        return out.reshape((2, n)), flat

    matrix, flat = compiled(view, I8)(3)
    assert np.shares_memory(matrix, flat)
    np.testing.assert_array_equal(matrix, np.arange(6.0).reshape(2, 3))
    del flat
    np.empty(6).fill(7.0)
    np.testing.assert_array_equal(matrix, np.arange(6.0).reshape(2, 3))


def test_a_reshaped_argument_is_the_argument() -> None:
    def flat(x):
        return x.reshape(x.shape[0] * x.shape[1])

    x = np.arange(6.0).reshape(2, 3)
    found = compiled(flat, F8[:, ::1])(x)
    found[0] = 9.0
    assert x[0, 0] == 9.0


def test_a_size_is_found_out() -> None:
    def halves(x):
        return x.reshape((2, -1)), x.reshape(-1)

    x = np.arange(12.0).reshape(3, 4)
    for got, wanted in zip(compiled(halves, F8[:, ::1])(x), halves(x), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_too_large_an_array_is_an_error() -> None:
    def huge(n):
        return np.empty((n, n))

    with pytest.raises(ValueError, match="array is too big"):
        compiled(huge, I8)(2**40)
    with pytest.raises(MemoryError):
        compiled(lambda n: np.empty(n), I8)(2**45)


def test_names_that_are_bound_elsewhere_are_left_alone() -> None:
    def own(n, x):
        return np.full(n, 1.5).sum() + x.sum()

    assert compiled(own, I8, F8[::1])(2, np.ones(3)) == 6.0
    assert {function for function, _ in shortcuts.FUNCTIONS} == {np.empty, np.zeros, min, max}
