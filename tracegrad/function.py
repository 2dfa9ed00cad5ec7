"""The traced function: what `@tg.trace` makes, and the road of a call.

f(x)  ->  the entries of the versions, latest first; else: flatten, normalise, look up or trace
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from functools import cached_property, partial, update_wrapper
from inspect import Parameter, Signature
from types import MethodType
from typing import Any, TypeVar

import numpy as np

from codegen.collecting import rarely
from codegen.records import dataclass
from codegen.waiting import waiting
from tracegrad.autodiff import derived
from tracegrad.autodiff.derived import Argnums, name_of
from tracegrad.entry import ABSENT, Entrance, Entry
from tracegrad.errors import TraceError, TracegradError, UnsupportedError
from tracegrad.inspect.methods import Inspectable
from tracegrad.ir.graph import Node
from tracegrad.ir.interpret import fits
from tracegrad.leaves import Address, argument, drawing, is_leaf, kind, leaves_of, normalised
from tracegrad.ops.operators import ArrayMethods
from tracegrad.out import of_gradient, of_gradient_and_aux, whole
from tracegrad.pickled import Again, reduced
from tracegrad.pyflow.build import kept_program_of, program_of
from tracegrad.pyflow.keeping import is_keeping, shortest
from tracegrad.reads import MARK
from tracegrad.shared import methods_of
from tracegrad.tracing import randomness
from tracegrad.tracing.array import Traced
from tracegrad.tracing.generator import TracedGenerator
from tracegrad.tracing.operands import operand_rows
from tracegrad.tracing.source import definition, is_ours, point_at, raised_at
from tracegrad.tracing.trace import Trace, current_trace, tracing
from tracegrad.tree import Branch, Static, Tree, count_leaves, flatten, statics, unflatten
from tracegrad.version import Version

Located = TypeVar("Located", bound=Exception)

_SEQUENCE = re.compile(r"\b(list|tuple|sequence)\b")
_PLAIN = (AttributeError, TypeError, ValueError, IndexError)
"""Errors of ours that get the user's line though they are Python's own."""
OBJECTS = 8
"""How many objects with `__slots__` a traced method is kept for."""
ENTRIES = 16
"""How many versions are tried, latest first, before the arguments are looked up."""


class Function(Inspectable):
    """A function of arrays, traced and compiled once per dtypes, ranks and static arguments."""

    shows = "forward"
    """The program that `dump`, `source` and the others mean if none is named."""

    __slots__ = ("__call__",)
    """The entry of the latest version (`tracegrad.entry`): found by a call without a step of its
    own."""

    __call__: Callable[..., Any]

    def __init__(
        self,
        python: Callable[..., Any],
        name: str = "",
        signature: Signature | None = None,
        place: Callable[..., Any] = whole,
        *,
        python_control_flow: bool = False,
    ) -> None:
        if not callable(python):
            raise TypeError(f"only functions can be traced: this is {python!r}")
        update_wrapper(self, python)
        self.__dict__.pop("grad", None)  # of a traced function that is traced again
        self.__dict__.pop("value_and_grad", None)
        self.__dict__.pop("_program", None)
        self.__dict__.pop("_kept_program", None)
        self.__dict__.pop(MARK, None)
        self.python = python
        self.python_control_flow = python_control_flow
        self.name = name or name_of(python)
        self._signature = signature_of(python)
        self._calls = signature or signature_of(python, follow_wrapped=False)
        """The parameters that it is called with."""
        self._place, self._out = place, self._free("grad_out" if place is of_gradient else "out")
        self._bound: list[tuple[int, Function]] = []
        """For the latest of the objects without a place for it, this as their method."""
        self._versions: dict[Any, list[Version]] = {}
        self._entries: list[Entry] = []
        self.entered: set[Any] = set()
        """The keys of all entries that there are, or have been."""
        self._derived: dict[Any, Function] = {}
        self.latest: Version | None = None
        self.origin: tuple[Function, str, Argnums, bool] | None = None
        """Of a gradient: the function, and what was asked of `derived`."""
        self.__call__ = self._missed

    def __get__(self, instance: Any, owner: type | None = None) -> Function:
        """On a method: the function with `self` given, which a version treats as a constant."""
        if instance is None:
            return self
        made = methods_of(instance)
        known: dict[Any, Function] = dict(self._bound) if made is None else made
        key = id(instance) if made is None else self
        if key not in known:
            function = Function(
                MethodType(self.python, instance),
                self.name,
                python_control_flow=self.python_control_flow,
            )
            known[key] = function
            if made is None:
                self._bound = [*self._bound, (key, function)][-OBJECTS:]
        return known[key]

    @property
    def program(self) -> Callable[..., Any]:
        """What a trace runs: the function, its control flow rewritten where it asks for that."""
        return self._kept_program if is_keeping() else self._program

    @cached_property
    def _program(self) -> Callable[..., Any]:
        return program_of(self.python, self.python_control_flow)

    @cached_property
    def _kept_program(self) -> Callable[..., Any]:
        """The same where loops are kept that would make too long a program."""
        return kept_program_of(self.python, self.python_control_flow)

    def _missed(self, *args: Any, **kwargs: Any) -> Any:
        """A call that no entry takes."""
        out = self._place(kwargs.pop(self._out, None)) if self._out else None
        args, kwargs = self._bind(args, kwargs)
        leaves, tree = leaves_of((args, kwargs))
        kinds = [type(value) for value in leaves if isinstance(value, ArrayMethods)]
        if kinds and out is not None:
            raise UnsupportedError(
                f"{self.name}: {self._out}= is for calls with NumPy arguments; this one has a "
                f"{'traced array' if Traced in kinds else 'Tensor'}, whose results are new arrays"
            )
        if Traced in kinds or current_trace() is not None:
            return self.program(*args, **kwargs)
        if kinds:
            return kinds[0].call(self, leaves, tree)  # type: ignore[attr-defined]
        with rarely():
            version, values = self.version_of(leaves, tree)
            if any(type(value) is Address for value in values):
                run = version.direct if out is None else partial(version.into, out)
                return drawing(run, values)
            if id(version) not in self.entered:
                self.enter(Entry(self.entrance(version), version.run, version.output_tree, version))
            return version.direct(*values) if out is None else version.into(out, *values)

    def _bind(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same arguments by position, as far as that goes: `f(x=x, n=3)` is `f(x, 3)`."""
        try:
            bound = self._calls.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}") from None
        given = {name: value for name, value in bound.arguments.items() if value is not ABSENT}
        bound.arguments = given
        return bound.args, bound.kwargs

    def _free(self, name: str) -> str:
        """The parameter for arrays that take the results; "" if the user has one of that name."""
        known = self._calls.parameters
        taken = name in known or any(p.kind is Parameter.VAR_KEYWORD for p in known.values())
        return "" if taken else name

    def entrance(self, version: Version) -> Entrance:
        """How calls for a version look."""
        tree = version.input_tree
        args, kwargs = unflatten(tree, iter([_Box(None)] * count_leaves(tree)))
        given = self._calls.bind(*args, **kwargs).arguments
        structures = [(name, flatten(name, value, _is_box, [])) for name, value in given.items()]
        return Entrance(self.name, self._calls, structures, self._out, self._place)

    def enter(self, entry: Entry) -> None:
        """Let calls try this entry first; no change if it has been among the entries before."""
        if entry.key in self.entered:
            return
        self.entered.add(entry.key)
        entries = [entry, *self._entries][:ENTRIES]
        self._entries = sorted(entries, key=lambda known: not known.version.short)
        latest = self if len(self._entries) > 1 else None
        call: Callable[..., Any] = self._missed
        for known in reversed(self._entries):
            alike = sum(known.resembles(other) for other in self._entries)
            call = known.function(call, alike > 1, latest)
        self.__call__ = call

    def version_for(
        self, args: tuple[Any, ...], kwargs: Any, for_all: bool = False
    ) -> tuple[Version, list[Any]]:
        """The version for these arguments, known or new, and their normalised leaves; `for_all`:
        one that assumes no short extents."""
        return self.version_of(*leaves_of(self._bind(args, kwargs)), for_all)

    def version_of(
        self, leaves: Sequence[Any], tree: Tree, for_all: bool = False
    ) -> tuple[Version, list[Any]]:
        """`version_for` arguments already taken apart; tensors count as the arrays they hold."""
        leaves = [x._data if isinstance(x, ArrayMethods) else x for x in leaves]  # type: ignore[attr-defined]
        try:
            values = [normalised("", value) for value in leaves]
        except TracegradError:
            values = [normalised(name, leaf) for name, leaf in self._named(tree, leaves)]
        key = (tree, tuple(kind(value) for value in values))
        versions = self._versions.setdefault(key, [])
        for version in sorted(versions, key=lambda known: not known.short):
            if not (for_all and version.short) and fits(version.graph, values):
                self.latest = version
                return version, values
        # Only the first version assumes short extents: calls with many of them share the second.
        self.latest = self._trace(tree, values, short=not (versions or for_all))
        versions.insert(0, self.latest)
        return self.latest, values

    @property
    def versions(self) -> list[Version]:
        """The compiled versions with their guards, latest first."""
        return [version for found in self._versions.values() for version in found]

    def derived(self, what: str, argnums: Argnums = 0, has_aux: bool = False) -> Function:
        """The function of the gradient (`what="grad"`), or of value and gradient; made once."""
        argnums = derived.argument_numbers(argnums)
        key = (what, argnums, has_aux)
        if key not in self._derived:

            def value_and_grad(*args: Any, **kwargs: Any) -> Any:
                return derived.value_and_grad(self, argnums, has_aux, args, kwargs)

            def grad(*args: Any, **kwargs: Any) -> Any:
                value, gradient = value_and_grad(*args, **kwargs)
                return (gradient, value[1]) if has_aux else gradient

            python = grad if what == "grad" else value_and_grad
            python.__wrapped__ = self.python  # type: ignore[attr-defined]
            alone = of_gradient_and_aux if has_aux else whole
            place = alone if what == "grad" else of_gradient
            made = Function(python, f"{self.name}_{what}", self._calls, place)
            made.origin = self, what, argnums, has_aux
            made.shows = "primal"  # what a call runs: a gradient is seldom differentiated again
            self._derived[key] = made
        return self._derived[key]

    def __reduce__(self) -> Again:
        return reduced(self)

    def __copy__(self) -> Function:
        return self

    def __deepcopy__(self, memo: Any) -> Function:
        """Itself, as of a Python function; of a method that of the copied object."""
        if not isinstance(self.python, MethodType):
            return self
        python = copy.deepcopy(self.python, memo)
        return Function(python, self.name, python_control_flow=self.python_control_flow)

    def __repr__(self) -> str:
        count = len(self.versions)
        return f"<traced {self.name}{self._signature}, {count} version{'s' * (count != 1)}>"

    @cached_property
    def grad(self) -> Function:
        """The gradient with respect to the first argument; `tg.grad` has the options."""
        return self.derived("grad")

    @cached_property
    def value_and_grad(self) -> Function:
        """`(value, gradient)` with respect to the first argument; `tg.value_and_grad` has the
        options.
        """
        return self.derived("value_and_grad")

    def _trace(self, tree: Tree, values: Sequence[Any], short: bool) -> Version:
        """A new version; with `short` it may assume extents that are better known as numbers."""
        return shortest(lambda: self._traced(tree, values, short), lambda made: made.graph)

    def _traced(self, tree: Tree, values: Sequence[Any], short: bool) -> Version:
        trace = Trace(self.name)

        def telling(spent: float) -> str:
            return f"tracegrad: tracing {self.name}, {trace.length:,} operations, {spent:.1f} s"

        with waiting(telling):
            return self._recorded(trace, tree, values, short)

    def _recorded(self, trace: Trace, tree: Tree, values: Sequence[Any], short: bool) -> Version:
        with tracing(trace, Traced):
            leaves = [traced_leaf(trace, name, value) for name, value in self._named(tree, values)]
            args, kwargs = unflatten(tree, iter(leaves))
            watched = randomness.watch(self.python)
            try:
                outputs, output_tree = self._outputs(trace, self.program(*args, **kwargs))
            except (TracegradError, AttributeError, TypeError, ValueError, IndexError) as error:
                if taken := self._taken_apart(tree, error):
                    error.args = (f"{error}: {taken}", *error.args[1:])
                    located(error, self.python)
                    raise
                cause = error if isinstance(error, TracegradError) else error.__cause__
                if not isinstance(cause, TracegradError):
                    if type(error) in _PLAIN and is_ours(error.__traceback__):
                        located(error, self.python)
                    elif isinstance(error, np.exceptions.AxisError):
                        noted(error)
                    raise
                # NumPy hides what a traced value says to `out[i] = value` behind its own error.
                raise located(cause.with_traceback(error.__traceback__), self.python) from None
        randomness.check(self.python, watched)
        assumed = trace.assume_short(outputs) if short else False
        graph = trace.finish(outputs, definition(self.python))
        extents = {
            name: np.shape(values[number])[axis] for name, (number, axis) in graph.sizes.items()
        }
        return Version(graph, output_tree, extents, tree, self._statics(tree), assumed)

    def _taken_apart(self, tree: Tree, error: Exception) -> str:
        """What to say of an error that a list in the place of an array has led to; or ""."""
        if isinstance(error, TracegradError) or not _SEQUENCE.search(str(error)):
            return ""
        boxes = [_Box(None)] * count_leaves(tree)
        for name, value in self._parameters(tree, boxes):
            if type(value) in (list, tuple) and _is_nested(value):
                return (
                    f"{name} is a {type(value).__name__}, and stays one: for an array, pass "
                    f"np.array({name})"
                )
        return ""

    def _named(self, tree: Tree, values: Sequence[Any]) -> list[tuple[str, Any]]:
        """The leaves with names made from the parameters they were passed as."""
        boxes = [_Box(value) for value in values]
        placed: list[tuple[str, Any]] = []
        for parameter, value in self._parameters(tree, boxes):
            flatten(parameter, value, _is_box, placed)
        names = {id(box): name for name, box in placed}
        return [(names[id(box)], box.value) for box in boxes]

    def _statics(self, tree: Tree) -> tuple[str, ...]:
        """The static arguments, `power=2`."""
        boxes = [_Box(None)] * count_leaves(tree)
        return tuple(
            text
            for parameter, value in self._parameters(tree, boxes)
            for text in statics(parameter, flatten(parameter, value, _is_box, []))
        )

    def _parameters(self, tree: Tree, leaves: Sequence[Any]) -> Iterable[tuple[str, Any]]:
        """What each parameter is given, with these leaves."""
        args, kwargs = unflatten(tree, iter(leaves))
        return self._signature.bind(*args, **kwargs).arguments.items()

    def _outputs(self, trace: Trace, result: Any) -> tuple[list[Node], Tree]:
        leaves: list[tuple[str, Any]] = []
        if isinstance(result, Iterator | Coroutine):
            raise TypeError(
                f"{self.name} returns a {type(result).__name__}, which has not run yet when it is "
                "compiled: return a list or an array"
            )
        tree = flatten("", result, is_leaf, leaves)
        if has_generator(tree):
            raise TraceError(
                f"{self.name} returns a random number generator: the one that was passed is in its "
                "new state already"
            )
        nodes = [derived.as_traced(trace, value).node for _, value in leaves]
        for (name, _), node in zip(leaves, nodes, strict=True):
            if node not in trace.cotangents:
                trace.names.setdefault(node, f"y_{name}" if name else "y")
        return nodes, tree


