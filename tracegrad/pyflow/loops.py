"""The loop over items or while a condition holds: its body traced, its variables carried.

    for i in tg.range(n):            loop(carry (s, out),
        s = s * x[i]         ->           body: s' = s * x[i], out' = out with s at i)
        out[i] = s

A number takes the dtype that the body gives it, `s = 0` with `s = s + x[i]`. A variable that
changes its type otherwise, or has no value before the loop, does so in the first step, which then
is done ahead of the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import field
from typing import Any

from codegen.records import dataclass
from tracegrad.autodiff.derived import as_traced
from tracegrad.control.body import Body, closed, node_in, trace_body, zeros
from tracegrad.control.loop import INDEX, Span, loop
from tracegrad.control.repeat import repeat
from tracegrad.errors import TraceError
from tracegrad.ir.graph import Node, reachable
from tracegrad.ir.types import ArrayType
from tracegrad.ops.shape import as_size
from tracegrad.pyflow.aliases import Passed, is_repeated, relate, rewritten, spoil_items
from tracegrad.pyflow.branches import cast, name_results
from tracegrad.pyflow.growth import Added, added, grow
from tracegrad.pyflow.items import Items
from tracegrad.pyflow.state import (
    MISSING,
    OWN,
    Part,
    Variable,
    collecting,
    containers,
    kept,
    labelled,
    lent,
    put_back,
    unified,
    written_arrays,
)
from tracegrad.tracing.array import Traced
from tracegrad.tracing.grown import Grown, Structure, parts, rebuilt, root_of
from tracegrad.tracing.outside import Guarded
from tracegrad.tracing.sharing import may_be, spoil, spoiling
from tracegrad.tracing.trace import Trace, current_trace, tracing
from tracegrad.tree import LEAF, Tree, unflatten


class Claimed(BaseException):
    """The body writes to an array from outside of it that was not carried: it is to be."""

    def __init__(self, root: Traced) -> None:
        super().__init__()
        self.root = root


class NoStep(Exception):
    """The loop is over nothing."""


class Unsettled(Exception):
    """The first step changes what a variable is; `error` is what to say if every step does."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


@dataclass
class Carry:
    """What passes from step to step, as it is before the first: a variable's structure, leaves."""

    row: Variable
    tree: Tree
    labels: list[str]
    values: list[Traced]
    types: list[ArrayType]
    given: list[Traced] = field(default_factory=list)
    """The leaves in the body that was traced last."""

    def stand_ins(self, trace: Trace) -> Any:
        """The variable in a body: its leaves are inputs."""
        self.given = [
            Traced(trace, trace.add_node(type, label), value.root._argument)
            for label, type, value in zip(self.labels, self.types, self.values, strict=True)
        ]
        for given, value in zip(self.given, self.values, strict=True):
            if root_of(value) is not None:
                may_be(given, [value.root])
        return unflatten(self.tree, iter(self.given))


@dataclass
class Step:
    """A traced body: its trace, and what the variables hold at its end."""

    trace: Trace
    values: list[Any]
    roots: list[list[Traced | None]]
    leaves: list[list[Node]]
    trees: list[Tree]
    arrays: list[Node]
    added: list[Added]
    """What it appends to lists."""
    spoilt: list[Traced]
    """The arrays from outside of it that are not to be read behind it."""
    passed: list[Passed] = field(default_factory=list)


