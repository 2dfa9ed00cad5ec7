"""A tour of the eager Tensor: every step of a PyTorch autograd tutorial, with what it prints.

python examples/autograd_tour.py
"""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Callable

import numpy as np

import tracegrad as tg


def title(text: str) -> None:
    print(f"\n── {text}")


def refused(action: Callable[[], object]) -> str:
    """What an action that must fail says."""
    try:
        action()
    except RuntimeError as error:
        print(f"RuntimeError: {error}")
        return str(error)
    raise AssertionError("this should have been refused")


title("1. Results know how they were made")
x = tg.ones(2, 4, requires_grad=True)
y = x + 2
print(y)
assert y.requires_grad
assert x.requires_grad_(False) is x
assert (x.requires_grad, y.requires_grad) == (False, True)

title("2. Gradients")
x = tg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
y = x + 1
z = 2 * y * y
J = tg.mean(z)
J.backward()
print(J, x.grad, sep="\n")
assert np.allclose(x.grad, 2 / 3 * (x.detach().numpy() + 1), rtol=1e-15)
assert "write floats" in refused(lambda: tg.tensor([[1, 2], [3, 4]], requires_grad=True))

title("3. Only scalars have a backward without weights")
z = x * x
assert refused(z.backward).startswith("grad can be implicitly created only for scalar outputs")

title("4. Vector-Jacobian products")
x = tg.tensor([0.9, 0.8, 0.7], requires_grad=True)
y = x * 2
while y.norm() < 1000:
    y = y * 2
y.backward(tg.tensor([0.1, 1.0, 0.0001]))
print(x.grad)
assert np.array_equal(x.grad, np.array([0.1, 1.0, 0.0001]) * 1024)
assert "Mismatch in shape" in refused(lambda: (x * 2).backward(tg.tensor([1.0, 2.0])))

title("5. Two roots, retain_graph")
x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
y = x * x
p, q = y.sum(), y.mean()
p.backward(retain_graph=True)
first = x.grad
q.backward()
print(x.grad)
assert x.grad is first
assert "second time" in refused(p.backward)
s = (x + 1).sum()
s.backward()
s.backward()  # it saved nothing, so it can be walked again

title("6. Gradients of gradients: x**3, 3x**2, 6x, 6")
x = tg.tensor(2.0, requires_grad=True)
y, found = x**3, []
for _ in range(3):
    (y,) = tg.autograd.grad(y, x, create_graph=True)
    found.append(y.item())
print(found)
assert found == [12.0, 12.0, 6.0]

title("7. Leaves, hooks, detach, no_grad, writes in place")
x = tg.tensor([1.0, 2.0], requires_grad=True)
y = x * 3
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert y.grad is None
print(f"{caught[0].category.__name__}: {caught[0].message}")
y.retain_grad()
handle = x.register_hook(lambda gradient: gradient * 10)
(y * y).sum().backward()
handle.remove()
print(y.grad, x.grad)
assert (y.grad.tolist(), x.grad.tolist()) == ([6.0, 12.0], [180.0, 360.0])
with tg.no_grad():
    x -= 0.01 * x.grad
assert x.is_leaf
assert refused(lambda: x.add_(1)).startswith("a leaf Variable that requires grad")
y = x * 2
z = (y * y).sum()
y.detach()[0] = 100.0
assert "y (f64[2])" in refused(z.backward)
assert refused(y.numpy).startswith("Can't call numpy() on Tensor that requires grad")

title("8. Memory: 200 iterations whose graphs are kept")


def peak_megabytes(retain: bool) -> float:
    w = tg.randn(10_000, generator=0, requires_grad=True)
    losses = []
    tracemalloc.start()
    for _ in range(200):
        losses.append(tg.tanh(tg.tanh(w * 1.5) * w).sum())
        losses[-1].backward(retain_graph=retain)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


grown, flat = peak_megabytes(True), peak_megabytes(False)
print(f"peak with retain_graph=True: {grown:.1f} MB; without: {flat:.1f} MB")
assert grown > 10 * flat

title("A traced function is one node, and runs compiled")


@tg.trace
def loss(x):
    return np.mean(2 * (x + 1) * (x + 1))


x = tg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
J = loss(x)
J.backward()
print(J, x.grad, sep="\n")
assert np.allclose(x.grad, 2 / 3 * (x.detach().numpy() + 1), rtol=1e-15)
