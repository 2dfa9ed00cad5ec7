"""From the one derivative rule that an op gives to the two that the passes use: `push` and `pull`.

    elementwise: both from the partials        linear: push is the op itself, pull its transpose
    jvp given:   pull transposes the jvp       vjp given: push transposes the vjp, which is linear
    in ct

"Transposes" is the reverse pass itself, run over the rule's own (linear) operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

from tracegrad.errors import NotDifferentiableError
from tracegrad.ir.graph import Node
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.op import bind
from tracegrad.ops.reduction import broadcast_to, unbroadcast

Value = Callable[[Node], Array]
"""The array that stands for a node: what rules compute with."""


class Linearizer(Protocol):
    """Makes free variables and transposes what was computed from them; one per kind of array."""

    def placeholder(self, type: Any) -> Array: ...

    def transpose(self, result: Array, ct: Array, free: Sequence[Array]) -> list[Array | None]: ...


@lru_cache(maxsize=4096)
def differentiable_in(op: Op, operands: int) -> tuple[bool, ...]:
    """Which arguments the op has a derivative with respect to."""
    if isinstance(op, Elementwise):
        return op.differentiable_in() or (False,) * operands
    if op.has("jvp") or op.has("vjp"):
        return (True,) * operands
    linear = linear_arguments(op, operands)
    return tuple(number in linear for number in range(operands))


def linear_arguments(op: Op, operands: int) -> tuple[int, ...]:
    """The arguments that the op is linear in; `(-1,)` in the op's class stands for all."""
    return tuple(range(operands)) if op.linear == (-1,) else op.linear


def active_operands(node: Node, active: Callable[[Node], bool]) -> tuple[bool, ...]:
    """Which operands the node's derivative must be taken in."""
    rules = differentiable_in(node.op, len(node.inputs))
    if not node.type.is_float:
        return (False,) * len(node.inputs)
    return tuple(
        rule and operand.type.is_float and active(operand)
        for rule, operand in zip(rules, node.inputs, strict=True)
    )


def pull(node: Node, ct: Array, wanted: tuple[bool, ...], value: Value, linear: Linearizer):
    """The cotangents of the operands from that of the result; un-broadcast, None where unwanted."""
    found = _pull(node, ct, wanted, value, linear)
    return tuple(
        unbroadcast(got, operand.type) if want and got is not None else None
        for got, want, operand in zip(found, wanted, node.inputs, strict=True)
    )


def _pull(node: Node, ct: Array, wanted: tuple[bool, ...], value: Value, linear: Linearizer):
    op, attrs = node.op, node.attributes
    inputs = [value(operand) for operand in node.inputs]
    if op.has("vjp") or isinstance(op, Elementwise):
        return op.vjp(wanted, ct, value(node), *inputs, **attrs)
    if op.has("transpose"):
        places = linear_arguments(op, len(inputs))
        cts = dict(zip(places, op.transpose(ct, *inputs, **attrs), strict=True))
        return tuple(cts.get(number) for number in range(len(inputs)))
    if op.has("jvp"):
        free = [
            linear.placeholder(operand.type) if want else None
            for operand, want in zip(node.inputs, wanted, strict=True)
        ]
        tangent = op.jvp(tuple(free), value(node), *inputs, **attrs)
        tangent = broadcast_to(tangent, node.type.shape)
        cts = iter(linear.transpose(tangent, ct, [x for x in free if x is not None]))
        return tuple(next(cts) if want else None for want in wanted)
    raise NotDifferentiableError(f"{op.name} has no derivative")


def push(node: Node, tangents: tuple[Array | None, ...], value: Value, linear: Linearizer):
    """The result's tangent from those of the operands (None: zero; at least one is not)."""
    op, attrs = node.op, node.attributes
    inputs = [value(operand) for operand in node.inputs]
    if op.has("jvp") or isinstance(op, Elementwise):
        result = op.jvp(tangents, value(node), *inputs, **attrs)
    elif op.has("transpose"):
        result = _push_linear(op, attrs, tangents, inputs)
    elif op.has("vjp"):
        result = _push_by_vjp(node, tangents, inputs, value, linear)
    else:
        raise NotDifferentiableError(f"{op.name} has no derivative")
    if isinstance(node.type, TupleType):
        return result
    return broadcast_to(result, node.type.shape)


def _push_linear(op: Op, attrs: dict[str, Any], tangents: Sequence[Array | None], inputs: list):
    linear = linear_arguments(op, len(inputs))
    operands = [
        (zero(x.type) if tangent is None else tangent) if number in linear else x
        for number, (tangent, x) in enumerate(zip(tangents, inputs, strict=True))
    ]
    return bind(op, *operands, **attrs)


def zero(type: ArrayType) -> Array:
    """No tangent, where an op wants one."""
    return broadcast_to(type.dtype.type(0), type.shape)


def _push_by_vjp(node: Node, tangents: Sequence[Any], inputs: list, value: Value, linear: Any):
    """`t_y = d/d(ct) <vjp(ct), t>`: the vjp is linear in ct, its transpose is the jvp."""
    ct = linear.placeholder(node.type)
    wanted = tuple(tangent is not None for tangent in tangents)
    cts = node.op.vjp(wanted, ct, value(node), *inputs, **node.attributes)
    total = None
    for got, tangent, operand in zip(cts, tangents, node.inputs, strict=True):
        if got is None or tangent is None:
            continue
        (part,) = linear.transpose(unbroadcast(got, operand.type), tangent, [ct])
        if part is not None:
            total = part if total is None else total + part
    assert total is not None, f"the vjp of {node.op.name} does not use its cotangent"
    return total
