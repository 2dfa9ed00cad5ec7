"""`sparse_jacobian` and `sparse_hessian`: derivatives as `scipy.sparse` matrices.

    pattern (from the graph)  ->  colouring  ->  compiled products with few seeds  ->  CSR

The pattern and the colouring are found once for the extents and index data of a call and kept; the
products are one compiled function for all sizes: the tangents (cotangents) of all colours in one
batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from codegen.records import dataclass
from tracegrad.autodiff.derived import Argnums, name_of
from tracegrad.control.batching import over_items
from tracegrad.errors import NotDifferentiableError
from tracegrad.function import Function
from tracegrad.ir.dims import symbols
from tracegrad.ir.interpret import extents_of
from tracegrad.leaves import leaves_of
from tracegrad.sparsity.colouring import column_colours, count, star_colours
from tracegrad.sparsity.pattern import (
    Depends,
    Known,
    Pattern,
    height,
    identity,
    index_inputs,
    matrix,
    size,
    width,
)
from tracegrad.tracing.trace import current_trace
from tracegrad.transforms import as_function, grad, jvp, vjp
from tracegrad.tree import unflatten
from tracegrad.version import Version

Kind = tuple[tuple[int, ...], np.dtype]
"""Shape and dtype of an array."""

KEPT = 16
"""Patterns that are kept, by the extents and index data that they belong to."""


def sparse_jacobian(fun: Callable[..., Any], argnums: Argnums = 0) -> SparseJacobian:
    """The Jacobian of `fun` as a `scipy.sparse.csr_array`, one row per element of the result.

    Rows are the elements of the result in row-major order, columns those of the argument `argnums`;
    of several arguments, or of a structure of arrays, one after the other. Entries that depend on
    the argument structurally are stored, also where they are zero. To be used like `fun`, for
    instance as `jac=` of `scipy.optimize.least_squares`; not inside of a traced function.

    Raises NotDifferentiableError for arguments or results that are not floating, UnsupportedError
    where the pattern is dense or the result's size depends on the argument's values.

    >>> jacobian = tg.sparse_jacobian(lambda x: x[1:] - x[:-1])
    >>> jacobian(np.zeros(3)).toarray()
    array([[-1.,  1.,  0.],
           [ 0., -1.,  1.]])
    """
    return SparseJacobian(fun, argnums)


def sparse_hessian(fun: Callable[..., Any], argnums: Argnums = 0) -> SparseHessian:
    """The Hessian of a scalar function as a symmetric `scipy.sparse.csr_array`.

    Rows and columns are the elements of the argument as in `sparse_jacobian`.

    >>> hessian = tg.sparse_hessian(lambda x: np.sum(x[1:] * x[:-1] ** 2))
    >>> hessian(np.ones(3)).toarray()
    array([[2., 2., 0.],
           [2., 2., 2.],
           [0., 2., 0.]])
    """
    return SparseHessian(fun, argnums)


@dataclass(frozen=True)
class Plan:
    """How a matrix is computed for the extents of a call."""

    pattern: csr_array
    forward: bool
    """Whether the seeds are tangents (columns are compressed), or cotangents (rows)."""
    colours: np.ndarray
    """The colour of each column, or row."""
    places: np.ndarray
    """Where in the compressed matrix each stored entry is found."""
    seeds: list[np.ndarray]
    """The tangents, or cotangents, of all colours: a batch for each array."""


class SparseJacobian:
    """A function that returns the Jacobian of another one as a sparse matrix."""

    what = "sparse_jacobian"

    def __init__(self, fun: Callable[..., Any], argnums: Argnums) -> None:
        self.argnums = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        self.name = f"{name_of(fun)}_{self.what}"
        self.function = self._differentiated(fun)
        self._plans: dict[Any, tuple[Version, Plan]] = {}
        self._push = Function(self._pushed, f"{self.name}_columns")
        self._pull = Function(self._pulled, f"{self.name}_rows")
        update_wrapper(self, fun)

    def _differentiated(self, fun: Callable[..., Any]) -> Function:
        """The function whose Jacobian it is."""
        return as_function(fun)

    def __call__(self, *args: Any, **kwargs: Any) -> csr_array:
        if current_trace() is not None:
            raise NotDifferentiableError(
                f"{self.what} returns a scipy.sparse matrix, which compiled code cannot hold: call "
                "it outside of the traced function, or use tg.jacobian"
            )
        plan = self.plan(*args, **kwargs)
        if not plan.pattern.nnz:
            return csr_array(plan.pattern.shape)
        run = self._push if plan.forward else self._pull
        return self.expanded(plan, run(tuple(args), kwargs, plan.seeds))

    def expanded(self, plan: Plan, parts: Sequence[Any]) -> csr_array:
        """The matrix from its products with all seeds."""
        colours = len(plan.seeds[0])
        compressed = np.concatenate([np.reshape(part, (colours, -1)) for part in parts], axis=1)
        data = compressed.ravel()[plan.places]
        return csr_array(
            (data, plan.pattern.indices, plan.pattern.indptr), shape=plan.pattern.shape
        )

    def pattern(self, *args: Any, **kwargs: Any) -> csr_array:
        """The entries that are stored, as a boolean matrix."""
        return self.plan(*args, **kwargs).pattern

    def plan(self, *args: Any, **kwargs: Any) -> Plan:
        """Pattern and colouring for these arguments, found at the first call with their sizes."""
        version, values = self.function.version_for(args, kwargs)
        wanted = self._wanted(args)
        self._check(version, wanted)
        indices = tuple(
            np.asarray(values[k]).tobytes()
            for k in sorted(index_inputs(version.graph))
            if k not in wanted
        )
        key = (id(version), tuple(np.shape(value) for value in values), indices)
        if key not in self._plans:
            while len(self._plans) >= KEPT:
                del self._plans[next(iter(self._plans))]
            pattern, results = self._found(version, values, wanted)
            plan = self._planned(pattern, results, [kind(values[k]) for k in wanted])
            self._plans[key] = version, plan  # held: no other version takes its number
        return self._plans[key][1]

    def _wanted(self, args: Sequence[Any]) -> list[int]:
        """The numbers of the leaves to differentiate in."""
        for number in self.argnums:
            if not -len(args) <= number < len(args):
                raise TypeError(f"argnums={number}, but there are {len(args)} positional arguments")
        chosen = [number % len(args) for number in self.argnums]
        sizes = [len(leaves_of(arg)[0]) for arg in args]
        starts = np.cumsum([0, *sizes])
        return [k for n in chosen for k in range(starts[n], starts[n + 1])]

    def _check(self, version: Version, wanted: Sequence[int]) -> None:
        inputs = [version.graph.inputs[number] for number in wanted]
        for node in (*inputs, *version.graph.outputs):
            if not node.type.is_float:
                raise NotDifferentiableError(
                    f"{self.what} of {self.name}: an argument or result is {node.type}; only "
                    "floating ones have derivatives"
                )

    def _found(
        self, version: Version, values: Sequence[Any], wanted: Sequence[int]
    ) -> tuple[csr_array, list[Kind]]:
        """The pattern, from the graph, and the shapes and dtypes of the results."""
        graph = version.graph
        sizes = [int(np.size(values[k])) for k in wanted]
        across, begins = sum(sizes), dict(zip(wanted, np.cumsum([0, *sizes]), strict=False))
        given = [
            Depends(identity(int(begins[k]), int(np.size(value)), across))
            if k in begins
            else Known(value)
            for k, value in enumerate(values)
        ]
        extents = {name: int(str(extent)) for name, extent in extents_of(graph, values).items()}
        pattern, rows, kinds = Pattern(extents, across), [], []
        for node, state in zip(graph.outputs, pattern.run(graph, given), strict=True):
            if not pattern.open.keys().isdisjoint(n for s in node.type.shape for n in symbols(s)):
                pattern.refuse()
            shape = pattern.shape(node.type)
            found = state.rows if isinstance(state, Depends) else None
            empty = matrix(np.zeros(size(shape), np.int64), np.zeros(0, np.int64), across)
            rows.append(empty if found is None else found)
            kinds.append((shape, node.type.dtype))
        return stacked(rows, across), kinds

    def _planned(self, pattern: csr_array, results: Sequence[Kind], wanted: Sequence[Kind]) -> Plan:
        """The compression, of columns or of rows, with fewer colours."""
        columns = column_colours(pattern)
        rows = column_colours(csr_array(pattern.T.tocsr()))
        forward = count(columns) <= count(rows)
        colours = columns if forward else rows
        row, column = entries(pattern)
        m, n = height(pattern), width(pattern)
        line = (colours[column] if forward else colours[row]).astype(np.int64)
        places = line * m + row if forward else line * n + column
        return Plan(
            pattern, forward, colours, places, seeds(colours, wanted if forward else results)
        )

    def _of(self, args: Sequence[Any], kwargs: Any) -> tuple[Callable[..., list[Any]], list[Any]]:
        """The function of the leaves to differentiate in alone, and these."""
        leaves, tree = leaves_of(tuple(args))
        wanted = self._wanted(args)

        def of(*parts: Any) -> list[Any]:
            filled = list(leaves)
            for number, part in zip(wanted, parts, strict=True):
                filled[number] = part
            return leaves_of(self.function.python(*unflatten(tree, iter(filled)), **kwargs))[0]

        return of, [leaves[number] for number in wanted]

    def _pushed(self, args: Any, kwargs: Any, seeds: Sequence[Any]) -> list[Any]:
        """The products with one tangent per colour."""
        of, parts = self._of(args, kwargs)
        given = [(seed, True) for seed in seeds]
        return over_items(lambda *ts: jvp(of, parts, ts)[1], given, seeds[0].type.shape[0])

    def _pulled(self, args: Any, kwargs: Any, seeds: Sequence[Any]) -> list[Any]:
        """The products with one cotangent per colour."""
        of, parts = self._of(args, kwargs)
        given = [(seed, True) for seed in seeds]

        def pull(*cts: Any) -> list[Any]:
            return list(vjp(of, *parts)[1](list(cts)))

        return over_items(pull, given, seeds[0].type.shape[0])


class SparseHessian(SparseJacobian):
    """A function that returns the Hessian of a scalar one as a sparse matrix."""

    what = "sparse_hessian"

    def _differentiated(self, fun: Callable[..., Any]) -> Function:
        return grad(fun, self.argnums)

    def _planned(self, pattern: csr_array, results: Sequence[Kind], wanted: Sequence[Kind]) -> Plan:
        """Columns by a star colouring; each entry from the one of (i, j), (j, i) that no other
        column of its colour shares a row with.
        """
        pattern = csr_array(pattern + pattern.T)
        pattern.sort_indices()
        colours = star_colours(pattern)
        row, column = entries(pattern)
        rows = height(pattern)
        compressed = colours[column].astype(np.int64) * rows + row
        alone = np.bincount(compressed, minlength=1)[compressed] == 1
        low, high = np.minimum(row, column), np.maximum(row, column)
        first = alone[_positions(pattern, low, high)]
        i, j = np.where(first, low, high), np.where(first, high, low)
        places = colours[j].astype(np.int64) * rows + i
        return Plan(pattern, True, colours, places, seeds(colours, wanted))


def _positions(pattern: csr_array, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Where the entries stand among the stored ones."""
    own_row, own_column = entries(pattern)
    across = width(pattern)
    return np.searchsorted(own_row * across + own_column, row * across + column)


def entries(pattern: csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each stored entry."""
    rows = np.repeat(np.arange(height(pattern)), np.diff(pattern.indptr))
    return rows, pattern.indices.astype(np.int64)


def kind(value: Any) -> Kind:
    return np.shape(value), np.asarray(value).dtype


def seeds(colours: np.ndarray, kinds: Sequence[Kind]) -> list[np.ndarray]:
    """For each array that is seeded a batch of one for each colour."""
    whole = np.zeros((count(colours), len(colours)))
    whole[colours, np.arange(len(colours))] = 1
    ends = np.cumsum([int(np.prod(shape, dtype=np.int64)) for shape, _ in kinds])
    parts = np.split(whole, ends[:-1], axis=1)
    return [
        part.reshape((len(whole), *shape)).astype(dtype)
        for part, (shape, dtype) in zip(parts, kinds, strict=True)
    ]


def stacked(rows: Sequence[csr_array], across: int) -> csr_array:
    """The patterns of several results, one below the other, in order of columns."""
    counts = np.concatenate([np.diff(part.indptr) for part in rows])
    found = matrix(counts, np.concatenate([part.indices for part in rows]), across)
    found.sum_duplicates()
    found.sort_indices()
    return found
