"""What NumPy does not hand over to traced arrays by itself: `np.r_[...]`, lists, memory layout."""

from typing import Any

import numpy as np
import pytest

import tracegrad as tg

X = np.linspace(0.1, 1.0, 6)

PROGRAMS = {
    "r_ numbers": lambda x: np.r_[0.0, x, 1],
    "r_ slices of x": lambda x: np.r_[x[1:], x[:1]],
    "r_ range": lambda x: np.r_[0:3, x, 0:1:4j],
    "r_ matrix": lambda x: np.r_[x.reshape(2, 3), np.ones((1, 3))],
    "r_ size": lambda x: np.r_[0 : x.shape[0]] * x,
    "c_ vectors": lambda x: np.c_[np.ones(len(x)), x, x**2],
    "c_ matrix": lambda x: np.c_[x.reshape(2, 3), x[:2]],
    "mgrid": lambda x: np.mgrid[0 : x.shape[0], 1:3][0] * x[:, None],
    "mgrid steps": lambda x: np.mgrid[0 : x.shape[0] : 2, 0:1:3j] * x[0],
    "mgrid one": lambda x: np.mgrid[0 : x.size] * x,
    "ogrid": lambda x: np.ogrid[0 : x.shape[0], 0:2][0] * x[:, None],
    "list to sum": lambda x: np.sum([x, 2 * x], axis=0),
    "list to mean": lambda x: np.mean([np.sin(x), x, np.ones(6)], axis=0),
    "list to max": lambda x: np.max([x, 1 - x], axis=0) * x,
    "list to dot": lambda x: np.dot([x, 2 * x], x),
    "contiguous": lambda x: np.ascontiguousarray(x[::-1]) * np.require(x, requirements="C"),
    "fromiter": lambda x: np.fromiter((v**2 for v in x), float),
    "arange to a product": lambda x: x[np.arange(2, x.reshape(2, 3).size)],
    "accumulate": lambda x: np.add.accumulate(x) + np.multiply.accumulate(x),
    "logaddexp.reduce": lambda x: np.logaddexp.reduce(x.reshape(2, 3)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_agrees_with_numpy(name):
    program = PROGRAMS[name]
    np.testing.assert_allclose(tg.trace(program)(X), program(X), rtol=1e-14)
    tg.testing.check_grads(program, (X,), order=1)


def test_a_number_in_r_keeps_the_dtype_of_the_array():
    x = X.astype(np.float32)
    assert tg.trace(lambda x: np.r_[0.0, x])(x).dtype == np.r_[0.0, x].dtype == np.float32


def test_sizes_in_mgrid_stay_open():
    f = tg.trace(lambda x: np.mgrid[0 : x.shape[0], 0 : x.shape[1]].sum(axis=0) * x)
    for shape in ((2, 3), (4, 5)):
        np.testing.assert_allclose(f(np.ones(shape)), np.indices(shape).sum(axis=0))
    assert len(f.versions) == 1


@pytest.mark.parametrize(
    ("program", "advice"),
    [
        (lambda x: np.vectorize(lambda v: v**2)(x), "tg.vmap"),
        (lambda x: np.apply_along_axis(np.sum, 0, x), "tg.vmap"),
        (lambda x: np.r_["0,2", x, x], "np.concatenate or np.stack"),
        (lambda x: np.mgrid[0 : x[0]], "np.linspace"),
    ],
)
def test_refused_with_advice(program, advice):
    with pytest.raises(tg.errors.UnsupportedError, match=advice):
        tg.trace(program)(X)
    np.vectorize(lambda v: v**2)(X)


def test_the_class_of_arrays() -> None:
    """`np.ndarray(shape)` makes an array to write to; what is traced is one, no number is."""

    @tg.trace
    def program(x: Any, n: int) -> Any:
        out, short = np.ndarray((len(x), 2), dtype=x.dtype), np.ndarray(n, order="C")
        out[:, 0], out[:, 1], short[:] = x, x * x, 1.0
        assert isinstance(x, np.ndarray) and isinstance(out, list | np.ndarray)
        assert not isinstance(x[0], np.ndarray) and not isinstance(1.0, np.ndarray)
        assert issubclass(type(np.ndarray((1,), buffer=b"12345678")), np.ndarray)
        match x[0]:
            case np.ndarray():
                return None
        match x:
            case np.ndarray():
                return np.sum(out) * np.sum(short)

    x = np.array([1.0, 2.0, 3.0])
    assert program(x, 2) == 2 * np.sum(x + x * x)
    np.testing.assert_array_equal(program.grad(x, 2), 2 * (1 + 2 * x))
