"""Writes in place: version counters, views, and gradients through both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracegrad as tg


def vector(*numbers: float, grad: bool = True) -> tg.Tensor:
    return tg.tensor([float(number) for number in numbers], requires_grad=grad)


def assert_equal(got: Any, want: Any) -> None:
    np.testing.assert_array_equal(np.asarray(got.detach()), want)


def gradient(program: Callable[[Any], Any], *numbers: float) -> np.ndarray:
    x = vector(*numbers)
    program(x).backward()
    return x.grad.numpy()


def test_a_leaf_cannot_be_written_to() -> None:
    x = vector(1, 2)
    writes = (
        lambda: x.add_(1),
        lambda: x.zero_(),
        lambda: x.__setitem__(0, 1.0),
        lambda: x.__iadd__(1),
    )
    for write in writes:
        with pytest.raises(
            RuntimeError, match=r"^a leaf Variable that requires grad is being used in"
        ):
            write()
    with pytest.raises(
        RuntimeError, match=r"^a view of a leaf Variable that requires grad is being"
    ):
        x[:1].zero_()
    assert_equal(x, [1, 2])


def test_a_leaf_is_updated_within_no_grad() -> None:
    x = vector(1, 2)
    memory = x.detach().numpy()
    with tg.no_grad():
        x -= 0.5
        x[0] = 7.0
    assert x.is_leaf
    assert x.requires_grad
    np.testing.assert_array_equal(memory, [7, 1.5])


def test_overwriting_a_saved_tensor_says_which_variable_and_where() -> None:
    x = vector(1, 2)
    y = x * 2
    z = y * y
    y += 1
    with pytest.raises(
        RuntimeError,
        match=r"^one of the variables needed for gradient computation has been modified",
    ) as e:
        z.sum().backward()
    message = str(e.value)
    assert "operation: y (f64[2])" in message
    assert "version 1 but version 0 was used" in message
    assert "test_tensor_inplace.py" in message
    assert "y += 1" in message
    assert "y.clone()" in message


def test_overwriting_through_a_view_or_a_detached_tensor_counts() -> None:
    for write in (lambda y: y[:1].zero_(), lambda y: y.detach().fill_(3), lambda y: y.T.mul_(2)):
        y = vector(1, 2) * 2
        z = (y * y).sum()
        write(y)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            z.backward()


def test_overwriting_what_nobody_needs_is_fine() -> None:
    def program(x: Any) -> Any:
        y = x * 2
        z = (y + 1).sum()
        y.zero_()
        return z

    np.testing.assert_array_equal(gradient(program, 1, 2), [2, 2])


def test_updates_are_differentiated() -> None:
    def program(x: Any) -> Any:
        y = x * 2
        y += x
        y *= x
        y /= 2
        y -= 1
        y **= 2
        return y.sum()

    x = np.array([1.0, 2.0])  # y = (3 x^2 / 2 - 1)^2
    np.testing.assert_allclose(gradient(program, 1, 2), 2 * (1.5 * x**2 - 1) * 3 * x, rtol=1e-15)


def test_an_update_that_needs_the_old_value_keeps_a_copy() -> None:
    def program(x: Any) -> Any:
        y = x * 1
        y.mul_(y)
        y.exp_()
        return y.sum()

    x = np.array([0.5, 1.5])
    np.testing.assert_allclose(gradient(program, *x), 2 * x * np.exp(x * x), rtol=1e-15)


def test_items_are_differentiated() -> None:
    def program(x: Any) -> Any:
        y = x * 1
        y[0] = x[1] * 10
        y[2:] = y[:2].clone()
        return (y * tg.tensor([1.0, 10.0, 100.0, 1000.0])).sum()

    # y = [10 x1, x1, 10 x1, x1]
    np.testing.assert_array_equal(gradient(program, 1, 2, 3, 4), [0, 10 + 10 + 1000 + 1000, 0, 0])


def test_a_write_through_a_view_reaches_its_base() -> None:
    def program(x: Any) -> Any:
        y = x * 2
        v = y[1:3]
        v *= 3
        assert v.grad_fn is not None
        return (y * tg.tensor([1.0, 10.0, 100.0, 1000.0])).sum()

    np.testing.assert_array_equal(gradient(program, 1, 2, 3, 4), [2, 60, 600, 2000])


def test_a_view_sees_a_write_into_its_base() -> None:
    def program(x: Any) -> Any:
        y = x * 2
        v = y.reshape(2, 2).T
        y[0] = 100.0
        assert v[0, 0].item() == 100.0
        return (v * v).sum()

    np.testing.assert_array_equal(gradient(program, 1, 2, 3, 4), [0, 16, 24, 32])


def test_views_of_views() -> None:
    def program(x: Any) -> Any:
        y = x * 1
        rows = y.reshape(2, 3)
        row = rows[1]
        row[::2] = row[1] * 5
        return (rows * rows).sum()

    # rows = [[a, b, c], [5 e, e, 5 e]]
    np.testing.assert_array_equal(gradient(program, 1, 2, 3, 4, 5, 6), [2, 4, 6, 0, 2 * 51 * 5, 0])


def test_a_single_element_is_a_view() -> None:
    def program(x: Any) -> Any:
        y = x * 2
        first = y[0]
        first *= 5
        return y.sum()

    np.testing.assert_array_equal(gradient(program, 1, 2), [10, 2])


def test_writing_a_tensor_into_zeros_makes_them_differentiable() -> None:
    x = vector(1, 2)
    out = tg.zeros(2, 2)
    for row in range(2):
        out[row] = x * (row + 1)
    assert out.requires_grad
    out.sum().backward()
    assert_equal(x.grad, [3, 3])


def test_integer_arrays_and_masks_as_indices_of_writes() -> None:
    def program(x: Any) -> Any:
        y = x * 1
        y[np.array([0, 2])] = x[1] * np.array([10.0, 20.0])
        y[y < 4] = 0.0
        return y.sum()

    np.testing.assert_array_equal(gradient(program, 1, 2, 3, 4), [0, 30, 0, 1])


def test_copy_and_fill_cut_the_old_value_off() -> None:
    x, w = vector(1, 2), vector(3, 4)
    y = x * 2
    y.copy_(w)
    y.sum().backward()
    assert_equal(w.grad, [1, 1])
    assert_equal(x.grad, [0, 0])
    z = x * 2
    z.fill_(3)
    assert z.requires_grad
    z.zero_()
    assert_equal(z, [0, 0])


def test_second_order_through_a_write() -> None:
    x = vector(1, 2)
    y = x * x
    y[0] = y[1].clone() * x[0]
    (d_x,) = tg.autograd.grad((y * x).sum(), x, create_graph=True)
    # y x = b^2 a^2 + b^3
    assert_equal(d_x, [2 * 4 * 1, 2 * 2 * 1 + 3 * 4])
    (d_2,) = tg.autograd.grad(d_x.sum(), x)
    assert_equal(d_2, [2 * 4 + 4 * 2 * 1, 4 * 2 * 1 + 2 * 1 + 6 * 2])


def test_dtypes_of_writes_follow_numpy() -> None:
    x = tg.tensor([1, 2])
    with pytest.raises(TypeError):
        x += 0.5
    y = tg.tensor([1.0, 2.0], dtype=np.float32)
    y += np.float64(0.5)
    assert y.dtype == np.float32
    x[0] = 2.7
    assert x.tolist() == [2, 2]
    z = vector(1, 2) * tg.tensor(1.0)
    z32 = z.astype(np.float32)
    z32 += z
    assert z32.dtype == np.float32


def test_expanded_memory_cannot_be_written_to() -> None:
    x = tg.tensor([[1.0], [2.0]]).expand(2, 3)
    with pytest.raises(
        RuntimeError, match=r"^unsupported operation: more than one element of the w"
    ):
        x += 1


def test_read_only_arrays_cannot_be_written_to() -> None:
    array = np.ones(3)
    array.flags.writeable = False
    with pytest.raises(RuntimeError, match="read-only array"):
        tg.from_numpy(array).add_(1)


def test_shapes_of_writes() -> None:
    x = tg.tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="broadcast"):
        x += tg.ones(3)
    y = vector(1, 2) * 2
    with pytest.raises(ValueError, match="broadcast"):
        y += tg.ones(2, 2)


def test_methods_write() -> None:
    x = tg.tensor([4.0, 9.0])
    assert x.sqrt_() is x
    x.mul_(2).div_(4).pow_(2).neg_().abs_().sub_(1, alpha=0.5).add_(1, alpha=2).clamp_(0, 3)
    np.testing.assert_allclose(x.numpy(), np.minimum([(1.0) + 1.5, 2.25 + 1.5], 3))


def test_masks_are_updated_in_place() -> None:
    mask = tg.tensor([True, True, False])
    memory = mask.numpy()
    mask &= np.array([True, False, True])
    mask |= tg.tensor([False, False, True])
    mask ^= tg.tensor([True, False, False])
    np.testing.assert_array_equal(memory, [False, False, True])


def test_a_write_through_a_view_can_be_read_as_numpy() -> None:
    y = vector(1, 2, 3, 4) * 2
    y.reshape(2, 2).T[1] = 7.0
    node: Any = y.grad_fn
    lines = node.op.lines("y", "v1", "v2", **node.attributes)
    names: dict[str, Any] = {"np": np, "v1": np.array([2.0, 4.0, 6.0, 8.0]), "v2": 7.0}
    exec("\n".join(lines), names)
    np.testing.assert_array_equal(names["y"], y.detach().numpy())


def run_random_writes(seed: int, x: tg.Tensor) -> tg.Tensor:
    """A program of views and writes; the same for the same seed, whatever the tensor requires."""
    rng = np.random.default_rng(seed)
    base = (x * 1.5).reshape(3, 4) if seed % 2 else x.reshape(3, 4) * 1.5
    alive = [base]
    for _ in range(6):
        view = alive[rng.integers(len(alive))]
        for _ in range(rng.integers(3)):
            view = random_view(rng, view)
        alive.append(view)
        target = alive[rng.integers(len(alive))]
        source = alive[rng.integers(len(alive))].clone().mean() + x[rng.integers(12)]
        match rng.integers(5):
            case 0:
                target *= 0.5 * source
            case 1:
                target += source * source
            case 2 if target.dim():
                target[rng.integers(target.shape[0])] = source
            case 3 if target.dim():
                target[::2] -= target[1].clone()
            case _:
                target.copy_(source * 0.7)
    weights = rng.uniform(-1, 1, (3, 4))
    return (base * weights).sum() + sum(((v * v).sum() for v in alive[1:]), 0.0)


def random_view(rng: np.random.Generator, view: tg.Tensor) -> tg.Tensor:
    if view.dim() == 0:
        return view
    match rng.integers(4):
        case 0:
            return view.T
        case 1 if view.shape[0] > 2:
            return view[1:]
        case 2 if view.dim() > 1:
            return view[int(rng.integers(view.shape[0]))]
        case _:
            return view.unsqueeze(0).squeeze(dim=0)


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_of_views_and_writes(seed: int) -> None:
    rng = np.random.default_rng(seed + 1000)
    start, direction = rng.uniform(-1, 1, 12), rng.uniform(-1, 1, 12)
    x = tg.tensor(start, requires_grad=True)
    y = run_random_writes(seed, x)
    y.backward()

    def value(t: float) -> float:
        return run_random_writes(seed, tg.tensor(start + t * direction)).item()

    def slope(h: float) -> float:
        return (value(h) - value(-h)) / (2 * h)

    h = 2.0**-10
    fine, finer = slope(h), slope(h / 2)
    best = (4 * finer - fine) / 3
    # The extrapolation removed |best - finer|; what is left is smaller, and rounding over h.
    error = abs(best - finer) + 64 * np.finfo(float).eps / h * (1 + abs(y.item()))
    assert abs(float(x.grad.numpy() @ direction) - best) <= error
