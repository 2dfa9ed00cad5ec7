"""Sorting and searching: the stable order of elements and of rows, places in a sorted vector.

    argsort(x, n, order)                    order: that of each n elements of x, NaN last
    sort(x, n, out)                         out: each n elements of x in order, NaN last
    argselect(x, n, wanted, out)            out: of that order of each n elements the `wanted`
    argsort_rows(x, n, m, moved, order)     order: that of n rows of m elements, as words
    at = searchsorted(a, value, right)

The first three are what stand-alone modules have; elsewhere those of `ordering` and `ranking` take
their place.

Merge sort: runs of 16 by insertion, then merged pairwise; keys move together with their places, so
memory is read in order. Runs that follow each other in order are copied without comparing.
"""

import numpy as np
from numba import njit


@njit(error_model="numpy", nogil=True)
def before(a, b):
    """Whether `a` comes before `b`; NaN comes after all numbers."""
    return a < b or (b != b and a == a)


@njit(error_model="numpy", nogil=True)
def merge(keys, places, base, low, middle, end, merged, moved, target):
    """Merge the sorted `low:middle` and `middle:end` of `keys` into `merged`; equal ones stay.

    The places that belong to them start at `places[base]` and go to `moved[target]` and on.
    """
    left, right = low, middle
    ordered = middle >= end or not before(keys[middle], keys[middle - 1])
    for k in range(low, end):
        chosen = k
        if not ordered:
            if right >= end or (left < middle and not before(keys[right], keys[left])):
                chosen = left
                left += 1
            else:
                chosen = right
                right += 1
        merged[k] = keys[chosen]
        moved[target + k] = places[base + chosen]


@njit(error_model="numpy", nogil=True)
def argsort(x, n, order):
    """`order`: for each `n` elements of `x` the indices that sort them, equal ones in order."""
    keys, merged, moved = np.empty(n, x.dtype), np.empty(n, x.dtype), np.empty(n, np.int64)
    for start in range(0, len(x), max(n, 1)):
        for i in range(n):
            key, j = x[start + i], i
            while j % 16 > 0 and before(key, keys[j - 1]):
                keys[j] = keys[j - 1]
                order[start + j] = order[start + j - 1]
                j -= 1
            keys[j] = key
            order[start + j] = i
        width, there = 16, True
        while width < n:
            for low in range(0, n, 2 * width):
                middle, end = min(low + width, n), min(low + 2 * width, n)
                if there:
                    merge(keys, order, start, low, middle, end, merged, moved, 0)
                else:
                    merge(merged, moved, 0, low, middle, end, keys, order, start)
            there = not there
            width *= 2
        if not there:
            for i in range(n):
                order[start + i] = moved[i]


@njit(error_model="numpy", nogil=True)
def sort(x, n, out):
    """`out`: each `n` elements of `x` in ascending order."""
    order = np.empty(len(x), np.int64)
    argsort(x, n, order)
    for start in range(0, len(x), max(n, 1)):
        for i in range(n):
            out[start + i] = x[start + order[start + i]]


@njit(error_model="numpy", nogil=True)
def argselect(x, n, wanted, out):
    """`out`: for each `n` elements of `x` the indices that sort them, at the places `wanted`."""
    order, m = np.empty(len(x), np.int64), len(wanted)
    argsort(x, n, order)
    for row in range(len(out) // max(m, 1)):
        for j in range(m):
            out[row * m + j] = order[row * n + wanted[j]]


@njit(error_model="numpy", nogil=True)
def row_before(x, m, a, b):
    """Whether row `a` of `x` comes before row `b`: by the first elements that differ."""
    for k in range(m):
        left, right = x[a * m + k], x[b * m + k]
        if before(left, right):
            return True
        if before(right, left):
            return False
    return False


@njit(error_model="numpy", nogil=True)
def merge_rows(x, m, places, low, middle, end, moved):
    """Merge the sorted `low:middle` and `middle:end` of `places` into `moved`."""
    left, right = low, middle
    for k in range(low, end):
        if right >= end or (left < middle and not row_before(x, m, places[right], places[left])):
            moved[k] = places[left]
            left += 1
        else:
            moved[k] = places[right]
            right += 1


@njit(error_model="numpy", nogil=True)
def argsort_rows(x, n, m, moved, order):
    """`order`: the indices that sort the `n` rows of `m` elements in `x`, equal rows in order."""
    for i in range(n):
        j = i
        while j % 16 > 0 and row_before(x, m, i, order[j - 1]):
            order[j] = order[j - 1]
            j -= 1
        order[j] = i
    width, there = 16, True
    while width < n:
        for low in range(0, n, 2 * width):
            middle, end = min(low + width, n), min(low + 2 * width, n)
            if there:
                merge_rows(x, m, order, low, middle, end, moved)
            else:
                merge_rows(x, m, moved, low, middle, end, order)
        there = not there
        width *= 2
    if not there:
        for i in range(n):
            order[i] = moved[i]


@njit(error_model="numpy", nogil=True)
def searchsorted(a, value, right):
    """Where `value` would be inserted into the sorted `a`: before equal ones, or behind them."""
    low, high = 0, len(a)
    while low < high:
        middle = (low + high) // 2
        if before(a[middle], value) or (right and not before(value, a[middle])):
            low = middle + 1
        else:
            high = middle
    return low
