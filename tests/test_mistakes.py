"""What users do by mistake, and would else get a silently wrong number or an obscure error for."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tracegrad as tg

X = np.linspace(0.1, 1.0, 6)


def writes(x):
    x[0] = 0.0
    return np.sum(x**2)


@pytest.mark.parametrize(
    "derivative",
    [
        lambda f: f,
        tg.grad,
        tg.value_and_grad,
        tg.hessian,
        tg.jacobian,
        lambda f: lambda x: tg.vjp(f, x),
        lambda f: lambda x: tg.jvp(f, (x,), (x,)),
        lambda f: lambda x: tg.grad(lambda x: tg.grad(f)(2 * x).sum())(x),
    ],
)
def test_a_write_into_an_argument_is_refused_in_every_derivative(derivative):
    """Else the derivative would be that in the new value."""
    with pytest.raises(tg.errors.TraceError, match="writes into its argument"):
        derivative(tg.trace(writes))(X)
    with pytest.raises(tg.errors.TraceError, match="writes into its argument"):
        derivative(tg.trace(lambda x: writes(x)))(X)
    if derivative not in (tg.grad, tg.value_and_grad, tg.hessian, tg.jacobian):
        return
    with pytest.raises(tg.errors.TraceError, match="writes into its argument"):
        derivative(writes)(X)


def test_copies_may_be_written_to():
    def f(x):
        y, z = copy.copy(x), copy.deepcopy({"a": x})["a"]
        y[0], z[1] = 0.0, 0.0
        return np.sum(y**2) + np.sum(z**2)

    want = 4 * X
    want[:2] /= 2
    np.testing.assert_allclose(tg.grad(f)(X), want)


def numbers(x):
    yield np.sum(x)


async def later(x):
    return np.sum(x)


@pytest.mark.parametrize("result", [numbers, later, lambda x: map(np.sin, x)])
@pytest.mark.filterwarnings("ignore:coroutine")
def test_what_has_not_run_is_no_result(result):
    with pytest.raises(TypeError, match="has not run yet"):
        tg.trace(result)(X)


class Frame:
    """As of pandas."""

    def __array__(self, dtype=None, copy=None):
        return X


def test_arrays_of_another_library_are_no_static_arguments():
    with pytest.raises(TypeError, match="is a Frame, which is no NumPy array"):
        tg.trace(lambda x: np.sum(x))(Frame())


@pytest.mark.parametrize(
    ("program", "message", "expression"),
    [
        (lambda x: x[10], "index 10 is out of bounds", "x[10]"),
        (lambda x: x[x.shape[0] / 2], "only integers", "x[x.shape[0] / 2]"),
        (lambda x: x[np.array([True, False])], "boolean index", "x[np.array([True, False])]"),
    ],
)
def test_index_errors_name_the_expression(program, message, expression):
    with pytest.raises(IndexError, match=message) as caught:
        tg.grad(lambda x: np.sum(program(x)))(X)
    assert expression in str(caught.value)


def test_the_first_use_of_np_random_is_seen_too():
    """NumPy loads `numpy.random` when it is first asked for: here while the function is traced."""
    program = (
        "import numpy as np, tracegrad as tg\n"
        "try: tg.trace(lambda x: x * np.random.normal(size=3))(np.ones(3))\n"
        "except tg.errors.TraceError as error: print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(tg.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert "np.random was used while a function was traced" in done.stdout
