"""Traced functions called on tensors: one node of the eager graph, compiled both ways."""

from __future__ import annotations

import subprocess
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tracegrad as tg

ROOT = Path(__file__).resolve().parents[1]


@tg.trace
def loss(x: Any) -> Any:
    return np.mean(2 * (x + 1) * (x + 1))


@tg.trace
def layer(x: Any, w: Any, b: Any) -> Any:
    return np.tanh(x * w + b)


@tg.trace
def several(x: Any, scale: int = 3) -> Any:
    h = np.tanh(x)
    return h, {"total": np.sum(h * h) * scale, "positive": np.sum(x > 0)}


@tg.trace
def cube(x: Any) -> Any:
    return np.sum(x * x * x)


def vector(*numbers: float) -> tg.Tensor:
    return tg.tensor([float(number) for number in numbers], requires_grad=True)


def close(got: Any, want: Any) -> None:
    # Compiled tanh and sums may differ from NumPy's in the last places: a few roundings each.
    np.testing.assert_allclose(np.asarray(got.detach()), want, rtol=64 * 2.3e-16, atol=1e-15)


def test_a_traced_call_is_one_node() -> None:
    x = tg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    y = loss(x)
    assert repr(y) == "tensor(46.3333, grad_fn=<TraceBackward loss>)"
    assert [repr(node) for node, _ in y.grad_fn.next_functions] == ["<AccumulateGrad>"]
    y.backward()
    close(x.grad, 2 / 3 * (x.detach().numpy() + 1))


def test_arrays_in_arrays_out_and_no_graph_without_need() -> None:
    array = np.ones((2, 3))
    assert isinstance(loss(array), np.float64)
    assert loss(tg.tensor(array)).grad_fn is None
    with tg.no_grad():
        assert loss(tg.tensor(array, requires_grad=True)).grad_fn is None


def test_only_the_gradients_that_are_required() -> None:
    x, w, b = tg.tensor(np.ones(3)), vector(1, 2, 3), vector(0, 0, 1)
    y = layer(x, w, b)
    y.sum().backward()
    slope = 1 - np.tanh(w.detach().numpy() + b.detach().numpy()) ** 2
    close(w.grad, slope)
    close(b.grad, slope)
    assert x.grad is None
    assert layer.latest is not None
    assert list(layer.latest.splits) == [(False, True, True)]


def test_several_results_and_static_arguments() -> None:
    x = vector(0.5, -1, 2)
    h, parts = several(x, scale=2)
    assert not parts["positive"].requires_grad
    assert parts["positive"].item() == 2
    assert h.requires_grad
    (h.sum() + parts["total"] * 10).backward()
    t = np.tanh(x.detach().numpy())
    close(x.grad, (1 - t * t) * (1 + 40 * t))


def test_one_of_several_results() -> None:
    x = vector(0.5, -1, 2)
    _, parts = several(x)
    parts["total"].backward()
    t = np.tanh(x.detach().numpy())
    close(x.grad, (1 - t * t) * 6 * t)


def test_structured_arguments() -> None:
    @dataclass
    class Point:
        a: Any
        b: Any

    @tg.trace
    def energy(points: dict[str, Point], weights: list[Any]) -> Any:
        return np.sum(points["p"].a * weights[0] + points["p"].b * weights[1])

    a, b = vector(1, 2), vector(3, 4)
    energy({"p": Point(a, b)}, [2.0, np.array([5.0, 7.0])]).backward()
    close(a.grad, [2, 2])
    close(b.grad, [5, 7])


def test_eager_and_traced_compose() -> None:
    x = vector(1, 2)
    y = cube(x * 2) * 3
    y.backward()
    close(x.grad, 3 * 3 * (2 * np.array([1, 2.0])) ** 2 * 2)


def test_a_second_backward_raises_unless_retained() -> None:
    x = vector(1, 2)
    y = cube(x)
    y.backward(retain_graph=True)
    y.backward()
    close(x.grad, [6, 24])
    with pytest.raises(
        RuntimeError, match=r"^Trying to backward through the graph a second time"
    ) as e:
        y.backward()
    assert "y, the result of <TraceBackward cube>" in str(e.value)


def test_writing_to_an_argument_that_is_a_residual_is_noticed() -> None:
    x = vector(1, 2)
    z = x * 1
    y = cube(z)
    z += 1
    with pytest.raises(
        RuntimeError,
        match=r"^one of the variables needed for gradient computation has been modified",
    ) as e:
        y.backward()
    assert "z (f64[2])" in str(e.value)


def test_writing_to_an_argument_that_is_none_is_fine() -> None:
    @tg.trace
    def affine(x: Any, w: Any) -> Any:
        return np.sum(x * w + x)

    x, w = vector(1, 2) * 1, vector(3, 4)
    x.retain_grad()
    w2 = w * 1
    y = affine(x.detach(), w2)
    w2.zero_()
    y.backward()
    close(w.grad, [1, 2])


def test_residuals_are_freed_by_the_backward_at_once() -> None:
    for compiled in (False, True):
        x = tg.tensor(np.linspace(-1, 1, 50), requires_grad=True)
        y = layer(x, tg.tensor(np.ones(50)), tg.tensor(np.zeros(50)))
        saved = [weakref.ref(kept.value) for kept in y.grad_fn.saved if kept.value.ndim]
        total = y.sum()
        del y
        assert saved
        assert all(array() is not None for array in saved)
        total.backward(retain_graph=True)
        assert all(array() is not None for array in saved)
        total.backward()
        if compiled:  # numba's compiler leaves cycles that hold the frames of its callers
            assert all(array() is None or array() is x.detach().numpy() for array in saved)


