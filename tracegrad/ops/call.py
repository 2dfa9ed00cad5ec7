"""A call kept as one node while derivatives are taken, so that it can have rules of its own.

y = call(x, body=f, rule=...)      ->      after differentiation: the nodes of f
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tracegrad.errors import NotDifferentiableError
from tracegrad.ir.graph import Graph
from tracegrad.ir.interpret import interpret
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.ops.op import register


@dataclass(frozen=True, eq=False)
class Rule:
    """The derivatives that a user gives: on flat lists of arrays, None for an absent derivative."""

    name: str
    arguments: int
    """How many of the inputs are the function's own; further ones it uses from outside."""
    vjp: Callable[[Sequence[Array], Sequence[Array | None]], list[Array | None]] | None = None
    """`(inputs, cotangents of the results) -> cotangents of the inputs`."""
    jvp: Callable[[Sequence[Array], Sequence[Array | None]], list[Array | None]] | None = None
    """`(inputs, tangents) -> tangents of the results`."""


class CallOp(Op):
    """`results = body(*inputs)`; its derivatives are the rule's."""

    name = "call"
    stored = (-1,)
    inlined = True

    def infer(self, *types: ArrayType, body: Graph, rule: Rule) -> ArrayType:
        return TupleType.of(tuple(output.type for output in body.outputs))

    def reference(self, *arrays: Any, body: Graph, rule: Rule) -> Any:
        return tuple(interpret(body, arrays))

    def jvp(
        self, tangents: Sequence[Array | None], out: Any, *inputs: Array, body: Graph, rule: Rule
    ) -> Any:
        if rule.jvp is None:
            raise NotDifferentiableError(
                f"{rule.name} has a custom vjp but no jvp, so forward mode (jvp, jacfwd, hvp) "
                "cannot pass through it; "
                "define it with tg.custom_jvp, which serves both modes"
            )
        _own_alone(rule, [t is not None for t in tangents], body)
        own = rule.arguments
        return rule.jvp(inputs[:own], tangents[:own])

    def vjp(
        self,
        wanted: Sequence[bool],
        cts: Sequence[Array | None],
        out: Any,
        *inputs: Array,
        body: Graph,
        rule: Rule,
    ) -> Any:
        if rule.vjp is None:
            raise NotDifferentiableError(
                f"{rule.name} was declared with tg.custom_vjp but has no rule yet: call "
                f"{rule.name}.defvjp(fwd, bwd)"
            )
        _own_alone(rule, wanted, body)
        found = rule.vjp(inputs[: rule.arguments], cts)
        return [*found, *([None] * (len(inputs) - rule.arguments))]


def _own_alone(rule: Rule, moving: Sequence[bool], body: Graph) -> None:
    """A rule has no derivative by what the function takes from outside of its arguments."""
    for node, moves in zip(body.inputs[rule.arguments :], moving[rule.arguments :], strict=True):
        if moves:
            raise NotDifferentiableError(
                f"{rule.name} has rules of its own, but uses {node.name} ({node.type}), which is "
                "differentiated too, from outside: pass it as an argument"
            )


CALL = register(CallOp())