def traced_leaf(trace: Trace, name: str, value: Any) -> Any:
    """What stands for an argument while a function is traced."""
    if type(value) is Address:
        trace.add_generator(name)
        return TracedGenerator(trace, name)
    return Traced(trace, trace.add_input(argument(name, value)), argument=name)


def has_generator(tree: Tree) -> bool:
    """Whether a traced generator is among the static values."""
    match tree:
        case Static(value):
            return isinstance(value, TracedGenerator)
        case Branch(children=children):
            return any(map(has_generator, children))
    return False


@dataclass(eq=False)
class _Box:
    """A leaf in its place among the arguments, to find out what it is called."""

    value: Any


def _is_box(value: Any) -> bool:
    return isinstance(value, _Box)


def _is_nested(value: Any) -> bool:
    """Whether it is a number or an array, or a list of such, nested or not."""
    if type(value) in (list, tuple):
        return bool(value) and all(map(_is_nested, value))
    return _is_box(value)


def located(error: Located, python: Callable[..., Any]) -> Located:
    """The error with the user's line and the operands below its message."""
    source, home = raised_at(error.__traceback__), definition(python)
    if source is not None and error.args and "\n" not in str(error):
        rows = operand_rows(error.__traceback__, source, home.function if home else source.function)
        text = "\n".join([str(error.args[0]), "", point_at(source), *rows])
        error.args = (text, *error.args[1:])
    return error


