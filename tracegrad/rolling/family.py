"""One body from many blocks: the steps at the same place of every block become one node.

    block t:  v = xs[t] * h(t - 1); h(t) = tanh(v)      ->      body(h, x): h' = tanh(x * h)

What a step reads in each of the blocks is a *family* of nodes. It is one of: a value of the same
block; one of the block before (a carry); the same value everywhere (captured from outside); places
of one array, constants, different arrays (an item of a stack). Anything else is a `Mismatch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.control.loop import INDEX
from tracegrad.ir.dims import same
from tracegrad.ir.graph import Node, substitute_attrs
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.ops.constant import CONSTANT, SIZE, Input
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.project import PROJECT
from tracegrad.ops.regions import Region
from tracegrad.ops.shape import COPY
from tracegrad.ops.slicing import PLACE, SLICE, UPDATE
from tracegrad.rolling.bodies import varied, with_constants
from tracegrad.rolling.kinds import Kinds
from tracegrad.rolling.moves import look, moved_by, place, write
from tracegrad.rolling.moving import Motion, motions
from tracegrad.rolling.program import Program
from tracegrad.rolling.repeats import Run
from tracegrad.rolling.stacks import Arrays, Constants, Places, Stack
from tracegrad.tracing.trace import Trace

Family = tuple[Node, ...]
LONGEST_LAG = 4
"""How many blocks back a value may come from."""
LARGEST_STACK = 1 << 22
"""Elements of a stack of overlapping slices; more are read inside the loop."""


class Mismatch(Exception):
    """The blocks are not isomorphic; those of `[first, stop)` may be."""

    def __init__(self, why: str, first: int = 0, stop: int = 0) -> None:
        super().__init__(why)
        self.why, self.first, self.stop = why, first, stop


@dataclass(eq=False)
class Carry:
    """A value that block t hands to block t + 1: that of a place in the block, or another carry."""

    node: Node
    init: Node | None
    """Before the first block; None if nothing reads it there."""
    source: int | Carry


@dataclass(frozen=True)
class Writes:
    """`base[..., t, ...] = value` in every block, and nothing looks at the array in between."""

    base: Node
    motion: Motion
    at: Any


class Merger:
    """Merges the blocks of one run; see `merge`."""

    def __init__(self, trace: Trace, program: Program, kinds: Kinds, run: Run, name: str) -> None:
        self.trace, self.program, self.kinds, self.run = trace, program, kinds, run
        self.child = trace.child(name)
        self.index = self.child.add_node(INDEX, "step")
        steps = program.steps[run.start : run.stop]
        self.blocks = [steps[at : at + run.period] for at in range(0, len(steps), run.period)]
        self.places = {
            node: (number, at)
            for number, block in enumerate(self.blocks)
            for at, node in enumerate(block)
        }
        self.values: list[Node | None] = []
        self.carries: dict[Any, Carry] = {}
        self.items: list[tuple[Node, Stack]] = []
        self.writes: dict[int, tuple[Writes, Node]] = {}
        self._known: dict[Family, Node] = {}
        self._stacks: dict[Any, Node] = {}

    def merge(self) -> None:
        """Make the body's nodes. Raises Mismatch."""
        for at in range(self.run.period):
            family = tuple([block[at] for block in self.blocks])
            self.values.append(self._step(at, family))

    @property
    def takes_results(self) -> bool:
        """Whether it reads the stacked results of another loop one by one."""
        return any(
            isinstance(stack, Places) and stack.base.op is PROJECT for _, stack in self.items
        )

    @property
    def copies(self) -> bool:
        """Whether different arrays have to be copied into a stack."""
        return any(isinstance(stack, Arrays) for _, stack in self.items)

    def is_outside(self, node: Node) -> bool:
        return self.program.base(node) not in self.places

    def _step(self, at: int, family: Family) -> Node | None:
        if family[-1].op is UPDATE and (written := self._written(at, family)) is not None:
            self.writes[at] = written
            return None
        return self._merged(family)

    def _operand(self, family: Family, reader: Node) -> Node:
        """What stands in the body for what `reader` and its like in the other blocks read."""
        found = self._known.get(family)
        if found is None:
            found = self._known[family] = self._found(family, reader)
        return found

    def _found(self, family: Family, reader: Node) -> Node:
        middle = self._middle(family)
        if all(node is middle for node in family):
            if not self.is_outside(middle):
                block = self.places[self.program.base(middle)][0]
                raise Mismatch(f"{self._called(middle)} is computed in one step only", block + 1)
            return self._captured(middle)
        if middle in self.places:
            return self._lagged(family, reader)
        if middle.op is CONSTANT:
            return self._constants(family)
        if middle in self.program.floating and middle.op is not SIZE:
            return self._merged(family)
        return self._arrays(family)

    def _middle(self, family: Family) -> Node:
        """The node of the middle block: that of a family which its ends may not belong to."""
        return family[self.run.count // 2]

    def _captured(self, node: Node) -> Node:
        """A value from outside; numbers, and arrays of one number, are written in the body."""
        number = node in self.program.floating and self.program.base(node).op in (CONSTANT, SIZE)
        if number and (node.op is not CONSTANT or not node.type.rank):
            operands = tuple(self._captured(operand) for operand in node.inputs)
            return self.child.builder.node(node.op, operands, node.attrs, "", node.source)
        if node not in self.child.captured:
            given = Node(Input(node.type), (), (), node.type)
            self.child.captured[node] = given
            self.child.names[given] = self.trace.names.get(node) or node.name
        return self.child.captured[node]

    def _lagged(self, family: Family, reader: Node) -> Node:
        """A value of the same block, or of one shortly before."""
        middle, half = self._middle(family), self.run.count // 2
        block, at = self.places[middle]
        lag = half - block
        if lag > LONGEST_LAG:
            first = block + 1 if family[half - 1] is middle else self.run.count
            raise Mismatch(f"a step reads {self._called(middle)} of {lag} steps before", first)
        blocks = range(lag, self.run.count)
        self._even(
            [t for t in blocks if self.places.get(family[t]) != (t - lag, at)],
            f"not every step reads {self._called(middle)} in the same way",
        )
        if not lag:
            value = self.values[at]
            assert value is not None
            return value
        if not all(self.is_outside(node) for node in family[:lag]):
            raise Mismatch("the first steps read other values than later ones", 1)
        for node in family[:lag]:
            self._check_start(node, self.blocks[-1][at].type, reader)
        return self._carried(at, family[:lag]).node

    def _check_start(self, node: Node, type: ArrayType, reader: Node) -> None:
        """Whether a carry of that type may start from the value of `node`."""
        given = node.type
        if isinstance(type, TupleType):
            raise Mismatch("a step uses several results of the step before")
        equal = self.kinds.shape(given) == self.kinds.shape(type)
        stretched = given.rank == 0 and isinstance(reader.op, Elementwise)
        number = given.weak and self.program.base(node).op is CONSTANT
        if equal:
            self._assume_equal(given, type)
        if not (equal or stretched) or not (given.dtype == type.dtype or (number and stretched)):
            raise Mismatch(f"{self._called(node)} starts as {given} and becomes {type}", 1)

    def _carried(self, at: int, inits: Sequence[Node | None]) -> Carry:
        key = (at, *inits)
        if key not in self.carries:
            source = self._carried(at, inits[1:]) if len(inits) > 1 else at
            like = self.blocks[-1][at]
            node = Node(Input(like.type), (), (), like.type)
            name = self.trace.names.get(like) or like.name
            self.child.names[node] = name or f"carry_{len(self.carries)}"
            self.carries[key] = Carry(node, inits[0], source)
        return self.carries[key]

    def value_after(self, at: int, before: int) -> Carry | None:
        """The carry that after the loop has the value of the place, `before` blocks ago."""
        for carry in self.carries.values():
            source: int | Carry = carry.source
            lag = 0
            while isinstance(source, Carry):
                source, lag = source.source, lag + 1
            if (source, lag) == (at, before):
                return carry
        return None

    def last_value(self, at: int) -> Carry:
        """A carry whose value after the loop is that of the place in the last block."""
        found = self.value_after(at, 0)
        if found is not None:
            return found
        if isinstance(self.blocks[-1][at].type, TupleType):
            raise Mismatch("several results of the last step are used together after the loop")
        return self._carried(at, (None,))

    def _item(self, key: Any, stack: Stack, type: ArrayType, like: Node) -> Node:
        if key not in self._stacks:
            node = Node(Input(type), (), (), type)
            self.child.names[node] = self.trace.names.get(like) or self._item_name(like)
            self._stacks[key] = node
            self.items.append((node, stack))
        return self._stacks[key]

    def _item_name(self, like: Node) -> str:
        base = self.program.base(like)
        name = self.trace.names.get(base) or base.name
        return f"{name}_t" if name and "%" not in name else f"item_{len(self.items)}"

    def _constants(self, family: Family) -> Node:
        last = self._middle(family)
        kind = self.kinds.type(last.type)
        self._even(
            [t for t, n in enumerate(family) if n.op is not CONSTANT or self._type(n) != kind],
            "a number of one step is something else in another",
        )
        values = np.stack([node.attributes["value"].array for node in family])
        return self._item(family, Constants(values), last.type, last)

    def _arrays(self, family: Family) -> Node:
        """Different arrays of one type: they are stacked."""
        middle = self._middle(family)
        kind = self.kinds.type(middle.type)
        if not self._is_given(middle):
            others = [t for t, node in enumerate(family) if node is not middle]
            self._even(others, f"{self._called(middle)} is another value in other steps")
        if isinstance(middle.type, TupleType):
            raise Mismatch("several results of an operation outside are used together")
        self._even(
            [t for t, n in enumerate(family) if not self._is_given(n) or self._type(n) != kind],
            f"{self._called(middle)} is another kind of value in other steps",
        )
        for node in family:
            self._assume_equal(node.type, middle.type)
        return self._item(family, Arrays(family), middle.type, middle)

    def _is_given(self, node: Node) -> bool:
        """Whether a value is an argument: results of other operations are not stacked."""
        while node.op is COPY:
            node = node.inputs[0]
        return node.op.name == "input"

    def _assume_equal(self, one: ArrayType, other: ArrayType) -> None:
        """Shapes that are equal in this call are so in this version: a guard, if need be."""
        for a, b in zip(one.shape, other.shape, strict=True):
            same(a, b)

    def _type(self, node: Node) -> Any:
        return self.kinds.type(node.type)

    def _even(self, bad: Sequence[int], why: str) -> None:
        """Raise Mismatch if there are bad blocks; the longest stretch of others may do."""
        if bad:
            borders = [-1, *bad, self.run.count]
            before, after = max(pairwise(borders), key=lambda pair: pair[1] - pair[0])
            raise Mismatch(why, before + 1, after)

    def _merged(self, family: Family) -> Node:
        """One node for nodes of the same op."""
        last = self._middle(family)
        arity = len(last.inputs)
        self._even(
            [t for t, n in enumerate(family) if n.op is not last.op or len(n.inputs) != arity],
            f"{self._called(last)} is computed by another operation in other steps",
        )
        if all(self.kinds.alike(node.attrs, last.attrs) for node in set(family)):
            return self._node(last, self._operands(family))
        if last.op is SLICE:
            return self._looking(family)
        if last.op is UPDATE or last.op is PLACE:
            return self._writing(family)
        return self._with_bodies(family)

    def _operands(self, family: Family) -> tuple[Node, ...]:
        last = self._middle(family)
        return tuple(
            self._operand(tuple([node.inputs[number] for node in family]), last)
            for number in range(len(last.inputs))
        )

    def _node(self, like: Node, operands: tuple[Node, ...], attrs: Any = None) -> Node:
        attrs = like.attrs if attrs is None else attrs
        node = self.child.builder.node(like.op, operands, attrs, "", like.source)
        return self._like(node, like)

    def _like(self, node: Node, like: Node) -> Node:
        """`node`, checked to be of the type of `like` and named as it is."""
        if self._type(node) != self._type(like):
            raise Mismatch(f"{self._called(like)} would be {node.type} instead of {like.type}")
        name = self.trace.names.get(like) or like.name
        if name:
            self.child.names.setdefault(node, name)
        if like in self.trace.cotangents:
            self.child.cotangents.setdefault(node, self.trace.cotangents[like])
        return node

    def _motions(self, family: Family) -> list[Motion]:
        found = motions([self._region(node) for node in family])
        if found is None:
            raise Mismatch(f"the slices of {self._called(family[-1])} change their length")
        return found

    def _region(self, node: Node) -> Region:
        """The region of a node, its sizes in terms of what is known by now."""
        known = self.trace.assumptions.known
        return dict(substitute_attrs(node.attrs, known))["at"] if known else node.attributes["at"]

    def _looking(self, family: Family) -> Node:
        """`x[t]`: an item of a stack, or an element at a computed place of what changes."""
        last, found = self._middle(family), self._motions(family)
        base = last.inputs[0]
        if all(node.inputs[0] is base for node in family) and self.is_outside(base):
            places = Places(base, last.attributes["at"], tuple(found))
            if places.possible and self._elements(last) * self.run.count <= LARGEST_STACK:
                return self._item((base, family), places, last.type, last)
        (x,) = self._operands(family)
        return self._like(look(self.child, x, last, [(m, self._at(m)) for m in found]), last)

    def _elements(self, node: Node) -> int:
        total = 1
        for size in self.kinds.shape(node.type):
            total *= size if isinstance(size, int) else 1
        return total

    def _at(self, motion: Motion) -> Node:
        """The position in block `step` as an integer of the body."""
        values = np.asarray(motion.offsets, np.int64)
        offset = self._item(("offsets", motion.offsets), Constants(values), INDEX, self.index)
        return moved_by(self.child, offset, motion.first)

    def _writing(self, family: Family) -> Node:
        last, found = self._middle(family), self._motions(family)
        operands = self._operands(family)
        if len(found) != 1:
            raise Mismatch(f"{self._called(last)} is written to at a place that moves twice")
        make = write if last.op is UPDATE else place
        made = make(self.child, operands, last, found[0], self._at(found[0]))
        if made is None:
            raise Mismatch(f"{self._called(last)} is written to in slices that move")
        return self._like(made, last)

    def _written(self, at: int, family: Family) -> tuple[Writes, Node] | None:
        """The writes of all blocks as one write after the loop, if nothing reads in between."""
        readers = self.program.readers
        for before, after in pairwise(family):
            if readers.get(before) != [after] or after.inputs[0] is not before:
                return None
        found = motions([self._region(node) for node in family])
        if not found or len(found) != 1 or found[0].span is not None or not found[0].stride:
            return None
        if not self.is_outside(family[0].inputs[0]):
            return None
        value = self._operand(tuple([node.inputs[1] for node in family]), family[-1])
        return Writes(family[0].inputs[0], found[0], family[-1].attributes["at"]), value

    def _with_bodies(self, family: Family) -> Node:
        """Loops and branches with equal bodies; loops' may differ in constants: more operands."""
        like = self._middle(family)
        found = varied(family)
        if found is None:
            raise Mismatch(f"{like.op.name} differs from step to step")
        attrs, constants = found
        operands = self._operands(family)
        if constants:
            extra = [self._constants(constant) for constant in constants]
            operands = with_constants(like, operands, extra)
        return self._node(like, operands, attrs)

    def _called(self, node: Node) -> str:
        name = self.trace.names.get(node) or node.name
        if name and "%" not in name:
            return name
        return f"`{node.source.text}`" if node.source else node.op.name
