"""Compiled gradients inside the user's compiled code, and behind C function pointers."""

from __future__ import annotations

import ctypes
import warnings
from dataclasses import dataclass

import numba
import numpy as np
import pytest
import scipy.integrate
import scipy.ndimage
import scipy.optimize

import tracegrad as tg

X = np.array([0.5, -1.0, 2.0, 0.25])


def energy(x, scale):
    return scale * np.sum((x[1:] - x[:-1] ** 2) ** 2) + np.sum(x * x)


def test_a_gradient_inside_njit():
    gradient = tg.njit_grad(energy, X, 2.0)
    both = tg.njit_value_and_grad(energy, X, 2.0, argnums=(0, 1))
    value = tg.njit_function(energy, X, 2.0)

    @numba.njit
    def descend(x, steps):
        for _ in range(steps):
            x = x - 0.01 * gradient(x, 2.0)
        v, (d_x, d_scale) = both(x, 2.0)
        return x, v, d_x, d_scale, value(x, 2.0)

    x = X
    for _ in range(10):
        x = x - 0.01 * tg.grad(energy)(x, 2.0)
    found, v, d_x, d_scale, again = descend(X, 10)
    np.testing.assert_allclose(found, x, rtol=1e-13)
    assert v == again == energy(x, 2.0) or abs(v - energy(x, 2.0)) < 1e-13
    np.testing.assert_allclose(d_x, tg.grad(energy)(x, 2.0), rtol=1e-12)
    np.testing.assert_allclose(d_scale, tg.grad(energy, argnums=1)(x, 2.0), rtol=1e-12)


def test_other_layouts_and_sizes():
    gradient = tg.njit_grad(lambda w, x: np.sum((x @ w) ** 2), np.ones(3), np.ones((4, 3)))

    @numba.njit
    def call(w, x):
        return gradient(w[::2], x.T)

    rng = np.random.default_rng(0)
    w, x = rng.normal(size=10), rng.normal(size=(5, 7))
    np.testing.assert_allclose(call(w, x), 2 * x @ (x.T @ w[::2]), rtol=1e-12)
    read_only = w.copy()
    read_only.flags.writeable = False
    np.testing.assert_allclose(call(read_only, x), 2 * x @ (x.T @ w[::2]), rtol=1e-12)


def test_a_wrong_shape_raises_and_reads_nothing():
    gradient = tg.njit_grad(lambda w, x: np.sum((x @ w) ** 2), np.ones(3), np.ones((4, 3)))

    @numba.njit
    def call(w, x):
        return gradient(w, x)

    with pytest.raises(ValueError, match=r"compiled for|must be"):
        call(np.ones(3), np.ones((4, 5)))
    with pytest.raises(numba.TypingError):
        call(np.ones((3, 1)), np.ones((4, 3)))
    with pytest.raises(numba.TypingError):
        call(np.ones(3, np.float32), np.ones((4, 3)))


@dataclass
class Parameters:
    w: np.ndarray
    b: float


def test_pytrees_are_nested_tuples():
    def loss(p, data, power):
        x, y = data["x"], data["y"]
        return np.sum((x @ p.w + p.b - y) ** power)

    x = np.random.default_rng(1).normal(size=(6, 4))
    y = x @ np.ones(4)
    p = Parameters(X, 0.5)
    value_and_grad = tg.njit_value_and_grad(loss, p, {"x": x, "y": y}, 2)

    @numba.njit
    def call(w, b, x, y, power):
        value, (d_w, d_b) = value_and_grad((w, b), (x, y), power)
        return value, d_w, d_b

    value, d_w, d_b = call(X, 0.5, x, y, 2)
    expected = tg.value_and_grad(loss)(p, {"x": x, "y": y}, 2)
    np.testing.assert_allclose(value, expected[0])
    np.testing.assert_allclose(d_w, expected[1].w)
    np.testing.assert_allclose(d_b, expected[1].b)
    with pytest.raises(ValueError, match="compiled for power == 2"):
        call(X, 0.5, x, y, 3)


