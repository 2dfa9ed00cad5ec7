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


# Plain Python loops, which nobody has to mark


def smoothed(u):
    u = u.copy()
    for _ in range(4):
        new = u.copy()
        for i in range(1, u.shape[0] - 1):
            for j in range(1, u.shape[1] - 1):
                if i == j:
                    new[i, j] = 0.0
                else:
                    new[i, j] = 0.2 * (u[i, j] + u[i + 1, j] + u[i - 1, j] + u[i, j + 1])
        u = new
    return u


def warped(a, b):
    D = np.full((a.shape[0] + 1, b.shape[0] + 1), 1e10)
    D[0, 0] = 0.0
    for i in range(1, a.shape[0] + 1):
        for j in range(1, b.shape[0] + 1):
            least = np.minimum(np.minimum(D[i - 1, j], D[i, j - 1]), D[i - 1, j - 1])
            D[i, j] = (a[i - 1] - b[j - 1]) ** 2 + least
    return D[-1, -1]


def test_loops_in_loops_are_kept():
    check(smoothed, some(20, 20))
    check(warped, some(25), some(20))
    assert tg.trace(smoothed).source(some(20, 20)).count("\n") < 120


def test_one_compilation_serves_all_sizes():
    f = tg.trace(warped)
    for n in (20, 30):
        np.testing.assert_allclose(f(some(n), some(n)), warped(some(n), some(n)))
    assert len(f.versions) == 1


def in_steps(u):
    for _ in range(5):
        u = one_step(u)
    return u


def one_step(u):
    new = np.zeros_like(u)
    for i in range(u.shape[0]):
        for j in range(u.shape[1]):
            new[i, j] = np.sin(u[i, j]) if i > j else u[j, i]
    return new


def test_loops_of_functions_that_are_called_are_kept():
    check(in_steps, some(16, 16))
    assert tg.trace(in_steps).source(some(16, 16)).count("\n") < 120


def test_a_loop_that_needs_its_counter_as_a_number_is_unrolled():
    """The loop around it is kept."""

    def powers(x):
        y = np.zeros(x.shape[0])
        for i in range(x.shape[0]):
            for j in range(6):
                y[i] += [1.0, 2.0, 3.0, 4.0, 5.0, 6.0][j] * x[i] ** j
        return y

    x = some(200)
    f = tg.trace(powers)
    np.testing.assert_allclose(f(x), powers(x), rtol=1e-12)
    assert f.source(x).count("\n") < 120


class Clock:
    def __init__(self):
        self.time = 0.0

    def tick(self):
        self.time += 0.25
        return self.time


CALLS = []


def counted(x):
    CALLS.append(1)
    return len(CALLS) * x


def test_what_keeps_a_state_of_its_own_is_unrolled():
    """The first step of a loop would not be like the others."""

    def ticking(x):
        clock, y = Clock(), np.zeros_like(x)
        for i in range(x.shape[0]):
            for _ in range(10):
                y[i] += clock.tick() * x[i] + np.sin(x[i])
        return y

    def counting(x):
        CALLS.clear()
        y = np.zeros_like(x)
        for i in range(x.shape[0]):
            for _ in range(10):
                y[i] += np.sin(counted(x[i])) * x[i]
        return y

    for function in (ticking, counting):
        x = some(25)
        np.testing.assert_allclose(tg.trace(function)(x), function(x), rtol=1e-12)


@tg.trace(python_control_flow=True)
def bisected(x):
    return root(x, 0.0, 2.0)


def root(a, low, high):
    while high - low > 1e-12:
        middle = 0.5 * (low + high)
        if middle * middle > a:
            high = middle
        else:
            low = middle
    return low


def summed(x):
    return np.sum(total(x) ** 2)


def total(x):
    s = 0.0
    for i in tg.range(x.shape[0]):
        s = s + x[i]
    return s


def test_the_control_flow_of_functions_that_are_called_is_rewritten():
    np.testing.assert_allclose(bisected(2.0), np.sqrt(2.0), rtol=1e-11)
    np.testing.assert_allclose(tg.grad(summed)(np.ones(3)), np.full(3, 6.0))


def test_a_number_that_a_loop_starts_from_takes_the_dtype_of_the_body():
    """Traced and plain alike, as in Python's own loop."""

    def scanned(x):
        return tg.scan(lambda c, v: (c + v, c), 0.0, x)

    def counted(x):
        return tg.fori_loop(0, 4, lambda i, c: c + x[i], 0)

    def repeated(x):
        return tg.while_loop(lambda s: s[0] < 4, lambda s: (s[0] + 1, s[1] + x[0]), (0, 0))[1]

    def with_a_number(x):
        return tg.scan(lambda s, v: ((s[0] * 0.5, s[1] * s[0] + v), None), (1.0, x[0]), x)[0][1]

    for dtype in (np.float32, np.float64):
        x = np.arange(1, 5).astype(dtype)
        for program in (scanned, counted, repeated, with_a_number):
            found, plain = tg.trace(program)(x), program(x)
            if not isinstance(plain, tuple):
                found, plain = (found,), (plain,)
            for a, b in zip(found, plain, strict=True):
                assert np.asarray(a).dtype == np.asarray(b).dtype == dtype, program
                np.testing.assert_allclose(a, b, rtol=1e-6)
    np.testing.assert_allclose(tg.grad(repeated)(np.ones(3)), [4.0, 0.0, 0.0])
