"""Which function serves which NumPy name and dtype, and the text of any of them.

`lookup("exp", float32)` is `exp_f32`; a function written once for a kind of dtypes is found by
the kind: `lookup("floor", float32)` is `floor_float`, `lookup("gcd", uint8)` is `gcd_int`.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from codegen.costs import OF_WHOLE, SCIPY
from codegen.errors import CodegenError

MODULES = (
    "primitives",
    "floating",
    "conditions",
    "rare",
    "exact",
    "integers",
    "exponential",
    "logarithm",
    "logsum",
    "trigonometric",
    "inverse",
    "inversehyperbolic",
    "hyperbolic",
    "errorfunction",
    "pairs",
    "power",
    "special",
    "probability",
)
"""The files of functions, each after those from which it imports. Only those are loaded that define
what a program calls: all of them take 20 ms."""

KINDS = {"f": "float", "i": "int", "u": "int", "b": "bool"}
SUFFIXES = ("_f64", "_f32", "_float", "_int", "_bool")

ALIASES = {
    "absolute": {"f": "fabs", "i": "abs", "u": "abs"},
    "abs": {"f": "fabs"},
    "float_power": {"f": "power"},
    "divmod": {},
    "mod": {"f": "remainder", "i": "remainder", "u": "remainder"},
    "radians": {"f": "deg2rad"},
    "degrees": {"f": "rad2deg"},
    "expit": {"f": "sigmoid"},
    "psi": {"f": "digamma"},
    # Integer operations defined for every operand; the plain names are index arithmetic.
    **{
        f"total_{name}": {"i": name, "u": name}
        for name in ("floor_divide", "remainder", "power", "left_shift", "right_shift")
    },
}

LONG = frozenset(
    f"codegen.vecmath.{name}"
    for name in (
        "errorfunction",
        "exponential",
        "hyperbolic",
        "inverse",
        "inversehyperbolic",
        "logarithm",
        "logsum",
        "pairs",
        "power",
        "probability",
        "special",
        "trigonometric",
    )
)
"""Modules whose functions are polynomials and more: a few nanoseconds if they are not vectorised,
and enough to fill the processor's window if they are."""


@functools.cache
def texts() -> dict[str, str]:
    """File -> its text."""
    folder = Path(__file__).parent
    return {name: (folder / f"{name}.py").read_text("utf-8") for name in MODULES}


@functools.cache
def homes() -> dict[str, str]:
    """Function -> the file that defines it: `exp_f64` is in `exponential`."""
    defined = re.compile(rf"\n(?:def )?([a-z]\w*(?:{'|'.join(SUFFIXES)}))(?:\(| = )")
    return {name: home for home, text in texts().items() for name in defined.findall(text)}


@functools.cache
def of_scipy() -> frozenset[str]:
    """The functions that are calls of SciPy's compiled code: see `codegen.scipys`."""
    return frozenset(f"{name}{whole}_float" for name in SCIPY for whole in ("", OF_WHOLE))


def function(name: str) -> Any:
    """The compiled scalar function of this name; LookupError if there is none."""
    if name in of_scipy():
        return import_module("codegen.scipys").function(name)
    if name not in homes():
        raise LookupError(f"codegen.vecmath has no function {name!r}")
    return getattr(import_module(f"codegen.vecmath.{homes()[name]}"), name)


def named(name: str, dtype: np.dtype) -> str:
    """The name of the function for NumPy's `name` on arguments of `dtype`; LookupError if none."""
    dtype = np.dtype(dtype)
    name = ALIASES.get(name, {}).get(dtype.kind, name)
    for suffix in (f"{dtype.kind}{8 * dtype.itemsize}", KINDS.get(dtype.kind, "")):
        if f"{name}_{suffix}" in homes() or f"{name}_{suffix}" in of_scipy():
            return f"{name}_{suffix}"
    raise LookupError(f"codegen.vecmath has no function {name!r} for dtype {dtype.name}")


def lookup(name: str, dtype: np.dtype) -> Any:
    """The function itself, which can be imported from `codegen.vecmath` by its `__name__`."""
    return function(named(name, dtype))


def is_long(name: str, dtype: np.dtype) -> bool:
    """Whether NumPy's `name` is one of the functions that take tens of instructions."""
    try:
        return f"codegen.vecmath.{homes()[named(name, dtype)]}" in LONG
    except LookupError:
        return False


@functools.cache
def sources() -> dict[str, str]:
    """Name -> text of every top-level definition, in an order in which they can be executed."""
    return {name: found for text in texts().values() for name, found in definitions(text).items()}


def definitions(text: str) -> dict[str, str]:
    """Name -> text of the top-level definitions of one file."""
    return {
        name: segment(text, statement)
        for statement in ast.parse(text).body
        for name in defined(statement)
    }


def defined(statement: ast.stmt) -> Iterator[str]:
    """The names that a top-level definition or assignment binds."""
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Assign(targets=targets):
            for target in targets:
                yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def segment(text: str, statement: ast.stmt) -> str:
    """The lines of a statement, with the decorators and the comment lines above it."""
    lines = text.splitlines()
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(node.lineno for node in decorators)]) - 1
    while first > 0 and lines[first - 1].startswith("#"):
        first -= 1
    return "\n".join(lines[first : statement.end_lineno])


@functools.cache
def callees(name: str) -> frozenset[str]:
    """The vecmath definitions that the text of `name` mentions."""
    tree = ast.parse(sources()[name])
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return frozenset(used & sources().keys() - {name})


@functools.cache
def imports() -> dict[str, tuple[str, str]]:
    """Name -> (foreign module, what is imported from it, or "" for the module itself)."""
    found: dict[str, tuple[str, str]] = {}
    for text in texts().values():
        for statement in ast.parse(text).body:
            match statement:
                case ast.Import(names=names):
                    found |= {item.asname or item.name: (item.name, "") for item in names}
                case ast.ImportFrom(module=str(source), names=names):
                    if source != "__future__" and not source.startswith("codegen"):
                        found |= {item.asname or item.name: (source, item.name) for item in names}
    return found


def import_lines(text: str) -> Iterator[str]:
    """The import statements that this text needs."""
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    for name in sorted(used & imports().keys()):
        source, item = imports()[name]
        if not item:
            yield f"import {source}" if name == source else f"import {source} as {name}"
        else:
            yield f"from {source} import {item}" + ("" if name == item else f" as {name}")


def standalone_source(names: Iterable[str]) -> str:
    """Python text that defines these functions and all they call, importing numpy and numba only.

    Under `NUMBA_DISABLE_JIT=1` the text runs as plain Python and gives the same numbers.
    """
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in of_scipy():
            raise CodegenError(
                f"it calls scipy.special.{name.removesuffix('_float').removesuffix(OF_WHOLE)}, "
                "compiled code of SciPy's that a module without tracegrad cannot reach"
            )
        if name not in sources():
            raise LookupError(f"codegen.vecmath has no definition {name!r}")
        if name not in needed:
            needed.add(name)
            waiting.extend(callees(name))
    texts = dict.fromkeys(text for name, text in sources().items() if name in needed)
    body = "\n\n\n".join(texts)
    return "\n".join(import_lines(body)) + "\n\n\n" + body + "\n"
