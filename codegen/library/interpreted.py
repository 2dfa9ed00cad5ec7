"""The draws of `draws` as plain Python, for where numba is switched off (NUMBA_DISABLE_JIT=1).

In: parameters, the address of a generator's `bitgen_t`, the array to fill. The same functions of
NumPy's C API are called, through ctypes. Keeping a generator's state, and making another generator
in that state, is done here in any case: compiled code calls `save_state` and `open_state` as C
functions.

    save_state(rng, words); open_state(words, again)    ->    `again`, an array, draws the numbers
                                                              that `rng` draws from there on
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from codegen.distributions import DISTRIBUTIONS, FILLS, STATE_WORDS, Distribution
from codegen.records import dataclass

HEAD = 5
"""Words of a `bitgen_t`: where its state is, and the functions that step it."""
SCRATCH = 64
"""Words for NumPy's `binomial_t`, which has fewer than 20; all zero means nothing is known yet."""


@functools.cache
def extension() -> ctypes.CDLL:
    """The library with NumPy's distributions."""
    return ctypes.CDLL(np.random._generator.__file__)  # pyright: ignore[reportAttributeAccessIssue]


def call(name: str, result: Any, rng: Any, *args: Any) -> Any:
    function = getattr(extension(), name)
    function.restype = result
    return function(ctypes.c_void_p(place(rng)), *args)


def place(rng: Any) -> int:
    """The address of a generator, which may be the words of one that `open_state` made."""
    return rng.ctypes.data if isinstance(rng, np.ndarray) else rng


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


def draw(name: str) -> Callable[..., Any]:
    """The function of that name."""
    if name in FILLS:
        return fill(FILLS[name])
    if name in DISTRIBUTIONS:
        return elements(DISTRIBUTIONS[name])
    written = (binomial, integers, multinomial, open_state, save_state)
    return {function.__name__: function for function in written}[name]


@dataclass(frozen=True)
class Layout:
    """The state of a kind of bit generator: its size in bytes, and which of its words are addresses
    of others of them."""

    size: int
    pointers: tuple[int, ...]


@functools.cache
def layouts() -> dict[int, Layout]:
    """The states of NumPy's bit generators, by their function `next_uint64`.

    A state lies at the end of the Python object, and what pointers in it point to does too.
    """
    found = {}
    for name in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"):
        kind: Any = getattr(np.random, name)
        seen = []
        for example in (kind(0), kind(1)):
            state, step = _heads(example.ctypes.bit_generator.value)
            size = id(example) + kind.__basicsize__ - state
            if not 0 < size <= 8 * (STATE_WORDS - HEAD):
                break
            words = (ctypes.c_size_t * (size // 8)).from_address(state)
            seen.append({k for k, word in enumerate(words) if state <= word < state + size})
            found[step] = Layout(size, tuple(sorted(set.intersection(*seen))))
    return found


def _heads(rng: int) -> tuple[int, int]:
    """The first two words of a `bitgen_t`: where the state is, the function that steps it."""
    state, step = (ctypes.c_size_t * 2).from_address(rng)
    return state, step


def keep(rng: int, saved: int) -> int:
    """Copy the `bitgen_t`, and behind it its state, to memory at `saved`; 0 if it is none of
    NumPy's, whose size is not known."""
    state, step = _heads(rng)
    layout = layouts().get(step)
    if layout is None:
        return 0
    ctypes.memmove(saved, rng, 8 * HEAD)
    ctypes.memmove(saved + 8 * HEAD, state, layout.size)
    return layout.size


def opened(saved: int, out: int) -> int:
    """The inverse: a `bitgen_t` at `out`, followed by its own state."""
    state, step = _heads(saved)
    layout = layouts()[step]
    own = out + 8 * HEAD
    ctypes.memmove(out, saved, 8 * HEAD + layout.size)
    ctypes.c_size_t.from_address(out).value = own
    words = (ctypes.c_size_t * (layout.size // 8)).from_address(own)
    for at in layout.pointers:
        words[at] += own - state
    return layout.size


_CALLED = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_size_t, ctypes.c_size_t)
STATES = {"save_state": _CALLED(keep), "open_state": _CALLED(opened)}
"""As C functions; they take Python's lock while they run."""


def save_state(rng: Any, out: np.ndarray) -> int:
    return keep(place(rng), out.ctypes.data)


def open_state(saved: np.ndarray, out: np.ndarray) -> int:
    return opened(saved.ctypes.data, out.ctypes.data)
