import numpy as np
from numba import njit

from codegen.library import call_version, rounding_error_f64, threads_version
from codegen.vecmath import add_reassoc_f64, exp_f64, log_f64


@njit(error_model="numpy", nogil=True)
def cross_entropy_backward(d_y, logits, target, v1, v4):
    """d_y: f64, logits: f64[n, m], target: f64[n, m], v1: f64[n], v4: f64[n]  ->  d_logits:
    f64[n, m], d_target: f64[n, m]
    """
    n, m = logits.shape
    if n * m >= 22000:
        threaded = threads_version()                            # where loops run on several threads
        if threaded:
            return call_version(threaded, "float64[2], float64[2]", (d_y, logits, target, v1, v4))
    if m == 0:
        raise ValueError("cross_entropy_backward: compiled for m != 0")
    if target.shape[0] != n:
        raise ValueError("cross_entropy_backward: target.shape[0] must be n")
    if target.shape[1] != m:
        raise ValueError("cross_entropy_backward: target.shape[1] must be m")
    if v1.shape[0] != n:
        raise ValueError("cross_entropy_backward: v1.shape[0] must be n")
    if v4.shape[0] != n:
        raise ValueError("cross_entropy_backward: v4.shape[0] must be n")
    d_v10 = -d_y                        # 41│ -np.mean(np.sum(target * (shifted - log_sum), axis=1))
    v11 = 1.0 / n                        # 41│ np.mean(np.sum(target * (shifted - log_sum), axis=1))
    d_v9 = d_v10 * v11                   # 41│ np.mean(np.sum(target * (shifted - log_sum), axis=1))
    d_target = np.empty((n, m))
    d_logits = np.empty((n, m))
    for i in range(n):
        log_sum = log_f64(v4[i])        # 40│ np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
        v14 = 0.0
        v14_part = 0.0
        for j in range(min(256, m)):
            shifted = logits[i, j] - v1[i]      # 39│ logits - np.max(logits, axis=1, keepdims=True)
            d_target[i, j] = d_v9 * (shifted - log_sum)          # 41│ target * (shifted - log_sum)
            d_v6 = d_v9 * target[i, j]                           # 41│ target * (shifted - log_sum)
            v14_part = add_reassoc_f64(v14_part, -d_v6)          # 41│ shifted - log_sum
        v14 += v14_part
        if 256 < m:
            v14_lost = 0.0
            for j_block in range(256, m, 256):
                v14_part = 0.0
                for j in range(j_block, min(j_block + 256, m)):
                    # 39│ logits - np.max(logits, axis=1, keepdims=True)
                    shifted = logits[i, j] - v1[i]
                    d_target[i, j] = d_v9 * (shifted - log_sum)  # 41│ target * (shifted - log_sum)
                    d_v6 = d_v9 * target[i, j]                   # 41│ target * (shifted - log_sum)
                    v14_part = add_reassoc_f64(v14_part, -d_v6)  # 41│ shifted - log_sum
                v14_lost += rounding_error_f64(v14, v14_part)
                v14 += v14_part
            v14 += v14_lost
        d_v5 = v14 * (1.0 / v4[i])      # 40│ np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
        for j in range(m):
            d_v6 = d_v9 * target[i, j]                           # 41│ target * (shifted - log_sum)
            shifted = logits[i, j] - v1[i]      # 39│ logits - np.max(logits, axis=1, keepdims=True)
            d_logits[i, j] = d_v6 + d_v5 * exp_f64(shifted)      # 40│ np.exp(shifted)
    return d_logits, d_target
