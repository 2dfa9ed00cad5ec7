"""Python's control flow on traced values: `tg.range`, and `python_control_flow=True`."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tracegrad as tg

RNG = np.random.default_rng(11)
X = RNG.uniform(0.3, 1.4, 5)


def recurrence(x: Any) -> Any:
    s, out = 0.0, tg.zeros(x.shape[0])
    for i in tg.range(x.shape[0]):
        t = np.sin(x[i])
        s = s * 0.5 + t
        out[i] = s
    return np.sum(out) + s


def backwards(x: Any) -> Any:
    n, s = x.shape[0], x[0] * 0
    for i in tg.range(n - 1, 0, -2):
        s = s * x[i] + x[i - 1]
    return s


def vector_from_number(x: Any) -> Any:
    s = 1
    for i in tg.range(3):
        s = s * x + x[i]
    return np.sum(s)


def nested(x: Any) -> Any:
    total = 0.0
    for i in tg.range(x.shape[0]):
        row = 1.0
        for j in tg.range(i):
            row = row * x[j]
        total += row * x[i]
    return total


def first_set_inside(x: Any) -> Any:
    for i in tg.range(x.shape[0]):
        last = x[i] * x[0]
    return last * i  # pyright: ignore


def through_a_view(x: Any) -> Any:
    out = np.zeros_like(x)
    middle = out[1:]
    for i in tg.range(3):
        middle += x[i] * x[1:]
        out[0] += x[i]
    return np.sum(out * out)


def dictionary(x: Any) -> Any:
    state = {"a": x[0], "b": 0.0}
    other = state
    for i in tg.range(x.shape[0]):
        state["a"] = state["a"] * x[i]
        state["b"] += state["a"]
    return other["a"] * other["b"]


def computed_bound(x: Any) -> Any:
    s = x[0]
    for i in tg.range(np.sum(x > 0.5)):
        s = s + x[i] * i
    return s


def plain_array(x: Any) -> Any:
    out = np.zeros(5)
    for i in tg.range(5):
        out[i] = x[i] ** 2
    return np.sum(out**2)


@pytest.mark.parametrize(
    "program",
    [
        recurrence, backwards, vector_from_number, nested, first_set_inside, through_a_view,
        dictionary, computed_bound, plain_array,
    ],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_range(program: Callable[..., Any]) -> None:
    check(tg.trace(program), program)


def check(traced: Any, program: Callable[..., Any], x: np.ndarray = X) -> None:
    """Value, both modes, second order, against the same program run by Python."""
    expected = program(x)
    np.testing.assert_allclose(traced(x), expected, rtol=1e-12)
    step = 1e-6
    slope = np.array(
        [(program(x + step * d) - program(x - step * d)) / (2 * step) for d in np.eye(len(x))]
    )
    gradient = traced.grad(x)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-7)
    direction = np.linspace(-1, 1, len(x))
    tangent = tg.jvp(traced, (x,), (direction,))[1]
    np.testing.assert_allclose(tangent, gradient @ direction, rtol=1e-10, atol=1e-12)
    second = tg.grad(lambda x: np.sum(traced.grad(x) * direction))(x)
    expected = (traced.grad(x + 1e-5 * direction) - traced.grad(x - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose(second, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(traced.dump(x, which="primal").function()(x), program(x), rtol=1e-12)


def test_one_version_and_constant_source_for_all_lengths() -> None:
    traced = tg.trace(recurrence)
    for size in (2, 5, 900):
        x = RNG.normal(size=size)
        np.testing.assert_allclose(traced(x), recurrence(x), rtol=1e-12)
    assert len(traced.versions) == 1


def test_range_is_range_outside_of_a_trace() -> None:
    assert list(tg.range(3)) == [0, 1, 2]
    assert list(tg.range(5, 0, -2)) == [5, 3, 1]
    assert len(tg.range(2, 9, 3)) == 3
    with pytest.raises(ValueError, match="must not be zero"):
        tg.range(1, 2, 0)
    with pytest.raises(TypeError):
        tg.range(1.5)


def absolute(x: Any) -> Any:
    if x[0] > 1:
        return np.sum(x)
    elif x[1] > 1 and x[2] > 0.2:  # noqa: RET505
        y = np.sum(x) * 2
    else:
        y = x[0]
    return y * x[3]


def sides_write(x: Any) -> Any:
    out, count = np.zeros_like(x), 0
    for i in range(x.shape[0]):
        if x[i] > 0.8:
            out[i] = x[i] ** 2
            count += 1
        else:
            out[i] -= x[i]
    return np.sum(out * out) + count


def early(x: Any) -> Any:
    y = 1.0
    while y < 100:
        for i in range(x.shape[0]):
            if x[i] < 0.1:
                return y
            if x[i] > 1.2:
                continue
            y = y + x[i] * y
            if y > 50:
                break
        else:
            y = y * 1.5
        if not y > 3 or y > 90:
            break
    return y * x[0]


def bisection(x: Any) -> Any:
    low, high = x[0] * 0, x[0] + 3
    for _ in range(60):
        middle = (low + high) / 2
        if middle * middle > x[1]:
            high = middle
        else:
            low = middle
        if high - low < 1e-14:
            break
    root = (low + high) / 2
    return (root + x[1] / root) / 2  # a Newton step: bisection itself has no derivative


def expressions(x: Any) -> Any:
    a = x[0] if 0 < x[1] < 1 <= x[2] + 1 else -x[0]
    b = x[3] if x[1] > 5 or not x[0] > 2 else 0.0
    inner = lambda t: t * t if t > 0.5 else t  # noqa: E731
    return a * b + inner(x[4])


def rows(x: Any) -> Any:
    total = 0.0
    for i, (a, b) in enumerate(zip(x, x[1:])):  # noqa: B905, RUF007
        if a < b:
            total += i * a
        else:
            total = total * b
    for a in reversed(x):
        total = total + a * a
    return total


def while_with_arrays(x: Any) -> Any:
    y, steps = x.copy(), 0
    while np.sum(y) < 100:
        y = y * 1.5
        y[0] += 1
        steps += 1
    return np.sum(y) * steps


def static(x: Any) -> Any:
    total, label = 0.0, None
    for k in range(3):
        if k == 1:
            continue
        label = label or "first"
        total = total + x[k] if label == "first" else total
    assert label == "first"
    return total


PROGRAMS = [
    absolute, sides_write, early, bisection, expressions, rows, while_with_arrays, static,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_python_control_flow(program: Callable[..., Any]) -> None:
    if program is bisection:
        traced = tg.trace(program, python_control_flow=True)
        np.testing.assert_allclose(traced(X), np.sqrt(X[1]), rtol=1e-12)
        return
    check(tg.trace(program, python_control_flow=True), program)


@pytest.mark.parametrize("seed", range(6))
def test_all_paths(seed: int) -> None:
    x = np.random.default_rng(seed).uniform(0.05, 1.6, 5)
    for program in PROGRAMS:
        traced = tg.trace(program, python_control_flow=True)
        np.testing.assert_allclose(traced(x), program(x), rtol=1e-12)


class Model:
    def __init__(self, k: float) -> None:
        self.__k = k

    @tg.trace(python_control_flow=True)
    def grow(self, x: Any, *, most: float = 10.0) -> Any:
        """Doubles."""
        while x < most:
            x = x * self.__k
        return x


class Twice(Model):
    @tg.trace(python_control_flow=True)
    def grow(self, x: Any, *, most: float = 10.0) -> Any:
        if x > 0:  # noqa: SIM108
            y = super().grow(x, most=most)
        else:
            y = x
        return 2 * y


def test_methods_closures_and_defaults() -> None:
    assert Model(2.0).grow(3.0) == 12.0
    assert Model(2.0).grow(3.0, most=20.0) == 24.0
    assert Twice(2.0).grow(3.0) == 24.0
    assert Twice(2.0).grow(-3.0) == -6.0
    scale = 3.0

    @tg.trace(python_control_flow=True)
    def scaled(x: Any, power: int = 2) -> Any:
        return scale * x**power if x > 0 else x

    assert scaled(2.0) == 12.0
    assert scaled(2.0, power=3) == 24.0
    assert scaled(-2.0) == -2.0
    choose = tg.trace(lambda x: x if x > 0 else -x, python_control_flow=True)
    assert choose(-2.0) == 2.0
    assert tg.grad(choose)(-2.0) == -1.0


def test_a_decorated_function() -> None:
    def logged(f: Callable[..., Any]) -> Callable[..., Any]:
        import_name = f.__name__

        def wrapper(*args: Any) -> Any:
            assert import_name == "inner"
            return f(*args) + 1

        wrapper.__wrapped__ = f  # type: ignore[attr-defined]
        return wrapper

    @tg.trace
    @logged
    def inner(x: Any) -> Any:
        s = 0.0
        for i in tg.range(x.shape[0]):
            s += x[i]
        return s

    np.testing.assert_allclose(inner(X), X.sum() + 1)


def test_notebook_cells_and_missing_source() -> None:
    text = "def f(x):\n    if x > 0:\n        return x\n    return -2 * x\n"
    space: dict[str, Any] = {}
    exec(compile(text, "<ipython-input-7>", "exec"), space)
    with pytest.raises(tg.TraceError, match="needs the source of f"):
        tg.trace(space["f"], python_control_flow=True)(1.0)
    linecache.cache["<ipython-input-7>"] = (len(text), None, [*text.splitlines(True)], "cell")  # type: ignore[assignment]
    assert tg.trace(space["f"], python_control_flow=True)(-1.0) == 2.0


def helper(x: Any) -> Any:
    s = 0.0
    for i in tg.range(3):
        s = s + x[i]
    return s


HELPERS = [helper]


def calls_helper(x: Any) -> Any:
    return HELPERS[0](x)


def grows(x: Any) -> Any:
    for _ in tg.range(3):
        x = np.concatenate([x, x])
    return x


def appends(x: Any) -> Any:
    ys: list[Any] = []
    for i in tg.range(3):
        ys.append(x[i] + len(ys))
    return np.stack(ys)


def breaks(x: Any) -> Any:
    for _ in tg.range(3):
        if x.shape[0] == 2:
            break
    return x


def one_side(x: Any) -> Any:
    if x[0] > 0:
        t = x
    return t


def two_shapes(x: Any) -> Any:
    if x[0] > 0:
        return x
    return x[0]


def none_or_array(x: Any) -> Any:
    y = None
    if x[0] > 0:
        y = x
    return y


def sets_attribute(x: Any) -> Any:
    holder = Model(1.0)
    while x[0] < 3:
        holder.value = x  # type: ignore[attr-defined]
        x = x + 1
    return x


def array_condition(x: Any) -> Any:
    if x > 0:
        x = x * 2
    return x


@pytest.mark.parametrize(
    ("program", "message", "line"),
    [
        (calls_helper, "decorate helper with @tg.trace", "for i in tg.range(3):"),
        (grows, "x changes from f64\\[5\\]|x changes from f64\\[10\\]", "for _ in tg.range(3):"),
        (appends, "the list ys changes its length", "for i in tg.range(3):"),
        (breaks, "break in a loop over tg.range", "break"),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_errors_of_range(program: Callable[..., Any], message: str, line: str) -> None:
    with pytest.raises(tg.TraceError, match=message) as caught:
        tg.trace(program)(X)
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("program", "message", "line"),
    [
        (one_side, "t gets a value on one side", "if x[0] > 0:"),
        (two_shapes, "returns f64\\[5\\] or f64,", "if x[0] > 0:"),
        (none_or_array, "y is f64\\[5\\] on one side .* None on the other", "if x[0] > 0:"),
        (sets_attribute, "holder.value is set in a while loop", "while x[0] < 3:"),
        (array_condition, "the condition is an array, f64|bool", "if x > 0:"),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_errors_of_branches(program: Callable[..., Any], message: str, line: str) -> None:
    with pytest.raises(tg.TraceError, match=message) as caught:
        tg.trace(program, python_control_flow=True)(X)
    assert line in str(caught.value)


def test_without_it_the_error_says_so() -> None:
    with pytest.raises(tg.TraceError, match="python_control_flow=True"):
        tg.trace(absolute)(X)


def stencil(x: Any) -> Any:
    n, m = x.shape
    out = np.zeros_like(x)
    for i in tg.range(1, n):
        for j in tg.range(1, m):
            out[i, j] = 0.5 * out[i - 1, j] + x[i, j] * out[i, j - 1] + x[i - 1, j - 1]
    return np.sum(out)


def filtered(x: Any) -> Any:
    out = np.zeros_like(x)
    for i in range(x.shape[0]):
        if x[i] > 0:
            out[i] = x[i] ** 2
        else:
            out[i] -= x[i]
    return np.sum(out * out)


def test_loops_write_in_place_without_checks_or_copies() -> None:
    """One array for the result, none per step, no copy of it, no check of indices that count."""
    f = tg.trace(stencil)
    x = RNG.normal(size=(4, 5))
    np.testing.assert_allclose(f(x), stencil(x))
    direction = RNG.normal(size=(4, 5))
    slope = (stencil(x + 1e-6 * direction) - stencil(x - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(np.sum(f.grad(x) * direction), slope, rtol=1e-6)
    text = str(f.source(x, which="primal"))
    assert text.count("np.empty") == 1
    assert "in_bounds" not in text
    gradient = str(f.grad.source(x))
    assert "in_bounds" not in gradient
    assert "np.empty((n - 1, m - 1, n, m))" not in gradient  # the array of every step
    g = tg.trace(filtered, python_control_flow=True)
    y = RNG.normal(size=6)
    np.testing.assert_allclose(g(y), filtered(y))
    assert str(g.source(y, which="primal")).count("np.empty") == 1


def test_an_index_that_may_leave_the_array_is_checked() -> None:
    @tg.trace
    def shifted(x: Any) -> Any:
        s = 0.0
        for i in tg.range(x.shape[0]):
            s += x[i + 1]
        return s

    with pytest.raises(IndexError):
        shifted(np.ones(3))


def test_numbers_are_immutable() -> None:
    """`+=` on a number gives its variable a new one: another name keeps the old one."""

    def f(x: Any, t: Any) -> Any:
        old = total = np.sum(x)
        for i in range(2):
            previous = total
            total += x[i]
            t *= 2.0
        return old, previous, total, t

    x = np.array([1.0, 2.0, 4.0])
    for run in (tg.trace(f), tg.trace(python_control_flow=True)(f)):
        assert run(x, 0.5) == f(x, 0.5) == (7.0, 8.0, 10.0, 2.0)
        assert run(x, np.float64(0.5)) == f(x, 0.5)


def collected(x: Any) -> Any:
    ys, total = [x[0] * 0], 0.0
    for i in tg.range(x.shape[0]):
        total = 0.5 * total + np.sin(x[i])
        ys.append(total)
    ys.append(x[-1])
    return np.sum(np.stack(ys) ** 2)


def in_rows(x: Any) -> Any:
    rows = []
    for i in tg.range(x.shape[0]):
        columns = []
        for j in tg.range(x.shape[0]):
            columns.append(np.sin(x[i]) * x[j])
        rows.append(np.stack(columns))
    return np.sum(np.stack(rows, axis=1)[0] ** 2) + np.sum(np.concatenate(rows))


def comprehended(x: Any) -> Any:
    return np.sum(np.stack([x[i] * np.sin(x) for i in tg.range(x.shape[0])]) ** 2)


def taken(x: Any) -> Any:
    ys = []
    for i in tg.range(3):
        ys.append(x * i)
    later = ys + [x]  # noqa: RUF005
    return sum(ys[1:]) @ ys[-1] + len(ys) * np.sum(later[3]) + np.sum(np.sum(ys, axis=0))


@pytest.mark.parametrize("program", [collected, in_rows, comprehended, taken])
def test_lists_grow(program: Callable[..., Any]) -> None:
    """What each step appends is stacked: values as Python's, derivatives in both modes."""
    f = tg.trace(program)
    for x in (X, X[:3]):
        np.testing.assert_allclose(f(x), program(x), rtol=1e-14)
    tg.testing.check_grads(f, (X,), order=2)


