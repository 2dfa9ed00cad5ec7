"""What the cost model believes beside what this machine takes: the numbers of
`codegen.costs`, `codegen.schedule.worth` and `tracegrad.passes.cost`.

    python benchmarks/cost_table.py --threads 1
    python benchmarks/cost_table.py exp tanh        # these functions only

A function is timed in a loop over 8192 float64 elements (in the nearest caches), less a loop that
only copies; an addition as one of sixteen in such a loop; a byte as one that is copied between
arrays larger than all caches, and between arrays that fit the second. "Two threads pay from" is the
work from which a loop in two blocks on two threads is done sooner than on one: measure it on an
idle machine. The ratio is measured / table: the table's numbers are meant to within a factor of
two.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba import njit
from runner import limit_threads, timed
from surroundings import cpu_count, machine
from vecmath import EXACT, loop

import tracegrad as tg
from codegen import costs, vecmath
from codegen.schedule import worth
from codegen.vecmath.reference import ABSOLUTE, REFERENCES, Reference
from tracegrad.passes import cost

SIZE, ROUNDS, CALLS = 8192, 25, 4
LARGE = 8_000_000
F8 = np.dtype(np.float64)
Call = Callable[[], Any]


def nanoseconds(*calls: Call, repeat: int = CALLS) -> list[float]:
    """Of one call each: the best of the rounds, in which they take turns."""
    best = [math.inf] * len(calls)
    for call in calls:
        call()
    for _ in range(ROUNDS):
        best = [min(t, timed(call, repeat) * 1e9) for t, call in zip(best, calls, strict=True)]
    return best


@njit(error_model="numpy")
def copied(a, out):
    for i in range(out.size):
        out[i] = a[i]


@njit(error_model="numpy")
def copied2(a, b, out):
    for i in range(out.size):
        out[i] = a[i] + b[i]


@njit(error_model="numpy")
def added(a, out):
    """Sixteen additions and multiplications, four at a time independent."""
    for i in range(out.size):
        x = a[i]
        p, q, r, s = x + 1.0, x + 2.0, x + 3.0, x + 4.0
        p, q, r, s = p * 1.1, q * 1.2, r * 1.3, s * 1.4
        p, q, r, s = p + x, q + x, r + x, s + x
        out[i] = (p * q) * (r * s) - x


@njit(error_model="numpy")
def divided(a, out):
    for i in range(out.size):
        out[i] = 1.5 / a[i]


@njit(error_model="numpy")
def rooted(a, out):
    for i in range(out.size):
        out[i] = math.sqrt(a[i])


@njit(error_model="numpy")
def product(a, b, out):
    np.dot(a, b, out)


def simple() -> Iterator[tuple[str, float, float]]:
    """Entries that are no vector math: name, table, measured."""
    x, out = np.linspace(1.0, 2.0, SIZE), np.empty(SIZE)
    copy, sums, division, root = nanoseconds(
        lambda: copied(x, out),
        lambda: added(x, out),
        lambda: divided(x, out),
        lambda: rooted(x, out),
    )
    yield "addition, multiplication", costs.SIMPLE, (sums - copy) / (15 * SIZE)
    yield "element loaded or stored", costs.MOVED, copy / (2 * SIZE)
    yield "division", costs.DIVIDED, (division - copy) / SIZE
    yield "square root", costs.DIVIDED, (root - copy) / SIZE
    small = [np.ones((4, 4)) for _ in range(3)]
    (call,) = nanoseconds(lambda: product(*small), repeat=1000)
    yield "library call (a 4 x 4 product)", costs.LIBRARY, call


def functions(names: list[str]) -> Iterator[tuple[str, float, float]]:
    known = {row.name: row for row in (*REFERENCES, *ABSOLUTE, *EXACT)}
    for name, expected in costs.FUNCTIONS.items():
        if name in known and (not names or name in names):
            yield name, expected, of_function(known[name])


def of_function(row: Reference) -> float:
    random = np.random.default_rng(0)
    columns = [random.uniform(row.low, row.high, SIZE) for _ in range(row.arity)]
    out, run = np.empty(SIZE), loop(vecmath.lookup(row.name, F8), row.arity)
    copy = copied if row.arity == 1 else copied2
    base, own = nanoseconds(lambda: copy(*columns, out), lambda: run(*columns, out))
    return (own - base) / SIZE


def memory() -> Iterator[tuple[str, float, float]]:
    """Flops that a byte costs which is written once and read once."""
    for name, size in (("within the second cache", 20_000), ("beyond all caches", LARGE)):
        x, out = np.ones(size), np.zeros(size)
        (moved,) = nanoseconds(lambda x=x, out=out: copied(x, out), repeat=1)
        yield f"flops per byte, {name}", cost.FLOPS_PER_BYTE, moved / (16 * size) / costs.SIMPLE
    (fresh,) = nanoseconds(lambda: np.ones(LARGE), repeat=1)
    yield "flops per byte, fresh memory", cost.FLOPS_PER_BYTE, fresh / (8 * LARGE) / costs.SIMPLE


def sines(enough: float, block: float) -> Call:
    """`sin` with other limits: handed to the threads from `enough` nanoseconds on."""
    saved = worth.ENOUGH, worth.BLOCK
    worth.ENOUGH, worth.BLOCK = int(enough), int(block)
    try:
        run = tg.trace(lambda x: np.sin(x))
        for count in (8, LARGE):  # code for several threads is compiled when a call needs it
            run(np.ones(count))
        return run
    finally:
        worth.ENOUGH, worth.BLOCK = saved


def threads() -> Iterator[tuple[str, float, float]]:
    serial, parallel = sines(1e15, 1e15), sines(1, 1e3)
    for count in (2**k for k in range(10, 20)):
        x = np.ones(count)
        alone, both = nanoseconds(lambda x=x: serial(x), lambda x=x: parallel(x), repeat=20)
        if both < 0.9 * alone:
            yield "two threads pay from, ns", worth.ENOUGH, alone
            return


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help="functions; all entries without")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    limit_threads(options.threads)
    print("  ".join(f"{key} {value}" for key, value in machine().items()), end="\n\n")
    print("| entry | table | measured | ratio |\n|---|---:|---:|---:|")
    parts: list[Iterator[tuple[str, float, float]]] = [functions(options.names)]
    if not options.names:
        parts = [simple(), *parts, memory(), *([threads()] if cpu_count() > 1 else [])]
    for part in parts:
        for name, table, measured in part:
            print(f"| {name} | {table:.3g} | {measured:.3g} | {measured / table:.2f} |", flush=True)


if __name__ == "__main__":
    main()