class Looped:
    """One loop that is being recorded."""

    def __init__(
        self,
        body: Part,
        rows: Sequence[Variable],
        changed: Sequence[Any],
        go: Callable[[], Any] | None = None,
        lists: Sequence[Variable] = (),
    ) -> None:
        trace = current_trace()
        assert trace is not None
        self.trace: Trace = trace
        self.held = containers((body,), changed)
        names = {row.name for row in self.held}
        self.body, self.go, self.lists = body, go, lists
        self.lent: list[Node] = []
        """What the arrays that it writes to are at the head of the step that was traced last."""
        self.gone: list[Traced] = []
        """Arrays that a step may find changed by the one before, in another's name."""
        self.rows = [*(row for row in rows if row.name not in names), *self.held]
        self.roots = written_arrays(trace, (body,), rows, changed)

    def run_while(self) -> None:
        """While the condition holds, known to be open."""
        try:
            carries, step = self._settled(None)
        except Unsettled as unsettled:
            raise unsettled.error from None
        self._finish(carries, step, self._record_while(carries, step, None), None)

    def run_over(self, items: Items) -> None:
        """For all items, or until the condition does not hold."""
        ahead = False
        while True:
            if isinstance(items.length, int) and items.length <= 0:
                return
            try:
                carries, step = self._settled(items)
                break
            except NoStep:
                return
            except Unsettled as unsettled:
                if ahead or not items.counted:
                    raise unsettled.error from None
            if items.is_empty():
                return
            self.body(items.at(0))
            ahead, items = True, items.after_first()
        if self.go is None:
            results = self._record_counted(carries, step, items.span(self.trace))
        else:
            results = self._record_while(carries, step, items)
        self._finish(carries, step, results, items.never_empty)

    def _settled(self, items: Items | None) -> tuple[list[Carry], Step]:
        """The carries with types that the body keeps, and the body traced with these."""
        carries = self._carries()
        for _ in range(8):
            try:
                step = self._traced(items, carries)
            except Claimed as claimed:
                self.roots.append(claimed.root)
                carries = self._carries()
                continue
            except NameError as error:
                if not any(row.value is MISSING and row.name in str(error) for row in self.rows):
                    raise
                raise Unsettled(error) from None
            if self._give_born(step, items):
                carries = self._carries()
            elif not self._widen(carries, step) and not self._spoils(carries, step):
                return carries, step
        raise TraceError("the variables of this loop do not settle: their types keep changing")

    def _carries(self) -> list[Carry]:
        found = []
        for row in self.rows:
            value = row.value
            if value is MISSING or (not row.plain and self._is_written(value)):
                continue
            pairs, tree = labelled(row.name, value)
            values = [as_traced(self.trace, leaf) for _, leaf in pairs]
            types = [_definite(x.type) for x in values]
            found.append(Carry(row, tree, [label for label, _ in pairs], values, types))
        return found

    def _is_written(self, value: Any) -> bool:
        """Whether it is one of the arrays that are carried as such."""
        return isinstance(value, Traced) and any(value.root is root for root in self.roots)

    def _traced(self, items: Items | None, carries: Sequence[Carry]) -> Step:
        child = self.trace.child("loop")
        below = as_size(items.length) if items is not None and items.counted else None
        with (
            Guarded(),
            tracing(child, Traced),
            kept(self.rows),
            ExitStack() as stack,
            collecting(self.lists) as grown,
        ):
            index = None if items is None else Traced(child, child.add_node(INDEX, "step", below))
            self._enter(child, carries, stack)
            spoilt = stack.enter_context(spoiling())
            for array in self.gone:
                spoil(array)
            if items is None:
                self.body()
            else:
                self.body(items.at(index))
            values = [row.value for row in self.rows]
            pairs = [labelled(r.name, v) for r, v in zip(self.rows, values, strict=True)]
            roots = [[root_of(leaf) for _, leaf in found] for found, _ in pairs]
            leaves = [[node_in(child, leaf) for _, leaf in found] for found, _ in pairs]
            trees = [tree for _, tree in pairs]
            new = [added(child, *pair) for pair in zip(self.lists, grown, strict=True)]
            arrays = [root._node for root in self.roots]
            return Step(child, values, roots, leaves, trees, arrays, new, spoilt)

    def _enter(self, child: Trace, carries: Sequence[Carry], stack: ExitStack) -> None:
        """Stand-ins for the variables and the arrays that the body writes to."""
        for carry in carries:
            carry.row.value = carry.stand_ins(child)
        nodes = self.lent = [
            child.add_node(root.node.type, self.trace.names.get(root.node, "array"))
            for root in self.roots
        ]
        stack.enter_context(lent(self.roots, child, nodes))
        child.written = _claim

    def _give_born(self, step: Step, items: Items | None) -> bool:
        """Values for variables that the body sets first and that are needed behind the loop."""
        born = [
            (row, leaves, tree)
            for row, value, leaves, tree in zip(
                self.rows, step.values, step.leaves, step.trees, strict=True
            )
            if row.value is MISSING and value is not MISSING and row.behind
        ]
        for row, leaves, tree in born:
            if row.name.startswith(OWN):
                pass
            elif items is not None and items.is_empty():
                raise NoStep
            elif items is None or not items.counted:
                raise TraceError(
                    f"line {row.line}: {row.name} is first set in a loop that may take no step, "
                    "and used behind it: give it a value before the loop"
                )
            nothing = [zeros_of(node.type) for node in leaves]
            row.value = unflatten(tree, iter(nothing))
        return bool(born)

    def _widen(self, carries: Sequence[Carry], step: Step) -> bool:
        """Give numbers the types that the body makes of them; whether any changed."""
        changed = False
        place = {id(row): number for number, row in enumerate(self.rows)}
        for carry in carries:
            number = place[id(carry.row)]
            if step.values[number] is MISSING or step.trees[number] != carry.tree:
                after = step.values[number]
                raise Unsettled(_changes(carry.row, carry.row.value, after))
            for k, node in enumerate(step.leaves[number]):
                type = settled(carry.types[k], _definite(node.type))
                if type is None:
                    a, b = (str(t.in_figures()) for t in (carry.types[k], node.type))
                    raise Unsettled(_changes(carry.row, a, b))
                changed |= type != carry.types[k]
                carry.types[k] = type
        return changed

    def _spoils(self, carries: Sequence[Carry], step: Step) -> bool:
        """Whether a step spoils more arrays that it reads, so that the next one must not."""
        step.passed = self._passed(carries, step)
        step.spoilt += rewritten(step.passed, step.trace)
        read = {*step.trace.captured, *self._lent_and_read(step)}
        found = [x for x in step.spoilt if x._node in read and not any(x is y for y in self.gone)]
        self.gone += found
        return bool(found)

    def _lent_and_read(self, step: Step) -> list[Node]:
        """Of the arrays that a step writes to, those outside whose values before it reads."""
        if not any(x is root for x in step.spoilt for root in self.roots):
            return []
        ends = [node for nodes in step.leaves for node in nodes]
        ends += [node for items in step.added for node in items.nodes]
        read = {x for node in reachable((*ends, *step.arrays)) for x in node.inputs}.union(ends)
        pairs = zip(self.roots, self.lent, strict=True)
        return [root._node for root, node in pairs if node in read]

    def _passed(self, carries: Sequence[Carry], step: Step) -> list[Passed]:
        """The arrays among the variables."""
        place = {id(row): number for number, row in enumerate(self.rows)}
        found: list[Passed] = []
        at = 0
        for carry in carries:
            ends = zip(carry.given, step.roots[place[id(carry.row)]], strict=True)
            for label, before, (given, after) in zip(carry.labels, carry.values, ends, strict=True):
                root = root_of(before)
                if root is not None:
                    found.append(Passed(label, carry.row.line, at, root, given, after))
                at += 1
        return found

    def _outputs(self, carries: Sequence[Carry], step: Step) -> list[Node]:
        place = {id(row): number for number, row in enumerate(self.rows)}
        found = [
            cast(step.trace, node, type)
            for carry in carries
            for node, type in zip(step.leaves[place[id(carry.row)]], carry.types, strict=True)
        ]
        return [*found, *step.arrays]

    def _initial(self, carries: Sequence[Carry]) -> list[Traced]:
        nodes = [
            cast(self.trace, node_in(self.trace, value), type)
            for carry in carries
            for value, type in zip(carry.values, carry.types, strict=True)
        ]
        nodes += [node_in(self.trace, root) for root in self.roots]
        return [Traced(self.trace, node) for node in nodes]

    def _record_counted(self, carries: Sequence[Carry], step: Step, span: Span) -> list[Traced]:
        outputs = self._outputs(carries, step)
        new = [node for items in step.added for node in items.nodes]
        body, initial = closed(step.trace, [*outputs, *new], LEAF), self._initial(carries)
        return loop(body, initial, [], span)

    def _record_while(
        self, carries: Sequence[Carry], step: Step, items: Items | None
    ) -> list[Traced]:
        """A loop with a condition; over items it counts them in a carry of its own."""
        outputs, initial = self._outputs(carries, step), self._initial(carries)
        if items is not None:
            index = step.trace.inputs[0]
            with tracing(step.trace, Traced):
                step.trace.finished = False
                outputs.insert(0, node_in(step.trace, Traced(step.trace, index) + 1))
            initial.insert(0, as_traced(self.trace, INDEX.dtype.type(0)))
        body = closed(step.trace, outputs, LEAF)
        condition = self._condition(carries, items)
        results = repeat(self.trace, condition, body, initial)[:-1]
        return results if items is None else results[1:]

    def _condition(self, carries: Sequence[Carry], items: Items | None) -> Body:
        child = self.trace.child("condition")
        with Guarded(), tracing(child, Traced), kept(self.rows), ExitStack() as stack:
            index = None if items is None else Traced(child, child.add_node(INDEX, "step"))
            self._enter(child, carries, stack)
            go: Any = True if self.go is None else self.go()
            if items is not None:
                more = index < items.length  # type: ignore[operator]
                go = more if go is True else more & go
            node = node_in(child, go)
        draws = (
            "the condition of a while loop draws random numbers, and would once more than the body"
        )
        return closed(child, [node], LEAF, draws)

    def _finish(
        self,
        carries: Sequence[Carry],
        step: Step,
        results: Sequence[Traced],
        never_empty: Callable[[], bool] | None,
    ) -> None:
        """Variables, arrays and lists as they are behind the loop."""
        labels = [label for carry in carries for label in carry.labels]
        count = len(labels)
        labels += [self.trace.names.get(root.node, "") for root in self.roots]
        name_results(self.trace, results[: len(labels)], labels)
        for root, result in zip(self.roots, results[count:], strict=False):
            root.write(result)
        for array in step.spoilt:
            spoil(array)
        relate(step.passed, results, never_empty)
        rest = iter(results[:count])
        for carry in carries:
            after = unflatten(carry.tree, rest)
            if carry.row in self.held:
                put_back(carry.row, carry.row.value, after)
            elif carry.labels:
                carry.row.value = after
            carry.values = []
        self._grow(step, iter(results[len(labels) :]))

    def _grow(self, step: Step, rest: Iterator[Traced]) -> None:
        """The lists behind the loop."""
        for row, items in zip(self.lists, step.added, strict=True):
            if items.nodes:
                new = [next(rest) for _ in items.nodes]
                again = [
                    x is not None and is_repeated(x, step.passed, step.trace) for x in items.roots
                ]
                stacked = items.of_all_steps(new, again)
                grow(row, stacked)
                spoil_items(items, new, step.passed)


