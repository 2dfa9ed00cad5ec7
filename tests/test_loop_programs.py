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


def check(function, *args):
    """The value against NumPy's (`tg.range` is `range` there), and the gradient along one direction
    against central differences, whose error is about h**2 + eps/h.
    """
    plain, result = function, tg.trace(function)
    y = plain(*args)
    weights = np.cos(np.arange(np.size(y))).reshape(np.shape(y))
    np.testing.assert_allclose(result(*args), y, rtol=1e-12, atol=1e-12)
    argnums = tuple(range(len(args)))
    found = tg.grad(lambda *a: np.sum(weights * result(*a)), argnums=argnums)(*args)
    ways = [np.sin(np.arange(1.0, a.size + 1)).reshape(a.shape) for a in args]
    along = sum(np.sum(g * way) for g, way in zip(found, ways, strict=True))
    h = 1e-5
    ends = [
        np.sum(weights * plain(*(a + s * h * w for a, w in zip(args, ways, strict=True))))
        for s in (1, -1)
    ]
    np.testing.assert_allclose(along, (ends[0] - ends[1]) / (2 * h), rtol=1e-6, atol=1e-6)


def definite(n):
    a = some(n, n)
    return a @ a.T + n * np.eye(n)


def lower_solve(L, b):
    x = np.zeros_like(b)
    for i in tg.range(b.shape[0]):
        x[i] = (b[i] - L[i, :i] @ x[:i]) / L[i, i]
    return x


def factors(A):
    A = A.copy()
    for i in tg.range(A.shape[0]):
        for j in tg.range(i):
            A[i, j] -= A[i, :j] @ A[:j, j]
            A[i, j] /= A[j, j]
        for j in tg.range(i, A.shape[0]):
            A[i, j] -= A[i, :i] @ A[:i, j]
    return A


def levinson(r):
    y = np.zeros_like(r)
    alpha, beta = -r[0], 1.0
    y[0] = -r[0]
    for k in tg.range(1, r.shape[0]):
        beta = beta * (1.0 - alpha * alpha)
        alpha = -(r[k] + np.dot(np.flip(r[:k]), y[:k])) / beta
        y[:k] += alpha * np.flip(y[:k])
        y[k] = alpha
    return y


def test_gradients_through_slices_that_grow():
    """The extent of a slice is a number of each step, which the backward needs again."""
    check(lower_solve, definite(7), some(7))
    check(factors, definite(7))
    check(levinson, some(7) / 7)
