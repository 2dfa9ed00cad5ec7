"""Functions that are not a loop nest: products that fill their output, parts of sums.

In: the name in a `LibraryCall` or `Call`. Out: a function for generated modules to import, or text
for a stand-alone module. `LibraryCall("dot", ("a", "b"), ("out",))` prints as `dot(a, b, out)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from codegen import blas, numpyorder, threads
from codegen.library import (
    extremes,
    factorisations,
    lapack,
    ordering,
    orthogonal,
    places,
    portable,
    products,
    ranking,
    results,
    selection,
    small,
    sorting,
    sums,
    versions,
)
from codegen.library import (
    parallel as launching,
)
from codegen.library.extremes import running_max, running_min
from codegen.library.lapack import cholesky, eigh, lu_factor, lu_solve, solve_triangular
from codegen.library.ordering import argsort, sort
from codegen.library.orthogonal import qr_factor, qr_vectors, svd
from codegen.library.parallel import parallel
from codegen.library.places import first_largest, first_smallest
from codegen.library.products import batched_dot, dot
from codegen.library.ranking import argselect
from codegen.library.results import readonly, received, received_number
from codegen.library.selection import find_nonzero, find_repeats
from codegen.library.sorting import argsort_rows, searchsorted
from codegen.library.sums import rounding_error_f32, rounding_error_f64
from codegen.library.versions import call_version, single_version, threads_version

SORTING = (sorting.before, sorting.merge, sorting.argsort)
SORTING_ROWS = (
    sorting.before,
    sorting.row_before,
    sorting.merge_rows,
    sorting.argsort_rows,
)

FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "argselect": (*SORTING, sorting.argselect),
    "argsort": SORTING,
    "argsort_rows": SORTING_ROWS,
    "sort": (*SORTING, sorting.sort),
    "searchsorted": (sorting.before, sorting.searchsorted),
    "dot": (portable.fill_dot, portable.compiled_fill_dot, portable.dot),
    "batched_dot": (
        portable.fill_dot,
        portable.compiled_fill_dot,
        portable.matrix_at,
        portable.compiled_matrix_at,
        portable.batched_dot,
    ),
    "cholesky": (factorisations.cholesky,),
    "eigh": (factorisations.eigh,),
    "find_nonzero": (find_nonzero,),
    "find_repeats": (find_repeats,),
    "first_largest": (portable.first_largest,),
    "first_smallest": (portable.first_smallest,),
    "lu_factor": (factorisations.lu_factor,),
    "lu_solve": (factorisations.substitute, factorisations.lu_solve),
    "solve_triangular": (factorisations.substitute, factorisations.solve_triangular),
    "qr_factor": (factorisations.qr_factor,),
    "qr_vectors": (factorisations.qr_vectors,),
    "readonly": (),
    "received": (),
    "received_number": (),
    "running_max": (portable.running_max,),
    "running_min": (portable.running_min,),
    "svd": (factorisations.svd,),
    "rounding_error_f32": (rounding_error_f32,),
    "rounding_error_f64": (rounding_error_f64,),
}
"""What a stand-alone module needs for each function."""

HEADER = {portable: ("from numba import types", "from numba.extending import overload")}

__all__ = [
    "argselect",
    "argsort",
    "argsort_rows",
    "batched_dot",
    "call_version",
    "cholesky",
    "dot",
    "eigh",
    "find_nonzero",
    "find_repeats",
    "first_largest",
    "first_smallest",
    "lu_factor",
    "lu_solve",
    "parallel",
    "qr_factor",
    "qr_vectors",
    "readonly",
    "received",
    "received_number",
    "rounding_error_f32",
    "rounding_error_f64",
    "running_max",
    "running_min",
    "searchsorted",
    "single_version",
    "solve_triangular",
    "sort",
    "svd",
    "threads_version",
]


def plain(function: Any) -> Any:
    """The function as plain Python, whether or not numba is switched off."""
    return getattr(function, "py_func", function)


def standalone_source(names: Iterable[str]) -> str:
    """The text of these functions over numpy and numba only. Raises LookupError."""
    needed = dict.fromkeys(part for name in sorted(set(names)) for part in FUNCTIONS[name])
    modules = dict.fromkeys(inspect.getmodule(plain(part)) for part in needed)
    header = [line for module in modules for line in HEADER.get(module, ())]  # pyright: ignore
    texts = [inspect.getsource(plain(part)).rstrip() for part in needed]
    return "\n\n\n".join(["\n".join(header), *texts] if header else texts)


def fingerprint() -> str:
    """All the text of this package that compiled code may contain."""
    libraries = (blas, lapack, numpyorder, ordering, orthogonal, places, products)
    parts = (*libraries, extremes, launching, ranking, results, selection, small, sorting, sums)
    folder = Path(__file__).parent
    draws = [folder / "draws.py", folder / "interpreted.py", folder.parent / "distributions.py"]
    texts = "".join(path.read_text("utf-8") for path in draws)
    return texts + "".join(inspect.getsource(module) for module in (*parts, threads, versions))
