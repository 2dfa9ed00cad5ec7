"""Every scheduling pass keeps the meaning of random loop programs, and fuses only what it may.

The texts before and after a pass are executed as plain Python. All values are small integers in
float64, so that sums are exact in any order and the results must be equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import codegen
from codegen import library, schedule, source
from codegen.expr import (
    BOOL,
    INT,
    Call,
    Cast,
    Const,
    Expr,
    Load,
    Select,
    Var,
    add,
    integer,
    subtract,
)
from codegen.loops import (
    Accumulate,
    Alloc,
    Assign,
    Check,
    For,
    Function,
    If,
    Module,
    Parameter,
    Return,
    Statement,
    Store,
    While,
)
from codegen.schedule import borders, registers, strips, sums
from codegen.traverse import statements, substitute

F8 = np.dtype(np.float64)
N, M = Var("n"), Var("m")
SIZES = {"n": (4, 1, 0), "m": (3, 5, 2)}
AXES = {"x": "nm", "z": "nm", "r": "n", "c": "m"}
STAND_INS = {
    "running_max": max,
    "running_min": min,
    "maximum_float": max,
    "minimum_float": min,
    "add_reassoc_f64": lambda a, b: a + b,
    "rounding_error_f64": library.plain(library.rounding_error_f64),
    "njit": lambda **options: lambda function: function,
}


@lru_cache(maxsize=2)
def program(function: Function) -> Callable[..., Any]:
    """The text of a loop program, as plain Python."""
    lines = source.print_module(Module((function,))).splitlines()
    space: dict[str, Any] = dict(STAND_INS)
    exec("\n".join(line for line in lines if not line.startswith("from ")), space)
    return space[function.name]


def execute(function: Function, arguments: list[np.ndarray]) -> list[np.ndarray]:
    results = program(function)(*arguments)
    return [np.array(r) for r in (results if isinstance(results, tuple) else (results,))]


class Writer:
    """A random loop program over x[n, m], z[n, m], r[n], c[m] with temporaries in between."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.axes = dict(AXES)
        self.scalars: list[str] = []
        self.body: list[Statement] = []

    def choose(self, options: Any) -> Any:
        options = list(options)
        return options[self.random.integers(len(options))]

    def index(self, array: str, loops: dict[str, Var], exact: bool) -> tuple[Expr, ...] | None:
        """The loop's own index; unless `exact`, sometimes a reversed or a fixed one."""
        parts: list[Expr] = []
        for axis in self.axes[array]:
            if axis not in loops:
                return None
            reverse = subtract(subtract(Var(axis), integer(1)), loops[axis])
            parts.append(reverse if not exact and self.random.random() < 0.15 else loops[axis])
        return tuple(parts)

    def value(self, loops: dict[str, Var], known: list[str], depth: int = 2) -> Expr:
        if depth and self.random.random() < 0.6:
            name = self.choose(["add", "subtract", "maximum", "minimum"])
            parts = (self.value(loops, known, depth - 1), self.value(loops, known, depth - 1))
            return Call(name, parts, F8)
        loads = [
            Load(a, i, F8) for a in self.axes if (i := self.index(a, loops, False)) is not None
        ]
        names = [Var(name, F8) for name in known]
        return self.choose([*loads, *names, Const(float(self.random.integers(-3, 4)), F8)])

    def new_array(self, axes: str) -> str:
        name = f"t{len(self.axes)}"
        fill = self.choose([None, 0.0, 2.0])
        shape = tuple(Var(axis) for axis in axes)
        self.body.append(Alloc(name, shape, F8, fill, temporary=True))
        self.axes[name] = axes
        return name

    def nest(self) -> None:
        letters = self.choose([("i", "j"), ("k", "l"), ("i", "l")])
        axes = self.choose(["nm", "nm", "n", "m", "mn"])
        loops = {a: Var(letters["nm".index(a)]) for a in axes}
        known = list(self.scalars)
        inner: list[Statement] = []
        for _ in range(self.random.integers(0, 3)):
            name = self.choose(["v1", "v2", "v3"])
            copy = bool(known) and self.random.random() < 0.4
            value = Var(self.choose(known), F8) if copy else self.value(loops, known)
            inner.append(Assign(Var(name, F8), value))
            known = [*dict.fromkeys([*known, name])]
        for _ in range(self.random.integers(1, 3)):
            inner.append(self.effect(loops, known))
        if self.random.random() < 0.15:
            inner = [If(Call("less", (loops[axes[0]], integer(2)), np.dtype(bool)), tuple(inner))]
        for axis in reversed(axes):
            inner = [For(loops[axis], Var(axis), tuple(inner))]
        self.body += inner

    def effect(self, loops: dict[str, Var], known: list[str]) -> Statement:
        value = self.value(loops, known)
        kind = self.random.random()
        if kind < 0.25:
            name = f"acc{len(self.scalars)}"
            self.scalars.append(name)
            self.body.append(Assign(Var(name, F8), Const(1.0, F8)))
            return Accumulate(name, None, self.choose(["add", "add", "maximum"]), value, F8)
        if kind < 0.5:
            axes = self.choose([a for a in ("n", "m", "") if set(a) <= set(loops)])
            target = self.new_array(axes)
            self.body[-1] = Alloc(target, tuple(Var(a) for a in axes), F8, 1.0)
            return Accumulate(target, tuple(loops[a] for a in axes), "add", value, F8)
        old = [a for a in self.axes if a not in AXES and set(self.axes[a]) == set(loops)]
        if old and self.random.random() < 0.3:
            target = self.choose(old)
        else:
            target = self.new_array("nm" if len(loops) == 2 else "".join(loops))
        return Store(target, self.index(target, loops, False) or (), value)

    def function(self) -> Function:
        for _ in range(self.random.integers(2, 7)):
            self.nest()
            if self.scalars and self.random.random() < 0.3:
                name = f"s{len(self.body)}"
                value = Call("add", (Var(self.choose(self.scalars), F8), Const(1.0, F8)), F8)
                self.body.append(Assign(Var(name, F8), value))
        filled = [a for a in self.axes if a not in AXES]
        out = {a for a in filled if self.random.random() < 0.4} or set(filled[-1:])
        body = tuple(outward(s, out) for s in self.body)
        scalars = tuple(Var(name, F8) for name in self.scalars)
        parameters = tuple(
            Parameter(a, F8, len(AXES[a]), tuple(Var(x) for x in AXES[a])) for a in AXES
        )
        sizes = (("n", "x", 0), ("m", "x", 1))
        results = Return((*sorted(out), *scalars))
        return Function("f", parameters, (*body, results), "", sizes)


