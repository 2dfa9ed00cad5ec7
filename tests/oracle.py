"""What results are compared with, and how: drawn arguments, memory layouts, distances in ulps.

The oracle is NumPy itself, in a wider precision where the machine has one. A tolerance counts
roundings of the dtype: `assert_close(got, want, ulps=2)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from codegen.module import print_module
from tracegrad.function import Function
from tracegrad.ir.interpret import interpret
from tracegrad.ops.op import Sample
from tracegrad.transforms import grad

FLOATS = (np.float64, np.float32)
DTYPES = {"f": FLOATS, "i": (np.int64, np.int8), "u": (np.uint8, np.uint64), "b": (np.bool_,)}
WIDER = {np.dtype(np.float32): np.float64, np.dtype(np.float64): np.longdouble}


def dtypes_of(kinds: str) -> list[np.dtype]:
    return [np.dtype(dtype) for kind in kinds for dtype in DTYPES[kind]]


def draw(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype, domain: tuple[float, float]
) -> Any:
    """Uniform numbers of the domain; unsigned ones of its non-negative part."""
    low, high = domain
    if dtype.kind == "f":
        return np.asarray(rng.uniform(low, high, shape)).astype(dtype)
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    low = max(low, 0) if dtype.kind == "u" else low
    return np.asarray(rng.integers(int(low), int(high) + 1, shape)).astype(dtype)


def drawn_arguments(sample: Sample, dtype: np.dtype, seed: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    return tuple(draw(rng, shape, dtype, sample.domain) for shape in sample.shapes)


def special_values(dtype: np.dtype) -> np.ndarray:
    """Where functions go wrong: NaN, infinities, signed zeros, denormals, extremes, halves."""
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        near = [info.min, info.min + 1, 0, 1, 2, 3, 7, 8, 63, 64, info.max - 1, info.max]
        return np.array(near + ([-1, -2, -3, -7, -8] if dtype.kind == "i" else []), dtype=dtype)
    info = np.finfo(dtype)
    positive = [
        *(0.0, info.smallest_subnormal, 3 * info.smallest_subnormal, info.tiny, info.eps),
        *(1e-5, 0.3, 0.5, 1.0, 1.0 + info.eps, 1.0 - info.epsneg, 1.5, 2.0, 2.5, 3.0, np.pi / 2),
        *(20.0, 37.5, 88.5, 89.5, 104.5, 709.5, 710.5, 746.0, 1e5, 2.0**24 + 1, 1e15),
        *(float(info.max) / 2, info.max, np.inf, np.nan),
    ]
    values = np.array(positive, dtype=dtype)
    return np.concatenate([values, -values])


def layouts(array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The same values, laid out in memory in every way that NumPy has."""
    yield "contiguous", array
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    yield "strided", wide[..., ::2]
    yield "reversed", array[::-1].copy()[::-1]
    yield "column-major", np.asfortranarray(array)
    frozen = array.copy()
    frozen.flags.writeable = False
    yield "read-only", frozen
    yield "big-endian", array.astype(array.dtype.newbyteorder(">"))
    shifted = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    shifted[...] = array
    yield "unaligned", shifted


def flat(value: Any) -> list[Any]:
    """The arrays of nested tuples, lists, dicts and dataclasses."""
    if isinstance(value, tuple | list):
        return [leaf for item in value for leaf in flat(item)]
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in flat(item)]
    if is_dataclass(value) and not isinstance(value, type):
        return [leaf for field in fields(value) for leaf in flat(getattr(value, field.name))]
    return [value]


def interpreted(program: Callable[..., Any], *args: Any) -> list[Any]:
    """The results of a program, traced and evaluated node by node with NumPy: nothing compiles."""
    version, values = Function(program).version_for(args, {})
    return interpret(version.graph, values)


def compiled(program: Callable[..., Any], *args: Any) -> list[Any]:
    """The results of a program, traced and compiled."""
    return flat(Function(program)(*args))


def printed(function: Function, *args: Any, which: str = "primal") -> str:
    """The text of the module that would be compiled: nothing is."""
    return print_module(function._subject(args, {}).program(which).module)


def check_second_order(f: Callable[..., Any], x: np.ndarray, *rest: Any) -> None:
    """The derivative of the gradient by `x` along a direction, against differences of the gradient;
    interpreted. Both errors of the differences are below 1e-9 for derivatives of unit size."""
    direction = np.random.default_rng(1).normal(size=x.shape)
    first = grad(f)
    second = grad(lambda x: np.sum(first(x, *rest) * direction))
    step = 1e-5
    (found,) = interpreted(second, x)
    (ahead,), (behind,) = (
        interpreted(first, x + sign * step * direction, *rest) for sign in (1, -1)
    )
    np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-7)


def assert_type(got: Any, want: Any, about: str = "") -> None:
    """The dtype and shape of NumPy."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype, f"{about}: dtype {got.dtype}, NumPy {want.dtype}"
    assert got.shape == want.shape, f"{about}: shape {got.shape}, NumPy {want.shape}"


def assert_exact(got: Any, want: Any, about: str = "", inputs: Sequence[Any] = ()) -> None:
    """The same bits, signs of zeros included (any NaN equals any)."""
    got, want = np.asarray(got), np.asarray(want)
    assert_type(got, want, about)
    same = got == want
    if want.dtype.kind == "f":
        same = (same & (np.signbit(got) == np.signbit(want))) | (np.isnan(got) & np.isnan(want))
    _report(same, got, want, about, inputs)


def assert_close(
    got: Any,
    want: Any,
    ulps: float,
    about: str = "",
    inputs: Sequence[Any] = (),
    scale: Any = 0.0,
) -> None:
    """NaN, infinities and zeros exactly; other numbers within `ulps` units in the last place.

    `scale`: errors are counted in units of the larger of the result and this.
    """
    got, want = np.asarray(got), np.asarray(want)
    assert_type(got, want, about)
    if want.dtype.kind != "f":
        _report(got == want, got, want, about, inputs)
        return
    with np.errstate(all="ignore"):
        unit = np.spacing(np.maximum(np.abs(want), np.asarray(scale, want.dtype)))
        near = np.abs(got - want) <= ulps * unit
        same = (got == want) & ((want != 0) | (np.signbit(got) == np.signbit(want)))
        vanishing = (want == 0) & (got == 0) & (np.asarray(scale) > 0)
        largest = np.finfo(want.dtype).max
        overflow = (np.abs(got) == largest) & np.isinf(want) & (np.sign(got) == np.sign(want))
        near &= (want != 0) | (np.asarray(scale) > 0)
    _report(
        same | near | vanishing | overflow | (np.isnan(got) & np.isnan(want)),
        got,
        want,
        about,
        inputs,
    )


def assert_similar(got: Any, want: Any, roundings: float, about: str = "") -> None:
    """Every element within so many roundings of the largest one: for sums in another order."""
    want = np.asarray(want)
    finite = np.abs(want[np.isfinite(want)]) if want.dtype.kind == "f" else np.zeros(0)
    assert_close(got, want, roundings, about, scale=max(finite.max(initial=0), 1e-30))


def _report(good: Any, got: Any, want: Any, about: str, inputs: Sequence[Any]) -> None:
    bad = np.argwhere(~np.asarray(good))
    if not bad.size and np.all(good):
        return
    lines = []
    for place in map(tuple, bad[:8]):
        at = [np.broadcast_to(x, want.shape)[place] for x in inputs]
        lines.append(f"  at {place} {at}: got {got[place]!r}, wanted {want[place]!r}")
    raise AssertionError(f"{about}: {len(bad)} of {want.size} elements differ\n" + "\n".join(lines))