def test_what_a_list_holds_behind_a_loop() -> None:
    @tg.trace
    def listed(x: Any) -> Any:
        ys = []
        for i in tg.range(x.shape[0]):
            ys.append(x[i] ** 2)
        return ys

    found = listed(X)
    assert type(found) is list
    np.testing.assert_array_equal(found, X**2)

    @tg.trace(python_control_flow=True)
    def open_length(x: Any) -> Any:
        ys = []
        for v in x[x > 1]:
            ys.append(2 * v)
        ys.extend([x[0], x[1]])
        return np.stack(ys)

    np.testing.assert_array_equal(open_length(X), [*(2 * X[X > 1]), *X[:2]])

    @tg.trace
    def drawn(x: Any, rng: Any) -> Any:
        ys = []
        for i in tg.range(x.shape[0]):
            ys.append(x[i] + rng.normal())
        return np.stack(ys)

    np.testing.assert_array_equal(
        drawn(X, np.random.default_rng(3)), X + np.random.default_rng(3).normal(size=5)
    )


def sorted_(x: Any) -> Any:
    ys = []
    for i in tg.range(3):
        ys.append(x[i])
    ys.sort()
    return ys


def trajectory(x: Any) -> Any:
    path, v = [(x, np.cos(x))], np.cos(x)
    for _ in tg.range(4):
        v = v - 0.1 * np.sin(x)
        x = x + 0.1 * v
        path.append((x, v))
    a, b = path[2]
    return np.sum(np.array(path)[1:] ** 2), a, b, [np.sum(p * q) for p, q in path]


