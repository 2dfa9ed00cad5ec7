"""What accurate sums are made of beside additions."""

import numpy as np
from numba import njit


@njit(error_model="numpy", nogil=True)
def rounding_error_f64(a, b):
    """`a + b` exactly, minus `a + b` as rounded (TwoSum; Knuth, TAOCP 2, 4.2.2, theorem B).

    Zero where that is infinite or not a number: added to such a sum it changes nothing.
    """
    total = a + b
    taken = total - a
    error = (a - (total - taken)) + (b - taken)
    return error if np.isfinite(error) else 0.0


@njit(error_model="numpy", nogil=True)
def rounding_error_f32(a, b):
    """As `rounding_error_f64`."""
    total = a + b
    taken = total - a
    error = (a - (total - taken)) + (b - taken)
    return error if np.isfinite(error) else np.float32(0.0)
