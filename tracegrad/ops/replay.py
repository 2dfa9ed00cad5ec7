"""Random numbers once more: the state of a generator kept as words, and a generator made of them.

    words = snapshot(rng);  rng' = after(rng, words)      what is drawn from rng' ...
    again = replay(words)                                 ... can be drawn anew from `again`

What a derivative runs a second time draws from a generator of its own, so that the user's is left
as the program leaves it. Words are a value like any other: kept for a backward, stacked by a loop.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.distributions import STATE_WORDS
from codegen.expr import Var
from codegen.loops import Alloc, Check, LibraryCall
from tracegrad.ir.graph import Node
from tracegrad.ir.op import Op
from tracegrad.ir.types import CHECKS, ArrayType, StateType
from tracegrad.ops.op import register

WORDS = ArrayType(np.dtype(np.int64), (STATE_WORDS,))

FOREIGN = (
    "the derivative of what draws random numbers in a loop draws them again, and knows how for "
    "NumPy's own bit generators only: use np.random.default_rng(seed)"
)


class Snapshot(Op):
    """The state of a generator as words."""

    name = "snapshot"
    foldable = False
    weight = 8

    def infer(self, state: ArrayType) -> ArrayType:
        return WORDS

    def reference(self, state: Any) -> Any:
        packed = pickle.dumps(state.bit_generator).ljust(8 * STATE_WORDS)
        return np.frombuffer(packed, np.int64)

    def text(self, state: str) -> str:
        packed = f"pickle.dumps({state}.bit_generator).ljust({8 * STATE_WORDS})"
        return f"np.frombuffer({packed}, np.int64)"

    def kernel(self, lowering: Any, node: Node) -> None:
        comment, state = lowering.comment(node), lowering.value(node.inputs[0], ()).name
        words, known = lowering.allocate(node), Var(lowering.namer.unique("known"), ex.INT)
        lowering.append(LibraryCall("save_state", (), (state, words), comment, known))
        good = ex.Call("not_equal", (known, ex.integer(0)), ex.BOOL)
        lowering.append(Check(good, "ValueError", FOREIGN, comment))


class Replay(Op):
    """A generator of its own in a state that was kept. In compiled code it is an array, which the
    draws take in the place of an address. `number` tells it from others in the same state."""

    name = "replay"
    foldable = False
    stored = (0,)

    def infer(self, words: ArrayType, *, generator: str, number: int) -> ArrayType:
        return StateType.of(generator)

    def reference(self, words: Any, *, generator: str, number: int) -> Any:
        return np.random.Generator(pickle.loads(words.tobytes()))

    def text(self, words: str, *, generator: str, number: int) -> str:
        return f"np.random.Generator(pickle.loads({words}.tobytes()))"

    def kernel(self, lowering: Any, node: Node) -> None:
        own = lowering.namer.unique(f"{node.attributes['generator']}_again")
        lowering.append(Alloc(own, (ex.integer(STATE_WORDS),), WORDS.dtype))
        words = lowering.arrays[node.inputs[0]]
        lowering.append(LibraryCall("open_state", (words,), (own,), lowering.comment(node)))
        lowering.scalars[node] = Var(own, ex.INT)


SNAPSHOT, REPLAY = register(Snapshot()), register(Replay())


def is_generator(type: ArrayType) -> bool:
    """Whether it is the state of a random number generator."""
    return isinstance(type, StateType) and type.generator != CHECKS
