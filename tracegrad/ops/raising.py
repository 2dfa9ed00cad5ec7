"""Conditions that compiled code checks: an exception of the user's where one does not hold.

    tg.check(np.all(x > 0), "x has to be positive")     ->     if not v2: raise ValueError(...)

Checks are kept in their order, and kept at all, by a state that each one reads and returns, as
draws of random numbers are. It has no value: loops carry it, branches return it, for nothing.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.expr import Const
from codegen.loops import Check
from tracegrad.errors import TraceError
from tracegrad.ir.graph import Graph, all_nodes
from tracegrad.ir.op import Op
from tracegrad.ir.types import CHECKS, ArrayType, StateType
from tracegrad.ops.op import register

Own = tuple[type[Exception], tuple[Any, ...]]

NOTHING = Const(0, ex.INT)
"""What stands for the state in compiled code, where nothing reads it."""


class Unchecked(Op):
    """The state before the first check."""

    name = "unchecked"
    foldable = False

    def infer(self) -> ArrayType:
        return StateType.of(CHECKS)

    def reference(self) -> Any:
        return None

    def text(self) -> str:
        return "None"

    def element(self, read: Any, index: Any, node: Any) -> ex.Expr:
        return NOTHING


class Raise(Op):
    """Raise `error(message)` unless `good`; the state after that. `own` is the class and arguments
    of the user's exception, if `error` is only the built-in one that it derives from.
    """

    name = "check"
    foldable = False

    def infer(
        self, state: ArrayType, good: ArrayType, *, error: str, message: str, own: Own | None
    ) -> ArrayType:
        return StateType.of(CHECKS)

    def reference(self, state: Any, good: Any, *, error: str, message: str, own: Own | None) -> Any:
        if not good:
            raise own[0](*own[1]) if own else class_of(error)(message)
        return state

    def lines(
        self, name: str, state: str, good: str, *, error: str, message: str, own: Own | None
    ) -> list[str]:
        return [f"if not {good}:", f"    raise {error}({message!r})", f"{name} = None"]

    def kernel(self, lowering: Any, node: Any) -> None:
        attrs, good = node.attributes, lowering.value(node.inputs[1], ())
        check = Check(good, attrs["error"], attrs["message"], lowering.comment(node))
        lowering.append(check)
        lowering.scalars[node] = NOTHING


UNCHECKED, RAISE = register(Unchecked()), register(Raise())


def class_of(name: str) -> type[Exception]:
    """An exception class by the name that generated code has for it."""
    return np.linalg.LinAlgError if "." in name else getattr(builtins, name)


def raised_as(error: Exception) -> dict[str, Any]:
    """What compiled code raises for an exception: the attributes of a check. A class of the user's
    own takes the place of the built-in one that it derives from where Python sees it.

    Raises TraceError if the message has values of the program in it.
    """
    kind = type(error)
    name, parent = next(filter(None, map(_built_in, kind.__mro__)))
    own = None if parent is kind else (kind, error.args)
    text = str(error) if own or len(error.args) != 1 else str(error.args[0])
    if "<traced " in text:
        raise TraceError(
            f"the message {text!r} has a value in it that is known when the compiled code runs; "
            "what it raises has a fixed message: leave the value out"
        )
    return {"error": name, "message": text, "own": own}


def _built_in(kind: type) -> tuple[str, type] | None:
    """The name that generated code has for a class of exceptions."""
    if kind is np.linalg.LinAlgError:
        return "np.linalg.LinAlgError", kind
    return (kind.__name__, kind) if getattr(builtins, kind.__name__, None) is kind else None


def own_errors(graph: Graph) -> dict[tuple[str, str], Own]:
    """The user's exceptions by the class and message that compiled code raises."""
    attrs = [node.attributes for node in all_nodes(graph) if node.op is RAISE]
    return {(each["error"], each["message"]): each["own"] for each in attrs if each["own"]}


def with_own_errors(run: Callable[..., Any], known: dict[tuple[str, str], Own]) -> Any:
    """A compiled function that raises the user's exceptions."""

    def run_with_errors(*values: Any) -> Any:
        try:
            return run(*values)
        except Exception as error:
            found = known.get((type(error).__name__, "".join(map(str, error.args))))
            if found is None:
                raise
            kind, args = found
            raise kind(*args) from None

    return run_with_errors
