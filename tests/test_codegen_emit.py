"""Loop programs as LLVM code: the results that their text gives, no memory lost or freed twice."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numba.core import config
from numba.core.runtime import _nrt_python, rtsys

import codegen
import tracegrad as tg
from codegen.emit import scope
from codegen.expr import BOOL, INT, Call, Cast, Const, Expr, Load, Select, Var, add, integer
from codegen.loops import (
    Accumulate,
    Alloc,
    Assign,
    Check,
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

pytestmark = pytest.mark.skipif(vars(config)["DISABLE_JIT"], reason="needs compiled code")

F8 = np.dtype(np.float64)
AT, J, N = Var("i"), Var("j"), Var("n")
X_I = Load("x", (AT,), F8)
OF_X = (Parameter("x", F8, 1),)
SIZES = (("n", "x", 0),)


def function(*body: Statement, parameters: Any = OF_X, sizes: Any = SIZES) -> Function:
    return Function("f", parameters, body, sizes=sizes)


def both(made: Function) -> tuple[Any, Any]:
    """The compiled function, and its text as plain Python."""
    built = codegen.build(Module((made,)))
    compiled = built.functions["f"]
    return compiled, compiled.py_func


def f8(value: float) -> Const:
    return Const(value, F8)


@pytest.fixture
def counted() -> Iterator[Any]:
    """How many arrays were made and not freed since the last call."""
    enabled = _nrt_python.memsys_stats_enabled()
    _nrt_python.memsys_enable_stats()

    def alive() -> int:
        stats = rtsys.get_allocation_stats()
        return stats.mi_alloc - stats.mi_free

    before = alive()
    yield lambda: alive() - before
    if not enabled:
        _nrt_python.memsys_disable_stats()


def doubled(name: str, temporary: bool = False) -> tuple[Statement, ...]:
    body = Store(name, (AT,), Call("multiply", (X_I, f8(2.0)), F8))
    return Alloc(name, (N,), F8, None, temporary), For(AT, N, (body,))


def test_a_scalar_is_memory_only_where_it_must_be() -> None:
    total, term = Var("total", F8), Var("term", F8)
    made = function(
        Assign(total, f8(0.0)),
        For(AT, N, (Assign(term, X_I), Assign(total, Call("add", (total, term), F8)))),
        Return((total,)),
    )
    assert scope.slots(made) == {"total"}
    seen_later = function(For(AT, N, (Assign(term, X_I),)), Return((Var("term", F8),)))
    assert scope.slots(seen_later) == {"term"}


def test_loops_backwards_by_steps_and_not_at_all() -> None:
    at = Var("at")
    body = (Accumulate("at", None, "add", Call("multiply", (at, add(AT, integer(3))), INT), INT),)
    made = function(
        Assign(at, integer(1)),
        For(AT, integer(-1), body, Call("subtract", (N, integer(1)), INT), -2),
        For(AT, N, body, integer(0), Var("step")),
        Return((at,)),
        parameters=(*OF_X, Parameter("step", INT, 0)),
    )
    compiled, plain = both(made)
    for length in (0, 1, 2, 7):
        for step in (1, 2, 5):
            assert compiled(np.ones(length), step) == plain(np.ones(length), step)


def test_a_while_loop_that_is_left_in_the_middle() -> None:
    count = Var("count")
    body = (
        If(Call("greater", (Load("x", (count,), F8), f8(3.0)), BOOL), (Return((count,)),)),
        Assign(count, add(count, integer(1))),
    )
    made = function(
        Assign(count, integer(0)),
        While(Call("less", (count, N), BOOL), body),
        Return((integer(-1),)),
    )
    compiled, _ = both(made)
    assert compiled(np.array([1.0, 2.0, 4.0, 9.0])) == 2
    assert compiled(np.ones(3)) == compiled(np.ones(0)) == -1


def test_both_sides_of_a_branch_may_return() -> None:
    empty = Call("equal", (N, integer(0)), BOOL)
    made = function(If(empty, (Return((f8(-1.0),)),), (Return((Load("x", (integer(0),), F8),)),)))
    compiled, _ = both(made)
    assert compiled(np.ones(0)) == -1 and compiled(np.full(2, 3.0)) == 3


def test_a_choice_looks_at_one_side_only() -> None:
    """The element before the first is not read."""
    before = Load("x", (add(AT, integer(-1)),), F8)
    value = Select(Call("greater", (AT, integer(0)), BOOL), before, f8(7.0), F8)
    made = function(
        Alloc("y", (N,), F8, None, False),
        For(AT, N, (Store("y", (AT,), value),)),
        Return(("y",)),
    )
    compiled, _ = both(made)
    np.testing.assert_array_equal(compiled(np.arange(4.0)), [7, 0, 1, 2])


def test_views_of_every_kind() -> None:
    y = Parameter("x", F8, 2)
    cell = Load("turned", (J, AT), F8)
    row = Load("row", (J,), F8)
    sum_ = Call("add", (cell, Call("multiply", (row, f8(100.0)), F8)), F8)
    store = Store("out", (add(Call("multiply", (AT, Var("m")), INT), J),), sum_)
    made = Function(
        "f",
        (y,),
        (
            View("turned", "x", axes=(1, 0)),
            Alloc("matrix", (N, Var("m")), F8, 0.0, False),
            View("out", "matrix", (Call("multiply", (N, Var("m")), INT),)),
            For(AT, N, (View("row", "x", at=(AT,)), For(J, Var("m"), (store,)))),
            Return(("matrix", "out")),
        ),
        sizes=(("n", "x", 0), ("m", "x", 1)),
    )
    compiled, plain = both(made)
    x = np.random.default_rng(0).normal(size=(3, 4))
    for got, wanted in zip(compiled(x), plain(x), strict=True):
        np.testing.assert_array_equal(got, wanted)
    matrix, out = compiled(x)
    assert np.shares_memory(matrix, out)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8, np.uint64, np.bool_])
def test_arrays_and_fills_of_every_dtype(dtype: Any) -> None:
    kind = np.dtype(dtype)
    value: Expr = Cast(X_I, kind) if kind != BOOL else Call("greater", (X_I, f8(1.0)), BOOL)
    made = function(
        Alloc("y", (N,), kind, 1, False),
        Alloc("z", (N,), kind, None, False),
        For(AT, N, (Store("z", (AT,), value),)),
        Return(("y", "z")),
    )
    compiled, plain = both(made)
    for got, wanted in zip(compiled(np.arange(3.0)), plain(np.arange(3.0)), strict=True):
        assert got.dtype == wanted.dtype == kind
        np.testing.assert_array_equal(got, wanted)


def test_what_is_returned_outlives_the_call_and_nothing_else(counted: Any) -> None:
    made = function(
        *doubled("a"),
        *doubled("b", temporary=True),
        View("c", "a", (N, integer(1))),
        Return(("a", "c", "a", "x", Load("b", (integer(0),), F8))),
    )
    compiled, _ = both(made)
    x = np.arange(1.0, 4.0)
    compiled(x)
    assert counted() == 0
    results = compiled(x)
    assert counted() == 1
    a, c, again, same, first = results
    del results, a
    np.testing.assert_array_equal(c[:, 0], 2 * x)
    np.testing.assert_array_equal(again, 2 * x)
    assert np.shares_memory(same, x) and first == 2
    del c
    assert counted() == 1
    del again
    assert counted() == 0


@pytest.mark.parametrize("length", [2, 5])
def test_nothing_is_lost_where_a_check_fails(counted: Any, length: int) -> None:
    """In a loop, with arrays of the function and of the loop alive."""
    inner = (
        Alloc("room", (N,), F8, 0.0),
        Check(Call("less", (AT, integer(3)), BOOL), "ValueError", "too many"),
        Store("y", (AT,), Call("add", (Load("room", (AT,), F8), X_I), F8)),
    )
    made = function(*doubled("y"), For(AT, N, inner), Return(("y",)))
    compiled, _ = both(made)
    if length > 3:
        with pytest.raises(ValueError, match="too many"):
            compiled(np.ones(length))
    else:
        np.testing.assert_array_equal(compiled(np.ones(length)), np.ones(length))
    assert counted() == 0


def test_a_program_that_says_too_little_is_refused_with_the_statement() -> None:
    wrong = Assign(Var("y", F8), Load("x", (AT, AT), F8), "3│ x * x")
    made = function(wrong, Return((Var("y", F8),)), sizes=(("i", "x", 0),))
    with pytest.raises(codegen.CompileError, match="x has 1 axes, not 2") as caught:
        codegen.build(Module((made,)))
    assert caught.value.comment == "3│ x * x"
    mixed = (*OF_X, Parameter("k", INT, 1))
    product = LibraryCall("dot", ("x", "k"), ("y",), "4│ x @ k")
    room = Alloc("y", (integer(1),), F8, None, False)
    refused = function(room, product, Return(("y",)), parameters=mixed)
    with pytest.raises(codegen.CompileError, match="one dtype") as caught:
        codegen.build(Module((refused,)))
    assert caught.value.comment == "4│ x @ k"


def test_an_argument_that_is_refused_leaves_nothing_behind(counted: Any) -> None:
    parameters = (Parameter("x", F8, 1), Parameter("y", F8, 1), Parameter("a", F8, 0))
    total = Call("add", (X_I, Load("y", (AT,), F8)), F8)
    made = function(
        Assign(Var("s", F8), f8(0.0)),
        For(AT, N, (Assign(Var("s", F8), total),)),
        Return((Var("s", F8),)),
        parameters=parameters,
    )
    compiled, _ = both(made)
    (result,) = compiled.overloads.values()
    x, y = np.ones(3), np.arange(3.0)
    assert result.entry_point(x, y, 2.0) == 3.0
    before = sys.getrefcount(x), sys.getrefcount(y)
    for wrong in ((x, [1.0], 2.0), (x, y, [2]), (None, y, 2.0), (x, y.astype("f4"), 2.0)):
        with pytest.raises(TypeError):
            result.entry_point(*wrong)
    with pytest.raises(TypeError, match="expected 3 arguments"):
        result.entry_point(x, y)
    del wrong
    assert (sys.getrefcount(x), sys.getrefcount(y)) == before
    assert counted() == 0


def test_memory_is_let_go_before_the_next_array_gets_it() -> None:
    """Loops in a branch in a loop: arrays come and go, and the next ones have the memory of the
    last; LLVM, for which their addresses differ, has to leave reads and writes in order."""

    def summed(x):
        a, b = tg.associative_scan(
            lambda p, q: (p[0] * q[0], p[1] * q[0] + q[1]), (np.cos(x), np.sin(x))
        )
        return np.sum(a * b + b)

    def chosen(x):
        return tg.cond(x[0] > -10, lambda: np.sum(tg.grad(summed)(x)), lambda: 0 * x[0])

    x = np.random.default_rng(0).normal(size=(3, 3))
    each = tg.vmap(tg.grad(chosen))(x)
    np.testing.assert_allclose(each, [tg.hessian(summed)(row).sum(axis=0) for row in x], rtol=1e-11)


def test_new_memory_is_known_to_be_apart() -> None:
    """A loop over many arrays is vectorised, and nothing is compared before it."""
    names, y = "abcdefgh", Load("y", (AT,), F8)
    values = [X_I, *(Load(name, (AT,), F8) for name in names)]
    steps = [
        Store(name, (AT,), Call("multiply", (value, y), F8))
        for name, value in zip(names, values, strict=False)
    ]
    made = function(
        *(Alloc(name, (N,), F8) for name in names),
        For(AT, N, tuple(steps)),
        Return(tuple(names)),
        parameters=(*OF_X, Parameter("y", F8, 1)),
    )
    compiled, plain = both(made)
    x, y = np.linspace(1, 2, 67), np.linspace(-1, 1, 67)
    np.testing.assert_array_equal(compiled(x, y), plain(x, y))
    (text,) = compiled.inspect_llvm().values()
    assert re.search(r"fmul <\d+ x double>", text)
    assert "memcheck" not in text
