"""Every scheduling pass keeps the meaning of random loop programs, and fuses only what it may.

The texts before and after a pass are executed as plain Python. All values are small integers in
float64, so that sums are exact in any order and the results must be equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codegen import library, schedule, source
from codegen.expr import Call, Const, Expr, Load, Var, integer, subtract
from codegen.loops import (
    Accumulate,
    Alloc,
    Assign,
    For,
    Function,
    If,
    Module,
    Parameter,
    Return,
    Statement,
    Store,
)

F8 = np.dtype(np.float64)
N, M = Var("n"), Var("m")
SIZES = {"n": (4, 1, 0), "m": (3, 5, 2)}
AXES = {"x": "nm", "z": "nm", "r": "n", "c": "m"}
STAND_INS = {
    "maximum_float": max,
    "minimum_float": min,
    "add_reassoc_f64": lambda a, b: a + b,
    "rounding_error_f64": library.plain(library.rounding_error_f64),
    "njit": lambda **options: lambda function: function,
}


def execute(function: Function, arguments: list[np.ndarray]) -> list[np.ndarray]:
    lines = source.print_module(Module((function,))).splitlines()
    space: dict[str, Any] = dict(STAND_INS)
    exec("\n".join(line for line in lines if not line.startswith("from ")), space)
    results = space[function.name](*arguments)
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
            inner.append(Assign(Var(name, F8), self.value(loops, known)))
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


@pytest.mark.parametrize("chunk", range(6))
def test_passes_keep_the_meaning(chunk: int) -> None:
    for seed in range(chunk * 50, chunk * 50 + 50):
        function = Writer(seed).function()
        expected = [execute(function, arguments(seed, case)) for case in range(3)]
        for step in schedule.PASSES:
            function = step(function)
            for case in range(3):
                results = execute(function, arguments(seed, case))
                for result, value in zip(results, expected[case], strict=True):
                    np.testing.assert_array_equal(result, value, err_msg=f"{seed} {step}")
