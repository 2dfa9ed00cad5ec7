"""Colourings: which columns of a sparse matrix can be computed in one product with it.

    x x . .        columns 0 and 2 share no row, nor do 1 and 3: two products J @ s, with
    . x x .   ->   s = e0 + e2 and s = e1 + e3, hold all entries
    . . x x

Columns: greedy colouring of the columns that share a row (Curtis, Powell, Reid 1974, "On the
estimation of sparse Jacobian matrices"; Coleman, More 1983, "Estimation of sparse Jacobian matrices
and graph coloring problems"), in the natural order and in that of falling degrees, the better one.

Symmetric matrices: star colouring, so that of the entries (i, j) and (j, i) one can be read off
(Coleman, More 1984, "Estimation of sparse Hessian matrices and graph coloring problems";
Gebremedhin, Manne, Pothen 2005, "What color is your Jacobian?", SIAM Review 47, algorithm 4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from scipy.sparse import csr_array

from tracegrad.sparsity.pattern import height, width

SMALL = 2000
"""Entries up to which interpreted Python takes less time than compiling the colouring."""


def column_colours(pattern: csr_array) -> np.ndarray:
    """A colour for each column; columns that share a row have different ones."""
    by_column = pattern.T.tocsr()
    degrees = _neighbours(pattern)
    orders = [np.arange(width(pattern)), np.argsort(-degrees, kind="stable")]
    run = _compiled(_greedy, pattern)
    found = [
        run(pattern.indptr, pattern.indices, by_column.indptr, by_column.indices, order)
        for order in orders
    ]
    return min(found, key=count)


def star_colours(pattern: csr_array) -> np.ndarray:
    """A colour for each row of a symmetric pattern: no path of four vertices has only two."""
    degrees = np.diff(pattern.indptr)
    orders = [np.arange(height(pattern)), np.argsort(-degrees, kind="stable")]
    run = _compiled(_star, pattern)
    return min((run(pattern.indptr, pattern.indices, order) for order in orders), key=count)


def count(colours: np.ndarray) -> int:
    return int(colours.max(initial=-1)) + 1


def _neighbours(pattern: csr_array) -> np.ndarray:
    """For each column how many entries the rows have that it takes part in."""
    lengths = np.diff(pattern.indptr)
    return np.bincount(
        pattern.indices, np.repeat(lengths, lengths), minlength=width(pattern)
    ).astype(np.int64)


def _compiled(function: Callable[..., Any], pattern: csr_array) -> Callable[..., Any]:
    return function if pattern.nnz <= SMALL else _dispatcher(function)


@cache
def _dispatcher(function: Callable[..., Any]) -> Callable[..., Any]:
    return njit(nogil=True)(function)


def _greedy(
    row_starts: np.ndarray,
    row_columns: np.ndarray,
    column_starts: np.ndarray,
    column_rows: np.ndarray,
    order: np.ndarray,
) -> np.ndarray:
    """Each column in turn takes the first colour that no column beside it has."""
    columns = len(order)
    colours = np.full(columns, -1)
    taken = np.full(columns + 1, -1)
    for column in order:
        for at in range(column_starts[column], column_starts[column + 1]):
            row = column_rows[at]
            for other in range(row_starts[row], row_starts[row + 1]):
                colour = colours[row_columns[other]]
                if colour >= 0:
                    taken[colour] = column
        first = 0
        while taken[first] == column:
            first += 1
        colours[column] = first
    return colours


def _star(starts: np.ndarray, neighbours: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Each vertex in turn takes the first colour that neither a neighbour has, nor a vertex at
    distance two with which it would close a path of four in two colours.
    """
    vertices = len(order)
    colours = np.full(vertices, -1)
    taken = np.full(vertices + 1, -1)
    for v in order:
        for at in range(starts[v], starts[v + 1]):
            w = neighbours[at]
            if w == v:
                continue
            if colours[w] >= 0:
                taken[colours[w]] = v
            for second in range(starts[w], starts[w + 1]):
                x = neighbours[second]
                if x == v:
                    continue
                if x == w or colours[x] < 0:
                    continue
                if colours[w] < 0:
                    taken[colours[x]] = v
                    continue
                for third in range(starts[x], starts[x + 1]):
                    y = neighbours[third]
                    if y != w and colours[y] == colours[w]:
                        taken[colours[x]] = v
                        break
        first = 0
        while taken[first] == v:
            first += 1
        colours[v] = first
    return colours
