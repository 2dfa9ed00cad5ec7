"""Functions with exact results: bit for bit NumPy's, for floats, integers and booleans."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numba import njit

from codegen import vecmath

FLOAT_UNARY = ["floor", "ceil", "trunc", "rint", "fabs", "sqrt", "square", "reciprocal", "sign",
               "deg2rad", "rad2deg", "signbit", "isnan", "isinf", "isfinite"]  # fmt: skip
FLOAT_BINARY = ["maximum", "minimum", "fmax", "fmin", "copysign", "nextafter", "heaviside",
                "fmod", "remainder", "floor_divide"]  # fmt: skip
INTEGER_UNARY = ["absolute", "sign", "square"]
INTEGER_BINARY = ["maximum", "minimum", "floor_divide", "remainder", "fmod", "left_shift",
                  "right_shift", "gcd", "lcm"]  # fmt: skip
BOOLEAN = ["maximum", "minimum", "logical_or", "logical_and", "logical_xor"]
INTEGERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
POINTS = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 3.0, -3.0, 0.1, 0.3, 7.5, -7.5, 1e30,
          -1e30, 5e-324, 1e-310, 1e-40, 4503599627370497.5, 0.49999999999999994, 2.5]  # fmt: skip


def kernel(functions: Sequence[Any], arity: int) -> Any:
    """One loop for each of the functions, compiled together: a function more costs little."""
    numbers = range(len(functions))
    given = ["a", "b"][:arity]
    elements = ", ".join(f"{column}[i]" for column in given)
    lines = [f"def loops({', '.join([*given, *(f'out{k}' for k in numbers)])}):"]
    for k in numbers:
        lines += ["    for i in range(a.size):", f"        out{k}[i] = f{k}({elements})"]
    space = {f"f{k}": function for k, function in enumerate(functions)}
    exec("\n".join(lines), space)
    return njit(error_model="numpy")(space["loops"])


def check(name: str, columns: list[np.ndarray], together: Sequence[str] = ()) -> None:
    """One function against NumPy's; it is compiled with others of the same columns."""
    names = tuple(together if name in together else [name])
    key = (names, columns[0].dtype.str, len(columns))
    if key not in FOUND:
        FOUND[key] = run(names, columns)
    got, want = FOUND[key][name]
    same = (got == want) | ((got != got) & (want != want))
    if want.dtype.kind == "f":
        same &= (np.signbit(got) == np.signbit(want)) | (want != want)
    assert same.all(), [column[~same][:5] for column in (*columns, got, want)]


FOUND: dict[Any, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
"""What was computed, and what NumPy says, by function: for all of a dtype at once."""


def run(names: Sequence[str], columns: list[np.ndarray]) -> dict[str, Any]:
    with np.errstate(all="ignore"):
        wants = [getattr(np, name)(*columns) for name in names]
    gots = [np.empty_like(want) for want in wants]
    functions = [vecmath.lookup(name, columns[0].dtype) for name in names]
    kernel(functions, len(columns))(*columns, *gots)
    return dict(zip(names, zip(gots, wants, strict=True), strict=True))


def pairs(values: np.ndarray) -> list[np.ndarray]:
    return [axis.ravel() for axis in np.meshgrid(values, values)]


def float_values(dtype: str) -> np.ndarray:
    random = np.random.default_rng(0)
    whole = np.dtype(dtype.replace("f", "i"))
    limits = np.iinfo(whole)
    patterns = random.integers(limits.min, limits.max, 60, whole).view(dtype)
    with np.errstate(over="ignore"):
        return np.concatenate(
            [np.array(POINTS).astype(dtype), patterns, np.arange(-9, 9, dtype=dtype)]
        )


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("name", FLOAT_UNARY)
def test_float_unary(name: str, dtype: str) -> None:
    check(name, [float_values(dtype)], FLOAT_UNARY)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("name", FLOAT_BINARY)
def test_float_binary(name: str, dtype: str) -> None:
    check(name, pairs(float_values(dtype)), FLOAT_BINARY)


def integer_values(dtype: str) -> np.ndarray:
    limits = np.iinfo(dtype)
    near = [0, 1, 2, 3, 5, 7, 8, 12, 31, 32, 63, 64, 65, 100, limits.max - 1, limits.max]
    extremes = [limits.min, limits.min + 1, -1, -2, -3, -8] if limits.min < 0 else []
    return np.array(near + extremes, dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", INTEGER_UNARY)
def test_integer_unary(name: str, dtype: str) -> None:
    check(name, [integer_values(dtype)], INTEGER_UNARY)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", [*INTEGER_BINARY, "power"])
def test_integer_binary(name: str, dtype: str) -> None:
    a, b = pairs(integer_values(dtype))
    if name == "power":  # NumPy refuses negative exponents
        check(name, [a[b >= 0], b[b >= 0]])
    else:
        check(name, [a, b], INTEGER_BINARY)


@pytest.mark.parametrize("name", BOOLEAN)
def test_boolean(name: str) -> None:
    check(name, pairs(np.array([False, True])), BOOLEAN)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_reductions(dtype: str) -> None:
    """The accumulators: NaN wins in maximum and minimum, a relaxed sum keeps NaN and infinity."""
    values = np.random.default_rng(0).uniform(-1, 1, 1003).astype(dtype)

    def reduce(name: str, data: np.ndarray) -> np.floating:
        function = vecmath.lookup(name, data.dtype)

        @njit(error_model="numpy")
        def loop(a):
            result = a[0]
            for i in range(1, a.size):
                result = function(result, a[i])
            return result

        return loop(data)

    assert reduce("reduce_maximum", values) == values.max()
    assert reduce("reduce_minimum", values) == values.min()
    exact = values.astype(float).sum()
    bound = values.size * np.finfo(dtype).eps * np.abs(values).astype(float).sum()
    assert abs(reduce("add_reassoc", values) - exact) <= bound
    product = reduce("multiply_reassoc", 1 + values / 1000)
    assert (
        abs(product - np.prod(1 + values.astype(float) / 1000))
        <= 2 * values.size * np.finfo(dtype).eps
    )
    for index in (0, 500, 1002):
        marked = values.copy()
        marked[index] = np.nan
        for name in ("reduce_maximum", "reduce_minimum", "add_reassoc", "multiply_reassoc"):
            assert np.isnan(reduce(name, marked))
    values[7] = np.inf
    assert reduce("add_reassoc", values) == np.inf
