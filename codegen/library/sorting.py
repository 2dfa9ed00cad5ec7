"""Sorting and searching: the stable order of rows, and places in a sorted vector.

    argsort(x, order)                 order[k, :]: the order of x[k, :], NaN last as NumPy has it
    at = searchsorted(a, value, right)

Merge sort: runs of `RUN` by insertion, then merged pairwise; keys move together with their places,
so memory is read in order. Runs that follow each other in order are copied without comparing.
"""

import numpy as np
from numba import njit


@njit(error_model="numpy", nogil=True)
def before(a, b):
    """Whether `a` comes before `b`; NaN comes after all numbers."""
    return a < b or (b != b and a == a)


@njit(error_model="numpy", nogil=True)
def insert_in_runs(keys, places, run):
    """Sort `keys` in runs of `run` elements by insertion; `places` move along."""
    for i in range(len(keys)):
        key, place = keys[i], places[i]
        first, j = i - i % run, i
        while j > first and before(key, keys[j - 1]):
            keys[j], places[j] = keys[j - 1], places[j - 1]
            j -= 1
        keys[j], places[j] = key, place


@njit(error_model="numpy", nogil=True)
def merge(keys, places, start, middle, end, merged, moved):
    """Merge the sorted `start:middle` and `middle:end` of `keys` into `merged`; equal ones stay."""
    left, right = start, middle
    ordered = middle >= end or not before(keys[middle], keys[middle - 1])
    for k in range(start, end):
        if ordered:
            chosen = k
        elif right >= end or (left < middle and not before(keys[right], keys[left])):
            chosen = left
            left += 1
        else:
            chosen = right
            right += 1
        merged[k], moved[k] = keys[chosen], places[chosen]


@njit(error_model="numpy", nogil=True)
def argsort(x, order):
    """`order[..., :]`: the indices that sort `x[..., :]`, equal elements in their order."""
    run, n = 16, x.shape[-1]
    flat, orders = x.reshape(x.size), order.reshape(x.size)
    for start in range(0, x.size, max(n, 1)):
        keys, places = flat[start : start + n].copy(), np.arange(n)
        merged, moved = np.empty_like(keys), np.empty_like(places)
        insert_in_runs(keys, places, run)
        width = run
        while width < n:
            for low in range(0, n, 2 * width):
                middle, end = min(low + width, n), min(low + 2 * width, n)
                merge(keys, places, low, middle, end, merged, moved)
            keys, merged = merged, keys
            places, moved = moved, places
            width *= 2
        orders[start : start + n] = places


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
