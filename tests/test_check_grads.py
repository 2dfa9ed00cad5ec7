"""`check_grads` passes what is right, and says which operation is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tracegrad.testing import check_grads

X = np.array([0.3, 0.7, 1.1])


def test_right_derivatives_pass() -> None:
    check_grads(lambda x: np.sum(np.sin(x) ** 2 * x[0]), (X,))
    check_grads(lambda p, n: {"a": p["x"] ** n, "n": 3}, ({"x": X}, 2), order=1)


def test_float32_is_compared_as_it_rounds() -> None:
    check_grads(lambda x: np.sin(x), (X.astype(np.float32),), order=1)


def broken(rule: Any) -> Any:
    @tg.custom_vjp
    def half(x: Any) -> Any:
        return 0.5 * np.sin(x)

    half.defvjp(lambda x: (0.5 * np.sin(x), x), rule)

    def loss(x: Any) -> Any:
        y = 2 * x
        return np.sum(half(y) + y**2)

    return loss


def test_the_wrong_operation_is_named_with_its_line() -> None:
    with pytest.raises(AssertionError) as info:
        check_grads(broken(lambda x, ct: (ct * np.cos(x),)), (X,), modes=("rev",), order=1)
    text = str(info.value)
    assert text.startswith("check_grads: reverse mode of loss gives ")
    assert "the operation that disagrees most, on its own inputs, is half" in text
    assert "test_check_grads.py" in text
    assert "    return np.sum(half(y) + y**2)\n" in text
    assert "^^^^^^^" in text


def test_the_wrong_operation_is_found_beside_loops() -> None:
    wrong = broken(lambda x, ct: (ct * np.cos(x),))

    def loss(x: Any) -> Any:
        carry, rows = tg.scan(lambda c, t: (c * np.cos(t), np.stack([c, t])), x[0], x)
        return carry + np.sum(rows) + wrong(x)

    with pytest.raises(AssertionError, match="on its own inputs, is half"):
        check_grads(loss, (X,), modes=("rev",), order=1)


def test_second_derivatives_are_checked() -> None:
    """The value of the gradient is right, its own derivative is not."""
    f = broken(lambda x, ct: (0.5 * ct * tg.stop_gradient(np.cos(x)),))
    check_grads(f, (X,), order=1, modes=("rev",))
    with pytest.raises(AssertionError, match="reverse mode of reverse mode of loss"):
        check_grads(f, (X,), order=2, modes=("rev",))


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="modes="):
        check_grads(np.sin, (X,), modes=("forward",))
    with pytest.raises(ValueError, match="order is 0"):
        check_grads(np.sin, (X,), order=0)
    with pytest.raises(tg.NotDifferentiableError, match="no argument of sin is floating"):
        check_grads(np.sin, (3,))
