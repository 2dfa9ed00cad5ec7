import numpy as np
from numba import njit

from codegen.library import call_version, rounding_error_f64, running_max, threads_version
from codegen.vecmath import add_reassoc_f64, exp_f64, log_f64


@njit(error_model="numpy", nogil=True)
def cross_entropy_forward(logits, target):
    """logits: f64[n, m], target: f64[n, m]  ->  y: f64, v1: f64[n], v4: f64[n]"""
    n, m = logits.shape
    if n * m >= 28000:
        threaded = threads_version()                    # where loops run on several threads
        if threaded:
            return call_version(threaded, "float64, float64[1], float64[1]", (logits, target))
    if m == 0:
        raise ValueError("cross_entropy_forward: compiled for m != 0")
    if target.shape[0] != n:
        raise ValueError("cross_entropy_forward: target.shape[0] must be n")
    if target.shape[1] != m:
        raise ValueError("cross_entropy_forward: target.shape[1] must be m")
    v1 = np.empty(n)
    v4 = np.empty(n)
    v9 = 0.0
    v9_lost = 0.0
    for i in range(n):
        v1_max = -np.inf
        for j in range(m):
            v1_max = running_max(v1_max, logits[i, j])  # 39│ np.max(logits, axis=1, keepdims=True)
        v1[i] = v1_max                                  # 39│ np.max(logits, axis=1, keepdims=True)
        v4_sum = 0.0
        v4_sum_lost = 0.0
        for j_block in range(0, m, 256):
            v4_sum_part = 0.0
            for j in range(j_block, min(j_block + 256, m)):
                shifted = logits[i, j] - v1[i]  # 39│ logits - np.max(logits, axis=1, keepdims=True)
                # 40│ np.sum(np.exp(shifted), axis=1, keepdims=True)
                v4_sum_part = add_reassoc_f64(v4_sum_part, exp_f64(shifted))
            v4_sum_lost += rounding_error_f64(v4_sum, v4_sum_part)
            v4_sum += v4_sum_part
        v4_sum += v4_sum_lost
        v4[i] = v4_sum                          # 40│ np.sum(np.exp(shifted), axis=1, keepdims=True)
        log_sum = log_f64(v4[i])        # 40│ np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
        v8 = 0.0
        v8_part = 0.0
        for j in range(min(256, m)):
            shifted = logits[i, j] - v1[i]      # 39│ logits - np.max(logits, axis=1, keepdims=True)
            # 41│ np.sum(target * (shifted - log_sum), axis=1)
            v8_part = add_reassoc_f64(v8_part, target[i, j] * (shifted - log_sum))
        v8 += v8_part
        if 256 < m:
            v8_lost = 0.0
            for j_block in range(256, m, 256):
                v8_part = 0.0
                for j in range(j_block, min(j_block + 256, m)):
                    # 39│ logits - np.max(logits, axis=1, keepdims=True)
                    shifted = logits[i, j] - v1[i]
                    # 41│ np.sum(target * (shifted - log_sum), axis=1)
                    v8_part = add_reassoc_f64(v8_part, target[i, j] * (shifted - log_sum))
                v8_lost += rounding_error_f64(v8, v8_part)
                v8 += v8_part
            v8 += v8_lost
        v9_lost += rounding_error_f64(v9, v8)
        v9 += v8                         # 41│ np.mean(np.sum(target * (shifted - log_sum), axis=1))
    v9 += v9_lost
    v10 = v9 / n                         # 41│ np.mean(np.sum(target * (shifted - log_sum), axis=1))
    y = -v10                            # 41│ -np.mean(np.sum(target * (shifted - log_sum), axis=1))
    return y, v1, v4
