"""Tensors among NumPy arrays and Python numbers: creation, conversion, printing, method names."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import tracegrad as tg


def assert_equal(got: Any, want: Any) -> None:
    np.testing.assert_array_equal(np.asarray(got.detach()), want)


def test_creation() -> None:
    assert tg.tensor([1.0, 2.0]).dtype == np.float64
    assert tg.tensor([1, 2]).dtype == np.int64
    assert tg.tensor([True]).dtype == np.bool_
    assert tg.tensor([1, 2], dtype=np.float32).dtype == np.float32
    assert tg.tensor(3).shape == ()
    assert tg.zeros(2, 3).shape == tg.zeros((2, 3)).shape == (2, 3)
    assert_equal(tg.ones(2), [1, 1])
    assert_equal(tg.full((2,), 7.0), [7, 7])
    assert_equal(tg.arange(3), [0, 1, 2])
    assert_equal(tg.linspace(0, 1, 3), [0, 0.5, 1])
    assert_equal(tg.eye(2), [[1, 0], [0, 1]])
    assert tg.empty(2, 0).shape == (2, 0)
    x = tg.ones(2, 4, requires_grad=True)
    assert x.requires_grad
    for like in (tg.zeros_like(x), tg.ones_like(x), tg.empty_like(x), tg.full_like(x, 2.0)):
        assert isinstance(like, tg.Tensor)
        assert like.shape == (2, 4)
        assert not like.requires_grad


def test_tensor_copies_and_from_numpy_shares() -> None:
    array = np.ones(2)
    copied, shared, same = tg.tensor(array), tg.from_numpy(array), tg.as_tensor(array)
    array[0] = 5.0
    assert copied[0].item() == 1.0
    assert shared[0].item() == same[0].item() == 5.0
    assert tg.as_tensor(shared) is shared
    with pytest.raises(TypeError, match=r"expected np\.ndarray"):
        tg.from_numpy([1.0])  # type: ignore[arg-type]


def test_random_numbers_come_from_a_generator() -> None:
    a = tg.randn(2, 3, generator=np.random.default_rng(5))
    b = tg.randn((2, 3), generator=np.random.default_rng(5))
    assert_equal(a, b.numpy())
    u = tg.rand(1000, generator=1)
    assert 0 <= u.min().item() <= u.max().item() < 1
    assert tg.randn(2, dtype=np.float32, requires_grad=True).dtype == np.float32


def test_nested_lists_of_tensors() -> None:
    a = tg.tensor(2.0)
    assert_equal(tg.tensor([[a, 1.0], [0.0, a]]), [[2, 1], [0, 2]])


@pytest.mark.parametrize(
    "data", [[1j], np.array(["a"]), np.array([None]), np.ma.masked_array([1.0], [True])]
)
def test_what_cannot_be_a_tensor(data: Any) -> None:
    with pytest.raises(TypeError):
        tg.tensor(data)


def test_byte_order_is_made_native() -> None:
    x = tg.tensor(np.array([1.0, 2.0], dtype=">f8"))
    assert x.dtype.isnative
    assert_equal(x * 2, [2, 4])


def test_numpy_functions_and_operators_give_tensors() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    array = np.array([3.0, 4.0])
    for y in (np.exp(x), np.mean(x), array + x, x - array, array * x, 2 / x, array @ x, x @ array):
        assert isinstance(y, tg.Tensor)
        assert y.requires_grad
    assert_equal(array * x, [3, 8])
    assert (array @ x).item() == 11.0
    assert np.shape(x) == (2,)


def test_numpy_functions_that_have_no_gradient() -> None:
    x = tg.tensor([1.0, 7.0], requires_grad=True)
    with pytest.raises(TypeError, match="not supported"):
        np.spacing(x)
    np.testing.assert_array_equal(np.spacing(x.detach()), np.spacing(np.array([1.0, 7.0])))
    assert np.array_equal(x.detach(), [1.0, 7.0])
    array = np.ones(2)
    array += x.detach()
    np.testing.assert_array_equal(array, [2, 8])
    with pytest.raises(TypeError, match="out="):
        array += x
    copy = x.detach().clone()
    np.add.at(copy, [0, 0], 1.0)
    np.testing.assert_array_equal(copy, [3, 7])


def test_comparisons_are_elementwise_and_have_no_gradient() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    assert (x > 1).tolist() == [False, True]
    assert (x == x).tolist() == [True, True]
    assert not (x > 1).requires_grad
    assert len({x, x}) == 1


def test_promotion_follows_numpy() -> None:
    f32 = tg.tensor([1.0], dtype=np.float32)
    assert (f32 + 1.0).dtype == np.float32
    assert (f32 + tg.tensor([1.0])).dtype == np.float64
    assert (tg.tensor([1]) / 2).dtype == np.float64
    assert (tg.tensor([1]) + 1).dtype == np.int64


def test_conversions() -> None:
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert x.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert float(x[0, 1]) == x[0, 1].item() == 2.0
    assert int(x[1, 0]) == 3
    assert [1, 2, 3][tg.tensor(1)] == 2
    assert len(x) == 2
    assert [row.tolist() for row in x] == [[1.0, 2.0], [3.0, 4.0]]
    assert 2.0 in x
    assert f"{x[0, 1]:.2f}" == "2.00"
    assert bool(x[0, 0] > 0)
    for wrong, error in (
        (lambda: x.item(), RuntimeError),
        (lambda: bool(x), RuntimeError),
        (lambda: bool(tg.zeros(0)), RuntimeError),
        (lambda: len(x[0, 0]), TypeError),
        (lambda: list(x[0, 0]), TypeError),
        (lambda: [1, 2][x[0, 0]], TypeError),
    ):
        with pytest.raises(error):
            wrong()


def test_numpy_shares_memory() -> None:
    x = tg.tensor([1.0, 2.0])
    assert np.shares_memory(x.numpy(), np.asarray(x))
    assert not np.shares_memory(x.numpy(), np.array(x))
    assert np.asarray(x, dtype=np.float32).dtype == np.float32


def test_copies() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    (x * 2).sum().backward()
    twin = copy.deepcopy(x)
    assert twin is not x
    assert twin.requires_grad
    assert_equal(twin.grad, [2, 2])
    assert pickle.loads(pickle.dumps(x)).requires_grad
    with pytest.raises(RuntimeError, match=r"^Only Tensors created explicitly by the user"):
        copy.deepcopy(x * 2)
    assert (x.clone() * 1).grad_fn is not None


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (lambda: tg.tensor(3.0), "tensor(3.)"),
        (lambda: tg.tensor(0.5), "tensor(0.5000)"),
        (lambda: tg.tensor([1, -20]), "tensor([  1, -20])"),
        (lambda: tg.tensor([True, False]), "tensor([ True, False])"),
        (lambda: tg.tensor([1.0, np.inf, np.nan]), "tensor([1., inf, nan])"),
        (lambda: tg.tensor([1.5, -np.inf]), "tensor([1.5000,   -inf])"),
        (lambda: tg.tensor([1e-5, 1.0]), "tensor([1.0000e-05, 1.0000e+00])"),
        (lambda: tg.tensor([1e9]), "tensor([1.0000e+09])"),
        (lambda: tg.tensor([1.0], dtype=np.float32), "tensor([1.], dtype=float32)"),
        (lambda: tg.tensor([1.0], requires_grad=True), "tensor([1.], requires_grad=True)"),
        (lambda: tg.zeros(0), "tensor([])"),
        (lambda: tg.zeros(0, 3), "tensor([], size=(0, 3))"),
        (lambda: tg.zeros(2), "tensor([0., 0.])"),
    ],
)
def test_printing(tensor: Any, text: str) -> None:
    assert repr(tensor()) == str(tensor()) == text


def test_printing_of_large_tensors_is_short() -> None:
    text = repr(tg.arange(10_000.0))
    assert text.splitlines() == [
        "tensor([0.0000e+00, 1.0000e+00, 2.0000e+00, ..., 9.9970e+03, 9.9980e+03,",
        "        9.9990e+03])",
    ]
    assert len(repr(tg.zeros(200, 200)).splitlines()) == 7


def test_method_names_of_pytorch() -> None:
    x = tg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert_equal(x.sum(dim=0), [5, 7, 9])
    assert_equal(x.sum(1, keepdim=True), [[6], [15]])
    assert_equal(x.mean(1, True), [[2], [5]])
    assert_equal(x.max(dim=1), [3, 6])
    assert_equal(x.argmax(dim=1), [2, 2])
    assert x.size == 6
    assert x.size() == (2, 3)
    assert x.size(1) == 3
    assert x.dim() == 2
    assert x.numel() == 6
    assert x.view(3, -1).shape == (3, 2)
    assert x.permute(1, 0).shape == x.t().shape == (3, 2)
    assert x.unsqueeze(0).shape == (1, 2, 3)
    assert x.unsqueeze(0).squeeze(dim=0).shape == (2, 3)
    assert x.squeeze(dim=0).shape == (2, 3)
    assert x.flatten().shape == (6,)
    assert x.unsqueeze(0).flatten(1).shape == (1, 6)
    assert x.expand(4, -1, -1).shape == (4, 2, 3)
    assert x.float().dtype == np.float32
    assert x.float().type_as(x).dtype == x.float().double().dtype == np.float64
    assert x.long().dtype == np.int64
    assert_equal(tg.tensor([-1.0, 1.0]).relu(), [0, 1])
    np.testing.assert_allclose(x.softmax(dim=1).sum(1).numpy(), [1, 1], rtol=1e-15)
    assert_equal(x.clamp(2, 5), [[2, 2, 3], [4, 5, 5]])
    assert_equal(x.mm(x.t()), [[14, 32], [32, 77]])
    assert_equal(x.mul(2).sub(1).neg(), -(2 * x.numpy() - 1))


def test_norms() -> None:
    x = tg.tensor([3.0, -4.0], requires_grad=True)
    assert x.norm().item() == 5.0
    assert x.norm(1).item() == 7.0
    assert x.norm(np.inf).item() == 4.0
    x.norm().backward()
    np.testing.assert_allclose(x.grad.numpy(), [0.6, -0.8], rtol=4e-16)
    zero = tg.zeros(2, requires_grad=True)
    zero.norm().backward()
    assert_equal(zero.grad, [0, 0])