def outward(statement: Statement, out: set[str]) -> Statement:
    """Arrays that are read or returned before every element is stored must start defined."""
    match statement:
        case Alloc(array, shape, dtype, fill):
            return Alloc(array, shape, dtype, 3.0 if fill is None else fill, array not in out)
    return statement


def arguments(seed: int, case: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    n, m = SIZES["n"][case], SIZES["m"][case]
    shapes = ((n, m), (n, m), (n,), (m,))
    return [random.integers(-3, 4, shape).astype(float) for shape in shapes]


@pytest.mark.parametrize("chunk", range(4))
def test_passes_keep_the_meaning(chunk: int) -> None:
    for seed in range(chunk * 50, chunk * 50 + 50):
        function = Writer(seed).function()
        expected = [execute(function, arguments(seed, case)) for case in range(3)]
        for step, result in changed(function):
            for case in range(3):
                results = execute(result, arguments(seed, case))
                for found, value in zip(results, expected[case], strict=True):
                    np.testing.assert_array_equal(found, value, err_msg=f"{seed} {step}")


def changed(function: Function) -> Iterator[tuple[Any, Function]]:
    """The passes that do something to a function, one after the other, and what they make of it."""
    for step in schedule.PASSES:
        before, function = function, step(function)
        if function != before:
            yield step, function


def short_rows(function: Function) -> Function:
    """The function for m = 3 only."""
    body = substitute(function.body, {"m": integer(3)})
    parameters = tuple(
        replace(p, shape=tuple(integer(3) if e == M else e for e in p.shape or ()))
        for p in function.parameters
    )
    return replace(function, body=body, parameters=parameters, sizes=function.sizes[:1])


@pytest.mark.parametrize("chunk", range(4))
def test_short_loops_keep_the_meaning(chunk: int) -> None:
    for seed in range(chunk * 50, chunk * 50 + 50):
        function = short_rows(Writer(seed).function())
        expected = execute(function, arguments(seed, 0))
        for step, result in changed(function):
            results = execute(result, arguments(seed, 0))
            for found, value in zip(results, expected, strict=True):
                np.testing.assert_array_equal(found, value, err_msg=f"{seed} {step}")


def lengths(extent: Expr) -> Function:
    """The squared length of each row, and the rows divided by it."""
    i, j = Var("i"), Var("j")
    x = load("x", i, j)
    body = (
        Alloc("s", (N,), F8, 0.0),
        For(i, N, (For(j, extent, (Accumulate("s", (i,), "add", Call("multiply", (x, x), F8), F8),
                                   )),)),
        Alloc("y", (N, extent), F8, temporary=False),
        For(i, N, (For(j, extent, (Store("y", (i, j), Call("divide", (x, load("s", i)), F8)),)),)),
        Return(("y",)),
    )  # fmt: skip
    return Function("f", (Parameter("x", F8, 2, (N, extent)),), body, "", (("n", "x", 0),))


@pytest.mark.parametrize(("extent", "loops_left"), [(1, 1), (3, 1), (4, 1), (5, 3)])
def test_short_loops_are_written_out(extent: int, loops_left: int) -> None:
    function = schedule.structure(lengths(integer(extent)))
    assert sum(isinstance(s, For) for s in statements(function.body)) == loops_left
    x = np.random.default_rng(0).normal(size=(7, extent))
    (result,) = execute(schedule.optimize(lengths(integer(extent))), [x])
    expected = x / np.sum(x * x, axis=1, keepdims=True)
    np.testing.assert_allclose(result, expected, rtol=16 * np.finfo(float).eps)


def test_elements_in_a_row_stay_one_loop() -> None:
    i, j = Var("i"), Var("j")
    double = Call("multiply", (Const(2.0, F8), load("x", i, j)), F8)
    body = (
        Alloc("y", (N, integer(3)), F8, temporary=False),
        For(i, N, (For(j, integer(3), (Store("y", (i, j), double),)),)),
        Return(("y",)),
    )
    sizes = (("n", "x", 0),)
    function = Function("f", (Parameter("x", F8, 2, (N, integer(3))),), body, "", sizes)
    assert "for ij in range(n * 3)" in source.print_module(Module((schedule.optimize(function),)))


def bordered(low: int, high: int) -> Function:
    """`y[i] = (x[i - low] if low <= i else 7.0) + (x[i + high] if i < n - high else x[0])`, and the
    sum of y."""
    i = Var("i")
    here = Load("x", (subtract(i, integer(low)),), F8)
    there = Load("x", (add(i, integer(high)),), F8)
    late = Call("less_equal", (integer(low), i), BOOL)
    early = Call("less", (i, subtract(N, integer(high))), BOOL)
    left = Select(late, here, Const(7.0, F8), F8)
    right = Select(early, there, Load("x", (integer(0),), F8), F8)
    value = Call("add", (left, right), F8)
    loop = For(i, N, (Store("y", (i,), value), Accumulate("s", None, "add", value, F8)))
    body = (
        Assign(Var("s", F8), Const(0.0, F8)),
        Alloc("y", (N,), F8, None, temporary=False),
        loop,
        Return(("y", Var("s", F8))),
    )
    return Function("f", (Parameter("x", F8, 1),), body, "", (("n", "x", 0),))


@pytest.mark.parametrize("low", [0, 1, 3])
@pytest.mark.parametrize("high", [0, 1, 2])
def test_borders_are_taken_out(low: int, high: int) -> None:
    function = bordered(low, high)
    fast = schedule.optimize(function)
    middle = source.print_module(Module((fast,))).rsplit("for i in range(", 1)[1]
    assert " if " not in middle.split("return")[0] or low == high == 0
    for n in range(8):
        x = np.random.default_rng(n).integers(-9, 9, n).astype(float)
        for got, want in zip(execute(fast, [x]), execute(function, [x]), strict=True):
            np.testing.assert_array_equal(got, want)


def stencil(low: int, high: int) -> Function:
    """The sum of neighbours in both axes, `low` before and `high` behind, zero outside; written as
    the padded array is read, with comparisons that always hold."""
    i, j = Var("i"), Var("j")
    value: Expr = Load("x", (i, j), F8)
    for di, dj in ((-low, 0), (high, 0), (0, -low), (0, high)):
        inside: Expr = Const(True, BOOL)
        for at, step, extent in ((i, di, N), (j, dj, M)):
            padded = add(at, integer(low + step))
            after = Call("less_equal", (integer(low), padded), BOOL)
            before = Call("less", (padded, add(extent, integer(low))), BOOL)
            inside = Call("logical_and", (inside, Call("logical_and", (after, before), BOOL)), BOOL)
        there = Load("x", (add(i, integer(di)), add(j, integer(dj))), F8)
        value = Call("add", (value, Select(inside, there, Const(0.0, F8), F8)), F8)
    row = For(j, M, (Store("y", (i, j), value), Accumulate("s", None, "add", value, F8)))
    body = (
        Assign(Var("s", F8), Const(0.0, F8)),
        Alloc("y", (N, M), F8, None, temporary=False),
        For(i, N, (row,)),
        Return(("y", Var("s", F8))),
    )
    return Function("f", (Parameter("x", F8, 2),), body, "", (("n", "x", 0), ("m", "x", 1)))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1, 0), (1, 1), (2, 1), (3, 3)])
