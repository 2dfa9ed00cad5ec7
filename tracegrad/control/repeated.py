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
from codegen.expr import Var
from tracegrad.control.batching import INDEX
from tracegrad.control.counted import assignments, start_carries, tuple_text
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.interpret import interpret
from tracegrad.ir.op import Op
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.lower import Scope
from tracegrad.nested import Nested


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