def several(x: Any) -> Any:
    ys = [x[0]]
    for i in tg.range(3):
        ys.append(x[i])
        ys.extend([x[i] ** 2, x[1] * i])
    return np.array(ys)


def of_an_inner_loop(x: Any) -> Any:
    ys = []
    for i in tg.range(3):
        for j in tg.range(2):
            ys.append(x[i] * x[j] ** 2)
        ys.append(x[i])
    return np.array(ys)


def rows(x: Any) -> Any:
    table = []
    for i in tg.range(3):
        row = []
        for j in tg.range(4):
            row.append((x[i % 3] * x[j % 3], x[i] + j))
        table.append(row)
    return np.array(table)[:, 1:], table[1][2][0]


def named(x: Any) -> Any:
    log = []
    for i in tg.range(3):
        x = np.sin(x) + i
        log.append({"x": x, "of": "a step", "sum": np.sum(x)})
    return np.stack([entry["x"] for entry in log]) * log[-1]["sum"]


@pytest.mark.parametrize("program", [trajectory, several, of_an_inner_loop, rows, named])
def test_items_of_several_arrays(program: Callable[..., Any]) -> None:
    x = np.array([0.3, -0.7, 1.1])
    plain = FunctionType(
        program.__code__, {**program.__globals__, "tg": SimpleNamespace(range=range)}
    )
    found, expected = leaves_of(tg.trace(program)(x)), leaves_of(plain(x.copy()))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)

    def total(x: Any) -> Any:
        return sum(np.sum(np.sin(y)) for y in leaves_of(tg.trace(program)(x)))

    tg.testing.check_grads(total, (x,), order=1)


