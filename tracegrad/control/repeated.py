"""What a loop that ends by a condition is: its types, its meaning in Python, its text in dumps,
its lowering.

    x = while_loop(lambda x: x < 10, lambda x: 2 * x, x0)      ->      while x < 10: x = 2 * x

Its derivatives are in `repeat`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen import loops
from codegen.distributions import STATE_WORDS
from codegen.expr import Var
from tracegrad.control.batching import INDEX
from tracegrad.control.counted import assignments, start_carries, tuple_text
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.interpret import interpret
from tracegrad.ir.op import Op
from tracegrad.ir.types import CHECKS, ArrayType, StateType, TupleType
from tracegrad.lower import Scope
from tracegrad.nested import Nested
from tracegrad.ops.op import register


class RepeatedLoop(Op):
    """`while condition(*carries, *constants): carries = body(*carries, *constants)`.

    Operands: initial carries, constants. Results: the carries, and the number of steps.
    """

    name = "repeat"
    stored = (-1,)

    def infer(self, *types: ArrayType, condition: Graph, body: Graph, carries: int) -> ArrayType:
        return TupleType.of((*(output.type for output in body.outputs), INDEX))

    def reference(self, *arrays: Any, condition: Graph, body: Graph, carries: int) -> Any:
        carry, constants, steps = list(arrays[:carries]), arrays[carries:], 0
        while interpret(condition, [*carry, *constants])[0]:
            carry = interpret(body, [*carry, *constants])
            steps += 1
        return (*carry, np.int64(steps))

    def takes(self, node: Node) -> dict[int, int]:
        """Carries go on in the memory of their initial values."""
        return {k: k for k in range(node.attributes["carries"]) if node.inputs[k].type.rank}

    def block(self, writer: Any, node: Node) -> list[str]:
        """`while True: condition; break; body`, then the results as a tuple."""
        attrs = node.attributes
        condition, body, carries = attrs["condition"], attrs["body"], attrs["carries"]
        operands = [writer.value(n) for n in node.inputs]
        given = [n.name for n in body.inputs]
        steps = f"{node.name}_steps"
        return [
            *assignments(given, operands),
            f"{steps} = 0",
            "while True:",
            *(f"    {line}" for line in assignments([n.name for n in condition.inputs], given)),
            *writer.body(condition),
            f"    if not {writer.value(condition.outputs[0])}:",
            "        break",
            *writer.body(body),
            *(
                f"    {line}"
                for line in assignments(given[:carries], [writer.value(n) for n in body.outputs])
            ),
            f"    {steps} += 1",
            f"{node.name} = {tuple_text([*given[:carries], steps])}",
        ]

    def kernel(self, lowering: Any, node: Node) -> None:
        """The condition is computed before the loop and at the end of each step."""
        carries = node.attributes["carries"]
        names = start_carries(lowering, node, carries)
        steps = Var(names[-1])
        lowering.append(loops.Assign(steps, ex.integer(0)))
        go = Var(lowering.namer.unique("go_on"), ex.BOOL)
        self._test(lowering, node, names, go)
        lowering.scopes.append(Scope())
        inner = self._nested(lowering, node, names, node.attributes["body"])
        inner.run()
        outputs = node.attributes["body"].outputs
        inner.update(list(zip(outputs, names[:carries], strict=True)))
        lowering.append(loops.Assign(steps, ex.Call("add", (steps, ex.integer(1)), ex.INT)))
        self._test(lowering, node, names, go)
        body = tuple(lowering.scopes.pop().statements)
        lowering.append(loops.While(go, body))
        lowering.place(node, names)

    def _nested(self, lowering: Any, node: Node, names: Sequence[str], graph: Graph) -> Nested:
        carries = node.attributes["carries"]
        own = graph.inputs[:carries] if graph is node.attributes["body"] else ()
        inner = Nested(lowering, graph, own)
        for given, name in zip(graph.inputs[:carries], names, strict=False):
            inner.give(given, name)
        for given, operand in zip(graph.inputs[carries:], node.inputs[carries:], strict=True):
            inner.give_operand(given, lowering, operand)
        return inner

    def _test(self, lowering: Any, node: Node, names: Sequence[str], go: Var) -> None:
        graph = node.attributes["condition"]
        inner = self._nested(lowering, node, names, graph)
        inner.run()
        inner.append(loops.Assign(go, inner.value(graph.outputs[0], ())))


class Rehearsal(RepeatedLoop):
    """The loop run ahead to count its steps: the generators that it draws from are put back into
    the states that they had before, so that it can be run again with the same numbers.
    """

    name = "rehearsal"
    foldable = False

    def reference(self, *arrays: Any, condition: Graph, body: Graph, carries: int) -> Any:
        generators = [arrays[k] for k in drawn_from(body, carries)]
        before = [rng.bit_generator.state for rng in generators]
        found = super().reference(*arrays, condition=condition, body=body, carries=carries)
        for rng, state in zip(generators, before, strict=True):
            rng.bit_generator.state = state
        return found

    def jvp(self, tangents: Any, out: Any, *inputs: Any, **attrs: Any) -> list[Any]:
        return [None] * len(out.type.parts)

    def vjp(self, wanted: Any, cts: Any, out: Any, *inputs: Any, **attrs: Any) -> list[Any]:
        return [None] * len(inputs)

    def block(self, writer: Any, node: Node) -> list[str]:
        attrs = node.attributes
        drawn = drawn_from(attrs["body"], attrs["carries"])
        states = {
            f"{node.name}_before_{number}": f"{writer.value(node.inputs[k])}.bit_generator.state"
            for number, k in enumerate(drawn)
        }
        return [
            *(f"{before} = {state}" for before, state in states.items()),
            *super().block(writer, node),
            *(f"{state} = {before}" for before, state in states.items()),
        ]

    def kernel(self, lowering: Any, node: Node) -> None:
        attrs, comment = node.attributes, lowering.comment(node)
        kept: list[tuple[str, str]] = []
        for k in drawn_from(attrs["body"], attrs["carries"]):
            name = lowering.value(node.inputs[k], ()).name
            saved = lowering.namer.unique(f"{name}_before")
            known = Var(lowering.namer.unique(f"{name}_known"), ex.INT)
            lowering.append(loops.Alloc(saved, (ex.integer(STATE_WORDS),), INDEX.dtype))
            lowering.append(loops.LibraryCall("save_state", (), (name, saved), comment, known))
            good = ex.Call("not_equal", (known, ex.integer(0)), ex.BOOL)
            lowering.append(loops.Check(good, "ValueError", FOREIGN, comment))
            kept.append((name, saved))
        super().kernel(lowering, node)
        for name, saved in kept:
            lowering.append(loops.LibraryCall("restore_state", (saved,), (name,), comment))


FOREIGN = (
    "reverse mode through a while_loop that draws random numbers puts the generator back to count "
    "the steps, and knows how for NumPy's own bit generators only: use np.random.default_rng(seed)"
)


def drawn_from(body: Graph, carries: int) -> list[int]:
    """The positions of the random number generators among the carries."""
    return [
        number
        for number, node in enumerate(body.inputs[:carries])
        if isinstance(node.type, StateType) and node.type.generator != CHECKS
    ]


REHEARSAL = register(Rehearsal())
