"""What an eager operation leaves behind: an IR node that holds the arrays its derivative needs.

    y = np.exp(x)      ->      y.grad_fn is a node `exp(x)` that keeps y's array

A `Recorded` node knows the code object and instruction that made it; file, line and name are looked
up when somebody asks.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from tracegrad.ir.graph import Node, Source, next_serial
from tracegrad.ir.op import Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.constant import Input
from tracegrad.ops.op import PUBLIC, Bindable, bind
from tracegrad.tracing.source import assigned_name, is_user_file, source_of

if TYPE_CHECKING:
    from tracegrad.eager.rule import Rule

Site = tuple[CodeType, int]
"""A place in the user's program: the code object and the offset of the instruction."""

Attrs = tuple[tuple[str, Any], ...]
Hook = Callable[[Any], Any]


def call_site(depth: int = 1) -> tuple[Site | None, str]:
    """Where user code called the library, and the public function it called ("" if an operator).

    `depth` says how many frames from here the search begins.
    """
    label, frame = "", sys._getframe(depth)
    if frame.f_code.co_filename in _user_files:
        return (frame.f_code, frame.f_lasti), label
    labels = _labels or _public_labels()
    while frame is not None:
        code = frame.f_code
        if is_user_file(code.co_filename):
            _user_files.add(code.co_filename)
            return (code, frame.f_lasti), label
        label = labels.get(id(code), label)
        frame = frame.f_back
    return None, label


_user_files: set[str] = set()


def user_site() -> Site | None:
    """Where user code called the library."""
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_filename in _user_files:
            return code, frame.f_lasti
        if is_user_file(code.co_filename):
            _user_files.add(code.co_filename)
            return code, frame.f_lasti
        frame = frame.f_back
    return None


_labels: dict[int, str] = {}
"""By the identity of code objects that are never dropped; to hash one takes long."""
_labelled: dict[CodeType, str] = {}


def labelled(method: Any) -> Any:
    """A method that composes operations: its results are called after it, `<NormBackward>`."""
    _labelled[method.__code__] = method.__name__
    return method


def _public_labels() -> dict[int, str]:
    for code, name in _labelled.items():
        _labels[id(code)] = name
    for name, function in PUBLIC.items():
        if hasattr(function, "__code__"):
            _labels.setdefault(id(function.__code__), name)
    return _labels


def line_of(site: Site | None) -> str:
    """`train.py:19: y = x * 2`, as errors show a place."""
    source = source_of(*site) if site is not None else None
    if source is None:
        return "an unknown line"
    return f"{Path(source.file).name}:{source.line}: {' '.join(source.text.split())}"


def statement_at(site: Site | None) -> str:
    """As `line_of`, with the whole line: `train.py:19: y[0] = 1.0`."""
    source = source_of(*site) if site is not None else None
    if source is None:
        return "an unknown line"
    text = linecache.getline(source.file, source.line).strip()
    return f"{Path(source.file).name}:{source.line}: {text}"


def name_at(site: Site | None) -> str:
    """The variable that the value made at `site` was assigned to."""
    return assigned_name(*site) if site is not None else ""


class Counter:
    """Counts the writes into one piece of memory; tensors that share the memory share it."""

    value = 0
    site: Site | None = None

    def bump(self) -> None:
        self.value += 1
        self.site = user_site()


class Saved:
    """A value that a derivative needs, with the state of its memory when it was kept."""

    __slots__ = ("counter", "value", "version")

    def __init__(self, value: Any, counter: Counter | None) -> None:
        self.value, self.counter = value, counter
        self.version = counter.value if counter is not None else 0

    @property
    def overwritten(self) -> bool:
        return self.counter is not None and self.counter.value != self.version


class Differentiable(Node):
    """A node of the eager graph with a gradient: an operation's result or a leaf."""

    # Both, or each assignment is a call of a Python function.
    __setattr__ = object.__setattr__  # type: ignore[assignment]
    __delattr__ = object.__delattr__  # type: ignore[assignment]
    wanted: tuple[bool, ...] = ()
    """For each operand, whether its cotangent is wanted."""


class Leaf(Differentiable):
    """A tensor made by the user, where gradients accumulate."""

    inputs: tuple[Node, ...] = ()
    attrs: Attrs = ()
    tensor: Any

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor
        self.serial = next_serial()  # type: ignore[misc]

    @cached_property
    def type(self) -> ArrayType:  # type: ignore[override]
        return self.tensor.type

    @cached_property
    def op(self) -> Op:  # type: ignore[override]
        return Input(self.type)

    @property
    def name(self) -> str:  # type: ignore[override]
        return name_at(self.tensor._origin)

    @property
    def source(self) -> Source | None:  # type: ignore[override]
        site = self.tensor._origin
        return source_of(*site) if site is not None else None

    def __repr__(self) -> str:
        return "<AccumulateGrad>"