def test_gradients_of_gradients_through_a_traced_call() -> None:
    x = vector(1, 2, 3)
    y = cube(x)
    (first,) = tg.autograd.grad(y, x, create_graph=True)
    close(first, 3 * np.array([1.0, 4, 9]))
    (second,) = tg.autograd.grad(first.sum(), x, create_graph=True)
    close(second, [6, 12, 18])
    (third,) = tg.autograd.grad(second.sum(), x)
    close(third, [6, 6, 6])


def test_second_order_with_several_results_and_arguments() -> None:
    x, w = vector(0.3, 0.7), vector(1.5, -0.5)

    def eager(x: Any, w: Any) -> Any:
        return np.tanh(x * w + 0.25)

    bias = tg.tensor([0.25, 0.25])
    found = []
    for function in (eager, lambda x, w: layer(x, w, bias)):
        d_x, d_w = tg.autograd.grad(function(x, w).sum(), [x, w], create_graph=True)
        found.append(tg.autograd.grad((d_x * d_w).sum(), [x, w]))
    for want, got in zip(*found, strict=True):
        close(got, want.numpy())


def test_gradient_functions_on_tensors() -> None:
    x = vector(1, 2)
    g = cube.grad(x)
    close(g, [3, 12])
    g.sum().backward()
    close(x.grad, [6, 12])


def test_float32_stays_float32() -> None:
    x = tg.tensor([1.0, 2.0], dtype=np.float32, requires_grad=True)
    y = cube(x)
    y.backward()
    assert y.dtype == x.grad.dtype == np.float32


def test_strided_and_expanded_arguments() -> None:
    x = tg.tensor(np.arange(12.0).reshape(3, 4), requires_grad=True)
    cube(x.T[::2]).backward()
    want = np.zeros((3, 4))
    want[:, ::2] = 3 * x.detach().numpy()[:, ::2] ** 2
    close(x.grad, want)
    s = tg.tensor(2.0, requires_grad=True)
    cube(s.expand(3)).backward()
    assert s.grad.item() == 36.0


def test_one_compilation_serves_all_sizes() -> None:
    @tg.trace
    def energy(x: Any) -> Any:
        return np.sum(x * x)

    for n in (3, 5, 1, 0):
        x = tg.tensor(np.ones(n), requires_grad=True)
        energy(x).backward()
        close(x.grad, np.full(n, 2.0))
    assert len(energy.versions) == 1
    assert len(energy.versions[0].splits) == 1


def test_gradients_never_share_memory() -> None:
    @tg.trace
    def added(x: Any, w: Any) -> Any:
        return np.sum(x + w)

    for function in (added, lambda x, w: (x + w).sum()):
        x, w = vector(1, 2), vector(3, 4)
        function(x, w).backward()
        x.grad += 1
        close(w.grad, [1, 1])

    @tg.trace
    def same(x: Any) -> Any:
        return x + 0.0

    x, weights = vector(1, 2), tg.tensor([5.0, 6.0])
    y = same(x)
    y.backward(weights, retain_graph=True)
    y.backward(weights)
    close(weights, [5, 6])
    close(x.grad, [10, 12])


def test_a_gradient_is_handed_over_without_a_copy() -> None:
    seen: list[Any] = []

    @tg.trace
    def scaled(x: Any) -> Any:
        return np.sum(x * x)

    for _ in range(2):
        x = vector(1, 2)
        y = scaled(x)
        op: Any = y.grad_fn.op
        op.pull = lambda consumed, pull=op.pull: (
            lambda *a: [seen.append(d := pull(consumed)(*a)), d][1]
        )
        y.backward()
        del op.pull
        assert x.grad.numpy() is seen[-1][0]


def test_a_captured_tensor_that_requires_a_gradient_is_refused() -> None:
    w = vector(1, 2)

    @tg.trace
    def captures(x: Any) -> Any:
        return np.sum(x * w)

    with pytest.raises(tg.TraceError, match="pass it as an argument"):
        captures(np.ones(2))


def test_custom_rules_on_tensors() -> None:
    @tg.custom_vjp
    def clipped(x: Any) -> Any:
        return x * 1.0

    clipped.defvjp(lambda x: (x * 1.0, None), lambda _, ct: (np.clip(ct, -1, 1),))
    x = vector(1, 2)
    clipped(x).backward(tg.tensor([5.0, 0.5]))
    close(x.grad, [1, 0.5])


MEMORY = """
import os, sys
import numpy as np, tracegrad as tg

@tg.trace
def layer(x, w):
    return np.sum(np.tanh(x @ w))

x, w = tg.rand(300, 300, generator=0), tg.rand(300, 300, generator=1, requires_grad=True)
retain = sys.argv[1] == "retain"

def iterate(count):
    losses = []
    for _ in range(count):
        losses.append(layer(x, w))
        losses[-1].backward(retain_graph=retain)
        w.grad = None
    return losses

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

iterate(3)
before = resident()
kept = iterate(100)
print(resident() - before)
"""


def growth(mode: str) -> int:
    """Bytes by which the process grew over 100 iterations whose results are kept."""
    run = [sys.executable, "-c", MEMORY, mode]
    result = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT)
    return int(result.stdout)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_the_memory_of_the_process_is_flat_unless_graphs_are_retained() -> None:
    array = 8 * 300 * 300
    assert growth("retain") > 80 * array
    assert growth("consume") < 10 * array


def test_a_checked_index_array_crosses_to_the_backward() -> None:
    picked = tg.trace(lambda x, at: np.sum(np.exp(x)[np.arange(2), at]))
    x = tg.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], requires_grad=True)
    picked(x, np.array([2, -3])).backward()
    close(x.grad, [[0.0, 0.0, np.exp(2.0)], [np.exp(3.0), 0.0, 0.0]])
