"""Functions that are not a loop nest: products that fill their output, parts of sums.

In: the name in a `LibraryCall` or `Call`. Out: a function for generated modules to import, or text
for a stand-alone module. `LibraryCall("dot", ("a", "b"), ("out",))` prints as `dot(a, b, out)`.
Only the files are loaded whose functions a program calls.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from importlib import import_module
from typing import Any

HOMES = {
    "argselect": "ranking",
    "argsort": "ordering",
    "argsort_rows": "sorting",
    "batched_dot": "products",
    "call_version": "versions",
    "cholesky": "lapack",
    "dot": "products",
    "eigh": "lapack",
    "find_nonzero": "selection",
    "find_repeats": "selection",
    "first_largest": "places",
    "first_smallest": "places",
    "lu_factor": "lapack",
    "lu_solve": "lapack",
    "parallel": "launching",
    "qr_factor": "orthogonal",
    "qr_vectors": "orthogonal",
    "readonly": "results",
    "received": "results",
    "received_number": "results",
    "rounding_error_f32": "sums",
    "rounding_error_f64": "sums",
    "running_max": "extremes",
    "running_min": "extremes",
    "searchsorted": "sorting",
    "single_version": "versions",
    "solve_triangular": "lapack",
    "sort": "ordering",
    "svd": "orthogonal",
    "threads_version": "versions",
}
"""The file in which each function is."""

SORTING = ("sorting.before", "sorting.merge", "sorting.argsort")
SORTING_ROWS = (
    "sorting.before",
    "sorting.row_before",
    "sorting.merge_rows",
    "sorting.argsort_rows",
)

STANDALONE: dict[str, tuple[str, ...]] = {
    "argselect": (*SORTING, "sorting.argselect"),
    "argsort": SORTING,
    "argsort_rows": SORTING_ROWS,
    "sort": (*SORTING, "sorting.sort"),
    "searchsorted": ("sorting.before", "sorting.searchsorted"),
    "dot": ("portable.fill_dot", "portable.compiled_fill_dot", "portable.dot"),
    "batched_dot": (
        "portable.fill_dot",
        "portable.compiled_fill_dot",
        "portable.matrix_at",
        "portable.compiled_matrix_at",
        "portable.batched_dot",
    ),
    "cholesky": ("factorisations.cholesky",),
    "eigh": ("factorisations.eigh",),
    "find_nonzero": ("selection.find_nonzero",),
    "find_repeats": ("selection.find_repeats",),
    "first_largest": ("portable.first_largest",),
    "first_smallest": ("portable.first_smallest",),
    "lu_factor": ("factorisations.lu_factor",),
    "lu_solve": ("factorisations.substitute", "factorisations.lu_solve"),
    "solve_triangular": ("factorisations.substitute", "factorisations.solve_triangular"),
    "qr_factor": ("factorisations.qr_factor",),
    "qr_vectors": ("factorisations.qr_vectors",),
    "readonly": (),
    "received": (),
    "received_number": (),
    "running_max": ("portable.running_max",),
    "running_min": ("portable.running_min",),
    "svd": ("factorisations.svd",),
    "rounding_error_f32": ("sums.rounding_error_f32",),
    "rounding_error_f64": ("sums.rounding_error_f64",),
}
"""What a stand-alone module needs for each function that loop programs name."""

HEADER = {"portable": ("from numba import types", "from numba.extending import overload")}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'codegen.library' has no function {name!r}")
    return found(f"{HOMES[name]}.{name}")


def found(place: str) -> Any:
    """The function at `sorting.before`."""
    module, name = place.split(".")
    return getattr(import_module(f"codegen.library.{module}"), name)


def plain(function: Any) -> Any:
    """The function as plain Python, whether or not numba is switched off."""
    return getattr(function, "py_func", function)


def standalone_source(names: Iterable[str]) -> str:
    """The text of these functions over numpy and numba only. Raises LookupError."""
    needed = dict.fromkeys(part for name in sorted(set(names)) for part in STANDALONE[name])
    modules = dict.fromkeys(part.split(".")[0] for part in needed)
    header = [line for module in modules for line in HEADER.get(module, ())]
    texts = [inspect.getsource(plain(found(part))).rstrip() for part in needed]
    return "\n\n\n".join(["\n".join(header), *texts] if header else texts)
