"""The branch on a traced condition: both sides are traced, what they set becomes results.

    if x > 0: y = x            ->      y = branch(x > 0, body: x, body: -x)
    else: y = -x

A variable that is the same on both sides stays as it is; arrays that a side writes in place become
results too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.control.body import closed, node_in
from tracegrad.control.branch import branch
from tracegrad.control.checks import record_check
from tracegrad.errors import TraceError
from tracegrad.ir.graph import Literal, Node
from tracegrad.ir.types import ArrayType
from tracegrad.ops.constant import ASTYPE, CONSTANT
from tracegrad.ops.op import PUBLIC
from tracegrad.ops.reduction import BROADCAST_TO
from tracegrad.pyflow.state import (
    MISSING,
    OWN,
    Part,
    Variable,
    copied,
    kept,
    labelled,
    put_back,
    same_static,
    unified,
)
from tracegrad.tracing.array import Traced
from tracegrad.tracing.outside import Guarded
from tracegrad.tracing.sharing import may_be, spoil, spoiling
from tracegrad.tracing.trace import Trace, current_trace, tracing
from tracegrad.tree import LEAF, Tree, unflatten


class Raised(BaseException):
    """A side of a branch raises this exception."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@dataclass
class Side:
    """One side of a branch, traced: its values, their nodes, and the arrays that it wrote."""

    trace: Trace
    values: list[Any]
    leaves: list[list[tuple[str, Node]]]
    trees: list[Tree]
    written: dict[Traced, Node]
    objects: list[list[Any]]
    spoilt: list[Traced]

    def array(self, root: Traced) -> Node:
        """An array from outside at the end of this side."""
        return self.written.get(root) or self.trace.capture(root._trace, root.node)


def choose_between(
    test: Traced,
    then: Part,
    otherwise: Part,
    variables: Sequence[Variable],
    held: Sequence[Variable],
) -> None:
    """Give the variables what the side sets that `test` chooses; `held` are the containers that
    the sides change.
    """
    rows, sides = [*variables, *held], []
    parts = [(then, otherwise, False), (otherwise, then, True)]
    for run, other, raises in parts:
        try:
            with kept(rows):
                for row in held:
                    row.value = copied(row.value)
                values = lambda: [row.value for row in rows]  # noqa: E731
                sides.append(_side(run, values, [row.name for row in rows]))
        except Raised as raised:
            good = test if raises else PUBLIC["logical_not"](test)
            record_check(good, raised.error)
            other()
            return
    needed = [row.behind for row in rows]
    values = _joined(test, sides, rows, needed)
    for row, value in zip(variables, values, strict=False):
        if row.behind:
            row.value = value
    for row, value in zip(held, values[len(variables) :], strict=True):
        put_back(row, row.value, value)


