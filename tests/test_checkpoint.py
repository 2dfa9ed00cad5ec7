"""What is not kept is computed again: the same numbers, less memory, wherever the call stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tests.oracle import interpreted

policies = tg.checkpoint_policies
RNG = np.random.default_rng(0)
WEIGHTS = [0.1 * RNG.normal(size=(64, 64)) for _ in range(6)]
X = RNG.normal(size=(500, 64))


MEGABYTES = {"MB": 1.0, "kB": 1e-3, "bytes": 1e-6}


def layer(h: Any, w: Any) -> Any:
    a = h @ w
    return np.tanh(a) * np.exp(-a * a)


def net(step: Any) -> tg.Function:
    def loss(weights: Any, x: Any) -> Any:
        h = x
        for w in weights:
            h = step(h, w)
        return np.sum(h**2)

    return tg.trace(loss)


PLAIN, LEAN = net(layer), net(tg.checkpoint(layer))


def peak(f: Any, *args: Any) -> float:
    """The megabytes at the peak of value and gradient in one program, as `explain` has them."""
    text = " ".join(str(f.value_and_grad.explain(*args, which="primal")).split())
    found = re.search(r"memory .*? bytes = ([\d.]+) (kB|MB) at the peak", text)
    assert found, text
    return float(found[1]) * MEGABYTES[found[2]]


def kept(f: Any, *args: Any) -> float:
    """The megabytes that cross from the forward to the backward."""
    found = re.search(r"in sum: ([\d.,]+) (MB|kB|bytes) kept", f.explain(*args))
    assert found
    return float(found[1].replace(",", "")) * MEGABYTES[found[2]]


def same(f: Any, g: Any, *args: Any) -> None:
    found, expected = (interpreted(h.value_and_grad, *args) for h in (f, g))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_the_same_numbers_with_less_memory() -> None:
    same(LEAN, PLAIN, WEIGHTS, X)
    assert peak(LEAN, WEIGHTS, X) < 0.5 * peak(PLAIN, WEIGHTS, X)


def test_explain_shows_the_trade() -> None:
    text = LEAN.explain(WEIGHTS, X)
    assert "checkpoint: 4.1 Mflop again" in text  # 2 * 500 * 64 * 64: a product
    assert re.search(r"in sum: .* kept; .* Mflop again, instead of keeping .* MB", text)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
def test_resident_memory_really_falls() -> None:
    x = np.ones((40_000, 64))  # 20 MB
    shallow = WEIGHTS[:4]

    def measured(f: Any) -> int:
        f.value_and_grad(shallow, x)
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        f.value_and_grad(shallow, x)
        return resident("VmHWM") - before

    def resident(line: str) -> int:
        status = Path("/proc/self/status").read_text()
        return int(re.search(rf"{line}:\s+(\d+) kB", status)[1])  # type: ignore[index]

    limit = tg.set_buffer_limit(0)  # what a call took is given back after it
    try:
        plain, lean = measured(PLAIN), measured(LEAN)
    finally:
        tg.set_buffer_limit(limit)
    value, gradient = LEAN.value_and_grad(shallow, X)
    other, expected = PLAIN.value_and_grad(shallow, X)
    np.testing.assert_allclose(value, other, rtol=1e-13)
    np.testing.assert_allclose(gradient, expected, rtol=1e-11, atol=1e-12)
    assert lean < 0.65 * plain


def test_policies_say_what_may_be_kept() -> None:
    amounts = {}
    for name, policy in {
        "nothing": policies.nothing_saveable,
        "dots": policies.dots_saveable,
        "name": policies.save_only_these_names("a"),
        "own": lambda value: value.op in ("exp", "tanh"),
        "but": policies.save_anything_except_these_names("a"),
        "everything": policies.everything_saveable,
    }.items():
        whole = tg.checkpoint(PLAIN, policy=policy)
        same(whole, PLAIN, WEIGHTS, X)
        amounts[name] = kept(whole, WEIGHTS, X)
    one = X.nbytes / 1e6
    assert amounts["nothing"] < 0.01
    assert amounts["dots"] == amounts["name"] == pytest.approx(6 * one, rel=0.01)
    assert amounts["own"] == pytest.approx(12 * one, rel=0.01)
    assert amounts["everything"] <= kept(PLAIN, WEIGHTS, X) + 0.01


def test_policies_of_products_tell_stacks_from_rows() -> None:
    """`q @ k` multiplies two stacks, `x @ w` rows of a stack by one matrix."""
    policies = tg.checkpoint_policies
    seen: list[tuple[tuple[int, ...], bool]] = []

    def told(value: tg.checkpoint_policies.Value) -> bool:
        if value.op in policies.PRODUCTS:
            seen.append((len(value.shape), policies.checkpoint_dots_with_no_batch_dims(value)))
        return policies.checkpoint_dots(value)

    def attend(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = np.tanh(x @ w)
        return np.sum(np.tanh(y @ np.swapaxes(y, 1, 2)))

    x, w = np.ones((2, 3, 4)) / 5, np.eye(4)
    found = tg.grad(tg.checkpoint(attend, policy=told, prevent_cse=False), argnums=1)(x, w)
    np.testing.assert_allclose(found, tg.grad(attend, argnums=1)(x, w), rtol=1e-12)
    assert seen == [(3, True), (3, False)] or seen == [(2, True), (3, False)]


def test_values_named_for_a_policy() -> None:
    def f(x: Any) -> Any:
        y = tg.checkpoint_name(np.exp(np.sin(x)), "inner")
        return np.sum(np.tanh(y * y) / (1 + np.exp(y)))

    lean = tg.checkpoint(f, policy=policies.save_only_these_names("inner"))
    same(lean, tg.trace(f), X)
    assert kept(lean, X) == pytest.approx(X.nbytes / 1e6)
    assert kept(tg.checkpoint(f), X) == 0


def test_a_decorator_with_pytrees_and_keywords() -> None:
    @tg.checkpoint(policy=policies.dots_saveable)
    def model(params: dict, x: Any, *, scale: Any = 1.0) -> dict:
        h = np.tanh(x @ params["w"] + params["b"])
        return {"y": scale * h, "size": np.sum(h**2)}

    params = {"w": WEIGHTS[0][:, :3], "b": np.ones(3)}

    def loss(run: Any) -> Any:
        def f(params: Any) -> Any:
            out = run(params, X, scale=2.0)
            return np.sum(np.sin(out["y"])) + out["size"]

        return f

    plain = loss(model.python.__wrapped__)
    for found, expected in zip(
        *(interpreted(tg.grad(f), params) for f in (loss(model), plain)), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def steps(step: Any) -> Any:
    def f(w: Any) -> Any:
        def body(h: Any, x: Any) -> Any:
            h = step(h + x, w)
            return h, np.sum(h)

        h, ys = tg.scan(body, np.ones((5, 64)), X[:50].reshape(10, 5, 64))
        return np.sum(h**2) + np.sum(ys)

    return f


def branches(step: Any) -> Any:
    def f(w: Any) -> Any:
        h = tg.cond(np.sum(w) > 0, lambda: step(X[:5], w), lambda: X[:5] @ w)
        return np.sum(h**2) + np.sum(step(h, np.sin(w)))

    return f


def loops_inside(step: Any) -> Any:
    def run(w: Any) -> Any:
        return tg.fori_loop(0, 5, lambda i, h: layer(h, w), X[:5])

    whole = tg.checkpoint(run) if step is not layer else run
    return lambda w: np.sum(whole(w) ** 2)


def while_inside(step: Any) -> Any:
    def run(w: Any) -> Any:
        return tg.while_loop(lambda h: np.sum(h) < 3.0, lambda h: h + np.abs(h @ w), X[:5] ** 2)

    whole = tg.checkpoint(run) if step is not layer else run
    return lambda w: np.sum(whole(w) ** 2)


def custom_inside(step: Any) -> Any:
    half = tg.custom_jvp(lambda x: 0.5 * x)
    half.defjvp(lambda p, t: (0.5 * p[0], 0.5 * t[0]))

    def run(w: Any) -> Any:
        return half(layer(X[:5], w)) ** 2

    whole = tg.checkpoint(run) if step is not layer else run
    return lambda w: np.sum(whole(w))


@pytest.mark.parametrize("make", [steps, branches, loops_inside, while_inside, custom_inside])
def test_inside_of_control_flow_and_around_it(make: Any) -> None:
    plain, lean, w = make(layer), make(tg.checkpoint(layer)), WEIGHTS[0]
    v = RNG.normal(size=w.shape)

    def agree(transform: Any) -> None:
        (found,), (expected,) = (interpreted(transform(f), w) for f in (lean, plain))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)

    agree(tg.grad)
    agree(lambda f: lambda w: tg.jvp(f, (w,), (v,))[1])
    agree(lambda f: lambda w: tg.hvp(f)(w, v))
    agree(lambda f: tg.grad(lambda w: np.sum(v * tg.grad(f)(w))))


def test_a_scan_of_a_checkpoint_stacks_the_carry_alone() -> None:
    plain, lean = tg.trace(steps(layer)), tg.trace(steps(tg.checkpoint(layer)))
    assert kept(lean, WEIGHTS[0]) < 0.7 * kept(plain, WEIGHTS[0])


def test_jacobians_and_vmap() -> None:
    def f(x: Any) -> Any:
        return np.tanh(np.sin(x) * np.exp(x[0]))

    lean, x = tg.checkpoint(f), np.array([0.1, 0.2, 0.3])
    for mode in (tg.jacfwd, tg.jacrev, lambda f: tg.hessian(lambda x: np.sum(f(x)))):
        found, expected = (interpreted(mode(g), x)[0] for g in (lean, f))
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    batch = X[:4, :3]
    found = interpreted(tg.vmap(lean), batch)[0]
    np.testing.assert_allclose(found, np.stack([f(x) for x in batch]))


def test_tensors() -> None:
    w = tg.tensor(WEIGHTS[0], requires_grad=True)
    y = tg.checkpoint(layer)(X, w).sum()
    y.backward(retain_graph=True)
    expected = tg.grad(lambda w: np.sum(layer(X, w)))(WEIGHTS[0])
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-12)  # type: ignore[union-attr]


def test_not_a_policy() -> None:
    with pytest.raises(TypeError, match="policy='dots' is not a function"):
        tg.checkpoint(layer, policy="dots")


@pytest.mark.parametrize("megabytes", [4.0, 3.0])
def test_a_budget_holds(megabytes: float) -> None:
    """Beside what is kept, one cotangent and one product of the layer at hand live at once."""
    lean = tg.minimize_memory(PLAIN, budget_bytes=megabytes * 1e6)
    same(lean, PLAIN, WEIGHTS, X)
    assert kept(lean, WEIGHTS, X) <= megabytes
    assert peak(lean, WEIGHTS, X) <= megabytes + 3 * X.nbytes / 1e6 < peak(PLAIN, WEIGHTS, X)


def test_a_budget_with_room_changes_nothing() -> None:
    roomy = tg.minimize_memory(PLAIN, budget_bytes=1e9)
    assert kept(roomy, WEIGHTS, X) == kept(PLAIN, WEIGHTS, X)
    assert "checkpoint:" not in roomy.explain(WEIGHTS, X)


def test_a_budget_that_cannot_be_met_says_the_least() -> None:
    with pytest.raises(tg.MemoryBudgetError, match=r"the least it needs is [\d,]+ bytes") as info:
        tg.minimize_memory(PLAIN, budget_bytes=1000).grad(WEIGHTS, X)
    found = re.search(r"needs is ([\d,]+) bytes", str(info.value))
    assert found
    least = float(found[1].replace(",", ""))
    same(tg.minimize_memory(PLAIN, budget_bytes=least), PLAIN, WEIGHTS, X)
