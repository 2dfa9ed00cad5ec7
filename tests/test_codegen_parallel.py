"""Loops on several threads: the same results in blocks, in any order, as in one loop; what depends
on the order of iterations stays in it.

Random programs run as plain Python, each iteration a block of its own and the last one first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from codegen import schedule, source
from codegen.expr import INT, Call, Cast, Const, Expr, Load, Var, integer, subtract
from codegen.loops import (
    Accumulate,
    Alloc,
    Assign,
    For,
    Forward,
    Function,
    Launch,
    LibraryCall,
    Module,
    Parameter,
    Return,
    Statement,
    Store,
    View,
)
from codegen.schedule import worth
from codegen.schedule.parallel import threaded
from codegen.traverse import statements
from tests.test_codegen_schedule import STAND_INS, Writer, arguments, bordered, execute

F8 = np.dtype(np.float64)
AT, J, N, M = Var("i"), Var("j"), Var("n"), Var("m")


def backwards(kernel: Any, total: int, step: int, sums: Any, arguments: Any) -> None:
    blocks = [*enumerate(range(0, total, step))]
    for block, start in reversed(blocks):
        found = kernel(block, start, min(start + step, total), *arguments)
        values = found if isinstance(found, tuple) else (found,)
        for array, value in zip(sums, values if sums else (), strict=True):
            array[block] = value


def run(module: Module, given: list[np.ndarray]) -> list[np.ndarray]:
    lines = source.print_module(module).splitlines()
    space: dict[str, Any] = {**STAND_INS, "parallel": backwards}
    exec("\n".join(line for line in lines if not line.startswith("from ")), space)
    results = space[module.functions[-1].name](*given)
    return [np.array(r) for r in (results if isinstance(results, tuple) else (results,))]


@pytest.fixture
def one_iteration_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worth, "BLOCK", 0)
    monkeypatch.setattr(worth, "COPIED", 0)


@pytest.mark.usefixtures("one_iteration_a_block")
@pytest.mark.parametrize("chunk", range(4))
def test_blocks_in_any_order_give_the_same(chunk: int) -> None:
    split = 0
    for seed in range(chunk * 50, chunk * 50 + 50):
        function = Writer(seed).function()
        module = schedule.scheduled(Module((function,)), threads=True, entry=False)
        split += len(module.functions) - 1
        for case in range(3):
            given = arguments(seed, case)
            for result, value in zip(run(module, given), execute(function, given), strict=True):
                np.testing.assert_array_equal(result, value, err_msg=str(seed))
    assert split > 50


@pytest.mark.usefixtures("one_iteration_a_block")
@pytest.mark.parametrize("low", [0, 1, 3])
@pytest.mark.parametrize("high", [0, 1, 2])
def test_borders_are_taken_out_of_blocks(low: int, high: int) -> None:
    """Blocks of 1 and, from 65 elements on, of 2 and 4: ends within a block and over several."""
    function = bordered(low, high)
    module = schedule.scheduled(Module((function,)), threads=True, entry=False)
    kernel = source.print_module(module).split("return")[0]
    assert len(module.functions) == 2
    assert " if " not in kernel.rsplit("for i in range(", 1)[1] or low == high == 0
    for n in (0, 1, 2, 3, 4, 7, 65, 200):
        x = np.random.default_rng(n).integers(-9, 9, n).astype(float)
        for got, want in zip(run(module, [x]), execute(function, [x]), strict=True):
            np.testing.assert_array_equal(got, want)


def load(array: str, *index: Expr) -> Load:
    return Load(array, index, F8)


def function(*body: Statement, out: tuple[str | Expr, ...] = ("y",)) -> Function:
    """Over x[n] and w[n, m], with y[n] and the sum s."""
    start = (Alloc("y", (N,), F8, 0.0, temporary=False), Assign(Var("s", F8), Const(0.0, F8)))
    parameters = (Parameter("x", F8, 1), Parameter("w", F8, 2))
    sizes = (("n", "w", 0), ("m", "w", 1))
    return Function("f", parameters, (*start, *body, Return(out)), "", sizes)


def loop(*body: Statement) -> Function:
    return function(For(AT, N, body))


def kernels(found: Function) -> int:
    return len(threaded(Module((found,))).functions) - 1


ALONE = {
    "an element of its own": loop(Store("y", (AT,), load("x", AT))),
    "an element from the end": loop(
        Store("y", (subtract(subtract(N, integer(1)), AT),), load("x", AT))
    ),
    "a sum": loop(Accumulate("s", None, "add", load("x", AT), F8)),
    "a row of a view": loop(View("w_i", "w", at=(AT,)), Store("w_i", (integer(0),), load("x", AT))),
    "an array that all add to": loop(
        Accumulate("y", (Cast(load("x", AT), INT),), "add", load("x", AT), F8)
    ),
    "a library call into its own row": loop(
        View("w_i", "w", at=(AT,)), LibraryCall("sort", ("x",), ("w_i",))
    ),
}
TOGETHER = {
    "an element of an earlier iteration": loop(
        Store("y", (AT,), load("y", Call("maximum", (subtract(AT, integer(1)), integer(0)), INT)))
    ),
    "always the same element": loop(Store("y", (integer(0),), load("x", AT))),
    "an element chosen by data": loop(Store("y", (Cast(load("x", AT), INT),), load("x", AT))),
    "a scalar from one iteration to the next": loop(
        Store("y", (AT,), Var("s", F8)), Assign(Var("s", F8), load("x", AT))
    ),
    "a sum that is looked at": loop(
        Accumulate("s", None, "add", load("x", AT), F8), Store("y", (AT,), Var("s", F8))
    ),
    "a sum and a maximum of the same": loop(
        Accumulate("s", None, "add", load("x", AT), F8),
        Accumulate("s", None, "maximum", load("x", AT), F8),
    ),
    "the last value": replace(
        loop(Assign(Var("t", F8), load("x", AT))),
        body=(*loop(Assign(Var("t", F8), load("x", AT))).body[:-1], Return((Var("t", F8),))),
    ),
    "an array that is read while all add to it": loop(
        Accumulate("y", (integer(0),), "add", load("y", AT), F8)
    ),
    "a library call into an array of all": loop(LibraryCall("sort", ("x",), ("y",))),
    "an order that was asked for": function(
        For(AT, N, (Store("y", (AT,), load("x", AT)),), sequential=True)
    ),
    "few iterations": function(For(AT, integer(100), (Store("y", (AT,), load("x", AT)),))),
}


@pytest.mark.parametrize("what", ALONE)
def test_iterations_that_do_not_meet(what: str) -> None:
    assert kernels(ALONE[what]) == 1


@pytest.mark.parametrize("what", TOGETHER)
def test_iterations_that_meet(what: str) -> None:
    assert kernels(TOGETHER[what]) == 0


def test_a_buffer_for_one_iteration_becomes_one_for_a_block() -> None:
    """`t` stands before the loop because memory is not allocated in each iteration."""
    rows = For(
        AT,
        N,
        (
            Alloc("t", (M,), F8),
            For(J, M, (Store("t", (J,), Call("multiply", (load("w", AT, J), load("x", AT)), F8)),)),
            For(
                J,
                M,
                (Accumulate("y", (AT,), "add", load("t", Call("remainder", (J, N), INT)), F8),),
            ),
        ),
    )
    module = schedule.scheduled(Module((function(rows),)), threads=True, entry=False)
    kernel, whole = module.functions
    assert [s.array for s in kernel.body if isinstance(s, Alloc)] == ["t"]
    assert not any(isinstance(s, Alloc) and s.array == "t" for s in statements(whole.body))


def test_inside_a_loop_whose_order_matters_the_inner_one_is_split() -> None:
    inner = For(J, N, (Accumulate("y", (J,), "add", load("x", J), F8),))
    module = threaded(Module((function(For(AT, M, (inner,), sequential=True)),)))
    kernel, whole = module.functions
    assert any(isinstance(s, Launch) for s in statements(whole.body)) and kernel.kernel


def test_the_test_at_the_start_is_about_sizes() -> None:
    total = For(AT, N, (For(J, M, (Accumulate("s", None, "add", load("w", AT, J), F8),)),))
    module = Module((function(total, out=(Var("s", F8), "y")),))
    (small,) = schedule.scheduled(module).functions
    forward = small.body[0]
    assert isinstance(forward, Forward)
    assert forward.returns == ((F8, 0), (F8, 1)) and forward.args == ("x", "w")
    text = source.print_module(Module((small,)))
    assert "if n * m >= " in text and '"float64, float64[1]", (x, w))' in text


def test_large_loops_cost_what_was_measured() -> None:
    """A threshold of elements: few of an expensive function, many of a cheap one."""
    costs = {
        name: worth.work(For(AT, N, (Store("y", (AT,), Call(name, (load("x", AT),), F8)),))).enough
        for name in ("negative", "exp", "gamma")
    }
    assert costs["negative"] > 2 * costs["exp"] > 10 * costs["gamma"] > 10_000


def second_names() -> Function:
    """`y = x + 1; z = y` in the memory of `y`; `z = 2 z`, read under both names; rows of three."""
    shape = (N, integer(3))
    element = Load("y", (AT, J), F8)
    double = Call("add", (element, Load("z", (AT, J), F8)), F8)
    body: tuple[Statement, ...] = (
        Alloc("y", shape, F8),
        Alloc("w", shape, F8),
        For(AT, N, (For(J, integer(3), (Store("y", (AT, J), Load("x", (AT, J), F8)),)),)),
        View("z", "y"),
        For(
            AT,
            N,
            (
                For(J, integer(3), (Store("w", (AT, J), element),)),
                For(J, integer(3), (Store("z", (AT, J), double),)),
            ),
        ),
        Alloc("out", shape, F8, temporary=False),
        For(
            AT,
            N,
            (
                For(
                    J,
                    integer(3),
                    (
                        Store(
                            "out",
                            (AT, J),
                            Call("add", (Load("z", (AT, J), F8), Load("w", (AT, J), F8)), F8),
                        ),
                    ),
                ),
            ),
        ),
        Return(("out",)),
    )
    return Function("f", (Parameter("x", F8, 2, shape),), body, "", (("n", "x", 0),))


@pytest.mark.usefixtures("one_iteration_a_block")
def test_kernels_know_what_lies_apart() -> None:
    module = threaded(Module((second_names(),)))
    first, second, third = module.functions[:3]
    assert first.apart == ("y",) and ("x", 1, 3) in first.extents and ("y", 1, 3) in first.extents
    assert second.apart == ("y", "w") and any(isinstance(s, View) for s in second.body)
    assert [p.name for p in second.parameters[3:]] == ["y", "w"]
    assert set(third.apart) == {"w", "z"}  # out is the caller's
    x = np.arange(12.0).reshape(4, 3)
    (result,) = run(module, [x])
    np.testing.assert_array_equal(result, 3 * x)
