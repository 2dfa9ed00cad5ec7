"""Derivative rules of the user's own: `custom_vjp` and `custom_jvp`, with the signatures that JAX
users know.

    @tg.custom_vjp
    def f(x): return np.sqrt(x)
    f.defvjp(lambda x: (np.sqrt(x), np.sqrt(x)), lambda s, ct: (ct / (2 * s),))
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce, update_wrapper
from inspect import Parameter, isfunction
from typing import Any

from tracegrad.autodiff import traced
from tracegrad.autodiff.derived import as_traced, name_of
from tracegrad.autodiff.traced import transpose_linear
from tracegrad.control.body import node_in, separate, zeros
from tracegrad.control.whole import called, whole
from tracegrad.errors import NotDifferentiableError, TraceError
from tracegrad.function import Function, signature_of
from tracegrad.ir.dims import must_be_same
from tracegrad.ir.graph import Graph, Node
from tracegrad.ir.types import CHECKS
from tracegrad.leaves import leaves_of, matching
from tracegrad.ops.call import CALL, Rule
from tracegrad.ops.constant import astype
from tracegrad.ops.op import type_of
from tracegrad.ops.operators import ArrayMethods
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import Trace, current_trace
from tracegrad.tree import Tree, count_leaves, unflatten

BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class Custom:
    """A function whose derivative is given by rules instead of being taken from its operations."""

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        self.fun = fun
        self.name = name_of(fun)
        self.nondiff_argnums = tuple(nondiff_argnums)
        self._signature = signature_of(fun)
        known = self._signature.parameters.values() if isfunction(fun) else ()
        self._defaults = [given.default for given in known if given.kind in BY_POSITION]
        self._outside = Function(self._traced, self.name)
        update_wrapper(self, fun)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`fun(*args)`; inside a trace one node that keeps the rules."""
        missing = self._defaults[len(args) :]
        if kwargs or Parameter.empty in missing:
            args = self._positional(args, kwargs)
        elif missing:
            args = (*args, *missing)
        if current_trace() is not None:
            return self._traced(*args)
        if any(isinstance(leaf, ArrayMethods) for leaf in leaves_of(args)[0]):
            return self._outside(*args)
        return self.fun(*args)

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments as the rules take them: by position, with defaults."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}") from None
        bound.apply_defaults()
        if bound.kwargs:
            names = ", ".join(bound.kwargs)
            raise TypeError(f"{self.name}: rules take arguments by position; {names} has none")
        return bound.args

    def rule(self, tree: Tree, out_tree: Tree) -> Rule:
        raise NotImplementedError

    def _traced(self, *args: Any) -> Any:
        trace = current_trace()
        assert trace is not None
        call = whole(trace, self.name, self.fun, (args, {}))
        drawn = [generator for generator in call.body.generators if generator != CHECKS]
        if drawn:
            raise TraceError(
                f"{self.name}, which has rules of its own, draws random numbers from {drawn[0]}: "
                "its rules would draw others; draw them before, and pass them as an argument"
            )
        rule = self.rule(call.tree.children[0], call.body.tree)  # type: ignore[union-attr]
        return called(trace, CALL, call, call.body.graph, rule=rule)

    def fixed(self, count: int) -> set[int]:
        """The positions of the arguments that are constants for differentiation."""
        return {number % count for number in self.nondiff_argnums}

    def _split(self, args: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The arguments that are constants for differentiation, and the others."""
        numbers = self.fixed(len(args))
        fixed = [args[number] for number in sorted(numbers)]
        return fixed, [arg for number, arg in enumerate(args) if number not in numbers]

    def _wrong(self, rule: str, text: str) -> NotDifferentiableError:
        return NotDifferentiableError(f"the {rule} rule of {self.name} {text}")

    def _parts(self, rule: str, tree: Tree, value: Any, what: str) -> list[Any]:
        """The leaves of what a rule returned, in the places of `tree`."""
        try:
            return matching(tree, value, f"the {what}")
        except TypeError as error:
            raise self._wrong(rule, f"returns another structure: {error}") from None

    def _fitting(self, rule: str, x: Any, derivative: Any, number: int | None) -> Any:
        """A tangent or cotangent, which has the shape of the value that it belongs to."""
        if derivative is None:
            return None
        trace = current_trace()
        assert trace is not None
        own, got = _traced(x).type, type_of(derivative)
        equal = own.rank == got.rank and all(map(must_be_same, own.shape, got.shape))
        if not equal:
            about = "the result" if number is None else f"argument {number}"
            found, wanted = got.in_figures(), own.in_figures()
            raise self._wrong(rule, f"returns {found} for {about}, which is {wanted}")
        return as_traced(trace, astype(derivative, own.dtype)) if own.is_float else derivative


class Operations:
    """Derivatives through the operations of a body, in the present trace."""

    def pushed(self, body: Graph, inputs: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        trace, nodes = _copies(inputs)
        outputs = trace.inline(body, nodes)
        pairs = zip(nodes, tangents, strict=True)
        given = {node: as_traced(trace, t) for node, t in pairs if t is not None}
        return traced.jvp(trace, outputs, given)

    def pulled(
        self, body: Graph, inputs: Sequence[Any], cts: Sequence[Any], wanted: Sequence[bool]
    ) -> list[Any]:
        trace, nodes = _copies(inputs)
        outputs = trace.inline(body, nodes)
        wrt = [node for node, want in zip(nodes, wanted, strict=True) if want]
        seeds = [
            (y, as_traced(trace, ct))
            for y, ct in zip(outputs, cts, strict=True)
            if ct is not None and y.type.is_float
        ]
        found = iter(traced.vjp(trace, [y for y, _ in seeds], [ct for _, ct in seeds], wrt))
        return [next(found) if want else None for want in wanted]


def _copies(inputs: Sequence[Any]) -> tuple[Trace, list[Node]]:
    trace = current_trace()
    assert trace is not None
    return trace, [separate(trace, node_in(trace, x)) for x in inputs]


class CustomVjp(Custom):
    """`defvjp(fwd, bwd)`: `fwd(*args) -> (out, residuals)`, `bwd(residuals, ct) -> cotangents of
    args`.

    With `nondiff_argnums`, `bwd` is called with those arguments first and returns cotangents of
    the others. None among the cotangents means zero. The rule is for one backward pass: derivatives
    of the gradient, in either mode, go through the operations of `bwd` and of the function.
    """

    fwd: Callable[..., Any] | None = None
    bwd: Callable[..., Any] | None = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        self.fwd, self.bwd = fwd, bwd

    def rule(self, tree: Tree, out_tree: Tree) -> Rule:
        fwd, bwd = self.fwd, self.bwd
        if fwd is None or bwd is None:
            return Rule(self.name, count_leaves(tree))

        def vjp(inputs: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
            args = unflatten(tree, iter(inputs))
            answer = fwd(*args)
            if not isinstance(answer, tuple) or len(answer) != 2:
                raise self._wrong("fwd", "must return a pair (result, residuals)")
            out, residuals = answer
            types = [x.type for x in map(_traced, self._parts("fwd", out_tree, out, "result"))]
            filled = [zeros(t) if ct is None else ct for t, ct in zip(types, cts, strict=True)]
            fixed, free = self._split(args)
            found = bwd(*fixed, residuals, unflatten(out_tree, iter(filled)))
            if not isinstance(found, tuple | list) or len(found) != len(free):
                count = len(found) if isinstance(found, tuple | list) else "no tuple"
                many = f"{len(free)} cotangent{'s' * (len(free) != 1)}"
                wanted = f"must return a tuple of {many}, one for each argument"
                raise self._wrong("bwd", f"{wanted}; it returns {count}")
            return self._by_leaf(args, found)

        return Rule(self.name, count_leaves(tree), vjp=vjp, through=Operations())

    def _by_leaf(self, args: Sequence[Any], found: Sequence[Any]) -> list[Any]:
        """The cotangents in the order of all leaves; None for constants and what bwd leaves out."""
        given, result = iter(found), []
        for number, argument in enumerate(args):
            leaves, tree = leaves_of(argument)
            ct = None if number in self.fixed(len(args)) else next(given)
            parts = self._parts("bwd", tree, ct, f"cotangent of argument {number}")
            pairs = zip(leaves, parts, strict=True)
            result += [self._fitting("bwd", x, part, number) for x, part in pairs]
        return result


class CustomJvp(Custom):
    """`defjvp(rule)`: `rule(primals, tangents) -> (out, tangent of out)`, linear in the tangents.

    Serves reverse mode too: the rule is transposed. With `nondiff_argnums` those arguments come
    first.
    """

    jvp: Callable[..., Any] | None = None

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        self.jvp = rule
        return rule

    def defjvps(self, *rules: Callable[..., Any] | None) -> None:
        """A rule for each argument, `rule(tangent, result, *args) -> tangent of the result`; None
        for an argument that the result does not move with. They add up."""

        def jvp(*given: Any) -> Any:
            *fixed, primals, tangents = given
            if fixed:
                raise self._wrong("jvp", "by defjvps knows no nondiff_argnums: use defjvp")
            out = self(*primals)
            parts = [
                rule(t, out, *primals)
                for rule, t in zip(rules, tangents, strict=True)
                if rule is not None
            ]
            if not parts:
                raise self._wrong("jvp", "has no part: every rule is None")
            return out, reduce(operator.add, parts)

        self.jvp = jvp

    def rule(self, tree: Tree, out_tree: Tree) -> Rule:
        rule = self.jvp
        if rule is None:
            raise NotDifferentiableError(
                f"{self.name} was declared with tg.custom_jvp but has no rule yet: use "
                f"@{self.name}.defjvp"
            )

        def jvp(inputs: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
            args = unflatten(tree, iter(inputs))
            filled = [
                zeros(_traced(x).type) if t is None else t
                for x, t in zip(inputs, tangents, strict=False)
            ]
            fixed, free = self._split(args)
            t_free = self._split(unflatten(tree, iter(filled)))[1]
            answer = rule(*fixed, tuple(free), tuple(t_free))
            if not isinstance(answer, tuple) or len(answer) != 2:
                raise self._wrong("jvp", "must return a pair (result, tangent)")
            out, tangent = answer
            results = self._parts("jvp", out_tree, out, "result")
            pairs = zip(results, self._parts("jvp", out_tree, tangent, "tangent"), strict=True)
            return [self._fitting("jvp", y, t, None) for y, t in pairs]

        return Rule(self.name, count_leaves(tree), vjp=transposed(jvp, self.name), jvp=jvp)


def transposed(jvp: Callable[..., list[Any]], name: str) -> Callable[..., list[Any]]:
    """The vjp that the jvp of the function `name`, linear in its tangents, implies."""

    def vjp(inputs: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        types = [_traced(x).type for x in inputs]
        return transpose_linear(
            lambda free: jvp(inputs, free), types, cts, f"the jvp rule of {name}"
        )

    return vjp


def custom_vjp(fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> CustomVjp:
    """Give `fun` a reverse-mode rule of its own with `.defvjp(fwd, bwd)`."""
    return CustomVjp(fun, nondiff_argnums)


def custom_jvp(fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> CustomJvp:
    """Give `fun` a derivative rule of its own, for both modes, with `.defjvp(rule)`."""
    return CustomJvp(fun, nondiff_argnums)


def _traced(value: Any) -> Traced:
    trace = current_trace()
    assert trace is not None
    return as_traced(trace, value)
