"""Expressions broken over several lines mean what they mean on one."""

from __future__ import annotations

import random

import numpy as np
import pytest

from codegen import layout
from codegen.expr import BOOL, Call, Expr, Select, Var

F8 = np.dtype(np.float64)
VALUES = {"a": 2, "b": 3, "c": -5, "d": 7}
FUNCTIONS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "negative": lambda a: -a,
    "less": lambda a, b: a < b,
}


def variable(name: str, length: int) -> Var:
    return Var(name * length, F8)


def drawn(rng: random.Random, depth: int) -> Expr:
    """A random expression; names of random lengths, so that all line lengths occur."""
    if depth == 0 or rng.random() < 0.1:
        return variable(rng.choice("abcd"), rng.randint(1, 14))
    if rng.random() < 0.15:
        condition = Call("less", (drawn(rng, depth - 1), drawn(rng, 0)), BOOL)
        return Select(condition, drawn(rng, depth - 1), drawn(rng, depth - 1), F8)
    if rng.random() < 0.1:
        return Call("negative", (drawn(rng, depth - 1),), F8)
    operands = (drawn(rng, depth - 1), drawn(rng, depth - 1))
    return Call(rng.choice(["add", "subtract", "multiply"]), operands, F8)


def value(expr: Expr) -> int:
    match expr:
        case Var(name):
            return VALUES[name[0]]
        case Call(function, args):
            return FUNCTIONS[function](*(value(arg) for arg in args))
        case Select(condition, yes, no):
            return value(yes if value(condition) else no)
    raise AssertionError(expr)


def printed(expr: Expr) -> int:
    text = "\n".join(layout.lines("result = ", expr, "", 0, lambda imported: imported.name))
    assert max(map(len, text.splitlines())) <= layout.WIDTH
    space = {name * length: VALUES[name] for name in VALUES for length in range(1, 99)}
    exec(text, space)
    return space["result"]


@pytest.mark.parametrize("seed", range(300))
def test_random_expressions_keep_their_value(seed: int) -> None:
    expr = drawn(random.Random(seed), 6)
    assert printed(expr) == value(expr)


@pytest.mark.parametrize("length", range(60, 110))
def test_a_choice_inside_a_product_keeps_its_brackets_at_every_length(length: int) -> None:
    condition = Call("less", (variable("a", 1), variable("b", 1)), BOOL)
    choice = Select(condition, variable("a", length - 30), variable("c", 10), F8)
    expr = Call("multiply", (choice, Call("add", (variable("b", 50), variable("d", 50)), F8)), F8)
    assert printed(expr) == value(expr)
