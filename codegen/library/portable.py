"""The library's functions for stand-alone modules: numpy and numba only, no SciPy pointers.

In: nothing; `standalone_source` takes the text of what is needed. Each function is plain Python,
and what numba compiles instead of it is beside it: `np.dot` on floats, loops on integers.
"""

import numpy as np
from numba import njit, types
from numba.extending import overload


def fill_dot(a, b, out):
    """`out = a @ b` for matrices, a matrix and a vector, a vector and a matrix."""
    np.dot(a, b, out)


@overload(fill_dot)
def compiled_fill_dot(a, b, out):
    if isinstance(a.dtype, types.Float):
        return lambda a, b, out: np.dot(a, b, out)

    def loops(a, b, out):
        rows, columns = np.atleast_2d(a), b.reshape((len(b), -1))
        result = out.reshape((rows.shape[0], columns.shape[1]))
        result[:] = 0
        for i in range(rows.shape[0]):
            for k in range(rows.shape[1]):
                for j in range(columns.shape[1]):
                    result[i, j] += rows[i, k] * columns[k, j]

    return loops


@njit
def dot(a, b, out):
    """`out = a @ b` for matrices, a matrix and a vector, a vector and a matrix."""
    fill_dot(a, b, out)


def matrix_at(x, k):
    """The matrix `x[k]`, or `x` if it is one for all `k`."""
    return x[k] if x.ndim == 3 else x


@overload(matrix_at)
def compiled_matrix_at(x, k):
    if x.ndim == 3:
        return lambda x, k: np.ascontiguousarray(x[k])
    return lambda x, k: np.ascontiguousarray(x)


@njit
def batched_dot(a, b, out):
    """`out[k] = a[k] @ b[k]` for arrays of matrices; `a` or `b` may be one matrix for all."""
    for k in range(len(out)):
        fill_dot(matrix_at(a, k), matrix_at(b, k), out[k])


@njit
def running_max(found, value):
    """The larger one, or NaN if there is one."""
    return found if (found > value) | (found != found) else value


@njit
def running_min(found, value):
    """The smaller one, or NaN if there is one."""
    return found if (found < value) | (found != found) else value


@njit
def first_largest(x, start, n):
    """The place of the first largest of `n` elements of `x` from `start` on, or the first NaN."""
    at, best = 0, x[start]
    for i in range(1, n):
        value = x[start + i]
        if not value <= best and best == best:
            at, best = i, value
    return at


@njit
def first_smallest(x, start, n):
    """The place of the first smallest of `n` elements of `x` from `start` on, or the first NaN."""
    at, best = 0, x[start]
    for i in range(1, n):
        value = x[start + i]
        if not value >= best and best == best:
            at, best = i, value
    return at