def listed_items(items: Items, item: Callable[[Any], Any]) -> Any:
    """The list of `item(i)` for the items, which one loop makes."""
    trace = current_trace()
    assert trace is not None
    below = as_size(items.length) if items.counted else None
    structure: list[Structure] = []

    def run(given: list[Traced]) -> Any:
        leaves, found = parts(item(items.at(given[0])))
        structure[:] = [found]
        return [Traced(given[0]._trace, node_in(given[0]._trace, leaf)) for leaf in leaves]

    body = trace_body(trace, "listed", [("step", INDEX)], run, below=below)
    found = loop(body, [], [], items.span(trace))
    return Grown(rebuilt(structure[0], iter(found)))


def _claim(root: Traced) -> None:
    raise Claimed(root)


def zeros_of(type: ArrayType) -> Traced:
    """Zeros of any type in the current trace."""
    trace = current_trace()
    assert trace is not None
    return Traced(trace, cast(trace, zeros(type).node, type))


def _definite(type: ArrayType) -> ArrayType:
    """Truth values are no numbers: True is of type bool and of no other."""
    return ArrayType(type.dtype, type.shape) if type.dtype == bool else type


def settled(before: ArrayType, after: ArrayType) -> ArrayType | None:
    """The type that a carry is to have; None if it changes."""
    if before.weak:
        return unified(before, after)
    same = unified(before, after)
    return before if same is not None and same.dtype == before.dtype else None


def _changes(row: Variable, before: Any, after: Any) -> TraceError:
    a, b = (x if isinstance(x, str) else _kind(x) for x in (before, after))
    return TraceError(
        f"line {row.line}: {row.name} changes from {a} to {b} in a loop on traced values, where "
        "every step must keep structure, shape and dtype; give it what the body makes of it "
        "before the loop, or cast it with .astype"
    )


def _kind(value: Any) -> str:
    if isinstance(value, Traced):
        return str(value._node.type.in_figures())
    return repr(value) if value is None else type(value).__name__
