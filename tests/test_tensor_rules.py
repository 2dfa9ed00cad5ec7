"""Derivative rules as functions of arrays: what the second and later backwards of an operation run.

The first backward of an operation runs its rule on tensors; these tests compare.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tests.test_tensor_ops import (
    SAMPLES,
    SMOOTH,
    arguments,
    identity,
    unless_overwritten,
    weighted,
)
from tracegrad.eager import core, quick
from tracegrad.eager.node import Recorded
from tracegrad.eager.rule import Rule, spread
from tracegrad.ops.elementwise import Elementwise


def gradients(number: int, dtype: Any, seed: int) -> list[np.ndarray | None]:
    sample = SAMPLES[number]
    leaves = [tg.tensor(a, requires_grad=True) for a in arguments(sample, dtype)]
    total = weighted(sample, leaves, seed)
    if not isinstance(total, tg.Tensor) or not total.requires_grad:
        return []
    total.backward()
    return [None if x.grad is None else x.grad.numpy() for x in leaves]


@pytest.mark.parametrize("number", SMOOTH, ids=identity)
@unless_overwritten
def test_written_rules_compute_the_same(number: int) -> None:
    for dtype in (np.float64, np.float32):
        core._rules.clear()
        quick._rules.clear()
        first = gradients(number, dtype, 3)
        for _ in range(2):
            again = gradients(number, dtype, 3)
            for got, want in zip(again, first, strict=True):
                assert (got is None) == (want is None)
                if got is not None and want is not None:
                    assert got.dtype == want.dtype
                    np.testing.assert_array_equal(got, want)


def rule(y: tg.Tensor) -> Rule:
    fn = y.grad_fn
    assert isinstance(fn, Recorded)
    assert fn.rule is not None
    return fn.rule


def test_a_rule_for_one_shape_serves_all_where_shapes_agree() -> None:
    quick._rules.clear()
    seen = set()
    for shape in ((3,), (2, 3), (), (1,), (0, 2), (4, 1, 2)):
        a = np.full(shape, 1.5)
        x, w = tg.tensor(a, requires_grad=True), tg.tensor(2 * a, requires_grad=True)
        y = x * w / 3.0
        seen.add(id(rule(y)))
        y.sum().backward()
        assert x.grad is not None and w.grad is not None
        np.testing.assert_array_equal(x.grad.numpy(), 2 * a * (1 / 3.0))
        np.testing.assert_array_equal(w.grad.numpy(), a * (1 / 3.0))
        assert x.grad.shape == shape
    assert len(seen) == 1


def test_a_rule_is_numpy() -> None:
    quick._rules.clear()
    for _ in range(3):
        x = tg.tensor([1.0, 2.0], requires_grad=True)
        y = x * x
        y.sum().backward()
    pull = rule(y).pull
    assert pull is not None
    assert pull.text == (
        "def pull(ct, saved):\n"
        "    a = saved[0].value\n"
        "    b = saved[1].value\n"
        "    v = multiply(ct, b)\n"
        "    v_ = multiply(ct, a)\n"
        "    return (asarray(v), asarray(v_),)\n"
    )
    assert rule(y).fresh == (True, True)


def test_leaves_do_not_share_gradients() -> None:
    for _ in range(3):
        x = tg.tensor([1.0, 2.0], requires_grad=True)
        y = tg.tensor([3.0, 4.0], requires_grad=True)
        (x + y).backward(tg.tensor([1.0, 1.0]))
        x.grad.zero_()
        np.testing.assert_array_equal(y.grad.numpy(), 1.0)


def test_a_gradient_given_by_the_user_is_not_written_to() -> None:
    for _ in range(3):
        weights = tg.tensor([1.0, 1.0])
        x = tg.tensor([1.0, 2.0], requires_grad=True)
        y = x + 0.0
        (y + y * 1.0).backward(weights)
        np.testing.assert_array_equal(weights.numpy(), 1.0)
        np.testing.assert_array_equal(x.grad.numpy(), 2.0)
        x.grad.zero_()
        np.testing.assert_array_equal(weights.numpy(), 1.0)


def test_hooks_and_retained_gradients_see_each_backward() -> None:
    seen: list[Any] = []
    for _ in range(3):
        x = tg.tensor([1.0, 2.0], requires_grad=True)
        y = x * 3.0
        y.retain_grad()
        y.register_hook(lambda g: seen.append((g.numpy().copy(), tg.is_grad_enabled())) or 2 * g)
        (y * y).sum().backward()
        np.testing.assert_array_equal(y.grad.numpy(), [12.0, 24.0])
        np.testing.assert_array_equal(x.grad.numpy(), [36.0, 72.0])
    assert [state for _, state in seen] == [False] * 3
    np.testing.assert_array_equal(seen[-1][0], [6.0, 12.0])


def test_numbers_that_are_no_numbers_of_the_dtype() -> None:
    x = tg.tensor(np.ones(2, np.float32))
    for value in (0.1, 3, True, np.float64(0.1), np.float32(0.1), np.int64(3)):
        got, want = x * value, np.ones(2, np.float32) * value
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got.numpy(), want)
    with pytest.raises(OverflowError):
        x + 10**400
    with pytest.raises(tg.ShapeError, match=r"cannot add f32\[2\] and f32\[3\]"):
        x + tg.tensor(np.ones(3, np.float32))
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        x / 0.0


def test_signed_zeros_as_operands() -> None:
    for zero in (0.0, -0.0, 0.0):
        x = tg.tensor([1.0], requires_grad=True)
        with np.errstate(all="ignore"):
            (x / zero).backward()
        assert x.grad.item() == (-np.inf if np.signbit(zero) else np.inf)


def test_what_is_spread() -> None:
    for shape in ((2, 3), (100, 100), (0, 3)):
        found = spread(np.array([1.0, 2.0, 3.0])[: shape[-1] if shape[-1] == 3 else 1], shape)
        assert found.shape == shape
    assert spread(np.float32(2), (3,)).dtype == np.float32


def test_operations_that_return_their_operand_take_the_long_way() -> None:
    same = Elementwise("same", lambda x: x, [lambda x, y: 1], arity=1, like=np.exp)
    part = Elementwise("part", lambda x, y: x[:], [lambda x, y, z: 1, None], like=np.add)
    x = tg.tensor([1.0, 2.0])
    assert quick.unary(same, x) is None
    assert quick.binary(part, x, x) is None
    same(x).mul_(2.0)
    np.testing.assert_array_equal(x.numpy(), [2.0, 4.0])
