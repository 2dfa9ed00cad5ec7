"""Indexing and in-place writes against NumPy: keys, aliasing, guards, bounds, memory, errors.

Derivatives of the samples beside the ops are checked by test_ops; here are the rules of NumPy that
need more than one statement, and the promises that NumPy knows nothing of.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tracegrad as tg
from tests import oracle
from tracegrad.function import Function

X = np.random.default_rng(0).normal(size=(5, 4, 3))
I = np.array([0, 2, -1, 2])  # noqa: E741
MASK = np.array([True, False, True, True])

KEYS: list[Any] = [
    0, -1, np.int32(2), np.array(1), (), Ellipsis, None, slice(None),
    slice(1, None), slice(None, -1), slice(-3, None), slice(-9, 9), slice(9, None), slice(3, 1),
    slice(None, None, 2), slice(None, None, -1), slice(4, 1, -2), slice(None, -9, -3),
    slice(-1, 0, -1), (Ellipsis, 0), (0, Ellipsis, 1), (1, 2, 0), (slice(None), None, 1, None),
    (slice(1, 3), slice(None, None, -2), -1), (slice(0, 0), I[:0]),
    I, [0, 1], [], np.array([3], np.uint8), (slice(None), I[:2]), (I, I), (I[:, None], I[None, :2]),
    (0, slice(None), I[:2]), (I, slice(None), I[1:2]), (slice(None), 0, I[:2]),
    (slice(1, None), [0, 1, 1], None, 0), (I[:2], Ellipsis, None, 1),
    MASK.repeat(2)[:5], (slice(None), MASK), (X > 0), (X[:, :, 0] > 0), (MASK.repeat(2)[:5], 0),
    (X[:, :, 0] > 9, slice(None, None, 2)), (slice(1, 4), MASK, [0, 1, 2]),
]  # fmt: skip


def assert_as_numpy(program: Callable[..., Any], *args: Any) -> None:
    """The traced program gives what NumPy does, bit for bit."""
    wanted = oracle.flat(program(*(np.copy(x) for x in args)))
    for mine, want in zip(oracle.interpreted(program, *args), wanted, strict=True):
        oracle.assert_exact(mine, want, str(program))


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_read_and_write(key: Any) -> None:
    def program(x: Any) -> Any:
        y = x * 1.5
        part = y[key]
        y[key] = part * 2
        z = np.zeros_like(x)
        z[key] = 7
        z[key] += x[key]
        return part, y, z

    assert_as_numpy(program, X)


def test_compiled_reads_and_writes() -> None:
    """Every third key in one compiled program."""
    keys = KEYS[::3]

    def program(x: Any) -> Any:
        total = np.zeros_like(x)
        for key in keys:
            y = x * 1.5
            y[key] = np.sin(x[key])
            total = total + y * np.sum(x[key])
        return total

    (got,) = oracle.compiled(program, X)
    oracle.assert_similar(got, program(X), 64)


spans = st.one_of(
    st.none(),
    st.integers(-5, 5),
    st.just(Ellipsis),
    st.slices(6),
    hnp.arrays(np.int64, st.integers(0, 3), elements=st.integers(-3, 2)),
    hnp.arrays(np.int64, (2, 1), elements=st.integers(-3, 2)),
    hnp.arrays(np.bool_, 3),
)


@settings(max_examples=300, deadline=None)
@given(key=st.lists(spans, max_size=4).map(tuple))
def test_any_key(key: tuple[Any, ...]) -> None:
    """Random keys: the result of NumPy, or an IndexError where NumPy raises one."""
    x = np.arange(27.0).reshape(3, 3, 3)
    if sum(part is Ellipsis for part in key) > 1:
        return

    def program(x: Any) -> Any:
        y = x * 1.0
        y[key] = -1.0
        return x[key], y

    try:
        program(x)
    except IndexError:
        with pytest.raises(IndexError):
            oracle.interpreted(program, x)
        return
    assert_as_numpy(program, x)


def traced_arrays(x: Any, i: Any, j: Any) -> Any:
    y = x * 1.0
    y[i] += 1.0
    y[:, j] = x[0, j]
    y[i[0]] *= 2.0
    row = y[j[1]]
    row += 5.0
    return x[i], x[i, j], x[:, j], x[i[:, None], :, j[:2]], x[i[0]], x[i[1], 1:], x[1, i, j[0]], y


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, np.uint64])
def test_index_arrays_that_are_arguments(dtype: Any) -> None:
    i = np.array([0, 2, 1, 2]).astype(dtype)
    j = (np.array([1, -1, 0, -2]) % (3 if np.dtype(dtype).kind == "u" else 100)).astype(dtype)
    j = np.where(j > 2, 0, j).astype(dtype)
    assert_as_numpy(traced_arrays, X[:3, :3], i, j)


def test_index_arrays_compiled() -> None:
    i, j = np.array([0, 2, 1, 2]), np.array([1, -1, 0, -2])
    for got, want in zip(
        oracle.compiled(traced_arrays, X[:3, :3], i, j), traced_arrays(X[:3, :3], i, j), strict=True
    ):
        oracle.assert_exact(got, want)


def test_repeated_indices() -> None:
    """Reading accumulates in the gradient, writing keeps the last value, also in the gradient."""
    i = np.array([1, 0, 1, 1])
    v = np.array([1.0, 2.0, 3.0, 4.0])

    def read(x: Any, i: Any) -> Any:
        return np.sum(x[i] * v)

    def write(v: Any, i: Any) -> Any:
        y = np.zeros_like(v)
        y[i] = v
        return np.sum(y * np.array([10.0, 20.0, 30.0, 40.0]))

    np.testing.assert_array_equal(tg.grad(read)(np.zeros(3), i), [2.0, 8.0, 0.0])
    np.testing.assert_array_equal(tg.grad(write)(v, i), [0.0, 10.0, 0.0, 20.0])
    constant = i
    np.testing.assert_array_equal(tg.grad(lambda v: write(v, constant))(v), [0.0, 10.0, 0.0, 20.0])


def test_out_of_bounds() -> None:
    """Constants are refused while tracing, computed indices by the compiled code, both ways."""
    x = np.arange(6.0).reshape(2, 3)
    f = tg.trace(lambda x, i: x[0, i])
    np.testing.assert_array_equal(f(x, np.array([0, -3, 2])), [0.0, 0.0, 2.0])
    for bad in (3, -4, 10**12, -(2**63)):
        with pytest.raises(IndexError, match="out of bounds for axis"):
            f(x, np.array([0, bad]))
    assert f(x, np.array([], dtype=np.int64)).shape == (0,)
    with pytest.raises(IndexError, match="out of bounds for axis"):
        tg.grad(lambda x, i: np.sum(x[i] ** 2))(x, np.array([2]))
    for key in (2, -3, (0, 3), [0, 2], (slice(None), [0, -4])):
        with pytest.raises(IndexError) as numpy_error:
            _ = x[key]
        with pytest.raises(IndexError, match=re.escape(str(numpy_error.value))):
            tg.trace(lambda x, key=key: x[key])(x)


def writes_through_views(x: Any) -> Any:
    y = x * 1.0
    same = y
    same[0] = 1.0
    inner = y[1:, ::2][::-1]
    inner[0, 0] = 50.0
    inner *= 2.0
    column = y.T[1]
    column -= 3.0
    flat = y.reshape(-1)
    flat[-1] = 99.0
    scalar = y[1, 1]
    y[1, 1] = -1.0
    scalar += 1.0
    row = y[2]
    before = row + 0.0
    y[2] = y[1] + y[0]
    y[1:] = y[:-1] * 2.0
    y[::-1, 0] = y[:, 0]
    assert same is y
    return y, inner, column, flat, scalar, row, before


def test_writes_through_views() -> None:
    x = np.arange(12.0).reshape(4, 3)
    assert_as_numpy(writes_through_views, x)
    got = oracle.compiled(writes_through_views, x)
    for mine, want in zip(got, writes_through_views(x), strict=True):
        oracle.assert_exact(mine, want)


regions = st.tuples(st.slices(4), st.slices(3))


@st.composite
def writes(draw: Any) -> Any:
    """A program of writes into slices of an array, and of looks at them that may come later."""
    return draw(
        st.lists(
            st.tuples(st.sampled_from(["set", "add", "copy", "look", "late"]), regions, regions),
            min_size=1,
            max_size=6,
        )
    )


def written(steps: Any, x: Any) -> Any:
    y = x * 2.0
    seen: list[Any] = []
    for number, (kind, here, there) in enumerate(steps):
        if kind == "set":
            y[here] = number + 10.0
        elif kind == "add":
            y[here] += number + 0.5
        elif kind == "copy" and np.shape(y[here]) == np.shape(y[there]):
            y[here] = y[there] * 3.0
        elif kind == "look":
            seen.append(np.sum(y[here]))
        elif kind == "late":
            seen.append(y[here] * 5.0)
    return [y, *seen]


@settings(max_examples=100, deadline=None)
@given(steps=writes())
def test_random_writes(steps: Any) -> None:
    assert_as_numpy(lambda x: written(steps, x), np.arange(12.0).reshape(4, 3))


def test_random_writes_compiled() -> None:
    """In what order ever memory is written and read, the compiled program does as NumPy."""
    rng = np.random.default_rng(3)
    bounds = [None, 0, 1, 2, -1]

    def span() -> slice:
        start, stop = (bounds[number] for number in rng.integers(0, len(bounds), 2))
        return slice(start, stop, (None, None, -1, 2)[rng.integers(0, 4)])

    kinds = ("set", "add", "copy", "copy", "look", "late")
    programs = [
        [(kinds[rng.integers(0, 6)], (span(), span()), (span(), span())) for _ in range(6)]
        for _ in range(10)
    ]

    def program(x: Any) -> Any:
        return [written(steps, x) for steps in programs]

    x = np.arange(12.0).reshape(4, 3)
    for mine, want in zip(oracle.compiled(program, x), oracle.flat(program(x)), strict=True):
        oracle.assert_exact(mine, want)


def test_dtypes_of_writes() -> None:
    """Assignment converts as NumPy does; in-place operators keep the kind of number."""

    def program(x: Any) -> Any:
        y = np.zeros_like(x, dtype=np.int32)
        y[0] = 2.7
        y[1:] = x[1:]
        y[0] += 3
        return y

    assert_as_numpy(program, np.array([1.0, -2.6, 3.9]))

    def loses(x: Any) -> Any:
        y = np.zeros_like(x, dtype=np.int64)
        y += x
        return y

    for wrong in (loses, lambda x: np.add(x, x, out=np.zeros_like(x, dtype=np.int64))):
        with pytest.raises(TypeError):
            wrong(np.ones(2))
        with pytest.raises(TypeError):
            tg.trace(wrong)(np.ones(2))


def functions_that_write(x: Any) -> Any:
    y = x * 2.0
    np.add.at(y, ([0, 0, 1], [1, 1, 2]), x[0, 0])
    np.subtract.at(y, 2, 1.0)
    np.copyto(y, 1.5, where=y > 3)
    np.put(y, [0, -1], [7.0, 8.0])
    np.putmask(y, y < -1, 0.0)
    np.put_along_axis(y, np.array([[0], [1], [2], [0]]), 4.0, axis=1)
    np.multiply(y, 2.0, out=y)
    np.add(y[0], 1.0, out=y[1])
    y[np.ix_([0, 2], [1, 2])] -= 1.0
    return y


def test_functions_that_write() -> None:
    assert_as_numpy(functions_that_write, X[:4, 0])


def test_masks() -> None:
    def program(x: Any) -> Any:
        y = x * 1.0
        y[x > 0.5] = 0.0
        y[x[:, 0] < 0] = x[0]
        y[:, x[0] < 0] = 9.0
        y[..., 1][x[:, 1] > 0] = -1.0
        return y

    assert_as_numpy(program, X[:, 0])


def test_writing_into_an_argument() -> None:
    def directly(x: Any) -> None:
        x[0] = 1.0

    def through_a_view(x: Any) -> None:
        y = x[1:].T
        y *= 2.0

    for function in (directly, through_a_view):
        with pytest.raises(TypeError, match=r"writes into its argument x.*x.copy\(\)"):
            tg.trace(function)(np.ones((2, 2)))


def test_errors() -> None:
    cases: list[tuple[Callable[..., Any], type[Exception], str]] = [
        (lambda x: x[0, 0, 0], IndexError, "too many indices for array: array is 2-dimensional"),
        (lambda x: x[..., ..., 0], IndexError, "single ellipsis"),
        (lambda x: x[1.0], IndexError, "only integers, slices"),
        (lambda x: x[x], IndexError, "only integers, slices"),
        (lambda x: x[::0], ValueError, "slice step cannot be zero"),
        (lambda x: x[: np.argmax(x) : -1], TypeError, "slice with a negative step"),
        (lambda x: x[np.array([True, False, True])], IndexError, "boolean index did not match"),
        (lambda x: np.put(x.copy(), [0], x), ValueError, "could not broadcast"),
        (lambda x: x.copy().__setitem__(0, np.ones(3)), ValueError, "could not broadcast"),
        (lambda x: np.take(x, 0, axis=2), ValueError, "axis 2 is out of bounds"),
    ]
    for program, error, words in cases:
        with pytest.raises(error, match=words):
            tg.trace(program)(np.ones((2, 2)))


def test_one_version_for_ordinary_sizes() -> None:
    """Slices guard only against arrays that are too short for them."""

    def program(x: Any) -> Any:
        n = x.shape[0]
        half = x[: n // 2].sum() + x[n // 2 :].sum()
        return (
            half + (x[1:] - x[:-1]).sum() + x[::2].sum() + x[::-1][0] + x[n - 1] + x[[0, 1]].sum()
        )

    f = tg.trace(program)
    for size in (7, 2, 30, 3):
        x = np.arange(float(size))
        np.testing.assert_allclose(f(x), program(x))
    assert len(f.versions) == 1
    assert [str(guard) for guard in f.versions[0].graph.guards] == ["1 < n"]
    with pytest.raises(IndexError):
        f(np.ones(1))


def test_sizes_in_python() -> None:
    """Arithmetic of extents as Python has it; what needs the number pins it."""

    def program(x: Any) -> Any:
        n, m = x.shape
        numbers = [
            n + 1, 2 - n, n * m, n // 2, 7 // n, n % 3, 8 % n, -n, abs(-n), n**2, 2**n, n**-1,
            n / m, 1 / n, n * 0.5, n - np.int64(1), np.int32(3) * n, divmod(n, 3)[1],
            divmod(9, n)[0], min(n, m), max(n, m, 3), n & 1, n << 1, np.sqrt(n), round(n / m),
            len(x), np.size(x), np.ndim(x), np.shape(x)[1], x.size, len(f"{n:>4}"),
            n == 4, n != 4, n > m, n in (3, 4), len({n, n, m}), float(n), int(np.sqrt(m + 3)),
        ]  # fmt: skip
        return [x[0, 0] * number for number in numbers]

    assert_as_numpy(program, np.full((4, 6), 2.0))


def test_integer_arithmetic_of_sizes_stays_symbolic() -> None:
    f = tg.trace(lambda x: np.sum(x[: (x.shape[0] + np.int64(1)) // 2]) * x.shape[0])
    for size in (4, 5, 9, 0, 1):
        x = np.ones(size)
        assert f(x) == (size + 1) // 2 * size
    assert len(f.versions) == 1


def element_by_element(x: Any) -> Any:
    y = np.zeros_like(x)
    for i in range(x.shape[0]):
        y[i] = x[i] * (2.0 + (y[i - 1] if i else 0.0))
    return y


def test_loops_of_writes_are_linear() -> None:
    """As many arrays for any number of elements, and a statement for each or a loop: in the value
    and in the gradient."""
    counts, arrays = [], []
    for size in (10, 20, 40):
        version, _ = Function(element_by_element).version_for((np.ones(size),), {})
        both = tg.value_and_grad(lambda x: np.sum(element_by_element(x)))
        gradient, _ = both.version_for((np.ones(size),), {})
        sources = [str(v.primal.module) for v in (version, gradient)]
        arrays.append([text.count("Alloc(") for text in sources])
        counts.append([text.count("Store(") + text.count("Accumulate(") for text in sources])
    (a, b, c), (d, e, g) = zip(*counts, strict=True)
    assert arrays[0] == arrays[1] == arrays[2]
    assert c - b == 2 * (b - a) and g - e == 2 * (e - d)


def test_a_base_that_is_still_needed_is_copied() -> None:
    def program(x: Any) -> Any:
        y = x * 2.0
        old = y.copy()
        y[0] = 1.0
        return np.sum(old * y), old, y

    got = oracle.compiled(program, np.arange(4.0))
    for mine, want in zip(got, program(np.arange(4.0)), strict=True):
        oracle.assert_exact(mine, want)


@pytest.mark.parametrize(
    ("program", "open_size"),
    [
        (lambda x: np.sum(np.cos(1.0 + np.arange(x.shape[0])) * x), True),
        (lambda x: np.linspace(0, 1, x.shape[0]) * x, False),
        (lambda x: np.zeros(x.shape) + x, True),
        (lambda x: np.prod(x.shape) * x, True),
        (lambda x: x.reshape(np.prod(x.shape[:1]), -1), True),
        (lambda x: x / np.sqrt(x.shape[0]), True),
    ],
)
def test_extents_in_numpys_own_functions(program, open_size) -> None:
    """Arrays of numbers where NumPy makes arrays of them; what can stay symbolic does."""
    f, x = tg.trace(program), np.arange(3.0)
    found = f(x)
    np.testing.assert_allclose(found, program(x))
    assert np.asarray(found).dtype == np.asarray(program(x)).dtype
    assert (not f.versions[0].guards) == open_size


def test_an_element_is_read_again_after_a_loop_over_all() -> None:
    """`v[0]` is a number before the loop that has all of `v`, and after it still the same one."""

    def f(x):
        v = x * x
        return np.cumprod(v[1:])[-1] * v[0] + np.cumsum(v[1:] + v[1:])[-1] * (v + v)[0]

    x = np.array([0.3, 0.7, 1.1])
    np.testing.assert_allclose(tg.trace(f)(x), f(x), rtol=1e-14)

    def combined(x):
        return np.sum(tg.associative_scan(lambda a, b: a * b, x * x))

    _, slope = tg.jvp(combined, (x,), (x,))  # products of 1, 2, 3 squares
    np.testing.assert_allclose(slope, np.cumprod(x * x) @ [2.0, 4.0, 6.0], rtol=1e-14)


@pytest.mark.parametrize("axis", [None, 0])
def test_take_reads_bools_as_places(axis: int | None) -> None:
    x, places = np.arange(6.0).reshape(3, 2), np.array([True, False, True, True])
    taken = tg.trace(lambda x, places: np.take(x, places, axis=axis))
    np.testing.assert_array_equal(taken(x, places), np.take(x, places, axis=axis))
