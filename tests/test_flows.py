"""Random programs with nested loops and branches: values as NumPy's, derivatives as differences.

Each is run in both forms (`tests/flows.py`), interpreted; first derivatives by both modes, second
ones, batches of calls and of gradients. `--seeds 50` draws fifty times as many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tests import flows, oracle
from tests.flows import Flow
from tracegrad.function import Function
from tracegrad.ir.interpret import interpret

EACH = 4
"""Programs of a seed."""
STEP = 1e-6
Form = Callable[..., Any]


def numbers(f: Form, args: Sequence[Any]) -> Callable[..., list[Any]]:
    """A function traced once, evaluated node by node with NumPy."""
    graph = Function(f).version_for(tuple(args), {})[0].graph
    return lambda *args: interpret(graph, list(args))


def forms(flow: Flow) -> list[Form]:
    printed = tg.trace(flow.printed(), python_control_flow=True)
    return [printed] if flow.jumps else [printed, flow.structured]


def weighted(results: Sequence[Any]) -> Any:
    """One number of all results, told apart by their weights."""
    count = len(flows.VECTORS)
    vectors = [np.sum(y * np.cos(1.0 + k + tg.arange(3))) for k, y in enumerate(results[:count])]
    return sum(vectors) + sum(y * np.cos(1.0 + k) for k, y in enumerate(results[count:]))


def gradient(f: Form) -> Form:
    return tg.grad(lambda *args: weighted(f(*args)), argnums=(0, 1, 2, 3))


def pushed(f: Form, direction: Sequence[Any]) -> Form:
    """The derivative of `f` along a direction of its floating arguments."""

    def run(*args: Any) -> Any:
        return tg.jvp(lambda *moving: f(*moving, args[4]), args[:4], tuple(direction))[1]

    return run


def close(got: Sequence[Any], want: Sequence[Any], relative: float, about: str) -> None:
    scale = 1 + max(np.max(np.abs(y)) for y in want)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=relative, atol=relative * scale, err_msg=about)


@pytest.mark.parametrize("number", range(EACH))
def test_flows(number: int, seed: int) -> None:
    flow = flows.drawn(EACH * seed + number)
    args = flow.arguments()
    with np.errstate(all="ignore"):
        want, _ = flow.plain(*args)
    if not np.all(np.isfinite(np.concatenate([np.ravel(y) for y in want]))):
        pytest.skip("it overflows")
    for form in forms(flow):
        about = f"flow {flow.seed}: {getattr(form, 'name', 'structured')}"
        close(numbers(form, args)(*args), want, 1e-11, about)
        check_derivatives(flow, form, args, about)
        check_batches(flow, form, args, about)


def check_derivatives(flow: Flow, form: Form, args: tuple[Any, ...], about: str) -> None:
    """Both modes against one another and, where all decisions stay the same, differences."""
    rng = np.random.default_rng(flow.seed + 1)
    direction = [rng.normal(size=np.shape(x))[()] for x in args[:4]]
    grad = numbers(gradient(form), args)
    (slope,) = numbers(pushed(lambda *a: weighted(form(*a)), direction), args)(*args)
    found = grad(*args)
    paired = sum(np.sum(a * b) for a, b in zip(found, direction, strict=True))
    close([paired], [slope], 1e-10, f"{about}, both modes")
    path = flow.plain(*args)[1]
    ahead, behind = (
        (*(x + s * t for x, t in zip(args, direction, strict=False)), args[4])
        for s in (STEP, -STEP)
    )
    (up, up_path), (down, down_path) = flow.plain(*ahead), flow.plain(*behind)
    moderate = max(np.max(np.abs(y)) for y in up) < 1e3
    if not moderate or not up_path == down_path == path:
        return
    # Differences lose eps / h = 2e-10 of the values and h**2 of the third derivative.
    close([slope], [(weighted(up) - weighted(down)) / (2 * STEP)], 1e-6, f"{about}, differences")
    second = numbers(pushed(gradient(form), direction), args)(*args)
    turns = [(a - b) / (2 * STEP) for a, b in zip(grad(*ahead), grad(*behind), strict=True)]
    close(second, turns, 1e-5, f"{about}, second order")


def check_batches(flow: Flow, form: Form, args: tuple[Any, ...], about: str) -> None:
    items = [args, *(Flow(1000 * flow.seed + k).arguments() for k in (1, 2))]
    stacks = [np.stack(column) for column in zip(*items, strict=True)]
    rows = numbers(tg.vmap(form), stacks)(*stacks)
    for number, item in enumerate(items):
        close([y[number] for y in rows], flow.plain(*item)[0], 1e-11, f"{about}, item {number}")
    each = tg.vmap(lambda *args: weighted(form(*args)))
    total = tg.grad(lambda *args: np.sum(each(*args)), argnums=(0, 1, 2, 3))
    found = numbers(tg.vmap(gradient(form)), stacks)(*stacks)
    close(found, numbers(total, stacks)(*stacks), 1e-10, f"{about}, gradients of a batch")


def test_compiled(seed: int) -> None:
    """Values and gradients of one program of a seed, compiled, in every form."""
    flow = flows.drawn(EACH * seed)
    args = flow.arguments()
    for form in forms(flow):
        close(oracle.compiled(form, *args), flow.plain(*args)[0], 1e-11, f"flow {flow.seed}")
        want = numbers(gradient(form), args)(*args)
        close(oracle.compiled(gradient(form), *args), want, 1e-10, f"flow {flow.seed}, gradient")
