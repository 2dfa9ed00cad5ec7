"""The draws of `draws` as plain Python, for where numba is switched off (NUMBA_DISABLE_JIT=1).

In: parameters, the address of a generator's `bitgen_t`, the array to fill. The same functions of
NumPy's C API are called, through ctypes.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from codegen.library.distributions import DISTRIBUTIONS, FILLS, Distribution

SCRATCH = 64
"""Words for NumPy's `binomial_t`, which has fewer than 20; all zero means nothing is known yet."""


@functools.cache
def extension() -> ctypes.CDLL:
    """The library with NumPy's distributions."""
    return ctypes.CDLL(np.random._generator.__file__)  # pyright: ignore[reportAttributeAccessIssue]


def call(name: str, result: Any, rng: int, *args: Any) -> Any:
    function = getattr(extension(), name)
    function.restype = result
    return function(ctypes.c_void_p(rng), *args)


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)


def bounded(rng: int, largest: int) -> int:
    zero, none = ctypes.c_uint64(0), ctypes.c_bool(False)
    most = ctypes.c_uint64(largest)
    return call("random_bounded_uint64", ctypes.c_uint64, rng, zero, most, zero, none)


def interval(rng: int, largest: int) -> int:
    return call("random_interval", ctypes.c_uint64, rng, ctypes.c_uint64(largest))


def fill(function: str) -> Callable[..., None]:
    def filled(rng: int, out: np.ndarray) -> None:
        name = function + ("_f" if out.dtype == np.float32 else "")
        call(name, None, rng, ctypes.c_ssize_t(out.size), pointer(out))

    return filled


def elements(found: Distribution) -> Callable[..., None]:
    def filled(*given: Any) -> None:
        *params, rng, out = given
        kind = ctypes.c_int64 if found.whole else ctypes.c_double
        given_as = ctypes.c_int64 if found.counting else ctypes.c_double
        rows = [np.broadcast_to(p, out.shape).reshape(-1) for p in params]
        flat = out.reshape(-1)
        for k in range(out.size):
            args = (given_as(row[k]) for row in rows)
            flat[k] = call(found.function, kind, rng, *args)

    return filled


def binomial(n: Any, p: Any, rng: int, out: np.ndarray) -> None:
    room, flat = np.zeros(SCRATCH, np.int64), out.reshape(-1)
    counts, chances = (np.broadcast_to(x, out.shape).reshape(-1) for x in (n, p))
    for k in range(out.size):
        args = (ctypes.c_double(chances[k]), ctypes.c_int64(counts[k]), pointer(room))
        flat[k] = call("random_binomial", ctypes.c_int64, rng, *args)


def multinomial(n: Any, p: np.ndarray, rng: int, out: np.ndarray) -> None:
    room, width = np.zeros(SCRATCH, np.int64), ctypes.c_ssize_t(out.shape[-1])
    out[...] = 0
    chances = np.broadcast_to(p, out.shape)
    for at in np.ndindex(out.shape[:-1]):
        count, row = ctypes.c_int64(n[at] if np.ndim(n) else n), chances[at].copy()
        args = (count, pointer(out[at]), pointer(row), width, pointer(room))
        call("random_multinomial", None, rng, *args)


def without_replacement(function: str) -> Callable[..., None]:
    def filled(total: int, colors: np.ndarray, sample: int, rng: int, out: np.ndarray) -> None:
        words = (ctypes.c_int64(total), ctypes.c_size_t(colors.size), pointer(colors))
        rows = ctypes.c_size_t(out.size // max(colors.size, 1))
        call(function, None, rng, *words, ctypes.c_int64(sample), rows, pointer(out))

    return filled


def integers(low: int, span: int, rng: int, out: np.ndarray) -> None:
    bits = 8 * out.dtype.itemsize
    name = "bool" if out.dtype == np.bool_ else f"uint{bits}"
    kind = getattr(ctypes, f"c_uint{bits}")
    args = (kind(low), kind(span), ctypes.c_ssize_t(out.size), ctypes.c_bool(False), pointer(out))
    call(f"random_bounded_{name}_fill", None, rng, *args)


def draw(name: str) -> Callable[..., None]:
    """The function of that name."""
    if name in FILLS:
        return fill(FILLS[name])
    if name in DISTRIBUTIONS:
        return elements(DISTRIBUTIONS[name])
    return {"binomial": binomial, "integers": integers, "multinomial": multinomial}[name]
