"""Dead arrays hand their memory on: random loop programs keep their results, and none of them is
in the memory of an argument that was not given away or of another result.

The texts before and after the pass are executed as plain Python; see test_codegen_schedule.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from codegen import library, schedule, source
from codegen.expr import BOOL, INT, Call, Const, Expr, Load, Var, integer, subtract
from codegen.loops import (
    Accumulate,
    Alloc,
    Assign,
    For,
    Function,
    If,
    LibraryCall,
    Module,
    Parameter,
    Return,
    Statement,
    Store,
    View,
    While,
)
from codegen.schedule.reuse import reuse, reused
from codegen.traverse import statements

F8 = np.dtype(np.float64)
N, M = Var("n"), Var("m")
ROW, COL, MID = Var("i"), Var("j"), Var("k")
ONE = Const(1.0, F8)
GIVEN = {"x": "nm", "g": "nm", "r": "n", "s": "n"}
"""Parameters; g and s are donated."""
STAND_INS = {
    "running_max": max,
    "running_min": min,
    "maximum_float": max,
    "minimum_float": min,
    "add_reassoc_f64": lambda a, b: a + b,
    "rounding_error_f64": library.plain(library.rounding_error_f64),
    "njit": lambda **options: lambda function: function,
}


def run(function: Function, arguments: list[np.ndarray]) -> list[np.ndarray]:
    """The results themselves, so that their memory can be looked at."""
    lines = source.print_module(Module((function,))).splitlines()
    space: dict[str, Any] = dict(STAND_INS)
    exec("\n".join(line for line in lines if not line.startswith("from ")), space)
    results = space[function.name](*arguments)
    return list(results) if isinstance(results, tuple) else [results]


def parameters(donated: str = "gs") -> tuple[Parameter, ...]:
    return tuple(
        Parameter(name, F8, len(axes), tuple(Var(a) for a in axes), name in donated)
        for name, axes in GIVEN.items()
    )


def program(*body: Statement) -> Function:
    return Function("f", parameters(), body, "", (("n", "x", 0), ("m", "x", 1)))


class Writer:
    """Random nests, each of which fills new arrays from older ones, at its own, a reversed or a
    fixed index, sometimes through a flat view; some arrays are returned."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.axes = dict(GIVEN)
        self.flat: dict[str, str] = {}
        self.body: list[Statement] = []

    def choose(self, options: Any) -> Any:
        options = list(options)
        return options[self.random.integers(len(options))]

    def index(self, axes: str, loops: dict[str, Var]) -> tuple[Expr, ...]:
        parts: list[Expr] = []
        for axis in axes:
            reverse = subtract(subtract(Var(axis), integer(1)), loops[axis])
            odd = self.random.random() < 0.08
            parts.append(self.choose([reverse, integer(0)]) if odd else loops[axis])
        return tuple(parts)

    def load(self, loops: dict[str, Var]) -> Expr:
        recent = [a for a in self.axes if set(self.axes[a]) <= set(loops)][-5:]
        name = self.choose(recent)
        if name in self.flat and self.random.random() < 0.3:
            place = Call("add", (Call("multiply", (loops["n"], M), INT), loops["m"]), INT)
            return Load(self.flat[name], (place,), F8)
        return Load(name, self.index(self.axes[name], loops), F8)

    def value(self, loops: dict[str, Var]) -> Expr:
        first = Call(self.choose(["add", "subtract"]), (self.load(loops), self.load(loops)), F8)
        return (
            Call("maximum", (first, self.load(loops)), F8) if self.random.random() < 0.4 else first
        )

    def nest(self) -> None:
        axes = self.choose(["nm", "nm", "nm", "n"])
        loops = {axis: Var("ij"["nm".index(axis)]) for axis in axes}
        names = [f"t{len(self.axes) + k}" for k in range(self.random.integers(1, 3))]
        for name in names:
            shape = tuple(Var(axis) for axis in axes)
            fill = self.choose([None, None, None, 2.0])
            self.body.append(Alloc(name, shape, F8, fill))
        stores = [Store(name, tuple(loops.values()), self.value(loops)) for name in names]
        inner: list[Statement] = list(stores)
        if self.random.random() < 0.3:  # two loops over the columns of a row
            total = f"a{len(self.axes)}"
            self.body.append(Assign(Var(total, F8), ONE))
            early = Accumulate(total, None, "add", self.load(loops), F8)
            inner = (
                [early, *inner]
                if axes == "n"
                else [For(COL, M, (early,)), For(COL, M, tuple(inner))]
            )
            self.body.append(For(ROW, N, tuple(inner)))
        else:
            for axis in reversed(axes):
                inner = [For(loops[axis], Var(axis), tuple(inner))]
            self.body += inner
        for name in names:
            self.axes[name] = axes
            if axes == "nm" and self.random.random() < 0.3:
                self.flat[name] = f"{name}_row"
                self.body.append(View(self.flat[name], name, (Call("multiply", (N, M), INT),)))

    def function(self) -> Function:
        for _ in range(self.random.integers(2, 8)):
            self.nest()
        made = [name for name in self.axes if name not in GIVEN]
        out = sorted({name for name in made if self.random.random() < 0.25} | {made[-1]})
        body = [replace(s, temporary=s.array not in out) if isinstance(s, Alloc) else s
                for s in self.body]  # fmt: skip
        return program(*body, Return(tuple(out)))


