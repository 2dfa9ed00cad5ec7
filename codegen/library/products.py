"""Matrix products: `out = a @ b` into memory that the caller allocated."""

import numpy as np
from numba import njit


@njit(error_model="numpy", nogil=True)
def dot(a, b, out):
    """Matrix times matrix, matrix times vector or vector times matrix."""
    np.dot(a, b, out)
