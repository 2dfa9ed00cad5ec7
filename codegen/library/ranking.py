"""Elements of given ranks without sorting everything: where they stand in an unsorted vector.

    argselect(x, n, wanted, out)    out: of each n elements of x the places that stand at `wanted`
                                    in the stable order, NaN last

For `x = [5, 1, 3, 1]` and `wanted = [0, 1, 3]` that is `[1, 3, 0]`. As Floyd & Rivest 1975
("Expected time bounds for selection", Communications of the ACM 18): a small sample, sorted, gives
two elements between which the wanted one lies but for bad luck; one pass counts what is below and
collects what is between, and that little is sorted. With bad luck everything is. The sample is the
same in every call. A median of a million numbers reads them about six times.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.core import config

from codegen.library import sorting
from codegen.library.ordering import sort_numbers

SORTED = 2048
"""Elements up to which all are sorted."""
SMALLEST, LARGEST = 128, 2**14
"""Elements of a sample, which is a 64th of all in between."""
SCATTERED = 2654435761
"""A prime: its multiples modulo `n` are different places, and follow no period of the data."""
BLOCK = 256


@njit(error_model="numpy", nogil=True)
def place_of(x, start, n, value, rank):
    """The place of the `rank`-th of those among `n` elements that are equal to `value`."""
    for low in range(0, n, BLOCK):
        high, count = min(low + BLOCK, n), 0
        for i in range(low, high):
            count += x[start + i] == value
        if count > rank:
            for i in range(low, high):
                if x[start + i] == value:
                    if rank == 0:
                        return i
                    rank -= 1
        rank -= count
    return 0


@njit(error_model="numpy", nogil=True)
def place_of_nan(x, start, n, rank):
    """The place of the `rank`-th NaN."""
    for i in range(n):
        if x[start + i] != x[start + i]:
            if rank == 0:
                return i
            rank -= 1
    return 0


@njit(error_model="numpy", nogil=True)
def sort_near(x, start, n, numbers, k, keys):
    """Put those around the one of rank `k` into `keys`, sorted: how many are before, how many are
    there. `numbers`: how many of the `n` elements are no NaN; `keys` has room for `n + 1`."""
    wanted, size = min(max(numbers // 64, SMALLEST), LARGEST), 0
    for i in range(wanted):
        value = x[start + i * SCATTERED % n]
        keys[size] = value
        size += value == value
    if size == 0:
        return 0, 0
    sort_numbers(keys, 0, size)  # pyright: ignore[reportCallIssue]
    # The rank in the sample spreads by at most half the root of its size: four times that.
    root = 1
    while root * root < size:
        root += 1
    first, last = k * size // numbers - 2 * root, k * size // numbers + 2 * root + 1
    low, high = keys[max(first, 0)], keys[min(last, size - 1)]
    every, rest = first < 0, last >= size
    below, count = 0, 0
    for i in range(n):
        value = x[start + i]
        above = every | (value >= low)
        below += (not above) & (value == value)
        keys[count] = value
        count += above & (rest | (value <= high)) & (value == value)
    sort_numbers(keys, 0, count)  # pyright: ignore[reportCallIssue]
    return below, count


@njit(error_model="numpy", nogil=True)
def sort_all(x, start, n, keys):
    """Put all `n` elements into `keys`, sorted."""
    for i in range(n):
        keys[i] = x[start + i]
    sort_numbers(keys, 0, n)  # pyright: ignore[reportCallIssue]


@njit(error_model="numpy", nogil=True)
def argselect_fast(x, n, wanted, out):
    """`out`: for each `n` elements of `x` the indices that sort them, at the places `wanted`."""
    keys, m = np.empty(n + 1, x.dtype), len(wanted)
    for row in range(len(out) // max(m, 1)):
        start, numbers, below, count = row * n, 0, 0, 0
        for i in range(n):
            numbers += x[start + i] == x[start + i]
        for j in range(m):
            k = wanted[j]
            if k >= numbers:
                out[row * m + j] = place_of_nan(x, start, n, k - numbers)
                continue
            if (k < below or k >= below + count) and n > SORTED:
                below, count = sort_near(x, start, n, numbers, k, keys)
            if k < below or k >= below + count:
                sort_all(x, start, n, keys)
                below, count = 0, numbers
            first = k - below
            value = keys[first]
            while first > 0 and keys[first - 1] == value:
                first -= 1
            out[row * m + j] = place_of(x, start, n, value, k - below - first)


INTERPRETED = vars(config)["DISABLE_JIT"]
argselect: Any = sorting.argselect if INTERPRETED else argselect_fast
