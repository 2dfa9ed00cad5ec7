"""Transformations of transformations, to depth three, of programs of every family of operations.

Interpreted: nothing compiles. `--seeds 20` draws twenty times as many. See `tests/nests.py`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import cycle

import pytest

import tracegrad as tg
from tests import nests
from tests.nests import COSTLY, FAMILIES, LAYERS, PROGRAMS

DRAWN = 24
"""How many nests of depth three a seed draws."""

FOUND = (
    ("jvp", "while_loop", "jacrev"),  # the number of steps of a loop of an outer trace
    ("jvp", "cond", "cond"),  # a region in a body, around a value from outside of it
    ("while_loop", "hessian", "vjp"),  # the bound of a loop that is differentiated in another
    ("while_loop", "jacfwd", "vjp"),  # the number of steps of one step of another loop
    ("custom_jvp", "hessian", "cond"),  # a rule with a loop inside, transposed
    ("python_control_flow", "fori_loop", "vjp"),  # a loop that writes one of several arrays
)
"""Nests that have been wrong once."""


def allowed(names: Sequence[str]) -> bool:
    """Not a fourth derivative, and no Python loop that is traced by another."""
    return nests.order(names) <= 3 and sum(name in COSTLY for name in names) < 2


def checked(program: str, names: Sequence[str], seed: int) -> None:
    if not nests.lacks_a_rule(names):
        nests.check(program, names, seed)
        return
    with pytest.raises(tg.NotDifferentiableError, match="has a custom vjp but no jvp"):
        nests.check(program, names, seed)


def test_every_family_is_there() -> None:
    assert {"rows", "reduction", "matmul", "solving", "indexing", "joining"} <= set(FAMILIES)
    assert len(FAMILIES) > 25


@pytest.mark.parametrize("names", FOUND, ids="-".join)
def test_found(names: tuple[str, ...]) -> None:
    nests.check(FAMILIES["activation"][0], names)


@pytest.mark.parametrize("outer", LAYERS)
def test_pairs(outer: str, seed: int) -> None:
    """Every transformation of every other; the programs go through all families."""
    rng = random.Random(f"{outer} {seed}")
    families = cycle(rng.sample(sorted(FAMILIES), len(FAMILIES)))
    for inner in LAYERS:
        if allowed((inner, outer)):
            checked(rng.choice(FAMILIES[next(families)]), (inner, outer), seed)


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str, seed: int) -> None:
    """Every family in three drawn pairs of a derivative and something around it, or within."""
    rng = random.Random(f"{family} {seed}")
    derivatives = [name for name, layer in LAYERS.items() if layer.order == 1]
    for _ in range(3):
        names = [rng.choice(derivatives), rng.choice(sorted(LAYERS))]
        rng.shuffle(names)
        checked(rng.choice(FAMILIES[family]), names, seed)


def triples(seed: int) -> list[tuple[str, tuple[str, ...]]]:
    rng, found = random.Random(seed), []
    while len(found) < DRAWN:
        names = tuple(rng.choice(sorted(LAYERS)) for _ in range(3))
        if allowed(names):
            found.append((rng.choice(FAMILIES[rng.choice(sorted(FAMILIES))]), names))
    return found


def test_triples(seed: int) -> None:
    for program, names in triples(seed):
        assert program in PROGRAMS
        checked(program, names, seed)
