"""Programs as people write them, against NumPy and central differences.

Most run node by node (`interpret`), so nothing compiles; what depends on the lowering is compiled.
A central difference with step h = 1e-6 is good to about h**2 + eps/h = 2e-10 of the value's scale;
TOLERANCE leaves room for third derivatives of a few thousand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import linalg, special

import tracegrad as tg
from tests.oracle import assert_type, flat, interpreted
from tracegrad.passes.plan import plan
from tracegrad.transforms import as_function

TOLERANCE = 2e-5
STEP = 1e-6


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape) + len(shape)).normal(size=shape)


def cross_entropy(w: Any, b: Any, x: Any, labels: Any) -> Any:
    z = x @ w + b
    z = z - z.max(axis=1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -logp[range(len(labels)), labels].mean()


def black_scholes(spot: Any, strike: Any, vol: Any) -> Any:
    d1 = (np.log(spot / strike) + 0.5 * vol**2) / vol
    half = np.sqrt(2)
    return np.sum(0.5 * spot * (1 + special.erf(d1 / half)) - strike * special.ndtr(d1 - vol))


def heat(u: Any, k: Any) -> Any:
    for _ in range(4):
        new = u.copy()
        new[1:-1] = u[1:-1] + k * (u[2:] - 2 * u[1:-1] + u[:-2])
        u = new
    return u


def cholesky(a: Any) -> Any:
    a = a @ a.T + np.eye(len(a))
    low = np.zeros_like(a)
    for i in range(len(a)):
        for j in range(i + 1):
            rest = a[i, j] - np.dot(low[i, :j], low[j, :j])
            low[i, j] = np.sqrt(rest) if i == j else rest / low[j, j]
    return low


def rotated(angle: Any, points: Any) -> Any:
    c, s = np.cos(angle), np.sin(angle)
    return points @ np.array([[c, -s], [s, c]]).T


def lorenz(state: Any, p: Any) -> Any:
    x, y, z = state
    return np.array([p[0] * (y - x), x * (p[1] - z) - y, x * y - p[2] * z])


def unary_of_numbers(x: Any) -> Any:
    pair = np.array([x[0] ** 2, x[1] ** 2])
    return np.exp(-np.sqrt(pair + 1)), np.tanh(pair).sum()


def safe_ratio(a: Any, b: Any) -> Any:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0.25)


def masked_log(x: Any) -> Any:
    return np.log(x, where=x > 0, out=x * 0)


def column_major(x: Any) -> Any:
    return x.reshape(2, -1, order="F") * np.ravel(x, "F").reshape(2, -1)


def counted(x: Any) -> Any:
    return np.repeat(x, [1, 2, 0], axis=0).sum(0) * np.repeat(x[0], np.array([2, 1, 0, 1]))


def selected(x: Any) -> Any:
    y = 2 * x
    y[x < 0] *= 0.1
    y[x > 1] = np.exp(-y[x > 1]) + x[0]
    positive = x[x > 0]
    return y, np.mean(np.log(positive)), (positive**2).sum() / positive.size, x[x < -9].sum()


def selected_rows(x: Any, rows: Any) -> Any:
    return x[rows].sum(axis=0), x[rows].mean(), np.prod(x[rows])


PROGRAMS: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (cross_entropy, (numbers(3, 4), numbers(4), numbers(5, 3), np.array([0, 1, 2, 3, 1]))),
    (black_scholes, (np.exp(numbers(3)), np.exp(numbers(4)[:3]), np.abs(numbers(5)[:3]) + 0.5)),
    (heat, (numbers(7), 0.2)),
    (cholesky, (numbers(3, 3),)),
    (rotated, (0.3, numbers(4, 2))),
    (lorenz, (numbers(3), np.array([10.0, 28.0, 2.6]))),
    (unary_of_numbers, (numbers(3),)),
    (safe_ratio, (numbers(5), np.array([1.0, 0.0, 2.0, -1.0, 3.0]))),
    (masked_log, (np.array([1.0, -1.0, 2.0]),)),
    (column_major, (numbers(3, 4),)),
    (counted, (numbers(3, 4),)),
    (selected, (np.array([0.5, -1.0, 2.0, 3.0, -0.2]),)),
    (selected_rows, (numbers(3, 4), np.array([True, False, True]))),
]


def weighted(program: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    """The results of a program as one number, each element with its own weight."""
    weights = [np.cos(np.arange(np.size(y))).reshape(np.shape(y)) for y in flat(program(*args))]

    def total(*given: Any) -> Any:
        return sum(np.sum(w * y) for w, y in zip(weights, flat(program(*given)), strict=True))

    return total


def slope(total: Callable[..., Any], args: tuple[Any, ...], along: list[Any]) -> float:
    """The derivative of `total` at `args` in a direction, by a central difference."""
    ends = []
    for sign in (1, -1):
        moved = [a if d is None else a + sign * STEP * d for a, d in zip(args, along, strict=True)]
        ends.append(total(*moved))
    return float(ends[0] - ends[1]) / (2 * STEP)


@pytest.mark.parametrize(("program", "args"), PROGRAMS, ids=lambda x: getattr(x, "__name__", ""))
def test_program(program: Callable[..., Any], args: tuple[Any, ...]) -> None:
    for got, want in zip(interpreted(program, *args), flat(program(*args)), strict=True):
        assert_type(got, want, program.__name__)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    floating = [n for n, a in enumerate(args) if np.asarray(a).dtype.kind == "f"]
    total = weighted(program, *args)
    gradients = interpreted(tg.value_and_grad(total, argnums=tuple(floating)), *args)[1:]
    for number, gradient in zip(floating, gradients, strict=True):
        direction = np.sin(1 + np.arange(np.size(args[number]))).reshape(np.shape(args[number]))
        along = [direction if n == number else None for n in range(len(args))]
        want = slope(total, args, along)
        got = float(np.sum(gradient * direction))
        assert abs(got - want) <= TOLERANCE * max(1.0, abs(want)), (number, got, want)


def test_hundreds_of_steps_in_one_expression() -> None:
    def steps(x: Any) -> Any:
        for _ in range(200):
            x = x + 0.01 * x
        return np.sum(x)

    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(tg.grad(steps)(x), 1.01**200, rtol=1e-12)


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x + 0.1 * (np.roll(x, 1) - 2 * x + np.roll(x, -1)),
        lambda x: np.pad(x[1:] * x[:-1], (0, 1)),
        lambda x: x * np.sin(x) + x[::-1],
    ],
)
def test_a_chain_of_stencils_does_not_double_its_work(step: Callable[..., Any]) -> None:
    """Without arrays in between the program would have `2**60` terms."""

    def chain(x: Any) -> Any:
        for _ in range(60):
            x = step(x)
        return x

    graph = as_function(chain).version_for((np.ones(9),), {})[0].graph
    stored = plan(graph).stored
    unstored_run = longest = 0
    for node in graph.nodes:
        unstored_run = 0 if node in stored else unstored_run + 1
        longest = max(longest, unstored_run)
    assert longest < 20


def test_what_a_mask_leaves_out_has_no_derivative() -> None:
    """Not NaN either, where the function has none there."""
    x = np.array([0.0, 4.0, -1.0])
    gradient = tg.grad(lambda x: np.sum(np.log(x[x > 0])))
    np.testing.assert_array_equal(interpreted(gradient, x)[0], [0.0, 0.25, 0.0])


def test_a_subclass_of_int_is_a_number() -> None:
    x = tg.tensor([1.0, 2.0], dtype=np.float32)
    mean = x.sum() / x.size
    assert mean.item() == 1.5 and mean.dtype == np.float32


def test_any_key_names_an_argument() -> None:
    gradient = tg.grad(lambda d: d[0, 1] * d["a b%5"] + d[-1])({(0, 1): 2.0, "a b%5": 3.0, -1: 4.0})
    assert gradient == {(0, 1): 3.0, "a b%5": 2.0, -1: 1.0}


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: tg.trace(eval("3")), TypeError, "only functions can be traced: this is 3"),
        (
            lambda: tg.jvp(np.sin, *eval("1.0, 1.0")),
            TypeError,
            "jvp takes the arguments as a tuple",
        ),
        (lambda: tg.trace(lambda x: x + 1j)(1.0), tg.UnsupportedError, "complex numbers are not"),
        (lambda: tg.trace(np.sum)({1.0}), TypeError, "is a set, which is neither an array"),
        (
            lambda: tg.trace(lambda x: x.tofile())(np.ones(2)),
            AttributeError,
            "no attribute 'tofile'",
        ),
        (lambda: tg.trace(lambda x: np.add(x, 1, casting="no"))(1.0), tg.UnsupportedError, "cast"),
    ],
)
def test_what_cannot_work_says_so(call: Callable[[], Any], kind: type, words: str) -> None:
    with pytest.raises(kind, match=words):
        call()


def test_queries_about_types() -> None:
    def queries(x: Any) -> Any:
        assert not np.iscomplexobj(x) and np.isrealobj(x)
        assert np.isreal(x[0]) and not np.iscomplex(np.sum(x))
        assert np.result_type(x, 1.0) == np.float32 and np.result_type(x, np.ones(1)) == np.float64
        real = np.isreal(x) & ~np.iscomplex(x) & (np.angle(x) == 0)
        return np.real_if_close(x.real + x.imag), np.all(real) & np.array_equal(x, x + 0)

    for got in (interpreted(queries, np.ones(3, np.float32)), queries(tg.ones(3, dtype="f4"))):
        np.testing.assert_array_equal(np.asarray(got[0]), np.ones(3, np.float32))
        assert got[1]


@pytest.mark.parametrize("name", ["max", "range", "np", "njit", "x", "print"])
def test_a_function_may_have_any_name(name: str) -> None:
    scope: dict[str, Any] = {"numpy": np}
    exec(f"def {name}(x, sum, njit): return numpy.sum(x) * sum + njit", scope)
    value, gradient = tg.value_and_grad(scope[name])(np.ones(2), 3.0, 1.0)
    assert value == 7.0 and list(gradient) == [3.0, 3.0]


SCIPYS = {f.__name__: f for f in (special.logsumexp, linalg.solve_triangular, linalg.hankel)}


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (lambda x: SCIPYS["logsumexp"](x), "given to SciPy's logsumexp.*use tg.logsumexp"),
        (lambda x: SCIPYS["solve_triangular"](np.eye(2), x), "use tg.linalg.solve_triangular"),
        (lambda x: SCIPYS["hankel"](x), "given to SciPy's hankel.*NumPy's functions and those of"),
    ],
)
def test_functions_of_scipy_that_take_arrays_alone(program: Any, words: str) -> None:
    with pytest.raises(tg.TraceError, match=words):
        tg.trace(program)(np.ones(2))


@pytest.mark.parametrize(
    ("program", "kind", "words"),
    [
        (lambda x: np.polyfit(x, x, 1, full=True), tg.UnsupportedError, "full= and cov="),
        (lambda x: np.polyint(x, -1), ValueError, "must be positive"),
        (lambda x: np.polyint(x, 3, k=[1.0, 2.0]), ValueError, "k must be a scalar"),
        (lambda x: np.linalg.outer(x[None], x), ValueError, "must be one-dimensional"),
    ],
)
def test_wrong_options(program: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        tg.trace(program)(np.arange(5.0))
