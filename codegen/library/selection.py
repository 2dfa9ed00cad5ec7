"""Which elements are chosen, where how many there are was counted before.

In: a mask, or how often each element is wanted. Out: the numbers of the elements, in a given array
that has room for exactly these:

    find_nonzero([True, False, True], found)      found: 0, 2
    find_repeats([2, 0, 1], found)                found: 0, 0, 2
"""

from numba import njit


@njit
def find_nonzero(mask, found):
    """The places where `mask` holds. Without a branch on data: an entry is overwritten until one
    holds.
    """
    at, count = 0, len(found)
    for i in range(len(mask)):
        if at < count:
            found[at] = i
        at += mask[i]


@njit
def find_repeats(counts, found):
    """Each place as often as `counts` says."""
    at = 0
    for i in range(len(counts)):
        for _ in range(counts[i]):
            found[at] = i
            at += 1
