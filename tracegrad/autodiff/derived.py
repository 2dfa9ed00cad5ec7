"""Derivatives of Python functions inside a trace: what `grad`, `vjp` and `jvp` run while they are
traced.

value_and_grad(f)(x):  x' = copy(x);  y = f(x');  d_x = reverse pass from y to x';  return y, d_x
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracegrad.autodiff import traced
from tracegrad.errors import NotDifferentiableError, ShapeError
from tracegrad.ir.dims import must_be_same
from tracegrad.ir.graph import next_serial
from tracegrad.ir.types import ArrayType
from tracegrad.leaves import leaves_of, matching
from tracegrad.ops.call import passing_backward
from tracegrad.ops.constant import astype
from tracegrad.ops.op import as_operand, type_of
from tracegrad.ops.reduction import broadcast_to
from tracegrad.ops.shape import COPY
from tracegrad.tracing.array import Traced
from tracegrad.tracing.naming import program_name
from tracegrad.tracing.trace import Trace, current_trace
from tracegrad.tree import Branch, Static, Tree, of_derivative, unflatten

Argnums = int | Sequence[int]


class Region:
    """`fun` applied inside the current trace, to copies of the arguments to differentiate in.

    The copies separate the arguments from other uses of the same values outside of `fun`.
    """

    def __init__(
        self, fun: Callable[..., Any], argnums: Sequence[int], args: Sequence[Any], kwargs: Any
    ) -> None:
        trace = current_trace()
        assert trace is not None
        self.trace: Trace = trace
        self.trees: list[Tree] = []
        self.wrt: list[Traced] = []
        args = list(args)
        for number in argnums:
            args[number] = self._separate(args[number])
        begun = next_serial()
        self.result = self._rolled(fun(*args, **kwargs), begun)

    def _rolled(self, result: Any, begun: int) -> Any:
        """The result with unrolled Python loops rolled: what is differentiated are loops."""
        leaves, tree = leaves_of(result)
        values = [as_traced(self.trace, leaf) for leaf in leaves]
        keep = [x.node for x in self.wrt]
        ends = self.trace.ends()
        nodes = self.trace.rolled([*(value.node for value in values), *ends], keep, begun)
        nodes, ends = nodes[: len(values)], nodes[len(values) :]
        for generator, state in zip(self.trace.drawn, ends, strict=True):
            self.trace.advance(generator, state)
        for value, node in zip(values, nodes, strict=True):
            if node is not value.node and value.node in self.trace.names:
                self.trace.names.setdefault(node, self.trace.names[value.node])
        if all(node is value.node for value, node in zip(values, nodes, strict=True)):
            return result
        return unflatten(tree, iter([Traced(self.trace, node) for node in nodes]))

    def _separate(self, argument: Any) -> Any:
        leaves, tree = leaves_of(argument)
        copies = [separated(self.trace, leaf) for leaf in leaves]
        self.trees.append(of_derivative(tree))
        self.wrt.extend(copies)
        return unflatten(tree, iter(copies))

    def gradients(self, value: Any, ct: Any) -> tuple[Any, ...]:
        """The cotangents of the separated arguments, in their structures, from that of `value`."""
        outputs, tree = leaves_of(value)
        cts = matching(tree, ct, "the cotangent")
        nodes, given = [], []
        for result, d in zip(outputs, cts, strict=True):
            y = as_traced(self.trace, result)
            if y.type.is_float and d is not None:
                self.trace.names.setdefault(y.node, "y")
                nodes.append(y.node)
                given.append(self._like(d, y.type))
        with passing_backward(self):
            found = traced.vjp(self.trace, nodes, given, [x.node for x in self.wrt])
        filled = iter([self._or_zero(x, g) for x, g in zip(self.wrt, found, strict=True)])
        return tuple(unflatten(tree, filled) for tree in self.trees)

    def tangents(self, given: Sequence[Any]) -> Any:
        """The tangent of the result from those of the separated arguments, in its structure."""
        if len(given) != len(self.trees):
            raise TypeError(
                f"jvp: {len(self.trees)} primals, but {len(given)} tangents: give one for each, "
                "None for zero"
            )
        leaves = [
            leaf
            for number, (tree, tangent) in enumerate(zip(self.trees, given, strict=True))
            for leaf in matching(tree, tangent, f"tangent {number}")
        ]
        named = {
            x.node: self._like(t, x.type)
            for x, t in zip(self.wrt, leaves, strict=True)
            if x.type.is_float and t is not None
        }
        leaves, tree = leaves_of(self.result)
        outputs = [as_traced(self.trace, leaf) for leaf in leaves]
        found = traced.jvp(self.trace, [y.node for y in outputs], named)
        filled = [self._or_zero(y, t) for y, t in zip(outputs, found, strict=True)]
        return unflatten(tree, iter(filled))

    def _like(self, value: Any, type: ArrayType) -> Traced:
        own = type_of(value)
        fits = own.rank == type.rank and all(map(must_be_same, own.shape, type.shape))
        if own.rank and not fits:
            raise ShapeError(
                f"a tangent or cotangent {own.in_figures()} is given for "
                f"{type.in_figures()}: it must have the same shape"
            )
        return as_traced(self.trace, broadcast_to(astype(value, type.dtype), type.shape))

    def _or_zero(self, x: Traced, derivative: Any) -> Traced:
        if derivative is not None:
            return derivative
        return self._like(0.0, x.type if x.type.is_float else ArrayType(FLOAT, x.type.shape))


FLOAT = np.dtype(np.float64)


def value_and_grad(
    fun: Callable[..., Any], argnums: Argnums, has_aux: bool, args: tuple[Any, ...], kwargs: Any
) -> tuple[Any, Any]:
    """`(result, gradient)`; the gradient has the structure of the argument(s) `argnums`."""
    numbers = positions(fun, argnums, args)
    region = Region(fun, numbers, args, kwargs)
    _check_arguments(fun, [args[number] for number in numbers], region)
    y = _scalar(region.trace, split_aux(region.result, has_aux)[0], fun)
    gradients = region.gradients(y, np.ones((), y.type.dtype)[()])
    return region.result, gradients[0] if isinstance(argnums, int) else gradients


def argument_numbers(argnums: Any) -> int | tuple[int, ...]:
    """`argnums` as an int or ints. Raises TypeError for what is none."""
    try:
        if isinstance(argnums, tuple | list):
            return tuple(map(operator.index, argnums))
        return operator.index(argnums)
    except TypeError:
        raise TypeError(
            f"argnums={argnums!r}: give a position (0 is the first argument), or several of them"
        ) from None


def positions(fun: Any, argnums: Argnums, args: Sequence[Any]) -> tuple[int, ...]:
    """The arguments that `argnums` means, counted from 0."""
    known = argument_numbers(argnums)
    numbers = known if isinstance(known, tuple) else (known,)
    for number in numbers:
        if not -len(args) <= number < len(args):
            count = f"{len(args)} argument{'s' * (len(args) != 1)}"
            raise TypeError(
                f"argnums={number}, but {name_of(fun)} was called with {count} by position"
            )
    return tuple(number % len(args) for number in numbers)


def _check_arguments(fun: Any, arguments: Sequence[Any], region: Region) -> None:
    for x in region.wrt:
        if not x.type.is_float:
            raise NotDifferentiableError(
                f"the gradient of {name_of(fun)} with respect to an argument of dtype "
                f"{x.type.dtype}: only floating "
                "arguments have gradients; convert it with .astype(float), or leave it out of "
                "argnums"
            )
    if not region.wrt and any(_holds_static(leaves_of(argument)[1]) for argument in arguments):
        kinds = ", ".join(type(argument).__name__ for argument in arguments)
        raise NotDifferentiableError(
            f"the gradient of {name_of(fun)} with respect to an argument without floating values "
            f"({kinds}): Python ints, strings and None are static; write a float, 3.0 instead of 3"
        )


def _holds_static(tree: Tree) -> bool:
    """Whether it has a value that is no array; None is an empty structure."""
    if isinstance(tree, Branch):
        return any(map(_holds_static, tree.children))
    return isinstance(tree, Static) and tree.value is not None


def _scalar(trace: Trace, value: Any, fun: Any) -> Traced:
    leaves, _ = leaves_of(value)
    if len(leaves) != 1:
        raise NotDifferentiableError(
            f"the gradient of {name_of(fun)}: it returns {len(leaves)} arrays; return one scalar, "
            "or use has_aux=True "
            "for further results"
        )
    y = as_traced(trace, leaves[0])
    if y.type.rank:
        raise NotDifferentiableError(
            f"the gradient of {name_of(fun)}: its result is {y.type}, not a scalar; reduce it "
            "(np.sum, np.mean), or "
            "use tg.vjp"
        )
    if not y.type.is_float:
        raise NotDifferentiableError(
            f"the gradient of {name_of(fun)}: its result is {y.type}; only floating results have "
            "gradients"
        )
    return y


def split_aux(result: Any, has_aux: bool) -> tuple[Any, Any]:
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError("has_aux=True: the function must return a pair (value, aux)")
    return result[0], result[1]


def separated(trace: Trace, value: Any) -> Traced:
    """A copy of a value as a node of its own, so that it can be differentiated in. It counts as an
    argument: after a write to it the derivative would be that in the new value.
    """
    own = as_traced(trace, value)
    node = trace.capture(own._trace, own.node)
    name = trace.names.get(node, "")
    return Traced(trace, trace.record_new(COPY, (node,), name), name or "x")


def as_traced(trace: Trace, value: Any) -> Traced:
    """`value` in this trace; an object array of traced numbers is stacked, others are constants."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = as_operand(value)
    return value if isinstance(value, Traced) else Traced(trace, trace.lift(value))


def name_of(fun: Any) -> str:
    """A function's name as that of a generated one. Raises TypeError for what is no function."""
    if not callable(fun):
        raise TypeError(
            f"only functions can be transformed: this is {fun!r} ({type(fun).__name__}); give a "
            "function, lambda x: ... for instance"
        )
    return program_name(getattr(fun, "name", "") or getattr(fun, "__name__", ""))
