"""Where values live and in which kernel they are computed, read from the scheduled loop program.

In: a final graph. Out: a `Layout`: its kernels (loop nests and library calls, `k0, k1, ...` in the
order in which they run) and for every node a `Place`.

    for i in range(n):                          k0: loop n, m; reads x
        for j in range(m):                      v1  register   in k0
            v1 = x[i, j] + 1.0          =>      v4  sum        in k0
            v4 += v1 * v1                       y   output     after it
    y = v4 / n
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from codegen import loops
from codegen.records import dataclass
from codegen.schedule import donating, structure
from codegen.schedule.dependence import accesses, aliases
from codegen.schedule.reuse import reused
from codegen.traverse import Body, statements
from tracegrad.inspect.extents import size_of
from tracegrad.inspect.nests import computed, innermost, is_kernel, remarks
from tracegrad.ir.dims import Size, product
from tracegrad.ir.graph import Graph, Node
from tracegrad.lower import Lowering, comment
from tracegrad.ops.reduction import Reduction
from tracegrad.passes.plan import is_view
from tracegrad.tracing.naming import UNNAMED


@dataclass(frozen=True)
class Kernel:
    """A top-level loop nest, or a library call."""

    name: str
    position: int
    """Which statement of the function it is."""
    nests: tuple[tuple[Size | None, ...], ...]
    """The extents of its innermost loops, each with those around it; None: no formula of sizes."""
    library: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    allocates: tuple[str, ...]

    @property
    def steps(self) -> tuple[Size, ...]:
        """How often its innermost bodies run."""
        known = [tuple(size for size in nest if size is not None) for nest in self.nests]
        return tuple(
            product(sizes) for sizes, nest in zip(known, self.nests, strict=True) if sizes == nest
        )


@dataclass(frozen=True)
class Place:
    """Where a value lives (`register`, `sum`, `buffer b1`), and the kernels that compute it."""

    where: str
    kernels: tuple[Kernel, ...]
    position: int

    def renamed(self, where: str) -> Place:
        return replace(self, where=where)


@dataclass(frozen=True)
class Memory:
    """An array that the function allocates."""

    name: str
    shape: tuple[Size | None, ...]
    dtype: np.dtype

    @property
    def bytes(self) -> Size | None:
        known = tuple(size for size in self.shape if size is not None)
        return product((self.dtype.itemsize, *known)) if len(known) == len(self.shape) else None


class Layout:
    """Kernels and places of one graph. Of its results the first `own` are the function's own, the
    others are saved for the backward; the memory of the inputs `donated` is its to write to."""

    def __init__(
        self, graph: Graph, own: int | None = None, donated: frozenset[int] = frozenset()
    ) -> None:
        self.graph = graph
        self.own = graph.outputs[:own]
        self.lowering = Lowering(graph, graph.name)
        self.module = donating(self.lowering.module(()), donated)
        self.function = structure(self.module.functions[0])
        self.body: Body = self.function.body
        self.reused = reused(self.function)
        """For each array in another's memory the array that was allocated."""
        named = (s for s in self.body if not isinstance(s, loops.View) or not s.plain)
        self._roots = aliases(replace(self.function, body=tuple(named)))

    @cached_property
    def memory(self) -> dict[str, Memory]:
        """The arrays of the scheduled function: those that it allocates, in order, then those that
        took over the memory of one of them."""
        found = {
            name: Memory(name, tuple(size_of(e) for e in shape), dtype)
            for statement in statements(self.body)
            for name, shape, dtype in new_arrays(statement)
        }
        for parameter in self.function.parameters:
            if parameter.donated and parameter.shape is not None:
                shape = tuple(size_of(e) for e in parameter.shape)
                found[parameter.name] = Memory(parameter.name, shape, parameter.dtype)
        taken = {name: replace(found[old], name=name) for name, old in self.reused.items()}
        given = {parameter.name for parameter in self.function.parameters}
        return {name: found[name] for name in found if name not in given} | taken

    @cached_property
    def handed_over(self) -> dict[str, str]:
        """The arrays in the memory of a donated input, and which that is."""
        given = {parameter.name for parameter in self.function.parameters if parameter.donated}
        return {name: old for name, old in self.reused.items() if old in given}

    @cached_property
    def returned(self) -> set[str]:
        """The arrays whose memory the function returns."""
        return {
            self._roots.get(value, value)
            for statement in self.body
            if isinstance(statement, loops.Return)
            for value in statement.values
            if isinstance(value, str)
        }

    def _root(self, node: Node) -> str:
        array = self.lowering.arrays.get(node, "")
        return self._roots.get(array, array)

    @cached_property
    def buffers(self) -> dict[str, str]:
        """The numbers of the allocated arrays that hold other values than a result: `b1, b2, ...`.
        An array in the memory of another has its number."""
        owners = {name: self.reused.get(name, name) for name in self.memory}
        inner = unique(owners[name] for name in self.memory if name not in self.returned)
        numbers = {name: f"b{number}" for number, name in enumerate(inner, 1)}
        return {name: numbers[owner] for name, owner in owners.items() if owner in numbers}

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        seen: set[str] = set()
        found: list[Kernel] = []
        for position, statement in enumerate(self.body):
            if is_kernel(statement):
                kernel = self._kernel(f"k{len(found)}", position, statement, seen)
                seen |= set(kernel.writes)
                found.append(kernel)
        return tuple(found)

    def _kernel(
        self, name: str, position: int, statement: loops.Statement, seen: set[str]
    ) -> Kernel:
        touched = list(accesses(statement, self._roots))
        local = self._only_in(statement)
        writes = unique(a.root for a in touched if a.writes and a.root not in local)
        reads = unique(a.root for a in touched if not a.writes and a.root not in {*local, *writes})
        fresh = tuple(
            root for root in unique(a.root for a in touched if a.writes) if root not in seen
        )
        called = list(called_functions(statement))
        nests = unique(tuple(size_of(loop.stop) for loop in path) for path in innermost(statement))
        allocates = tuple(r for r in fresh if r in self.memory and r not in self.reused)
        return Kernel(name, position, nests, ", ".join(unique(called)), reads, writes, allocates)

    def _only_in(self, statement: loops.Statement) -> set[str]:
        """Buffers that no other statement looks at: they stay in cache, or are rows of it."""
        elsewhere = {
            access.root
            for other in self.body
            if other is not statement
            for access in accesses(other, self._roots)
        }
        return {name for name in self.buffers if name not in elsewhere}

    @cached_property
    def places(self) -> dict[Node, Place]:
        """For every node that is computed."""
        found: dict[Node, Place] = {}
        for node in reversed(self.graph.nodes[len(self.graph.inputs) :]):
            if node.op.name not in UNNAMED:
                found[node] = self._place(node, found)
        return found

    def _place(self, node: Node, later: dict[Node, Place]) -> Place:
        array = self.lowering.arrays.get(node)
        if array is not None and array in self.memory:
            return self._array_place(node, array)
        spots = self._computed.get(node.name, ())
        if is_view(node) and spots:
            return Place("view", (), spots[0][0])
        if node.type.rank:
            return self._inlined(node, later)
        if spots:
            position, kind = spots[0]
            kernels = tuple(k for k in self.kernels if k.position == position)
            if kind == "assigned":
                kind = "register" if kernels else "scalar"
            return Place(self._output(node, kind), kernels, position)
        return self._inlined(node, later)

    def _array_place(self, node: Node, array: str) -> Place:
        memory = self.memory[array]
        positions = self._written(node, array)
        kernels = tuple(k for k in self.kernels if k.position in positions)[-1:]
        position = kernels[0].position if kernels else positions[-1]
        narrow = len(memory.shape) < node.type.rank
        if array in self.returned:
            own = any(self._root(out) == array for out in self.own)
            where = f"{'output' if own else 'saved'} {self.buffers.get(array, '')}".rstrip()
        else:
            where = f"{'row' if narrow else 'buffer'} {self.buffers[array]}"
        if kernels and kernels[0].library:
            where = f"library {where.removeprefix('buffer ')}"
        return Place(where, kernels, position)

    def _written(self, node: Node, array: str) -> list[int]:
        """The statements that write the node's value into an array that nodes may share."""
        spots = [position for position, _ in self._computed.get(array, ())] or [0]
        sharers = [other for other, name in self.lowering.arrays.items() if name == array]
        if len(sharers) == 1:
            return spots
        own = comment(node)
        marked = [p for p in spots if own and own in remarks(self.body[p])]
        return marked or [spots[min(sharers.index(node), len(spots) - 1)]]

    def _output(self, node: Node, kind: str) -> str:
        if node not in self.graph.outputs:
            return kind
        role = "output" if node in self.own else "saved"
        return role if kind in ("scalar", "register") else f"{kind}, {role}"

    def _inlined(self, node: Node, later: dict[Node, Place]) -> Place:
        """A value that is no array is computed in each kernel that reads it."""
        readers = [later[user] for user in self.graph.uses[node] if user in later]
        if node.op.has("block"):
            return max(readers, key=lambda place: place.position).renamed(node.op.name)
        kernels = tuple(unique(kernel for reader in readers for kernel in reader.kernels))
        position = min((reader.position for reader in readers), default=len(self.body))
        kind = node.op.short if isinstance(node.op, Reduction) else "register"
        return Place(self._output(node, kind if kernels else "scalar"), kernels, position)

    @cached_property
    def _computed(self) -> dict[str, list[tuple[int, str]]]:
        """For each name the top-level statements that give it its value, and how."""
        found: dict[str, list[tuple[int, str]]] = {}
        for position, outer in enumerate(self.body):
            for name, kind in computed(outer):
                spots = found.setdefault(name, [])
                if (position, kind) not in spots:
                    spots.append((position, kind))
        for name, spots in found.items():
            # `y = 0.0` before a loop that adds to y only starts the accumulation.
            grown = [spot for spot in spots if spot[1] != "assigned"]
            found[name] = grown or spots
        return found

    @cached_property
    def order(self) -> tuple[Node, ...]:
        """The computed nodes as the kernels run, each after its operands."""
        number = {node: at for at, node in enumerate(self.graph.nodes)}
        waiting = {
            node: {operand for operand in self._needed(node) if operand in self.places}
            for node in self.places
        }
        users: dict[Node, list[Node]] = {node: [] for node in self.places}
        for node, needs in waiting.items():
            for operand in needs:
                users[operand].append(node)
        ready = [self._rank(node, number) for node, needs in waiting.items() if not needs]
        heapq.heapify(ready)
        nodes = list(self.graph.nodes)
        done: list[Node] = []
        while ready:
            node = nodes[heapq.heappop(ready)[1]]
            done.append(node)
            for user in users[node]:
                waiting[user].discard(node)
                if not waiting[user] and user not in done:
                    heapq.heappush(ready, self._rank(user, number))
        return tuple(dict.fromkeys(done))

    def _needed(self, node: Node) -> Iterator[Node]:
        """What must have been computed before: the operands, and what binds the symbols that the
        node's text has; the draws before, for a generator's state.
        """
        yield from self.graph.binding(node)
        for operand in node.inputs:
            if operand.op.name == "after":
                yield from self._needed(operand)
            else:
                yield operand
                yield from () if operand in self.places else self.graph.binding(operand)

    def _rank(self, node: Node, number: dict[Node, int]) -> tuple[int, int]:
        return self.places[node].position, number[node]


def new_arrays(
    statement: loops.Statement,
) -> Iterator[tuple[str, tuple[Any, ...], np.dtype]]:
    """The arrays that a statement allocates, or that a function of the user's returns."""
    match statement:
        case loops.Alloc(array, shape, dtype):
            yield array, shape, dtype
        case loops.ForeignCall(results=results):
            yield from ((r.name, r.shape, r.dtype) for r in results if r.fits is not None)


def called_functions(statement: loops.Statement) -> Iterator[str]:
    """The names of the library's and of the user's functions that a statement calls."""
    for part in statements((statement,)):
        match part:
            case loops.LibraryCall(function):
                yield function
            case loops.ForeignCall(function):
                yield function.name


def unique(items: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(items))