def arguments(seed: int, n: int, m: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = [tuple({"n": n, "m": m}[axis] for axis in axes) for axes in GIVEN.values()]
    return [random.integers(-9, 10, shape).astype(float) for shape in shapes]


def allocations(function: Function) -> int:
    return sum(isinstance(s, Alloc) for s in statements(function.body))


@pytest.mark.parametrize("chunk", range(3))
@pytest.mark.parametrize("before", [(), schedule.STRUCTURE[:-1]], ids=["raw", "fused"])
def test_results_stay_what_they_were(before: Any, chunk: int) -> None:
    saved = 0
    for seed in range(chunk * 80, chunk * 80 + 80):
        function = Writer(seed).function()
        for step in before:
            function = step(function)
        changed = reuse(function)
        saved += allocations(function) - allocations(changed)
        for n, m in ((4, 3), (1, 5), (0, 2)):
            given = arguments(seed, n, m)
            results = run(changed, given)
            for result, value in zip(results, run(function, arguments(seed, n, m)), strict=True):
                np.testing.assert_array_equal(result, value, err_msg=str(seed))
            kept = [a for a, p in zip(given, function.parameters, strict=True) if not p.donated]
            for at, result in enumerate(results):
                assert not any(np.shares_memory(result, a) for a in (*kept, *results[:at])), seed
            for array, fresh in zip(kept, [arguments(seed, n, m)[k] for k in (0, 2)], strict=True):
                np.testing.assert_array_equal(array, fresh)
    assert saved > 80, "the programs give little occasion for reuse"


def load(array: str, *index: Expr) -> Load:
    return Load(array, index, F8)


def table(name: str, temporary: bool = True, fill: float | None = None) -> Alloc:
    return Alloc(name, (N, M), F8, fill, temporary)


def each(*body: Statement) -> For:
    return For(ROW, N, (For(COL, M, body),))


def doubled(new: str, old: str) -> Statement:
    return Store(new, (ROW, COL), Call("add", (load(old, ROW, COL), load(old, ROW, COL)), F8))


def added(new: str, old: str) -> Statement:
    return Accumulate(new, (ROW, COL), "add", load(old, ROW, COL), F8)


def filled(name: str) -> tuple[Statement, ...]:
    return table(name), each(doubled(name, "x"))


OUT = table("y", temporary=False)
END = Return(("y",))
BACKWARDS = load("t", subtract(subtract(N, integer(1)), ROW), COL)

LEGAL: dict[str, tuple[Statement, ...]] = {
    "dead before": (
        *filled("t"), table("u"), each(doubled("u", "t")), OUT, each(doubled("y", "u")),
    ),
    "in place": (*filled("t"), OUT, each(doubled("y", "t"))),
    "two passes over a row": (
        *filled("t"),
        Assign(Var("a", F8), ONE),
        OUT,
        For(ROW, N, (
            For(COL, M, (Accumulate("a", None, "add", load("t", ROW, COL), F8),)),
            For(COL, M, (doubled("y", "t"),)),
        )),
    ),
    "read before, in an inner loop": (
        *filled("t"),
        OUT,
        For(ROW, N, (
            Assign(Var("a", F8), ONE),
            For(COL, M, (For(MID, M, (Accumulate("a", None, "add", load("t", ROW, MID), F8),)),)),
            For(COL, M, (Store("y", (ROW, COL), Var("a", F8)),)),
        )),
    ),
    "a sequential loop": (*filled("t"), OUT, replace(each(doubled("y", "t")), sequential=True)),
}  # fmt: skip

ILLEGAL: dict[str, tuple[Statement, ...]] = {
    "another row": (*filled("t"), OUT, each(Store("y", (ROW, COL), BACKWARDS))),
    "read after the write": (
        *filled("t"), OUT, each(doubled("y", "t"), added("y", "t")),
    ),
    "read in a later loop over the row": (
        *filled("t"),
        OUT,
        For(ROW, N, (
            For(COL, M, (doubled("y", "t"),)),
            For(COL, M, (added("y", "t"),)),
        )),
    ),
    "other elements of the row": (
        *filled("t"), OUT, each(Store("y", (ROW, COL), load("t", ROW, integer(0)))),
    ),
    "read again in an outer iteration": (
        *filled("t"), OUT, For(MID, N, (each(doubled("y", "t")),)),
    ),
    "a view": (
        *filled("t"),
        View("v", "t", axes=(1, 0)),
        OUT,
        each(Store("y", (ROW, COL), load("v", COL, ROW))),
    ),
    "alive through a view": (
        *filled("t"),
        View("v", "t", axes=(1, 0)),
        OUT,
        each(doubled("y", "t")),
        table("z", temporary=False),
        each(Store("z", (ROW, COL), load("v", COL, ROW))),
        Return(("y", "z")),
    ),
    "a library call": (*filled("t"), OUT, LibraryCall("dot", ("x", "t"), ("y",))),
    "returned": (
        table("t", temporary=False), each(doubled("t", "x")), OUT, each(doubled("y", "t")),
        Return(("t", "y")),
    ),
    "another type": (
        Alloc("t", (N, M), np.dtype(np.float32)), each(doubled("t", "x")),
        OUT, each(doubled("y", "t")),
    ),
    "another shape": (
        Alloc("t", (M, N), F8), For(ROW, N, (For(COL, M, (Store("t", (COL, ROW), ONE),)),)),
        OUT, each(doubled("y", "x")),
    ),
    "a fill": (
        *filled("t"), table("y", False, 0.0), each(added("y", "t")),
    ),
    "under a condition": (
        *filled("t"), OUT, If(Call("less", (N, integer(2)), BOOL), (each(doubled("y", "t")),)),
    ),
    "round and round": (
        *filled("t"), OUT, While(Call("less", (load("t", integer(0), integer(0)), ONE), BOOL), (
            each(doubled("y", "t")), each(doubled("t", "y")),
        )),
    ),
    "extents that change": (
        Assign(Var("q", np.dtype(np.int64)), integer(1)),
        Alloc("t", (Var("q"),), F8),
        Store("t", (integer(0),), ONE),
        Assign(Var("q", np.dtype(np.int64)), integer(2)),
        Alloc("y", (Var("q"),), F8, None, False),
        Store("y", (integer(1),), ONE),
    ),
}  # fmt: skip


def bare(*body: Statement) -> Function:
    """The program without donated parameters."""
    return replace(program(*body), parameters=parameters(donated=""))


@pytest.mark.parametrize("case", LEGAL)
def test_memory_is_handed_on(case: str) -> None:
    function = bare(*LEGAL[case], END)
    changed = reuse(function)
    assert reused(changed)["y"] == "t"
    assert allocations(changed) == 1
    given = arguments(0, 4, 3)
    np.testing.assert_array_equal(run(changed, given), run(function, given))


@pytest.mark.parametrize("case", ILLEGAL)
def test_memory_is_left_alone(case: str) -> None:
    function = bare(*ILLEGAL[case], END)
    assert "y" not in reused(reuse(function))


def test_a_donated_parameter_is_written_to_and_returned() -> None:
    function = program(OUT, each(doubled("y", "g")), END)
    given = arguments(0, 4, 3)
    expected = 2 * given[1]
    (y,) = run(reuse(function), given)
    assert y is given[1]
    np.testing.assert_array_equal(y, expected)
    assert reuse(replace(function, parameters=parameters(donated=""))).body == function.body


def test_what_died_last_is_taken_and_only_once() -> None:
    function = program(
        *filled("t"), *filled("u"), table("v"), each(doubled("v", "t")), OUT,
        table("z", temporary=False), each(doubled("y", "v"), doubled("z", "v")), Return(("y", "z")),
    )  # fmt: skip
    assert reused(reuse(replace(function, parameters=parameters(donated="")))) == {
        "v": "t",
        "z": "t",
        "y": "u",
    }


def test_the_text_says_whose_memory_it_is() -> None:
    text = source.print_module(Module((reuse(bare(*LEGAL["in place"], END)),)))
    assert [line.split(maxsplit=3) for line in text.splitlines() if "reuses" in line] == [
        ["y", "=", "t", "# reuses the buffer of t"]
    ]