def noted(error: Exception) -> None:
    """Add the user's line below the message of an error whose text cannot be changed."""
    source = raised_at(error.__traceback__)
    if source is not None:
        error.add_note(f"\n{point_at(source)}")


def signature_of(python: Callable[..., Any], follow_wrapped: bool = True) -> Signature:
    """The parameters of a callable; ufuncs and other builtins that have none to show take any."""
    try:
        return inspect.signature(python, follow_wrapped=follow_wrapped)
    except (TypeError, ValueError):
        kinds = {"args": Parameter.VAR_POSITIONAL, "kwargs": Parameter.VAR_KEYWORD}
        return Signature([Parameter(name, kind) for name, kind in kinds.items()])


def trace(function: Callable[..., Any] | None = None, *, python_control_flow: bool = False) -> Any:
    """Decorate a function of arrays: it is traced at its first call and runs compiled.

    With `python_control_flow=True`, `if`, `while`, `for`, `and`, `or`, `not` and conditional
    expressions on traced values become branches and loops of the compiled code, by rewriting the
    function's source; what is known while tracing stays Python. A `for` over `tg.range(n)` becomes
    a loop without it. Raises TraceError where the source is needed and cannot be read.

    >>> import tracegrad as tg
    >>> @tg.trace(python_control_flow=True)
    ... def relu(x):
    ...     if x > 0:
    ...         return x
    ...     return 0.0
    """
    if function is None:
        return partial(Function, python_control_flow=python_control_flow)
    return Function(function, python_control_flow=python_control_flow)
