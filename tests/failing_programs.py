"""Programs that are refused, for the golden file of the errors, which holds their lines: add new
ones at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tracegrad as tg

KEPT: list[Any] = []
FAILING: dict[str, Callable[[Any], Any]] = {}
X = np.ones(3)


def failing(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    FAILING[function.__name__] = function
    return function


@failing
def carry_changes_shape(x):
    longer = lambda c, _: (np.concatenate([c, c]), None)  # noqa: E731
    return tg.scan(longer, x, None, 3)[0]


@failing
def carry_changes_dtype(x):
    count = np.arange(3)
    return x + tg.fori_loop(0, 3, lambda i, c: c * 0.5, count)


@failing
def carry_changes_structure(x):
    return tg.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1], x), (0, x))


@failing
def body_returns_no_pair(x):
    return tg.scan(lambda c, row: c + row, 0.0, x)


@failing
def body_writes_outside(x):
    out = x.copy()

    def step(i, c):
        out[0] = c[0]
        return c + 1

    return tg.fori_loop(0, 3, step, x) + out


@failing
def body_keeps_a_value(x):
    def step(c, _):
        KEPT.append(c)
        return c + 1, None

    return tg.scan(step, x, None, 3)[0] + KEPT.pop()


@failing
def predicate_is_an_array(x):
    return tg.cond(x > 0, lambda: x, lambda: -x)


@failing
def condition_is_a_number(x):
    return tg.while_loop(lambda c: c, lambda c: c - 1, x[0])


@failing
def branches_differ_in_structure(x):
    return tg.cond(x[0] > 0, lambda: (x, x), lambda: x)


@failing
def branches_differ_in_shape(x):
    return tg.cond(x[0] > 0, lambda: x[1:], lambda: x)


@failing
def index_is_a_float(x):
    return tg.switch(x[0], [np.sin, np.cos], x)


@failing
def lengths_differ(x):
    return tg.scan(lambda c, rows: (c + rows[0] * rows[1], None), 0.0, (x, x[1:]))


@failing
def gradient_through_an_integer(x):
    count = tg.fori_loop(0, 3, lambda i, c: c + 1, 0)
    return tg.grad(lambda n: x[0] * n)(count)


@failing
def no_such_axis(x):
    return tg.vmap(np.sin, in_axes=1)(x)


@failing
def too_many_axes(x):
    return tg.vmap(np.multiply, in_axes=(0, 0, 0))(x, x)


@failing
def batches_of_two_lengths(x):
    return tg.vmap(np.multiply)(x, x[1:])


@failing
def nothing_is_mapped(x):
    return tg.vmap(np.sin, in_axes=None)(x)


@failing
def results_differ_between_items(x):
    return tg.vmap(np.sin, out_axes=None)(x)


@failing
def no_such_axis_of_the_result(x):
    return tg.vmap(np.sin, out_axes=2)(x)


@failing
def axes_of_another_structure(x):
    return tg.vmap(lambda p: p["a"] * p["b"], in_axes=((0, 0, 0),))({"a": x, "b": x})


@failing
def tangent_of_another_shape(x):
    return tg.jvp(np.sin, (x,), (np.ones((2, 3)),))


@failing
def tangent_of_another_size(x):
    return tg.jvp(np.sin, (x,), (np.ones(2),))


@failing
def tangents_are_missing(x):
    return tg.jvp(np.multiply, (x, x), (x,))


@failing
def cotangent_of_another_structure(x):
    _, pullback = tg.vjp(lambda x: (np.sin(x), np.cos(x)), x)
    return pullback(x)


@failing
def hessian_of_a_vector(x):
    return tg.hessian(np.sin)(x)


@failing
def gradient_of_a_vector(x):
    return tg.grad(lambda x: 2 * x)(x)


@failing
def gradient_by_no_argument(x):
    return tg.grad(np.sum, argnums=1)(x)


@failing
def no_auxiliary_value(x):
    return tg.value_and_grad(np.sum, has_aux=True)(x)


def with_rule(fwd: Callable[..., Any], bwd: Callable[..., Any]) -> Any:
    function = tg.custom_vjp(np.sin)
    function.defvjp(fwd, bwd)
    return function


@failing
def rule_returns_no_tuple(x):
    sine = with_rule(lambda x: (np.sin(x), x), lambda x, ct: ct * np.cos(x))
    return tg.grad(lambda x: np.sum(sine(x)))(x)


@failing
def rule_returns_another_shape(x):
    sine = with_rule(lambda x: (np.sin(x), x), lambda x, ct: (np.sum(ct),))
    return tg.grad(lambda x: np.sum(sine(x)))(x)


@failing
def rule_returns_no_residuals(x):
    sine = with_rule(np.sin, lambda x, ct: (ct,))
    return tg.grad(lambda x: np.sum(sine(x)))(x)


@failing
def no_rule_yet(x):
    sine = tg.custom_vjp(np.sin)
    return tg.grad(lambda x: np.sum(sine(x)))(x)


@failing
def no_rule_for_forward_mode(x):
    sine = with_rule(lambda x: (np.sin(x), x), lambda x, ct: (ct * np.cos(x),))
    return tg.jvp(lambda x: 2 * sine(x), (x,), (x,))


@failing
def rule_of_a_value_from_outside(x):
    def scaled_sum(x):
        scaled = with_rule(lambda y: (y * x, None), lambda _, ct: (ct,))
        scaled.fun = lambda y: y * x
        return np.sum(scaled(2 * x))

    return tg.grad(scaled_sum)(x)


@failing
def no_jvp_rule_yet(x):
    sine = tg.custom_jvp(np.sin)
    return tg.grad(lambda x: np.sum(sine(x)))(x)


@failing
def tangent_rule_returns_another_structure(x):
    sine = tg.custom_jvp(np.sin)
    sine.defjvp(lambda primals, tangents: (np.sin(*primals), tangents))
    return tg.jvp(sine, (x,), (x,))


@failing
def tangent_rule_is_not_linear(x):
    sine = tg.custom_jvp(np.sin)
    sine.defjvp(lambda primals, tangents: (np.sin(*primals), np.sin(*tangents)))
    return tg.grad(lambda x: np.sum(sine(x)))(x)
