"""Our data classes behave as the standard library's, though their methods are written later."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from codegen import records

ROOT = Path(__file__).resolve().parents[1]


@records.dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0
    tags: list[str] = field(default_factory=list, compare=False)


@records.dataclass(frozen=True)
class Named(Point):
    name: str = "p"


@records.dataclass
class Counter:
    count: int = 0
    hidden: int = field(default=1, repr=False)


@records.dataclass(eq=False)
class Itself:
    value: int


class Free(Point):
    """Derived by a class that is not a data class itself."""


DECORATORS = (dataclasses.dataclass, records.dataclass)


@pytest.mark.parametrize("decorator", DECORATORS)
def test_methods_are_those_of_the_standard_library(decorator: Callable[..., Any]) -> None:
    @decorator(frozen=True)
    class Pair:
        left: Any
        right: Any = 2
        seen: list[int] = field(default_factory=list, compare=False, repr=False)

    nan = float("nan")
    assert repr(Pair(1)).endswith("Pair(left=1, right=2)")
    assert Pair(1) == Pair(left=1, right=2, seen=[3]) and Pair(1) != Pair(2)
    assert Pair(nan) == Pair(nan), "compared as tuples: the same object is equal"
    assert Pair(1).__eq__((1, 2)) is NotImplemented
    assert hash(Pair(1, 5)) == hash((1, 5))
    assert Pair(1).seen is not Pair(1).seen
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'left'"):
        Pair()
    with pytest.raises(TypeError, match="unexpected keyword argument 'middle'"):
        Pair(1, middle=2)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'left'"):
        Pair(1).left = 2
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'left'"):
        del Pair(1).left
    match Pair(3, 4):
        case Pair(left, right):
            assert (left, right) == (3, 4)


def test_inheritance() -> None:
    assert [f.name for f in fields(Named)] == ["x", "y", "tags", "name"]
    assert Named(1.0) == Named(1.0, name="p") != Named(1.0, name="q")
    assert Named(1.0) != Point(1.0) and hash(Named(1.0)) != hash(Point(1.0))
    free = Free(1.0)
    free.more = 2  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError):
        free.x = 2.0  # type: ignore[misc]


def test_what_is_not_frozen_or_compared() -> None:
    counter = Counter(3)
    counter.count += 1
    assert counter == Counter(4) and repr(counter) == "Counter(count=4)"
    with pytest.raises(TypeError, match="unhashable"):
        hash(counter)
    assert Itself(1) != Itself(1)
    assert len({Itself(1), Itself(1)}) == 2


@pytest.mark.parametrize("decorator", DECORATORS)
def test_own_methods_stay(decorator: Callable[..., Any]) -> None:
    @decorator(frozen=True)
    class Own:
        x: int

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

    assert repr(Own(1)) == "own" and Own(1) == Own(2) and hash(Own(1)) == 7

    @decorator(frozen=True)
    class Equal:
        x: int

        def __eq__(self, other: object) -> bool:
            return True

    assert hash(Equal(1)) == hash((1,))


def test_copies_pickles_replacements() -> None:
    named = Named(1.0, name="n", tags=["a"])
    assert pickle.loads(pickle.dumps(named)) == copy.deepcopy(named) == named
    assert replace(named, y=5.0) == Named(1.0, 5.0, name="n")
    assert is_dataclass(named) and Named.__match_args__ == ("x", "y", "tags", "name")


def test_post_init_and_fields_without_place() -> None:
    @records.dataclass
    class Doubled:
        x: int

        def __post_init__(self) -> None:
            self.x *= 2

    assert Doubled(3).x == 6

    @records.dataclass
    class Made:
        x: int = field(default=1, init=False)

    with pytest.raises(TypeError, match="x: fields without a place"):
        Made()


def test_plain_arrays_do_not_load_masked_ones() -> None:
    """Nor does `import tracegrad` load what only compiling needs."""
    program = (
        "import sys, numpy as np, tracegrad as tg\n"
        "tg.trace(lambda x: x).versions\n"
        "from tracegrad.leaves import normalised\n"
        "normalised('x', np.ones(3)), tg.tensor([1.0])\n"
        "print([m for m in ('numpy.ma', 'numba', 'llvmlite') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "[]\n", run.stdout + run.stderr


def test_there_is_one_decorator() -> None:
    """`codegen.vecmath` alone has the standard library's: stand-alone modules contain its text."""
    sources = [p for name in ("codegen", "tracegrad") for p in (ROOT / name).rglob("*.py")]
    others = [
        path
        for path in sources
        if "vecmath" not in path.parts and path.name != "records.py"
        if re.search(r"^from dataclasses import .*\bdataclass\b", path.read_text(), re.MULTILINE)
    ]
    assert not others
