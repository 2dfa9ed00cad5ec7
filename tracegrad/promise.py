"""What a function of the user's promises to return, from the types of its arguments.

"(n),(n,m)->(m)"   of   f64[p], f64[p, q]      ->      f64[q]
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.errors import ShapeError
from tracegrad.ir.dims import Size, in_figures, must_be_same
from tracegrad.ir.types import ArrayType
from tracegrad.ops.foreign import Promise
from tracegrad.ops.op import supported_dtype, weak_or_dtype
from tracegrad.ops.shape import as_size
from tracegrad.tracing.size import sized

GROUP = re.compile(r"\(([^()]*)\)")
SIGNATURE = re.compile(
    r"\s*(\([^()]*\)\s*(,\s*\([^()]*\)\s*)*)?->\s*\([^()]*\)\s*(,\s*\([^()]*\)\s*)*"
)


@dataclass(frozen=True)
class ShapeDtype:
    """Shape and dtype of an array; extents are ints or sizes of traced arrays.

    >>> ShapeDtype((3,), np.float64).ndim
    1
    """

    shape: tuple[Any, ...]
    dtype: Any = np.float64

    @property
    def ndim(self) -> int:
        return len(self.shape)


def promised(name: str, spec: Any, types: Sequence[ArrayType]) -> Promise:
    """Dtype and shape of each result. Raises ShapeError, TypeError or ValueError, in the user's
    terms."""
    if isinstance(spec, str):
        return from_signature(name, spec, types)
    if callable(spec):
        given = [ShapeDtype(tuple(map(sized, t.shape)), t.dtype) for t in types]
        spec = spec(*given)
    specs = spec if isinstance(spec, tuple) else (spec,)
    if not specs:
        raise ValueError(f"{name}: shape= promises no results")
    return tuple(one(name, part, types) for part in specs)


def count_results(spec: Any) -> int | None:
    """How many results are promised; None where a function of the arguments says it."""
    if isinstance(spec, str):
        return len(GROUP.findall(spec.partition("->")[2]))
    if isinstance(spec, tuple):
        return len(spec)
    return None if callable(spec) else 1


def one(name: str, spec: Any, types: Sequence[ArrayType]) -> tuple[np.dtype, tuple[Size, ...]]:
    if isinstance(spec, ShapeDtype):
        return supported_dtype(spec.dtype), tuple(as_size(extent) for extent in spec.shape)
    if isinstance(spec, int) and not isinstance(spec, bool):
        if not 0 <= spec < len(types):
            raise ValueError(f"{name}: shape={spec}, but it was called with {len(types)} arguments")
        return types[spec].dtype, types[spec].shape
    raise TypeError(
        f"{name}: shape={spec!r}: give the number of an argument, a string such as "
        '"(n),(m)->(n,m)", a tg.ShapeDtype, a function that returns one, or a tuple of these'
    )


def from_signature(name: str, text: str, types: Sequence[ArrayType]) -> Promise:
    """The results of a signature in the manner of generalised ufuncs, without loop dimensions."""
    if not SIGNATURE.fullmatch(text):
        raise ValueError(f'{name}: shape="{text}" is not of the form "(n),(n,m)->(m)"')
    left, _, right = text.partition("->")
    wanted = [axes(part) for part in GROUP.findall(left)]
    if len(wanted) != len(types):
        raise ShapeError(
            f'{name}: shape="{text}" is for {len(wanted)} arguments, it was called with '
            f"{len(types)}"
        )
    known: dict[str, Size] = {}
    for number, (names, type) in enumerate(zip(wanted, types, strict=True)):
        if len(names) != type.rank:
            raise ShapeError(
                f'{name}: argument {number} is {type}, but shape="{text}" wants {len(names)} axes'
            )
        for label, size in zip(names, type.shape, strict=True):
            expected = known.setdefault(label, size) if not label.isdigit() else int(label)
            if not must_be_same(expected, size):
                raise ShapeError(
                    f'{name}: in shape="{text}" {label} is {in_figures(expected)}, but an axis of '
                    f"argument {number} has {in_figures(size)}"
                )
    dtype = np.result_type(*(weak_or_dtype(type) for type in types)) if types else np.dtype(float)
    return tuple(
        (dtype, tuple(extent(name, part, known) for part in axes(group)))
        for group in GROUP.findall(right)
    )


def axes(group: str) -> list[str]:
    return [part.strip() for part in group.split(",") if part.strip()]


def extent(name: str, text: str, known: dict[str, Size]) -> Size:
    """An extent of a result: a letter, a number, or a sum or product of these."""
    try:
        return evaluated(ast.parse(text, mode="eval").body, known)
    except (SyntaxError, LookupError):
        letters = ", ".join(known) or "none"
        raise ValueError(
            f"{name}: {text!r} in shape= is no sum or product of the arguments' extents ({letters})"
        ) from None


OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
}


def evaluated(tree: ast.expr, known: dict[str, Size]) -> Size:
    match tree:
        case ast.Name(name):
            return known[name]
        case ast.Constant(int(value)):
            return value
        case ast.BinOp(left, operation, right):
            return OPERATORS[type(operation)](evaluated(left, known), evaluated(right, known))
    raise LookupError(tree)
