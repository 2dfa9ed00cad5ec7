"""A call kept as one node while derivatives are taken, so that it can have rules of its own.

y = call(x, body=f, rule=...)      ->      after differentiation: the nodes of f

A rule for reverse mode alone answers one backward pass. What differentiates its result once more (a
Hessian: forward mode over the gradient) goes through the operations of the function and of the
rule, as with JAX's custom_vjp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field
from typing import Any, Protocol

from codegen.records import dataclass
from tracegrad.errors import NotDifferentiableError
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.interpret import interpret
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType, StateType, TupleType
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
    through: Through | None = None
    """How further derivatives go through the body, once one has been taken by the rule."""
    answered: list[Any] = field(default_factory=list)
    """The backward pass that the rule has answered."""

    def is_passed(self) -> bool:
        """Whether a derivative now is one of a derivative by this rule."""
        answered = self.through is not None and bool(self.answered)
        return answered and self.answered[0] is not backward_pass.get()


class Through(Protocol):
    """The derivatives of a body by its operations."""

    def pushed(self, body: Graph, inputs: Sequence[Array], tangents: Sequence[Any]) -> list: ...

    def pulled(
        self, body: Graph, inputs: Sequence[Array], cts: Sequence[Any], wanted: Sequence[bool]
    ) -> list: ...


backward_pass: ContextVar[Any] = ContextVar("backward_pass", default=None)
"""What stands for the backward pass inside of a trace that is being recorded."""


@contextmanager
def passing_backward(token: Any) -> Iterator[None]:
    """Within: cotangents belong to the backward pass that `token` stands for."""
    before = backward_pass.set(token)
    try:
        yield
    finally:
        backward_pass.reset(before)


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
        if rule.jvp is None and rule.through is not None and rule.answered:
            return rule.through.pushed(body, inputs, tangents)
        if rule.jvp is None:
            raise NotDifferentiableError(
                f"{rule.name} has a custom vjp but no jvp, so forward mode (jvp, jacfwd, hvp) "
                "cannot pass through it; "
                "define it with tg.custom_jvp, which serves both modes"
            )
        _own_alone(rule, [t is not None for t in tangents], body)
        own = rule.arguments
        found = rule.jvp(inputs[:own], tangents[:own])
        return [*found, *([None] * (len(body.outputs) - len(found)))]

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
        if rule.is_passed():
            assert rule.through is not None
            return rule.through.pulled(body, inputs, cts, wanted)
        if backward_pass.get() is not None:
            rule.answered[:] = [backward_pass.get()]
        _own_alone(rule, wanted, body)
        results = [ct for ct, y in zip(cts, body.outputs, strict=True) if _is_value(y)]
        found = rule.vjp(inputs[: rule.arguments], results)
        return [*found, *([None] * (len(inputs) - rule.arguments))]


def _is_value(node: Node) -> bool:
    """Whether an output is a result of the function's, not the state that checks leave behind."""
    return not isinstance(node.type, StateType)


def _own_alone(rule: Rule, moving: Sequence[bool], body: Graph) -> None:
    """A rule has no derivative by what the function takes from outside of its arguments."""
    for node, moves in zip(body.inputs[rule.arguments :], moving[rule.arguments :], strict=True):
        if moves:
            raise NotDifferentiableError(
                f"{rule.name} has rules of its own, but uses {node.name} ({node.type}), which is "
                "differentiated too, from outside: pass it as an argument"
            )


CALL = register(CallOp())
