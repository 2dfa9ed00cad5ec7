"""Arrays that a loop writes into, in reverse: what a write overwrote is put back.

    forward:   r[t] = c[i];  c[i] = v          backward:   ... reads of c as it was after the write
                                                           c[i] = r[t]
                                                           ... reads of c as it was before it

A body that takes the array `c` and returns it with some elements written makes a *chain* of
versions, `c0 -> c1 -> ... -> cn`. The backward of a step begins with `cn` (the next step's
backward has left it so, the last step's is the result of the loop), and unwinds the chain: it
stacks what each write overwrites, never the array. A loop inside of the step is unwound by its own
backward, or by what it may write to: `for j: c[i, j] = ...` writes to row `i`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from codegen.records import dataclass
from tracegrad.ir.dims import symbols
from tracegrad.ir.graph import Builder, Graph, Node, adopted, attr_sizes, next_serial
from tracegrad.ir.types import ArrayType
from tracegrad.ops.bounds import CHECKED
from tracegrad.ops.constant import CONSTANT, SIZE, Input
from tracegrad.ops.gathering import GATHER, INDEX_ADD, SCATTER_SET
from tracegrad.ops.project import PROJECT
from tracegrad.ops.slicing import ADD_AT, SLICE, UPDATE


@dataclass(frozen=True)
class Write:
    """One link of a chain, and how it is unwound: with what it overwrote (`old`), or by the
    backward of the loop that made it, one of whose results is `restored`."""

    maker: Node
    before: Node
    after: Node
    old: Node | None = None
    again: bool = False
    """Whether the backward runs the loop again, because its residuals cannot be stacked."""
    restored: Node | None = None

    @property
    def places(self) -> tuple[Node, ...]:
        """The index arrays that say where it writes."""
        return () if self.old is None else self.old.inputs[1:]

    def put_back(self, array: Node) -> Node:
        """`array` with what was overwritten."""
        old = self.old
        assert old is not None
        op, attrs = UPDATE, old.attrs
        if old.op is not SLICE:
            op, attrs = SCATTER_SET, (("axes", old.attributes["axes"]), ("unique", False))
            if all(not place.type.rank for place in self.places):
                attrs = (*attrs[:1], ("unique", True))
        return Node(op, (array, old, *self.places), attrs, array.type, self.before.name)


@dataclass(frozen=True)
class Chain:
    """The versions of one carry within a step."""

    number: int
    writes: tuple[Write, ...]
    final: Node
    """An input of the backward: the array as the step has left it."""

    @property
    def versions(self) -> tuple[Node, ...]:
        return (self.writes[0].before, *(write.after for write in self.writes))


@dataclass(frozen=True)
class Undo:
    """The chains of a step that its backward unwinds."""

    chains: tuple[Chain, ...] = ()
    stay: frozenset[Node] = frozenset()
    """Values read from the versions that have to be kept all the same."""

    @property
    def writes(self) -> list[Write]:
        return [write for chain in self.chains for write in chain.writes]

    @property
    def versions(self) -> set[Node]:
        return {version for chain in self.chains for version in chain.versions}

    @property
    def finals(self) -> tuple[Node, ...]:
        return tuple(chain.final for chain in self.chains)

    @property
    def restored(self) -> list[Node]:
        """What the backwards of inner loops end with."""
        return [write.restored for write in self.writes if write.restored is not None]

    @property
    def needs(self) -> list[Node]:
        """What the backward must have to unwind the chains."""
        olds = [write.old for write in self.writes if write.old is not None]
        places = [place for write in self.writes for place in write.places]
        return [*dict.fromkeys((*olds, *places))]

    def only(self, used: Iterable[Node]) -> Undo:
        """The chains of which a version is among the `used`."""
        used = set(used)
        chains = tuple(c for c in self.chains if not used.isdisjoint(c.versions))
        return replace(self, chains=chains)

    def kept(self, joint: Graph) -> set[Node]:
        """What cannot be computed again: needs that are read from the versions, and what stays."""
        behind = self.versions
        for node in replace(joint, outputs=(*joint.outputs, *self.needs)).nodes:
            if any(operand in behind for operand in node.inputs):
                behind.add(node)
        return behind.intersection(self.needs) | self.stay


NOTHING = Undo()


Ends = Mapping[tuple[Node, Node], Node]
"""For a value that a loop starts from, and the one that it makes of it: what its backward ends
with, which is the first again."""


def found_undo(joint: Graph, carries: int, restored: Ends, ragged: set[Node]) -> tuple[Graph, Undo]:
    """The joint graph of a body (its index, then so many carries) with what its writes overwrite,
    and the chains. `ragged`: what differs in size from step to step."""
    finder = _Finder(joint, restored, ragged)
    found: dict[int, list[Write]] = {}
    for number in range(carries):
        writes = finder.chain(joint.inputs[1 + number], joint.outputs[number])
        if writes:
            found[number] = writes
    if not found:
        return joint, NOTHING
    joint, new = _with_olds(joint, [write for writes in found.values() for write in writes])
    chains = []
    for number, writes in found.items():
        moved = tuple(_moved(write, new) for write in writes)
        type = moved[0].before.type
        final = Node(Input(type), (), (), type, moved[0].before.name)
        chains.append(Chain(number, moved, final))
    return joint, Undo(tuple(chains))


@dataclass(frozen=True)
class _Finder:
    joint: Graph
    restored: Ends
    ragged: set[Node]

    def chain(self, carry: Node, output: Node) -> list[Write] | None:
        """The writes that make the output of the carry; None if it is made in another way."""
        if not isinstance(carry.type, ArrayType) or not carry.type.rank:
            return None
        writes: list[Write] = []
        while output is not carry:
            write = self._write(output)
            if write is None:
                return None
            writes.append(write)
            output = write.before
        return writes[::-1]

    def _write(self, node: Node) -> Write | None:
        if node.op in (SCATTER_SET, INDEX_ADD):
            base, _, *places = node.inputs
            old = _gather(base, dict(zip(node.attributes["axes"], places, strict=True)))
        elif node.op in (UPDATE, ADD_AT):
            base, at = node.inputs[0], (("at", node.attributes["at"]),)
            old = Node(SLICE, (base,), at, SLICE.infer(base.type, **dict(at)))
        else:
            return self._by_loop(node)
        return None if self._is_ragged(old) else Write(node, base, node, old)

    def _is_ragged(self, node: Node) -> bool:
        names = {name for x in self.ragged for name in _symbols(x)} if self.ragged else set()
        return bool(names & set(_symbols(node)))

    def _by_loop(self, node: Node) -> Write | None:
        if node.op is not PROJECT or node.inputs[0].op.name != "loop":
            return None
        (loop,), number = node.inputs, node.attributes["index"]
        if number >= loop.attributes["carries"]:
            return None
        before, again = loop.inputs[number], loop in self.ragged
        restored = self.restored.get((before, node))
        if restored is not None and not again:
            return Write(loop, before, node, restored=restored)
        places = _footprint(adopted(self.joint.nodes), set(self.joint.nodes), loop, number)
        if not places:
            return None
        return Write(loop, before, node, _gather(before, places), again, restored)


def _symbols(node: Node) -> Iterator[str]:
    shape = node.type.shape if isinstance(node.type, ArrayType) else ()
    for size in (*shape, *attr_sizes(node.attrs)):
        yield from symbols(size)


def _gather(base: Node, places: Mapping[int, Node]) -> Node:
    """What stands at these places, by axis."""
    axes = tuple(sorted(places))
    operands = (base, *(places[axis] for axis in axes))
    type = GATHER.infer(*(x.type for x in operands), axes=axes)
    return Node(GATHER, operands, (("axes", axes),), type)


def _footprint(
    builder: Builder, known: set[Node], loop: Node, number: int
) -> dict[int, Node] | None:
    """The axes along which a loop writes into a carry at one position only, the same in all steps,
    and that position; None if it does other things with it, or writes everywhere.

    `known` are the nodes around the loop: a check of bounds must be one of them, since the loop
    may have no steps.
    """
    attrs = loop.attributes
    body: Graph = attrs["body"]
    first = attrs["carries"] + attrs["stacks"]
    given = dict(zip(body.inputs[1 + first :], loop.inputs[first:], strict=False))
    node, carry = body.outputs[number], body.inputs[1 + number]
    found: dict[int, Node] | None = None
    while node is not carry:
        if node.op in (SCATTER_SET, INDEX_ADD):
            base, _, *indices = node.inputs
            places = dict(zip(node.attributes["axes"], indices, strict=True))
        elif node.op is PROJECT and node.inputs[0].op.name == "loop":
            (inner,), index = node.inputs, node.attributes["index"]
            if index >= inner.attributes["carries"]:
                return None
            own = set(body.nodes)
            places = _footprint(adopted(body.nodes), own, inner, index) or {}
            base = inner.inputs[index]
        else:
            return None
        outside = {axis: _outside(builder, known, x, given) for axis, x in places.items()}
        found = {
            axis: x
            for axis, x in outside.items()
            if x is not None and not x.type.rank and (found is None or found.get(axis) is x)
        }
        if not found:
            return None
        node = base
    return found


def _outside(
    builder: Builder, known: set[Node], node: Node, given: Mapping[Node, Node]
) -> Node | None:
    """What a number of a body is around the loop, if it is computed of what comes from there."""
    if node in given:
        return given[node]
    plain = node.op in (CONSTANT, SIZE) or (node.inputs and node.op.has("element"))
    if node.type.rank or not plain:
        return None
    operands = [_outside(builder, known, operand, given) for operand in node.inputs]
    if any(operand is None for operand in operands):
        return None
    made = builder.node(node.op, tuple(x for x in operands if x), node.attrs, node.name)
    return made if node.op is not CHECKED or made in known else None


def _with_olds(joint: Graph, writes: Sequence[Write]) -> tuple[Graph, dict[Node, Node]]:
    """The joint graph with what each write overwrites read before it, and its nodes by the old
    ones."""
    new: dict[Node, Node] = {node: node for node in joint.inputs}
    same: dict[tuple, Node] = {}

    def enter(node: Node) -> None:
        for operand in node.inputs:
            if operand not in new:
                enter(operand)  # a number of a few operations, made outside of its loop
        inputs = tuple(new[operand] for operand in node.inputs)
        key = (node.op, inputs, node.attrs)
        if key not in same:
            same[key] = replace(node, inputs=inputs, serial=next_serial())
        new[node] = same[key]

    before: dict[Node, list[Node]] = {}
    for write in writes:
        before.setdefault(write.maker, []).extend(x for x in (write.old,) if x is not None)
    for node in joint.nodes[len(joint.inputs) :]:
        for old in before.get(node, ()):
            enter(old)
        enter(node)
    for write in writes:
        if write.restored is not None and write.restored not in new:
            enter(write.restored)
    outputs = tuple(new[node] for node in joint.outputs)
    bounds = tuple(new[node] for node in joint.bounds if node in new)
    return replace(joint, outputs=outputs, bounds=bounds), new


def _moved(write: Write, new: Mapping[Node, Node]) -> Write:
    return replace(
        write,
        maker=new[write.maker],
        before=new[write.before],
        after=new[write.after],
        old=None if write.old is None else new[write.old],
        restored=None if write.restored is None else new[write.restored],
    )


class Circular(Exception):
    """A value of a version is needed to unwind the array to that version: it has to be kept."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes = frozenset(nodes)


