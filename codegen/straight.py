"""Straight-line functions of `codegen`, written in place of their calls.

In: a function without loops and jumps, the types and values of its arguments. Out: its LLVM code at
the builder's place, and the value that it returns. Of

    def square_float(x):
        return x * x

a call is `fmul double %x, %x`. numba would read bytecode, infer types, lower and link the function,
20 ms each, for LLVM to put it into the loop that calls it after all. The text of nearly all vector
math is of that kind: assignments, choices, arithmetic, calls of others and of intrinsics.
"""

from __future__ import annotations

import ast
import inspect
import operator
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.extending import _Intrinsic as Intrinsic
from numba.core.registry import CPUDispatcher

from codegen.calling import Typed, intrinsic, linked, resolved

Twin = Callable[[Any], Any]
"""From a dispatcher of `codegen` to the one that stands for it in compiled code."""

ARITHMETIC: Mapping[type, tuple[str, Any]] = {
    ast.Add: ("fadd", operator.add),
    ast.Sub: ("fsub", operator.sub),
    ast.Mult: ("fmul", operator.mul),
    ast.Div: ("fdiv", operator.truediv),
    ast.BitAnd: ("and_", operator.and_),
    ast.BitOr: ("or_", operator.or_),
}
COMPARISONS: Mapping[type, tuple[str, Any]] = {
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
}
NEGATIONS = {ast.USub: operator.neg, ast.Not: operator.not_}
LEAVES = (ast.Name, ast.Constant)
CHEAP = (*LEAVES, ast.UnaryOp, ast.BinOp, ast.Compare, ast.Add, ast.Sub, ast.Mult, ast.BitAnd)
CHEAP += (ast.BitOr, ast.unaryop, ast.cmpop, ast.expr_context)
"""What a choice computes on both sides."""


def own(value: Any) -> bool:
    """Whether it is a compiled function out of this package's own text."""
    if not isinstance(value, CPUDispatcher):
        return False
    return (value.py_func.__module__ or "").startswith("codegen.")