def test_borders_of_rows_are_taken_out(low: int, high: int) -> None:
    function = stencil(low, high)
    fast = schedule.optimize(function)
    text = source.print_module(Module((fast,)))
    assert " if " not in text.rsplit("for j in range(", 1)[1].split("return")[0]
    assert f"{low} <= j + {low + high}" not in text, "this holds everywhere"
    for n, m in ((0, 3), (1, 1), (1, 5), (2, 3), (3, 2), (6, 7), (9, 4)):
        x = np.random.default_rng(n).integers(-9, 9, (n, m)).astype(float)
        for got, want in zip(execute(fast, [x]), execute(function, [x]), strict=True):
            np.testing.assert_array_equal(got, want)


def test_a_scalar_that_goes_on_to_the_next_iteration_keeps_the_order() -> None:
    """`y[i] = s if n - 2 < i else x[i] + s`, then `s = x[i]`."""
    i, s = Var("i"), Var("s", F8)
    here = Load("x", (i,), F8)
    late = Call("add", (here, s), F8)
    value = Select(Call("less", (subtract(N, integer(2)), i), BOOL), s, late, F8)
    loop = For(i, N, (Store("y", (i,), value), Assign(s, here)))
    start = (Assign(s, Const(1.0, F8)), Alloc("y", (N,), F8, None, temporary=False))
    body = (*start, loop, Return(("y",)))
    function = Function("f", (Parameter("x", F8, 1),), body, "", (("n", "x", 0),))
    assert loops(borders.peel(function)) == 1