def leaves_of(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves_of(item)]
    return [value]


def unlike(x: Any) -> Any:
    ys = [x[0]]
    for i in tg.range(3):
        ys.append((x[i], i))
    return ys


def written(x: Any) -> Any:
    ys, x = [], x.copy()
    for i in tg.range(3):
        x += i
        ys.append((i, x[1:]))
    return ys


def written_around(x: Any) -> Any:
    ys, x = [], x.copy()
    for i in tg.range(3):
        x += i
        for _ in tg.range(2):
            ys.append(x)
    return ys


def words(x: Any) -> Any:
    ys = []
    for _ in tg.range(3):
        ys.append("word")
    return ys, x


def by_another_name(x: Any) -> Any:
    ys = []
    other = ys
    for i in tg.range(3):
        ys.append(x[i])
    return np.stack(other)


def now_and_then(x: Any) -> Any:
    ys = []
    for i in tg.range(3):
        if x[i] > 0:
            ys.append(x[i])
    return ys


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (sorted_, "sort of a list that grew in a compiled loop"),
        (unlike, "with unlike items, an array or number and a tuple of 2"),
        (written, "an array that the loop writes in place is appended to the list ys"),
        (written_around, "an array that the loop writes in place is appended to the list ys"),
        (words, "a step of a compiled loop appends 'word' to the list ys"),
        (by_another_name, "Moved is not an array"),
        (now_and_then, "the list ys changes its length in an if"),
    ],
)
def test_lists_that_cannot_grow(program: Callable[..., Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        tg.trace(program, python_control_flow=True)(X)


def largest_gap(x: Any) -> Any:
    """Python's `min`, `max`, `any` and `all` on traced numbers, with a key, in loops."""
    worst = 0.0
    for i in range(1, len(x)):
        worst = max(worst, abs(x[i] - x[i - 1]), 0.1)
    near = min(x, key=lambda v: (v - 0.42) ** 2)
    if any(v > 1 for v in x) and not all(v > 0 for v in x):
        near = near * max(v for v in x[:2])
    return min(2, worst) * near + (max(3, 2) if all([]) else 0) + max([], default=0.0)


@pytest.mark.parametrize("x", [[0.3, -0.7, 1.2, 0.5], [0.3, 0.7, 0.2, 0.5], [0.5, 0.5, 0.5, 0.5]])
@pytest.mark.parametrize("rewritten", [True, False])
def test_builtins_that_compare(x: list[float], rewritten: bool) -> None:
    given = np.array(x)
    if rewritten:
        f = tg.trace(largest_gap, python_control_flow=True)
        assert np.isclose(f(given), largest_gap(given), rtol=1e-14)
        if len(set(x)) > 1:  # else at a kink
            tg.testing.check_grads(f, (given,), order=1)

    def small(x: Any, n: Any) -> Any:
        return min(x[0] * x[1], x[2], 3) + max(x) * min(x.shape[0], 2) + max(n, 2)

    assert np.isclose(tg.trace(small)(given, np.int64(7)), small(given, 7), rtol=1e-14)
    assert tg.grad(lambda a, b: min(a, b), argnums=(0, 1))(1.0, 1.0) == (1.0, 0.0)


def test_builtins_of_arrays_are_refused() -> None:
    with pytest.raises(tg.TraceError, match=r"condition is an array"):
        tg.trace(lambda x: max(x, 2 * x))(np.ones(3))


def test_a_loop_that_only_return_leaves() -> None:
    @tg.trace(python_control_flow=True)
    def first_sum_below(x: Any, limit: Any) -> Any:
        i, s = 0, 0.0
        while True:
            s += x[i] ** 2
            if s > limit:
                return s * 2
            i += 1
            if i == 5:
                return s

    x = np.arange(1.0, 6)
    assert first_sum_below(x, 4.0) == 10.0 and first_sum_below(x, 100.0) == 55.0
    np.testing.assert_allclose(first_sum_below.grad(x, 4.0), [4.0, 8.0, 0.0, 0.0, 0.0])


def test_a_condition_that_assigns() -> None:
    def walk(x: Any) -> Any:
        s, i = 0.0, 0
        while (step := x[i] * 0.5) < 1:
            i += 1
            if i == 3:
                break
            s += step
        else:
            s = s * 10 + step
        return s + step

    f = tg.trace(walk, python_control_flow=True)
    for x in (np.array([0.3, 0.6, 4.0, 1.0]), np.array([0.3, 0.6, 1.0, 1.0]), np.full(4, 3.0)):
        assert np.isclose(f(x), walk(x), rtol=1e-14)
        tg.testing.check_grads(f, (x,), order=1)


def most_pairs(n: int, s: Any) -> Any:
    """The most letters that pair with the next but none: a table filled from its diagonal on."""
    table = np.zeros((n, n))
    for i in range(n - 1, -1, -1):
        for j in range(i + 1, n):
            table[i, j] = max(table[i, j - 1], table[i + 1, j] if i + 1 < n else 0.0)
            if s[i] + s[j] == 3:
                table[i, j] += 1.0
            for k in range(i + 1, j):
                table[i, j] = np.maximum(table[i, j], table[i, k] + table[k + 1, j])
    return table


def test_nested_loops_with_branches_stay_loops() -> None:
    """Also where the loops are rewritten for their `if`: unrolled, these are 2,600 steps."""
    s = np.random.default_rng(0).integers(0, 4, 26)
    f = tg.trace(most_pairs, python_control_flow=True)
    np.testing.assert_array_equal(f(26, s), most_pairs(26, s))
    kept = [text for about, text in f.latest.graph.notes if about == "loops"]
    assert len(kept) == 3 and all("kept, since its steps are too many" in text for text in kept)


def fills(s: Any) -> Any:
    t, u = np.sin(np.arange(3.0)), np.zeros(3)
    if s > 0:
        t[0], u[0] = 9.0, 1.0
    else:
        u += 2.0
    return t * s + u


def adds(s: Any) -> Any:
    t = np.array([1.0, 2.0, 3.0])
    for k in range(3):
        if s > k:
            t += 0.5
        else:
            t[k:] = 7.0
    return t * s


@pytest.mark.parametrize("program", [fills, adds])
def test_branches_write_into_arrays_that_numpy_made(program: Any) -> None:
    """Both sides are traced: what one of them writes is not there if the other one runs."""
    f = tg.trace(program, python_control_flow=True)
    for s in (-2.5, 1.5, 5.5):
        np.testing.assert_allclose(f(s), program(s), rtol=1e-15)
        tg.testing.check_grads(f, (s,), order=1)


def by_a_view(s: Any) -> Any:
    t = np.arange(3.0)
    u = t[1:]
    if s > 0:
        u[0] = 9.0
    return t * s


def under_two_names(s: Any) -> Any:
    t = u = np.arange(3.0)
    while s > 0:
        t[0] += 9.0
        s -= 1.0
    return u * s


def in_a_call(s: Any) -> Any:
    t = np.arange(3.0)

    def put() -> Any:
        t[0] = 9.0
        return s

    return t * tg.cond(s > 0, put, lambda: s)


@pytest.mark.parametrize("program", [by_a_view, under_two_names, in_a_call])
def test_writes_of_a_branch_that_numpy_would_do_while_tracing(program: Any) -> None:
    f = tg.trace(program, python_control_flow=True)
    with pytest.raises(tg.TraceError, match="writes into a plain NumPy array from outside"):
        f(-2.0)