class Plain(Node):
    """An operand that needs no gradient: the graph knows its type and where it came from."""

    __setattr__ = object.__setattr__  # type: ignore[assignment]
    __delattr__ = object.__delattr__  # type: ignore[assignment]

    inputs: tuple[Node, ...] = ()
    attrs: Attrs = ()
    like: tuple[np.dtype, tuple[int, ...]]
    site: Site | None

    def __init__(self, array: np.ndarray, site: Site | None) -> None:
        self.like, self.site = (array.dtype, array.shape), site
        self.serial = next_serial()  # type: ignore[misc]

    @cached_property
    def type(self) -> ArrayType:  # type: ignore[override]
        return ArrayType(*self.like)

    @cached_property
    def op(self) -> Op:  # type: ignore[override]
        return Input(self.type)

    @property
    def name(self) -> str:  # type: ignore[override]
        return name_at(self.site)

    @property
    def source(self) -> Source | None:  # type: ignore[override]
        return source_of(*self.site) if self.site is not None else None

    def __repr__(self) -> str:
        return f"<operand {self.name or self.type}>"


class Recorded(Differentiable):
    """One recorded operation, and until a backward consumes it the arrays it saved."""

    attrs: Attrs = ()
    label: str = ""
    rule: Rule | None = None
    """Its derivative on arrays, where that is known."""
    saved: tuple[Saved | None, ...] | None = ()
    """One per operand, then the result; None after a backward that consumed them."""
    consumable: bool = False
    """Whether a backward that retains nothing drops what was saved."""

    def __init__(
        self,
        op: Op,
        inputs: tuple[Node, ...],
        attrs: Attrs,
        like: tuple[np.dtype, tuple[int, ...]],
        wanted: tuple[bool, ...],
        site: Site | None,
    ) -> None:
        # Past the frozen constructor, and with the type left for later: this is the cost of every
        # recorded operation.
        self.op = op  # type: ignore[misc]
        self.inputs = inputs  # type: ignore[misc]
        self.like = like
        if attrs:
            self.attrs = attrs
        self.wanted, self.site = wanted, site
        self.serial = next_serial()  # type: ignore[misc]

    @cached_property
    def type(self) -> ArrayType:  # type: ignore[override]
        return ArrayType(*self.like)

    def keep(self, values: list[Any]) -> None:
        """Save these values: tensors with the version of their memory, numbers as they are.

        A backward drops them unless a number that the library itself put in (the size that a mean
        divides by) is all there is.
        """
        saved: list[Saved | None] = []
        for value in values:
            if value is None:
                saved.append(None)
            elif isinstance(value, Bindable):
                saved.append(Saved(value._data, value._counter))  # type: ignore[attr-defined]
                self.consumable = True
            else:
                saved.append(Saved(value, None))
                if not self.label or isinstance(value, np.ndarray):
                    self.consumable = True
        self.saved = tuple(saved)

    @property
    def places(self) -> tuple[Node, ...]:
        """What the values in `saved` are the values of."""
        return (*self.inputs, self)

    def opened(self, values: list[Any]) -> dict[Node, Any]:
        """What the derivative rule sees: the saved values, by node."""
        return {
            node: value
            for node, value in zip(self.places, values, strict=False)
            if value is not None
        }

    def pull_leaves(self, seed: Any, retain: bool) -> bool:
        """Add the gradients to the leaves at once, where a node knows how to: whether it did."""
        del seed, retain
        return False

    def free(self, site: Site | None) -> None:
        """Drop what was saved: the backward at `site` used it."""
        self.saved, self.freed_at = None, site

    freed_at: Site | None = None
    hooks: dict[int, Hook] | None = None
    retained: ref[Any] | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        return name_at(self.site)

    @property
    def source(self) -> Source | None:  # type: ignore[override]
        return source_of(*self.site) if self.site is not None else None

    @property
    def next_functions(self) -> tuple[tuple[Node, int], ...]:
        """The nodes that gradients go on to, as PyTorch lists them."""
        return tuple((node, 0) for node, want in zip(self.inputs, self.wanted, strict=True) if want)

    def describe(self) -> str:
        """The tensor that this operation made, in words: `y = x * 2 (train.py:19)`."""
        name = self.name
        return f"{name + ', ' if name else ''}the result of {self!r} at {line_of(self.site)}"

    def __repr__(self) -> str:
        return f"<{backward_name(self.label or self.op.name)}>"


def backward_name(name: str) -> str:
    """`add` -> `AddBackward`, `broadcast_to` -> `BroadcastToBackward`."""
    return "".join(part.capitalize() for part in name.split("_")) + "Backward"


class Step:
    """How a view looks at its base: an operation, and which of its operands the base is."""

    __slots__ = ("args", "attrs", "op", "place")

    def __init__(self, op: Op, place: int, args: tuple[Any, ...], attrs: dict[str, Any]) -> None:
        self.op, self.place, self.attrs = op, place, attrs
        self.args = (*args[:place], None, *args[place + 1 :])

    def __call__(self, base: Any) -> Any:
        return bind(
            self.op, *self.args[: self.place], base, *self.args[self.place + 1 :], **self.attrs
        )

    def on_array(self, base: np.ndarray) -> np.ndarray:
        """The same view of a plain array."""
        args: list[Any] = [getattr(arg, "_data", arg) for arg in self.args]
        args[self.place] = base
        return self.op.reference(*args, **self.attrs)
