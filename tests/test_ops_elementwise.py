"""Every row of the elementwise tables against NumPy: values, special values, layouts, derivatives.

Rows of one arity and dtype are compiled together, a dozen a program; derivatives are interpreted,
which costs no compilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from codegen.costs import SCIPY
from tests import oracle
from tracegrad.function import Function
from tracegrad.ir.interpret import interpret
from tracegrad.ir.types import ArrayType
from tracegrad.ops import REGISTRY
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.scipy import SciPy
from tracegrad.ops.unknown import NoFormula

ROWS = [op for op in REGISTRY.values() if isinstance(op, Elementwise)]
OWN_ROWS = [op for op in ROWS if op.scalar not in SCIPY]
"""Without those that SciPy's code computes, for degrees of 1e15 too long: see test_special.py."""
BY_NAME = {op.name: op for op in ROWS}
CHUNK = 12
COLUMNS = 8

INEXACT = {
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logaddexp", "logaddexp2"),
    *("sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "softplus"),
    *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2", "sinc"),
    *("hypot", "cbrt", "power", "float_power", "deg2rad", "rad2deg"),
}
"""NumPy's functions that do not round exactly; scipy's (`SciPy` references) do not either."""

VECMATH_ULPS = 2
"""What codegen.vecmath promises, against the true value."""

SCIPY_ULPS = 64
"""Between two implementations of a special function, each a chain of some 16 roundings of values
no larger than a few times the result."""


def program_of(ops: Sequence[Elementwise]) -> Any:
    return lambda *xs: tuple(op(*xs) for op in ops)


def runs_on(op: Elementwise, dtype: np.dtype) -> bool:
    """Whether NumPy has a loop of the op that computes in `dtype` itself."""
    if dtype.kind not in op.kinds:
        return False
    try:
        loop = op.loop_dtypes([ArrayType(dtype)] * op.arity)
    except TypeError:
        return False
    return dtype in loop[: op.arity]


def chunks() -> list[Any]:
    found = []
    for arity in (1, 2, 3):
        for dtype in oracle.dtypes_of("fiub"):
            ops = [op for op in OWN_ROWS if op.arity == arity and runs_on(op, dtype)]
            for start in range(0, len(ops), CHUNK):
                names = tuple(op.name for op in ops[start : start + CHUNK])
                label = f"{dtype.name}-{arity}-{start // CHUNK}"
                found.append(pytest.param(names, dtype, arity, id=label))
    return found


@cache
def special_arguments(dtype: np.dtype, arity: int) -> tuple[np.ndarray, ...]:
    """All combinations of special values, and random ones of everyday size, as matrices."""
    values = oracle.special_values(dtype)
    if arity == 3:
        values = values[:: max(1, len(values) // 12)]
    grids = [grid.ravel() for grid in np.meshgrid(*[values] * arity, indexing="ij")]
    rng = np.random.default_rng(arity)
    everyday = [oracle.draw(rng, (200,), dtype, (-5, 5)) for _ in range(arity)]
    columns = [np.concatenate(parts) for parts in zip(grids, everyday, strict=True)]
    padding = -len(columns[0]) % COLUMNS
    return tuple(np.pad(c, (0, padding), mode="edge").reshape(-1, COLUMNS) for c in columns)


def replaces_arguments(op: Elementwise, dtype: np.dtype) -> bool:
    whole = dtype.kind in "iu" and op.name in ("power", "reciprocal")
    return whole or op.name == "polygamma"


def arguments_for(op: Elementwise, columns: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """`columns` where the op and its reference are defined."""
    first = columns[0]
    if op.name == "power" and first.dtype.kind == "i":  # NumPy raises for negative exponents
        return first, np.abs(columns[1] % 64)
    if op.name == "reciprocal" and first.dtype.kind in "iu":  # 1/0: what C happens to do
        return (np.where(first == 0, first.dtype.type(1), first),)
    if op.name == "polygamma":
        return np.arange(first.size).reshape(first.shape).astype(first.dtype) % 4, columns[1]
    return columns


def trusted(op: Elementwise, columns: tuple[np.ndarray, ...]) -> Any:
    """Where the reference is right.

    Subnormal numbers overflow in scipy's gammaln, quotients in its kl_div; beside the poles of the
    gamma function, the negative integers, its results depend on how the argument was rounded.
    """
    good: Any = np.True_
    for x in columns if isinstance(op.numpy, SciPy) else ():
        small = (x != 0) & (np.abs(x) < np.finfo(x.dtype).tiny)
        with np.errstate(invalid="ignore"):
            distance = np.abs(x - np.rint(x))
        pole = (x < 0) & (distance != 0) & (distance < 0.05)
        good = good & ~small & ~(pole & ("gamma" in op.name or op.name == "psi"))
    if op.name == "kl_div":
        with np.errstate(all="ignore"):
            quotient = columns[0] / columns[1]
        normal = (quotient >= np.finfo(quotient.dtype).tiny) & (quotient < np.inf)
        good = good & (normal | ~(columns[0] > 0) | ~(columns[1] > 0))
    return good


def truth(op: Elementwise, columns: tuple[np.ndarray, ...]) -> tuple[Any, float, Any]:
    """What the op should give, to how many ulps, in units of at least which size."""
    with np.errstate(all="ignore"):
        plain = op.numpy(*columns)
        if isinstance(op.numpy, SciPy):  # which does not keep the sign of zero
            size = _everyday_size(plain, columns)
            return plain, SCIPY_ULPS, np.maximum(size, np.finfo(size.dtype).tiny)
        if op.name == "sinc":  # NumPy rounds pi x first; both sines are within 2 ulp (f32: 4)
            return plain, 8, 0.0
        if op.name not in INEXACT or plain.dtype.kind != "f":
            return plain, 0, 0.0
        wider = oracle.WIDER[plain.dtype]
        wide = op.numpy(*(column.astype(wider) for column in columns)).astype(plain.dtype)
    return wide, VECMATH_ULPS, _everyday_size(plain, columns) if "add" in op.name else 0.0


def _everyday_size(plain: Any, columns: tuple[np.ndarray, ...]) -> Any:
    """Sums of terms of the arguments' size may cancel: rounding counts in units of the terms."""
    size = np.zeros(plain.shape, plain.dtype)
    for column in columns:
        size = np.maximum(size, np.where(np.isfinite(column), np.abs(column), 0))
    return size


@pytest.mark.parametrize(("names", "dtype", "arity"), chunks())
def test_values_and_special_values(names: tuple[str, ...], dtype: np.dtype, arity: int) -> None:
    ops = [BY_NAME[name] for name in names]
    columns = special_arguments(dtype, arity)
    plain = [op for op in ops if not replaces_arguments(op, dtype)]
    results = dict(zip(plain, oracle.compiled(program_of(plain), *columns), strict=True))
    failures = []
    for op in ops:
        mine = arguments_for(op, columns)
        got = results[op] if op in results else oracle.compiled(program_of([op]), *mine)[0]
        want, ulps, scale = truth(op, mine)
        try:
            oracle.assert_type(got, want, op.name)
            got = np.where(trusted(op, mine), got, want)
            oracle.assert_close(got, want, ulps, op.name, mine, scale)
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)


def scalar_program(op: Elementwise) -> Any:
    return lambda *xs: op(*xs)


@pytest.mark.parametrize("shape", [(), (0,), (1, 1), (0, 3), (2, 3, 1, 2)], ids=str)
def test_shapes(shape: tuple[int, ...]) -> None:
    """Scalars, empty and unit extents: one representative of each kind of scalar code."""
    rng = np.random.default_rng(0)
    x, y = (oracle.draw(rng, shape, np.dtype(float), (0.5, 2.0)) for _ in range(2))

    def program(x: Any, y: Any) -> Any:
        return np.exp(x), x + y, np.where(x < y, x, 2.0), np.clip(x, None, y), x**3, np.floor(y)

    for got, want in zip(oracle.compiled(program, x, y), program(x, y), strict=True):
        oracle.assert_close(got, want, 2, str(shape))


def test_memory_layouts() -> None:
    """Strides, order, alignment, byte order and write protection do not change a result."""
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0.5, 2.0, (4, 6)), rng.uniform(0.5, 2.0, (4, 6))
    function = Function(lambda x, y: np.sqrt(x) * y)
    want = np.sqrt(x) * y
    for name, one in oracle.layouts(x):
        for other_name, other in oracle.layouts(y):
            oracle.assert_exact(function(one, other), want, f"{name}, {other_name}")
    assert len(function.versions) == 1


def differentiable() -> list[Any]:
    return [pytest.param(op.name, id=op.name) for op in ROWS if active_arguments(op)]


def active_arguments(op: Elementwise) -> list[int]:
    """Those that there is a derivative by."""
    return [
        k
        for k, partial in enumerate(op.partials)
        if partial is not None and not isinstance(partial, NoFormula)
    ]


def dtype_in(domain: tuple[float, float]) -> np.dtype:
    """Orders and degrees, of which there is one, are integers: some functions take nothing else."""
    return np.dtype(int if domain[0] == domain[1] else float)


def rows_arguments(op: Elementwise, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    domains = [op.domain[min(k, len(op.domain) - 1)] for k in range(op.arity)]
    args = [oracle.draw(rng, (3, 4), dtype_in(domain), domain) for domain in domains]
    return [rng.random((3, 4)) < 0.5, *args[1:]] if op.name == "where" else args


@pytest.mark.parametrize("name", differentiable())
def test_derivatives(name: str) -> None:
    """jvp against differences of a wider NumPy, `<ct, jvp> = <vjp, t>`, and the second order."""
    op = BY_NAME[name]
    args = rows_arguments(op, 7)
    active = active_arguments(op)
    rng = np.random.default_rng(8)
    ct, *directions = (rng.uniform(0.5, 1.5, (3, 4)) for _ in range(1 + len(active)))

    def program(points: Any, ct: Any, directions: Any) -> Any:
        def part(*points: Any) -> Any:
            full = list(args)
            for k, point in zip(active, points, strict=True):
                full[k] = point
            return op(*full)

        def pulled(*points: Any) -> Any:
            return tg.vjp(part, *points)[1](ct)

        _, tangent = tg.jvp(part, points, directions)
        cotangents, second = tg.jvp(pulled, points, directions)
        return tangent, cotangents, second

    points = tuple(args[k] for k in active)
    version, leaves = Function(program).version_for((points, ct, tuple(directions)), {})
    count = len(active)

    def run(step: float) -> tuple[Any, list[Any], list[Any]]:
        moved = [x + step * t for x, t in zip(points, directions, strict=True)]
        tangent, *rest = interpret(version.graph, [*moved, *leaves[count:]])
        return tangent, rest[:count], rest[count:]

    tangent, cotangents, second = run(0.0)
    terms = [d_x * t for d_x, t in zip(cotangents, directions, strict=True)]
    near(np.sum(terms), np.sum(ct * tangent), 1e-13 * op.arity * 12, "<ct, jvp> = <vjp, t>")

    def moved_value(step: float) -> Any:
        full = [np.asarray(x, np.longdouble) if x.dtype.kind == "f" else x for x in args]
        for k, t in zip(active, directions, strict=True):
            full[k] = full[k] + step * t
        try:
            return op.numpy(*full)
        except TypeError:  # no loop for long doubles
            return op.numpy(*(x.astype(float) if x.dtype.kind == "f" else x for x in full))

    difference = (moved_value(STEP) - moved_value(-STEP)) / (2 * STEP)
    near(tangent, difference, DIFFERENCES, "jvp against differences")
    for up, down, curvature in zip(run(STEP)[1], run(-STEP)[1], second, strict=True):
        near(curvature, (up - down) / (2 * STEP), DIFFERENCES, "second order against differences")


STEP = 1e-5
DIFFERENCES = 1e-7
"""Central differences err by h**2 times the third derivative (below 1000 in every domain) over 6,
and by eps / h = 2e-11 of the function."""


def near(got: Any, want: Any, tolerance: float, about: str) -> None:
    error = np.abs(np.asarray(got - want, float))
    bound = tolerance * (1 + np.abs(np.asarray(want, float)))
    assert np.all(error <= bound), f"{about}: {got} against {want}"


NAN, INF = np.nan, np.inf
KINKS = [
    ("absolute", (0.0,), (0.0,)),
    ("sign", (2.0,), (0.0,)),
    ("relu", (0.0,), (0.0,)),
    ("relu", (3.0,), (1.0,)),
    ("floor", (1.5,), (0.0,)),
    ("rint", (2.5,), (0.0,)),
    ("sqrt", (0.0,), (INF,)),
    ("maximum", (1.0, 1.0), (0.5, 0.5)),
    ("minimum", (1.0, 1.0), (0.5, 0.5)),
    ("maximum", (2.0, 1.0), (1.0, 0.0)),
    ("fmax", (1.0, NAN), (1.0, 0.0)),
    ("fmax", (NAN, 1.0), (0.0, 1.0)),
    ("fmin", (1.0, NAN), (1.0, 0.0)),
    ("clip", (1.0, -1.0, 1.0), (1.0, 0.0, 0.0)),
    ("clip", (-1.0, -1.0, 1.0), (1.0, 0.0, 0.0)),
    ("clip", (2.0, -1.0, 1.0), (0.0, 0.0, 1.0)),
    ("clip", (-2.0, -1.0, 1.0), (0.0, 1.0, 0.0)),
    ("hypot", (0.0, 0.0), (0.0, 0.0)),
    ("power", (0.0, 2.0), (0.0, 0.0)),
    ("power", (0.0, 1.0), (1.0, 0.0)),
    ("power", (0.0, 0.0), (0.0, 0.0)),
    ("power", (0.0, 3.5), (0.0, 0.0)),
    ("power", (-2.0, 3.0), (12.0, NAN)),
    ("logaddexp", (-INF, -INF), (0.5, 0.5)),
    ("logaddexp", (-INF, 1.0), (0.0, 1.0)),
    ("copysign", (-2.0, 3.0), (-1.0, 0.0)),
    ("copysign", (0.0, -3.0), (0.0, 0.0)),
    ("remainder", (5.5, 2.0), (1.0, -2.0)),
    ("fmod", (-5.5, 2.0), (1.0, 2.0)),
    ("xlogy", (0.0, 0.0), (0.0, NAN)),
    ("sinc", (0.0,), (0.0,)),
    ("sinc", (1e-9,), (-(np.pi**2) / 3 * 1e-9,)),
]


@pytest.mark.parametrize(("name", "args", "wanted"), KINKS)
def test_kinks_and_ties(name: str, args: tuple[float, ...], wanted: tuple[float, ...]) -> None:
    """Where a derivative does not exist its value is PyTorch's."""
    op = BY_NAME[name]

    def program(*xs: Any) -> Any:
        return tg.vjp(op, *xs)[1](np.float64(1.0))

    got = oracle.interpreted(program, *map(np.float64, args))
    for d_x, want in zip(got, wanted, strict=True):
        np.testing.assert_allclose(d_x, want, rtol=1e-13, err_msg=name)


SMOOTH = [
    ("logaddexp", (0.6, 0.6), 0.25),
    ("logaddexp2", (0.6, 0.6), 0.25 * np.log(2)),
    ("power", (0.0, 0.0), 0.0),
    ("power", (0.0, 1.0), 0.0),
    ("power", (0.0, 2.0), 2.0),
    ("power", (0.0, 3.0), 0.0),
    ("sinc", (0.0,), -(np.pi**2) / 3),
    ("angle", (-2.0,), 0.0),
]


@pytest.mark.parametrize(("name", "args", "wanted"), SMOOTH)
def test_second_derivatives_where_a_formula_has_a_gap(
    name: str, args: tuple[float, ...], wanted: float
) -> None:
    """Ties and zeros at which the function is smooth all the same."""
    second = tg.grad(tg.grad(getattr(tg, name)))
    (got,) = oracle.interpreted(second, *map(np.float64, args))
    assert got == pytest.approx(wanted, rel=1e-13)


def test_a_masked_branch_passes_no_nan() -> None:
    """A cotangent that is infinite or NaN does not leak through an element that was not chosen."""

    def program(x: Any) -> Any:
        def chosen(x: Any) -> Any:
            return np.where(x > 0, np.float64(1.0), x) + np.maximum(x, -1.0) + tg.relu(-x)

        return tg.vjp(chosen, x)[1](np.full(2, np.inf))

    (d_x,) = oracle.interpreted(program, np.array([2.0, 3.0]))
    assert np.array_equal(d_x, [np.inf, np.inf])


POWERS = [-1, 0, 0.5, 1, 2, 3, 4, 1.5, -2, 2.0, np.float32(2)]


@pytest.mark.parametrize("exponent", POWERS, ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_constant_powers(exponent: Any, dtype: str) -> None:
    x = oracle.special_values(np.dtype(dtype))
    x = x if x.dtype.kind == "f" else np.arange(-5, 6)

    def program(x: Any) -> Any:
        return x**exponent

    if dtype == "int64" and type(exponent) is int and exponent < 0:
        with pytest.raises(ValueError, match="Integers to negative integer powers"):
            oracle.interpreted(program, x)
        return
    with np.errstate(all="ignore"):
        want = x**exponent
    (got,) = oracle.interpreted(program, x)
    oracle.assert_close(got, want, 2, str(exponent), [x])  # x*x*x: two roundings


@pytest.mark.parametrize(
    "program",
    [
        lambda x: np.clip(x, 0.0, None),
        lambda x: np.clip(x, None, 1),
        lambda x: np.clip(x, -1, np.ones(5, np.float32)),
        lambda x: np.clip(x, min=-1.0),
        lambda x: np.nan_to_num(x / np.where(x > 0.5, 0, 1)),
        lambda x: np.round(x, 1),
        lambda x: x.round(),
        lambda x: np.round(x * 100, -1),
        lambda x: np.isclose(x, 0.3, atol=0.5),
        lambda x: np.isclose(x, np.where(x > 0, x, np.nan), equal_nan=True),
        lambda x: np.fix(x) + np.positive(x) + np.real(x) + np.imag(x) + np.conj(x),
        lambda x: np.divmod(x, 0.7),
        lambda x: divmod(x, 0.7),
        lambda x: np.add(x, 1, dtype=np.float64),
        lambda x: np.float_power(x * x, 2),
        lambda x: 2**x + 2.0**x,
        lambda x: +x - (-x) + abs(x) % 0.3,
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_functions_of_several_rows(program: Any, dtype: str) -> None:
    x = np.linspace(-2.0, 2.0, 5).astype(dtype)
    with np.errstate(all="ignore"):
        wants = oracle.flat(program(x))
    for got, want in zip(oracle.interpreted(program, x), wants, strict=True):
        oracle.assert_close(got, want, 2)


@pytest.mark.parametrize("bounds", [(-1, 5), (0, 300), (None, 5), (2, None), (-1, 300)], ids=str)
def test_clip_of_integers(bounds: tuple[Any, Any]) -> None:
    """Python integers outside of the dtype do not limit."""
    x = np.array([0, 3, 200], np.uint8)
    (got,) = oracle.interpreted(lambda x: np.clip(x, *bounds), x)
    oracle.assert_exact(got, np.clip(x, *bounds))


def test_softmax_family() -> None:
    special = pytest.importorskip("scipy.special")
    x = np.random.default_rng(0).normal(size=(3, 4)) * 300
    x[1, :2] = -np.inf
    for ours, theirs in (
        (tg.softmax, special.softmax),
        (tg.log_softmax, special.log_softmax),
        (tg.logsumexp, special.logsumexp),
    ):
        for axis in (None, 0, 1, -1, (0, 1)):
            (got,) = oracle.interpreted(lambda x, f=ours, a=axis: f(x, axis=a), x)
            oracle.assert_similar(got, theirs(x, axis=axis), 16, ours.__name__)


def test_rows_of_minus_infinity() -> None:
    """logsumexp of nothing is -inf, and passes no gradient."""

    def program(x: Any) -> Any:
        return tg.logsumexp(x, axis=1), tg.vjp(lambda x: tg.logsumexp(x, axis=1), x)[1](np.ones(2))

    value, gradient = oracle.interpreted(program, np.array([[-np.inf] * 2, [0.0, -np.inf]]))
    assert np.array_equal(value, [-np.inf, 0.0])
    assert np.array_equal(gradient, [[0.0, 0.0], [1.0, 0.0]])