class Unwinding:
    """The backward graph of a step, built so that every version is read before it is overwritten:
    the chains can then live in one array each."""

    def __init__(
        self,
        joint: Graph,
        undo: Undo,
        given: Sequence[Node],
        kept: Sequence[Node],
        behind: set[Node],
    ) -> None:
        """`given` are the cotangents, `behind` is what depends on them."""
        self.joint, self.undo, self.behind = joint, undo, behind
        self.inputs = {
            node: replace(node, op=Input(node.type), inputs=(), attrs=(), serial=next_serial())
            for node in (*given, *kept, *undo.finals)
        }
        self.new: dict[Node, Node] = dict(self.inputs)
        self.now: dict[Node, Node] = {}
        """For each version what it is in the backward."""
        self.own: dict[Node, dict[Node, Node]] = {}
        """What a node reads in the place of an operand, if it is not what others read."""
        self.visible = {name for x in self.inputs.values() for name in _symbols(x)}

    def graph(self, gradients: Sequence[Node]) -> Graph:
        self.now = {version: version for version in self.undo.versions}
        again = {x for x in self._needed(gradients) if x.op.name == "loop"}
        for chain in self.undo.chains:
            self.now[chain.versions[-1]] = chain.final
            for write in reversed(chain.writes):
                self._unwind(write, again)
        needed = self._needed([*gradients, *self._starts()])
        for maker in sorted({w.maker for w in self.undo.writes}, key=lambda node: -node.serial):
            links = [write for write in self.undo.writes if write.maker is maker]
            for write in links:
                for reader in needed:
                    if self._reads(reader, write.after) and not self._depends(reader, write):
                        self._build(reader)
            for write in links:
                self._build(self.now[write.before])
        outputs = [self._build(node) for node in (*gradients, *self._starts())]
        name = f"{self.joint.name}_backward"
        found = Graph(name, tuple(self.inputs.values()), tuple(outputs), (), self.joint.source)
        bounds = tuple(
            self.new[node]
            for node in self.joint.bounds
            if node in self.new and str(node.attributes["symbol"]) not in found.sizes
        )
        return replace(found, bounds=bounds)

    def _starts(self) -> list[Node]:
        return [self.now[chain.versions[0]] for chain in self.undo.chains]

    def _unwind(self, write: Write, again: set[Node]) -> None:
        array = self.now[write.after]
        if write.old is None:
            assert write.restored is not None
            self.now[write.before] = write.restored
            return
        back = write.put_back(array)
        if not write.again or write.maker not in again:
            self.now[write.before] = back
            return
        # The loop runs again in the memory of the array, and its backward after it.
        forth = replace(write.after, serial=next_serial())
        self.own.setdefault(write.maker, {})[write.before] = back
        if write.restored is None:
            self.now[write.before] = write.put_back(forth)
            return
        self.own.setdefault(write.restored.inputs[0], {})[write.after] = forth
        self.now[write.before] = write.restored

    def _operands(self, node: Node) -> list[Node]:
        own = self.own.get(node, {})
        found = [own.get(x) or self.now.get(x, x) for x in node.inputs]
        for bound in self.joint.binding(node):
            if str(bound.attributes["symbol"]) not in self.visible:
                found.append(bound)
        return found

    def _reads(self, node: Node, version: Node) -> bool:
        return version in node.inputs and version not in self.own.get(node, {})

    def _needed(self, nodes: Iterable[Node]) -> dict[Node, None]:
        """What the backward computes, in an order in which it can."""
        found: dict[Node, None] = {}
        stack = [*nodes]
        while stack:
            node = stack.pop()
            is_open = node in self.undo.versions and self.now[node] is node
            if node not in found and node not in self.inputs and not is_open:
                found[node] = None
                stack.extend(self._operands(node))
        return dict.fromkeys(sorted(found, key=lambda node: node.serial))

    def _depends(self, node: Node, write: Write) -> bool:
        """Whether `node` needs the version before the write."""
        target, seen, stack = self.now[write.before], set(), [node]
        while stack:
            node = stack.pop()
            if node is target:
                return True
            if node not in seen and node not in self.inputs:
                seen.add(node)
                stack.extend(self._operands(node))
        return False

    def _build(self, node: Node) -> Node:
        node = self.now.get(node, node)
        stack, opened = [node], set()
        while stack:
            last = stack[-1]
            waiting = [x for x in self._operands(last) if x not in self.new]
            if last in self.new or not waiting:
                stack.pop()
                opened.discard(last)
                if last not in self.new:
                    self._make(last)
                continue
            opened.add(last)
            if not opened.isdisjoint(waiting):
                raise Circular(x for x in opened if self._is_value(x))
            stack += waiting
        return self.new[node]

    def _is_value(self, node: Node) -> bool:
        """Whether the forward reads it from a version."""
        reads = not self.undo.versions.isdisjoint(node.inputs)
        return reads and node not in self.behind and isinstance(node.type, ArrayType)

    def _make(self, node: Node) -> None:
        assert node.op.name != "input", f"{node} is not at hand in the backward"
        count = len(node.inputs)
        inputs = tuple(self.new[x] for x in self._operands(node)[:count])
        # The forward has checked its indices: those computed again are in bounds.
        same = node.op is CHECKED
        self.new[node] = inputs[0] if same else replace(node, inputs=inputs, serial=next_serial())


__all__ = ["NOTHING", "Circular", "Undo", "Unwinding", "found_undo"]
