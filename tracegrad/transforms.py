"""Transformations of functions: each makes a traced function of another, so they nest in any order.

grad(f)(x): trace f on x, run the reverse pass in the same trace, return the cotangent of x
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracegrad.autodiff.derived import Argnums, Region, name_of, split_aux
from tracegrad.function import Function
from tracegrad.leaves import leaves_of
from tracegrad.tracing.trace import current_trace


def value_and_grad(
    fun: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Function:
    """A function that returns `(fun(*args), gradient)`; `fun` has a scalar floating result.

    The gradient has the structure of the argument `argnums` (a tuple of gradients for a tuple of
    positions). With `has_aux`, `fun` returns `(value, aux)`, and so does the first item of the
    result. Raises NotDifferentiableError for integer arguments and for a result that is not one
    scalar.
    """
    return as_function(fun).derived("value_and_grad", argnums, has_aux)


def grad(fun: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The gradient of `fun` alone (see `value_and_grad`); with `has_aux`, `(gradient, aux)`."""
    return as_function(fun).derived("grad", argnums, has_aux)


def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """`(fun(*primals), pullback)`; `pullback(ct)` is the tuple of the cotangents of the primals.

    `ct` has the structure of the result. With `has_aux`, `fun` returns `(value, aux)` and the
    result is `(value, pullback, aux)`. Outside of a trace a call of the pullback computes the
    forward part again.
    """
    if current_trace() is None:
        return _vjp_outside(fun, primals, has_aux)
    region = Region(fun, range(len(primals)), primals, {})
    value, aux = split_aux(region.result, has_aux)

    def pullback(ct: Any) -> tuple[Any, ...]:
        return region.gradients(value, ct)

    return (value, pullback, aux) if has_aux else (value, pullback)


def _vjp_outside(fun: Callable[..., Any], primals: tuple[Any, ...], has_aux: bool) -> Any:
    def pulled(primals: Any, ct: Any) -> Any:
        return vjp(fun, *primals, has_aux=has_aux)[1](ct)

    compiled = Function(pulled, f"{name_of(fun)}_vjp")
    value, aux = split_aux(as_function(fun)(*primals), has_aux)

    def pullback(ct: Any) -> Any:
        return compiled(primals, ct)

    return (value, pullback, aux) if has_aux else (value, pullback)


def jvp(
    fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[Any, Any]:
    """`(fun(*primals), tangent)`: the directional derivative; `tangents` match `primals` in
    structure.
    """
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise TypeError(
            "jvp takes the arguments as a tuple, and their tangents as another: "
            "tg.jvp(f, (x,), (t,))"
        )
    if current_trace() is None:

        def pushed(primals: Any, tangents: Any) -> Any:
            return jvp(fun, primals, tangents)

        return Function(pushed, f"{name_of(fun)}_jvp")(tuple(primals), tuple(tangents))
    region = Region(fun, range(len(primals)), primals, {})
    return region.result, region.tangents(leaves_of(tuple(tangents))[0])


def as_function(fun: Callable[..., Any]) -> Function:
    """`fun` traced: itself if it is already."""
    return fun if isinstance(fun, Function) else Function(fun)


__all__ = ["as_function", "grad", "jvp", "value_and_grad", "vjp"]
