"""`primitive`: a compiled function of the user's own as an operation with derivative rules.

@njit
def step(x, h): ...

euler = tg.primitive(step, vjp=lambda ct, out, x, h: (...), shape=0)
euler(x, 0.1)      ->      compiled code calls `step` itself, its gradient calls the rule's code
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any

import numba

from codegen.foreign import Foreign, plain
from tracegrad.autodiff.derived import as_traced, name_of
from tracegrad.autodiff.traced import transpose_linear
from tracegrad.control.body import zeros
from tracegrad.errors import NotDifferentiableError, TraceError, UnsupportedError
from tracegrad.function import Function
from tracegrad.ir.dims import must_be_same
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.leaves import leaves_of
from tracegrad.ops.constant import astype
from tracegrad.ops.foreign import FOREIGN, Kernel, Promise
from tracegrad.ops.op import as_operand, type_of
from tracegrad.ops.operators import ArrayMethods
from tracegrad.ops.project import PROJECT
from tracegrad.promise import ShapeDtype, count_results, promised
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import current_trace

Rule = Callable[..., Any]


class Primitive:
    """A compiled function as an operation; calls take arrays, numbers, traced values, tensors."""

    def __init__(
        self,
        function: Callable[..., Any],
        vjp: Rule | None = None,
        jvp: Rule | None = None,
        shape: Any = 0,
        fills: bool = False,
    ) -> None:
        if not hasattr(function, "py_func"):
            if not inspect.isfunction(function):
                raise TypeError(
                    f"tg.primitive takes a function compiled with @numba.njit: this is {function!r}"
                )
            function = numba.njit(function)
        self.function, self.shape = function, shape
        self.name = name_of(plain(function))
        self.vjp_rule, self.jvp_rule = vjp, jvp
        compiles = getattr(function, "_can_compile", True)
        foreign = Foreign(self.name, function, readonly=compiles)
        self.kernel = Kernel(foreign, self._vjp, self._jvp, fills, self._has_rule)
        update_wrapper(self, plain(function))
        self.__signature__ = arguments_of(plain(function), count_results(shape) if fills else 0)
        self._outside = Function(self._recorded, self.name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            bound = self.__signature__.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}") from None
        bound.apply_defaults()
        args = bound.args
        if current_trace() is not None:
            return self._recorded(*args)
        if any(isinstance(leaf, ArrayMethods) for leaf in leaves_of(args)[0]):
            return self._outside(*args)
        operands = [as_operand(arg) for arg in args]
        promise = self._promise([type_of(x) for x in operands])
        return FOREIGN.reference(*operands, kernel=self.kernel, promise=promise)

    def defvjp(self, rule: Rule) -> Rule:
        """Give the reverse-mode rule: `rule(ct, out, *args) -> cotangents of args`."""
        self.vjp_rule = rule
        return rule

    def defjvp(self, rule: Rule) -> Rule:
        """Give the forward-mode rule: `rule(tangents, out, *args) -> tangent of out`."""
        self.jvp_rule = rule
        return rule

    def _has_rule(self) -> bool:
        return self.vjp_rule is not None or self.jvp_rule is not None

    def _promise(self, types: Sequence[ArrayType]) -> Promise:
        return promised(self.name, self.shape, types)

    def _recorded(self, *args: Any) -> Any:
        trace = current_trace()
        assert trace is not None
        given = [as_traced(trace, self._operand(arg)) for arg in args]
        promise = self._promise([x.type for x in given])
        nodes = tuple(trace.capture(x._trace, x.node) for x in given)
        node = trace.record(FOREIGN, nodes, {"kernel": self.kernel, "promise": promise})
        return results_of(Traced(trace, node))

    def _operand(self, arg: Any) -> Any:
        try:
            return as_operand(arg)
        except UnsupportedError as error:
            raise UnsupportedError(f"{self.name}: {error}") from None

    def _vjp(self, ct: Any, out: Any, inputs: Sequence[Any]) -> list[Any]:
        if self.vjp_rule is not None:
            cts = ct if isinstance(ct, list) else [ct]
            return self._cotangents(self.vjp_rule, cts, out, inputs)
        if self.jvp_rule is None:
            raise self._without_rule()
        rule = self.jvp_rule
        cts = ct if isinstance(ct, list) else [ct]
        types = [x.type for x in inputs]
        return transpose_linear(
            lambda free: self._tangents(rule, free, out, inputs),
            types,
            cts,
            f"the jvp rule of {self.name}",
        )

    def _jvp(self, tangents: Sequence[Any], out: Any, inputs: Sequence[Any]) -> list[Any]:
        if self.jvp_rule is not None:
            return self._tangents(self.jvp_rule, tangents, out, inputs)
        if self.vjp_rule is None:
            raise self._without_rule()
        rule, types = self.vjp_rule, list(parts_of(out.type))
        return transpose_linear(
            lambda free: self._cotangents(rule, free, out, inputs),
            types,
            list(tangents),
            f"the vjp rule of {self.name}",
        )

    def _without_rule(self) -> NotDifferentiableError:
        return NotDifferentiableError(
            f"{self.name} is a primitive without derivative rules: give it one, "
            f"tg.primitive({self.name}, vjp=lambda ct, out, *args: (d_arg, ...)) or jvp=lambda "
            "tangents, out, *args: t_out; for a function that is constant, a rule of zeros"
        )

    def _cotangents(self, rule: Rule, cts: Sequence[Any], out: Any, inputs: Any) -> list[Any]:
        """What the vjp rule gives, one for each input."""
        filled = [
            zeros(type) if ct is None else ct
            for type, ct in zip(parts_of(out.type), cts, strict=True)
        ]
        one = not isinstance(out.type, TupleType)
        found = rule(filled[0] if one else tuple(filled), results_of(out), *inputs)
        if len(inputs) == 1 and not isinstance(found, tuple | list):
            found = (found,)
        if not isinstance(found, tuple | list) or len(found) != len(inputs):
            raise TraceError(
                f"the vjp rule of {self.name} must return a tuple of {len(inputs)} cotangents, "
                "one for each argument (None: zero)"
            )
        return [
            self._like("vjp", d, x.type, f"argument {number}")
            for number, (d, x) in enumerate(zip(found, inputs, strict=True))
        ]

    def _tangents(self, rule: Rule, tangents: Any, out: Any, inputs: Any) -> list[Any]:
        """What the jvp rule gives, one for each result."""
        filled = tuple(
            zeros(x.type) if t is None else t for x, t in zip(inputs, tangents, strict=True)
        )
        found = rule(filled, results_of(out), *inputs)
        parts = parts_of(out.type)
        found = found if isinstance(out.type, TupleType) else (found,)
        if not isinstance(found, tuple | list) or len(found) != len(parts):
            raise TraceError(
                f"the jvp rule of {self.name} must return the tangents of its {len(parts)} results"
            )
        return [
            self._like("jvp", t, type, "the result" if len(parts) == 1 else f"result {number}")
            for number, (t, type) in enumerate(zip(found, parts, strict=True))
        ]

    def _like(self, rule: str, value: Any, type: ArrayType, about: str) -> Any:
        """A derivative as an array of the dtype of what it belongs to; None where it has none.
        Raises NotDifferentiableError if it has another shape than that."""
        trace = current_trace()
        assert trace is not None
        if value is None or not type.is_float:
            return None
        given = as_traced(trace, value)
        found = given.type
        if found.rank != type.rank or not all(map(must_be_same, found.shape, type.shape)):
            raise NotDifferentiableError(
                f"the {rule} rule of {self.name} returns {found.in_figures()} for {about}, which "
                f"is {type.in_figures()}"
            )
        return as_traced(trace, astype(given, type.dtype))

    def __repr__(self) -> str:
        return f"<primitive {self.name}{self.__signature__}>"


def arguments_of(function: Callable[..., Any], results: int | None) -> inspect.Signature:
    """The parameters of a function without those of its results, which come last (None: nobody
    knows how many)."""
    known = list(inspect.signature(function).parameters.values())
    if results is None:
        return inspect.Signature([inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)])
    return inspect.Signature(known[: len(known) - results])


def parts_of(type: ArrayType) -> tuple[ArrayType, ...]:
    """The types of the results."""
    return type.parts if isinstance(type, TupleType) else (type,)


def results_of(out: Any) -> Any:
    """The result, or the tuple of results."""
    if not isinstance(out.type, TupleType):
        return out
    trace, node = out._trace, out.node
    return tuple(
        Traced(trace, trace.record(PROJECT, (node,), {"index": index}))
        for index in range(len(out.type.parts))
    )


def primitive(
    function: Callable[..., Any],
    *,
    vjp: Rule | None = None,
    jvp: Rule | None = None,
    shape: Any = 0,
    fills: bool = False,
) -> Primitive:
    """A function compiled with `@numba.njit` as an operation of traced code.

    `shape` says what it returns: an int `k`, the type of argument `k` (0 is the default); a string
    in the manner of NumPy's generalised ufuncs, `"(n),(n,m)->(m)"`, of the arguments' common dtype;
    a `tg.ShapeDtype`; a function of the arguments' `ShapeDtype`s that returns one; a tuple of these
    for several results. With `fills` the function has its results as its last parameters, zero at
    first, and fills them.

    `vjp(ct, out, *args)` returns the cotangents of the arguments (a tuple, None for zero),
    `jvp(tangents, out, *args)` the tangent of the result; with several results `ct` and `out` are
    tuples. Rules are traced: NumPy code, other primitives, traced functions. One of them serves
    both modes if it consists of operations that can be transposed. Raises TypeError for anything
    but a function; where it is used, CompileError or ValueError if it returns something else than
    was promised, NotDifferentiableError if it has no rule.

    >>> import numpy as np, numba, tracegrad as tg
    >>> @numba.njit
    ... def cube(x):
    ...     return x * x * x
    >>> cubed = tg.primitive(cube, vjp=lambda ct, out, x: ct * 3 * x * x)
    >>> tg.grad(lambda x: np.sum(cubed(x)))(np.array([1.0, 2.0]))
    array([ 3., 12.])
    """
    return Primitive(function, vjp, jvp, shape, fills)


__all__ = ["Primitive", "ShapeDtype", "primitive"]