def test_a_loop_that_reads_what_it_wrote_keeps_its_order() -> None:
    i = Var("i")
    before = Load("y", (subtract(i, integer(1)),), F8)
    value = Select(Call("less", (i, integer(1)), BOOL), Const(1.0, F8), before, F8)
    loop = For(i, N, (Store("y", (i,), value),))
    body = (Alloc("y", (N,), F8, None, temporary=False), loop, Return(("y",)))
    function = Function("f", (Parameter("x", F8, 1),), body, "", (("n", "x", 0),))
    assert loops(schedule.optimize(function)) == 1


def summing(dtype: str, nested: bool = False) -> Function:
    """The sum of x[n] or, over rows in an outer loop, of x[n, m]."""
    kind = np.dtype(dtype)
    total, i, j = Var("total", kind), Var("i"), Var("j")
    index = (i, j) if nested else (i,)
    loop: Statement = Accumulate("total", None, "add", Load("x", index, kind), kind)
    if nested:
        # A store to row sums keeps the nest from being collapsed into one loop.
        loop = For(j, M, (loop, Accumulate("rows", (i,), "add", Load("x", index, kind), kind)))
    body = (Assign(total, Const(0.0, kind)), Alloc("rows", (N,), kind, 0.0, temporary=False))
    results = Return((total, "rows"))
    sizes = (("n", "x", 0), ("m", "x", 1))[: 1 + nested]
    parameters = (Parameter("x", kind, 1 + nested),)
    return Function("f", parameters, (*body, For(i, N, (loop,)), results), "", sizes)


