"""Programs of nested loops in the style of NumPy benchmark suites: values, gradients, memory."""

import numpy as np

import tracegrad as tg


def pair_forces(x, m):
    F = np.zeros_like(x)
    for i in tg.range(x.shape[0]):
        for j in tg.range(i + 1, x.shape[0]):
            d = x[j] - x[i]
            r = d @ d + 1e-3
            f = m[i] * d / r
            F[i] += f
            F[j] -= f
    return F


def in_numpy(x, m):
    F = np.zeros_like(x)
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            d = x[j] - x[i]
            F[i] += m[i] * d / (d @ d + 1e-3)
            F[j] -= m[i] * d / (d @ d + 1e-3)
    return F


def some(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def test_a_number_may_be_called_like_a_size_of_the_loop():
    """The extent of the inner loop is a variable of the generated code, `r`, as is the user's."""
    x, m = some(9, 3), some(9)
    np.testing.assert_allclose(tg.trace(pair_forces)(x, m), in_numpy(x, m), rtol=1e-12)


def test_adding_to_a_row_writes_in_place():
    """No copy of the array: each statement of the loop is over a row."""
    source = tg.trace(pair_forces).source(some(9, 3), some(9))
    loop = source[source.index("for i in range(n):") :]
    assert "n * p" not in loop and "_flat" not in loop