def chosen_value(test: Traced, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """`then()` or `otherwise()`, as `test` chooses."""
    values: list[Any] = []
    sides = [
        _side(lambda run=run: values.append(run()), lambda: [values.pop()], [""])
        for run in (then, otherwise)
    ]
    return _joined(test, sides, [None], [True])[0]


def _side(run: Callable[[], Any], read: Callable[[], list[Any]], names: list[str]) -> Side:
    outer = current_trace()
    assert outer is not None
    trace = outer.child("branch")
    trace.is_side = True
    before: dict[Traced, tuple[Trace, Node]] = {}

    def written(root: Traced) -> None:
        node = trace.capture(root._trace, root._node)
        before[root] = root.lend(trace, node)

    trace.written = written
    with Guarded(), tracing(trace, Traced):
        try:
            with spoiling() as spoilt:
                run()
                values = read()
                pairs = [labelled(name, value) for name, value in zip(names, values, strict=True)]
                leaves = [[(label, node_in(trace, x)) for label, x in found] for found, _ in pairs]
                objects = [[x for _, x in found] for found, _ in pairs]
            trees = [tree for _, tree in pairs]
            arrays = {root: root._node for root in before}
            return Side(trace, values, leaves, trees, arrays, objects, spoilt)
        finally:
            for root, (owner, node) in before.items():
                root.lend(owner, node)


def _joined(
    test: Traced, sides: Sequence[Side], rows: Sequence[Variable | None], needed: Sequence[bool]
) -> list[Any]:
    trace = current_trace()
    assert trace is not None
    first, second = sides
    outputs: tuple[list[Node], list[Node]] = ([], [])
    labels: list[str] = []
    values: list[Any] = []
    places: list[tuple[int, Tree]] = []
    for number, row in enumerate(rows):
        a, b = first.values[number], second.values[number]
        values.append(a)
        if not needed[number] or same_static(a, b):
            continue
        if a is MISSING or b is MISSING:
            if row is None or not row.name.startswith(OWN):
                raise _missing(row)
            _fill(sides, number)
        places.append((number, _matched(sides, number, row)))
        pairs = zip(first.leaves[number], second.leaves[number], strict=True)
        for (label, x), (_, y) in pairs:
            type = unified(x.type, y.type)
            if type is None:
                raise _different(row, str(x.type.in_figures()), str(y.type.in_figures()))
            outputs[0].append(cast(first.trace, x, type))
            outputs[1].append(cast(second.trace, y, type))
            labels.append(label)
    roots = list(dict.fromkeys((*first.written, *second.written)))
    for root in roots:
        outputs[0].append(first.array(root))
        outputs[1].append(second.array(root))
        labels.append(trace.names.get(root._node, ""))
    if not labels:
        return values
    bodies = [closed(side.trace, found, LEAF) for side, found in zip(sides, outputs, strict=True)]
    index = node_in(trace, test)
    results = branch(trace, index, bodies)
    name_results(trace, results, labels)
    count = len(results) - len(roots)
    for root, result in zip(roots, results[count:], strict=True):
        root.write(result)
    for array in (*first.spoilt, *second.spoilt):
        spoil(array)
    rest = iter(results)
    for number, tree in places:
        values[number] = unflatten(tree, rest)
    chosen = [[x for number, _ in places for x in side.objects[number]] for side in sides]
    for result, a, b in zip(results, *chosen, strict=False):
        if result.type.rank:
            may_be(result, [x.root for x in (a, b) if isinstance(x, Traced)])
    return values


def name_results(trace: Trace, results: Sequence[Traced], labels: Sequence[str]) -> None:
    """Results go by the names of the variables that they are given to."""
    for result, label in zip(results, labels, strict=True):
        if label and not label.startswith(OWN):
            trace.names.setdefault(result.node, label)


def cast(trace: Trace, node: Node, type: ArrayType) -> Node:
    """A value of a body in the type that it has outside."""
    if node.type == type:
        return node
    if node.op is CONSTANT:
        value = Literal.of(node.attributes["value"].array.astype(type.dtype))
        weak = (("weak", True),) if type.weak else ()
        return trace.builder.node(CONSTANT, (), (("value", value), *weak))
    return trace.builder.node(ASTYPE, (node,), (("dtype", type.dtype),))


def zero(trace: Trace, type: ArrayType) -> Node:
    """Zeros of a type in a body."""
    number = trace.builder.node(CONSTANT, (), (("value", Literal.of(np.zeros((), type.dtype))),))
    if not type.rank:
        return number
    return trace.builder.node(BROADCAST_TO, (number,), (("shape", type.shape),))


def _fill(sides: Sequence[Side], number: int) -> None:
    """A variable of the rewriting that one side does not set is not read where it is not set."""
    empty, full = sides if sides[0].values[number] is MISSING else reversed(sides)
    empty.trees[number] = full.trees[number]
    empty.objects[number] = [None] * len(full.objects[number])
    empty.leaves[number] = [
        (label, zero(empty.trace, node.type)) for label, node in full.leaves[number]
    ]


def _matched(sides: Sequence[Side], number: int, row: Variable | None) -> Tree:
    first, second = (side.trees[number] for side in sides)
    if first != second:
        a, b = (_described(side, number) for side in sides)
        raise _different(row, a, b)
    return first


def _described(side: Side, number: int) -> str:
    value = side.values[number]
    if isinstance(value, Traced):
        return str(value._node.type.in_figures())
    return repr(value) if value is None or isinstance(value, str) else type(value).__name__


def _missing(row: Variable | None) -> TraceError:
    assert row is not None
    return TraceError(
        f"line {row.line}: {row.name} gets a value on one side of an if on a traced value, and has "
        "none on the other: give it a value before the if"
    )


def _different(row: Variable | None, a: str, b: str) -> TraceError:
    if row is None:
        return TraceError(f"a choice on a traced value between {a} and {b}: make them of one type")
    if row.name.startswith(OWN):
        return TraceError(
            f"line {row.line}: the function returns {a} or {b}, depending on a traced value: make "
            "the results of one structure, shape and dtype"
        )
    return TraceError(
        f"line {row.line}: {row.name} is {a} on one side of an if on a traced value, and {b} on "
        "the other: make them of one structure, shape and dtype"
    )