@pytest.mark.parametrize("chunk", range(4))
def test_strips_and_blocks_keep_the_meaning(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small strips and blocks, and maxima as the vector math for which rows are cut."""
    monkeypatch.setattr(strips, "STRIP", 2)
    monkeypatch.setattr(strips, "is_long", lambda name, dtype: name == "maximum")
    monkeypatch.setattr(sums, "BLOCK", 2)
    cuts = 0
    for seed in range(chunk * 50, chunk * 50 + 50):
        function = Writer(seed).function()
        fast = schedule.optimize(function)
        cuts += "i_strip" in str(fast.body)
        for case in range(3):
            got, want = (execute(f, arguments(seed, case)) for f in (fast, function))
            for a, b in zip(got, want, strict=True):
                np.testing.assert_array_equal(a, b, f"seed {seed}")
    assert cuts


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_sum_is_as_accurate_as_numpys(dtype: str, nested: bool) -> None:
    """The bound is NumPy's for blocks of 128 in 8 accumulators and then pairs of them, n = 1e7:
    15 + 3 + log2(1e7 / 128) + 1 < 36 roundings of half an ulp of the sum of absolute values.
    Ours are 256 / 8 in a block (a vector of at least 2, unrolled by 4) and 3 to end it."""
    built = codegen.build(Module((summing(dtype, nested),)))
    random = np.random.default_rng(1)
    samples = [np.full(10_000_000, 0.1), random.random(1_000_003), random.normal(size=1_000_003)]
    for sample in samples:
        x = sample.astype(dtype)
        x = x[: len(x) // 7 * 7].reshape(-1, 7) if nested else x
        total = float(built.functions["f"](x)[0])
        size = math.fsum(np.abs(x.ravel()))
        assert abs(total - math.fsum(x.ravel())) <= 36 * np.finfo(dtype).eps / 2 * size


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_sum_over_a_short_constant_extent_is_one_block(dtype: str) -> None:
    """The bound: 256 / 8 roundings in the block and 4 to end it, as above."""
    terms = Function(
        "f",
        (Parameter("x", np.dtype(dtype), 1),),
        (
            Assign(Var("total", np.dtype(dtype)), Const(0.0, np.dtype(dtype))),
            For(Var("i"), integer(256), (summing(dtype).body[2].body[0],)),  # type: ignore[union-attr]
            Return((Var("total", np.dtype(dtype)),)),
        ),
    )
    built = codegen.build(Module((terms,)))
    assert not any(word in built.source for word in ("block", "lost", "wide"))
    x = np.random.default_rng(0).normal(size=256).astype(dtype)
    error = abs(float(built.functions["f"](x)) - math.fsum(x))
    assert error <= 36 * np.finfo(dtype).eps / 2 * math.fsum(np.abs(x))


def test_sums_of_special_values() -> None:
    function = codegen.build(Module((summing("f8"),))).functions["f"]
    for values, expected in [
        ([], 0.0),
        ([np.inf, 1.0], np.inf),
        ([np.inf, -np.inf], np.nan),
        ([np.nan, 1.0], np.nan),
        ([1e308, 1e308], np.inf),
        ([1.0] * 3000 + [np.inf], np.inf),
        ([-np.inf] + [1.0] * 3000, -np.inf),
    ]:
        np.testing.assert_equal(function(np.array(values))[0], expected)


def load(array: str, *index: Expr) -> Load:
    return Load(array, index, F8)


def pair(second: Statement, first: Statement | None = None, extent: Expr = N) -> Function:
    """`t[i] = x[i]` over i, then `second` over k of the same extent."""
    i, k = Var("i"), Var("k")
    first = first or Store("t", (i,), load("x", i))
    body = (
        Alloc("t", (N,), F8, 0.0, temporary=False),
        Alloc("y", (N,), F8, 0.0, temporary=False),
        Assign(Var("s", F8), Const(0.0, F8)),
        For(i, N, (first,)),
        For(k, extent, (second,)),
        Return(("t", "y", Var("s", F8))),
    )
    return Function("f", (Parameter("x", F8, 1),), body, "", (("n", "x", 0),))


K = Var("k")
ILLEGAL = {
    "an element of an earlier iteration": pair(
        Store("y", (K,), load("t", Call("maximum", (subtract(K, integer(1)), integer(0)), INT)))
    ),
    "an element of a later iteration": pair(
        Store("y", (K,), load("t", subtract(subtract(N, integer(1)), K)))
    ),
    "always the same element": pair(Store("y", (K,), load("t", integer(0)))),
    "an element chosen by data": pair(
        Store("y", (K,), load("t", Cast(load("x", K), INT))),
    ),
    "a finished sum": pair(
        Store("y", (K,), Var("s", F8)),
        Accumulate("s", None, "add", load("x", Var("i")), F8),
    ),
    "a finished element": pair(
        Store("y", (K,), load("t", integer(0))),
        Accumulate("t", (integer(0),), "add", load("x", Var("i")), F8),
    ),
    "another extent": pair(
        Store("y", (K,), load("t", K)), extent=Call("minimum", (N, integer(3)), INT)
    ),
}


def loops(function: Function) -> int:
    return sum(isinstance(s, For) for s in function.body)


@pytest.mark.parametrize("reason", ILLEGAL)
def test_loops_stay_apart(reason: str) -> None:
    assert loops(schedule.fuse(ILLEGAL[reason])) == 2


def test_loops_over_the_same_elements_become_one() -> None:
    assert loops(schedule.fuse(pair(Store("y", (K,), load("t", K))))) == 1


def test_a_sequential_loop_stays_as_it_is() -> None:
    function = pair(Store("y", (K,), load("t", K)))
    body = tuple(replace(s, sequential=True) if isinstance(s, For) else s for s in function.body)
    assert loops(schedule.fuse(replace(function, body=body))) == 2


def test_an_array_made_in_a_loop_is_in_no_register_around_it() -> None:
    i, j = Var("i"), Var("j")
    rows = For(j, M, (Accumulate("t", (integer(0),), "add", load("x", i, j), F8),))
    made = Alloc("t", (integer(1),), F8, 0.0)
    loop = For(i, N, (made, rows, Store("y", (i,), load("t", integer(0)))))
    (inner,) = [s for s in rows.body if isinstance(s, Accumulate)]
    assert registers.candidates(rows, {}) == [inner]
    assert registers.candidates(loop, {}) == []


def test_what_follows_a_check_stays_behind_it() -> None:
    function = pair(Store("y", (K,), load("t", K)))
    *start, first, second, end = function.body
    check = Check(Call("greater", (N, integer(5)), BOOL), "ValueError", "n is too small")
    body = (*start, first, check, second, end)
    assert loops(schedule.fuse(replace(function, body=body))) == 2


def softmax() -> Function:
    """Row-wise softmax, an operation to a nest."""
    i, j = Var("i"), Var("j")

    def nest(*body: Statement) -> For:
        return For(i, N, (For(j, M, body),))

    def value(name: str, *args: Expr) -> Call:
        return Call(name, args, F8)

    body = (
        Alloc("top", (N,), F8, -np.inf),
        nest(Accumulate("top", (i,), "maximum", load("x", i, j), F8, "np.max(x, 1)")),
        Alloc("e", (N, M), F8),
        nest(Store("e", (i, j), value("exp", value("subtract", load("x", i, j), load("top", i))))),
        Alloc("total", (N,), F8, 0.0),
        nest(Accumulate("total", (i,), "add", load("e", i, j), F8, "np.sum(e, 1)")),
        Alloc("y", (N, M), F8, temporary=False),
        nest(Store("y", (i, j), value("divide", load("e", i, j), load("total", i)), "e / total")),
        Return(("y",)),
    )
    doc = "Softmax of each row."
    sizes = (("n", "x", 0), ("m", "x", 1))
    return Function("softmax", (Parameter("x", F8, 2),), body, doc, sizes)


SOFTMAX = '''\
@njit(error_model="numpy", nogil=True)
def softmax(x):
    """Softmax of each row."""
    n, m = x.shape
    y = np.empty((n, m))
    e = np.empty(m)
    for i in range(n):
        top = -np.inf
        for j in range(m):
            top = running_max(top, x[i, j])               # np.max(x, 1)
        total = 0.0
        total_lost = 0.0
        for j_block in range(0, m, 256):
            total_part = 0.0
            for j in range(j_block, min(j_block + 256, m)):
                e[j] = exp_f64(x[i, j] - top)
                total_part = add_reassoc_f64(total_part, e[j])  # np.sum(e, 1)
            total_lost += rounding_error_f64(total, total_part)
            total += total_part
        total += total_lost
        for j in range(m):
            y[i, j] = e[j] / total                          # e / total
    return y
'''


def test_a_row_wise_program_is_one_loop_over_rows() -> None:
    text = source.print_module(Module((schedule.optimize(softmax()),)))
    assert [" ".join(line.split()) for line in text.splitlines()[-len(SOFTMAX.splitlines()) :]] == [
        " ".join(line.split()) for line in SOFTMAX.splitlines()
    ]
    x = np.random.default_rng(0).normal(size=(5, 2000)) * 10
    expected = np.exp(x - x.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    result = codegen.build(Module((softmax(),))).functions["softmax"](x)
    # exp to 2 ulp, a sum of positive terms and a division to a few more.
    np.testing.assert_allclose(result, expected, rtol=16 * np.finfo(float).eps)


@pytest.mark.parametrize("combine", ["maximum", "minimum"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_extremes_are_numpys(combine: str, dtype: str) -> None:
    kind = np.dtype(dtype)
    start = Const(-np.inf if combine == "maximum" else np.inf, kind)
    loop = For(Var("i"), N, (Accumulate("s", None, combine, Load("x", (Var("i"),), kind), kind),))
    body = (Assign(Var("s", kind), start), loop, Return((Var("s", kind),)))
    sizes = (("n", "x", 0),)
    module = Module((Function("f", (Parameter("x", kind, 1),), body, "", sizes),))
    function = codegen.build(module).functions["f"]
    numbers = np.random.default_rng(2).normal(size=1003).astype(kind)
    for change in (None, np.nan, np.inf, -np.inf):
        for at in (0, 500, 1002):
            x = numbers.copy()
            x[at] = x[at] if change is None else change
            np.testing.assert_equal(function(x), getattr(np, combine).reduce(x))


def test_an_axis_of_one_and_a_second_name_vanish() -> None:
    """`total[n, 1]` of keepdims, filled from a scalar of another name, becomes one scalar."""
    i, j, s = Var("i"), Var("j"), Var("s_sum", F8)
    rows = (
        Assign(s, Const(0.0, F8)),
        For(j, M, (Accumulate("s_sum", None, "add", load("x", i, j), F8),)),
        Store("s", (i, integer(0)), s),
        Store("y", (i,), Call("multiply", (load("s", i, integer(0)), Const(2.0, F8)), F8)),
    )
    body = (
        Alloc("s", (N, integer(1)), F8),
        Alloc("y", (N,), F8, temporary=False),
        For(i, N, rows),
        Return(("y",)),
    )
    sizes = (("n", "x", 0), ("m", "x", 1))
    function = schedule.structure(Function("f", (Parameter("x", F8, 2),), body, "", sizes))
    text = source.print_module(Module((function,)))
    assert "s += x[i, j]" in text and "y[i] = s * 2.0" in text and "s_sum" not in text
    assert text.count("np.empty") == 1


@pytest.mark.parametrize("kind", ["for", "while"])
def test_buffers_of_a_loop_are_allocated_before_it(kind: str) -> None:
    """Also of a loop that runs until a condition fails; what they begin with is stored each time,
    and one whose extent the loop changes stays inside."""
    i, k, left = Var("i"), Var("k"), Var("left", BOOL)
    total = Accumulate("total", None, "add", load("row", Var("j")), F8)
    step = (
        Alloc("row", (M,), F8, 1.0),
        For(Var("j"), M, (Accumulate("row", (Var("j"),), "add", load("x", i, Var("j")), F8),)),
        For(Var("j"), M, (total,)),
        Assign(k, add(k, integer(1))),
        Alloc("other", (k,), F8),
        Store("other", (integer(0),), Var("total", F8)),
        Store("y", (i,), load("other", integer(0))),
    )
    around: Statement = For(i, N, step, sequential=True)
    if kind == "while":
        onward = Assign(i, add(i, integer(1)))
        again = Assign(left, Call("less", (i, N), BOOL))
        around = While(left, (*step, onward, again))
    body = (
        Alloc("y", (N,), F8, temporary=False),
        Assign(Var("total", F8), Const(0.0, F8)),
        Assign(k, integer(0)),
        *((Assign(i, integer(0)), Assign(left, Call("less", (i, N), BOOL))) * (kind == "while")),
        around,
        Return(("y",)),
    )
    sizes = (("n", "x", 0), ("m", "x", 1))
    function = schedule.allocate_early(Function("f", (Parameter("x", F8, 2),), body, "", sizes))
    x = np.arange(12.0).reshape(4, 3)
    (found,) = execute(function, [x])
    np.testing.assert_array_equal(found, np.cumsum(x.sum(axis=1) + 3))
    (loop,) = (s for s in function.body if isinstance(s, For | While))
    assert [s.array for s in loop.body if isinstance(s, Alloc)] == ["other"]
