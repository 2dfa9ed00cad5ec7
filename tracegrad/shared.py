"""Transforms made again of the same function share what was traced and compiled for it.

    for step in range(100):
        w -= 0.1 * tg.grad(loss)(w)      # traced once: the second `tg.grad(loss)` is the first one

In: a function, the options of a transform, a way to make it. Out: the transform, made anew or the
one made before. A trace takes what the function reads (globals, closure, defaults, also those of
functions that it calls) for constant, so that is compared by content first (`reads`): if a number
was assigned to or an element of an array has changed, there is a new transform. Where the content
cannot be known, nothing is shared.

Transforms are kept in the `__dict__` of their function (of a method: in that of its object, under
the method's name) and go with it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from types import FunctionType, MethodType
from typing import Any, TypeVar
from weakref import ref

from tracegrad.reads import MARK, Reads, Unknown, is_plain, is_traced
from tracegrad.tracing.trace import current_trace

Made = TypeVar("Made")

METHODS = f"{MARK}methods"
"""The attribute of an object that holds its traced methods."""


class Kept:
    """What is kept with an object, in its `__dict__`, and neither copied nor stored with it."""

    def __init__(self, owner: Any) -> None:
        self.owner = ref(owner)
        self.made: dict[Hashable, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()

    def is_of(self, x: Any) -> bool:
        """Whether it was kept for this object: `functools.wraps` copies the attributes of one
        function to another, `copy` those of one object."""
        return self.owner() is x


class Shared(Kept):
    """The transforms of one function, valid while it reads what it read when they were made."""

    def __init__(self, owner: Any, reads: Reads) -> None:
        super().__init__(owner)
        self.reads = reads


def methods_of(x: Any) -> dict[Hashable, Any] | None:
    """Where an object keeps its traced methods; None if it has no place for them."""
    try:
        space = vars(x)
        known = space.get(METHODS)
        if type(known) is not Kept or not known.is_of(x):
            known = space[METHODS] = Kept(x)
    except TypeError:  # a class, or an object with `__slots__`
        return None
    return known.made


def shared(fun: Any, options: Hashable, make: Callable[[], Made]) -> Made:
    """`make()`, or what it made for this function object and these options before."""
    known = known_of(fun) if current_trace() is None else None
    if known is None:
        return make()
    try:
        made = known.made.get(options)
    except TypeError:  # options such as a list of axes
        return make()
    if made is None:
        made = known.made[options] = make()
    return made


def known_of(fun: Any) -> Shared | None:
    """The transforms of a function as it is now; None if that cannot be told."""
    owner, mark = fun, MARK
    if type(fun) is MethodType and is_plain(fun.__self__):
        owner, mark = fun.__self__, f"{MARK}of {fun.__name__}"
    elif not (type(fun) in (FunctionType, partial) or is_traced(fun)):
        return None
    try:
        reads = Reads(fun)
    except (Unknown, RecursionError):
        return None
    known = owner.__dict__.get(mark)
    if type(known) is not Shared or not known.is_of(owner) or known.reads.facts != reads.facts:
        known = owner.__dict__[mark] = Shared(owner, reads)
    return known
