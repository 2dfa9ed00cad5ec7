"""The scalar functions against mpmath: at most 2 ulp at all magnitudes; specials as NumPy."""

from functools import cache

import numpy as np
import pytest
from numba import njit
from scipy import special

import tracegrad as tg
from codegen import vecmath
from codegen.vecmath.reference import ABSOLUTE, REFERENCES, Reference, exact, sample, ulps

FLOATS = [np.dtype(np.float64), np.dtype(np.float32)]
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 5e-324, -1e-310]
NUMPY = {
    "sigmoid": special.expit,
    "softplus": lambda x: np.logaddexp(x.dtype.type(0), x),
    # SciPy overflows at denormals
    "gammaln": lambda x: np.where(
        (np.abs(x) < 1e-300) & (x != 0), -np.log(np.abs(x)), special.gammaln(x)
    ),
}


@cache
def elementwise(name: str, dtype: np.dtype, arity: int):
    function = vecmath.lookup(name, dtype)
    if arity == 1:

        @njit(error_model="numpy")
        def loop(a, out):
            for i in range(out.size):
                out[i] = function(a[i])
    else:

        @njit(error_model="numpy")
        def loop(a, b, out):
            for i in range(out.size):
                out[i] = function(a[i], b[i])

    return loop


def run(loop, columns: list[np.ndarray]) -> np.ndarray:
    out = np.empty_like(columns[0])
    loop(*columns, out)
    return out


def numpy_function(name: str):
    return NUMPY.get(name) or getattr(np, name, None) or getattr(special, name)


def differs_at_specials(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Where NaN, infinities, zeros or signs differ, or finite values by more than rounding."""
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    close = np.isfinite(want) & (np.abs(got - want) <= 8 * np.finfo(got.dtype).eps * np.abs(want))
    signs = (np.signbit(got) == np.signbit(want)) | np.isnan(want)
    return ~((same | close) & signs)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("row", REFERENCES, ids=lambda row: row.name)
def test_ulp_specials_and_position(row: Reference, dtype: np.dtype) -> None:
    loop = elementwise(row.name, dtype, row.arity)
    columns = sample(row, dtype, 70)
    result = run(loop, columns)
    errors = ulps(result, exact(row, columns), dtype)
    worst = int(np.argmax(errors))
    assert errors[worst] <= row.ulp, [column[worst] for column in columns]

    # an element has the same bits alone, at any offset, and in the vectorised body
    for k in range(0, result.size, 9):
        alone = run(loop, [column[k : k + 1] for column in columns])
        np.testing.assert_array_equal(alone, result[k : k + 1])
    np.testing.assert_array_equal(run(loop, [column[3:] for column in columns]), result[3:])

    with np.errstate(all="ignore"):
        points = np.array(SPECIAL).astype(dtype)
        columns = [axis.ravel() for axis in np.meshgrid(*[points] * row.arity)]
        want = numpy_function(row.name)(*columns)
        bad = differs_at_specials(run(loop, columns), want)
    assert not bad.any(), [(column[bad]) for column in columns]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("row", ABSOLUTE, ids=lambda row: row.name)
def test_error_beside_the_operands(row: Reference, dtype: np.dtype) -> None:
    columns = sample(row, dtype, 70)
    result = run(elementwise(row.name, dtype, row.arity), columns)
    unit = 1.0 if row.arity == 1 else 0.5
    assert ulps(result, exact(row, columns), dtype, unit).max() <= row.ulp


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_powers_up_to_the_largest(dtype: np.dtype) -> None:
    """Where y log2 x is large, errors of the logarithm count most; also beside powers of sqrt(2),
    and up to overflow and through the denormals."""
    row = next(row for row in REFERENCES if row.name == "power")
    random = np.random.default_rng(0)
    limit = float(np.finfo(dtype).maxexp)
    roots = np.sqrt(2.0) ** np.repeat(np.arange(-3.0, 4.0, 2.0), 60)
    x = np.concatenate([roots, random.uniform(0.7, 1.42, 500), 1 + random.normal(0, 1e-3, 200)])
    x = (x * (1 + np.finfo(dtype).eps * random.integers(-2, 3, x.size))).astype(dtype)
    y = (random.uniform(-1.15, 1.0, x.size) * limit / np.log2(x.astype(float))).astype(dtype)
    result = run(elementwise("power", dtype, 2), [x, y])
    assert ulps(result, exact(row, [x, y]), dtype).max() <= 2


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_huge_arguments(name: str) -> None:
    """Worst cases of argument reduction: doubles next to multiples of pi/2, and the largest."""
    row = next(row for row in REFERENCES if row.name == name)
    x = np.array(
        [6381956970095103.0 * 2.0**797, 1e22, 2.0**1023, 1.7e308, 2.0**42, 4398046511103.9]
    )
    dtype = x.dtype
    assert ulps(run(elementwise(name, dtype, 1), [x]), exact(row, [x]), dtype).max() <= 2


def test_overflow_and_underflow_borders() -> None:
    dtype = np.dtype(float)
    for name, border in [("exp", 709.782712893384), ("exp", -745.1332191019412), ("exp2", 1024.0),
                         ("sinh", 710.4758600739439), ("expm1", 709.782712893384)]:  # fmt: skip
        row = next(row for row in REFERENCES if row.name == name)
        x = np.nextafter(border, [-np.inf, np.inf, border])
        assert ulps(run(elementwise(name, dtype, 1), [x]), exact(row, [x]), dtype).max() <= 1


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("row", REFERENCES, ids=lambda row: row.name)
def test_slow_paths_of_vectors(row: Reference, dtype: np.dtype) -> None:
    """Vectors with special values among ordinary ones, and of special values only, have the bits
    that each element has alone."""
    loop = elementwise(row.name, dtype, row.arity)
    points = np.array([*SPECIAL, 0.3, 1.7, 1e30, 3e4, 1e-30, row.high, np.nan]).astype(dtype)
    first, *others = [axis.ravel() for axis in np.meshgrid(*[points] * row.arity)]
    mixed = [np.tile(column, 3) for column in (first, *others)]
    alike = [np.repeat(column, 40)[: 40 * 40] for column in (first, *others)]
    for columns in (mixed, alike):
        whole = run(loop, columns)
        step = 1 if columns is mixed and row.arity == 1 else 7
        for k in range(0, whole.size, step):
            alone = run(loop, [column[k : k + 1] for column in columns])
            assert (
                alone.tobytes() == whole[k : k + 1].tobytes()
                or np.isnan([alone[0], whole[k]]).all()
            )


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_constant_arguments(dtype: str) -> None:
    """Of a function with a slow path an argument may be a constant of the program."""
    x = np.linspace(0.1, 9, 50).astype(dtype)
    for program in (
        lambda x: np.sum(x**3.5),
        lambda x: np.sum(x**4),
        lambda x: np.sum(2.5**x),
        lambda x: np.sum(np.arctan2(x, 2.0) + np.arctan2(1.5, x)),
        lambda x: np.sum(np.fmod(x, 3.0) + np.fmod(7.0, x)),
    ):
        rtol = 50 * np.finfo(dtype).eps
        np.testing.assert_allclose(tg.trace(program)(x), program(x), rtol=rtol)
        assert np.isfinite(tg.trace(program).grad(x)).all()
