"""Control flow outside of traced functions: Python's own loops, on arrays and tensors.

    scan(f, 0.0, np.arange(3.0))      ->      f is called three times, and its ys are stacked

Also the checks of functions, conditions and indices that both forms share.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.control.body import values_of
from tracegrad.control.weak import promoted
from tracegrad.errors import ShapeError, TraceError
from tracegrad.ir.dims import must_be_same
from tracegrad.ir.types import ArrayType
from tracegrad.leaves import is_leaf
from tracegrad.ops.constant import astype
from tracegrad.ops.op import PUBLIC, Bindable, SizeValue, as_operand, type_of
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace, tracing
from tracegrad.tree import Tree, aligned, unflatten


def check_callable(what: str, *functions: Any) -> None:
    """TypeError for what cannot be called, `cond(x > 0, x, -x)`."""
    for function in functions:
        if not callable(function):
            raise TypeError(
                f"{what}: {_shown(function)} is not callable; give a function, "
                "lambda x: ... for instance"
            )


def whole_number(what: str, value: Any) -> int:
    """An integer. Raises TypeError for what is none, as 3.5 steps."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{what} is {value!r}, which is no integer") from None


def scalar_type(what: str, role: str, value: Any) -> ArrayType:
    """The type of a condition or an index; TypeError for what is no number at all."""
    if not (isinstance(value, SizeValue | bool | int) or is_leaf(value)):
        raise TypeError(f"{what}: {role} must be a scalar; this is {_shown(value)}")
    type = type_of(as_operand(value))
    if type.rank:
        raise TraceError(
            f"{what}: {role} is {type}, not {'an integer' if role == 'the index' else 'a boolean'} "
            "scalar; use np.where or np.choose for arrays"
        )
    return type


def check_condition(what: str, value: Any) -> None:
    """A boolean scalar."""
    if isinstance(value, bool | np.bool_):
        return
    if is_leaf(value) or isinstance(value, int):
        type = type_of(as_operand(value))
        if not type.rank and type.dtype == bool:
            return
        raise TraceError(f"{what}: the condition is {type}, not a boolean scalar")
    raise TraceError(f"{what}: the condition is {_shown(value)}, not a boolean scalar")


def same_structure(what: str, tree: Tree, value: Any) -> list[Any]:
    """The leaves of a new carry; an error where its structure is another one than before."""
    leaves, found = values_of(value)
    if found != tree:
        reason = misfit(tree, value, "the carry that the body returns")
        raise TraceError(f"{what}: {reason}, as it was given")
    return leaves


def same_type(what: str, own: ArrayType, value: Any, number: int) -> Any:
    """Leaf `number` of a new carry; an error unless it is of the type that it was before."""
    got = type_of(as_operand(value))
    if got.weak and np.can_cast(got.dtype, own.dtype, "same_kind"):
        value = astype(value, own.dtype)
        got = type_of(value)
    equal = own.rank == got.rank and all(
        must_be_same(a, b) for a, b in zip(own.shape, got.shape, strict=True)
    )
    if not equal or own.dtype != got.dtype:
        raise TraceError(
            f"{what}: the carry changes from {own.in_figures()} to {got.in_figures()} (leaf "
            f"{number}); start from a value of the type that the body returns, or cast what it "
            "returns with .astype"
        )
    return value


def misfit(tree: Tree, value: Any, name: str) -> str:
    """In words where the structure of a value is another one than `tree`."""
    if value is None:
        return f"{name} is None (is a return missing?) instead of arrays"
    try:
        aligned(tree, value, lambda x: is_leaf(x) or isinstance(x, int), name)
    except TypeError as error:
        return str(error)
    return f"{name} differs in the kinds of its containers or in parts that are no arrays"


@dataclass(frozen=True)
class Carry:
    """The values that go from step to step. Python's numbers take the dtype that a step gives them,
    as in compiled code."""

    what: str
    tree: Tree
    types: list[ArrayType]

    @staticmethod
    def of(what: str, value: Any) -> tuple[Carry, Any]:
        """Its description, and its first value."""
        leaves, tree = values_of(value)
        plain = (Bindable, int, float)
        first = [
            x if isinstance(x, plain) and type(x) is not bool else _of_numpy(x) for x in leaves
        ]
        return Carry(what, tree, [type_of(as_operand(x)) for x in first]), unflatten(
            tree, iter(first)
        )

    def next(self, value: Any) -> Any:
        leaves = same_structure(self.what, self.tree, value)
        for number, leaf in enumerate(leaves):
            dtype = promoted(self.types[number], type_of(as_operand(leaf)))
            if dtype is not None:
                self.types[number] = ArrayType(dtype, ())
        numbered = enumerate(zip(self.types, leaves, strict=True))
        kept = [same_type(self.what, type, leaf, number) for number, (type, leaf) in numbered]
        return unflatten(self.tree, iter(kept))

    def last(self, value: Any) -> Any:
        """The value behind the loop: numbers are NumPy's."""
        leaves, tree = values_of(value)
        return unflatten(tree, iter([_of_numpy(leaf) for leaf in leaves]))