@cache
def body(function: Any) -> tuple[ast.stmt, ...] | None:
    """The statements of a Python function, or None if it is not straight-line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    if not isinstance(definition, ast.FunctionDef):
        return None
    found = definition.body
    if isinstance(found[0], ast.Expr) and isinstance(found[0].value, ast.Constant):
        found = found[1:]  # what it is for
    last = found[-1]
    if (
        all(is_step(s, function) for s in found[:-1])
        and isinstance(last, ast.Return)
        and is_known(last.value, function)
    ):
        return tuple(found)
    return None


def is_step(statement: Any, function: Any) -> bool:
    """Whether it gives names to what an expression that can be written gives."""
    if not isinstance(statement, ast.Assign):
        return False
    targets = [t.elts if isinstance(t, ast.Tuple) else [t] for t in statement.targets]
    names = all(isinstance(target, ast.Name) for several in targets for target in several)
    return names and is_known(statement.value, function)


def is_known(node: Any, function: Any) -> bool:
    """Whether an expression is made of what can be written here."""
    match node:
        case ast.Name() | ast.Constant() | ast.Attribute(value=ast.Name()):
            return True
        case ast.Tuple(elts=parts):
            return all(is_known(part, function) for part in parts)
        case ast.IfExp(test=test, body=yes, orelse=no):
            return all(is_known(part, function) for part in (test, yes, no))
        case ast.UnaryOp(op=op, operand=value):
            return type(op) in NEGATIONS and is_known(value, function)
        case ast.BinOp(left=a, op=op, right=b):
            return type(op) in ARITHMETIC and is_known(a, function) and is_known(b, function)
        case ast.Compare(left=a, ops=[op], comparators=[b]) if type(op) in COMPARISONS:
            return is_known(a, function) and is_known(b, function)
        case ast.Call(func=called, args=parts, keywords=[]):
            callee = named(called, function.__globals__)
            known = own(callee) or isinstance(callee, Intrinsic) or is_cast(callee)
            return known and all(is_known(part, function) for part in parts)
    return False


def named(node: Any, space: Mapping[str, Any]) -> Any:
    """What `PI` or `np.pi` stands for; None if nothing."""
    if isinstance(node, ast.Attribute):
        return getattr(named(node.value, space), node.attr, None)
    return space.get(node.id) if isinstance(node, ast.Name) else None


def is_cast(callee: Any) -> bool:
    return callee is np.float32 or callee is np.float64


def in_place(
    context: Any, builder: Any, function: Any, arguments: Sequence[Typed], twin: Twin
) -> Typed | None:
    """The result of a Python function, or None if it is no straight-line one of numbers."""
    numbers = types.Number | types.Boolean
    if not all(isinstance(kind, numbers) for kind, _ in arguments):
        return None
    if (found := body(function)) is None:
        return None
    names = dict(zip(inspect.signature(function).parameters, arguments, strict=True))
    return Written(context, builder, function.__globals__, names, twin).run(found)


class Written:
    """The state of writing one function: the values of its variables."""

    def __init__(
        self,
        context: Any,
        builder: Any,
        space: Mapping[str, Any],
        names: dict[str, Any],
        twin: Twin,
    ) -> None:
        self.context, self.builder, self.space, self.names = context, builder, space, names
        self.twin = twin

    def run(self, statements: Sequence[Any]) -> Typed:
        for statement in statements[:-1]:
            value = self.value(statement.value)
            for target in statement.targets:
                self.assign(target, value)
        return self.value(statements[-1].value)

    def assign(self, target: Any, value: Typed) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value
            return
        kind, whole = value
        for number, part in enumerate(target.elts):
            self.assign(part, (kind[number], self.builder.extract_value(whole, number)))

    def value(self, node: Any) -> Typed:
        match node:
            case ast.Constant(value=value):
                return self.constant(value)
            case ast.Name(id=name) if name in self.names:
                return self.names[name]
            case ast.Name() | ast.Attribute():
                return self.constant(named(node, self.space))
            case ast.Tuple(elts=parts):
                return self.tuple_of([self.value(part) for part in parts])
            case ast.IfExp():
                return self.choice(node)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)):
                return self.constant(-value)  # type: ignore[operator]
            case ast.UnaryOp(op=op, operand=operand):
                return self.negation(op, self.value(operand))
            case ast.BinOp(left=a, op=op, right=b):
                return self.arithmetic(op, self.value(a), self.value(b))
            case ast.Compare(left=a, ops=[op], comparators=[b]):
                return self.comparison(op, self.value(a), self.value(b))
            case ast.Call(func=function, args=parts):
                callee = named(function, self.space)
                return self.called(callee, [self.value(part) for part in parts])
        raise NotImplementedError(ast.unparse(node))

    def constant(self, value: Any) -> Typed:
        """A number, a tuple of numbers, or a function that an intrinsic is given."""
        if isinstance(value, CPUDispatcher):
            return types.Dispatcher(self.twin(value)), self.context.get_dummy_value()
        if type(value) is int:
            return types.literal(value), self.context.get_constant(types.intp, value)
        kind = numba.typeof(value)
        return kind, self.context.get_constant_generic(self.builder, kind, value)

    def tuple_of(self, parts: Sequence[Typed]) -> Typed:
        kind = types.Tuple(tuple(types.unliteral(kind) for kind, _ in parts))
        values = [value for _, value in parts]
        return kind, self.context.make_tuple(self.builder, kind, values)  # type: ignore[arg-type]

    def common(self, a: Typed, b: Typed) -> Any:
        """The type in which numba computes with two numbers one of which is a float, or None."""
        kinds = [types.unliteral(kind) for kind, _ in (a, b)]
        if kinds[0] == kinds[1]:
            return kinds[0] if isinstance(kinds[0], types.Float) else None
        mixed = types.float64 in kinds or set(kinds) == {types.float32, types.intp}
        return types.float64 if mixed else None

    def cast(self, typed: Typed, kind: Any) -> Any:
        return self.context.cast(self.builder, typed[1], types.unliteral(typed[0]), kind)

    def negation(self, op: Any, operand: Typed) -> Typed:
        kind, value = operand
        if isinstance(op, ast.USub) and isinstance(kind, types.Float):
            return kind, self.builder.fneg(value)
        return self.resolved(NEGATIONS[type(op)], [operand])

    def arithmetic(self, op: Any, a: Typed, b: Typed) -> Typed:
        instruction, function = ARITHMETIC[type(op)]
        common = types.boolean if a[0] == b[0] == types.boolean else self.common(a, b)
        if common is None or isinstance(op, ast.BitAnd | ast.BitOr) != (common == types.boolean):
            return self.resolved(function, [a, b])
        write = getattr(self.builder, instruction)
        return common, write(self.cast(a, common), self.cast(b, common))

    def comparison(self, op: Any, a: Typed, b: Typed) -> Typed:
        symbol, function = COMPARISONS[type(op)]
        common = self.common(a, b)
        if common is None:
            return self.resolved(function, [a, b])
        values = self.cast(a, common), self.cast(b, common)
        if symbol == "!=":
            return types.boolean, self.builder.fcmp_unordered(symbol, *values)
        return types.boolean, self.builder.fcmp_ordered(symbol, *values)

    def choice(self, node: ast.IfExp) -> Typed:
        """A branch, as numba makes it, or a selection where both sides are a few instructions."""
        builder = self.builder
        condition = self.cast(self.value(node.test), types.boolean)
        if is_cheap(node.body) and is_cheap(node.orelse):
            sides = [self.value(node.body), self.value(node.orelse)]
            kind = self.unified(sides)
            return kind, builder.select(condition, *(self.cast(side, kind) for side in sides))
        sides, ends = [], []
        blocks = [builder.append_basic_block(name) for name in ("yes", "no", "chosen")]
        builder.cbranch(condition, *blocks[:2])
        for block, side in zip(blocks, (node.body, node.orelse), strict=False):
            builder.position_at_end(block)
            sides.append(self.value(side))
            ends.append(builder.block)
        kind, values = self.unified(sides), []
        for end, side in zip(ends, sides, strict=True):
            builder.position_at_end(end)
            values.append(self.cast(side, kind))
            builder.branch(blocks[2])
        builder.position_at_end(blocks[2])
        result = builder.phi(values[0].type)
        for value, end in zip(values, ends, strict=True):
            result.add_incoming(value, end)
        return kind, result

    def unified(self, sides: Sequence[Typed]) -> Any:
        kinds = [types.unliteral(kind) for kind, _ in sides]
        return self.context.typing_context.unify_types(*kinds)

    def called(self, function: Any, arguments: Sequence[Typed]) -> Typed:
        if is_cast(function):
            kind = numba.from_dtype(np.dtype(function))
            return kind, self.cast(arguments[0], kind)
        if isinstance(function, Intrinsic):
            return intrinsic(self.context, self.builder, function, arguments)
        found = in_place(self.context, self.builder, function.py_func, arguments, self.twin)
        return found or linked(self.context, self.builder, self.twin(function), arguments)

    def resolved(self, function: Any, arguments: Sequence[Typed]) -> Typed:
        return resolved(self.context, self.builder, function, arguments)


def is_cheap(node: ast.expr) -> bool:
    return all(isinstance(part, CHEAP) for part in ast.walk(node))
