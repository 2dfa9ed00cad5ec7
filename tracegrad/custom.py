"""Derivative rules of the user's own: `custom_vjp` and `custom_jvp`, with the signatures that JAX
users know.

@tg.custom_vjp
def f(x): return np.sqrt(x)
f.defvjp(lambda x: (np.sqrt(x), np.sqrt(x)), lambda s, ct: (ct / (2 * s),))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any

from tracegrad.autodiff.derived import as_traced, name_of
from tracegrad.autodiff.traced import transpose_linear
from tracegrad.control.body import zeros
from tracegrad.control.whole import whole
from tracegrad.errors import NotDifferentiableError
from tracegrad.function import Function
from tracegrad.leaves import leaves_of
from tracegrad.ops.call import CALL, Rule
from tracegrad.ops.operators import ArrayMethods
from tracegrad.ops.project import PROJECT
from tracegrad.tracing.array import Traced
from tracegrad.tracing.trace import current_trace
from tracegrad.tree import Tree, unflatten


class Custom:
    """A function whose derivative is given by rules instead of being taken from its operations."""

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        self.fun = fun
        self.name = name_of(fun)
        self.nondiff_argnums = tuple(nondiff_argnums)
        self._outside = Function(self._traced, self.name)
        update_wrapper(self, fun)

    def __call__(self, *args: Any) -> Any:
        """`fun(*args)`; inside a trace one node that keeps the rules."""
        if current_trace() is not None:
            return self._traced(*args)
        if any(isinstance(leaf, ArrayMethods) for leaf in leaves_of(args)[0]):
            return self._outside(*args)
        return self.fun(*args)

    def rule(self, tree: Tree, out_tree: Tree) -> Rule:
        raise NotImplementedError

    def _traced(self, *args: Any) -> Any:
        trace = current_trace()
        assert trace is not None
        call = whole(trace, self.name, self.fun, (args, {}))
        body, rule = call.body, self.rule(call.tree.children[0], call.body.tree)  # type: ignore[union-attr]
        node = trace.record(CALL, call.operands, {"body": body.graph, "rule": rule})
        results = [
            Traced(trace, trace.record(PROJECT, (node,), {"index": index}))
            for index in range(len(body.graph.outputs))
        ]
        return unflatten(body.tree, iter(results))

    def _split(self, args: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The arguments that are constants for differentiation, and the others."""
        fixed = [args[number] for number in self.nondiff_argnums]
        free = [arg for number, arg in enumerate(args) if number not in self.nondiff_argnums]
        return fixed, free


class CustomVjp(Custom):
    """`defvjp(fwd, bwd)`: `fwd(*args) -> (out, residuals)`, `bwd(residuals, ct) -> cotangents of
    args`.

    With `nondiff_argnums`, `bwd` is called with those arguments first and returns cotangents of
    the others. None among the cotangents means zero.
    """

    fwd: Callable[..., Any] | None = None
    bwd: Callable[..., Any] | None = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        self.fwd, self.bwd = fwd, bwd

    def rule(self, tree: Tree, out_tree: Tree) -> Rule:
        fwd, bwd = self.fwd, self.bwd
        if fwd is None or bwd is None:
            return Rule(self.name)

        def vjp(inputs: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
            args = unflatten(tree, iter(inputs))
            out, residuals = fwd(*args)
            types = [x.type for x in map(_traced, leaves_of(out)[0])]
            filled = [zeros(t) if ct is None else ct for t, ct in zip(types, cts, strict=True)]
            fixed, free = self._split(args)
            found = bwd(*fixed, residuals, unflatten(out_tree, iter(filled)))
            if not isinstance(found, tuple | list) or len(found) != len(free):
                raise NotDifferentiableError(
                    f"the bwd rule of {self.name} must return a tuple of {len(free)} cotangents, "
                    "one for each argument"
                )
            return _by_leaf(args, free, found, len(inputs))

        return Rule(self.name, vjp=vjp)


class CustomJvp(Custom):
    """`defjvp(rule)`: `rule(primals, tangents) -> (out, tangent of out)`, linear in the tangents.

    Serves reverse mode too: the rule is transposed. With `nondiff_argnums` those arguments come
    first.
    """

    jvp: Callable[..., Any] | None = None

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        self.jvp = rule
        return rule

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
                for x, t in zip(inputs, tangents, strict=True)
            ]
            fixed, free = self._split(args)
            t_free = self._split(unflatten(tree, iter(filled)))[1]
            _, tangent = rule(*fixed, tuple(free), tuple(t_free))
            return list(leaves_of(tangent)[0])

        return Rule(self.name, vjp=transposed(jvp), jvp=jvp)


def transposed(jvp: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """The vjp that a jvp, linear in its tangents, implies."""

    def vjp(inputs: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        types = [_traced(x).type for x in inputs]
        return transpose_linear(lambda free: jvp(inputs, free), types, cts)

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


def _by_leaf(args: Any, free: Sequence[Any], found: Sequence[Any], count: int) -> list[Any]:
    """The cotangents of the free arguments in the order of all leaves; None for the rest."""
    by_argument = {id(argument): ct for argument, ct in zip(free, found, strict=True)}
    result: list[Any] = []
    for argument in args:
        leaves, _ = leaves_of(argument)
        ct = by_argument.get(id(argument))
        result += [None] * len(leaves) if ct is None else leaves_of(ct)[0]
    return result + [None] * (count - len(result))
