"""`vmap`: every sample of the registry as a batch, in both forms, against the calls one by one.

Interpreted, so that nothing is compiled; a few programs of each kind are compiled below.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tests import oracle
from tests.test_ops import label
from tracegrad.function import Function
from tracegrad.ir.interpret import interpret
from tracegrad.leaves import leaves_of
from tracegrad.ops import REGISTRY
from tracegrad.ops.gathering import INDEX_ADD
from tracegrad.ops.op import SAMPLES, bind

ITEMS = 3
ROUNDINGS = 256
"""As in test_ops: some ten operations on up to a hundred elements, summed in another order."""

BY_THE_DRIVER = {
    "arange",
    "constant",
    "size",
    "unset",
    "bound",
    "nonzero",
    "repeats",
    "call",
    "project",
}
"""Ops that control/batching.py treats itself, or that never have a mapped operand."""

ONE_BY_ONE = {
    *(
        "foreign",
        "draw",
        "snapshot",
        "replay",
        "after",
        "index_add",
        "check",
        "unchecked",
        "argsort_rows",
        "strips",  # made of a finished program
    )
}
"""User kernels know nothing of batches, each item draws its own random numbers, a loop adds to its
own place of an array, the first item whose check fails says so, and the rows of each item have an
order of their own.
"""


def interpreted(f: Function, *args: Any) -> list[Any]:
    version, values = f.version_for(args, {})
    return interpret(version.graph, values)


def batch(number: int, mapped: tuple[bool, ...]) -> tuple[list[Any], list[tuple[Any, ...]]]:
    """The arguments of a sample as a batch, and those of each item."""
    items = [
        oracle.drawn_arguments(SAMPLES[number], np.dtype(float), seed) for seed in range(ITEMS)
    ]
    shared = items[0]
    items = [
        tuple(
            x if flag else shared[k] for k, (x, flag) in enumerate(zip(item, mapped, strict=False))
        )
        for item in items
    ]
    stacked = [np.stack([item[k] for item in items]) for k in range(len(mapped))]
    return [
        s if flag else shared[k] for k, (s, flag) in enumerate(zip(stacked, mapped, strict=False))
    ], items


def cases(smooth: bool = False, every: int = 1) -> list[Any]:
    """Each sample with all arguments mapped, and with one; `every` so manieth sample."""
    found = []
    for number, sample in enumerate(SAMPLES):
        if (
            number % every
            or sample.ragged
            or "f" not in sample.kinds
            or (smooth and not sample.smooth)
        ):
            continue
        for mapped in product((True, False), repeat=len(sample.shapes)):
            if any(mapped) and sum(mapped) in (1, len(mapped)):
                text = "".join("ms"[not flag] for flag in mapped)
                found.append(pytest.param(number, mapped, id=f"{label(number)}-{text}"))
    return found


def compare(got: list[Any], each: list[list[Any]]) -> None:
    assert len(got) == len(each[0])
    for k, value in enumerate(got):
        oracle.assert_similar(value, np.stack([row[k] for row in each]), ROUNDINGS)


def in_axes(mapped: tuple[bool, ...]) -> tuple[Any, ...]:
    return tuple(0 if flag else None for flag in mapped)


@pytest.mark.parametrize(("number", "mapped"), cases())
def test_a_batch_is_the_stack_of_calls(number: int, mapped: tuple[bool, ...]) -> None:
    program = SAMPLES[number].program
    given, items = batch(number, mapped)
    one = Function(lambda *args: program(*args), "one")
    each = [interpreted(one, *item) for item in items]
    compare(interpreted(tg.vmap(lambda *args: program(*args), in_axes(mapped)), *given), each)


@pytest.mark.parametrize(("number", "mapped"), cases(smooth=True, every=4))
def test_derivatives_batch(number: int, mapped: tuple[bool, ...]) -> None:
    """vmap of grad, and grad of vmap: the sum over the items where an argument is shared."""
    program = SAMPLES[number].program

    def scalar(*args: Any) -> Any:
        leaves = leaves_of(program(*args))[0]
        return sum(np.sum(np.sin(y * 1.0)) for y in leaves)

    numbers = tuple(range(len(mapped)))
    gradient = tg.grad(scalar, numbers)
    given, items = batch(number, mapped)
    each = [interpreted(gradient, *item) for item in items]
    compare(interpreted(tg.vmap(gradient, in_axes(mapped)), *given), each)
    total = tg.grad(lambda *args: np.sum(tg.vmap(scalar, in_axes(mapped))(*args)), numbers)
    for k, (got, flag) in enumerate(zip(interpreted(total, *given), mapped, strict=True)):
        stacked = np.stack([row[k] for row in each])
        oracle.assert_similar(got, stacked if flag else stacked.sum(axis=0), ROUNDINGS)


def test_every_op_has_a_batch_rule() -> None:
    """One without works, item by item; it should be a decision, not an oversight."""
    assert {
        name for name, op in REGISTRY.items() if not op.has("batch")
    } <= BY_THE_DRIVER | ONE_BY_ONE


RNG = np.random.default_rng(0)
X, S = RNG.normal(size=(5, 3)), RNG.normal(size=5)
W = RNG.normal(size=(16, 16)) / 4
STATES, INPUTS = RNG.normal(size=(6, 16)), RNG.normal(size=(6, 7, 16))


def recurrent(w: Any, h: Any, xs: Any) -> Any:
    return tg.scan(lambda h, x: (np.tanh(w @ h + x), h.sum()), h, xs)


def branching(p: Any, v: Any, w: Any) -> Any:
    """Another branch for each item, then a product with what they share."""
    return tg.cond(p > 0, lambda v: v * 2, np.sin, v) @ w


def root(a: Any) -> Any:
    return tg.while_loop(lambda v: np.abs(v * v - a) > 1e-12, lambda v: 0.5 * (v + a / v), a * 1.0)


def repeated(n: Any, v: Any) -> Any:
    return tg.fori_loop(0, n, lambda i, v: v * v, v)


def halved_together(n: Any, v: Any) -> Any:
    """A while loop whose end does not depend on the items."""
    return tg.while_loop(lambda c: c[0] > 1, lambda c: (c[0] / 2, np.sin(c[1])), (n, v))[1]


WIDE = RNG.normal(size=(3, 40))
PROGRAMS = {
    "scan with a shared matrix": (recurrent, (None, 0, 0), (W, STATES, INPUTS), "one product"),
    "scan with a matrix each": (
        recurrent, (0, 0, None), (np.stack([W] * 6), STATES, INPUTS[0]), "control flow",
    ),
    "a branch each": (branching, (0, 0, None), (S, X, WIDE), "one product"),
    "a branch for all": (branching, (None, 0, None), (1.0, X, WIDE), "one product"),
    "as many steps as needed": (root, 0, (np.abs(S) + 1,), "control flow"),
    "a number of steps each": (repeated, 0, (np.arange(5), X), "as often as it asks for"),
    "a number of steps for all": (repeated, (None, 0), (np.int64(3), X), "control flow"),
    "a while loop for all": (halved_together, (None, 0), (8.0, X), "control flow"),
}  # fmt: skip


def rows_of(axes: Any, args: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The arguments of each item."""
    axes = axes if isinstance(axes, tuple) else (axes,) * len(args)
    pairs = list(zip(args, axes, strict=True))
    count = next(len(x) for x, axis in pairs if axis == 0)
    return [tuple(x if axis is None else x[i] for x, axis in pairs) for i in range(count)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_control_flow(name: str) -> None:
    f, axes, args, form = PROGRAMS[name]
    mapped = tg.vmap(f, axes)
    rows = rows_of(axes, args)
    compare(interpreted(mapped, *args), [interpreted(tg.trace(f), *row) for row in rows])
    assert form in str(mapped.version_for(args, {})[0].graph.notes)
    at = next(k for k, x in enumerate(args) if np.asarray(x).dtype.kind == "f")

    def total(f: Any) -> Any:
        return lambda *args: sum(np.sum(np.sin(y)) for y in leaves_of(f(*args))[0])

    (gradient,) = interpreted(tg.grad(total(mapped), at), *args)
    one = tg.grad(total(f), at)
    each = [interpreted(one, *row)[0] for row in rows]
    shared = isinstance(axes, tuple) and axes[at] is None
    oracle.assert_similar(gradient, np.sum(each, 0) if shared else np.stack(each), ROUNDINGS)


def test_compiled_loops_over_items() -> None:
    """The reverse mode of a loop whose steps have as many steps as each needs."""
    a = np.abs(S) + 1
    f = tg.vmap(root)
    np.testing.assert_allclose(f(a), np.sqrt(a), rtol=1e-12)
    gradient = tg.grad(lambda a: np.sum(f(a)))
    np.testing.assert_allclose(gradient(a), 0.5 / np.sqrt(a), rtol=1e-6)
    assert "one item after the other" in gradient.explain(a)
    assert "16 items at a time, each of their steps one vectorised loop" in " ".join(
        str(tg.vmap(root).explain(np.ones(100))).split()
    )


def test_shared_work_is_one_product() -> None:
    layer = tg.vmap(lambda x, w: np.tanh(x @ w), (0, None))
    assert layer.source(X, WIDE).count("dot(x, w, ") == 1
    one = tg.grad(lambda w, x: np.sum(np.tanh(x @ w) ** 2))
    each = interpreted(tg.vmap(one, (None, 0)), WIDE, X)
    compare(each, [interpreted(one, WIDE, x) for x in X])


def test_axes() -> None:
    pair = interpreted(tg.vmap(lambda x, y: (x, y), (0, None), (1, None)), X, 2.0)
    np.testing.assert_array_equal(pair[0], X.T)
    assert pair[1] == 2.0
    np.testing.assert_array_equal(interpreted(tg.vmap(lambda x: x, -1, -1), X)[0], X)
    full = interpreted(tg.vmap(lambda x: x + 1, in_axes=None, axis_size=4), 2.0)[0]
    np.testing.assert_array_equal(full, np.full(4, 3.0))
    outer = tg.vmap(tg.vmap(lambda a, b: a * b, in_axes=(None, 0)), in_axes=(0, None))
    np.testing.assert_allclose(interpreted(outer, S, X[0])[0], np.outer(S, X[0]))


def test_axes_of_structures_and_keywords() -> None:
    scaled = tg.vmap(lambda p, *, k: p["a"] * p["b"][0] * k, ({"a": 0, "b": [None]},))
    np.testing.assert_allclose(scaled({"a": X, "b": [2.0]}, k=S), 2 * X * S[:, None])


def test_one_compilation_for_all_batch_sizes() -> None:
    f = tg.vmap(lambda x, w: np.tanh(x @ w), (0, None))
    for count in (1, 2, 5):
        f(X[:count], WIDE)
    assert len(f.versions) == 1


def test_custom_rules_batch() -> None:
    @tg.custom_vjp
    def f(x: Any, y: Any) -> Any:
        return np.sin(x) * y

    f.defvjp(
        lambda x, y: (np.sin(x) * y, (x, y)),
        lambda saved, ct: (7 * ct * np.cos(saved[0]) * saved[1], ct * np.sin(saved[0])),
    )
    compare(interpreted(tg.vmap(tg.grad(f)), S, S), [[7 * np.cos(s) * s] for s in S])
    total = tg.grad(lambda s, y: np.sum(tg.vmap(f, (0, None))(s, y)), (0, 1))
    d_s, d_y = interpreted(total, S, 2.0)
    np.testing.assert_allclose(d_s, 14 * np.cos(S))
    np.testing.assert_allclose(d_y, np.sin(S).sum())


def test_checkpoints_batch() -> None:
    layer = tg.checkpoint(lambda x, w: np.tanh(np.sin(x) @ w))
    one = tg.grad(lambda x, w: np.sum(layer(x, w)), (0, 1))
    each = [interpreted(one, x, WIDE) for x in X]
    compare(interpreted(tg.vmap(one, (0, None)), X, WIDE), each)
    total = tg.grad(lambda x, w: np.sum(tg.vmap(layer, (0, None))(x, w)), (0, 1))
    d_x, d_w = interpreted(total, X, WIDE)
    oracle.assert_similar(d_x, np.stack([row[0] for row in each]), ROUNDINGS)
    oracle.assert_similar(d_w, np.sum([row[1] for row in each], axis=0), ROUNDINGS)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: tg.vmap(lambda x, y: x)(X, S[:3]), tg.ShapeError, r"5 \(x\) and 3 \(y, axis 0\)"),
        (lambda: tg.vmap(lambda x: x, 2)(X), tg.ShapeError, r"axis of the items of x is 2"),
        (lambda: tg.vmap(lambda x: x, "a"), TypeError, "in_axes must be an int, None, or"),
        (lambda: tg.vmap(lambda x: x, ((0, 1),))((X,)), TypeError, "for a tuple of 1 entries"),
        (lambda: tg.vmap(lambda x: x, ({"b": 0},))({"a": X}), TypeError, "entries \\('a'\\)"),
        (lambda: tg.vmap(lambda x: x)(2.0), tg.ShapeError, "a scalar; use None"),
        (lambda: tg.vmap(lambda x: x, None)(X), ValueError, "every entry of in_axes is None"),
        (lambda: tg.vmap(lambda x: x, out_axes=None)(X), ValueError, "differs between the items"),
        (lambda: tg.vmap(lambda x: x, out_axes=2)(X), tg.ShapeError, "out_axes is 2"),
        (lambda: tg.vmap(lambda x: x, axis_size=4)(X), tg.ShapeError, "4 \\(axis_size\\) and 5"),
    ],
)
def test_errors(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_each_item_draws_its_own_numbers() -> None:
    def noisy(x: Any, rng: Any) -> Any:
        return x + rng.normal(size=2)

    def batch(x: Any, rng: Any) -> Any:
        return tg.vmap(lambda row: noisy(row, rng))(x)

    got = tg.trace(batch)(X[:, :2], np.random.default_rng(3))
    rng = np.random.default_rng(3)
    np.testing.assert_allclose(got, np.stack([noisy(x, rng) for x in X[:, :2]]))


@pytest.mark.parametrize("flags", [(0, 0, 0), (None, 0, 0), (0, None, None), (None, None, 0)])
def test_sums_at_indices_are_one_operation_for_all_items(flags: tuple[Any, ...]) -> None:
    """`index_add`, as it is left of two scatters by simplification: the batch is no loop."""
    rng = np.random.default_rng(0)
    base, value = rng.normal(size=(4, 5, 2)), rng.normal(size=(4, 3, 2))
    index = rng.integers(0, 5, (4, 3))
    given = [x if flag == 0 else x[0] for x, flag in zip((base, value, index), flags, strict=True)]

    def f(base: Any, value: Any, index: Any) -> Any:
        return bind(INDEX_ADD, base, value, index, axes=(0,))

    batch = tg.vmap(f, in_axes=flags)
    expected = [
        f(*(x[k] if flag == 0 else x for x, flag in zip(given, flags, strict=True)))
        for k in range(4)
    ]
    np.testing.assert_allclose(oracle.interpreted(batch, *given)[0], expected, rtol=1e-14)
    assert "for index" not in str(batch.dump(*given))
