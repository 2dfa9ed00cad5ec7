"""Transformations of functions: each makes a traced function of another, so they nest in any order.

grad(f)(x): trace f on x, run the reverse pass in the same trace, return the cotangent of x
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tracegrad.autodiff.derived import Argnums, Region, name_of, split_aux
from tracegrad.function import Function
from tracegrad.leaves import leaves_of
from tracegrad.linearized import pulling, pushing
from tracegrad.ops.operators import ArrayMethods
from tracegrad.shared import shared
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

    `ct` has the structure of the result (None in it: zero). With `has_aux`, `fun` returns
    `(value, aux)` and the result is `(value, pullback, aux)`. The function runs once: what the
    pullback needs of it is kept. Cotangents of integer arrays are zero, those of Python ints None.

    >>> y, pullback = tg.vjp(np.sin, x); (d_x,) = pullback(np.ones_like(y))
    """
    if current_trace() is None and not _tensors(primals):
        result, pullback = pulling(as_function(fun), primals, has_aux)
        value, aux = split_aux(result, has_aux)
    else:
        region = Region(fun, range(len(primals)), primals, {})
        value, aux = split_aux(region.result, has_aux)
        pullback = partial(region.gradients, value)
    return (value, pullback, aux) if has_aux else (value, pullback)


def linearize(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """`(fun(*primals), linear)`; `linear(*tangents)` is the tangent of the result.

    The function runs once, `linear` runs the linear part alone, compiled, from what was kept: the
    way to many products with one Jacobian. `linear.dump()` and `linear.source()` show it. With
    `has_aux` the result is `(value, linear, aux)`.

    >>> y, linear = tg.linearize(np.sin, x); t_y = linear(np.ones_like(x))
    """
    if current_trace() is None and not _tensors(primals):
        result, linear = pushing(as_function(fun), primals, has_aux)
        value, aux = split_aux(result, has_aux)
    else:
        region = Region(fun, range(len(primals)), primals, {})
        value, aux = split_aux(region.result, has_aux)
        region.result = value

        def linear(*tangents: Any) -> Any:
            return region.tangents(tangents)

    return (value, linear, aux) if has_aux else (value, linear)


def _tensors(primals: Any) -> bool:
    return any(isinstance(leaf, ArrayMethods) for leaf in leaves_of(primals)[0])


def jvp(
    fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False
) -> Any:
    """`(fun(*primals), tangent)`: the directional derivative; `tangents` match `primals` in
    structure, None stands for zero. With `has_aux`, `(value, tangent, aux)`.
    """
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise TypeError(
            "jvp takes the arguments as a tuple, and their tangents as another: "
            "tg.jvp(f, (x,), (t,))"
        )
    if current_trace() is None:

        def pushed(primals: Any, tangents: Any) -> Any:
            return jvp(fun, primals, tangents, has_aux)

        made = shared(fun, ("jvp", has_aux), lambda: Function(pushed, f"{name_of(fun)}_jvp"))
        return made(tuple(primals), tuple(tangents))
    region = Region(fun, range(len(primals)), primals, {})
    value, aux = split_aux(region.result, has_aux)
    region.result = value
    tangent = region.tangents(tangents)
    return (value, tangent, aux) if has_aux else (value, tangent)


def as_function(fun: Callable[..., Any]) -> Function:
    """`fun` traced: itself if it is already, or as before if it reads what it read then."""
    return fun if isinstance(fun, Function) else shared(fun, "traced", lambda: Function(fun))


__all__ = ["as_function", "grad", "jvp", "linearize", "value_and_grad", "vjp"]
