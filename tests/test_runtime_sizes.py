"""Results whose size data decides on: `x[mask]`, `np.nonzero` and what is computed with them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tracegrad as tg

Program = Callable[..., Any]

RNG = np.random.default_rng(7)
X = RNG.normal(size=9)
X += 0.3 * np.sign(X)
A = RNG.normal(size=(9, 3))
W = RNG.normal(size=3)
Z = np.arange(9.0)

STEP = 1e-6
"""Central differences err by about STEP**2 + 1e-16 / STEP, times derivatives."""


def differences(f: Program, x: np.ndarray) -> np.ndarray:
    found = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += STEP
        down[index] -= STEP
        found[index] = (f(up) - f(down)) / (2 * STEP)
    return found


def written(x: Any) -> Any:
    y = x * 1.0
    y[y < 0] *= 0.1
    y[y > 0.5] += y[y > 0.5] ** 2
    return np.sum(y**2)


def assigned(x: Any) -> Any:
    y = x * 2.0
    y[x > 0] = np.sin(x[x > 0])[::-1]
    return np.sum(y**2)


def with_neighbours(x: Any) -> Any:
    y = x[x > 0]
    return np.sum((y[1:] - y[:-1]) ** 2) + np.sum(y[-3:] * y[:3][::-1]) + np.sum(y[1::2] ** 3)


def sized(x: Any) -> Any:
    y = x[x > 0]
    return np.sum(y) / y.shape[0] + y.size * np.sum(y * y) + np.sum(tg.arange(y.size) * y)


def joined(x: Any) -> Any:
    y, z = x[x > 0], x[x < 0]
    return np.sum(np.concatenate([y, z, y]) ** 2 * np.concatenate([z, y, np.zeros_like(y) + 2]))


def slopes(x: Any) -> Any:
    y, z = x[x > 0], np.cumsum(x[x > 0] + 3)
    ends = np.gradient(y, edge_order=2) ** 2 * np.diff(y, 2)[0]
    return np.sum(ends) + np.sum(np.gradient(y, z)) + np.trapezoid(y**2, np.sin(z))


def moved(x: Any) -> Any:
    y = x[x > 0]
    rolled = np.sum(np.roll(y, -7) * y**2) + np.sum(np.unwrap(9 * y) ** 2)
    halves = np.sum(np.array_split(y, 3)[1] ** 2) * np.sum(np.partition(y, 1)[:2])
    return rolled + halves + np.sum(np.diff(np.pad(y, 2, mode="reflect")) ** 2)


def convolved(x: Any) -> Any:
    y, kernel = x[x > 0], np.array([1.0, -2.0, 0.5])
    full = np.convolve(y, kernel * y[0])
    return np.sum(full**2) + np.sum(
        np.convolve(y, kernel, "same") * np.correlate(y, kernel, "same")
    )


PROGRAMS: dict[str, tuple[Program, np.ndarray]] = {
    "mean": (lambda x: np.mean(x[x > 0] ** 2), X),
    "one mask, two arrays": (lambda x: np.sum(x[x > 0.1] * np.sin(x)[x > 0.1]), X),
    "log": (lambda x: np.log(x[x > 0]).sum(), X),
    "extremes": (lambda x: np.max(x[x < 0]) * np.min(x[x < 0]), X),
    "neighbours": (with_neighbours, X),
    "size as a number": (sized, X),
    "concatenate": (joined, X),
    "moments": (lambda x: np.var(x[x > 0]) + np.std(x[x > 0], ddof=1), X),
    "outer": (lambda x: np.sum(x[x > 0][:, None] * np.sin(x[x < 0][None, :])), X),
    "cumsum": (lambda x: np.sum(np.cumsum(x[x > 0]) * x[x > 0]), X),
    "norm": (lambda x: np.linalg.norm(x[x > 0]), X),
    "first and last": (lambda x: x[x > 0][0] * x[x > 0][-1] ** 2, X),
    "softmax": (lambda x: np.sum((np.exp(x[x > 0]) / np.sum(np.exp(x[x > 0]))) ** 2), X),
    "written": (written, X),
    "assigned": (assigned, X),
    "places": (lambda x: np.sum(np.take(x * 2, np.flatnonzero(x > 0)) ** 2), X),
    "where": (lambda x: np.sum(x[np.where(x > 0)] ** 3), X),
    "slice up to a computed place": (lambda x: np.sum(x[: np.argmax(x)] ** 2), X),
    "slice between": (lambda x: np.sum(x[np.argmin(x) : np.argmax(x)] ** 2) + np.sum(x), X),
    "rows": (lambda a: np.sum((a[a[:, 0] > 0] @ W) ** 2), A),
    "columns": (lambda a: np.sum(a[:, a[0] > -9] ** 2), A),
    "elements": (lambda a: np.sum(a[a > 0] ** 3) + np.prod(a[a > 1]), A),
    "rows and a column": (lambda a: np.sum(a[a[:, 0] > 0, 1] ** 2), A),
    "gram": (lambda a: np.sum((a[a[:, 0] > 0].T @ a[a[:, 0] > 0]) ** 2), A),
    "reshape": (lambda a: np.sum(a[a[:, 1] > 0].reshape(-1) ** 3), A),
    "argwhere": (lambda a: np.sum(a[tuple(np.argwhere(a > 0).T)] ** 2), A),
    "nonzero": (lambda a: np.sum(np.sin(a[np.nonzero(a > 0)])), A),
    "compress": (lambda a: np.sum(np.compress(a[:, 0] > 0, a, axis=0) ** 2), A),
    "extract": (lambda a: np.sum(np.extract(a > 0, a) ** 2), A),
    "slopes": (slopes, X),
    "convolution": (convolved, X),
    "in another order": (moved, X),
    "table": (lambda x: np.sum(np.interp(Z / 4, np.cumsum(x[x > 0]), x[x > 0] ** 2) ** 2), X),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_derivatives(name: str) -> None:
    """As NumPy, as central differences, and the modes among each other, to second order."""
    program, x = PROGRAMS[name]
    f, wanted = tg.trace(program), differences(program, x)
    scale = 1 + np.abs(wanted).max()
    np.testing.assert_allclose(f(x), program(x), rtol=1e-13)
    gradient = f.grad(x)
    np.testing.assert_allclose(gradient, wanted, atol=1e-8 * scale)
    t = RNG.normal(size=x.shape)
    np.testing.assert_allclose(tg.jvp(f, (x,), (t,))[1], np.sum(gradient * t), rtol=1e-10)
    second = (f.grad(x + STEP * t) - f.grad(x - STEP * t)) / (2 * STEP)
    np.testing.assert_allclose(tg.hvp(f)(x, t), second, atol=1e-6 * scale)


@pytest.mark.parametrize(
    "name", ["mean", "neighbours", "assigned", "rows", "elements", "concatenate"]
)
def test_tensors_and_dumps(name: str) -> None:
    """A traced call on a Tensor keeps residuals; an eager one calls NumPy; a dump runs."""
    program, x = PROGRAMS[name]
    f = tg.trace(program)
    gradient = f.grad(x)
    for function in (f, program):
        t = tg.tensor(x, requires_grad=True)
        function(t).backward()
        np.testing.assert_allclose(np.asarray(t.grad), gradient, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(f.dump(x, which="primal").function()(x), program(x), rtol=1e-13)
    found = f.grad.dump(x, which="primal").function()(x)
    np.testing.assert_allclose(found, gradient, rtol=1e-12, atol=1e-14)


def test_results() -> None:
    """Results of a size that is known after the call only, for one version."""
    f = tg.trace(lambda x: (x[x > 0], np.nonzero(x > 0), x[x > 0].size))
    for x in (X, -X, np.abs(X), -np.abs(X), np.zeros(0)):
        y, (at,), size = f(x)
        np.testing.assert_array_equal(y, x[x > 0])
        np.testing.assert_array_equal(at, np.flatnonzero(x > 0))
        assert size == y.size
    assert len(f.versions) == 1


def test_results_are_differentiated() -> None:
    def f(x: Any) -> Any:
        return x[x > 0] ** 2

    kept = X[X > 0]
    wanted = np.diag(2 * X)[X > 0]
    np.testing.assert_allclose(tg.jacrev(f)(X), wanted)
    np.testing.assert_allclose(tg.jacfwd(f)(X), wanted)
    y, pull = tg.vjp(f, X)
    np.testing.assert_allclose(y, kept**2)
    np.testing.assert_allclose(pull(np.ones(kept.size))[0], np.where(X > 0, 2 * X, 0))
    t = tg.tensor(X, requires_grad=True)
    tg.trace(f)(t).backward(tg.tensor(np.ones(kept.size)))
    np.testing.assert_allclose(np.asarray(t.grad), np.where(X > 0, 2 * X, 0))


def everything(x: Any) -> Any:
    return np.unique(x, return_index=True, return_inverse=True, return_counts=True)


UNIQUE = [
    np.array([3.0, 1.0, 3.0, np.nan, 2.0, 1.0, np.nan]),
    np.round(A),
    np.array([3, 1, 3, 2], np.int32),
    np.array([True, False, True]),
    np.array([2.0]),
    np.zeros(0),
]


@pytest.mark.parametrize("x", UNIQUE, ids=str)
def test_unique(x: np.ndarray) -> None:
    for program in (np.unique, everything, lambda x: np.unique(x, equal_nan=False)):
        found, wanted = tg.trace(program)(x), program(x)
        if isinstance(wanted, np.ndarray):
            found, wanted = (found,), (wanted,)
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(got, want)
            assert got.dtype == want.dtype


def test_gradient_of_unique() -> None:
    """The first of equal elements has it."""

    def f(x: Any) -> Any:
        values, counts = np.unique(x, return_counts=True)
        return np.sum(values**2 * counts) / values.size

    x = np.array([1.0, 3.0, 1.0, 2.0])
    np.testing.assert_allclose(tg.trace(f)(x), f(x))
    np.testing.assert_allclose(tg.grad(f)(x), np.array([4.0, 6.0, 0.0, 4.0]) / 3)
    t = tg.tensor(x, requires_grad=True)
    f(t).backward()
    np.testing.assert_allclose(np.asarray(t.grad), np.array([4.0, 6.0, 0.0, 4.0]) / 3)


def test_repeat_with_counts() -> None:
    f = tg.trace(np.repeat)
    for counts in ([2, 0, 1], [0, 0, 0], [1, 1, 5], [2]):
        counts = np.array(counts)
        np.testing.assert_array_equal(f(Z[:3], counts), np.repeat(Z[:3], counts))
    found = tg.trace(lambda a, c: np.repeat(a, c, axis=1))(A, np.array([2, 0, 1]))
    np.testing.assert_array_equal(found, np.repeat(A, [2, 0, 1], axis=1))
    gradient = tg.grad(lambda x, c: np.sum(np.repeat(x, c) ** 2))(Z[:3], np.array([2, 0, 3]))
    np.testing.assert_allclose(gradient, 2 * Z[:3] * [2, 0, 3])
    with pytest.raises(ValueError, match="repeats may not contain negative values"):
        f(Z[:3], np.array([2, 0, -1]))
    with pytest.raises(ValueError, match="broadcast"):
        f(Z[:3], np.array([2, 1]))
    with pytest.raises(TypeError, match="Cannot cast"):
        f(Z[:3], np.ones(3))


def damped(x: Any) -> Any:
    y = x * 1.0
    y[y < 0] *= 0.1
    y[x > 1] = np.sqrt(y[x > 1])
    return np.sum(y**3)


@pytest.mark.parametrize(
    "program",
    [
        lambda x: np.mean(np.log(x[x > 0])),
        lambda x: np.sum(x[x > 0] * np.sin(x)[x > 0]) / x[x > 0].size,
        lambda x: np.sum(x[x > 0]) + np.sum(x[x < 0.5] ** 2),
        damped,
    ],
)
def test_no_array_for_what_is_reduced(program: Program) -> None:
    """A selection that is only combined is a condition in a loop over the whole array."""
    f = tg.trace(program)
    for function in (f, f.grad):
        assert "find_nonzero" not in function.source(X)
    np.testing.assert_allclose(f(X), program(X), rtol=1e-13)
    np.testing.assert_allclose(f.grad(X), differences(program, X), rtol=1e-6, atol=1e-8)
    xs = np.stack([X, -X, X * 2])
    np.testing.assert_allclose(tg.vmap(program)(xs), [program(x) for x in xs], rtol=1e-13)
    assert "one item after the other" not in tg.vmap(program).explain(xs)


def test_explanations() -> None:
    f = tg.trace(lambda x: np.sum(np.cumsum(x[x > 0])))
    assert "find_nonzero (library)" in f.explain(X)
    f.grad.explain(X)
    least = tg.minimize_memory(lambda x: np.sum(np.sin(np.exp(x[x > 0]))), budget_bytes=1000)
    np.testing.assert_allclose(
        tg.grad(least)(X), np.where(X > 0, np.cos(np.exp(X)) * np.exp(X), 0), rtol=1e-12
    )
    tg.testing.check_grads(lambda x: x[x > 0] ** 2, (X,), order=2)


def test_nothing_chosen() -> None:
    """Empty selections are what NumPy makes of them."""
    x = -np.abs(X)
    assert tg.trace(lambda x: np.sum(x[x > 0]))(x) == 0
    assert np.isnan(tg.trace(lambda x: np.mean(x[x > 0]))(x))
    np.testing.assert_array_equal(tg.grad(lambda x: np.sum(x[x > 0] ** 2))(x), np.zeros(9))
    assert tg.trace(lambda x: x[x > 0][1:] - x[x > 0][:-1])(x).shape == (0,)
    with pytest.raises(ValueError, match=r"!= 0 does not hold, in np.max\(x\[x > 0\]\)"):
        tg.trace(lambda x: np.max(x[x > 0]))(x)
    with pytest.raises(IndexError, match="out of bounds"):
        tg.trace(lambda x: x[x > 0][0])(x)


def test_sizes_that_do_not_fit() -> None:
    """What NumPy cannot broadcast is an error when the sizes are known, as often as it is tried."""
    f = tg.trace(lambda x, z: x[x > 0] + z)
    np.testing.assert_array_equal(f(np.abs(X), Z), np.abs(X) + Z)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"does not hold, in x\[x > 0\] \+ z \(test_runtime"):
            f(X, Z)
    np.testing.assert_array_equal(f(X, np.ones(1)), X[X > 0] + 1)
    with pytest.raises(ValueError, match="does not hold"):
        tg.trace(lambda x: x[x > 0] * x[x < 0.5])(X)

    def put(x: Any, v: Any) -> Any:
        y = x * 1.0
        y[x > 0] = v
        return y

    g = tg.trace(put)
    for v in (np.arange(float((X > 0).sum())), np.ones(1), 3.0):
        np.testing.assert_array_equal(g(X, v), put(X, v))
    with pytest.raises(ValueError, match="does not hold"):
        g(X, Z)


SHORT: dict[str, tuple[Program, int]] = {
    "diff": (lambda x: np.diff(x[x > 0], 2), 0),
    "trapezoid": (lambda x: np.trapezoid(x[x > 0]), 0),
    "unwrap": (lambda x: np.unwrap(9 * x[x > 0]), 0),
    "roll": (lambda x: np.roll(x[x > 0], 4), 0),
    "array_split": (lambda x: np.array_split(x[x > 0], 2)[1], 0),
    "convolve": (lambda x: np.convolve(x[x > 0], [1.0, 2.0]), 1),
    "interp": (lambda x: np.interp(x, np.cumsum(x[x > 0]), x[x > 0] ** 2), 1),
    "gradient": (lambda x: np.gradient(x[x > 0]), 2),
    "partition": (lambda x: np.partition(x[x > 0], 2), 3),
}
"""Programs, and how many elements they need."""


@pytest.mark.parametrize("name", SHORT)
def test_short_selections(name: str) -> None:
    """As NumPy down to the fewest elements that it takes; fewer are an error at run time."""
    program, least = SHORT[name]
    f = tg.trace(program)
    for count in range(5):
        x = np.where(np.arange(9) % 2 == 1, np.abs(X), -np.abs(X))
        x[2 * count :] = -np.abs(x[2 * count :])
        if count >= least:
            np.testing.assert_allclose(f(x), program(x), rtol=1e-13, atol=1e-15)
        else:
            with pytest.raises(ValueError, match=rf"does not hold, in np\.{name}\("):
                f(x)


def test_a_question_demands_nothing() -> None:
    """Whether a size is 0 or 1 may be asked of any: only what has to hold is checked."""
    assert tg.trace(lambda x: np.squeeze(x[x > 2], axis=0))(np.array([1.0, 3.0])) == 3.0
    with pytest.raises(ValueError, match="== 1 does not hold"):
        tg.trace(lambda x: np.squeeze(x[x > 0], axis=0))(X)
    with pytest.raises(ValueError, match="needed while tracing"):
        tg.trace(lambda x: np.squeeze(x[x > 0]))(X)
    with pytest.raises(ValueError, match="needed while tracing"):
        tg.trace(lambda x: np.array_equal(x[x > 0], x[x < 0]))(X)
    n, one = np.arange(3.0), np.ones(1)
    assert tg.trace(lambda x, o: np.sum(x[x > 0] * o))(n, one) == 3
    assert tg.grad(lambda o, x: np.sum(x[x > 0] * o))(one, n) == 3


def test_control_flow() -> None:
    thresholds = np.linspace(-1, 0, 4)

    def scanned(x: Any) -> Any:
        def step(c: Any, t: Any) -> Any:
            return c + np.sum(x[x > t] ** 2) * c, np.mean(x[x > t])

        return tg.scan(step, 1.0, thresholds)

    def unrolled(x: Any) -> Any:
        c = 1.0
        for t in thresholds:
            c = c + np.sum(x[x > t] ** 2) * c
        return c

    np.testing.assert_allclose(tg.trace(scanned)(X)[0], unrolled(X))
    np.testing.assert_allclose(tg.trace(scanned)(X)[1], [np.mean(X[t < X]) for t in thresholds])
    wanted = differences(unrolled, X)
    for program in (lambda x: scanned(x)[0], unrolled):
        np.testing.assert_allclose(tg.grad(program)(X), wanted, rtol=1e-6)

    def chosen(x: Any) -> Any:
        y = x[x > 0]
        return tg.cond(y.size > 0, lambda y: np.max(y), lambda y: 0.0, y)

    assert tg.trace(chosen)(X) == X.max()
    assert tg.trace(chosen)(-np.abs(X)) == 0

    @tg.trace(python_control_flow=True)
    def written_out(x: Any) -> Any:
        y = x[x > 0]
        if y.size == 0:
            return 0.0
        total = 0.0
        for v in y:
            total = total + v * v
        return total + y.max()

    assert written_out(-np.abs(X)) == 0
    np.testing.assert_allclose(written_out(X), np.sum(X[X > 0] ** 2) + X.max())
    slopes = np.where(X > 0, 2 * X, 0) + (X.max() == X)
    np.testing.assert_allclose(written_out.grad(X), slopes)


def test_mapped_functions() -> None:
    xs = np.stack([X, 2 * X, -X])
    f = tg.vmap(tg.grad(lambda x: np.mean(x[x > 0] ** 2)))
    np.testing.assert_allclose(f(xs), [2 * x * (x > 0) / (x > 0).sum() for x in xs])
    with pytest.raises(TypeError, match=r"size its data decides on.*np\.where\(mask, x, 0\)"):
        tg.vmap(lambda x: x[x > 0])(xs)


def test_arrays_of_computed_sizes_are_made_with_numpys_names() -> None:
    @tg.trace
    def f(x: Any) -> Any:
        y = x[x > 0]
        weights = np.ones(len(y)) / (1 + np.arange(y.size))
        weights[0] = 2.0
        return np.sum(y * weights) + np.zeros(y.shape).sum() + len(y)

    for x in (X, np.append(X, 3.0)):
        y = x[x > 0]
        weights = np.append(2.0, 1 / np.arange(2, len(y) + 1))
        np.testing.assert_allclose(f(x), y @ weights + len(y))
    assert len(f.versions) == 1


ERRORS: list[tuple[Program, str]] = [
    (lambda x: int(x[x > 0].size), r"x\[mask\] or np.nonzero: use it as a number"),
    (lambda x: np.hanning(x[x > 0].size) * 1, r"tg\.ones\(y\.size\)"),
    (lambda x: list(x[x > 0]), "data decides on that size"),
    (lambda x: 1.0 if x[x > 0].size > 2 else 0.0, "python_control_flow=True"),
    (
        lambda x: tg.scan(lambda c, t: (c, x[x > t]), 0.0, np.linspace(0, 1, 3)),
        "body of a loop, a branch or a mapped function",
    ),
    (lambda x: tg.fori_loop(0, 3, lambda i, y: y[y > 0], x), "array whose size its data decides"),
]


@pytest.mark.parametrize(("program", "words"), ERRORS)
def test_errors_name_the_expression(program: Program, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        tg.trace(program)(X)


def test_export(tmp_path: Path) -> None:
    @tg.trace
    def loss(x: Any) -> Any:
        y = x[x > 0]
        return np.sum((y[1:] - y[:-1]) ** 2)

    path = tmp_path / "exported.py"
    loss.export(path, X)
    spec = importlib.util.spec_from_file_location("exported", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    value, gradient = module.loss_value_and_grad(X)
    np.testing.assert_allclose(value, loss(X))
    np.testing.assert_allclose(gradient, loss.grad(X))
