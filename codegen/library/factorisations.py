"""The functions of `lapack` over numpy and numba only: for stand-alone modules, and without numba.

In and out: as in `lapack`. Each function is unblocked and works on whole rows, which are
contiguous: Golub and Van Loan, Matrix Computations (4th ed.), algorithms 4.2.1, 3.4.1 and 3.1.
"""

import numpy as np
from numba import njit


@njit
def cholesky(a):
    """The lower triangle of each matrix becomes L with `L @ L.T`; False if one is not definite."""
    n = a.shape[-1]
    for m in a.reshape((a.size // max(n * n, 1), n, n)):
        for k in range(n):
            if m[k, k] <= 0:
                return False
            m[k:, k] /= np.sqrt(m[k, k])
            column = m[:, k].copy()
            for i in range(k + 1, n):
                m[i, k + 1 : i + 1] -= column[i] * column[k + 1 : i + 1]
    return True


@njit
def lu_factor(a, pivots):
    """Each matrix becomes L (below its diagonal of ones) and U; row i and pivots[i] swapped."""
    n = a.shape[-1]
    count = a.size // max(n * n, 1)
    matrices, places = a.reshape((count, n, n)), pivots.reshape((count, n))
    for number in range(count):
        m, place = matrices[number], places[number]
        for k in range(n):
            at = k + np.argmax(np.abs(m[k:, k]))
            place[k] = at
            row = m[k].copy()
            m[k] = m[at]
            m[at] = row
            if m[k, k] != 0:
                for i in range(k + 1, n):
                    m[i, k] /= m[k, k]
                    m[i, k + 1 :] -= m[i, k] * m[k, k + 1 :]


@njit
def substitute(m, lower, flip, unit, x):
    """`x` becomes the solution of one triangular system."""
    n = len(m)
    for step in range(n):
        i = step if lower != flip else n - 1 - step
        if not unit:
            x[i] /= m[i, i]
        for j in range(i + 1, n) if lower != flip else range(i):
            x[j] -= (m[i, j] if flip else m[j, i]) * x[i]


@njit
def solve_triangular(a, lower, flip, unit, b):
    """`b` becomes x with `a @ x = b` (`flip`: `a.T @ x = b`); False if a diagonal has a zero."""
    n = a.shape[-1]
    count = a.size // max(n * n, 1)
    matrices = a.reshape((count, n, n))
    results = b.reshape((count, n, b.size // max(count * n, 1)))
    for k in range(count):
        m, x = matrices[k], results[k]
        if not unit and np.any(np.diag(m) == 0):
            return False
        substitute(m, lower, flip, unit, x)
    return True


@njit
def lu_solve(lu, pivots, flip, b):
    """`b` becomes x with `a @ x = b` (`flip`: `a.T @ x = b`); False if one `a` is singular."""
    n = lu.shape[-1]
    count = lu.size // max(n * n, 1)
    matrices, places = lu.reshape((count, n, n)), pivots.reshape((count, n))
    results = b.reshape((count, n, b.size // max(count * n, 1)))
    for k in range(count):
        m, place, x = matrices[k], places[k], results[k]
        if np.any(np.diag(m) == 0):
            return False
        if flip:
            substitute(m, False, True, False, x)
            substitute(m, True, True, True, x)
        for step in range(n):
            i = n - 1 - step if flip else step
            row = x[i].copy()
            x[i] = x[place[i]]
            x[place[i]] = row
        if not flip:
            substitute(m, True, False, True, x)
            substitute(m, False, False, False, x)
    return True


@njit
def eigh(vectors, work, counts, w, a):
    """Each symmetric matrix becomes its eigenvectors, in columns; `w` their eigenvalues."""
    n = a.shape[-1]
    count = a.size // max(n * n, 1)
    matrices, values = a.reshape((count, n, n)), w.reshape((count, n))
    for k in range(count):
        values[k], matrices[k] = np.linalg.eigh(matrices[k])
    return True


@njit
def svd(vectors, work, counts, s, u, v, a):
    """`s` gets the singular values of each `a.T`, `u` and `v` its singular vectors, transposed."""
    n, m, k = a.shape[-2], a.shape[-1], s.shape[-1]
    count = a.size // max(m * n, 1)
    matrices, values = a.reshape((count, n, m)), s.reshape((count, k))
    for number in range(count):
        left, found, right = np.linalg.svd(np.ascontiguousarray(matrices[number].T), False)
        values[number] = found
        if vectors:
            u.reshape((count, k, m))[number] = left.T
            v.reshape((count, n, k))[number] = right.T
    return True


@njit
def qr_factor(work, tau, a):
    """The upper triangle of each matrix becomes R, the rest the reflectors (algorithm 5.2.1)."""
    m, n = a.shape[-2], a.shape[-1]
    count = a.size // max(m * n, 1)
    matrices, scales = a.reshape((count, m, n)), tau.reshape((count, n))
    for number in range(count):
        x, scale = matrices[number], scales[number]
        for j in range(n):
            rest = np.sum(x[j + 1 :, j] ** 2)
            scale[j] = 0
            if rest > 0:
                end = -np.copysign(np.sqrt(x[j, j] ** 2 + rest), x[j, j])
                scale[j] = (end - x[j, j]) / end
                x[j + 1 :, j] /= x[j, j] - end
                x[j, j] = end
                for i in range(j + 1, n):
                    part = scale[j] * (x[j, i] + np.sum(x[j + 1 :, j] * x[j + 1 :, i]))
                    x[j, i] -= part
                    x[j + 1 :, i] -= part * x[j + 1 :, j]


@njit
def qr_vectors(work, tau, a):
    """What `qr_factor` left of each matrix becomes Q: the reflections of the unit columns."""
    m, n = a.shape[-2], a.shape[-1]
    count = a.size // max(m * n, 1)
    matrices, scales = a.reshape((count, m, n)), tau.reshape((count, n))
    for number in range(count):
        x, scale = matrices[number], scales[number]
        for j in range(n - 1, -1, -1):
            for i in range(j + 1, n):
                part = scale[j] * np.sum(x[j + 1 :, j] * x[j + 1 :, i])
                x[j, i] = -part
                x[j + 1 :, i] -= part * x[j + 1 :, j]
            x[j + 1 :, j] *= -scale[j]
            x[j, j] = 1 - scale[j]
            x[:j, j] = 0
