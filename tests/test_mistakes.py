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


@pytest.mark.parametrize(
    "f, x",
    [
        (lambda x: x.sum(), [1.0, 2.0]),
        (lambda x: np.sum(x**2), [1.0, 2.0]),
        (lambda x: np.sum(x @ x), (1.0, 2.0)),
        (lambda x: np.sum(x[:, 0]), [[1.0, 2.0], [3.0, 4.0]]),
        (lambda x: np.sum(x * x.shape[0]), [X, X]),
    ],
)
def test_a_list_in_the_place_of_an_array(f, x):
    for made in (tg.trace(f), tg.grad(f)):
        with pytest.raises((AttributeError, TypeError)) as caught:
            made(x)
        cure = f"x is a {type(x).__name__}, and stays one: for an array, pass np.array(x)"
        assert cure in str(caught.value)
        assert "test_mistakes.py" in str(caught.value)


def test_errors_of_lists_made_inside_say_nothing_of_arguments():
    with pytest.raises(AttributeError, match=r"^'list' object has no attribute 'shape'$"):
        tg.trace(lambda x: [x, x].shape)(X)


def test_an_axis_out_of_bounds_is_placed():
    for f in (lambda x: np.sum(2 * x, axis=3), lambda x: x.max(axis=1)):
        with pytest.raises(
            np.exceptions.AxisError, match="out of bounds for array of dim"
        ) as caught:
            tg.trace(f)(X)
        assert "test_mistakes.py" in caught.value.__notes__[0]
        assert "axis=" in caught.value.__notes__[0]


def test_a_body_without_a_return():
    bodies = [
        lambda x: tg.scan(lambda c, a: (None, c), x[0], x),
        lambda x: tg.while_loop(lambda c: c < 3, lambda c: None, x[0]),
        lambda x: tg.fori_loop(0, 3, lambda i, c: None, x[0]),
        lambda x: tg.cond(x[0] > 0, lambda: x[0], lambda: None),
    ]
    for body in bodies:
        with pytest.raises(tg.errors.TraceError, match=r"is None \(is a return missing\?\)"):
            tg.trace(body)(X)


def test_a_range_that_only_stops():
    f = tg.trace(lambda x: np.arange(stop=len(x), dtype=float) * x)
    np.testing.assert_array_equal(f(X), np.arange(6) * X)
    np.testing.assert_array_equal(f(X[:3]), np.arange(3) * X[:3])
    with pytest.raises(TypeError, match="requires stop"):
        tg.arange()
