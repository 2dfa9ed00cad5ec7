"""`np.einsum`: a subscript string as transposes, matrix products and sums.

    np.einsum("bij,bjk->bik", x, y)   ->   x @ y, a product of stacks of matrices

Operands are contracted in pairs, the cheapest first by the sizes of the traced call. A pair without
a summed label is multiplied by broadcasting; one in which only a single operand has labels of its
own is a product with vectors, multiplied and summed so that it fuses with what surrounds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.errors import ShapeError
from tracegrad.ir.dims import Size, in_figures, product
from tracegrad.ops.arithmetic import MULTIPLY
from tracegrad.ops.broadcast import broadcast_extent
from tracegrad.ops.constant import ARANGE, astype
from tracegrad.ops.gathering import GATHER
from tracegrad.ops.matmul import likely, matmul
from tracegrad.ops.op import as_operand, bind, public, sample, type_of
from tracegrad.ops.reduction import SUM, is_stretched
from tracegrad.ops.shape import reshape, transpose

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

Label = str
"""A letter; `...0`, `...1` are the axes of an ellipsis, counted from the last."""


@dataclass(frozen=True)
class Term:
    """An operand with a label for each axis, all different."""

    array: Any
    labels: tuple[Label, ...]


@public(np.einsum)
def einsum(*operands: Any, out: Any = None, optimize: Any = True, **options: Any) -> Any:
    """The products of operands that `subscripts` describe, summed over letters not in the result.

    Raises ValueError for subscripts that do not fit the operands, as NumPy does.
    """
    del out, optimize
    dtype = options.pop("dtype", None)
    unknown = [name for name in options if name not in ("order", "casting")]
    if unknown:
        raise TypeError(f"einsum got an unexpected keyword argument {unknown[0]!r}")
    subscripts, arrays = _spelled(operands)
    arrays = [as_operand(array) for array in arrays]
    dtype = dtype or np.result_type(*(type_of(array).dtype for array in arrays))
    inputs, output = _parsed(subscripts, [type_of(array).rank for array in arrays])
    terms = [
        _distinct(Term(astype(array, dtype), labels))
        for array, labels in zip(arrays, inputs, strict=True)
    ]
    sizes = _label_sizes(subscripts, terms)
    return _spread(_contracted([_without_units(t, sizes) for t in terms], output, sizes), output)


def _spelled(operands: Sequence[Any]) -> tuple[str, list[Any]]:
    """The subscripts as a string; from `einsum(a, [0, 1], b, [1, 2], [0, 2])` too."""
    if not operands:
        raise ValueError("must specify the einstein sum subscripts string and at least one operand")
    if isinstance(operands[0], str):
        return operands[0].replace(" ", ""), list(operands[1:])
    lists = [_letters(labels) for labels in operands[1::2]]
    arrays = list(operands[: len(operands) // 2 * 2 : 2])
    text = ",".join(lists)
    return (f"{text}->{_letters(operands[-1])}" if len(operands) % 2 else text), arrays


def _letters(labels: Sequence[Any]) -> str:
    return "".join("..." if label is Ellipsis else LETTERS[label] for label in labels)


def _parsed(subscripts: str, ranks: Sequence[int]) -> tuple[list[tuple[Label, ...]], tuple]:
    """The labels of every operand, and those of the result."""
    left, arrow, right = subscripts.partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks):
        raise ValueError(
            f"einsum {subscripts!r}: {len(parts)} operands in the subscripts, {len(ranks)} given"
        )
    inputs = [_labels(part, rank, subscripts) for part, rank in zip(parts, ranks, strict=True)]
    counts = Counter(label for labels in inputs for label in labels)
    broadcast = sorted((label for label in counts if label[0] == "."), key=_depth, reverse=True)
    if not arrow:
        once = sorted(label for label in counts if label[0] != "." and counts[label] == 1)
        return inputs, (*broadcast, *once)
    output = _labels(right, len(right.replace("...", "")) + len(broadcast), subscripts)
    for label in output:
        if label not in counts or output.count(label) > 1:
            why = "twice in the result" if label in counts else "in no operand"
            raise ValueError(f"einsum {subscripts!r}: subscript {label!r} is {why}")
    return inputs, output


def _depth(label: Label) -> int:
    return int(label.strip("."))


def _labels(part: str, rank: int, subscripts: str) -> tuple[Label, ...]:
    letters = part.replace("...", "", 1)
    if any(letter not in LETTERS for letter in letters):
        raise ValueError(f"einsum {subscripts!r}: {part!r} is not letters and one ellipsis")
    spare = rank - len(letters)
    if spare < 0 or (spare and "..." not in part):
        raise ValueError(
            f"einsum {subscripts!r}: {part!r} has {len(letters)} subscripts, its operand has "
            f"{rank} axes"
        )
    before, _, after = part.partition("...")
    broadcast = [f"...{number}" for number in reversed(range(spare))] if "..." in part else []
    return (*before, *broadcast, *after)


def _distinct(term: Term) -> Term:
    """The diagonal over every label that stands at several axes."""
    repeated = [label for label, count in Counter(term.labels).items() if count > 1]
    for label in repeated:
        type = type_of(term.array)
        axes = tuple(axis for axis, other in enumerate(term.labels) if other == label)
        extents = [type.shape[axis] for axis in axes]
        for extent in extents[1:]:
            if broadcast_extent(extents[0], extent) != extents[0]:
                raise ShapeError(
                    f"einsum: {type} has different extents at the axes {axes} of {label!r}"
                )
        along = bind(ARANGE, size=extents[0])
        array = bind(GATHER, term.array, *(along for _ in axes), axes=axes)
        rest = tuple(other for other in term.labels if other != label)
        at = axes[0] if axes == tuple(range(axes[0], axes[0] + len(axes))) else 0
        term = Term(array, (*rest[:at], label, *rest[at:]))
    return term


def _label_sizes(subscripts: str, terms: Sequence[Term]) -> dict[Label, Size]:
    sizes: dict[Label, Size] = {}
    for term in terms:
        for label, size in zip(term.labels, type_of(term.array).shape, strict=True):
            extent = broadcast_extent(sizes[label], size) if label in sizes else size
            if extent is None:
                operands = ", ".join(str(type_of(other.array).in_figures()) for other in terms)
                raise ShapeError(
                    f"einsum {subscripts!r} of {operands}: {label!r} is "
                    f"{in_figures(sizes[label])} in one operand and {in_figures(size)} in another"
                )
            sizes[label] = extent
    return sizes


def _without_units(term: Term, sizes: dict[Label, Size]) -> Term:
    """Axes of extent 1 that broadcast against longer ones are dropped."""
    shape = type_of(term.array).shape
    kept = tuple(
        (label, size)
        for label, size in zip(term.labels, shape, strict=True)
        if not is_stretched(size, sizes[label])
    )
    if len(kept) == len(shape):
        return term
    return Term(
        reshape(term.array, tuple(size for _, size in kept)), tuple(label for label, _ in kept)
    )


def _contracted(terms: list[Term], output: tuple[Label, ...], sizes: dict[Label, Size]) -> Term:
    """One term: pair after pair, the cheapest first, labels summed as soon as nobody needs them."""
    terms = [_summed(term, _needed(terms, (n,), output)) for n, term in enumerate(terms)]
    while len(terms) > 1:
        i, j = min(
            combinations(range(len(terms)), 2),
            key=lambda pair: _cost(terms[pair[0]], terms[pair[1]], sizes),
        )
        joined = _pair(terms[i], terms[j], _needed(terms, (i, j), output), sizes)
        terms = [term for n, term in enumerate(terms) if n not in (i, j)] + [joined]
    return terms[0]


def _needed(terms: Sequence[Term], taken: tuple[int, ...], output: tuple[Label, ...]) -> set[Label]:
    """The labels of the result and of the terms that are not taken."""
    others = (term.labels for number, term in enumerate(terms) if number not in taken)
    return set(output).union(*others)


def _cost(a: Term, b: Term, sizes: dict[Label, Size]) -> int:
    """Multiplications of a pair, one for each combination of its labels."""
    return likely(product(tuple(sizes[label] for label in {*a.labels, *b.labels})))


def _summed(term: Term, needed: set[Label]) -> Term:
    axes = tuple(axis for axis, label in enumerate(term.labels) if label not in needed)
    if not axes:
        return term
    kept = tuple(label for label in term.labels if label in needed)
    return Term(bind(SUM, term.array, axis=axes), kept)


def _pair(a: Term, b: Term, needed: set[Label], sizes: dict[Label, Size]) -> Term:
    """`a` and `b` multiplied, and summed over the shared labels that are not needed any more."""
    shared = [label for label in a.labels if label in b.labels]
    batch = tuple(label for label in shared if label in needed)
    depth = tuple(label for label in shared if label not in needed)
    rows = tuple(label for label in a.labels if label not in shared)
    columns = tuple(label for label in b.labels if label not in shared)
    labels = batch + rows + columns
    if depth and (not batch or (rows and columns)):
        left = _grouped(a, batch, rows, depth, sizes)
        right = _grouped(b, batch, depth, columns, sizes)
        shape = tuple(sizes[label] for label in labels)
        return Term(reshape(matmul(left, right), shape), labels)
    order = labels + depth
    whole = MULTIPLY(_spread(a, order), _spread(b, order))
    axes = tuple(range(len(labels), len(order)))
    return Term(bind(SUM, whole, axis=axes) if axes else whole, labels)


def _grouped(
    term: Term,
    batch: tuple[Label, ...],
    first: tuple[Label, ...],
    second: tuple[Label, ...],
    sizes: dict[Label, Size],
) -> Any:
    """The array as a matrix of two groups of labels, or as a stack of such; as it lies if it can.

    A group without labels is left out, which makes a vector.
    """
    groups = [group for group in (batch, first, second) if group]
    swapped = [group for group in (batch, second, first) if group]
    turn = first and second and tuple(sum(swapped, ())) == term.labels
    if turn:
        groups = swapped
    order = tuple(term.labels.index(label) for group in groups for label in group)
    extents = tuple(product(tuple(sizes[label] for label in group)) for group in groups)
    array = reshape(transpose(term.array, order), extents)
    if not turn:
        return array
    return transpose(array, (1, 0) if len(extents) == 2 else (0, 2, 1))


def _spread(term: Term, order: tuple[Label, ...]) -> Any:
    """The array with an axis for each label of `order`, of extent 1 where it has none."""
    present = [label for label in order if label in term.labels]
    array = transpose(term.array, tuple(term.labels.index(label) for label in present))
    extents = iter(type_of(array).shape)
    return reshape(array, tuple(next(extents) if label in present else 1 for label in order))


sample(lambda a, b: np.einsum("ij,jk->ik", a, b), (2, 3), (3, 4))
sample(lambda a, b: np.einsum("ij,jk", a, b), (2, 3), (3, 4))
sample(lambda a, b: np.einsum("bij,bjk->bik", a, b), (2, 3, 4), (2, 4, 5))
sample(lambda a, b: np.einsum("bhqd,bhkd->bhqk", a, b), (2, 2, 3, 4), (2, 2, 5, 4))
sample(lambda a: np.einsum("ii", a), (3, 3))
sample(lambda a: np.einsum("ii->i", a), (3, 3))
sample(lambda a: np.einsum("iji->ji", a), (3, 2, 3))
sample(lambda a: np.einsum("ij->ji", a), (2, 3))
sample(lambda a: np.einsum("ij->", a), (2, 3))
sample(lambda a, b: np.einsum("i,j->ij", a, b), (2,), (3,))
sample(lambda a, b: np.einsum("bi,bi->b", a, b), (4, 3), (4, 3))
sample(lambda a, b: np.einsum("...ij,...j->...i", a, b), (2, 3, 4), (4,))
sample(lambda a, b: np.einsum("i...,...->...i", a, b), (2, 3), (3,))
sample(lambda a, b: np.einsum("ab,cd->bd", a, b), (2, 3), (4, 2))
sample(lambda a, b, c: np.einsum("ij,jk,kl->il", a, b, c), (2, 3), (3, 4), (4, 2))
sample(lambda a, b, c: np.einsum("i,ij,j->", a, b, c), (2,), (2, 3), (3,))
sample(lambda a, b: np.einsum(a, [0, 1], b, [1, 2], [0, 2]), (2, 3), (3, 4))
