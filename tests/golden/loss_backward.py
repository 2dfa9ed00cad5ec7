import numpy as np
from numba import njit

from codegen.library import call_version, threads_version


@njit(error_model="numpy", nogil=True)
def loss_backward(d_y, x):
    """d_y: f64, x: f64[n, m]  ->  d_x: f64[n, m]"""
    n, m = x.shape
    if n * m >= 73000:
        threaded = threads_version()                   # where loops run on several threads
        if threaded:
            return call_version(threaded, "float64[2]", (d_y, x))
    v5 = 1.0 / (n * m)                                 # 28│ np.mean(2 * (x + 1) * (x + 1))
    d_v4 = d_y * v5                                    # 28│ np.mean(2 * (x + 1) * (x + 1))
    d_x = np.empty((n, m))
    d_x_flat = d_x.reshape(n * m)
    x_flat = x.reshape(n * m)
    for ij in range(n * m):
        v1 = x_flat[ij] + 1.0                          # 28│ x + 1
        d_v2 = d_v4 * v1                               # 28│ 2 * (x + 1) * (x + 1)
        d_x_flat[ij] = d_v4 * (2.0 * v1) + d_v2 * 2.0  # 28│ 2 * (x + 1)
    return d_x
