"""Transformations of functions: each makes a traced function of another, so they nest in any order.

    grad(f)(x): trace f on x, run the reverse pass in the same trace, return the cotangent of x
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracegrad.autodiff import traced
from tracegrad.errors import NotDifferentiableError, TracegradError
from tracegrad.function import Function, is_leaf
from tracegrad.ir.graph import Node
from tracegrad.ir.types import ArrayType
from tracegrad.ops.op import PUBLIC, bind
from tracegrad.ops.shape import COPY
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace, current_trace
from tracegrad.tree import Tree, flatten, unflatten

Argnums = int | Sequence[int]


def value_and_grad(
    fun: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Function:
    """A function that returns `(fun(*args), gradient)`; `fun` has a scalar floating result.

    The gradient has the structure of the argument `argnums` (a tuple of gradients for a tuple of positions).
    With `has_aux`, `fun` returns `(value, aux)`, and so does the first item of the result.
    Raises NotDifferentiableError for integer arguments, TypeError for a result that is not a scalar.
    """

    def derived(*args: Any, **kwargs: Any) -> Any:
        return _value_and_grad(fun, argnums, has_aux, args, kwargs)

    return _derived(derived, fun, "value_and_grad")


def grad(fun: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The gradient of `fun` alone (see `value_and_grad`); with `has_aux`, `(gradient, aux)`."""

    def derived(*args: Any, **kwargs: Any) -> Any:
        value, gradient = _value_and_grad(fun, argnums, has_aux, args, kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return _derived(derived, fun, "grad")


def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """`(fun(*primals), pullback)`; `pullback(ct)` is a tuple, the cotangents of the primals.

    `ct` has the structure of the result. Outside of a trace each call of the pullback runs compiled code that
    computes the forward part again; take `jacobian` or `value_and_grad` where many are needed.
    """
    if current_trace() is None:
        return _vjp_outside(fun, primals, has_aux)
    region = _Region(fun, tuple(range(len(primals))), primals, {})
    value, aux = _split_aux(region.result, has_aux)

    def pullback(ct: Any) -> tuple[Any, ...]:
        return region.gradients(value, ct)

    return (value, pullback, aux) if has_aux else (value, pullback)


def _vjp_outside(fun: Callable[..., Any], primals: tuple[Any, ...], has_aux: bool) -> Any:
    def pulled(primals: Any, ct: Any) -> Any:
        pullback = vjp(fun, *primals, has_aux=has_aux)[1]
        return pullback(ct)

    compiled = _derived(pulled, fun, "vjp")
    forward = fun if isinstance(fun, Function) else _derived(fun, fun, "")
    result = forward(*primals)
    value, aux = _split_aux(result, has_aux)

    def pullback(ct: Any) -> Any:
        return compiled(primals, ct)

    return (value, pullback, aux) if has_aux else (value, pullback)


def jvp(fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """`(fun(*primals), tangent)`: the directional derivative; `tangents` match `primals`."""
    if current_trace() is None:
        return _derived(
            lambda primals, tangents: jvp(fun, primals, tangents), fun, "jvp"
        )(tuple(primals), tuple(tangents))
    region = _Region(fun, tuple(range(len(primals))), tuple(primals), {})
    leaves: list[tuple[str, Any]] = []
    flatten("", tuple(tangents), is_leaf, leaves)
    if len(leaves) != len(region.wrt):
        raise TypeError(
            f"jvp: {len(region.wrt)} arrays among the primals, {len(leaves)} among the tangents"
        )
    given = {
        x.node: PUBLIC["broadcast_to"](PUBLIC["astype"](t, x.type.dtype), x.type.shape)
        for x, (_, t) in zip(region.wrt, leaves, strict=True)
        if x.type.is_float
    }
    results: list[tuple[str, Any]] = []
    tree = flatten("", region.result, is_leaf, results)
    outputs = [as_traced(region.trace, value) for _, value in results]
    found = traced.jvp(
        region.trace,
        [y.node for y in outputs],
        {node: as_traced(region.trace, t) for node, t in given.items()},
    )
    pushed = [
        zeros_of(region.trace, y.type) if t is None else t
        for y, t in zip(outputs, found, strict=True)
    ]
    return region.result, unflatten(tree, iter(pushed))


def stop_gradient(x: Any) -> Any:
    """`x` as a constant for differentiation."""
    return PUBLIC["stop_gradient"](x)


class _Region:
    """`fun` applied inside the current trace, to copies of the arguments to differentiate in.

    The copies separate the arguments from other uses of the same values outside of `fun`.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        argnums: Sequence[int],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        trace = current_trace()
        assert trace is not None
        self.trace: Trace = trace
        self.trees: list[Tree] = []
        self.wrt: list[Traced] = []
        args_list = list(args)
        for number in argnums:
            args_list[number] = self._separate(args[number])
        python = fun.python if isinstance(fun, Function) else fun
        self.result = python(*args_list, **kwargs)

    def _separate(self, argument: Any) -> Any:
        leaves: list[tuple[str, Any]] = []
        tree = flatten("", argument, is_leaf, leaves)
        copies = [separated(self.trace, value) for _, value in leaves]
        self.trees.append(tree)
        self.wrt.extend(copies)
        return unflatten(tree, iter(copies))

    def gradients(self, value: Any, ct: Any) -> tuple[Any, ...]:
        """The cotangents of the separated arguments, in their structures."""
        outputs: list[tuple[str, Any]] = []
        flatten("", value, is_leaf, outputs)
        cts: list[tuple[str, Any]] = []
        flatten("", ct, is_leaf, cts)
        if len(cts) != len(outputs):
            raise TypeError(f"vjp: {len(outputs)} results but {len(cts)} cotangents")
        nodes, given = [], []
        for (_, y), (_, d) in zip(outputs, cts, strict=True):
            y = as_traced(self.trace, y)
            if y.type.is_float:
                nodes.append(y.node)
                d = PUBLIC["broadcast_to"](PUBLIC["astype"](d, y.type.dtype), y.type.shape)
                given.append(as_traced(self.trace, d))
        found = traced.vjp(self.trace, nodes, given, [x.node for x in self.wrt])
        filled = iter(
            [
                zeros_of(self.trace, x.type) if g is None else g
                for x, g in zip(self.wrt, found, strict=True)
            ]
        )
        return tuple(unflatten(tree, filled) for tree in self.trees)


def _value_and_grad(
    fun: Callable[..., Any], argnums: Argnums, has_aux: bool, args: tuple[Any, ...], kwargs: Any
) -> tuple[Any, Any]:
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for number in numbers:
        if not -len(args) <= number < len(args):
            raise TypeError(
                f"argnums={number}, but {_name(fun)} was called with {len(args)} positional arguments"
            )
    numbers = tuple(number % len(args) for number in numbers)
    region = _Region(fun, numbers, args, kwargs)
    _check_arguments(fun, numbers, args, region)
    value, _ = _split_aux(region.result, has_aux)
    y = _scalar(region.trace, value, fun)
    gradients = region.gradients(y, np.ones((), y.type.dtype)[()])
    return region.result, gradients[0] if isinstance(argnums, int) else gradients


def _check_arguments(fun: Any, numbers: Sequence[int], args: tuple[Any, ...], region: _Region):
    for x in region.wrt:
        if not x.type.is_float:
            raise NotDifferentiableError(
                f"the gradient of {_name(fun)} with respect to an argument of dtype {x.type.dtype}: only floating "
                "arguments have gradients; convert it with .astype(float), or leave it out of argnums"
            )
    if not region.wrt:
        kinds = ", ".join(type(args[number]).__name__ for number in numbers)
        raise NotDifferentiableError(
            f"the gradient of {_name(fun)} with respect to an argument without arrays ({kinds}): Python ints are "
            "static; write a float, 3.0 instead of 3"
        )


def _scalar(trace: Trace, value: Any, fun: Any) -> Traced:
    leaves: list[tuple[str, Any]] = []
    flatten("", value, is_leaf, leaves)
    if len(leaves) != 1:
        raise TracegradError(
            f"the gradient of {_name(fun)}: it returns {len(leaves)} arrays; return one scalar, or use has_aux=True "
            "for further results"
        )
    y = as_traced(trace, leaves[0][1])
    if y.type.rank:
        raise TracegradError(
            f"the gradient of {_name(fun)}: its result is {y.type}, not a scalar; reduce it (np.sum, np.mean), or use "
            "tg.vjp or tg.jacobian"
        )
    if not y.type.is_float:
        raise NotDifferentiableError(
            f"the gradient of {_name(fun)}: its result is {y.type}; only floating results have gradients"
        )
    return y


def _split_aux(result: Any, has_aux: bool) -> tuple[Any, Any]:
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError("has_aux=True: the function must return a pair (value, aux)")
    return result


def separated(trace: Trace, value: Any) -> Traced:
    """A copy of a value as a node of its own, so that it can be differentiated in."""
    node = as_traced(trace, value).node
    return Traced(trace, trace.record_new(COPY, (node,), trace.names.get(node, "")))


def as_traced(trace: Trace, value: Any) -> Traced:
    return value if isinstance(value, Traced) else Traced(trace, trace.lift(value))


def zeros_of(trace: Trace, type: ArrayType) -> Traced:
    zero = as_traced(trace, np.zeros((), type.dtype)[()])
    return PUBLIC["broadcast_to"](zero, type.shape) if type.rank else zero


def _name(fun: Any) -> str:
    return getattr(fun, "name", "") or getattr(fun, "__name__", "the function")


def _derived(python: Callable[..., Any], fun: Callable[..., Any], suffix: str) -> Function:
    name = _name(fun) if _name(fun).isidentifier() else "function"
    python.__wrapped__ = getattr(fun, "python", fun) if suffix != "vjp" else python  # type: ignore[attr-defined]
    if suffix in ("vjp", "jvp"):
        del python.__wrapped__  # type: ignore[attr-defined]
    return Function(python, f"{name}_{suffix}" if suffix else name)


__all__ = ["Node", "bind", "grad", "jvp", "stop_gradient", "value_and_grad", "vjp"]
