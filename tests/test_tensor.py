"""The eager tensor, item by item as PyTorch users know it; test_tensor_ops.py has the rest."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import warnings
import weakref
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tracegrad.eager.graph import graph_of
from tracegrad.ir.interpret import interpret


def vector(*numbers: float, grad: bool = True) -> tg.Tensor:
    return tg.tensor([float(number) for number in numbers], requires_grad=grad)


def assert_equal(got: Any, want: Any) -> None:
    np.testing.assert_array_equal(np.asarray(got.detach()), want)


# 1 --------------------------------------------------------------------------------------------


def test_a_result_shows_its_grad_fn_and_keeps_requiring_a_gradient() -> None:
    x = tg.ones(2, 4, requires_grad=True)
    y = x + 2
    assert_equal(y, np.full((2, 4), 3.0))
    assert repr(y) == (
        "tensor([[3., 3., 3., 3.],\n        [3., 3., 3., 3.]], grad_fn=<AddBackward>)"
    )
    assert y.requires_grad
    assert x.requires_grad_(False) is x
    assert not x.requires_grad
    assert y.requires_grad


def test_a_leaf_that_no_longer_requires_a_gradient_gets_none() -> None:
    x = vector(1, 2)
    y = (x * x).sum()
    x.requires_grad_(False)
    y.backward()
    assert x.grad is None


# 2 --------------------------------------------------------------------------------------------


def test_gradient_of_the_two_line_example() -> None:
    x = tg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    y = x + 1
    z = 2 * y * y
    tg.mean(z).backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), 2 / 3 * (x.detach().numpy() + 1), rtol=4e-16)
    assert repr(x.grad) == ("tensor([[1.3333, 2.0000, 2.6667],\n        [3.3333, 4.0000, 4.6667]])")


def test_integers_cannot_require_gradients() -> None:
    with pytest.raises(RuntimeError, match=r"^Only Tensors of floating .* write floats"):
        tg.tensor([[1, 2, 3], [4, 5, 6]], requires_grad=True)


# 3, 4 -----------------------------------------------------------------------------------------


def test_backward_of_a_matrix_needs_a_gradient() -> None:
    x = tg.ones(2, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"^grad can be implicitly created only for scalar out"):
        (x * x).backward()


def test_vector_jacobian_product_of_a_loop() -> None:
    x = vector(0.9, 0.8, 0.7)
    y, steps = x * 2, 1
    while y.norm() < 1000:
        y, steps = y * 2, steps + 1
    assert 2**steps == 1024
    y.backward(tg.tensor([0.1, 1.0, 0.0001]))
    assert_equal(x.grad, np.array([0.1, 1.0, 0.0001]) * 1024)
    assert repr(x.grad) == "tensor([1.0240e+02, 1.0240e+03, 1.0240e-01])"


def test_weights_must_fit() -> None:
    x = vector(1, 2, 3)
    with pytest.raises(
        RuntimeError, match=r"^Mismatch in shape: grad_output\[0\] has a shape of "
    ) as e:
        (x * 2).backward(tg.tensor([1.0, 2.0]))
    assert "(2,)" in str(e.value)
    assert "(3,)" in str(e.value)


def test_a_number_weighs_a_scalar() -> None:
    x = vector(1, 2, 3)
    (x * x).sum().backward(0.5)
    assert_equal(x.grad, [1, 2, 3])


def test_a_tensor_without_graph_has_no_backward() -> None:
    with pytest.raises(RuntimeError, match=r"^element 0 of tensors does not require grad and does"):
        tg.tensor(1.0).backward()


# 5 --------------------------------------------------------------------------------------------


def two_roots() -> tuple[tg.Tensor, tg.Tensor, tg.Tensor]:
    x = vector(1, 2, 3)
    y = x * x
    return x, y.sum(), y.mean()


def test_a_consumed_graph_cannot_be_walked_again() -> None:
    _, p, q = two_roots()
    p.backward()
    with pytest.raises(
        RuntimeError, match=r"^Trying to backward through the graph a second time"
    ) as e:
        q.backward()
    message = str(e.value)
    assert "y, the result of <MultiplyBackward>" in message
    assert "y = x * x" in message or "x * x" in message
    assert "test_tensor.py" in message
    assert "p.backward()" in message
    assert "retain_graph=True" in message


def test_the_same_root_twice() -> None:
    _, p, _ = two_roots()
    p.backward()
    with pytest.raises(RuntimeError, match=r"^Trying to backward through the graph a second time"):
        p.backward()


def test_a_retained_graph_can_and_gradients_accumulate_in_place() -> None:
    x, p, q = two_roots()
    p.backward(retain_graph=True)
    first = x.grad
    assert_equal(first, [2, 4, 6])
    q.backward(retain_graph=True)
    assert x.grad is first
    np.testing.assert_allclose(x.grad.numpy(), np.array([2, 4, 6]) * (4 / 3), rtol=4e-16)
    p.backward()
    with pytest.raises(RuntimeError, match="second time"):
        q.backward()


@pytest.mark.parametrize("saves_nothing", [lambda x: (x + 1).sum(), lambda x: (x - x[0]).mean()])
def test_a_graph_that_saved_nothing_can_be_walked_again(saves_nothing: Any) -> None:
    x = vector(1, 2, 3)
    y = saves_nothing(x)
    y.backward()
    once = x.grad.numpy().copy()
    y.backward()
    assert_equal(x.grad, 2 * once)


def test_a_scale_counts_as_saved_as_in_pytorch() -> None:
    y = (vector(1, 2) * 2).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_what_operations_save() -> None:
    def saved(y: tg.Tensor) -> list[int]:
        return [place for place, kept in enumerate(y.grad_fn.saved) if kept is not None]

    x, w = vector(1, 2), vector(3, 4, grad=False)
    assert saved(x + 1) == []
    assert saved(x.sum()) == []
    assert saved(x[0]) == []
    assert saved(x * w) == [1]
    assert saved(x * x) == [0, 1]
    assert saved(tg.exp(x)) == [1]
    assert saved(tg.tanh(x)) == [1]
    assert saved(tg.sin(x)) == [0]


# 6 --------------------------------------------------------------------------------------------


def test_gradient_of_the_gradient() -> None:
    x = tg.tensor(2.0, requires_grad=True)
    (first,) = tg.autograd.grad(x**3, x, create_graph=True)
    (second,) = tg.autograd.grad(first, x, create_graph=True)
    (third,) = tg.autograd.grad(second, x)
    assert [first.item(), second.item(), third.item()] == [12.0, 12.0, 6.0]
    assert first.requires_grad
    assert not third.requires_grad


def test_create_graph_keeps_the_graph_and_records_the_gradient() -> None:
    x = tg.tensor(2.0, requires_grad=True)
    y = x**3
    y.backward(create_graph=True)
    y.backward()
    assert x.grad.item() == 24.0
    x.grad = None
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_inputs_limit_where_gradients_accumulate() -> None:
    x, w = vector(1, 2), vector(3, 4)
    y = x * w
    y.sum().backward(inputs=[w])
    assert x.grad is None
    assert_equal(w.grad, [1, 2])
    with pytest.raises(RuntimeError, match="cannot be empty"):
        y.sum().backward(inputs=[])


def test_inputs_may_be_results() -> None:
    x = vector(1, 2)
    y = x * 3
    (y * y).sum().backward(inputs=y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equal(y.grad, [6, 12])
    assert x.grad is None


# 7 --------------------------------------------------------------------------------------------


def test_leaves() -> None:
    x = vector(1, 2)
    assert x.is_leaf
    assert (x * 2).is_leaf is False
    assert (x.detach() * 2).is_leaf
    assert x.grad_fn is None
    assert [repr(node) for node, _ in (x * 2).grad_fn.next_functions] == ["<AccumulateGrad>"]


def test_grad_of_a_result_warns() -> None:
    y = vector(1, 2) * 2
    with pytest.warns(UserWarning, match=r"^The .grad attribute of a Tensor .*retain_grad\(\)"):
        assert y.grad is None


def test_retain_grad() -> None:
    x = vector(1, 2)
    y = x * x
    y.retain_grad()
    (y * y).sum().backward()
    assert_equal(y.grad, [2, 8])
    assert y.retains_grad
    x.retain_grad()
    with pytest.raises(
        RuntimeError, match=r"^can't retain_grad on Tensor that has requires_grad=F"
    ):
        tg.tensor(1.0).retain_grad()


def test_hooks_see_and_replace_gradients() -> None:
    x = vector(1, 2)
    y = x * 3
    seen: list[Any] = []
    handle = y.register_hook(lambda g: seen.append(g.tolist()))
    leaf = x.register_hook(lambda g: g * 10)
    y.sum().backward(retain_graph=True)
    assert seen == [[1.0, 1.0]]
    assert_equal(x.grad, [30, 30])
    handle.remove()
    leaf.remove()
    x.grad = None
    y.register_hook(lambda g: g * 2)
    y.sum().backward()
    assert len(seen) == 1
    assert_equal(x.grad, [6, 6])


def test_hooks_must_keep_the_shape() -> None:
    x = vector(1, 2)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(RuntimeError, match="has changed the size of value"):
        (x * 2).sum().backward()
    with pytest.raises(
        RuntimeError, match=r"^cannot register a hook on a tensor that doesn't requ"
    ):
        tg.tensor(1.0).register_hook(print)


def test_detach_shares_memory_and_version() -> None:
    x = vector(1, 2)
    y = x * 3
    z = y.detach()
    assert not z.requires_grad
    assert np.shares_memory(z.numpy(), y.detach().numpy())
    w = y * y
    z += 1
    assert_equal(y, [4, 7])
    with pytest.raises(
        RuntimeError, match=r"^one of the variables needed for gradient computation"
    ):
        w.sum().backward()


def test_data_shares_memory_but_not_the_version() -> None:
    x = vector(1, 2)
    y = (x * x).sum()
    x.data += 1
    y.backward()
    assert_equal(x.grad, [4, 6])


def test_a_retained_gradient_is_that_of_the_newest_value() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1.0
    y.retain_grad()
    y *= 3.0
    (2 * y).sum().backward()
    np.testing.assert_array_equal(y.grad.numpy(), [2.0, 2.0])
    np.testing.assert_array_equal(x.grad.numpy(), [6.0, 6.0])

    base = x * 1.0
    view = base[:1]
    base.retain_grad()
    base *= view[0]
    view += 1.0
    (base * tg.tensor([5.0, 7.0])).sum().backward()
    np.testing.assert_array_equal(base.grad.numpy(), [5.0, 7.0])


def test_a_generator_records_as_its_decorator_says_in_its_steps() -> None:
    @tg.no_grad()
    def steps(x: tg.Tensor) -> Any:
        got = yield (x * 2).requires_grad
        assert got == "sent" and not tg.is_grad_enabled()
        try:
            yield 1
        except KeyError:
            yield tg.is_grad_enabled()
        return "end"

    running = steps(tg.ones(2, requires_grad=True))
    assert next(running) is False and tg.is_grad_enabled()
    assert running.send("sent") == 1 and tg.is_grad_enabled()
    assert running.throw(KeyError()) is False and tg.is_grad_enabled()
    with pytest.raises(StopIteration, match="end"):
        next(running)
    stopped = steps(tg.ones(2))
    next(stopped)
    stopped.close()
    assert tg.is_grad_enabled()


def test_versions_count_writes() -> None:
    x = tg.zeros(3)
    view, alias = x[1:], x.detach()
    assert x._version == 0
    x += 1
    view[0] = 2.0
    alias *= 2
    assert x._version == view._version == alias._version == 3 and x.clone()._version == 0


def test_unused_inputs_have_zeros_on_request() -> None:
    x, other = tg.ones(2, requires_grad=True), tg.ones(3, requires_grad=True)
    found = tg.autograd.grad((x * x).sum(), [x, other], materialize_grads=True)
    np.testing.assert_array_equal(found[0].numpy(), [2.0, 2.0])
    np.testing.assert_array_equal(found[1].numpy(), np.zeros(3))
    with pytest.raises(ValueError, match="Expected allow_unused to be True or not passed"):
        tg.autograd.grad(x.sum(), [x], allow_unused=False, materialize_grads=True)


def test_no_grad_and_enable_grad() -> None:
    x = vector(1, 2)
    with tg.no_grad():
        assert not tg.is_grad_enabled()
        y = x * 2
        with tg.enable_grad():
            z = x * 2
        assert not tg.is_grad_enabled()
    assert not y.requires_grad
    assert z.requires_grad
    assert tg.is_grad_enabled()


def test_modes_decorate() -> None:
    x = vector(1, 2)
    for mode in (tg.no_grad, tg.no_grad(), lambda f: tg.set_grad_enabled(False)(f)):
        doubled = mode(lambda: x * 2)
        assert tg.is_grad_enabled()
        assert not doubled().requires_grad
        assert doubled().is_leaf


def test_set_grad_enabled_as_a_switch_and_as_a_context() -> None:
    tg.set_grad_enabled(False)
    assert not tg.is_grad_enabled()
    tg.set_grad_enabled(True)
    with tg.set_grad_enabled(False):
        assert not tg.is_grad_enabled()
    assert tg.is_grad_enabled()


def test_the_mode_belongs_to_the_thread() -> None:
    found: list[bool] = []
    with tg.no_grad():
        thread = threading.Thread(target=lambda: found.append(tg.is_grad_enabled()))
        thread.start()
        thread.join()
    assert found == [True]


def test_autograd_grad() -> None:
    x, w = vector(1, 2), vector(3, 4)
    y = x * w
    d_x, d_w = tg.autograd.grad(y, [x, w], grad_outputs=tg.tensor([1.0, 10.0]))
    assert_equal(d_x, [3, 40])
    assert_equal(d_w, [1, 20])
    assert x.grad is None


def test_autograd_grad_of_an_unused_input() -> None:
    x, other = vector(1, 2), vector(3)
    with pytest.raises(
        RuntimeError, match=r"^One of the differentiated Tensors appears to not have b"
    ):
        tg.autograd.grad((x * x).sum(), [x, other])
    found = tg.autograd.grad((x * x).sum(), [x, other], allow_unused=True)
    assert found[1] is None
    with pytest.raises(RuntimeError, match="does not require grad"):
        tg.autograd.grad((x * x).sum(), tg.tensor(1.0))


def test_autograd_backward_of_several_roots() -> None:
    x = vector(1, 2)
    y = x * x
    tg.autograd.backward([y.sum(), y], [None, tg.tensor([1.0, 0.0])])
    assert_equal(x.grad, [4, 4])


def test_requires_grad_of_a_result_cannot_be_taken_away() -> None:
    y = vector(1, 2) * 2
    with pytest.raises(
        RuntimeError, match=r"^you can only change requires_grad flags of leaf vari"
    ):
        y.requires_grad_(False)
    with pytest.raises(
        RuntimeError, match=r"^you can only change requires_grad flags of leaf vari"
    ):
        y.requires_grad = False
    assert y.requires_grad_() is y


def test_numpy_of_a_tensor_that_requires_a_gradient() -> None:
    x = vector(1, 2)
    message = (
        r"^Can't call numpy\(\) on Tensor that requires grad\. Use tensor\.detach\(\)\.numpy\("
    )
    for convert in (lambda: x.numpy(), lambda: np.asarray(x), lambda: (x * 2).numpy()):
        with pytest.raises(RuntimeError, match=message):
            convert()
    assert x.detach().numpy().base is None


def test_assigned_gradients_must_fit() -> None:
    x = vector(1, 2)
    x.grad = tg.tensor([1.0, 1.0])
    (x * 2).sum().backward()
    assert_equal(x.grad, [3, 3])
    x.grad.zero_()
    assert_equal(x.grad, [0, 0])
    with pytest.raises(RuntimeError, match="different size"):
        x.grad = tg.tensor([1.0])
    with pytest.raises(TypeError, match="expected to be a Tensor or None"):
        x.grad = 3.0  # type: ignore[assignment]


def test_training_by_hand() -> None:
    w = vector(5, -3)
    for _ in range(60):
        loss = ((w - tg.tensor([1.0, 2.0])) ** 2).sum()
        loss.backward()
        with tg.no_grad():
            w -= 0.25 * w.grad
        w.grad = None
    assert w.is_leaf
    assert w.requires_grad
    np.testing.assert_allclose(w.detach().numpy(), [1, 2], atol=6 * 0.5**60 + 1e-15)


# 8 --------------------------------------------------------------------------------------------


def iteration(w: tg.Tensor, retain: bool) -> tg.Tensor:
    loss = tg.tanh(tg.tanh(w * 1.5) * w).sum()
    loss.backward(retain_graph=retain)
    return loss


def peak_bytes(iterations: int, retain: bool) -> int:
    w = tg.randn(4096, generator=0, requires_grad=True)
    iteration(w, False)
    gc.collect()
    tracemalloc.start()
    kept = [iteration(w, retain) for _ in range(iterations)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(kept) == iterations
    return peak


def test_memory_is_flat_unless_graphs_are_retained() -> None:
    array = 8 * 4096
    assert peak_bytes(200, True) > 200 * 2 * array
    assert peak_bytes(200, False) < 20 * array + 200 * 8000


def test_saved_arrays_are_freed_by_the_backward_at_once() -> None:
    x = vector(1, 2)
    y = tg.exp(x)
    array = weakref.ref(y.detach().numpy())
    loss = (y * y).sum()
    del y
    assert array() is not None
    loss.backward(retain_graph=True)
    assert array() is not None
    loss.backward()
    assert array() is None


def test_a_graph_dies_with_its_last_tensor_without_a_collection() -> None:
    gc.disable()
    try:
        x = vector(1, 2)
        y = tg.exp(x) * x
        node = weakref.ref(y.grad_fn)
        del y
        assert node() is None
    finally:
        gc.enable()


def test_a_long_chain() -> None:
    x = vector(1)
    y = x
    for _ in range(20_000):
        y = y + 1
    y.backward()
    assert_equal(x.grad, [1])
    del y


# the graph ------------------------------------------------------------------------------------


def test_the_recorded_graph_is_ordinary_ir() -> None:
    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    w = tg.tensor([4.0, 5.0, 6.0])
    y = np.exp(x * w / 10)
    y[1:] = x[:2]
    total = (y + 1).mean()
    graph = graph_of(total)
    assert [node.name for node in graph.inputs] == ["x", "w"]
    assert graph.outputs[0].source is not None
    assert "mean()" in graph.outputs[0].source.text
    (again,) = interpret(graph, [x.detach().numpy(), w.numpy()])
    assert again == total.item()


def test_a_gradient_can_be_deleted() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    del x.grad
    assert x.grad is None
    (3 * x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3.0, 3.0])


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_backward_does_not_warn(create_graph: bool) -> None:
    """The user has not written the 1 / x of a rule; what is written warns as NumPy does."""
    x = tg.tensor([0.0, 4.0], requires_grad=True)
    y = np.where(x.detach().numpy() > 0, np.sqrt(x), 0.0).sum()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y.backward(create_graph=create_graph)
    np.testing.assert_array_equal(x.grad.detach().numpy(), [np.nan, 0.25])
    with pytest.warns(RuntimeWarning, match="divide by zero encountered in log"):
        np.log(x)
