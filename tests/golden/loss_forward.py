import numpy as np
from numba import njit

from codegen.library import call_version, rounding_error_f64, threads_version
from codegen.vecmath import add_reassoc_f64


@njit(error_model="numpy", nogil=True)
def loss_forward(x):
    """x: f64[n, m]  ->  y: f64"""
    n, m = x.shape
    if n * m >= 120000:
        threaded = threads_version()                           # where loops run on several threads
        if threaded:
            return call_version(threaded, "float64", (x,))
    v4 = 0.0
    x_flat = x.reshape(n * m)
    v4_lost = 0.0
    for ij_block in range(0, n * m, 256):
        v4_part = 0.0
        for ij in range(ij_block, min(ij_block + 256, n * m)):
            v1 = x_flat[ij] + 1.0                              # 28│ x + 1
            v4_part = add_reassoc_f64(v4_part, 2.0 * v1 * v1)  # 28│ np.mean(2 * (x + 1) * (x + 1))
        v4_lost += rounding_error_f64(v4, v4_part)
        v4 += v4_part
    v4 += v4_lost
    y = v4 / (n * m)                                           # 28│ np.mean(2 * (x + 1) * (x + 1))
    return y
