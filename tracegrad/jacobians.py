"""Jacobians and Hessians: the linear part of a function applied to every direction.

    jacfwd(f)(x):  y = f(x);  for i in range(n): J[:, i] = push e_i through f at x
    jacrev(f)(x):  y = f(x);  for j in range(m): J[j, :] = pull e_j back through f at x

The function itself is computed once; the loop runs its linear part alone. Where that multiplies by
a matrix, all directions go through it at once, as one product each, and no loop is left.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from tracegrad.autodiff import traced
from tracegrad.autodiff.derived import (
    Argnums,
    Region,
    as_traced,
    name_of,
    positions,
    split_aux,
)
from tracegrad.control.batching import ItemSizesDiffer, batch_graph, for_all
from tracegrad.control.body import trace_body, zeros
from tracegrad.control.form import of_directions
from tracegrad.control.loop import INDEX, Span, loop
from tracegrad.dense import block
from tracegrad.errors import NotDifferentiableError
from tracegrad.function import Function, signature_of
from tracegrad.ir.types import ArrayType
from tracegrad.leaves import leaves_of
from tracegrad.ops.call import passing_backward
from tracegrad.ops.constant import ARANGE, astype
from tracegrad.ops.grids import eye
from tracegrad.ops.op import PUBLIC, bind
from tracegrad.ops.shape import RESHAPE
from tracegrad.passes.cost import guess
from tracegrad.shared import shared
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import current_trace
from tracegrad.transforms import grad
from tracegrad.tree import unflatten

Mode = Callable[[Region, Sequence[Traced], Sequence[Traced]], list[list[Any]]]
"""For each result the derivatives by each argument, of shape `result.shape + argument.shape`."""


def jacfwd(fun: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The Jacobian of `fun` by forward mode, one column per element of the argument(s).

    For a result of shape `r` and an argument of shape `a` an array of shape `r + a`, in the
    structure of the results, each with the structure of the argument inside. With `has_aux`,
    `(jacobian, aux)`.
    """
    return _derived(fun, argnums, has_aux, _forward, True)


