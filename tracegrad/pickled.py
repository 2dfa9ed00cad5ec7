"""Traced functions in pickles: like functions, they go by their names, without compiled code.

In: a traced function. Out: what `pickle` calls to have it again, in another process:

    @tg.trace
    def loss(x): ...             loss        ->   named("model", "loss")
    tg.grad(loss)                            ->   derived(loss, "grad", ...)
    tg.trace(plain)                          ->   made(plain, ...)
    model.loss  (a traced method)            ->   getattr(model, "loss")
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from importlib import import_module
from types import MethodType
from typing import Any

Again = tuple[Callable[..., Any], tuple[Any, ...]]


def reduced(function: Any) -> Again:
    """How to get a traced function again. Raises PicklingError for transforms that have no name."""
    python = function.python
    if function.origin is not None:
        base, *options = function.origin
        return derived, (base, *options)
    if isinstance(python, MethodType):
        method = python.__self__, python.__name__
        if type(getattr(*method, None)) is type(function):
            return getattr, method
    place = (getattr(python, "__module__", None) or "", getattr(python, "__qualname__", ""))
    if place[0] in sys.modules:
        with suppress(AttributeError):
            if named(*place) is function:
                return named, place
    home = getattr(python, "__globals__", {}).get("__name__", "")
    if home.startswith("tracegrad."):
        raise pickle.PicklingError(
            f"cannot pickle {function.name}: a transform goes by its name, and this one is not "
            "found as a variable of a module; pickle the function that it was made of and make the "
            "transform again"
        )
    return made, (type(function), python, function.python_control_flow)


def named(module: str, qualified: str) -> Any:
    return reduce(getattr, qualified.split("."), import_module(module))


def derived(base: Any, what: str, argnums: Any, has_aux: bool) -> Any:
    return base.derived(what, argnums, has_aux)


def made(kind: Any, python: Any, python_control_flow: bool) -> Any:
    return kind(python, python_control_flow=python_control_flow)
