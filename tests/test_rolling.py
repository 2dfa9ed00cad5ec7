"""Python loops that tracing unrolls are rolled again: equal values, equal derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tracegrad as tg
from tracegrad.ir.interpret import interpret
from tracegrad.tracing import trace as tracing

STEPS = 40
RNG = np.random.default_rng(5)
X = RNG.uniform(0.2, 0.9, 6)
W = RNG.normal(size=(6, 6)) / 4
XS = RNG.normal(size=(STEPS + 4, 6)) / 2


@contextmanager
def nothing_rolled() -> Iterator[None]:
    saved, tracing.FEWEST_BLOCKS = tracing.FEWEST_BLOCKS, 1 << 30
    try:
        yield
    finally:
        tracing.FEWEST_BLOCKS = saved


def recurrent(x: Any) -> Any:
    for t in range(STEPS):
        x = np.tanh(x @ W + XS[t] + 0.5 * x)
    return np.sum(x * x)


def per_step_inputs(x: Any, xs: Any = XS) -> Any:
    h = np.zeros(6)
    for t in range(STEPS):
        h = np.tanh(h * x + xs[t + 1] - 0.5 * xs[STEPS - t])
    return np.sum(h)


def leapfrog(x: Any) -> Any:
    v, a, dt = 0.1 * x, -x, 0.02
    for _ in range(STEPS):
        v = v + 0.5 * dt * a
        x = x + dt * v
        a = -np.sin(x)
        v = v + 0.5 * dt * a
    return np.sum(x * x) + np.sum(v * v)


def outputs(x: Any) -> Any:
    h, ys, norms = x, [], []
    for t in range(STEPS):
        h = np.sin(h * 1.1 + 0.01 * t)
        ys.append(h)
        norms.append(np.sum(h * x))
    stacked = np.stack(ys)
    return np.sum(stacked[3:] * stacked[:-3]) + sum(norms) + np.mean(np.concatenate(ys, axis=0))


def stacked_along_axis_1(x: Any) -> Any:
    ys = []
    for t in range(STEPS):
        x = np.cos(x) + 0.1 * np.sin(x * (t * 0.25))
        ys.append(x / (t + 1.0))
    table = np.stack(ys, axis=1)
    return np.sum(table[1:, ::2] * table[:-1, ::2])


def filled(x: Any) -> Any:
    xs = np.zeros_like(x * np.ones((STEPS + 1, 6)))
    xs[0] = x
    for t in range(STEPS):
        xs[t + 1] = xs[t] + 0.1 * np.sin(xs[t])
    return np.sum(xs**2)


def columns(x: Any) -> Any:
    u = np.zeros_like(x[:, None] * np.ones((6, STEPS)))
    u[:, 0] = x
    for t in range(1, STEPS):
        u[:, t] = 0.9 * u[:, t - 1] + 0.1 * np.cos(x) * u[:, 0]
    return np.sum(u * u)


def stencil(x: Any) -> Any:
    u = x * x
    for _ in range(STEPS):
        v = u.copy()
        v[1:-1] = u[1:-1] + 0.2 * (u[2:] - 2 * u[1:-1] + u[:-2])
        u = v
    return np.sum(u * u)


def invariant(x: Any) -> Any:
    y = x
    for _ in range(STEPS):
        rate = np.exp(-x) / np.sum(x)
        y = y + 0.1 * rate * np.sin(y)
    return np.sum(y)


def two_back(x: Any) -> Any:
    p, q = x, 2 * x
    for _ in range(STEPS):
        p, q = q, 0.3 * p + 0.6 * np.sin(q)
    return np.sum(p * q)


def nested_loops(x: Any) -> Any:
    for i in range(12):
        for _ in range(15):
            x = x + 0.01 * np.sin(x) + i * 0.001
        x = 0.5 * x + x[::-1]
    return np.sum(x)


def windows(x: Any) -> Any:
    y = np.sin(np.concatenate([x, x, x, x]))
    total = 0.0
    for t in range(20):
        total = total + np.tanh(np.sum(y[t : t + 5] * x[:5])) * y[t]
    return total


def permuted(x: Any) -> Any:
    rows = np.outer(np.arange(1.0, 13.0), x)
    for i in [3, 1, 4, 0, 5, 9, 2, 6, 8, 7, 11, 10]:
        x = np.sin(x + rows[i] * np.sum(rows[i])) * 0.7 + 0.1 * x
    return np.sum(x)


def rows_and_enumerate(x: Any) -> Any:
    total = x
    for k, row in enumerate(np.outer(np.arange(1.0, 21.0), x)):
        total = np.sin(total + row) * 0.5 + k * x
    return np.sum(total)


def running_write(x: Any) -> Any:
    y = np.concatenate([x, x, x, x])
    for i in range(1, 24):
        y[i] = y[i - 1] * 0.5 + np.sin(y[i]) * np.sum(y)
    return np.sum(y)


def branches(x: Any) -> Any:
    for _ in range(20):
        x = tg.cond(np.sum(x) > 3.0, lambda v: 0.5 * np.sin(v), lambda v: v + 0.1 * v * v, x)
        x = x * 1.05
    return np.sum(x)


def scans_inside(x: Any) -> Any:
    for k in range(20):
        x, ys = tg.scan(lambda c, r, k=k: (np.sin(c) + r * (k * 0.01), np.sum(c)), x, XS[:5])
        x = x + 0.01 * np.sum(ys)
    return np.sum(x)


PROGRAMS = [
    recurrent, per_step_inputs, leapfrog, outputs, stacked_along_axis_1, filled, columns, stencil,
    invariant, two_back, nested_loops, windows, permuted, rows_and_enumerate, running_write,
    branches, scans_inside,
]  # fmt: skip


def loops_in(traced: Any) -> int:
    return sum(node.op.name == "loop" for node in traced.versions[0].graph.nodes)


def central(f: Callable[..., Any], x: Any, d: Any, step: float = 1e-6) -> Any:
    return (f(x + step * d) - f(x - step * d)) / (2 * step)


def evaluated(function: Any, *args: Any) -> Any:
    """The value by the graph and NumPy alone: nothing is compiled."""
    version, values = tg.trace(function).version_for(args, {})
    return interpret(version.primal.final, values)[0]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_rolled_is_what_was_written(program: Callable[..., Any]) -> None:
    traced = tg.trace(program)
    expected = program(X)
    dump = traced.dump(X, which="primal")
    np.testing.assert_allclose(dump.function()(X), expected, rtol=1e-12)
    graph = traced.versions[0].graph
    assert loops_in(traced) and len(graph.nodes) < 60, graph.notes
    assert "rolled" in graph.notes[0][1]
    np.testing.assert_allclose(interpret(graph, [X])[0], expected, rtol=1e-12)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_derivatives_in_both_modes(program: Callable[..., Any]) -> None:
    direction = RNG.normal(size=6)
    slope = central(program, X, direction)
    gradient = evaluated(tg.grad(program), X)
    tangent = evaluated(lambda x: tg.jvp(program, (x,), (direction,))[1], X)
    scale = float(np.linalg.norm(gradient) * np.linalg.norm(direction)) + 1e-2
    np.testing.assert_allclose(tangent, gradient @ direction, rtol=1e-9, atol=1e-11 * scale)
    np.testing.assert_allclose(tangent, slope, rtol=2e-6, atol=2e-7 * scale)


@pytest.mark.parametrize("program", [recurrent, outputs, columns, nested_loops])
def test_compiled(program: Callable[..., Any]) -> None:
    value, gradient = tg.value_and_grad(program)(X)
    np.testing.assert_allclose(value, program(X), rtol=1e-12)
    np.testing.assert_allclose(gradient, evaluated(tg.grad(program), X), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("program", [leapfrog, filled, nested_loops], ids=lambda f: f.__name__)
def test_second_order(program: Callable[..., Any]) -> None:
    direction = RNG.normal(size=6)
    product = evaluated(tg.hvp(program), X, direction)
    gradient = tg.grad(program)
    ahead, behind = (evaluated(gradient, X + step * direction) for step in (1e-5, -1e-5))
    np.testing.assert_allclose(product, (ahead - behind) / 2e-5, rtol=1e-5, atol=1e-6)


def test_the_same_operations_in_the_same_order() -> None:
    """Scan, the unrolled program and the rolled one give the same bits."""

    def scanned(x: Any) -> Any:
        return np.sum(tg.scan(lambda c, _: (np.sin(c) * 1.1 + 0.1, ()), x, length=STEPS)[0])

    def looped(x: Any) -> Any:
        for _ in range(STEPS):
            x = np.sin(x) * 1.1 + 0.1
        return np.sum(x)

    rolled = tg.trace(looped)
    values = {float(rolled(X)), float(tg.trace(scanned)(X))}
    gradients = [rolled.grad(X), tg.grad(scanned)(X)]
    with nothing_rolled():
        unrolled = tg.trace(looped)
        values.add(float(unrolled(X)))
        gradients.append(unrolled.grad(X))
    assert loops_in(rolled) == 1 and loops_in(unrolled) == 0
    assert len(values) == 1
    np.testing.assert_array_equal(gradients[0], gradients[1])
    np.testing.assert_allclose(gradients[0], gradients[2], rtol=1e-15)


def test_a_list_of_parameters() -> None:
    """Layers of equal shape become one stack."""
    weights = [RNG.normal(size=(6, 6)) / 2 for _ in range(16)]

    def network(weights: Any, x: Any) -> Any:
        for w in weights:
            x = np.tanh(w @ x)
        return np.sum(x)

    traced = tg.trace(network)
    version, values = traced.version_for((weights, X), {})
    np.testing.assert_allclose(interpret(version.graph, values)[0], network(weights, X), rtol=1e-12)
    assert loops_in(traced) == 1
    version, values = tg.grad(network).version_for((weights, X), {})
    gradients = interpret(version.primal.final, values)
    moved = [w + 1e-6 for w in weights]
    slope = (network(moved, X) - network(weights, X)) / 1e-6
    np.testing.assert_allclose(sum(np.sum(g) for g in gradients), slope, rtol=1e-4)


def test_differentiated_arguments_are_not_gathered() -> None:
    """Blocks that are too few for a loop stay, and with them what stands for their parameters."""
    pairs = [(RNG.normal(size=(6, 6)) / 2, RNG.normal(size=(6, 6)) / 2) for _ in range(8)]

    def network(pairs: Any, x: Any) -> Any:
        for a, b in pairs:
            x = x + np.tanh(x @ a) @ b
        return np.sum(x * x)

    gradient = tg.grad(network)
    version, values = gradient.version_for((pairs, X), {})
    assert not any(node.op.name == "loop" for node in version.primal.final.nodes)
    assert not any(node.op.name == "stack" for node in version.primal.final.nodes)
    found = interpret(version.primal.final, values)
    moved = [(a + 1e-6, b + 1e-6) for a, b in pairs]
    slope = (network(moved, X) - network(pairs, X)) / 1e-6
    np.testing.assert_allclose(sum(np.sum(g) for g in found), slope, rtol=1e-3)


def test_layers_of_different_shapes_stay() -> None:
    sizes = [6, *range(20, 2, -1)]
    weights = [RNG.normal(size=(n, m)) for n, m in zip(sizes[1:], sizes[:-1], strict=True)]

    def network(x: Any) -> Any:
        for w in weights:
            x = np.tanh(w @ x)
        return np.sum(x)

    traced = tg.trace(network)
    traced.version_for((X,), {})
    assert loops_in(traced) == 0


def test_a_thousand_steps_are_one_body() -> None:
    def steps(x: Any) -> Any:
        for _ in range(1000):
            x = x + 0.01 * np.sin(x)
        return np.sum(x)

    traced = tg.trace(steps)
    np.testing.assert_allclose(traced.value_and_grad(X)[0], steps(X), rtol=1e-12)
    assert len(str(traced.value_and_grad.source(X))) < 4000
    explained = str(traced.explain(X))
    assert "for _ in range(1000)" in explained and "rolled, 1000 steps of 3" in explained


def irregular_values(x: Any) -> Any:
    """Steps of one kind that read values of irregular places."""
    values = [x, 2 * x]
    for t in range(60):
        values.append(np.sin(values[-1]) + values[(7 * t * t) % len(values)])
    return np.sum(values[-1])


def irregular_constants(x: Any) -> Any:
    for t in range(40):
        x = np.sin(x) * (0.9 if t % 3 else x) + 0.1
    return np.sum(x)


def two_halves(x: Any) -> Any:
    y = x
    for _ in range(30):
        x = np.sin(x) + 0.1 * y
    for _ in range(30):
        y = np.sin(y) + 0.1 * x
    return np.sum(x) + np.sum(y)


def first_step_differs(x: Any) -> Any:
    h = 0.0
    for t in range(30):
        h = h + x if t == 0 else np.sin(h) + 0.1 * h
    return np.sum(h)


def fibonacci_reads(x: Any) -> Any:
    """Each step reads the one before and the very first."""
    first = y = np.sin(x)
    for _ in range(40):
        y = 0.5 * y + np.cos(first)
    return np.sum(y * first)


def shared_between_steps(x: Any) -> Any:
    """What one step computes is computed again by the next, as the same node."""
    y = x
    for _ in range(40):
        y = y - 0.1 * (np.sin(y) + np.sin(0.5 * y))
        y = y - 0.05 * np.sin(y)
    return np.sum(y)


def integers(x: Any) -> Any:
    n, k = np.floor(10 * x).astype(int), 1
    for t in range(40):
        n = (n * 3 + t) % 17
        k = k + n
    return np.sum(k * x)


def dead_ends(x: Any) -> Any:
    for t in range(40):
        unused = np.exp(x) * t
        x = np.sin(x) + 0.2
        last = unused + x
    return np.sum(last)


def float32_steps(x: Any) -> Any:
    y = x.astype(np.float32)
    for t in range(40):
        y = np.sin(y) * 0.5 + t * np.float32(0.25)
    return np.sum(y.astype(float))


IRREGULAR = [
    irregular_values, irregular_constants, two_halves, first_step_differs, fibonacci_reads,
    shared_between_steps, integers, dead_ends, float32_steps,
]  # fmt: skip


@pytest.mark.parametrize("program", IRREGULAR, ids=lambda f: f.__name__)
def test_what_looks_alike_but_is_not(program: Callable[..., Any]) -> None:
    direction = RNG.normal(size=6)
    expected = program(X)
    rtol = 1e-6 if program is float32_steps else 1e-12
    np.testing.assert_allclose(evaluated(program, X), expected, rtol=rtol)
    gradient = evaluated(tg.grad(program), X)
    with nothing_rolled():
        unrolled = evaluated(tg.grad(program), X)
    np.testing.assert_allclose(gradient, unrolled, rtol=max(rtol, 1e-10), atol=1e-12)
    tangent = evaluated(lambda x: tg.jvp(program, (x,), (direction,))[1], X)
    np.testing.assert_allclose(tangent, gradient @ direction, rtol=max(rtol, 1e-9), atol=1e-9)


@st.composite
def loop_bodies(draw: st.DrawFn) -> list[tuple[str, int, int, float]]:
    """Steps of a body: an operation, two operands (by number), a factor that may change."""
    count = draw(st.integers(3, 6))
    kinds = st.sampled_from(["sin", "add", "mul", "item", "number", "swap", "out"])
    return [
        (draw(kinds), draw(st.integers(0, 3)), draw(st.integers(0, 3)), draw(st.floats(0.1, 0.9)))
        for _ in range(count)
    ]


def program_of(body: list[tuple[str, int, int, float]], steps: int, odd: int) -> Any:
    """A loop with these steps; the one at `odd` is different."""

    def run(x: Any) -> Any:
        state = [x, 0.5 * x, x * x, np.cos(x)]
        out = []
        for t in range(steps):
            for kind, a, b, factor in body:
                u, v = state[a], state[b]
                match kind:
                    case "sin":
                        state[a] = np.sin(v) * factor
                    case "add":
                        state[b] = factor * u + 0.3 * v
                    case "mul":
                        state[a] = np.tanh(u * v)
                    case "item":
                        state[b] = 0.5 * v + XS[t] if t == odd else 0.5 * v + XS[t, ::-1] * u[0]
                    case "number":
                        state[a] = u * (factor * t) / (t + 1.0)
                    case "swap":
                        state[a], state[b] = v, u
                    case _:
                        out.append(np.sum(u))
        return sum(np.sum(s) for s in state) + sum(out)

    return run


@settings(max_examples=12, deadline=None)
@given(loop_bodies(), st.integers(14, 24), st.integers(-1, 30))
def test_random_loops(body: list[tuple[str, int, int, float]], steps: int, odd: int) -> None:
    """The graph with loops means what the Python program does, and so do its derivatives."""
    program = program_of(body, steps, odd)
    traced = tg.trace(program)
    version, _ = traced.version_for((X,), {})
    np.testing.assert_allclose(interpret(version.graph, [X])[0], program(X), rtol=1e-11)
    direction = np.cos(np.arange(6.0))
    gradient, _ = tg.grad(program).version_for((X,), {})
    found = interpret(gradient.graph, [X])[0] @ direction
    slope = central(program, X, direction)
    scale = max(1.0, abs(slope), np.linalg.norm(interpret(gradient.graph, [X])[0]))
    assert abs(found - slope) < 1e-5 * scale


def test_equal_sizes_that_rolling_needs_are_guarded() -> None:
    """Layers rolled for equal sizes are not used for layers of other sizes."""

    def network(weights: Any, x: Any) -> Any:
        for w in weights:
            x = np.tanh(w @ x)
        return np.sum(x)

    traced = tg.trace(network)
    for sizes in ([4] * 17, [*range(4, 21)]):
        weights = [np.full((m, n), 0.1) for n, m in pairwise(sizes)]
        x = np.ones(sizes[0])
        version, values = traced.version_for((weights, x), {})
        np.testing.assert_allclose(interpret(version.graph, values)[0], network(weights, x))
    assert len(traced.versions) == 2


def test_unrolled_loops_stay() -> None:
    def steps(x: Any, mark: Callable[[Any], Any]) -> Any:
        for _ in mark(range(40)):
            x = np.sin(x) + 0.1 * x
        for _ in range(40):
            x = np.cos(x) * 0.9 + 0.1 * x
        return np.sum(x)

    marked = tg.trace(lambda x: steps(x, tg.unrolled))
    plain = tg.trace(lambda x: steps(x, list))
    for traced, loops in ((marked, 1), (plain, 2)):
        version, _ = traced.version_for((X,), {})
        assert loops_in(traced) == loops
        np.testing.assert_allclose(interpret(version.graph, [X])[0], steps(X, list), rtol=1e-12)
    gradient = evaluated(tg.grad(marked), X)
    np.testing.assert_allclose(gradient, evaluated(tg.grad(plain), X), rtol=1e-10)


def test_why_a_loop_stays_is_explained() -> None:
    traced = tg.trace(irregular_values)
    version, _ = traced.version_for((X,), {})
    (note,) = (note for _, note in version.graph.notes if "left unrolled" in note)
    assert note.startswith("for t in range(60) at line ")


@pytest.mark.parametrize("dtype,loops", [(None, 1), (object, 3)])
def test_numbers_in_an_array(dtype: Any, loops: int) -> None:
    """`np.array` stacks traced numbers; an object array of them computes element by element: that
    is rolled as well."""

    def squares(x: Any) -> Any:
        out = []
        for _ in range(STEPS):
            x = np.stack([x[1], -np.sin(x[0])]) * 0.1 + x
            out.append(x[0])
        return np.sum(np.array(out, dtype=dtype) ** 2)

    traced = tg.trace(squares)
    version, _ = traced.version_for((X[:2],), {})
    np.testing.assert_allclose(interpret(version.graph, [X[:2]])[0], squares(X[:2]), rtol=1e-12)
    assert loops_in(traced) == loops and len(version.graph.nodes) < 60


def test_what_nobody_reads_of_a_loop_is_not_computed() -> None:
    def last(x: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            a, b = carry
            return (np.sin(a), b + a), np.exp(a)

        (a, _), _ = tg.scan(step, (x, x), length=5)
        return np.sum(a)

    version, _ = tg.trace(last).version_for((X,), {})
    (loop,) = (node for node in version.primal.final.nodes if node.op.name == "loop")
    assert len(loop.attributes["body"].outputs) == 1
    np.testing.assert_allclose(interpret(version.primal.final, [X])[0], last(X), rtol=1e-14)


def test_rows_times_a_vector() -> None:
    """Products that are numbers stay in the loop."""

    def dots(x: Any, w: Any) -> Any:
        total = 0.0
        for row in x:
            total = np.tanh(total + row @ w)
        return total

    x, w = RNG.normal(size=(12, 3)), RNG.normal(size=3)
    version, values = tg.trace(dots).version_for((x, w), {})
    np.testing.assert_allclose(interpret(version.graph, values)[0], dots(x, w), rtol=1e-12)