def _of_numpy(x: Any) -> Any:
    return x if isinstance(x, Bindable) else np.asarray(as_operand(x))[()]


def while_loop(
    cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any
) -> Any:
    carry, value = Carry.of("while_loop", init_val)
    while _holds(cond_fun(value)):
        value = carry.next(body_fun(value))
    return carry.last(value)


def _holds(condition: Any) -> bool:
    check_condition("while_loop", condition)
    return bool(condition)


def fori_loop(lower: int, upper: int, body_fun: Callable[[Any, Any], Any], init_val: Any) -> Any:
    carry, value = Carry.of("fori_loop", init_val)
    for i in range(lower, upper):
        value = carry.next(body_fun(i, value))
    return carry.last(value)


def scan(f: Any, init: Any, xs: Any, length: Any, reverse: bool) -> tuple[Any, Any]:
    carry, value = Carry.of("scan", init)
    leaves, tree = values_of(xs)
    count = _count(leaves, length)
    rows, y_tree = [], None
    for index in reversed(range(count)) if reverse else range(count):
        new, y = pair(f(value, unflatten(tree, iter([leaf[index] for leaf in leaves]))))
        value = carry.next(new)
        row, y_tree = values_of(y)
        rows.append(row)
    if reverse:
        rows.reverse()
    if y_tree is None:
        return value, _nothing(f, carry, leaves, tree)
    stacked = [PUBLIC["stack"](_alike(column)) for column in zip(*rows, strict=True)]
    return carry.last(value), unflatten(y_tree, iter(stacked))


def _alike(column: Sequence[Any]) -> list[Any]:
    """The results of all steps: a Python number is of the dtype of the others."""
    types = [type_of(as_operand(x)) for x in column]
    dtype = next((type.dtype for type in types if not type.weak), None)
    return [
        x if dtype is None or not type.weak else astype(x, dtype)
        for x, type in zip(column, types, strict=True)
    ]


def pair(result: Any) -> tuple[Any, Any]:
    """What the body of a scan returned."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise TraceError("scan: the body must return a pair (carry, y)")
    return result


def _count(leaves: list[Any], length: Any) -> int:
    if not leaves and length is None:
        raise TypeError("scan: give xs or length")
    shapes = [type_of(as_operand(leaf)).shape for leaf in leaves]
    if () in shapes:
        raise ShapeError("scan: every array of xs needs an axis to take items from; got a scalar")
    given = [] if length is None else [whole_number("scan: length", length)]
    if given and given[0] < 0:
        raise ValueError(f"scan: length is {length}, and must not be negative")
    counts = [shape[0] for shape in shapes] + given
    for count in counts[1:]:
        if count != counts[0]:
            raise ShapeError(
                f"scan: the arrays of xs have different lengths, {counts[0]} and {count}"
            )
    return int(counts[0])  # type: ignore[arg-type]


def _nothing(f: Any, carry: Carry, leaves: list[Any], tree: Tree) -> Any:
    """The ys of no items: arrays of no rows, the rest of whose types tracing the body tells."""
    trace = Trace("scan")
    with tracing(trace, Traced):
        rows = [ArrayType(x.dtype, x.shape[1:]) for x in (type_of(as_operand(x)) for x in leaves)]
        kinds = (*carry.types, *rows)
        given = iter([Traced(trace, trace.add_node(type, ""), "") for type in kinds])
        value = unflatten(carry.tree, given)
        ys, y_tree = values_of(pair(f(value, unflatten(tree, given)))[1])
        types = [type_of(as_operand(y)) for y in ys]
    return unflatten(y_tree, iter([np.zeros((0, *t.shape), t.dtype) for t in types]))  # type: ignore[arg-type]


def _shown(value: Any) -> str:
    return f"{value!r:.60} ({type(value).__name__})"