def test_numba_keeps_no_function_that_calls_one(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    gradient = tg.njit_grad(energy, X, 2.0)
    forward = tg.trace(energy).compiled(X, 2.0).primal

    for inner in (lambda x: gradient(x, 2.0)[0], lambda x: forward(x, 2.0)):
        jitted = numba.njit(inner)

        cached = numba.njit(cache=True)(call_of(jitted))
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            cached(X)
        assert any("Cannot cache" in str(w.message) for w in seen)


def call_of(jitted):
    def call(x):
        return jitted(x)

    return call


def test_a_metropolis_sampler():
    log_density = tg.njit_function(lambda x: -0.5 * np.sum(x * x), np.zeros(2))

    @numba.njit
    def sample(x, steps, seed):
        np.random.seed(seed)
        total = np.zeros_like(x)
        current = log_density(x)
        for _ in range(steps):
            new = x + np.random.uniform(-1.5, 1.5, x.shape[0])
            proposed = log_density(new)
            if np.log(np.random.random()) < proposed - current:
                x, current = new, proposed
            total += x * x
        return total / steps

    # Variances of a standard normal; 20,000 correlated steps leave about 0.03.
    np.testing.assert_allclose(sample(np.zeros(2), 20_000, 1), 1.0, atol=0.15)


def test_quad_and_nquad():
    f = tg.cfunc(lambda x: np.exp(-x * x), "double(double)", 0.0)
    value, _ = scipy.integrate.quad(f.low_level_callable(), 0, np.inf)
    assert abs(value - np.sqrt(np.pi) / 2) < 1e-10
    g = tg.cfunc(lambda x, a: np.exp(-a[0] * x * x), "double(double, void*)", 0.0, np.ones(1))
    for a in (1.0, 4.0):
        value, _ = scipy.integrate.quad(g.low_level_callable(np.array([a])), 0, np.inf)
        assert abs(value - np.sqrt(np.pi / a) / 2) < 1e-10
    product = tg.cfunc(lambda x, y: x * y**2, "double(int, double*)", 0.0, 0.0)
    value, _ = scipy.integrate.nquad(product.low_level_callable(), [(0, 1), (0, 2)])
    assert abs(value - 4 / 3) < 1e-12
    scaled = tg.cfunc(
        lambda x, a: a * np.prod(x), "double(int n, double* x, void* data)", np.ones(2), 1.0
    )
    value, _ = scipy.integrate.nquad(scaled.low_level_callable(np.array([3.0])), [(0, 1), (0, 2)])
    assert abs(value - 3.0) < 1e-12
    slope = tg.cfunc(tg.grad(np.sin), "double(double)", 0.0)
    assert abs(scipy.integrate.quad(slope.low_level_callable(), 0, 1)[0] - np.sin(1)) < 1e-12


def test_root_finders_take_the_ctypes_function():
    f = tg.cfunc(lambda x: np.cos(x) - x, "double(double)", 0.0)
    slope = tg.cfunc(tg.grad(lambda x: np.cos(x) - x), "double(double)", 0.0)
    root = scipy.optimize.newton(f.ctypes, 1.0, fprime=slope.ctypes)
    assert abs(np.cos(root) - root) < 1e-12
    assert abs(scipy.optimize.brentq(f.ctypes, 0, 1) - root) < 1e-12


def test_ndimage():
    spread = tg.cfunc(
        lambda x: np.max(x) - np.min(x), "int(double*, intptr_t, double*, void*)", np.ones(9)
    )
    image = np.random.default_rng(0).normal(size=(8, 9))
    found = scipy.ndimage.generic_filter(image, spread.low_level_callable(), size=3)
    expected = scipy.ndimage.generic_filter(image, np.ptp, size=3)
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_value_and_gradient_by_address():
    c = tg.cfunc(lambda x: energy(x, 2.0), "void(int n, double* x, double* f, double* g)", X)
    pointer = ctypes.POINTER(ctypes.c_double)
    call = ctypes.CFUNCTYPE(None, ctypes.c_int, pointer, pointer, pointer)(c.address)
    for x in (X, np.arange(7.0)):
        f, g = np.empty(1), np.empty(len(x))
        call(len(x), *(array.ctypes.data_as(pointer) for array in (x, f, g)))
        np.testing.assert_allclose(f[0], energy(x, 2.0), rtol=1e-14)
        np.testing.assert_allclose(g, tg.grad(energy)(x, 2.0), rtol=1e-13)
    d = tg.cfunc(tg.grad(lambda x: energy(x, 2.0)), "void(int, double*, double*)", X)
    g = np.empty(4)
    d.ctypes(4, X.ctypes.data_as(pointer), g.ctypes.data_as(pointer))
    np.testing.assert_allclose(g, tg.grad(energy)(X, 2.0), rtol=1e-13)


def test_what_fails_in_c_is_nan():
    pointer = ctypes.POINTER(ctypes.c_double)
    pair = tg.cfunc(lambda x, y: x * y, "double(int, double*)", 0.0, 0.0)
    three = np.ones(3)
    assert np.isnan(pair.ctypes(3, three.ctypes.data_as(pointer)))
    w = np.arange(4.0)
    dot = tg.cfunc(lambda x: np.sum(w * x), "void(int, double*, double*, double*)", X)
    f, g = np.zeros(1), np.zeros(3)
    dot.ctypes(3, *(a.ctypes.data_as(pointer) for a in (three, f, g)))
    assert np.isnan(f).all() and np.isnan(g).all()


def test_wrong_uses():
    with pytest.raises(ValueError, match="choose one of"):
        tg.cfunc(np.sin, "float(float)", 0.0)
    with pytest.raises(TypeError, match="takes the C signature as text"):
        tg.cfunc(np.sin, 0.0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(tg.UnsupportedError, match="a function of one number"):
        tg.cfunc(np.sum, "double(double)", X)
    with pytest.raises(tg.UnsupportedError, match="a function of one array"):
        tg.cfunc(lambda x: x, "void(int, double*, double*)", 0.0)
    with pytest.raises(tg.UnsupportedError, match="what it returns does not go with"):
        tg.cfunc(lambda x: (x, x), "double(double)", 0.0)
    with pytest.raises(TypeError, match="an array of float64"):
        tg.cfunc(np.sin, "double(double, void*)", 0.0).low_level_callable(3)