def jacrev(fun: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The Jacobian of `fun` by reverse mode, one row per element of the result (see `jacfwd`)."""
    return _derived(fun, argnums, has_aux, _reverse, False)


def jacobian(fun: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The Jacobian of `fun` by the mode with fewer directions, as the first call's sizes have
    it.
    """

    def cheaper(region: Region, ys: Sequence[Traced], xs: Sequence[Traced]) -> list[list[Any]]:
        forward = _count(region, xs) <= _count(region, ys)
        return _forward(region, ys, xs) if forward else _reverse(region, ys, xs)

    return _derived(fun, argnums, has_aux, cheaper)


def hessian(fun: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The second derivative of a scalar function: forward mode over the gradient.

    With `has_aux`, `(hessian, aux)`.
    """

    def make() -> Function:
        return jacfwd(grad(fun, argnums, has_aux), argnums, has_aux)

    return shared(fun, ("hessian", argnums, has_aux), make)


def hvp(fun: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """`hvp(fun)(x, v)`: the product of the Hessian at `x` with `v`, both of one structure, never
    formed as a matrix: forward mode over the gradient.

    `fun` may take more arguments; `v` comes last and is a tuple if `argnums` is one. With
    `has_aux`, `(product, aux)`.
    """
    return shared(fun, ("hvp", argnums, has_aux), lambda: _hvp(fun, argnums, has_aux))


def _hvp(fun: Callable[..., Any], argnums: Argnums, has_aux: bool) -> Function:
    gradient = grad(fun, argnums, has_aux)

    def product(*args: Any, **kwargs: Any) -> Any:
        if len(args) < 2:
            raise TypeError(f"hvp of {name_of(fun)}: give the arguments, then the vector v")
        *primals, v = args
        numbers = positions(fun, argnums, primals)
        region = Region(gradient, numbers, primals, kwargs)
        result, aux = split_aux(region.result, has_aux)
        region.result = result
        found = region.tangents((v,) if isinstance(argnums, int) else tuple(v))
        return (found, aux) if has_aux else found

    product.__signature__ = _with_vector(signature_of(fun))  # type: ignore[attr-defined]
    return Function(product, f"{name_of(fun)}_hvp")


def _with_vector(own: inspect.Signature) -> inspect.Signature:
    """The parameters of a function, then `v`; any, where `v` cannot follow them."""
    kind = inspect.Parameter.POSITIONAL_ONLY
    given = list(own.parameters.values())
    plain = all(
        x.kind in (kind, inspect.Parameter.POSITIONAL_OR_KEYWORD) and x.default is x.empty
        for x in given
    )
    if not plain or "v" in own.parameters:
        return signature_of(lambda *args, **kwargs: None)
    v = inspect.Parameter("v", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return inspect.Signature([*given, v])


def _derived(
    fun: Callable[..., Any],
    argnums: Argnums,
    has_aux: bool,
    mode: Mode,
    forward: bool | None = None,
) -> Function:
    """`forward`: whether `mode` is forward mode; None if that depends on the sizes."""

    def derived(*args: Any, **kwargs: Any) -> Any:
        region = Region(fun, positions(fun, argnums, args), args, kwargs)
        value, aux = split_aux(region.result, has_aux)
        leaves, tree = leaves_of(value)
        ys = [as_traced(region.trace, leaf) for leaf in leaves]
        _check(fun, region, ys)
        table = block(region, ys, forward) or mode(region, ys, region.wrt)
        found = []
        for row in table:
            items = iter(row)
            inner = tuple(unflatten(own, items) for own in region.trees)
            found.append(inner[0] if isinstance(argnums, int) else inner)
        jacobian = unflatten(tree, iter(found))
        return (jacobian, aux) if has_aux else jacobian

    derived.__wrapped__ = getattr(fun, "python", fun)  # type: ignore[attr-defined]
    options = ("jacobian", argnums, has_aux, forward)
    return shared(fun, options, lambda: Function(derived, f"{name_of(fun)}_jacobian"))


def _check(fun: Any, region: Region, ys: Sequence[Traced]) -> None:
    for x in (*region.wrt, *ys):
        if not x.type.is_float:
            raise NotDifferentiableError(
                f"the jacobian of {name_of(fun)}: an argument or result is {x.type}; only "
                "floating ones have derivatives"
            )


def _count(region: Region, values: Sequence[Traced]) -> int:
    assumptions = region.trace.assumptions
    return sum(guess(assumptions.resolve(x.type.size), assumptions.hints) for x in values)


def _forward(region: Region, ys: Sequence[Traced], xs: Sequence[Traced]) -> list[list[Any]]:
    by_argument = []
    for x in xs:

        def push(given: list[Traced], x: Traced = x) -> Any:
            inner = current_trace()
            assert inner is not None
            seed = {x.node: given[0]}
            found = traced.jvp(inner, [y.node for y in ys], seed, region.trace)
            return [zeros(y.type) if t is None else t for y, t in zip(ys, found, strict=True)]

        stacked = _stacked(region, "pushed", x, push)
        by_argument.append(
            [
                _reshaped(PUBLIC["moveaxis"](column, 0, -1), (*y.type.shape, *x.type.shape))
                for y, column in zip(ys, stacked, strict=True)
            ]
        )
    return [list(row) for row in zip(*by_argument, strict=True)]


def _reverse(region: Region, ys: Sequence[Traced], xs: Sequence[Traced]) -> list[list[Any]]:
    rows = []
    for y in ys:

        def pull(given: list[Traced], y: Traced = y) -> Any:
            inner = current_trace()
            assert inner is not None
            with passing_backward(region):
                found = traced.vjp(inner, [y.node], given, [x.node for x in xs], region.trace)
            return [zeros(x.type) if d is None else d for x, d in zip(xs, found, strict=True)]

        stacked = _stacked(region, "pulled", y, pull)
        rows.append(
            [
                _reshaped(row, (*y.type.shape, *x.type.shape))
                for x, row in zip(xs, stacked, strict=True)
            ]
        )
    return rows


def _stacked(region: Region, name: str, over: Traced, run: Callable[..., Any]) -> list[Traced]:
    """The results of `run` on every unit array of the type of `over`, stacked."""
    trace, count = region.trace, over.type.size
    body = trace_body(trace, name, [("unit", over.type)], run)
    captured = [Traced(trace, node) for node in body.captured]
    flags = [True] + [False] * len(captured)
    form = of_directions(body.graph, flags)
    trace.note("directions", f"{name} through {region.trace.name}: {form.reason}")
    if form.batched:
        units = _reshaped(eye(count, dtype=over.type.dtype), (count, *over.type.shape))
        try:
            found = batch_graph(trace, body.graph, [units, *captured], flags, count)
            return [for_all(trace, y, count) for y in found]
        except ItemSizesDiffer:
            pass

    def one(given: list[Traced]) -> list[Any]:
        inner = current_trace()
        assert inner is not None
        unit = as_traced(inner, _unit(over.type, given[0]))
        own = [unit, *captured]
        found = batch_graph(inner, body.graph, own, [False] * len(own), count)
        return [y.value for y in found]

    return loop(trace_body(trace, name, [("index", INDEX)], one), [], [], Span(count))


def _unit(type: ArrayType, index: Traced) -> Any:
    """The unit array of that type whose element at (flat) `index` is 1."""
    if not type.rank:
        return astype(PUBLIC["equal"](index, 0), type.dtype)
    counting = bind(ARANGE, size=type.size)
    return _reshaped(astype(PUBLIC["equal"](counting, index), type.dtype), type.shape)


def _reshaped(value: Any, shape: Sequence[Any]) -> Any:
    return value if value.type.shape == tuple(shape) else bind(RESHAPE, value, shape=tuple(shape))
